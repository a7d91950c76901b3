"""U(1) gauge theory in two dimensions, S = −β Σ cos P: a sum over one whole number, whatever the lattice.

The weight of a plaquette is expanded in characters, exp(β cos p) = Σ_n I_n(β) exp(inp); the links then force
the same n on all V plaquettes. With the number continued to real ν,

    J(ν) = π⁻¹ ∫₀^π exp(β cos p) cos(νp) dp,   J(n) = I_n(β),

J(ν)^V also holds the distribution of the topological charge, and the theory with the weight exp(iθQ): there
the sum over n becomes one over ν = n + θ/2π. Only V enters, not the two sides. Everything is computed
relative to the largest term, so that neither a large volume nor a large β overflows.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ive, roots_legendre

from latflow.lattice import checked_plane, volume

_AT_ONCE = 2**22
"""Values of the integrand that are held at once."""

__all__ = [
    "u1_charge_at_theta",
    "u1_charge_distribution",
    "u1_charge_squared",
    "u1_log_z",
    "u1_plaquette",
    "u1_sine_charge_squared",
    "u1_theta_ratio",
    "u1_wilson_loop",
]


_MOST_CHARACTERS = 1_000_000
"""More terms of a sum than any coupling needs at which something can be sampled."""


def u1_log_z(lattice: Sequence[int], beta: float) -> float:
    """Logarithm of the partition function, log Z = log Σ_n I_n(β)^V, with the normalised measure Π dθ/(2π).

    With the flat measure Π dθ over all 2V angles, log Z is larger by 2V log 2π.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: the inverse coupling β ≥ 0.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2, or unless β ≥ 0.

    Example:
        >>> round(u1_log_z((2, 2), beta=1.0), 10)
        1.0203191668
    """
    sites = _checked(lattice, beta)
    ratio = ive(_characters(beta, sites), beta) / ive(0, beta)
    return float(sites * (beta + math.log(ive(0, beta))) + math.log(np.sum(ratio**sites)))


def u1_plaquette(lattice: Sequence[int], beta: float, theta: float = 0.0) -> float:
    """⟨cos P⟩ = Z⁻¹ Σ_ν J^{V−1} J_c with J_c = (J(ν−1) + J(ν+1))/2, at ν = n + θ/2π.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: the inverse coupling β ≥ 0.
        theta: θ of the weight exp(iθQ).

    Raises:
        ValueError: as `u1_log_z`, and for a θ that is not finite.
    """
    sites = _checked(lattice, beta)
    if theta == 0:
        n = _characters(beta, sites)
        ratio = ive(n, beta) / ive(0, beta)
        slope = (ive(n - 1, beta) + ive(n + 1, beta)) / (2 * ive(0, beta))
        return float(np.sum(ratio ** (sites - 1) * slope) / np.sum(ratio**sites))
    nu = _shifted(theta, beta, sites)
    (j,), (below,), (above,) = (_continued(nu + step, beta) for step in (0, -1, 1))
    scale = np.max(np.abs(j))
    scaled = j / scale
    return float(np.sum(scaled ** (sites - 1) * (below + above)) / (2 * scale * np.sum(scaled**sites)))


def u1_wilson_loop(lattice: Sequence[int], beta: float, area: int, theta: float = 0.0) -> float:
    """⟨cos W⟩ = Z⁻¹ Σ_ν J^{V−A} (J(ν+1)^A + J(ν−1)^A)/2 of a loop that encloses A plaquettes, ν = n + θ/2π.

    In a large volume it is (I_1/I_0)^A, an area law with the string tension −log(I_1/I_0). Two Polyakov loops
    in opposite senses at a distance r are the one of A = r L0.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: the inverse coupling β ≥ 0.
        area: A, from 0 to V.
        theta: θ of the weight exp(iθQ).

    Raises:
        ValueError: as `u1_plaquette`, and for an area that does not fit on the lattice.

    Example:
        >>> round(u1_wilson_loop((8, 8), 2.0, 1), 12)
        0.697774658011
    """
    sites = _checked(lattice, beta)
    if not 0 <= area <= sites:
        raise ValueError(f"expected an area of 0 to {sites} plaquettes, got {area}")
    nu = _characters(beta, sites) if theta == 0 else _shifted(theta, beta, sites)
    (j,), (below,), (above,) = (_continued(nu + step, beta) for step in (0, -1, 1))
    scale = np.max(np.abs(j))
    loop = (j / scale) ** (sites - area) * ((below / scale) ** area + (above / scale) ** area) / 2
    return float(np.sum(loop) / np.sum((j / scale) ** sites))


def u1_sine_charge_squared(lattice: Sequence[int], beta: float, theta: float = 0.0) -> float:
    """⟨Q_s²⟩ of the charge Q_s = (2π)⁻¹ Σ_x sin P(x), which is no whole number.

        ⟨Q_s²⟩ = (4π² Z)⁻¹ Σ_ν [ V J^{V−1} A − V(V−1) J^{V−2} B² ],   ν = n + θ/2π
        A = [J(ν) − (J(ν−2) + J(ν+2))/2]/2,    B = [J(ν−1) − J(ν+1)]/2

    Rounding, arguments and exceptions are those of `u1_charge_squared`.
    """
    sites = _checked(lattice, beta)
    nu = _characters(beta, sites) if theta == 0 else _shifted(theta, beta, sites)
    j, below, above, far_below, far_above = (_continued(nu + step, beta)[0] for step in (0, -1, 1, -2, 2))
    scale = np.max(np.abs(j))
    square = (j - (far_below + far_above) / 2) / (2 * scale)
    single = (below - above) / (2 * scale)
    j = j / scale
    squares = sites * j ** (sites - 1) * square - sites * (sites - 1) * j ** (sites - 2) * single**2
    found = float(np.sum(squares) / (4 * math.pi**2 * np.sum(j**sites)))
    return max(found, 0.0) if theta == 0 else found


def u1_charge_squared(lattice: Sequence[int], beta: float, theta: float = 0.0) -> float:
    """⟨Q²⟩ of the topological charge, at θ = 0 V times the topological susceptibility.

        ⟨Q²⟩ = −(4π² Z)⁻¹ Σ_ν [ V J^{V−1} J″ + V(V−1) J^{V−2} J′² ],   ν = n + θ/2π

    The terms cancel where ⟨Q²⟩ is tiny: the error is about 10⁻¹⁴ V, not a fraction of the result, and what
    rounding makes negative at θ = 0 is zero. Elsewhere ⟨Q²⟩ = −Z″(θ)/Z(θ) may be negative. Arguments and
    exceptions are those of `u1_plaquette`.
    """
    sites = _checked(lattice, beta)
    nu = _characters(beta, sites) if theta == 0 else _shifted(theta, beta, sites)
    j, first, second = _continued(nu, beta, derivatives=2)
    scale = np.max(np.abs(j))
    j, first, second = j / scale, first / scale, second / scale
    curvature = sites * j ** (sites - 1) * second + sites * (sites - 1) * j ** (sites - 2) * first**2
    found = float(-np.sum(curvature) / (4 * math.pi**2 * np.sum(j**sites)))
    return max(found, 0.0) if theta == 0 else found


def u1_theta_ratio(lattice: Sequence[int], beta: float, theta: float) -> float:
    """Z(θ)/Z(0) = ⟨cos θQ⟩ = Σ_n J(n + θ/2π)^V / Σ_n J(n)^V, the cost of reweighting to θ.

    Arguments and exceptions are those of `u1_plaquette`.

    Example:
        >>> round(u1_theta_ratio((8, 8), 2.0, math.pi), 6)
        0.004818
    """
    sites = _checked(lattice, beta)
    (j,), (whole,) = (_continued(nu, beta) for nu in (_shifted(theta, beta, sites), _characters(beta, sites)))
    scale = np.max(np.abs(j))
    return float(scale**sites * np.sum((j / scale) ** sites) / np.sum(whole**sites))


def u1_charge_at_theta(lattice: Sequence[int], beta: float, theta: float) -> float:
    """⟨Q⟩_θ/i = −∂ log Z/∂θ = −(2πZ)⁻¹ Σ_ν V J^{V−1} J′, which is real: ⟨Q sin θQ⟩/⟨cos θQ⟩ at θ = 0.

    Arguments and exceptions are those of `u1_plaquette`.
    """
    sites = _checked(lattice, beta)
    j, first = _continued(_shifted(theta, beta, sites), beta, derivatives=1)
    scale = np.max(np.abs(j))
    scaled = j / scale
    slope = sites * np.sum(scaled ** (sites - 1) * first / scale)
    return float(-slope / (2 * math.pi * np.sum(scaled**sites)))


def u1_charge_distribution(lattice: Sequence[int], beta: float, charges: ArrayLike | int) -> np.ndarray:
    """P(Q) = Z⁻¹ ∫ dν J(ν)^V cos(2πνQ), the probability of each topological charge.

    The absolute error is below 10⁻¹⁰. No charge beyond V/2 exists: its probability is zero.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: the inverse coupling β ≥ 0.
        charges: whole numbers Q, of any shape.

    Returns:
        P(Q) in the shape of `charges`.

    Raises:
        ValueError: as `u1_log_z`, and for charges that are not whole numbers.

    Example:
        >>> u1_charge_distribution((8, 8), 2.0, [0, 1, 2]).round(6)
        array([0.358991, 0.239219, 0.071116])
    """
    sites, q = _checked(lattice, beta), np.asarray(charges, dtype=np.float64)
    if not np.all(q == np.round(q)):
        raise ValueError(f"expected whole numbers as charges, got {charges!r}")
    possible = np.abs(q) <= sites / 2
    largest = float(np.max(np.abs(q), initial=0, where=possible))
    coarse = np.arange(0, _last_of_all(beta, sites), 1 / 8)
    reach = coarse[np.abs(_continued(coarse, beta)[0]) ** sites > 1e-18][-1] + 1 / 8
    # the sum over steps of 1/period gives Σ_m P(Q + m period): by Hoeffding's bound nothing else than P(Q)
    period = math.ceil(min(sites + 1, largest + math.sqrt(20 * sites) + 1))
    nu = np.arange(1, math.ceil(reach * period)) / period
    weight = _continued(nu, beta)[0] ** sites
    total = np.sum(_continued(_characters(beta, sites), beta)[0] ** sites)
    density = [(1 + 2 * np.sum(weight * np.cos(2 * math.pi * nu * one))) / (period * total) for one in q.flat]
    return np.where(possible, np.maximum(np.reshape(density, q.shape), 0), 0.0)


def _checked(lattice: Sequence[int], beta: float) -> int:
    """The volume V."""
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"expected a finite beta of at least 0, got {beta}")
    sites = volume(checked_plane(lattice))
    if (last := _last_character(beta, sites)) > _MOST_CHARACTERS:
        raise ValueError(f"expected a beta whose sums have at most {_MOST_CHARACTERS} terms, got {last}")
    return sites


def _last_character(beta: float, sites: int) -> int:
    """From here on (I_n/I_0)^V is below 10⁻⁸⁰."""
    return 20 + math.ceil(20 * math.sqrt(beta / sites))


def _last_of_all(beta: float, sites: int) -> float:
    """From here on (J(ν)/J(0))^V counts no more, for any ν.

    J falls as a power of ν at worst, by the jump of the slope of exp(β cos p) at p = π.
    """
    tail = math.exp(-2 * beta) / (math.pi * ive(0, beta)) * 10 ** (10 / (sites - 1))
    return float(max(tail, _last_character(beta, sites)))


def _shifted(theta: float, beta: float, sites: int) -> np.ndarray:
    """The ν = n + θ/2π of the sums at θ, about zero."""
    if not math.isfinite(theta):
        raise ValueError(f"expected a finite theta, got {theta}")
    turn = theta / (2 * math.pi)
    last = math.ceil(_last_of_all(beta, sites))
    return np.arange(-last, last + 1) + (turn - round(turn))


def _characters(beta: float, sites: int) -> np.ndarray:
    """The whole numbers n of the sums."""
    last = _last_character(beta, sites)
    return np.arange(-last, last + 1)


def _continued(nu: np.ndarray, beta: float, derivatives: int = 0) -> list[np.ndarray]:
    """J(ν) and its derivatives, over J(0), by Gauss's rule as far as exp(β cos p) is not zero."""
    highest = float(np.max(np.abs(nu), initial=0))
    share = 2 / math.pi * math.asin(min(1.0, math.sqrt(375 / beta))) if beta else 1.0
    nodes, weights = roots_legendre(128 + 2 * math.ceil(share * (highest + 10 * math.sqrt(beta))))
    p = share * math.pi / 2 * (nodes + 1)
    weights = weights * np.exp(beta * (np.cos(p) - 1))
    weights = weights / weights.sum()
    parts = np.array_split(nu, 1 + nu.size * p.size // _AT_ONCE)
    # the k-th derivative of cos(νp) in ν is p^k cos(νp + kπ/2)
    return [
        np.concatenate(
            [np.cos(np.multiply.outer(some, p) + k * math.pi / 2) @ (weights * p**k) for some in parts]
        )
        for k in range(derivatives + 1)
    ]
