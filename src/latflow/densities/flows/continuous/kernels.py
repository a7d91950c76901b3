"""Convolutions with kernels that are functions of momentum and know no lattice.

A kernel that is even in every direction is diagonal in the separable Hartley transform

    x̃(k) = V^{−½} Σ_x Π_μ cas(2π k_μ x_μ / L_μ) x(x),    cas t = cos t + sin t,

which is real, orthogonal and its own inverse: Σ_y K(x − y) g(y) becomes K(k) g̃(k), and Σ_x a(x) b(x) is
Σ_k ã(k) b̃(k). Fields here have the lattice first, then channels, and the batch last: a transform then is a
product of two matrices for each direction.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.lattice import lattice_momentum_squared, momenta, volume
from latflow.types import Lattice

Channels = Float[Tensor, "*lattice channels batch"]
Spectra = Float[Tensor, "momenta channels batch"]


@dataclass(frozen=True)
class Momenta:
    """What kernels need of a lattice.

    Attributes:
        lattice: its sides.
        axes: the symmetric orthogonal matrix of the transform along each direction.
    """

    lattice: Lattice
    axes: tuple[Tensor, ...]

    def spectra(self, fields: Channels) -> Spectra:
        """The transform of each field, momenta in one row."""
        return self._transformed(fields).reshape(volume(self.lattice), *fields.shape[-2:])

    def fields(self, spectra: Spectra) -> Channels:
        """Back."""
        return self._transformed(spectra).reshape(*self.lattice, *spectra.shape[-2:])

    def at_distance(self, kernels: Float[Tensor, "momenta n"]) -> Float[Tensor, "sites n"]:
        """K(r) of K(k), from V sites."""
        return self.spectra_of(kernels) / math.sqrt(volume(self.lattice))

    def spectra_of(self, kernels: Float[Tensor, "sites n"]) -> Float[Tensor, "momenta n"]:
        """The transform of some functions without batch."""
        return self._transformed(kernels).reshape(kernels.shape)

    def _transformed(self, numbers: Tensor) -> Tensor:
        before = 1
        for side, matrix in zip(self.lattice, self.axes, strict=True):
            numbers = matrix @ numbers.reshape(before, side, -1)
            before *= side
        return numbers


@cache
def momenta_of(lattice: Lattice, dtype: torch.dtype, device: torch.device) -> Momenta:
    """The transform on a lattice, in one precision and on one device."""
    return Momenta(lattice, tuple(_hartley(side).to(dtype=dtype, device=device) for side in lattice))


def _hartley(side: int) -> Tensor:
    place = torch.arange(side, dtype=torch.float64)
    angle = 2 * math.pi * (place[:, None] * place % side) / side
    return (angle.cos() + angle.sin()) / math.sqrt(side)


@cache
def momentum_functions(
    lattice: Lattice, degree: int, masses: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "momenta n"]:
    """A basis f_i(k) of even functions of momentum, the same on every lattice.

        Π_μ T_{a_μ}(k̂_μ²/2 − 1),  Σ_μ a_μ ≤ degree,   and for each mass   log k̂²/(k̂² + m²),   1/(k̂² + m²)

    T are Chebyshev polynomials and k̂_μ = 2 sin(k_μ/2): products of degree n reach n sites far. The massive
    ones are long-ranged; both are zero at k = 0, where the logarithm has no value.
    """
    cosines = -torch.cos(momenta(lattice))  # k̂²/2 − 1
    orders = [a for a in itertools.product(range(degree + 1), repeat=len(lattice)) if sum(a) <= degree]
    functions = [
        torch.stack(
            [torch.cos(n * torch.arccos(c.clamp(-1, 1))) for n, c in zip(a, cosines, strict=True)]
        ).prod(0)
        for a in orders
    ]
    squared = lattice_momentum_squared(lattice)
    for mass in masses:
        massive = torch.stack((torch.log(squared / (squared + mass**2)), 1 / (squared + mass**2)))
        massive[(slice(None), *(0 for _ in lattice))] = 0
        functions += [*massive]
    return torch.stack(functions, -1).flatten(0, -2).to(dtype=dtype, device=device)


def number_of_functions(dimensions: int, degree: int, masses: tuple[float, ...]) -> int:
    """How many there are in the basis."""
    return math.comb(degree + dimensions, dimensions) + 2 * len(masses)
