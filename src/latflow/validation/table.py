"""The verdict table: every observable by every way there is to know it."""

import math
from dataclasses import dataclass, field

import numpy as np

from latflow.actions import Action
from latflow.analysis import LABELS, Measurement, free_energy, measure, summary

MAX_PULL = 5.0
"""A difference of more standard deviations fails the validation."""

_MAY_BE_UNDEFINED = ("correlation_length", "effective_mass_1")
"""Functions of averages which are nan where the noise carries these out of their domain."""

Series = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One observable: from the flow's Markov chain, its weighted draws (NIS), HMC, and exact where known.

    `pulls` holds the difference of each pair in standard deviations, by names such as "flow-hmc".
    """

    name: str
    flow: Measurement | None = None
    nis: Measurement | None = None
    hmc: Measurement | None = None
    exact: Measurement | None = None
    pulls: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How a table writes the observable."""
        return LABELS.get(self.name, self.name)

    @property
    def passed(self) -> bool:
        """Whether no pull exceeds `MAX_PULL`."""
        return all(abs(pull) <= MAX_PULL for pull in self.pulls.values())


def table(
    action: Action, chain: Series, draws: Series, hmc: Series, exactly: dict[str, Measurement]
) -> list[Row]:
    """The rows of the verdict table; the series of the chain, the draws and HMC may each be empty."""
    lattice = action.lattice
    by_flow = _measured(chain, lattice, None) if chain else {}
    by_nis = _measured(draws, lattice, draws["log_weight"]) if draws else {}
    by_hmc = _measured(hmc, lattice, None) if hmc else {}
    if draws:
        f = free_energy(draws["log_weight"])
        by_nis["log_z"] = Measurement(-f.value, f.error, n=f.n)
    names = [name for name in LABELS if any(name in part for part in (by_flow, by_nis, by_hmc))]
    rows = []
    for name in names:
        entries = {"flow": by_flow, "nis": by_nis, "hmc": by_hmc, "exact": exactly}
        values = {way: part[name] for way, part in entries.items() if name in part}
        rows.append(Row(name, **values, pulls=_pulls(name, values)))
    return rows


def _measured(
    series: Series, lattice: tuple[int, ...], log_weight: np.ndarray | None
) -> dict[str, Measurement]:
    found = summary(series, lattice, log_weight)
    found["sign_of_magnetization"] = measure(np.sign(series["magnetization"]), log_weight, "the sign of M")
    return found


def _pulls(name: str, values: dict[str, Measurement]) -> dict[str, float]:
    """Differences in standard deviations. Flow and NIS share their draws and are not compared.

    A number that is nan gives a pull of nan, which does not pass, unless noise alone can make it undefined.
    """
    pairs = [("flow", "hmc"), ("nis", "hmc"), ("flow", "exact"), ("nis", "exact"), ("hmc", "exact")]
    known = [way for way, m in values.items() if name not in _MAY_BE_UNDEFINED or math.isfinite(m.value)]
    return {
        f"{a}-{b}": values[a].pull(values[b].value, values[b].error)
        for a, b in pairs
        if a in known and b in known
    }
