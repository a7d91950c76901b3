"""The XY model without sampling: the ring in closed form, narrow tori, and a few sites with any couplings.

The weight of a bond is expanded in characters, exp(β cos ω) = Σ_n I_n(β) e^{inω}: each bond carries a whole
number n, and the integrals over the angles leave those in which the numbers into each site equal those out
of it. Around a ring they all are one number; along a torus their sum through each slice is conserved.
"""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ive

from latflow.lattice import checked_lattice, checked_plane, volume
from latflow.theories.base import Action
from latflow.types import Lattice

__all__ = [
    "XYAverages",
    "XYTorus",
    "xy_averages",
    "xy_ring_correlator",
    "xy_ring_energy",
    "xy_ring_helicity",
    "xy_ring_log_z",
    "xy_torus",
]

_CHUNK = 2**17
"""Configurations whose action is found at once."""


def xy_ring_log_z(length: int, beta: float) -> float:
    """log Z of a ring of L sites, Z = (2π)^L Σ_n I_n(β)^L.

    Args:
        length: L, at least 2.
        beta: β ≥ 0.

    Raises:
        ValueError: for a shorter ring, or another β.

    Example:
        >>> round(xy_ring_log_z(8, beta=1.0), 10)
        16.5934796289
    """
    ratio = _ring(length, beta)
    return length * (math.log(2 * math.pi * ive(0, beta)) + beta) + math.log(np.sum(ratio**length))


def xy_ring_energy(length: int, beta: float) -> float:
    """⟨E⟩/V = −Σ_n I_n^{L−1} I_n′ / Σ_n I_n^L with I_n′ = (I_{n−1} + I_{n+1})/2. Raises as the above."""
    ratio, n = _ring(length, beta), _characters(beta)
    slope = (ive(n - 1, beta) + ive(n + 1, beta)) / (2 * ive(0, beta))
    return -float(np.sum(ratio ** (length - 1) * slope) / np.sum(ratio**length))


def xy_ring_correlator(length: int, beta: float) -> np.ndarray:
    """C(t) = ⟨cos(θ_0 − θ_t)⟩ = Σ_n I_n^{L−t} I_{n+1}^t / Σ_n I_n^L for t = 0 … L−1; its sum is V⟨M²⟩.

    Raises as `xy_ring_log_z`.
    """
    ratio, n = _ring(length, beta), _characters(beta)
    following = ive(n + 1, beta) / ive(0, beta)
    times = np.arange(length)[:, None]
    return (ratio ** (length - times) * following**times).sum(1) / np.sum(ratio**length)


def xy_ring_helicity(length: int, beta: float) -> float:
    """Υ = L ⟨n²⟩/β: a twist by φ multiplies the term n of Z by e^{inφ}. As `xy_ring_log_z`, for β > 0."""
    if beta == 0:
        raise ValueError("expected β > 0 for a helicity modulus, got 0")
    ratio, n = _ring(length, beta), _characters(beta)
    return float(length * np.sum(n**2 * ratio**length) / np.sum(ratio**length) / beta)


class XYTorus(NamedTuple):
    """A torus by its transfer matrix, and how much the last refinement changed.

    Attributes:
        log_z: log Z.
        energy: ⟨E⟩/V.
        helicity_modulus: Υ along the longer side, of two equal ones along both.
        error: of log Z, that of the others being of the same order.
    """

    log_z: float
    energy: float
    helicity_modulus: float
    error: float


