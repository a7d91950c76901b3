"""Pilots: short chains of each method, made as those of a run are, and what they tell."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator

from latflow.analysis import Measurement, Sample, average_of, effective_sample_size, needed, summary
from latflow.analysis.cost import Need
from latflow.config.stages import FEWEST_STEPS
from latflow.errors import UnreliableErrorWarning
from latflow.observables import Observable, Observe, recorded
from latflow.planning.memory import forget_peak, peak_memory
from latflow.planning.methods import Method
from latflow.planning.models import seconds
from latflow.runs.sampling import begun
from latflow.seeds import generator_for
from latflow.theories import Action
from latflow.validation.evidence import finite_draws

KNOWN = 0.15
"""The relative error of τ with which a pilot has done enough."""
LONG = 20
"""How many τ a record must have of each chain: in a shorter one the slow part hides beyond the window."""
_BURN = 5
"""Of a record the first part in so many is left out."""
_GROUPS = 8
_FIRST, _STRETCHES, _STRETCH_SECONDS = 100, 4, 0.5
"""Of a first look: the most steps, in how many stretches that are timed, of how many seconds."""


@dataclass(frozen=True)
class Question:
    """What a plan is asked.

    Attributes:
        action: the theory.
        observable: whose error is wished.
        error: the error.
        relative: whether it is a share of the average.
        seed: from which every generator is derived.
        dtype: of fields.
        device: where they live.
    """

    action: Action
    observable: Observable
    error: float
    relative: bool
    seed: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Finding:
    """What the record of a pilot tells of one way to average over it.

    Attributes:
        average: of the observable; None where this record has none.
        groups: the same over parts of the record.
        steps: of each chain, that count.
        weighted: whether it is that of independent draws with their weights.
    """

    average: Measurement | None
    groups: Sequence[Measurement]
    steps: int
    weighted: bool = False

    def need(self, question: Question) -> Need | None:
        """What the error takes; None where the record does not tell."""
        m = self.average
        if m is None or not _with_errors([m]) or len(self.groups) < 2:
            return None
        if question.relative and abs(m.value) < 5 * m.error:
            return None
        return needed(m, self.groups, question.error, relative=question.relative)

    @property
    def known(self) -> bool:
        """Whether it is long enough to tell what more of it would do."""
        m = self.average
        if m is None or not _with_errors([m]):
            return False
        if m.tau_int is None:
            return True
        return (m.tau_int_error or 0.0) <= KNOWN * m.tau_int and self.steps >= LONG * m.tau_int


class Pilot:
    """A chain of one method, and what it takes.

    Args:
        method: it.
        question: what it shall tell.
    """

    def __init__(self, method: Method, question: Question) -> None:
        self.method: Method = method
        self.question: Question = question
        self.generator: Generator = generator_for(question.seed, f"plan {method.key}", question.device)
        every = question.action.observables
        self.observables: list[Observable] = [
            one for one in every if one.slow or one.name == question.observable.name
        ]
        kept = [*self.observables, *(one for one in every if one.sectors)]
        factor = question.action.reweighting
        self.names = {name for one in kept for name in one.needs} | {"accepted", "log_weight"}
        self.names |= set() if factor is None else {factor}
        self.observe: Observe = recorded(question.action)
        self.series: list[dict[str, np.ndarray]] = []
        self.proposals: list[dict[str, np.ndarray]] = []
        self.taken: list[tuple[int, float, float]] = []
        self.setup = 0.0
        self.memory: float | None = None

    def begin(self) -> None:
        """Tune the sampler, and make the first step, for which programs may be compiled.

        Raises:
            LatflowError, ValueError: when the sampler finds no way to move.
        """
        question = self.question
        self._forgotten = forget_peak(question.device)
        start = seconds()
        plan = self.method.plan()
        density = None if self.method.trained is None else self.method.trained.density
        self.sampler, self.state, _ = begun(plan, question.action, density, self.generator, question.dtype)
        self.state, _ = self.sampler.advance(self.state, 1, self.observe, self.generator)
        self.setup: float = seconds() - start

    def look(self, limit: float) -> None:
        """The first steps, in stretches that tell how much their seconds vary."""
        begin = time.perf_counter()
        self._stretch(2)
        each = max(self.taken[-1][1] / 2, 1e-9)
        steps = max(1, min(_FIRST // _STRETCHES, int(limit / _STRETCHES / each)))
        for _ in range(_STRETCHES):
            self._stretch(steps)
            if time.perf_counter() - begin > limit:
                break
        self.memory = peak_memory(self.question.device) if self._forgotten else None

    def extend(self, steps: int, until: float) -> None:
        """So many more, or until a time of the clock."""
        chunk = self.method.length.block
        if self.taken:
            chunk = max(1, min(chunk, int(_STRETCH_SECONDS / max(self.step_seconds.value, 1e-9))))
        while steps > 0 and time.perf_counter() < until:
            self._stretch(min(chunk, steps))
            steps -= chunk

    @property
    def steps(self) -> int:
        """Of each chain, all that were made."""
        return sum(n for n, *_ in self.taken)

    @property
    def step_seconds(self) -> Measurement:
        """Of a step of all chains, with the error from how it varies."""
        n = np.array([each[0] for each in self.taken], dtype=float)
        rate = np.array([each[1] for each in self.taken]) / n
        mean = float((rate * n).sum() / n.sum())
        if len(n) < 2:
            return Measurement(mean, mean / 2)
        variance = float((n * (rate - mean) ** 2).sum() / n.sum()) / (len(n) - 1)
        return Measurement(mean, math.sqrt(variance))

    @property
    def clock_seconds(self) -> float:
        """Of a step of all chains, by the clock."""
        return sum(each[2] for each in self.taken) / self.steps

    def record(self) -> dict[str, np.ndarray]:
        """What was recorded, without its first part."""
        return _joined(self.series)

    @cached_property
    def chain(self) -> Finding:
        """By the Markov chain."""
        return self._finding(self.record())

    @cached_property
    def draws(self) -> tuple[Mapping[str, np.ndarray], int]:
        """The independent draws with finite weights, flat, and how many had others."""
        return finite_draws(_joined(self.proposals, burn=0) if self.proposals else {})

    @cached_property
    def weights(self) -> Finding | None:
        """By the weights of independent draws, where there are any."""
        series, _ = self.draws
        if not series or not np.isfinite(series["log_weight"]).any():
            return None
        parts = np.array_split(np.arange(len(series["log_weight"])), _GROUPS)
        groups = [{name: values[part] for name, values in series.items()} for part in parts]
        averages = [self._part(one, one["log_weight"]) for one in groups]
        whole = self._table(series, series["log_weight"])
        return Finding(whole, _with_errors(averages), self.steps, weighted=True)

    @property
    def ess(self) -> float | None:
        """Of the draws."""
        series, _ = self.draws
        return effective_sample_size(series["log_weight"]) if len(series.get("log_weight", ())) else None

    @property
    def acceptance(self) -> float:
        """Of the chain."""
        return float(self.record()["accepted"].mean())

    def _stretch(self, steps: int) -> None:
        clock, own = time.perf_counter(), seconds()
        self.state, block = self.sampler.advance(self.state, steps, self.observe, self.generator)
        self.taken.append((steps, seconds() - own, time.perf_counter() - clock))
        self.series.append({k: v.numpy() for k, v in block.series.items() if k in self.names})
        if block.proposals is not None:
            self.proposals.append({k: v.numpy() for k, v in block.proposals.items() if k in self.names})
        for found in ("chain", "draws", "weights"):
            self.__dict__.pop(found, None)

    def _finding(self, series: Mapping[str, np.ndarray]) -> Finding:
        steps, chains = series["accepted"].shape[:2]
        if steps < FEWEST_STEPS:
            return Finding(None, [], steps)
        if chains > 1:
            parts = np.array_split(np.arange(chains), min(_GROUPS, chains))
            groups = [{name: values[:, part] for name, values in series.items()} for part in parts]
        else:  # the parts are stretches of the one chain
            parts = np.array_split(np.arange(steps), min(_GROUPS, steps // FEWEST_STEPS))
            groups = [{name: values[part] for name, values in series.items()} for part in parts]
        averages = [self._part(one) for one in groups]
        return Finding(self._table(series), _with_errors(averages), steps)

    def _table(self, series: Mapping[str, Any], log_weight: np.ndarray | None = None) -> Measurement | None:
        """The average as the table of a run has it, with the tail of the slowest mode in its error."""
        with warnings.catch_warnings():  # what is doubtful is told by the plan
            warnings.simplefilter("ignore", UnreliableErrorWarning)
            found = summary(series, self.observables, log_weight, self._factor(series))
        return found.get(self.question.observable.name)

    def _part(self, series: Mapping[str, Any], log_weight: np.ndarray | None = None) -> Measurement | None:
        """The average of a part, for its variance."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableErrorWarning)
            return average_of(self.question.observable, Sample(series, log_weight, self._factor(series)))

    def _factor(self, series: Mapping[str, Any]) -> np.ndarray | None:
        name = self.question.action.reweighting
        return None if name is None or not self.question.observable.reweighted else series[name]


def _with_errors(averages: Sequence[Measurement | None]) -> list[Measurement]:
    return [one for one in averages if one is not None and one.error > 0 and math.isfinite(one.error)]


def _joined(parts: Sequence[Mapping[str, np.ndarray]], burn: int = _BURN) -> dict[str, np.ndarray]:
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first = len(next(iter(whole.values()))) // burn if burn else 0
    return {name: values[first:] for name, values in whole.items()}
