"""The Fourier layer: a free field, which carries the two-point function."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from latflow.densities.flows.base import Bijection
from latflow.densities.flows.rational_quadratic import precise
from latflow.lattice import lattice_momentum_squared, momenta
from latflow.types import Field, Lattice, LogProb


class FourierLayer(Bijection):
    """Multiplies each momentum mode by its own positive width: y(p) = σ(p) x(p), log_det = Σ_p log σ(p).

        log σ(p) = a − (ν/2) log(k̂² + M²) + c₁ t + c₂ t² + c₃ u,
        k̂² = Σ_μ 4 sin²(p_μ/2),   t = k̂²/(4d),   u = Σ_μ 16 sin⁴(p_μ/2) / (16 d)

    From normal numbers, ν = 1, a = −½ log 2 and c = 0 make the free field of mass M, ⟨φφ⟩ = 1/(2(k̂² + M²)).
    The powers of t and u let the width bend at the scale of the lattice, u as far as the lattice breaks
    rotations. σ depends on the momentum alone, so the same layer serves every lattice; it commutes with
    translations and reflections and with φ → −φ.

    Args:
        mass: M > 0, the initial mass in lattice units.
        exponent: the initial ν.
        log_scale: the initial a.

    Raises:
        ValueError: when the mass is not positive.
    """

    def __init__(
        self, mass: float = 1.0, exponent: float = 1.0, log_scale: float = -0.5 * math.log(2)
    ) -> None:
        super().__init__()
        if not mass > 0:
            raise ValueError(f"expected a positive mass, got {mass}")
        self.log_mass_squared: nn.Parameter = nn.Parameter(torch.tensor(2 * math.log(mass)))
        self.exponent: nn.Parameter = nn.Parameter(torch.tensor(float(exponent)))
        self.log_scale: nn.Parameter = nn.Parameter(torch.tensor(float(log_scale)))
        self.bend: nn.Parameter = nn.Parameter(torch.zeros(3))

    def log_width(self, lattice: Lattice) -> Tensor:
        """log σ(p), shape `lattice`, in the precision of the parameters."""
        k2, k4 = _momentum_powers(tuple(lattice), self.bend.dtype, self.bend.device)
        t, u = k2 / (4 * len(lattice)), k4 / (16 * len(lattice))
        free = -0.5 * self.exponent * torch.log(k2 + torch.exp(self.log_mass_squared))
        return self.log_scale + free + self.bend[0] * t + self.bend[1] * t * t + self.bend[2] * u

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        return self._multiplied(x, self.log_width(x.shape[1:]))

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self._multiplied(y, -self.log_width(y.shape[1:]))

    @staticmethod
    def _multiplied(x: Field, log_width: Tensor) -> tuple[Field, LogProb]:
        if not len(x):  # of which no library makes a transform
            return x, log_width.sum(dtype=torch.float64).expand(0)
        axes = tuple(range(1, x.ndim))
        half = log_width[..., : x.shape[-1] // 2 + 1]  # a real field has x(−p) = x(p)*
        modes = torch.fft.rfftn(precise(x), dim=axes) * torch.exp(half)
        y = torch.fft.irfftn(modes, s=x.shape[1:], dim=axes)
        return y.to(x), log_width.sum(dtype=torch.float64).expand(len(x))


@lru_cache(maxsize=16)
def _momentum_powers(lattice: Lattice, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Σ_μ (2 sin(p_μ/2))² and Σ_μ (2 sin(p_μ/2))⁴, kept so that no step waits for a copy to the device."""
    k2 = lattice_momentum_squared(lattice)
    k4 = (2 * torch.sin(momenta(lattice) / 2)).pow(4).sum(0)
    return k2.to(device, dtype), k4.to(device, dtype)
