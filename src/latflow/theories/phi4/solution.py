"""φ⁴ theory by its transfer matrix: log Z of narrow lattices to any accuracy, without sampling.

With S = Σ_n V(φ_n) + Σ_links (φ_n − φ_{n+μ})², V = m²φ² + λφ⁴, each site is integrated by an n-point Gauss
rule. The theory becomes a spin model with n states a site, solved by `TransferMatrix`. The measure of the
rule is the marginal distribution of one site in the Bethe approximation, so that few points suffice, and the
error falls factorially.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from latflow.lattice import checked_lattice, volume
from latflow.theories.phi4.transfer import Rule, TransferMatrix
from latflow.types import Lattice

_POINTS = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # even: at φ = 0 a broken phase has next to no weight
_GRID, _LARGEST_GRID, _LARGEST_STEP = 601, 2401, 0.3
"""Points for the density of a site, at least and at most, and the step that still resolves a link."""

_EXPONENT = 81.0
"""V − min V where the weight of a site, 10⁻³⁵, no longer counts."""


class Converged(NamedTuple):
    """A number computed in steps of growing accuracy, and an estimate of its distance from the limit."""

    value: float
    error: float


def phi4_log_z(
    lattice: Sequence[int], m2: float, lam: float, tolerance: float = 1e-6, max_states: int = 2_000_000
) -> Converged:
    """log Z of `actions.Phi4`.

    The error is an estimate: the change by the last refinement of the quadrature, which falls factorially,
    plus what eigenvalues that were not found can contribute.

    Args:
        lattice: side lengths; the s sites of a slice across the longest direction set the cost, n^s states.
        m2: squared mass m².
        lam: coupling λ ≥ 0; where it is 0, m² > 0.
        tolerance: refinement stops when the error is below it, …
        max_states: … or when the next one would need more states. Two million states take about 1 GB.

    Raises:
        ValueError: when the weight is not normalisable, when the lattice is too wide for `max_states`, and
            for couplings at which the density of a site is too wide, or too narrow, for its grid.

    Example:
        >>> log_z, error = phi4_log_z((4, 4), m2=-4.0, lam=8.0)
        >>> round(log_z, 6), error < 1e-6
        (2.405139, True)
    """
    return _solve(checked_lattice(lattice), m2, lam, tolerance, max_states).log_z


def phi4_phi_squared(
    lattice: Sequence[int], m2: float, lam: float, tolerance: float = 1e-6, max_states: int = 2_000_000
) -> Converged:
    """⟨φ²⟩ = −V⁻¹ ∂ log Z/∂m², from the eigenvectors of the same transfer matrix.

    Arguments and exceptions are those of `phi4_log_z` (the tolerance is that of log Z), and a call with the
    arguments of an earlier call of either function costs nothing.
    """
    return _solve(checked_lattice(lattice), m2, lam, tolerance, max_states).phi_squared


class _Solution(NamedTuple):
    log_z: Converged
    phi_squared: Converged


@lru_cache(maxsize=64)
def _solve(lattice: Lattice, m2: float, lam: float, tolerance: float, max_states: int) -> _Solution:
    """Refine the quadrature until the change of log Z is below the tolerance."""
    finite = math.isfinite(m2) and math.isfinite(lam)
    if not finite or lam < 0 or (lam == 0 and m2 <= 0):
        raise ValueError(
            f"exp(-S) cannot be normalised: expected lam > 0, or lam = 0 and m2 > 0, got {lam=}, {m2=}"
        )
    *cross_section, length = sorted(lattice)
    sites = math.prod(cross_section)
    if _POINTS[1] ** sites > max_states:
        raise ValueError(
            f"lattice {lattice} has slices of {sites} sites: expected at most {max_states=} states, "
            f"got {_POINTS[1]}^{sites}"
        )
    beyond, farthest = _beyond(lattice, m2, lam)
    log_z, phi_squared, tail = [], [], math.inf
    for points in _POINTS:
        if points**sites > max_states or (log_z and _converged(log_z, tail).error < tolerance):
            break
        matrix = TransferMatrix(tuple(cross_section), gauss_rule(len(lattice), m2, lam, points))
        log_trace, mean, tail = matrix.trace_of_power(length, tolerance / 10)
        log_z.append(log_trace - volume(lattice) * _potential_minimum(m2, lam))
        phi_squared.append(mean)
    rounding = 1e-14 * volume(lattice) * abs(_potential_minimum(m2, lam))
    found = _Solution(
        _converged(log_z, tail + rounding + beyond), _converged(phi_squared, tail + beyond * farthest**2)
    )
    if not (math.isfinite(found.log_z.value) and math.isfinite(found.phi_squared.value)):
        raise ValueError(f"expected couplings for which log Z is a number, got {lam=}, {m2=}")
    return found


def _converged(values: list[float], tail: float) -> Converged:
    """The last value. Its error is the last change, or a fifth of it where changes fall fast, plus the tail.

    Where the changes fall by a factor of 100 and more, the true error was found to be below the fifth in all
    cases with a known answer; deep in the broken phase, where they fall irregularly, it can be a few times
    the estimate.
    """
    if len(values) < 3:
        return Converged(values[-1], math.inf)
    before, last = abs(values[-2] - values[-3]), abs(values[-1] - values[-2])
    return Converged(values[-1], (last / 5 if last < before / 100 else last) + tail)


def gauss_rule(dimensions: int, m2: float, lam: float, points: int) -> Rule:
    """Gauss quadrature ∫dφ exp(min V − V(φ)) f(φ) ≈ Σ_i weight_i f(φ_i) for the f that neighbours make.

    On the Bethe lattice (a tree with 2d neighbours to a site) one neighbour acts on a site by the message
    u(φ) = ∫dφ' exp(−(φ−φ')² − V(φ')) u(φ')^{2d−1}, and the marginal distribution exp(−V) u^{2d} is the
    measure of the rule; in one dimension it is exact on a long chain. Nodes and weights come from the
    orthogonal polynomials by Stieltjes' recurrence on a fine grid and the matrix of Golub and Welsch, Math.
    Comp. 23 (1969) 221.
    """
    from scipy.linalg import eigh_tridiagonal

    grid, source = _bethe_source(dimensions, m2, lam)
    step = grid[-1] - grid[-2]
    marginal = _site_weight(grid, m2, lam) * (_link_weight(grid, grid) @ source) ** (2 * dimensions)
    integral = marginal.sum() * step
    _check_resolved(marginal[grid > 0] if grid[len(grid) // 2] > step else marginal)
    marginal /= marginal.sum()

    off_diagonal, previous, polynomial = [0.0], np.zeros_like(grid), np.ones_like(grid)
    for _ in range(points):
        following = grid * polynomial - off_diagonal[-1] * previous
        off_diagonal.append(float(np.sqrt(marginal @ following**2)))
        previous, polynomial = polynomial, following / off_diagonal[-1]
    nodes, vectors = eigh_tridiagonal(np.zeros(points), np.array(off_diagonal[1:-1]))
    nodes = (nodes - nodes[::-1]) / 2  # symmetric to the last bit
    return Rule(nodes, vectors[0] ** 2 * integral / (_link_weight(nodes, grid) @ source) ** (2 * dimensions))


@lru_cache(maxsize=16)
def _bethe_source(dimensions: int, m2: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """A grid that holds the marginal distribution, and on it exp(−V) u^{2d−1} at the fixed point for u.

    Between two wells that are far apart, where there is next to no weight, the grid has no points.
    """
    if not math.isfinite(_potential_minimum(m2, lam)):
        raise ValueError(f"expected a potential with a finite minimum, got {m2=}, {lam=}")
    low, high = _support(m2, lam)
    while True:
        grid = _grid(low, high)
        site, message, link = _site_weight(grid, m2, lam), np.ones(len(grid)), _link_weight(grid, grid)
        for _ in range(200):
            message = link @ (site * message ** (2 * dimensions - 1))
            message = message + message[::-1]  # else rounding lets a broken phase choose a sign
            message /= message.max()
        source = site * message ** (2 * dimensions - 1)
        marginal = source * message
        step = grid[-1] - grid[-2]
        held = np.abs(grid[marginal > 1e-30 * marginal.max()])
        inner, outer = max(held.min() - step, low), held.max() + step
        if outer - (low if low == 0 else inner) > 0.7 * (high - low):
            return grid, source
        low, high = (low if low == 0 else inner), outer


def _beyond(lattice: Lattice, m2: float, lam: float) -> tuple[float, float]:
    """What the rule may miss where all sites together go farther than one site among many, and where it ends.

    The rule has the density of a site on the Bethe lattice, and no points where that is zero. It serves where
    exp(−S) of constant fields has vanished too, at 0.7 of the way from the well to the last point.
    """
    well, last = math.sqrt(-m2 / (2 * lam)) if m2 < 0 else 0.0, _bethe_source(len(lattice), m2, lam)[0][-1]
    weight = _site_weight(np.array([well + 0.7 * (last - well)]), m2, lam)[0]
    missed = float(weight ** volume(lattice))
    if missed > 1e-4:
        raise ValueError(
            f"expected a larger m2 or lam for the few sites of {lattice}, whose mean goes far, got {m2=}, "
            f"{lam=}"
        )
    return missed, float(last)


def _support(m2: float, lam: float) -> tuple[float, float]:
    """From which to which |φ| the weight of a site is above 10⁻³⁵ of its largest."""
    if m2 >= 0:
        return 0.0, math.sqrt(2 * _EXPONENT / (m2 + math.sqrt(m2 * m2 + 4 * lam * _EXPONENT)))
    well, width = -m2 / (2 * lam), math.sqrt(_EXPONENT / lam)
    return math.sqrt(max(well - width, 0.0)), math.sqrt(well + width)


def _grid(low: float, high: float) -> np.ndarray:
    """Equal steps through |φ| from low to high, of both signs."""
    length = 2 * (high - low)
    points = max(_GRID, 2 * math.ceil(length / (2 * _LARGEST_STEP)) + 1)
    if not points <= _LARGEST_GRID or not high - low > 1e-10 * high:
        raise ValueError(
            f"expected couplings that keep a site within intervals of {_LARGEST_GRID * _LARGEST_STEP:g} in "
            f"all, wide enough for floats, got |φ| from {low:g} to {high:g}"
        )
    if low == 0:
        return np.linspace(-high, high, points)
    half = np.linspace(low, high, points // 2)
    return np.concatenate((-half[::-1], half))


def _check_resolved(marginal: np.ndarray) -> None:
    """Refuse a density that its grid does not resolve.

    Sums over every second point then differ by ε of the whole, and the sum over all is wrong by about ε⁴.
    """
    total, difference = marginal.sum(), abs(marginal[::2].sum() - marginal[1::2].sum())
    if not difference < 1e-4 * total < math.inf:
        raise ValueError("expected couplings that a grid of some hundred points a site resolves")


def _link_weight(phi: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """exp(−(φ − φ')²) for every pair."""
    return np.exp(-((phi[:, None] - neighbour) ** 2))


def _site_weight(phi: np.ndarray, m2: float, lam: float) -> np.ndarray:
    """exp(min V − V(φ)); with two wells V − min V = λ (φ² + m²/2λ)², no difference of large numbers."""
    if m2 < 0:
        return np.exp(-lam * (phi**2 + m2 / (2 * lam)) ** 2)
    return np.exp(-m2 * phi**2 - lam * phi**4)


def _potential_minimum(m2: float, lam: float) -> float:
    """The minimum of V = m²φ² + λφ⁴."""
    return -m2 * m2 / (4 * lam) if m2 < 0 else 0.0
