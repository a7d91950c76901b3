"""The vector field of a scalar field that couples all pairs of sites."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latflow.densities.flows.continuous.flow import BatchLast, VectorField, Velocity
from latflow.densities.flows.continuous.kernels import (
    Momenta,
    momenta_of,
    momentum_functions,
    number_of_functions,
)
from latflow.lattice import volume
from latflow.types import LogProb


class KernelField(VectorField):
    """Functions of single sites, coupled by symmetric kernels of the whole lattice.

        dφ/dt = Σ_j K_j * s_j(φ),   s_0(φ) = φ,  s_j(φ) = sin ω_j φ,   div = Σ_j K_j(r = 0) Σ_x s_j′(φ(x))

    Kernels are sums of the functions of momentum of `momentum_functions`, with free coefficients, so that the
    parameters know no lattice; the frequencies ω are trained too. Translations, reflections, exchanges of
    directions with the same coefficients and φ → −φ are exact symmetries. Source: Gerdes, de Haan, Rainone,
    Bondesan, Cheng, Learning lattice quantum field theories with equivariant continuous flows,
    arXiv:2207.00283, there with kernels of the distance.

    Args:
        dimensions: of the lattice.
        stages: parts of the time, each with coefficients of its own.
        frequencies: how many sines.
        degree: reach of the kernels beside the massive ones, in sites.
        mass: of the massive ones, such as 1/ξ.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self, dimensions: int, stages: int = 4, frequencies: int = 8, degree: int = 3, mass: float = 0.5
    ) -> None:
        super().__init__()
        if min(dimensions, stages) < 1 or min(frequencies, degree) < 0 or not mass > 0:
            raise ValueError(f"expected {stages=} ≥ 1, {frequencies=} ≥ 0, {degree=} ≥ 0 and {mass=} > 0")
        self.degree: int = degree
        self.mass: float = mass
        n = number_of_functions(dimensions, degree, (mass,))
        self.kernels: nn.Parameter = nn.Parameter(torch.zeros(stages, 1 + frequencies, n))
        self.frequencies: nn.Parameter = nn.Parameter(torch.linspace(0.5, 4.0, frequencies))

    def stages(self, x: BatchLast) -> Sequence[Velocity]:
        lattice = tuple(x.shape[:-1])
        functions = momentum_functions(lattice, self.degree, (self.mass,), x.dtype, x.device)
        momenta = momenta_of(lattice, x.dtype, x.device)
        kernels = torch.einsum("kn,sfn->skf", functions, self.kernels)
        return [_Stage(momenta, kernel, kernel.mean(0), self.frequencies) for kernel in kernels]


@dataclass(frozen=True)
class _Stage:
    momenta: Momenta
    kernels: Float[Tensor, "momenta functions"]
    at_zero: Float[Tensor, "functions"]
    """K(r = 0)."""
    frequencies: Float[Tensor, "frequencies"]

    def __call__(self, x: BatchLast) -> tuple[BatchLast, LogProb]:
        phase = x[..., None, :] * self.frequencies[:, None]
        functions = torch.cat((x[..., None, :], phase.sin()), -2)
        spectra = self.momenta.spectra(functions)
        moved = torch.einsum("kf,kfb->kb", self.kernels, spectra)
        slopes = (self.frequencies[:, None] * phase.cos()).flatten(0, -3).sum(0)
        of_the_field = x.new_full((1, x.shape[-1]), volume(self.momenta.lattice))
        divergence = self.at_zero @ torch.cat((of_the_field, slopes))
        return self.momenta.fields(moved[:, None])[..., 0, :], divergence
