"""The verdict table: every observable by every way there is to know it."""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from latflow.measurement import Measurement
from latflow.observables.base import Observable
from latflow.theories import Action
from latflow.validation.ways import Way

MAX_PULL = 5.0
"""A difference of more standard deviations fails the validation."""

_FEW_COUNTS = 0.2
"""An average that rare configurations decide, and of these less than 25, has no Gaussian error: it is shown
and not compared. The relative error of 25 counts is this."""


@dataclass(frozen=True)
class Row:
    """One observable by every way that has it.

    Attributes:
        name: of the observable.
        label: how a table writes it.
        values: by the names of the ways.
        pulls: the difference of two ways that are independent of each other, the first minus the second, in
            standard deviations.
        undecided: ways whose errors are not known: a difference from one of them decides nothing.
    """

    name: str
    label: str
    values: dict[str, Measurement] = field(default_factory=dict)
    pulls: dict[tuple[str, str], float] = field(default_factory=dict)
    undecided: frozenset[str] = frozenset()

    @property
    def passed(self) -> bool:
        """Whether no pull exceeds `MAX_PULL` but those of ways that are undecided."""
        deciding = [pull for pair, pull in self.pulls.items() if not self.undecided.intersection(pair)]
        return all(abs(pull) <= MAX_PULL for pull in deciding)

    @property
    def largest(self) -> tuple[str, str] | None:
        """The two ways that differ most; None where none are compared."""
        return max(self.pulls, key=lambda pair: abs(self.pulls[pair]), default=None)

    def as_dict(self) -> dict[str, Any]:
        """The row as plain numbers and strings."""
        return {
            "name": self.name,
            "label": self.label,
            "values": {way: asdict(measurement) for way, measurement in self.values.items()},
            "pulls": {"-".join(pair): pull for pair, pull in self.pulls.items()},
            "passed": self.passed,
        }


def table(action: Action, ways: Sequence[Way], undecided: Collection[str] = ()) -> list[Row]:
    """The rows of the verdict table, in the order of the theory's observables.

    An observable has a row where something was measured of it: what is known without any draw alone is none.

    Args:
        action: the theory.
        ways: to know its observables, in the order of the columns.
        undecided: the names of those whose errors are not known.
    """
    sampled = {name for way in ways if way.sampled for name in way.measurements}
    return [
        _row(observable, ways, frozenset(undecided))
        for observable in action.observables
        if observable.label and observable.name in sampled
    ]


def _row(observable: Observable, ways: Sequence[Way], undecided: frozenset[str]) -> Row:
    values = {w.name: w.measurements[observable.name] for w in ways if observable.name in w.measurements}
    compared = [w for w in ways if w.name in values and comparable(observable, values[w.name])]
    pulls = {
        (one.name, other.name): values[one.name].pull(values[other.name].value, values[other.name].error)
        for one, other in itertools.combinations(compared, 2)
        if one.source != other.source
    }
    return Row(observable.name, observable.label, values, pulls, undecided)


def comparable(observable: Observable, m: Measurement) -> bool:
    """Whether a number is to be held against others.

    One that is nan is, and does not pass, unless noise alone can make it undefined; one that rests on rare
    configurations is, once it has seen enough of them. One without an error because nothing moved is not.
    """
    if m.warning and math.isnan(m.error):
        return False
    if observable.may_be_undefined:
        return math.isfinite(m.value) and math.isfinite(m.error)
    return observable.rests_on is None or not m.error > _FEW_COUNTS * observable.rests_on(m.value)
