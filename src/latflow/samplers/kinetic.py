"""Fourier acceleration: momenta whose mass depends on the lattice momentum of the mode."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from latflow.lattice import lattice_momentum_squared
from latflow.types import Field, Lattice


@dataclass(frozen=True)
class FourierMass:
    """A mass for each mode of a scalar field, diagonal in momentum space.

        kinetic energy ½ Σ_p |π(p)|² / (V M(p)),   M(p) = scale · (k̂² + m²),   k̂² = Σ_μ 4 sin²(p_μ/2)

    With unit mass a mode of the free field S = φ(−Δ + m²)φ has the frequency ω(p) = √(2(k̂² + m²)); the step
    size is limited by the fastest, the trajectory length by the slowest. With this mass and the m² of the
    free field all modes share ω = √(2/scale). In an interacting theory the squared inverse correlation length
    ξ⁻² serves as m². Only the ratio of the scale to the trajectory length squared matters.

    Source: Batrouni, Katz, Kronfeld, Lepage, Svetitsky, Wilson, Langevin simulations of lattice field
    theories, Physical Review D 32 (1985) 2736.

    Args:
        m2: m² > 0, in lattice units.
        scale: a factor of all masses, positive.

    Raises:
        ValueError: unless both are positive and finite.
    """

    m2: float
    scale: float = 2.0

    def __post_init__(self) -> None:
        for name, value in (("m2", self.m2), ("scale", self.scale)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"expected a positive, finite {name}, got {value}")

    def spectrum(self, lattice: Lattice) -> Tensor:
        """M(p), shape `lattice`, float64."""
        return self.scale * (lattice_momentum_squared(lattice) + self.m2)

    def momentum(self, noise: Field) -> Field:
        """M^½ η: a momentum of this mass from standard normal numbers η."""
        return self._multiplied(noise, 0.5)

    def velocity(self, momentum: Field) -> Field:
        """dx/dt = M⁻¹ π."""
        return self._multiplied(momentum, -1.0)

    def _multiplied(self, x: Field, power: float) -> Field:
        axes = tuple(range(1, x.ndim))
        factor = _half_spectrum(self, power, tuple(x.shape[1:]), x.dtype, x.device)
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * factor, s=x.shape[1:], dim=axes)


@lru_cache(maxsize=32)
def _half_spectrum(
    mass: FourierMass, power: float, lattice: Lattice, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """M(p)^power where a transform of real numbers keeps p; stored, so that no step waits for a copy."""
    half = mass.spectrum(lattice)[..., : lattice[-1] // 2 + 1]
    return half.pow(power).to(device, dtype)
