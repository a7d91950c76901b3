"""Quenched configurations, drawn exactly and weighted with the determinant: a third opinion on fermions."""

import numpy as np
import torch
from torch import Generator

from latflow.actions import Action, Sum, U1Gauge, WilsonFermions
from latflow.analysis import effective_sample_size, pareto_tail_index
from latflow.flows import QuenchedLinks
from latflow.lattice import volume
from latflow.observables import recorded

MIN_EFFECTIVE_DRAWS = 200
"""With fewer of them, N · ESS, the reweighted quenched averages are not trusted."""
MAX_PARETO = 0.7
"""Nor with a larger tail index of the weights."""

_DRAWS_TIMES_VOLUME = 2**20
_MOST_DRAWS = 2**14
_ENTRIES_AT_ONCE = 2**20


def quenched_draws(action: Action, generator: Generator) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Independent quenched configurations with their weights towards the theory with fermions.

        log w = N_f log |det D| + log Z of the gauge theory = −S − log q

    so that, as for draws of a flow, ⟨w⟩ is Z.

    Returns:
        The series "log_weight" and those of `observables.recorded`, {} where the weights are not to be
        trusted (see `MIN_EFFECTIVE_DRAWS`); and the number of draws, their ESS and tail index as
        "quenched_draws", "quenched_ess", "quenched_pareto_k". Both are empty unless the theory is `U1Gauge`
        with β ≥ 0 and `WilsonFermions`.
    """
    if not (
        isinstance(action, Sum)
        and isinstance(action.first, U1Gauge)
        and isinstance(action.second, WilsonFermions)
        and action.first.beta >= 0
    ):
        return {}, {}
    gauge, fermions, sites = action.first, action.second, volume(action.lattice)
    n = min(_MOST_DRAWS, _DRAWS_TIMES_VOLUME // sites)
    prior = QuenchedLinks(gauge.lattice, gauge.beta).double()
    links = prior.sample(n, generator)
    batches = links.split(max(1, _ENTRIES_AT_ONCE // sites**2))
    with torch.no_grad():
        log_weight = torch.cat([prior.log_z - fermions(batch) for batch in batches]).numpy()
    diagnostics = {
        "quenched_draws": float(n),
        "quenched_ess": effective_sample_size(log_weight),
        "quenched_pareto_k": pareto_tail_index(log_weight),
    }
    if not trusted(diagnostics):
        return {}, diagnostics
    observe = recorded(action)
    with torch.no_grad():
        parts = [observe(batch) for batch in batches]
    series = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return series | {"log_weight": log_weight}, diagnostics


def trusted(diagnostics: dict[str, float]) -> bool:
    """Whether the weights of quenched draws are good enough for averages with sound errors."""
    effective = diagnostics["quenched_draws"] * diagnostics["quenched_ess"]
    return effective >= MIN_EFFECTIVE_DRAWS and diagnostics["quenched_pareto_k"] <= MAX_PARETO


def quenched_notes(diagnostics: dict[str, float]) -> list[str]:
    """In words what the quenched column is, or why there is none."""
    if not diagnostics:
        return []
    n, ess, k = (diagnostics[f"quenched_{name}"] for name in ("draws", "ess", "pareto_k"))
    tail = f"{k:.2f}".replace("-", "−")
    found = (
        f"{n:.0f} independent quenched configurations have an ESS of {ess:.4f} and a tail index k̂ of {tail}, "
        f"which makes them worth {n * ess:.0f} draws"
    )
    limits = f"{MIN_EFFECTIVE_DRAWS} such draws and k̂ ≤ {MAX_PARETO}"
    if trusted(diagnostics):
        return [
            "The column “quenched” weights exact draws of the pure gauge theory with the determinant: "
            f"{found}. They are trusted from {limits} on."
        ]
    return [f"Reweighted quenched configurations are left out: {found}. They are trusted from {limits} on."]
