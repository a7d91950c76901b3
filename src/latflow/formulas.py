"""Functions of expectation values: plain formulas, which take numbers, arrays, or what behaves like these."""

import math
from typing import Any

import numpy as np

Expectation = Any
"""An expectation value: a number, an array of them, or an `Obs` of pyerrors."""


def ratio(numerator: Expectation, denominator: Expectation) -> Expectation:
    """numerator / denominator; nan or infinite for plain numbers too where the denominator is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(numerator, denominator)


def susceptibility(m_squared: Expectation, m_abs: Expectation, volume: int) -> Expectation:
    """χ = V (⟨M²⟩ − ⟨|M|⟩²), the connected susceptibility of a finite volume."""
    return volume * (m_squared - m_abs**2)


def binder_cumulant(m_squared: Expectation, m_fourth: Expectation) -> Expectation:
    """U = 1 − ⟨M⁴⟩ / (3 ⟨M²⟩²): 0 for a Gaussian, 2/3 deep in the broken phase; nan where M is zero."""
    return 1 - ratio(m_fourth, 3 * m_squared**2)


def correlation_length(zero_mode: Expectation, lowest_mode: Expectation, length: int) -> Expectation:
    """Second-moment correlation length ξ = √(G(0)/G(k) − 1) / (2 sin(π/L)), with k = 2π/L.

    Args:
        zero_mode: G(0) = V⟨M²⟩.
        lowest_mode: G(k), the expectation value of `observables.lowest_mode`.
        length: L ≥ 2, the longest side.

    Returns:
        ξ in lattice units; nan where G(k) > G(0).
    """
    with np.errstate(invalid="ignore"):
        return np.sqrt(ratio(zero_mode, lowest_mode) - 1) / (2 * math.sin(math.pi / length))


def effective_mass(correlator: Expectation) -> Expectation:
    """Effective masses m(t) = arccosh[(C(t−1) + C(t+1)) / (2 C(t))] for t = 1 … T−2.

    The correlator is given for t = 0 … T−1. For one state, C(t) ∝ cosh(m (t − L0/2)), they are m at every t;
    they are nan where the argument is below 1.
    """
    cosh = ratio(correlator[:-2] + correlator[2:], 2 * correlator[1:-1])
    with np.errstate(invalid="ignore"):
        return np.arccosh(cosh)


def specific_heat(action: Expectation, action_squared: Expectation, volume: int) -> Expectation:
    """C = V⁻¹ (⟨S²⟩ − ⟨S⟩²), which without a field is K² V⁻¹ ∂² log Z/∂K² = −K² V⁻¹ ∂⟨E⟩/∂K."""
    return (action_squared - action**2) / volume


def entropy(log_z: Expectation, action: Expectation) -> Expectation:
    """−Σ_s p(s) log p(s) = log Z + ⟨S⟩, of the whole lattice: V log 2 at most for two-valued spins."""
    return log_z + action


def effective_sample_size(weight: Any) -> Any:
    """ESS = (Σw)² / (N Σw²), in (0, 1]: the share of N draws that count.

    Args:
        weight: w ≥ 0 of each, up to a common factor, as an array or a tensor: divided by the largest, so that
            none overflows.
    """
    return weight.sum() ** 2 / (math.prod(weight.shape) * (weight**2).sum())
