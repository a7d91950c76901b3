"""Finite-size scaling: curves of several lattices on one, with the critical coupling and the exponent ν."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latflow.analysis.averaging import Fit, told
from latflow.analysis.scaling import Curve
from latflow.measurement import Measurement

_DEGREES = range(1, 7)
_WINDOWS = (1.0, 0.7, 0.5, 0.35)
"""Shares of the largest |x| of all points within which a fit is made."""
_LEAST_EXPONENT, _LARGEST_EXPONENT = 0.1, 6.0
"""1/ν of any theory that one meets, and of much else."""
_LEAST_ERRORS = 3.0
"""How far from zero 1/ν must be known to be."""
_WORST_P = 1e-3
"""Of the best fit: below it nothing is told."""


@dataclass(frozen=True)
class Collapse:
    """A finite-size scaling fit U(g, L) = f((g − g_c) L^{1/ν}) + b L^{−ω}, f a polynomial.

    Attributes:
        coupling: g_c; None where the data cannot tell.
        nu: ν.
        value: f(0), that of the observable at the critical point in the limit of large lattices.
        chi_squared: of the fit with the largest weight.
        dof: its degrees of freedom.
        p_value: the probability of a χ² as large.
        degree: of its polynomial.
        sizes: L of the lattices in it.
        why: the data cannot tell.
    """

    coupling: Measurement | None = None
    nu: Measurement | None = None
    value: Measurement | None = None
    chi_squared: float = math.nan
    dof: int = 0
    p_value: float = math.nan
    degree: int = 0
    sizes: tuple[float, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class _Points:
    """All points side by side: L/L̄, the coupling t about the middle of its range in units of half of it."""

    size: np.ndarray
    t: np.ndarray
    value: np.ndarray
    error: np.ndarray

    def kept(self, which: np.ndarray) -> "_Points":
        return _Points(self.size[which], self.t[which], self.value[which], self.error[which])


@dataclass(frozen=True)
class _ScalingFit(Fit):
    """Of t_c, 1/ν and f(0), where they are known to lie within the couplings and apart from zero."""

    degree: int = 0
    sizes: tuple[float, ...] = ()


def collapse(curves: Sequence[Curve], omega: float | None = None) -> Collapse:
    """The critical coupling and ν from curves of several lattices: see `Collapse`.

    f is a polynomial of degree one to six. Fits of all points and of those within a part of the largest |x|,
    of all lattices and without the smaller ones, are averaged as `latflow.analysis.averaging` says.

    Args:
        curves: of at least two sizes, of three with a correction.
        omega: ω of the leading correction b L^{−ω}; without one there is no such term, and lattices too small
            for the others are left out by their χ².
    """
    from scipy.stats import chi2

    sizes = sorted({curve.size for curve in curves})
    fewest = 2 if omega is None else 3
    if len(sizes) < fewest:
        return Collapse(why=f"expected lattices of at least {fewest} sizes, got {len(sizes)}")
    mean_size = math.exp(sum(map(math.log, sizes)) / len(sizes))
    g = np.concatenate([curve.coupling for curve in curves])
    middle, half = (g.min() + g.max()) / 2, np.ptp(g) / 2
    if not half > 0:
        return Collapse(why="expected several couplings, got one")
    points = _Points(
        np.concatenate([np.full(len(curve.value), curve.size / mean_size) for curve in curves]),
        (g - middle) / half,
        np.concatenate([curve.value for curve in curves]),
        np.concatenate([curve.error for curve in curves]),
    )
    power = None if omega is None else -omega
    fits = list(_fits(points, power, fewest))
    if not fits:
        return Collapse(why=f"expected more than {len(g)} points for so many numbers of a fit")
    best, numbers = told(fits)
    assert isinstance(best, _ScalingFit)
    p_value = float(chi2.sf(best.chi_squared, best.dof)) if best.dof else math.nan
    about = Collapse(
        chi_squared=best.chi_squared,
        dof=best.dof,
        p_value=p_value,
        degree=best.degree,
        sizes=tuple(mean_size * size for size in best.sizes),
    )
    if not numbers:
        return replace(
            about,
            why=f"these points tell no critical one from {g.min():g} to {g.max():g} with its ν",
        )
    if p_value < _WORST_P:
        return replace(
            about,
            why=f"the curves fall onto no common one: χ²/dof = {best.chi_squared:.1f}/{best.dof}; lattices "
            "may be too small, couplings too far from the critical one, or errors too small",
        )
    t, inverse_nu, value = numbers
    return replace(
        about,
        coupling=Measurement(middle + half * t.value, half * t.error),
        nu=Measurement(1 / inverse_nu.value, inverse_nu.error / inverse_nu.value**2),
        value=value,
    )


def _fits(points: _Points, power: float | None, fewest: int) -> Iterator[_ScalingFit]:
    start = _start(points, power)
    total = len(points.t)
    x = np.abs(points.t - start[0]) * points.size ** start[1]
    sizes = np.unique(points.size)
    for dropped in range(len(sizes) - fewest + 1):
        for window in _WINDOWS:
            kept = (points.size >= sizes[dropped]) & (x <= window * x.max())
            part = points.kept(kept)
            if len(np.unique(part.size)) < len(sizes) - dropped:
                continue
            for degree in _DEGREES:
                if len(part.t) <= degree + 3 + (power is not None):
                    break
                yield _scaling_fit(part, degree, power, start, total)


def _start(points: _Points, power: float | None) -> tuple[float, float]:
    """t_c and 1/ν of the best on a grid."""
    degree = min(3, len(np.unique(points.t)) - 1)
    grid = [(t, y) for t in np.linspace(-0.95, 0.95, 39) for y in np.geomspace(0.3, 3.0, 16)]

    def chi(place: tuple[float, float]) -> float:
        design = _design(points, place, degree, power) / points.error[:, None]
        data = points.value / points.error
        residual = data - design @ np.linalg.lstsq(design, data, rcond=None)[0]
        return float(residual @ residual)

    return min(grid, key=chi)


def _design(points: _Points, place: Sequence[float], degree: int, power: float | None) -> np.ndarray:
    """The columns x^k, and (L/L̄)^−ω."""
    x = (points.t - place[0]) * points.size ** place[1]
    columns = np.vander(x, degree + 1, increasing=True)
    return columns if power is None else np.column_stack((columns, points.size**power))


def _scaling_fit(
    points: _Points, degree: int, power: float | None, start: tuple[float, float], total: int
) -> _ScalingFit:
    from scipy.optimize import least_squares

    design = _design(points, start, degree, power) / points.error[:, None]
    first = np.array([*start, *np.linalg.lstsq(design, points.value / points.error, rcond=None)[0]])

    def residual(p: np.ndarray) -> np.ndarray:
        return (_design(points, tuple(p[:2]), degree, power) @ p[2:] - points.value) / points.error

    def jacobian(p: np.ndarray) -> np.ndarray:
        scale = points.size ** p[1]
        x, a = (points.t - p[0]) * scale, p[2 : 3 + degree]
        slope = np.polynomial.polynomial.polyval(x, a[1:] * np.arange(1, degree + 1))
        by_place = np.column_stack((-slope * scale, slope * x * np.log(points.size)))
        return np.hstack((by_place, _design(points, tuple(p[:2]), degree, power))) / points.error[:, None]

    low, high = np.full(len(first), -np.inf), np.full(len(first), np.inf)
    low[:2], high[:2] = (-3.0, _LEAST_EXPONENT), (3.0, _LARGEST_EXPONENT)
    options: dict[str, Any] = {"jac": jacobian, "bounds": (low, high), "x_scale": "jac"}
    found = least_squares(residual, first, **options)
    fit = _ScalingFit(
        2 * float(found.cost),
        len(points.t) - len(first),
        len(first),
        total - len(points.t),
        degree=degree,
        sizes=tuple(np.unique(points.size).tolist()),
    )
    try:
        variance = np.diag(np.linalg.inv(found.jac.T @ found.jac))[:3]
    except np.linalg.LinAlgError:
        return fit
    if not (variance > 0).all():
        return fit
    t, inverse_nu, value = map(Measurement, found.x[:3], np.sqrt(variance))
    sound = abs(t.value) + t.error < 1 and inverse_nu.value > _LEAST_ERRORS * inverse_nu.error
    return replace(fit, numbers=(t, inverse_nu, value)) if sound else fit
