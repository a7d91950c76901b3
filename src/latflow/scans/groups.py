"""Runs that differ in their seeds alone, taken together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latflow.measurement import Measurement
from latflow.report.linked import MARKS
from latflow.report.overview import Overview, State, best_of
from latflow.scans.folder import ScannedRun

_FIVE_SIGMA = 5.7e-7
"""Seeds that agree no better than with this probability do not agree."""

Settings = tuple[tuple[str, Any], ...]
"""Keys with their values, in the order of the scan; lists are tuples."""

STATES: tuple[State, ...] = tuple(MARKS)
"""From the best to the worst."""


@dataclass(frozen=True)
class Agreement:
    """How well several seeds agree.

    Attributes:
        chi_squared: Σ (x_i − x̄)²/σ_i² about the mean x̄ that is weighted with 1/σ_i².
        dof: the number of seeds less one.
        p_value: the probability of a χ² as large.
    """

    chi_squared: float
    dof: int
    p_value: float

    @property
    def passed(self) -> bool:
        """Whether it is not beyond five standard deviations."""
        return not self.p_value < _FIVE_SIGMA


@dataclass(frozen=True)
class Group:
    """The runs that differ in their seeds alone: one where no seeds are scanned.

    Attributes:
        settings: the values of the scanned keys, the seed not among them.
        runs: with what they have found.
        values: the mean over the runs, by the names of observables and ways.
        agreement: of the runs, likewise, where there are several.
    """

    settings: Mapping[str, Any]
    runs: tuple[tuple[ScannedRun, Overview], ...]
    values: Mapping[str, Mapping[str, Measurement]]
    agreement: Mapping[str, Mapping[str, Agreement]] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """The worst of its runs; failed where their seeds do not agree."""
        states: list[State] = [found.state for _, found in self.runs]
        if not all(one.passed for ways in self.agreement.values() for one in ways.values()):
            states.append("failed")
        return max(states, key=STATES.index)

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against its numbers."""
        return self.state in ("passed", "inconclusive")

    def best(self, name: str, sampled: Sequence[str]) -> tuple[str, Measurement] | None:
        """The number of an observable with the smallest error, and its way: see `best_of`."""
        return best_of(self.values.get(name, {}), sampled)


def grouped(runs: Sequence[ScannedRun]) -> list[Group]:
    """The groups, in the order of their first runs."""
    found: dict[str, list[ScannedRun]] = {}
    for run in runs:
        found.setdefault(repr(_settings(run)), []).append(run)
    return [_group(several) for several in found.values()]


def _settings(run: ScannedRun) -> dict[str, Any]:
    return {key: value for key, value in run.point.values.items() if key != "seed"}


def _group(runs: Sequence[ScannedRun]) -> Group:
    both = tuple((run, run.overview) for run in runs)
    settings, several = _settings(runs[0]), [found.values for _, found in both if found.values]
    names = {name: None for values in several for name in values}
    series: dict[str, dict[str, list[Measurement]]] = {
        name: {
            way: [values[name][way] for values in several if way in values.get(name, {})]
            for way in {way: None for values in several for way in values.get(name, {})}
        }
        for name in names
    }
    means = {name: {way: pooled(one) for way, one in ways.items()} for name, ways in series.items()}
    agreement = {
        name: {way: made for way, one in ways.items() if (made := agreement_of(one)) is not None}
        for name, ways in series.items()
    }
    return Group(settings, both, means, {name: ways for name, ways in agreement.items() if ways})


def arranged(groups: Sequence[Group], along: Sequence[str]) -> dict[Settings, list[Group]]:
    """Groups by their settings but those of some keys, along which they lie."""
    found: dict[Settings, list[Group]] = {}
    for group in groups:
        others = {key: value for key, value in group.settings.items() if key not in along}
        settings = tuple((key, _hashable(value)) for key, value in others.items())
        found.setdefault(settings, []).append(group)
    return found


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return repr(value) if isinstance(value, dict) else value


def pooled(several: Sequence[Measurement]) -> Measurement:
    """The mean of independent numbers of runs of one length, x̄ = Σ x_i/n, σ = (Σ σ_i²)^½/n.

    All count alike: a chain that has seen too little knows too small an error, and would count for most.
    """
    if len(several) == 1 or all(one.error == 0 for one in several):
        return several[0]
    n = len(several)
    value = sum(one.value for one in several) / n
    error = math.sqrt(sum(one.error**2 for one in several)) / n
    warning = next((one.warning for one in several if one.warning), "")
    return Measurement(value, error, n=sum(one.n or 0 for one in several) or None, warning=warning)


def agreement_of(several: Sequence[Measurement]) -> Agreement | None:
    """How well independent numbers agree; None for fewer than two with sound errors."""
    from scipy.stats import chi2

    sound = [one for one in several if one.error > 0 and math.isfinite(one.error) and not one.warning]
    if len(sound) < 2:
        return None
    values, weights = np.array([one.value for one in sound]), np.array([one.error**-2 for one in sound])
    mean = values @ weights / weights.sum()
    chi_squared = float(weights @ (values - mean) ** 2)
    return Agreement(chi_squared, len(sound) - 1, float(chi2.sf(chi_squared, len(sound) - 1)))
