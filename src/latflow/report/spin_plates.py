"""The plates of Ising spins: magnetisation with both phases, two-point function, configurations."""

import numpy as np

from latflow.analysis import derive_vector, effective_masses
from latflow.lattice import volume
from latflow.report import common_plates as common
from latflow.report import field_figures
from latflow.report.common_plates import (
    Builder,
    Built,
    by_chain,
    fresh_draws,
    missing_chain,
    named,
    stored_configurations,
    with_chains,
)
from latflow.report.material import Material
from latflow.validation import magnetization_distribution


def _history(material: Material) -> Built:
    shown = {r"$M$": "magnetization", r"$\log w$": "log_weight"}
    return common.history(material, shown, "Magnetisation and log-weight")


def _autocorrelation(material: Material) -> Built:
    chains = {source: np.abs(m) for source, m in material.chains("magnetization").items()}
    return common.autocorrelations(material, chains, "|M|", r"$|M|$", "the absolute magnetisation")


def _magnetization(material: Material) -> Built:
    action, chains = material.run.action, material.chains("magnetization")
    exact = magnetization_distribution(action)
    figure = field_figures.magnetization_histogram(chains, exact, spacing=2 / volume(action.lattice))
    positive = " and ".join(f"{np.mean(m > 0):.1%} of {named([source])}" for source, m in chains.items())
    alt = f"Histogram of the magnetisation. M is positive in {positive}."
    caption = f"M = V⁻¹ Σ s(x) is positive in {positive}."
    if exact is not None:
        caption += " The black line is the exact distribution, by the transfer matrix."
    if action.z2_symmetric:
        caption += " Without a field both phases, M > 0 and M < 0, are equally probable. " + _visits(chains)
    return figure, alt, caption


def _visits(chains: dict[str, np.ndarray]) -> str:
    """In how many chains of each source both phases were seen."""
    found = []
    for source, series in chains.items():
        m = by_chain(series)
        both = int(((m > 0).any(0) & (m < 0).any(0)).sum())
        found.append(f"{both} of {m.shape[1]} in {named([source])}")
    return f"Chains that have been in both: {', '.join(found)}."


def _two_point(material: Material) -> Built:
    series = {source: with_chains(c) for source, c in material.chains("two_point").items()}
    correlators = {source: derive_vector(lambda c: c, c) for source, c in series.items()}
    masses = {source: effective_masses(c) for source, c in series.items() if c.shape[-1] >= 3}
    figure = field_figures.two_point_function(correlators, masses)
    sources = named(correlators)
    alt = f"Zero-momentum two-point function of the spins and effective mass, from {sources}."
    caption = (
        f"C(t) = Σ_x⃗ ⟨s(0,0) s(t,x⃗)⟩ along direction 0, from {sources}, not connected: it does not fall to "
        "zero in an ordered phase. Neighbouring times are correlated, so several pulls of one sign are no "
        "surprise. The effective mass is arccosh[(C(t−1) + C(t+1)) / 2C(t)]."
    )
    return figure, alt, caption + missing_chain(material, correlators)


def _configurations(material: Material) -> Built:
    rows = stored_configurations(material)
    dimensions = next(iter(rows.values())).ndim - 1
    what = {1: "lines", 2: "images", 3: "slices x₀ = 0"}[dimensions]
    figure = field_figures.configurations(rows, common.SAMPLES, symbol=r"$s_x$", spins=True)
    alt = f"Sample configurations of spins as {what}: a row for {named(rows)}."
    caption = f"The spins s(x) = ±1 of {named(rows)}, as {what}."
    return figure, alt, caption + fresh_draws(material, rows)


PLATES: dict[str, tuple[str, Builder]] = {
    "training": ("Training", common.training),
    "log_weights": ("Weights of the proposals", common.weights),
    "history": ("Monte Carlo history", _history),
    "autocorrelation": ("Autocorrelation", _autocorrelation),
    "magnetization": ("Magnetisation", _magnetization),
    "two_point": ("Two-point function", _two_point),
    "configurations": ("Configurations", _configurations),
}
"""The plates of spins by name, each with its title, in the order of the page."""
