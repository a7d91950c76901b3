"""The verdict table: every observable by every way there is to know it."""

import math
from dataclasses import dataclass, field

import numpy as np

from latflow.actions import Action, fermions_of
from latflow.analysis import KINDS, LABELS, Kind, Measurement, free_energy, measure, summary

MAX_PULL = 5.0
"""A difference of more standard deviations fails the validation."""

_FEW_COUNTS = 0.2
"""An average that rare configurations decide, and of these less than 25, has no Gaussian error: it is shown
and not compared. The relative error of 25 counts is this."""

PAIRS = (
    ("flow", "hmc"),
    ("nis", "hmc"),
    ("flow", "classical"),
    ("nis", "classical"),
    ("flow", "quenched"),
    ("nis", "quenched"),
    ("hmc", "quenched"),
    ("flow", "exact"),
    ("nis", "exact"),
    ("hmc", "exact"),
    ("classical", "exact"),
    ("quenched", "exact"),
)
"""The ways to know a number that are independent of each other."""

Series = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One observable: from the flow's Markov chain, its weighted draws (NIS), HMC, and exact where known.

    Theories with fermions have it from weighted quenched draws, too, where these are trusted. For spins the
    flow is a network, and a classical chain runs in the place of HMC. `pulls` holds the difference of each
    pair in standard deviations, by names such as "flow-hmc".
    """

    name: str
    flow: Measurement | None = None
    nis: Measurement | None = None
    hmc: Measurement | None = None
    classical: Measurement | None = None
    quenched: Measurement | None = None
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
    action: Action,
    chain: Series,
    draws: Series,
    beside: Series,
    exactly: dict[str, Measurement],
    quenched: Series | None = None,
) -> list[Row]:
    """The rows of the verdict table; any of the series may be empty.

    Draws of either sort have a series "log_weight".

    Args:
        action: the theory.
        chain: of the flow, or of the network of spins.
        draws: of it.
        beside: of the chain beside it: of HMC, for spins the classical one.
        exactly: what is known.
        quenched: weighted quenched draws.
    """
    other = "classical" if action.kind == "spin" else "hmc"
    sampled = {"flow": chain, "nis": draws, other: beside, "quenched": quenched or {}}
    entries = {
        way: _measured(action, series, weighted=way in ("nis", "quenched"))
        for way, series in sampled.items()
        if series
    }
    entries["exact"] = exactly
    kind = KINDS[action.kind]
    names = [name for name in kind.labels if any(name in entries[way] for way in entries if way != "exact")]
    rows = []
    for name in names:
        values = {way: part[name] for way, part in entries.items() if name in part}
        comparable = {way: m for way, m in values.items() if _comparable(name, m, kind)}
        rows.append(Row(name, **values, pulls=_pulls(comparable)))
    return rows


def sign_of(action: Action, series: Series) -> np.ndarray | None:
    """The factor with which averages are reweighted: the sign of det D for an odd number of flavours."""
    fermions = fermions_of(action)
    return series["sign"] if fermions is not None and fermions.flavours % 2 else None


def _measured(action: Action, series: Series, weighted: bool) -> dict[str, Measurement]:
    log_weight = series["log_weight"] if weighted else None
    found = summary(series, action.lattice, log_weight, action.kind, sign_of(action, series))
    if "magnetization" in series:
        signs = np.sign(series["magnetization"])
        found["sign_of_magnetization"] = measure(signs, log_weight, "the sign of M")
    if log_weight is not None:
        f = free_energy(log_weight)
        found["log_z"] = Measurement(-f.value, f.error, n=f.n)
    return found


def _comparable(name: str, m: Measurement, kind: Kind) -> bool:
    """Whether a number is to be held against others.

    One that is nan is, and does not pass, unless noise alone can make it undefined; one that rests on rare
    configurations is, once it has seen enough of them.
    """
    if name in kind.may_be_undefined:
        return math.isfinite(m.value) and math.isfinite(m.error)
    return name not in kind.rests_on or not m.error > _FEW_COUNTS * kind.rests_on[name](m.value)


def _pulls(values: dict[str, Measurement]) -> dict[str, float]:
    """Differences in standard deviations. Flow and NIS share their draws and are not compared."""
    return {
        f"{a}-{b}": values[a].pull(values[b].value, values[b].error)
        for a, b in PAIRS
        if {a, b} <= set(values)
    }
