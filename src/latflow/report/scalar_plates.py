"""The plates of a scalar field: magnetisation, two-point function, configurations."""

import numpy as np

from latflow.actions import Action, HoppingPhi4, Phi4
from latflow.analysis import derive_vector, effective_masses
from latflow.exact import free_field_two_point
from latflow.report import common_plates as common
from latflow.report import field_figures
from latflow.report.common_plates import (
    Builder,
    Built,
    fresh_draws,
    missing_chain,
    named,
    stored_configurations,
    with_chains,
)
from latflow.report.material import Material


def _history(material: Material) -> Built:
    shown = {r"$M$": "magnetization", r"$\log w$": "log_weight"}
    return common.history(material, shown, "Magnetisation and log-weight")


def _autocorrelation(material: Material) -> Built:
    chains = {source: np.abs(m) for source, m in material.chains("magnetization").items()}
    return common.autocorrelations(material, chains, "|M|", r"$|M|$", "the absolute magnetisation")


def _two_point(material: Material) -> Built:
    series = {source: with_chains(c) for source, c in material.chains("two_point").items()}
    correlators = {source: derive_vector(lambda c: c, c) for source, c in series.items()}
    masses = {source: effective_masses(c) for source, c in series.items() if c.shape[-1] >= 3}
    exact = _exact_two_point(material.run.action)
    figure = field_figures.two_point_function(correlators, masses, exact)
    sources = named(correlators) + ("" if exact is None else ", with the exact result")
    alt = f"Zero-momentum two-point function and effective mass, from {sources}."
    caption = (
        f"C(t) = Σ_x⃗ ⟨φ(0,0) φ(t,x⃗)⟩ along direction 0, from {sources}. Neighbouring times are correlated, "
        "so several pulls of one sign are no surprise. The effective mass is "
        "arccosh[(C(t−1) + C(t+1)) / 2C(t)]."
    )
    return figure, alt, caption + missing_chain(material, correlators)


def _magnetization(material: Material) -> Built:
    chains = material.chains("magnetization")
    positive = " and ".join(f"{np.mean(m > 0):.1%} of {named([source])}" for source, m in chains.items())
    alt = f"Histogram of the magnetisation. M is positive in {positive}."
    caption = f"M = V⁻¹ Σ φ is positive in {positive}."
    if material.run.action.z2_symmetric:
        caption += (
            " The action is even, so both signs are equally probable; a flow that has collapsed into one of "
            "them shows half of the distribution."
        )
    return field_figures.magnetization_histogram(chains), alt, caption


def _configurations(material: Material) -> Built:
    rows = stored_configurations(material)
    dimensions = next(iter(rows.values())).ndim - 1
    what = {1: "lines", 2: "images", 3: "slices x₀ = 0"}[dimensions]
    alt = f"Sample configurations as {what}: a row for {named(rows)}."
    caption = f"The field φ of {named(rows)}: {what}, all on one scale."
    return (
        field_figures.configurations(rows, columns=common.SAMPLES),
        alt,
        caption + fresh_draws(material, rows),
    )


def _exact_two_point(action: Action) -> np.ndarray | None:
    """C(t) of the free field."""
    scale = 1.0
    if isinstance(action, HoppingPhi4) and action.beta > 0:
        action, scale = action.to_phi4()
    if isinstance(action, Phi4) and action.lam == 0 and action.m2 > 0:
        return free_field_two_point(action.lattice, action.m2) / scale**2
    return None


PLATES: dict[str, tuple[str, Builder]] = {
    "training": ("Training", common.training),
    "log_weights": ("Weights of the proposals", common.weights),
    "history": ("Monte Carlo history", _history),
    "autocorrelation": ("Autocorrelation", _autocorrelation),
    "two_point": ("Two-point function", _two_point),
    "magnetization": ("Magnetisation", _magnetization),
    "configurations": ("Configurations", _configurations),
}
"""The plates of a scalar field by name, each with its title, in the order of the page."""