@lru_cache(maxsize=64)
def xy_torus(lattice: Lattice, beta: float, tolerance: float = 1e-7, states: int = 1600) -> XYTorus:
    """log Z, energy and helicity modulus of a narrow torus, by the transfer matrix on characters.

        Z = (2π)^V Σ_N Tr T_N^L,    T_N = D^{1/2} B D^{1/2},    D = Π_j I_{n_j}(β),   Σ_j n_j = N

    A state gives each of the W bonds between two slices its number n_j; B is the multiplication with the
    weight of the bonds within a slice, whose matrix is a Fourier transform, ŵ(n − n′). No entry is negative,
    so that nothing cancels, and leaving out all |n_j| > m makes Z too small by what falls factorially in m.
    A twist by φ multiplies the term N by e^{iNφ}, so that Υ = ⟨N²⟩ L/(Wβ).

    Args:
        lattice: two sides, each at least 2; the shorter one is W; up to 4 it takes seconds for β ≈ 1.
        beta: β > 0.
        tolerance: m grows until log Z changes by less, …
        states: … or until a sector has more states.

    Raises:
        ValueError: for another lattice, a β that is not positive, or where so many states are not enough:
            unless the last change is at most half of the one before, so that the error is known.

    Example:
        >>> round(xy_torus((4, 4), beta=1.0).log_z, 5)
        40.05351
    """
    width, length = sorted(checked_plane(lattice))
    if not 0 < beta < math.inf:
        raise ValueError(f"expected a positive, finite beta, got {beta}")
    found: list[XYTorus] = []
    possible = [m for m in range(2, 100) if _largest_sector(width, m) <= states]
    # numbers up to a few √β count
    for highest in possible if possible and possible[-1] > 2 * math.sqrt(beta) else ():
        found.append(_torus(width, length, beta, highest))
        if len(found) > 1 and (change := found[-1].log_z - found[-2].log_z) < tolerance:
            return found[-1]._replace(error=abs(change))
    changes = np.abs(np.diff([torus.log_z for torus in found])[-2:])
    if len(changes) < 2 or changes[1] > changes[0] / 2:
        raise ValueError(
            f"the lattice {lattice} is too wide for β = {beta:g}: expected one that needs at most {states} "
            "states in a sector"
        )
    return found[-1]._replace(error=float(changes[1]))


class XYAverages(NamedTuple):
    """Expectation values by quadrature over all angles.

    Attributes:
        log_z: log Z.
        action: ⟨S⟩.
        m_along: ⟨M₁⟩.
        m_squared: ⟨M²⟩.
        m_fourth: ⟨M⁴⟩.
    """

    log_z: float
    action: float
    m_along: float
    m_squared: float
    m_fourth: float


