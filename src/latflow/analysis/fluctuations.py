"""The table of results once more, with what each configuration adds to a number: for analyses elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.averages import averaged, linearised
from latflow.analysis.summary import Sample, summary
from latflow.analysis.weights import scaled_weight
from latflow.measurement import Measurement

if TYPE_CHECKING:
    from latflow.observables.base import Observable


@dataclass(frozen=True)
class Fluctuating(Measurement):
    """A measurement, and the fluctuations whose mean has its error.

    Attributes:
        fluctuation: of mean zero, (steps, chains): O − ⟨O⟩, or what is linear in such for a function of
            averages; of weighted draws times w/⟨w⟩.
        tau_exp: with which the tail of their autocorrelation was bounded, in steps.
    """

    fluctuation: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), repr=False, compare=False)
    tau_exp: float = 0.0


class FluctuatingSample(Sample):
    """A sample whose measurements know their fluctuations."""

    def average(self, values: ArrayLike, name: str = "the series") -> Fluctuating:
        found = averaged(values, self.log_weight, self.factor, name, dimensions=2)
        return self._with(super().average(values, name), found.fluctuation[..., 0])

    def derive(self, function: Callable[..., Any], *series: ArrayLike) -> Fluctuating:
        averages = [averaged(one, self.log_weight, self.factor, "the series", dimensions=3) for one in series]
        return self._with(super().derive(function, *series), linearised(function, averages)[1][..., 0])

    def log_z(self) -> Fluctuating | None:
        found = super().log_z()
        return None if found is None else self._with(found, self._ratio() - 1)

    def free_energy_density(self, volume: int) -> Fluctuating | None:
        found = super().free_energy_density(volume)
        return None if found is None else self._with(found, (1 - self._ratio()) / volume)

    def entropy(self) -> Fluctuating | None:
        found = super().entropy()
        if found is None:
            return None
        ratio, s = self._ratio(), np.asarray(self.series["action"], dtype=np.float64).reshape(-1, 1)
        return self._with(found, ratio - 1 + ratio * (s - np.mean(ratio * s)))

    def _ratio(self) -> np.ndarray:
        """w/⟨w⟩ of independent draws, (draws, 1)."""
        assert self.log_weight is not None
        weight = scaled_weight(self.log_weight).reshape(-1, 1)
        return weight / weight.mean()

    def _with(self, found: Measurement, fluctuation: np.ndarray) -> Fluctuating:
        known = {one.name: getattr(found, one.name) for one in fields(Measurement)}
        return Fluctuating(**known, fluctuation=fluctuation, tau_exp=self.tau_exp)


def fluctuations(
    series: Mapping[str, ArrayLike],
    observables: Sequence["Observable"],
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
) -> dict[str, Measurement]:
    """`summary`, whose measurements are `Fluctuating`.

    Arguments and exceptions are those of `summary`. An observable with an `estimate` of its own that is made
    neither by averages of the sample nor by its log Z has no fluctuations, and is a plain `Measurement`.
    """
    return summary(series, observables, log_weight, factor, kind=FluctuatingSample)
