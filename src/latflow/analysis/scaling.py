"""Where curves of several lattices cross: critical couplings without an exponent."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import ArrayLike

from latflow.analysis.averaging import Fit, told
from latflow.measurement import Measurement

_HIGHEST_DEGREE = 3
"""Of the polynomials near a crossing."""
_LEAST_SLOPE = 3.0
"""How many errors the angle at which two curves cross must be from zero, for the place to have one."""


@dataclass(frozen=True)
class Curve:
    """What was measured on one lattice at several couplings.

    Attributes:
        size: L.
        coupling: g, ascending.
        value: of the observable at each.
        error: of each, independent of the others.

    Raises:
        ValueError: for arrays that do not fit together, and errors that are not above zero.
    """

    size: float
    coupling: np.ndarray
    value: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, size: float, coupling: ArrayLike, points: Sequence[Measurement]) -> "Curve":
        """The curve through measurements, in any order."""
        g = np.asarray(coupling, dtype=np.float64)
        order = np.argsort(g)
        value, error = (np.array([getattr(one, what) for one in points]) for what in ("value", "error"))
        return cls(size, g[order], value[order], error[order])

    def __post_init__(self) -> None:
        shapes = {np.shape(one) for one in (self.coupling, self.value, self.error)}
        if len(shapes) != 1 or np.ndim(self.value) != 1:
            raise ValueError(f"expected as many couplings, values and errors, got shapes {sorted(shapes)}")
        if not (np.isfinite(self.value).all() and np.isfinite(self.error).all() and (self.error > 0).all()):
            raise ValueError(f"expected numbers with errors above zero, got {self.value} and {self.error}")

    def within(self, low: float, high: float) -> "Curve":
        """The part in an interval."""
        kept = (low <= self.coupling) & (self.coupling <= high)
        return Curve(self.size, self.coupling[kept], self.value[kept], self.error[kept])


@dataclass(frozen=True)
class Crossing:
    """Where the curves of two lattices cross.

    Attributes:
        sizes: L of both.
        coupling: g* of the crossing; None where the data cannot tell.
        value: of the observable there.
        chi_squared: of the fit with the largest weight.
        dof: its degrees of freedom.
        why: the data cannot tell.
    """

    sizes: tuple[float, float]
    coupling: Measurement | None = None
    value: Measurement | None = None
    chi_squared: float = math.nan
    dof: int = 0
    why: str = ""


def crossings(curves: Sequence[Curve]) -> list[Crossing]:
    """Where the curves of neighbouring sizes cross, each by local polynomial fits.

    In every interval of couplings and for every degree up to three the two curves are fitted, and cross where
    P(g*) = Q(g*), with δg* = −(δP − δQ)/(P′ − Q′): see `latflow.analysis.averaging`.

    Args:
        curves: of different sizes.

    Raises:
        ValueError: for curves of one size.
    """
    ordered = sorted(curves, key=lambda one: one.size)
    if any(one.size == other.size for one, other in itertools.pairwise(ordered)):
        raise ValueError(f"expected curves of different sizes, got {[one.size for one in ordered]}")
    return [_crossing(one, other) for one, other in itertools.pairwise(ordered)]


def _crossing(one: Curve, other: Curve) -> Crossing:
    sizes = one.size, other.size
    low, high = (choose(one.coupling[i], other.coupling[i]) for choose, i in ((max, 0), (min, -1)))
    if min(len(one.coupling), len(other.coupling)) < 2 or low >= high:
        return Crossing(sizes, why="expected at least two couplings of each lattice, over one range")
    best, numbers = told(list(_local_fits(one, other)))
    if not numbers:
        return Crossing(
            sizes,
            chi_squared=best.chi_squared,
            dof=best.dof,
            why=f"the curves do not cross once from {low:g} to {high:g} within their errors",
        )
    g, value = numbers
    return Crossing(sizes, g, value, best.chi_squared, best.dof)


def _local_fits(one: Curve, other: Curve) -> Iterator[Fit]:
    """In each interval that holds enough points of both."""
    places = np.unique(np.concatenate((one.coupling, other.coupling)))
    total = len(one.coupling) + len(other.coupling)
    seen = set()
    for low, high in itertools.combinations(places, 2):
        parts = one.within(low, high), other.within(low, high)
        counts = tuple((part.coupling[0], len(part.coupling)) for part in parts if len(part.coupling))
        if len(counts) < 2 or counts in seen:
            continue
        seen.add(counts)
        for degree in range(1, min(_HIGHEST_DEGREE, *(len(part.coupling) - 1 for part in parts)) + 1):
            yield _local_fit(*parts, degree, total)


def _local_fit(one: Curve, other: Curve, degree: int, total: int) -> Fit:
    ends = np.concatenate((one.coupling, other.coupling))
    middle, half = (ends.min() + ends.max()) / 2, np.ptp(ends) / 2
    chi_squared, coefficients, covariances = 0.0, [], []
    for curve in (one, other):
        design = np.vander((curve.coupling - middle) / half, degree + 1, increasing=True)
        a, covariance, chi = _linear_fit(design, curve)
        coefficients.append(a)
        covariances.append(covariance)
        chi_squared += chi
    points, parameters = len(ends), 2 * (degree + 1)
    shape = chi_squared, points - parameters, parameters, total - points
    difference = coefficients[0] - coefficients[1]
    roots = [
        float(root.real)
        for root in polynomial.polyroots(difference)
        if abs(root.imag) < 1e-9 and abs(root.real) <= 1
    ]
    if len(roots) != 1:
        return Fit(*shape)
    (t,) = roots
    powers = t ** np.arange(degree + 1)
    slopes = np.concatenate(([0.0], np.arange(1, degree + 1) * powers[:-1]))
    rate, rise = float(difference @ slopes), float(coefficients[0] @ slopes)
    if abs(rate) < _LEAST_SLOPE * math.sqrt(slopes @ (covariances[0] + covariances[1]) @ slopes):
        return Fit(*shape)
    of_one, of_other = (math.sqrt(powers @ covariance @ powers) for covariance in covariances)
    # g* moves by −(δP − δQ)/(P′ − Q′), and the value by δP + P′ δg*
    place = Measurement(middle + half * t, half * math.hypot(of_one, of_other) / abs(rate))
    lift = math.hypot(of_one * (1 - rise / rate), of_other * rise / rate)
    return Fit(*shape, (place, Measurement(float(coefficients[0] @ powers), lift)))


def _linear_fit(design: np.ndarray, curve: Curve) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, their covariance, and χ²."""
    scaled = design / curve.error[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    coefficients = covariance @ scaled.T @ (curve.value / curve.error)
    residual = (curve.value - design @ coefficients) / curve.error
    return coefficients, covariance, float(residual @ residual)
