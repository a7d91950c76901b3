"""The plates of U(1) links: topology, plaquette, and with fermions the condensate and the pion."""

import numpy as np
import torch

from latflow.actions import Action, U1Gauge, fermions_of, plaquette_angles
from latflow.analysis import Measurement, derive_vector, effective_masses, measure, tunnelling_rate
from latflow.exact import u1_charge_distribution
from latflow.lattice import wrapped
from latflow.observables import topological_charge
from latflow.report import common_plates as common
from latflow.report import field_figures, gauge_figures
from latflow.report.common_plates import Builder, Built, by_chain, named, stored_configurations, with_chains
from latflow.report.material import Material
from latflow.report.tables import printed
from latflow.validation import known, sign_of

_LEAST_SHARE = 1e-6
"""Charges rarer than this are not drawn where they are not seen either."""


def plates_of(action: Action) -> dict[str, tuple[str, Builder]]:
    """The plates of a theory of links by name, each with its title, in the order of the page."""
    with_fermions = fermions_of(action) is not None
    return {
        "training": ("Training", common.training),
        "log_weights": ("Weights of the proposals", common.weights),
        "sectors": ("Weights by topological sector", _sectors),
        "history": ("Monte Carlo history", _fermion_history if with_fermions else _history),
        "topology": ("Topological charge", _topology),
        "charge_distribution": ("Distribution of the charge", _charge_distribution),
        "autocorrelation": ("Autocorrelation", _autocorrelation),
        "plaquette": ("Plaquette", _plaquette),
        **({"pion": ("Pion", _pion)} if with_fermions else {}),
        "configurations": ("Configurations", _configurations),
    }


def _sectors(material: Material) -> Built:
    draws = material.draws()
    log_weight, charge = draws["log_weight"].ravel(), draws["topological_charge"].ravel()
    sound = ~(np.isnan(log_weight) | np.isposinf(log_weight))
    figure = gauge_figures.sector_weights(log_weight[sound], charge[sound])
    highest = int(np.abs(charge).max())
    alt = (
        f"Histograms of the log-weights of {sound.sum()} proposals, one for each topological sector, the "
        f"highest |Q| among them {highest}."
    )
    caption = (
        "Proposals of the flow by their topological charge. Within a sector the ESS tells how well the flow "
        "knows it; a share of the weight far above the share of the draws means a sector that the flow "
        f"proposes too rarely. The highest |Q| proposed is {highest}."
    )
    return figure, alt, caption


def _history(material: Material) -> Built:
    shown = {r"$Q$": "topological_charge", r"$\log w$": "log_weight"}
    return common.history(material, shown, "Topological charge and log-weight")


def _fermion_history(material: Material) -> Built:
    shown = {r"$\sigma$": "sign", "condensate": "condensate"}
    figure, alt, caption = common.history(material, shown, "Sign of the determinant and chiral condensate")
    caption += (
        " σ is the sign of det D; where it follows (−1)^Q, its changes are moves between even and odd "
        "topological sectors. The condensate is V⁻¹ Re Tr D⁻¹."
    )
    return figure, alt, caption


def _topology(material: Material) -> Built:
    chains = {source: by_chain(q) for source, q in material.chains("topological_charge").items()}
    rates = {source: tunnelling_rate(q) for source, q in chains.items()}
    figure = gauge_figures.charge_history({source: q[:, 0] for source, q in chains.items()}, rates)
    found = " and ".join(f"{printed(rate)} of {named([source])}" for source, rate in rates.items())
    alt = f"Topological charge against the step. It changes at a share of the steps of {found}."
    caption = (
        f"The charge Q of one chain of each. It changes at a share of all steps of {found}; rejected steps "
        f"count. {common.steps_of(material)}. These rates belong to the "
        "samplers, not to the theory, and need not agree."
    )
    return figure, alt, caption


