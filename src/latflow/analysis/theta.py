"""Averages at any vacuum angle θ, from what was sampled at θ = 0, by the weight exp(iθQ) of each sector.

    ⟨O⟩_θ = ⟨O exp(iθQ)⟩ / ⟨exp(iθQ)⟩

Charge conjugation, under which Q is odd, leaves of this the real part of numbers that are even, and of odd
ones such as Q itself the imaginary one:

    ⟨O⟩_θ = ⟨O cos θQ⟩ / ⟨cos θQ⟩,    ⟨O⟩_θ/i = ⟨O sin θQ⟩ / ⟨cos θQ⟩

The cost is Z(θ)/Z(0) = ⟨cos θQ⟩ = exp(−V (f(θ) − f(0))), which falls with the volume, and its error does not.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import derive, measure
from latflow.analysis.summary import FEWEST_ERRORS, summary
from latflow.analysis.weights import reweighted_share
from latflow.measurement import Measurement

if TYPE_CHECKING:
    from latflow.observables.base import Observable

_ROUNDING = 4 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class AtTheta:
    """What a sample at θ = 0 tells of another θ.

    Attributes:
        theta: θ.
        ratio: Z(θ)/Z(0) = ⟨cos θQ⟩.
        share: of the configurations, what the weights cos θQ leave.
        numbers: the observables by name; of those that are odd the imaginary part. Empty where the ratio is
            not known to be `FEWEST_ERRORS` errors from zero, for then all of them drown in noise.
    """

    theta: float
    ratio: Measurement
    share: float
    numbers: Mapping[str, Measurement] = field(default_factory=dict)

    @property
    def drowned(self) -> bool:
        """Whether nothing but the ratio is known, and of that only how large it may be."""
        return not abs(self.ratio.value) > FEWEST_ERRORS * self.ratio.error


def at_theta(
    theta: float,
    series: Mapping[str, ArrayLike],
    observables: Sequence["Observable"],
    log_weight: ArrayLike | None = None,
    factor: ArrayLike | None = None,
    charge: str = "topological_charge",
) -> AtTheta:
    """The observables of a theory at θ, from what was recorded at θ = 0.

    Errors are those of linearised ratios, by the Γ-method for chains: they know how O, exp(iθQ) and the sign
    of a determinant vary together, and have the tail of the slow mode Q² in them.

    Args:
        theta: θ.
        series: what was recorded, as in `summary`.
        observables: of the theory, which charge conjugation leaves as it is but for those that are `odd`.
        log_weight: given for independent draws, as in `summary`.
        factor: with which averages are reweighted at θ = 0 already, as in `summary`.
        charge: the name of Q among the series.

    Raises:
        ValueError: as `measure`.
    """
    q = np.asarray(series[charge], dtype=np.float64)
    cosine, sine = np.cos(theta * q), np.sin(theta * q)
    sine[np.abs(sine) < _ROUNDING * (1 + np.abs(theta * q))] = 0.0  # of multiples of π
    tau = 0.0 if log_weight is not None else measure(q**2, name=charge, factor=factor).tau_int or 0.0
    ratio = measure(cosine, log_weight, "cos θQ", factor, tau)
    weight = cosine if factor is None else cosine * np.asarray(factor, dtype=np.float64)
    bare = AtTheta(theta, ratio, reweighted_share(weight, log_weight))
    if bare.drowned:
        return bare
    even = [one for one in observables if not one.odd and one.reweighted and one.estimate is None]
    numbers = summary(series, even, log_weight, weight)
    for one in (one for one in observables if one.odd and one.average is None and one.label):
        if all(name in series for name in one.needs):
            arrays = [np.asarray(series[name], dtype=np.float64) for name in one.needs]
            above = (arrays[0] if one.each is None else one.each(*arrays)) * sine
            numbers[one.name] = Measurement(0.0, 0.0)
            if np.any(above):
                numbers[one.name] = derive(
                    operator.truediv, above, cosine, log_weight=log_weight, factor=factor, tau_exp=tau
                )
    order = [one.name for one in observables if one.name in numbers]
    return AtTheta(theta, ratio, bare.share, {name: numbers[name] for name in order})