def xy_averages(action: Action, points: int = 24, tolerance: float = 1e-6) -> XYAverages:
    """Z = ∫ Π dθ exp(−S) and means of a theory of few angles, by the trapezoid rule at each site.

    The rule converges faster than any power of the number of points, once these resolve the weight: the
    result with three quarters of the points must agree within the tolerance, and then the error is about the
    square of the change.

    Args:
        action: of site angles; on V sites, points^V configurations are summed, at most 2^26.
        points: equally spaced angles of each site.
        tolerance: the most by which log Z may change when a quarter of the points is left out.

    Raises:
        ValueError: for too many configurations, and for couplings that need more points.
    """
    found = _averages(action, points)
    if not abs(found.log_z - _averages(action, 3 * points // 4).log_z) < tolerance:
        raise ValueError(
            f"expected weaker couplings, or more points than {points}, which do not resolve exp(−S), got "
            f"{action}"
        )
    return found


def _averages(action: Action, points: int) -> XYAverages:
    """What `xy_averages` gives, whatever its error."""
    sites = volume(action.lattice)
    if sites * math.log2(points) > 26:
        raise ValueError(f"expected at most 2^26 configurations, got {points}^{sites}")
    nodes = 2 * math.pi * (torch.arange(points, dtype=torch.float64) + 0.5) / points - math.pi
    actions, moments = [], []
    for first in range(0, points**sites, _CHUNK):
        numbers = torch.arange(first, min(first + _CHUNK, points**sites))
        digits = numbers[:, None] // points ** torch.arange(sites) % points
        angles = nodes[digits]
        actions.append(action(angles.unflatten(1, action.lattice)))
        moments.append(torch.stack((angles.cos().mean(1), angles.sin().mean(1))))
    s, (along, across) = torch.cat(actions), torch.cat(moments, 1)
    lowest = s.min()
    log_sum = torch.logsumexp(lowest - s, 0)
    p, squared = torch.exp(lowest - s - log_sum), along**2 + across**2
    means = (float((p * values).sum()) for values in (s, along, squared, squared**2))
    return XYAverages(float(log_sum - lowest) + sites * math.log(2 * math.pi / points), *means)


_LARGEST_BETA = 1e9


def _ring(length: int, beta: float) -> np.ndarray:
    """I_n(β)/I_0(β)."""
    checked_lattice((length,))
    if length < 2 or not 0 <= beta < math.inf:
        raise ValueError(f"expected at least 2 sites and a finite β ≥ 0, got {length} and {beta}")
    if beta > _LARGEST_BETA:
        raise ValueError(f"expected a β of at most {_LARGEST_BETA:g}, whose sums are short, got {beta}")
    return ive(_characters(beta), beta) / ive(0, beta)


def _characters(beta: float) -> np.ndarray:
    """The whole numbers n of the sums: beyond, (I_n/I_0)² is below 10⁻²⁰."""
    last = 20 + math.ceil(10 * math.sqrt(beta))
    return np.arange(-last, last + 1)


def _largest_sector(width: int, highest: int) -> int:
    """The number of states with Σ n_j = 0 and all |n_j| ≤ m."""
    counts = np.ones(1, dtype=np.int64)
    for _ in range(width):
        counts = np.convolve(counts, np.ones(2 * highest + 1, dtype=np.int64))
    return int(counts.max())


def _torus(width: int, length: int, beta: float, highest: int) -> XYTorus:
    """What `xy_torus` gives, with all |n_j| ≤ m."""
    weight, slope = _row_weights(width, beta, 2 * highest)
    numbers = np.arange(-highest - 1, highest + 2)
    bond = ive(numbers, beta) / ive(0, beta)
    derivative = (bond[2:] + bond[:-2]) / 2 / bond[1:-1]  # I_n′/I_n
    every = np.array(list(itertools.product(range(-highest, highest + 1), repeat=width)))
    totals = every.sum(1)
    z = energy = squared = 0.0
    for charge in range(width * highest + 1):
        states = every[totals == charge]
        root = np.sqrt(bond[1:-1][states + highest].prod(1))
        across = tuple(states[:, None, j] - states[None, :, j] for j in range(width))
        transfer = root[:, None] * weight[across] * root
        power = np.linalg.matrix_power(transfer, length - 1)
        along = derivative[states + highest].sum(1)
        twice = 1 if charge == 0 else 2  # N and −N alike
        part = twice * float((power * transfer).sum())
        z += part
        energy += twice * length * float((power * transfer).sum(1) @ along)
        energy += twice * length * float((power * (root[:, None] * slope[across] * root)).sum())
        squared += charge**2 * part
        if part < 1e-14 * z:
            break
    sites = width * length
    scale = sites * (math.log(2 * math.pi * ive(0, beta)) + beta) + length * _log_scale(width, beta)
    return XYTorus(
        log_z=scale + math.log(z),
        energy=-energy / z / sites,
        helicity_modulus=squared / z * length / (width * beta),
        error=math.inf,
    )


def _row_weights(width: int, beta: float, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """The Fourier coefficients of w = exp(β Σ_j cos(θ_j − θ_{j+1})) and ∂w/∂β, over exp(_log_scale)."""
    points = 2 * reach + 2 * math.ceil(4 + 2 * math.sqrt(beta))
    axes = np.meshgrid(*[2 * math.pi * np.arange(points) / points] * width, indexing="ij")
    pairs = zip(axes, axes[1:] + axes[:1], strict=True)
    cosines = np.sum([np.cos(one - other) for one, other in pairs], axis=0)
    weight = np.exp(beta * cosines - _log_scale(width, beta))
    found, slope = (np.fft.fftn(values).real / points**width for values in (weight, weight * cosines))
    return found, slope


def _log_scale(width: int, beta: float) -> float:
    """A number near log ŵ(0), with which nothing overflows."""
    return width * (beta + math.log(ive(0, beta)))
