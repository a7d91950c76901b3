"""U(1) gauge theory in two dimensions, S = −β Σ cos P: a sum over one whole number, whatever the lattice.

The weight of a plaquette is expanded in characters, exp(β cos p) = Σ_n I_n(β) exp(inp); the links then force
the same n on all V plaquettes. With the number continued to real ν,

    J(ν) = π⁻¹ ∫₀^π exp(β cos p) cos(νp) dp,   J(n) = I_n(β),

J(ν)^V also holds the distribution of the topological charge. Only V enters, not the two sides. Everything is
computed relative to I_0(β), so that neither a large volume nor a large β overflows.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ive, roots_legendre

from latflow.lattice import checked_plane, volume

_AT_ONCE = 2**22
"""Values of the integrand that are held at once."""

__all__ = ["u1_charge_distribution", "u1_charge_squared", "u1_log_z", "u1_plaquette"]


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


def u1_plaquette(lattice: Sequence[int], beta: float) -> float:
    """⟨cos P⟩ = Z⁻¹ Σ_n I_n^{V−1} I_n′ with I_n′ = (I_{n−1} + I_{n+1})/2. Raises as `u1_log_z`."""
    sites = _checked(lattice, beta)
    n = _characters(beta, sites)
    ratio = ive(n, beta) / ive(0, beta)
    slope = (ive(n - 1, beta) + ive(n + 1, beta)) / (2 * ive(0, beta))
    return float(np.sum(ratio ** (sites - 1) * slope) / np.sum(ratio**sites))


def u1_charge_squared(lattice: Sequence[int], beta: float) -> float:
    """⟨Q²⟩ of the topological charge, V times the topological susceptibility.

        ⟨Q²⟩ = −(4π² Z)⁻¹ Σ_n [ V J^{V−1} J″ + V(V−1) J^{V−2} J′² ]_{ν=n}

    The terms cancel where ⟨Q²⟩ is tiny: the error is about 10⁻¹⁴ V, not a fraction of the result, and what
    rounding makes negative is zero. Raises as `u1_log_z`.
    """
    sites = _checked(lattice, beta)
    n = _characters(beta, sites)
    j, first, second = _continued(n, beta, derivatives=2)
    curvature = sites * j ** (sites - 1) * second + sites * (sites - 1) * j ** (sites - 2) * first**2
    return max(float(-np.sum(curvature) / (4 * math.pi**2 * np.sum(j**sites))), 0.0)


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
    # J falls as a power of ν at worst, by the jump of the slope of exp(β cos p) at p = π
    tail = math.exp(-2 * beta) / (math.pi * ive(0, beta)) * 10 ** (10 / (sites - 1))
    coarse = np.arange(0, max(tail, _last_character(beta, sites)), 1 / 8)
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
