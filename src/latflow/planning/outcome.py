"""A plan: what was found of each method, and what that recommends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latflow.analysis import least_ess
from latflow.planning.models import Untrained
from latflow.planning.pilot import Question
from latflow.planning.ranking import Row, as_dict

_BUSY = 1.3
"""From how much more time by the clock than of the thread on it is told."""
_APART = 5.0
"""Standard deviations by which two pilots may differ."""


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
        question: that was asked.
        rows: of the methods, the cheapest that can be trusted first.
        untried: why methods have no row, by their titles.
        untrained: what the model of the configuration would take; None where it has none to train.
        refused: why registered samplers do not serve the theory.
        seconds: that the pilots took, by the clock.
    """

    question: Question
    rows: Sequence[Row]
    untried: dict[str, str]
    untrained: Untrained | None
    refused: dict[str, str]
    seconds: float

    @property
    def best(self) -> Row | None:
        """The cheapest that can be trusted; None where none can."""
        return next((row for row in self.rows if row.sound), None)

    def busy(self) -> str:
        """Whether other work on the machine makes the clock run ahead of the seconds of the table."""
        slower = max((row.clock / row.step.value for row in self.rows), default=1.0)
        if slower < _BUSY:
            return ""
        return (
            f"Seconds are those of one thread; by the clock it takes up to {slower:.2g} times as long, "
            "as others compute here too."
        )

    def disagreements(self) -> list[str]:
        """Pilots whose averages differ from that of the best by more than five standard deviations."""
        best = self.best
        if best is None or best.average is None:
            return []
        told = []
        for row in self.rows:
            if row is best or row.average is None or row.lower or row.doubts or not row.average.error > 0:
                continue
            pull = row.average.pull(best.average.value, best.average.error)
            if abs(pull) > _APART and math.isfinite(pull):
                told.append(
                    f"{row.title} has {row.average} and {best.title} {best.average}, {abs(pull):.1f} "
                    "standard deviations apart: one of them is wrong, or not in equilibrium."
                )
        return told

    def of_untrained(self) -> str:
        """What is known of a model that is not trained."""
        found, best = self.untrained, self.best
        if found is None:
            return ""
        words = f"The [model] is not trained: its training would take {in_words(found.training)}"
        if best is None or best.independent is None:
            return f"{words}; what it would save is not known."
        least = least_ess(found.training, found.draw, best.price, best.independent.value)
        if least <= 1:
            return (
                f"{words}; to cost no more in all than {best.title} it needs an ESS of at least {least:.2g}."
            )
        worth = found.training / (best.price - found.draw) if best.price > found.draw else math.inf
        if not math.isfinite(worth):
            return (
                f"{words}, and a draw costs more than an independent number of {best.title} "
                f"({1000 * found.draw:.3g} and {1000 * best.price:.3g} ms): it would not pay."
            )
        return (
            f"{words}; for {rounded(best.independent.value)} independent numbers no ESS would pay, but for "
            f"more than {rounded(worth)} one near 1 would."
        )

    def recommendation(self) -> str:
        """In a sentence."""
        best = self.best
        if best is None:
            return "No pilot can be trusted: nothing is recommended. A longer --budget may tell more."
        alike = [
            row.title
            for row in self.rows
            if row.sound
            and row is not best
            and row.cost.value - row.cost.error < best.cost.value + best.cost.error
        ]
        words = (
            f"Run {best.title}: about {in_words(best.cost.value)} to the error, {best.steps} steps of "
            f"{best.chains} chains."
        )
        if alike:
            words += (
                f" Within the errors {' and '.join(alike[:3])} cost{'s' if len(alike) == 1 else ''} the same."
            )
        without = next((row for row in self.rows if row.sound and not row.training), None)
        if best.training:
            words += f" The training of its model took {in_words(best.training)} before"
            words += (
                "."
                if without is None
                else f"; without one {without.title} costs {in_words(without.cost.value)}."
            )
        if self.untried:
            words += " Not all methods were tried: a longer --budget may find a cheaper one."
        return words

    def as_dict(self) -> dict[str, Any]:
        """As a file of JSON holds it."""
        question = self.question
        return {
            "theory": question.action.words._asdict() | {"lattice": list(question.action.lattice)},
            "observable": question.observable.name,
            "error": question.error,
            "relative": question.relative,
            "rows": [as_dict(row) for row in self.rows],
            "recommended": None if self.best is None else self.best.title,
            "recommendation": self.recommendation(),
            "untried": self.untried,
            "refused": self.refused,
            "untrained": None
            if self.untrained is None
            else vars(self.untrained) | {"words": self.of_untrained()},
            "seconds": self.seconds,
        }


def in_words(seconds: float) -> str:
    """A time as one says it: "26 min", "3.1 s"."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def rounded(number: float) -> str:
    """A large number to two digits: "1 300 000"."""
    return f"{float(f'{number:.2g}'):,.0f}".replace(",", " ")
