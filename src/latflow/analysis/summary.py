"""The table of results: the observables of a theory, each with its error, from what was recorded."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import CONSTANT, derive, measure
from latflow.analysis.weights import entropy, free_energy, scaled_weight
from latflow.measurement import Measurement
from latflow.series import Changed

if TYPE_CHECKING:
    from latflow.observables.base import Observable

FEWEST_ERRORS = 5.0
"""How far from zero an average must be known to be, for a ratio with it or its logarithm to have a sound
error."""


@dataclass(frozen=True)
class Sample:
    """What was recorded of a theory, by Markov chains or of weighted draws.

    Attributes:
        series: each of shape (steps,) or (steps, chains); those with components (steps, chains, …).
        log_weight: of independent draws, as in `measure`; None for Markov chains.
        factor: with which averages are reweighted, as in `measure`.
        tau_exp: of the slowest mode that the averages know, as in `measure`.
    """

    series: Mapping[str, np.ndarray]
    log_weight: ArrayLike | None = None
    factor: ArrayLike | None = None
    tau_exp: float = 0.0

    def average(self, values: ArrayLike, name: str = "the series") -> Measurement:
        """The average of numbers of each configuration: `measure`, with the weights of this sample."""
        return measure(values, self.log_weight, name, self.factor, self.tau_exp)

    def derive(self, function: Callable[..., Any], *series: ArrayLike) -> Measurement:
        """A function of averages, as the function `derive` has it, with the weights of this sample."""
        return derive(function, *series, log_weight=self.log_weight, factor=self.factor, tau_exp=self.tau_exp)

    def positive(self, values: np.ndarray) -> bool:
        """Whether the averages of all components are `FEWEST_ERRORS` errors above zero, or have no error."""
        components = np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0)
        averages = [self.average(component) for component in components]
        return not any(one.value <= FEWEST_ERRORS * one.error for one in averages)

    def log_z(self) -> Measurement | None:
        """log Z; None without weights, for a Markov chain does not know it."""
        if self.log_weight is None:
            return None
        f = free_energy(self.log_weight)
        return Measurement(-f.value, f.error, n=f.n)

    def free_energy_density(self, volume: int) -> Measurement | None:
        """−log Z/V; None without weights."""
        if self.log_weight is None:
            return None
        f = free_energy(self.log_weight)
        return Measurement(f.value / volume, f.error / volume, n=f.n)

    def entropy(self) -> Measurement | None:
        """log Z + ⟨S⟩; None without weights."""
        return None if self.log_weight is None else entropy(self.log_weight, self.series["action"])

    @property
    def size(self) -> int:
        """The number of configurations."""
        return int(np.prod(next(iter(self.series.values())).shape[:2]))

    def one_count(self, tau_int: float | None) -> float:
        """What one configuration contributes to a share, were they independent: 2τ Σr² / (Σr)².

        Args:
            tau_int: τ of the chain; ½ if None, and no less, for no chain sees more than its configurations.
        """
        n = np.size(self.log_weight) if self.log_weight is not None else self.size
        weight = np.ones(n)
        if self.log_weight is not None:
            weight = weight * scaled_weight(self.log_weight).reshape(-1)
        if self.factor is not None:
            weight = weight * np.asarray(self.factor, dtype=np.float64).reshape(-1)
        return float(2 * max(tau_int or 0.5, 0.5) * np.sum(weight**2) / np.sum(weight) ** 2)


def summary(
    series: Mapping[str, ArrayLike],
    observables: Sequence["Observable"],
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
    kind: type[Sample] = Sample,
) -> dict[str, Measurement]:
    """The observables of a theory that have a label, as far as what they are made of was recorded.

    The error of an average of counts, which has a `quantum`, is never smaller than that of one count: what
    was never seen is not known to be zero. One count of N is 2τ/N, τ that of the first slow observable.

    Of a Markov chain τ_exp is taken for the largest τ of the slow observables, and what is made of the same
    series as one of them, such as ⟨Q⟩ and ⟨Q²⟩, has the tail of this mode in its error: see `measure`.

    Args:
        series: what was recorded at each step, (steps,) or (steps, chains), and arrays such as correlators
            with their components behind; other entries are ignored.
        observables: of the theory, `Action.observables`.
        log_weight: given when the series are independent draws to be weighted, as in `measure`.
        factor: with which averages are reweighted, as in `measure`: the sign of the determinant for an odd
            number of flavours.
        kind: of sample, which makes the measurements.

    Returns:
        The measurements, by the names of the observables and in their order.

    Raises:
        ValueError: as `measure`.
    """
    axes = {observable.name: len(observable.axes) for observable in observables}
    arrays = Changed(series, lambda name, values: _with_chains(values, axes.get(name, 0)))
    sample = kind(arrays, log_weight, factor)
    found: dict[str, Measurement] = {}
    rows = [one for one in observables if one.label and all(name in arrays for name in _needed(one))]
    slow = [one for one in rows if one.slow]
    times = [made.tau_int or 0.0 for one in slow if (made := average_of(one, sample)) is not None]
    touched = {name for one in slow for name in _needed(one)}
    tailed = replace(sample, tau_exp=max(times, default=0.0))
    first = average_of(slow[0], tailed) if slow else None
    for observable in rows:
        mine = tailed if touched.intersection(_needed(observable)) else sample
        mine = mine if observable.reweighted else replace(mine, factor=None)
        made = average_of(observable, mine)
        if made is not None and observable.quantum is not None:
            tau_int = (first or made).tau_int
            made = _no_finer(made, observable.quantum * mine.one_count(tau_int))
        if made is not None:
            found[observable.name] = made
    return found


def _needed(observable: "Observable") -> tuple[str, ...]:
    """An estimate made of the weights alone needs no series."""
    return observable.of if observable.estimate is not None else observable.needs


def _with_chains(values: ArrayLike, components: int) -> np.ndarray:
    """A series of one chain with components, (steps, …), as one of several."""
    history = np.asarray(values)
    return history[:, None] if components and history.ndim == 1 + components else history


def average_of(observable: "Observable", sample: Sample) -> Measurement | None:
    """The average by the record of an observable, with its error; None where this sample has none.

    Raises:
        ValueError: as `measure`.
    """
    if observable.estimate is not None:
        return observable.estimate(sample)
    arrays = [np.asarray(sample.series[name], dtype=np.float64) for name in _needed(observable)]
    numbers = arrays if observable.each is None else observable.each(*arrays)
    several = numbers if isinstance(numbers, tuple | list) else (numbers,)
    if observable.positive and not all(map(sample.positive, several)):
        return None
    if observable.average is not None:
        return sample.derive(observable.average, *several)
    if len(several) != 1:
        raise ValueError(
            f"expected one number of each configuration for the observable {observable.name}, which has no "
            f"function of averages, got {len(several)}"
        )
    return sample.average(several[0], " and ".join(_needed(observable)))


def _no_finer(share: Measurement, finest: float) -> Measurement:
    """The share with an error of at least one count, which is all that is known of a constant."""
    if share.warning == CONSTANT and math.isfinite(share.value):
        return replace(share, error=finest, warning="")
    return replace(share, error=finest) if share.error < finest else share
