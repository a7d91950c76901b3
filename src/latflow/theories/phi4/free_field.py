"""The free scalar field, S = φKφ with K = −Δ + m²: a Gaussian, diagonal in momentum space.

There is no factor ½ in S, so that ⟨φφ⟩ = ½ K⁻¹. All momenta p_μ = 2π n_μ / L_μ, all results in float64.
"""

import math
from collections.abc import Sequence

import numpy as np

from latflow.lattice import checked_lattice, lattice_momentum_squared, volume


def free_field_log_z(lattice: Sequence[int], m2: float) -> float:
    """Logarithm of the partition function, log Z = (V/2) log π − ½ Σ_p log(k̂² + m²).

    Args:
        lattice: side lengths.
        m2: squared mass m² > 0.

    Raises:
        ValueError: unless m² > 0, for otherwise the zero mode has no normalisable weight.

    Example:
        >>> round(free_field_log_z((4, 4), m2=1.25), 10)
        -3.3600416249
    """
    kernel = _kernel(lattice, m2)
    return float(kernel.size / 2 * math.log(math.pi) - np.log(kernel).sum() / 2)


def free_field_phi_squared(lattice: Sequence[int], m2: float) -> float:
    """⟨φ²⟩ = V⁻¹ Σ_p ½ (k̂² + m²)⁻¹. Raises ValueError unless m² > 0."""
    return float(np.mean(0.5 / _kernel(lattice, m2)))


def free_field_propagator(lattice: Sequence[int], m2: float) -> np.ndarray:
    """⟨φ_0 φ_x⟩ = ½ (K⁻¹)_{0x} = V⁻¹ Σ_p ½ exp(ipx) (k̂² + m²)⁻¹ for every x, shape `lattice`.

    Far from x = 0 it is exact to 10⁻¹⁶ of its value there. Raises ValueError unless m² > 0.
    """
    return np.fft.ifftn(0.5 / _kernel(lattice, m2)).real


def free_field_two_point(lattice: Sequence[int], m2: float) -> np.ndarray:
    """Zero-momentum correlator C(t) = Σ_x⃗ ⟨φ_(0,0) φ_(t,x⃗)⟩ along direction 0, shape (L0//2 + 1,).

    It is the expectation value of `observables.two_point`, and a pure cosh,
    C(t) ∝ cosh(E (t − L0/2)) with 2 sinh(E/2) = m. Raises ValueError unless m² > 0.
    """
    length, m = checked_lattice(lattice)[0], math.sqrt(_positive(m2))
    energy, times = 2 * math.asinh(m / 2), np.arange(length // 2 + 1)
    # ½ cosh(E (t − L0/2)) / (2 sinh E sinh(E L0/2)), with no number that is the small difference of others
    both_ways = np.exp(-energy * times) + np.exp(-energy * (length - times))
    return both_ways / (-4 * m * math.sqrt(1 + m2 / 4) * math.expm1(-energy * length))


def free_field_zero_mode(m2: float) -> float:
    """G(0) = V⟨M²⟩ = 1/(2m²), on every lattice. Raises ValueError unless m² > 0."""
    return 0.5 / _positive(m2)


def free_field_lowest_mode(lattice: Sequence[int], m2: float) -> float:
    """G(k) = ½ (4 sin²(π/L) + m²)⁻¹, L the longest side: the expectation value of `observables.lowest_mode`.

    With `free_field_zero_mode` the second-moment correlation length is exactly 1/m. Raises ValueError unless
    m² > 0.
    """
    longest = max(checked_lattice(lattice))
    return 0.5 / (4 * math.sin(math.pi / longest) ** 2 + _positive(m2))


def free_field_action(lattice: Sequence[int]) -> float:
    """⟨S⟩ = V/2: one half for each degree of freedom, whatever the mass."""
    return volume(checked_lattice(lattice)) / 2


def _kernel(lattice: Sequence[int], m2: float) -> np.ndarray:
    """k̂² + m² for all momenta, the eigenvalues of K."""
    return lattice_momentum_squared(checked_lattice(lattice)).numpy() + _positive(m2)


def _positive(m2: float) -> float:
    if not 0 < m2 < math.inf:
        raise ValueError(f"the free field needs m2 > 0, finite, got {m2}")
    return m2
