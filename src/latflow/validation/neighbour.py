"""A theory nearby, drawn exactly and weighted with what it lacks: a third opinion."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator

from latflow.analysis import effective_sample_size, pareto_tail_index
from latflow.densities.base import log_weight
from latflow.lattice import volume
from latflow.observables.base import observing
from latflow.theories import Action

MIN_EFFECTIVE_DRAWS = 200
"""With fewer of them, N · ESS, averages over the weighted draws are not trusted."""
MAX_PARETO = 0.7
"""Nor with a larger tail index of the weights."""

_DRAWS_TIMES_VOLUME = 2**20
_MOST_DRAWS = 2**14
_ENTRIES_AT_ONCE = 2**20
"""Of matrices with a row and a column for each site, which the action may need."""


@dataclass(frozen=True)
class NeighbourDraws:
    """Independent draws of a neighbouring theory with their weights.

    Attributes:
        label: what averages over them are called: "quenched".
        missing: the name of what the neighbour lacks.
        n: how many were drawn.
        ess: of their weights.
        pareto_k: their tail index.
        series: what is recorded of the theory, and "log_weight"; empty where the weights are not trusted.
    """

    label: str
    missing: str
    n: int
    ess: float
    pareto_k: float
    series: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether the weights are good enough for averages with sound errors."""
        return self.n * self.ess >= MIN_EFFECTIVE_DRAWS and self.pareto_k <= MAX_PARETO

    @property
    def diagnostics(self) -> dict[str, float]:
        """Plain numbers by name."""
        numbers = (float(self.n), self.ess, self.pareto_k)
        return dict(zip(("neighbour_draws", "neighbour_ess", "neighbour_pareto_k"), numbers, strict=True))

    @property
    def note(self) -> str:
        """In words what the column is, or why there is none."""
        tail = f"{self.pareto_k:.2f}".replace("-", "−")
        found = (
            f"{self.n} independent {self.label} configurations have an ESS of {self.ess:.4f} and a tail "
            f"index k̂ of {tail}, which makes them worth {self.n * self.ess:.0f} draws"
        )
        rule = f"They are trusted from {MIN_EFFECTIVE_DRAWS} such draws and k̂ ≤ {MAX_PARETO} on."
        if self.trusted:
            return (
                f"The column “{self.label}” weights exact draws of the theory without {self.missing}: "
                f"{found}. {rule}"
            )
        return f"Reweighted {self.label} configurations are left out: {found}. {rule}"


def neighbour_draws(action: Action, generator: Generator) -> NeighbourDraws | None:
    """Independent draws of a theory's neighbour with their weights towards the theory.

        log w = −S − log q,    q the normalised density of the neighbour

    so that, as for draws of a model, ⟨w⟩ is Z.

    Args:
        action: the theory.
        generator: source of the draws.

    Returns:
        None where the theory has no neighbour that is drawn exactly, `Action.neighbour`.
    """
    found = action.neighbour()
    if found is None:
        return None
    sampler, missing = found
    sites = volume(action.lattice)
    n = min(_MOST_DRAWS, max(1, _DRAWS_TIMES_VOLUME // sites))
    x, log_q = sampler.sample(n, generator)
    size = max(1, _ENTRIES_AT_ONCE // sites**2)
    batches = x.split(size)
    with torch.no_grad():
        parts = [log_weight(action, *part) for part in zip(batches, log_q.split(size), strict=True)]
    weights = torch.cat(parts).cpu().numpy()
    draws = NeighbourDraws(
        sampler.label, missing.words.name, n, effective_sample_size(weights), pareto_tail_index(weights)
    )
    if not draws.trusted:
        return draws
    observe = observing(action.observables)
    with torch.no_grad():
        records = [observe(batch) for batch in batches]
    series = {name: torch.cat([record[name] for record in records]).cpu().numpy() for name in records[0]}
    return NeighbourDraws(
        draws.label, draws.missing, n, draws.ess, draws.pareto_k, series | {"log_weight": weights}
    )
