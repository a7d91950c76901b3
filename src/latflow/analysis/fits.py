"""Masses and correlation lengths from zero-momentum correlators."""

import math

import numpy as np
from numpy.typing import ArrayLike

from latflow.analysis.autocorrelation import derive, derive_vector
from latflow.formulas import effective_mass
from latflow.measurement import Measurement


def effective_masses(
    two_point: ArrayLike, log_weight: ArrayLike | None = None, factor: ArrayLike | None = None
) -> list[Measurement]:
    """m(t) = arccosh[(C(t−1) + C(t+1)) / (2 C(t))] for t = 1 … T−2, nan where the argument is below 1.

    Args:
        two_point: series of C(0), …, C(T−1), (steps, chains, T) or (steps, T) for one chain.
        log_weight: as in `measure`.
        factor: as in `measure`.

    Raises:
        ValueError: for fewer than three times, and as `measure`.
    """
    return derive_vector(effective_mass, _correlator(two_point), log_weight=log_weight, factor=factor)


def fitted_correlation_length(
    two_point: ArrayLike, length: int, first: int = 1, log_weight: ArrayLike | None = None
) -> Measurement:
    """ξ from the fit C(t) = A cosh((t − L0/2)/ξ) for first ≤ t ≤ L0/2.

    Each C(t) counts by its variance; correlations between times enter the error of ξ, through the dependence
    of the fit on all averages, but not the fit itself, which is therefore stable. Whether one state dominates
    from `first` on is for `effective_masses` to show.

    Args:
        two_point: series of C(0), …, C(L0/2), (steps, chains, times) or (steps, times) for one chain.
        length: L0, the extent of direction 0.
        first: the first time of the fit.
        log_weight: as in `measure`.

    Returns:
        nan where the fit has no C(t) with an error, or C(t) that is no number.

    Raises:
        ValueError: for fewer than three times in the fit or a wrong number of times, and as `measure`.
    """
    correlator = _correlator(two_point)
    times = np.arange(correlator.shape[-1])
    if len(times) != length // 2 + 1 or not 0 <= first <= length // 2 - 2:
        raise ValueError(
            f"expected C(t) at {length // 2 + 1} times, at least three from {first = } on, got {len(times)}"
        )
    deviation = np.array([m.error for m in derive_vector(lambda c: c, correlator, log_weight=log_weight)])

    def fit(averages: np.ndarray) -> float:
        return _fit_cosh(times[first:], averages[first:], deviation[first:], length)

    return derive(fit, correlator, log_weight=log_weight)


def _fit_cosh(times: np.ndarray, averages: np.ndarray, deviation: np.ndarray, length: int) -> float:
    """ξ of the best A cosh((t − L0/2)/ξ); the amplitude, which enters linearly, is solved for at each ξ."""
    from scipy.optimize import least_squares

    if not (np.isfinite(averages) & (deviation > 0)).all():
        return math.nan
    data = averages / deviation

    def residual(log_xi: np.ndarray) -> np.ndarray:
        xi = math.exp(log_xi[0])
        shape = (np.exp(-times / xi) + np.exp(-(length - times) / xi)) / deviation
        return data - (data @ shape) / (shape @ shape) * shape

    best = least_squares(residual, math.log(length / 4), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return math.exp(best.x[0])


def _correlator(two_point: ArrayLike) -> np.ndarray:
    correlator = np.asarray(two_point, dtype=np.float64)
    correlator = correlator[:, None] if correlator.ndim == 2 else correlator
    if correlator.ndim != 3 or correlator.shape[-1] < 3:
        raise ValueError(
            f"expected C(t) at three times or more, shape (steps, chains, times), got {correlator.shape}"
        )
    return correlator
