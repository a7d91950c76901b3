"""Observables of spins ±1, besides those that they share with a scalar field."""

from latflow.types import LogProb, Spins


def bond_energy(x: Spins) -> LogProb:
    """E/V = −V⁻¹ Σ_x Σ_μ s_x s_{x+μ} of each configuration, between −d and d.

    With uniform couplings and no field S = K E, and ⟨E⟩ = −∂ log Z/∂K.
    """
    products = sum(x * x.roll(-1, axis) for axis in range(1, x.ndim))
    return -(x.new_zeros(()) + products).flatten(1).mean(1)
