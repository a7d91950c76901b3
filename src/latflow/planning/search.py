"""The search for the cheapest method: which pilots are made, and which of them go on."""

import math
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from latflow.config import RunConfig
from latflow.config.checking import built_action
from latflow.errors import ConfigError, LatflowError
from latflow.observables import Observable
from latflow.planning.methods import Method, distinct, established, of_model, serving, with_others
from latflow.planning.models import Trained, untrained
from latflow.planning.outcome import Plan
from latflow.planning.pilot import LONG, Pilot, Question
from latflow.planning.ranking import Row, ranked, rows

Say = Callable[[str], None]

_LOOKS = 0.5
"""The share of the time that first looks may take."""
_EARLY = 0.4
"""The share after which no record is lengthened before all methods have had a first look."""
_BETTER = 2.0
"""Errors by which one cost must exceed another for its pilot to be left."""


def asked(config: RunConfig, observable: str | None, error: float, *, relative: bool = True) -> Question:
    """The question of a plan.

    Args:
        config: of the theory.
        observable: by name; the first that the theory calls slow if None, or else the first of all.
        error: that is wished.
        relative: whether it is a share of the average.

    Raises:
        ConfigError: for an observable that the theory does not have, for a relative error of one or more, and
            for one of an average that is zero by a symmetry.
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
    if relative and error >= 1:
        raise ConfigError(f"expected a share of the average below one, such as 2% or 0.02, got {error:g}")
    if relative and vanishes(chosen):
        raise ConfigError(
            f"{chosen.name} is zero by a symmetry, so that a relative error has no meaning: give an "
            "--absolute one"
        )
    compute = config.compute
    return Question(action, chosen, error, relative, config.seed, compute.torch_dtype, compute.torch_device())


def plan(
    config: RunConfig,
    question: Question,
    models: Sequence[Trained] = (),
    *,
    minutes: float,
    say: Say,
    only: Sequence[str] = (),
) -> Plan:
    """Run the pilots, and tell what they found.

    Args:
        config: of the theory.
        question: what is wished of it.
        models: that are trained.
        minutes: that the pilots may take together.
        say: told what is about to be done.
        only: the samplers that may move chains, by name; all if none.

    Raises:
        ConfigError: when one of these does not serve the theory.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(config.compute.threads or threads)
    try:
        return _plan(config, question, models, minutes, say, only)
    finally:
        torch.set_num_threads(threads)


def _plan(
    config: RunConfig,
    question: Question,
    models: Sequence[Trained],
    minutes: float,
    say: Say,
    only: Sequence[str],
) -> Plan:
    start = time.perf_counter()
    pilots = _Pilots(question, start, 60 * minutes)
    found = serving(question.action)
    first = distinct(established(config, question.action, found))
    known = [*found.alone, *found.within, *(name for one in first for name in one.kernels)]
    for one in models:
        known += serving(question.action, one.density).alone
    if unknown := [name for name in only if name not in known]:
        legal = ", ".join(dict.fromkeys(known))
        raise ConfigError(f"expected samplers that serve this theory, {legal}, got {', '.join(unknown)}")

    def wanted(methods: Iterable[Method]) -> list[Method]:
        return [one for one in methods if not only or all(name in only for name in one.kernels)]

    first = wanted(first)
    follow = len(models) > 0 or bool(found.within)
    expected = len(first) + 3 * bool(found.within) + 4 * len(models)
    then = ", and some that follow from them," if follow else ""
    say(f"{len(first)} pilots{then} in at most {minutes:g} min: {_listed(first)}")
    pilots.look(first, expected, say)
    pilots.improve(_EARLY if follow else 1.0, say)
    leader = pilots.leader()
    more = [] if leader is None else list(with_others(leader, question.action, found))
    for one in models:
        more += of_model(one, leader, config, question.action, found)
    if more := wanted(distinct(iter(more))):
        say(f"{len(more)} more: {_listed(more)}")
        pilots.look(more, len(first) + len(more), say)
    pilots.improve(1.0, say)
    waiting = None
    here = any(one.config.model == config.model for one in models)
    if config.model is not None and config.training.steps and not here:
        say("a few steps of the training of the model")
        waiting = untrained(config)
    return Plan(
        question,
        ranked([row for pilot in pilots.begun for row in pilots.rows(pilot)]),
        pilots.untried,
        waiting,
        dict(found.refused),
        time.perf_counter() - start,
    )


def _listed(methods: Sequence[Method]) -> str:
    return "; ".join(one.title for one in methods)


class _Pilots:
    """All of them, and which goes on."""

    def __init__(self, question: Question, start: float, seconds: float) -> None:
        self.question, self.start, self.limit = question, start, seconds
        self.begun: list[Pilot] = []
        self.untried: dict[str, str] = {}
        self._found: dict[int, tuple[int, list[Row]]] = {}

    def look(self, methods: Iterable[Method], expected: int, say: Say) -> None:
        """A first look at each."""
        for method in methods:
            if time.perf_counter() - self.start > self._share(len(self.begun), expected):
                self.untried[method.title] = "the budget was spent before"
                continue
            pilot = Pilot(method, self.question)
            try:
                pilot.begin()
                pilot.look(_LOOKS * self.limit / max(expected, 1))
            except (LatflowError, ValueError) as error:
                self.untried[method.title] = str(error)
                continue
            self.begun.append(pilot)
            say(f"  {method.title}: {pilot.steps} steps")

    def improve(self, share: float, say: Say) -> None:
        """Lengthen the records of those that may be the cheapest, until that is known or time is up."""
        until = self.start + share * self.limit
        while time.perf_counter() < until:
            table = {id(one): min(self.rows(one), key=lambda row: row.cost.value) for one in self.begun}
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

    def rows(self, pilot: Pilot) -> list[Row]:
        """Of a pilot as it stands; made once, since an error analysis may take as long as the pilot."""
        steps, found = self._found.get(id(pilot), (0, []))
        if steps != pilot.steps:
            found = rows(pilot)
            self._found[id(pilot)] = pilot.steps, found
        return found

    def leader(self) -> Method | None:
        """The cheapest that can be trusted, or that looks cheapest where none can."""
        table = [(min(self.rows(p), key=lambda r: (not r.sound, r.cost.value)), p) for p in self.begun]
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
