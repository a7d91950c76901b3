"""A plan: which method gives a wished error at the least cost."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latflow.analysis import least_ess
from latflow.config import RunConfig
from latflow.config.checking import built_action
from latflow.errors import ConfigError, LatflowError
from latflow.observables import Observable
from latflow.planning.methods import Method, distinct, established, of_model, serving, with_others
from latflow.planning.models import Trained, Untrained, untrained
from latflow.planning.pilot import LONG, Pilot, Question
from latflow.planning.ranking import Row, as_dict, ranked, rows

Say = Callable[[str], None]

_LOOKS = 0.5
"""The share of the time that first looks may take."""
_EARLY = 0.4
"""The share after which no record is lengthened before all methods have had a first look."""
_BUSY = 1.3
_APART = 5.0
_BETTER = 2.0
"""Errors by which one cost must exceed another for its pilot to be left."""


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
        question: that was asked.
        rows: of the methods, the cheapest that can be trusted first.
        methods: by the titles of the rows.
        untried: why methods have no row, by their titles.
        untrained: what the model of the configuration would take; None where it has none to train.
        refused: why registered samplers do not serve the theory.
        seconds: that the pilots took, by the clock.
    """

    question: Question
    rows: Sequence[Row]
    methods: dict[str, Method]
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
            if row is best or row.average is None or row.doubts or not row.average.error > 0:
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
                f"({1000 * found.draw:.3g} and {1000 * best.price:.3g} ms): it cannot pay."
            )
        return (
            f"{words}; for {best.independent.value:.3g} independent numbers no ESS would pay, but for more "
            f"than {worth:.3g} one near 1 would."
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


def asked(config: RunConfig, observable: str | None, error: float, *, relative: bool = True) -> Question:
    """The question of a plan.

    Args:
        config: of the theory.
        observable: by name; the first that the theory calls slow if None, or else the first of all.
        error: that is wished.
        relative: whether it is a share of the average.

    Raises:
        ConfigError: for an observable that the theory does not have, and for a relative error of one that is
            zero by a symmetry.
    """
    action = built_action(config.action)
    tabled = {one.name: one for one in action.observables if one.label}

    def vanishes(one: Observable) -> bool:
        return one.odd and action.z2_symmetric

    if observable is None:
        sensible = [
            one for one in tabled.values() if one.estimate is None and not (relative and vanishes(one))
        ]
        slow = [one for one in sensible if one.slow] or sensible
        if not slow:
            raise ConfigError(
                f"expected a theory with an observable to plan for, {action.words.name} has none"
            )
        chosen = slow[0]
    elif observable not in tabled:
        raise ConfigError(f"expected an observable out of {', '.join(tabled)}, got {observable!r}")
    else:
        chosen = tabled[observable]
    if relative and vanishes(chosen):
        raise ConfigError(
            f"{chosen.name} is zero by a symmetry, so that a relative error has no meaning: give an "
            "--absolute one"
        )
    compute = config.compute
    return Question(action, chosen, error, relative, config.seed, compute.torch_dtype, compute.torch_device())


def plan(config: RunConfig, question: Question, models: Sequence[Trained], minutes: float, say: Say) -> Plan:
    """Run the pilots, and tell what they found.

    Args:
        config: of the theory.
        question: what is wished of it.
        models: that are trained.
        minutes: that the pilots may take together.
        say: told what is about to be done.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(config.compute.threads or threads)
    try:
        return _plan(config, question, models, minutes, say)
    finally:
        torch.set_num_threads(threads)


def _plan(config: RunConfig, question: Question, models: Sequence[Trained], minutes: float, say: Say) -> Plan:
    start = time.perf_counter()
    pilots = _Pilots(question, start, 60 * minutes)
    found = serving(question.action)
    first = distinct(established(config, question.action, found))
    expected = len(first) + (len(found.within) > 0) * 2 + 4 * len(models)
    say(f"{len(first)} pilots, and some that follow from them, within {minutes:g} minutes:")
    pilots.look(first, expected, say)
    pilots.improve(_EARLY if len(found.within) or models else 1.0, say)
    leader = pilots.leader()
    more: list[Method] = []
    if leader is not None:
        more += with_others(leader, question.action, found)
    for one in models:
        more += of_model(one, leader, config, question.action, found)
    if more := distinct(iter(more)):
        say(f"{len(more)} pilots beside them:")
        pilots.look(more, len(more), say)
        pilots.improve(1.0, say)
    waiting = None
    if config.model is not None and not models:
        say("a few steps of the training of the model")
        waiting = untrained(config)
    table = ranked([row for pilot in pilots.begun for row in rows(pilot)])
    methods = {row.title: pilot.method for pilot in pilots.begun for row in rows(pilot)}
    return Plan(
        question, table, methods, pilots.untried, waiting, dict(found.refused), time.perf_counter() - start
    )


class _Pilots:
    """All of them, and which goes on."""

    def __init__(self, question: Question, start: float, seconds: float) -> None:
        self.question, self.start, self.limit = question, start, seconds
        self.begun: list[Pilot] = []
        self.untried: dict[str, str] = {}

    def look(self, methods: Iterable[Method], expected: int, say: Say) -> None:
        """A first look at each."""
        for method in methods:
            if time.perf_counter() - self.start > self._share(len(self.begun), expected):
                self.untried[method.title] = "the budget was spent before"
                continue
            pilot = Pilot(method, self.question)
            say(f"  {method.title}")
            try:
                pilot.begin()
                pilot.look(_LOOKS * self.limit / max(expected, 1))
            except (LatflowError, ValueError) as error:
                self.untried[method.title] = str(error)
                continue
            self.begun.append(pilot)

    def improve(self, share: float, say: Say) -> None:
        """Lengthen the records of those that may be the cheapest, until that is known or time is up."""
        until = self.start + share * self.limit
        while time.perf_counter() < until:
            table = {id(pilot): min(rows(pilot), key=lambda row: row.cost.value) for pilot in self.begun}
            best = min(
                (row.cost.value + _BETTER * row.cost.error for row in table.values() if row.sound),
                default=math.inf,
            )
            left = until - time.perf_counter()
            going = [p for p in self.begun if self._worth(p, table[id(p)], best, left)]
            if not going:
                return
            pilot = min(going, key=lambda p: (table[id(p)].cost.value, p.steps))
            say(f"  {pilot.method.title}: {pilot.steps} steps more")
            pilot.extend(pilot.steps, until)

    def leader(self) -> Method | None:
        """The cheapest that can be trusted, or that looks cheapest where none can."""
        table = [(min(rows(p), key=lambda r: (not r.sound, r.cost.value)), p) for p in self.begun]
        best = min(table, key=lambda pair: (not pair[0].sound, pair[0].cost.value), default=None)
        return None if best is None else best[1].method

    def _share(self, done: int, expected: int) -> float:
        return self.limit * (_LOOKS + (1 - _LOOKS) * done / max(expected, 1))

    def _worth(self, pilot: Pilot, row: Row, best: float, left: float) -> bool:
        """Whether more of it may change the answer in the seconds that are left."""
        spent = pilot.setup + sum(each[2] for each in pilot.taken)
        if row.doubts or not math.isfinite(row.cost.value):
            return spent < self.limit / (2 * len(self.begun))
        if row.tau is not None and (LONG * row.tau.value - pilot.steps) * pilot.clock_seconds > left:
            return False
        return row.lower and row.cost.value - _BETTER * row.cost.error < best


def in_words(seconds: float) -> str:
    """A time as one says it: "26 min", "3.1 s"."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