def _charge_distribution(material: Material) -> Built:
    action = material.run.action
    sources = material.chains("topological_charge")
    if "topological_charge" in material.proposals:
        sources = sources | {"flow proposals": material.proposals["topological_charge"]}
    highest = max(int(np.abs(q).max()) for q in sources.values())
    exact = None
    if isinstance(action, U1Gauge) and action.beta >= 0:
        charges = np.arange(-highest - 2, highest + 3)
        probabilities = u1_charge_distribution(action.lattice, action.beta, charges)
        exact = {int(q): float(p) for q, p in zip(charges, probabilities, strict=True) if p > _LEAST_SHARE}
    shares = {
        source: {n: measure((q == n).astype(float)) for n in range(-highest, highest + 1)}
        for source, q in sources.items()
    }
    figure = gauge_figures.charge_distribution(shares, exact)
    alt = f"Probability of each topological charge on a logarithmic scale, from {named(sources)}."
    caption = (
        f"P(Q) from {named(sources)}" + (", and exact (black)" if exact else "") + ". Charge conjugation "
        "makes Q and −Q equally probable. The highest |Q| that was seen is "
        f"{highest}; charges that a source has never seen have no mark."
    )
    if "flow proposals" in sources:
        caption += " Proposals count without their weights."
        if material.names.kernels == ("proposals",):
            caption += " A sector that they lack is lost to the chain."
    if sign_of(action, material.flow or material.beside) is not None:
        caption += " Signs of the determinant are not counted here; averages in the tables are reweighted."
    return figure, alt, caption


def _autocorrelation(material: Material) -> Built:
    if fermions_of(material.run.action) is not None:
        chains = material.chains("condensate")
        return common.autocorrelations(
            material, chains, "the condensate", "condensate", "the chiral condensate"
        )
    chains = {source: q**2 for source, q in material.chains("topological_charge").items()}
    return common.autocorrelations(material, chains, "Q²", r"$Q^2$", "the squared topological charge")


def _plaquette(material: Material) -> Built:
    run, chains = material.run, material.chains("plaquette")
    averages = {source: _average(material, source, p) for source, p in chains.items()}
    exact = known(run.action, run.config.reference).get("plaquette")
    figure = gauge_figures.plaquette_histogram(chains, averages, None if exact is None else exact.value)
    found = " and ".join(f"{printed(m)} from {named([source])}" for source, m in averages.items())
    alt = f"Histogram of the mean cosine of the plaquette angles of each configuration: {found}."
    caption = f"V⁻¹ Σ cos P(x) of each configuration. Averages: {found}."
    if exact is not None:
        caption += f" The dashed line is the known average, {printed(exact)}."
    return figure, alt, caption


def _pion(material: Material) -> Built:
    chains = {source: with_chains(c) for source, c in material.chains("pion").items()}
    factors = {source: _factor(material, source) for source in chains}
    correlators = {
        source: derive_vector(lambda c: c, c, factor=factors[source]) for source, c in chains.items()
    }
    masses = {
        source: effective_masses(c, factor=factors[source])
        for source, c in chains.items()
        if c.shape[-1] >= 3
    }
    figure = field_figures.two_point_function(correlators, masses, what="Pion correlator")
    alt = f"Zero-momentum correlator of the pion and its effective mass, from {named(chains)}."
    caption = (
        f"The pseudoscalar correlator C(t) along direction 0, from {named(chains)}, symmetric about L₀/2. "
        "Neighbouring times are strongly correlated, so several pulls of one sign are no surprise. The "
        "effective mass is arccosh[(C(t−1) + C(t+1)) / 2C(t)], constant where one state dominates."
    )
    return figure, alt, caption + common.missing_chain(material, chains)


def _configurations(material: Material) -> Built:
    rows = {source: torch.from_numpy(x) for source, x in stored_configurations(material).items()}
    angles = {source: wrapped(plaquette_angles(links)).numpy() for source, links in rows.items()}
    charges = {source: topological_charge(links).tolist() for source, links in rows.items()}
    figure = gauge_figures.plaquette_angles_images(angles, charges, common.SAMPLES)
    alt = f"Plaquette angles of sample configurations as images: a row for {named(rows)}."
    caption = (
        f"The plaquette angles P(x) in (−π, π] of {named(rows)}, whose sum is 2πQ. The colours close into a "
        "circle, as the angles do."
    )
    return figure, alt, caption + common.fresh_draws(material, rows)


def _factor(material: Material, source: str) -> np.ndarray | None:
    """The sign of the determinant where averages are reweighted with it."""
    series = material.beside if source == "HMC" else material.flow
    factor = sign_of(material.run.action, series)
    return None if factor is None else by_chain(factor)


def _average(material: Material, source: str, values: np.ndarray) -> Measurement:
    return measure(by_chain(values), factor=_factor(material, source))
