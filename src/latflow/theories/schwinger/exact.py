"""Free Wilson fermions in two dimensions: D at zero links is diagonal in momentum space.

    D(p) = W + 2iκ Σ_μ σ_μ sin p_μ,   W = 1 − 2κ Σ_μ cos p_μ,   d = det D(p) = W² + 4κ² Σ_μ sin² p_μ

p_1 = 2πn/L1, and p_0 = 2π(n + ½)/L0 with antiperiodic boundaries in time, 2πn/L0 with periodic ones.
"""

from collections.abc import Sequence

import numpy as np

from latflow.lattice import checked_plane
from latflow.wilson import Boundary

__all__ = ["free_fermion_condensate", "free_fermion_log_det", "free_fermion_pion_correlator"]


_LARGEST_KAPPA = 1e150
"""Beyond, the square overflows."""


def free_fermion_log_det(lattice: Sequence[int], kappa: float, boundary: Boundary = "antiperiodic") -> float:
    """log det D = Σ_p log d(p) of one flavour.

    Args:
        lattice: the two side lengths (L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2, a boundary of another
            name, a κ that is not finite, or where D is singular, as at κ = ¼ with periodic boundaries.

    Example:
        >>> round(free_fermion_log_det((8, 8), kappa=0.276), 9)
        8.378264936
    """
    return float(np.log(_momenta(lattice, kappa, boundary)[1]).sum())


def free_fermion_condensate(
    lattice: Sequence[int], kappa: float, boundary: Boundary = "antiperiodic"
) -> float:
    """V⁻¹ Tr D⁻¹ = V⁻¹ Σ_p 2W/d. Arguments and exceptions are those of `free_fermion_log_det`.

    Example:
        >>> round(free_fermion_condensate((4, 4), kappa=0.276), 12)
        1.313476862141
    """
    mass, determinant = _momenta(lattice, kappa, boundary)
    return float(np.mean(2 * mass / determinant))


def free_fermion_pion_correlator(
    lattice: Sequence[int], kappa: float, boundary: Boundary = "antiperiodic"
) -> np.ndarray:
    """C(t) for t = 0 … L0//2, the expectation value of `observables.pion_correlator`.

        C(t) = 2 L1⁻¹ Σ_{p_1} { |w(t)|² + 4κ² (|s_0(t)|² + |s_1(t)|²) }

    with w, s_0, s_1 the sums L0⁻¹ Σ_{p_0} exp(i p_0 t) (…)/d of W, sin p_0 and sin p_1. Arguments and
    exceptions are those of `free_fermion_log_det`.
    """
    mass, determinant = _momenta(lattice, kappa, boundary)
    sines = (np.sin(p) for p in _axes(lattice, boundary))
    parts = [mass / determinant, *(2 * kappa * sine / determinant for sine in sines)]
    # a shift of p_0 by π/L0 turns the sum over p_0 by a phase, which |…|² does not see
    squared = sum(np.abs(np.fft.ifft(part, axis=0)) ** 2 for part in parts)
    correlator = 2 * np.mean(squared, axis=1)
    return correlator[: lattice[0] // 2 + 1]


def _axes(lattice: Sequence[int], boundary: Boundary) -> tuple[np.ndarray, np.ndarray]:
    """p_0 as a column and p_1 as a row."""
    l0, l1 = checked_plane(lattice)
    shifts = {"antiperiodic": 0.5, "periodic": 0.0}
    if boundary not in shifts:
        raise ValueError(f"expected the boundary to be one of {tuple(shifts)}, got {boundary!r}")
    return 2 * np.pi * (np.arange(l0)[:, None] + shifts[boundary]) / l0, 2 * np.pi * np.arange(l1)[None] / l1


def _momenta(lattice: Sequence[int], kappa: float, boundary: Boundary) -> tuple[np.ndarray, np.ndarray]:
    """(W, d) of all momenta."""
    p0, p1 = _axes(lattice, boundary)
    if not abs(kappa) < _LARGEST_KAPPA:
        raise ValueError(f"expected |kappa| below {_LARGEST_KAPPA:g}, got {kappa}")
    mass = 1 - 2 * kappa * (np.cos(p0) + np.cos(p1))
    determinant = mass**2 + 4 * kappa**2 * (np.sin(p0) ** 2 + np.sin(p1) ** 2)
    if determinant.min() < 1e-28 * max(1.0, kappa**2):
        raise ValueError(f"expected a regular D, got a zero mode at {kappa=} with {boundary} boundaries")
    return mass, determinant
