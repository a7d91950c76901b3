"""Observables of Ising spins, besides those that they share with a scalar field, and what follows from ⟨S⟩.

The magnetisation, its moments, the Binder cumulant and the two-point function are those of `scalar`.
"""

from latflow.observables.scalar import Expectation
from latflow.types import LogProb, Spins


def bond_energy(x: Spins) -> LogProb:
    """E/V = −V⁻¹ Σ_x Σ_μ s_x s_{x+μ} of each configuration, between −d and d.

    With uniform couplings and no field S = K E, and ⟨E⟩ = −∂ log Z/∂K.
    """
    products = sum(x * x.roll(-1, axis) for axis in range(1, x.ndim))
    return -(x.new_zeros(()) + products).flatten(1).mean(1)


def specific_heat(action: Expectation, action_squared: Expectation, volume: int) -> Expectation:
    """C = V⁻¹ (⟨S²⟩ − ⟨S⟩²), which without a field is K² V⁻¹ ∂² log Z/∂K² = −K² V⁻¹ ∂⟨E⟩/∂K."""
    return (action_squared - action**2) / volume


def entropy(log_z: Expectation, action: Expectation) -> Expectation:
    """−Σ_s p(s) log p(s) = log Z + ⟨S⟩, of the whole lattice: V log 2 at most."""
    return log_z + action
