"""The minimal flow: one pair of affine couplings, whose networks are one convolution each."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from latflow.densities.flows.base import Compose, Flow
from latflow.densities.flows.convolution import Features, Select
from latflow.densities.flows.coupling import Coupling
from latflow.densities.flows.networks import ConvNet
from latflow.densities.flows.priors import Normal
from latflow.densities.flows.scalar_maps import Affine
from latflow.densities.recipe import recipe_of
from latflow.lattice import check_even, checked_lattice
from latflow.seeds import seeded
from latflow.types import Count, Layers


class MinimalNetwork(ConvNet):
    """s and t of an affine coupling by one convolution each, without a hidden layer: s is even, t is odd.

        u = w_s ∗ φ,   s = a + c (√(1 + u²) − 1),   t = w_t ∗ φ

    The kernels have no bias, so that u and t are odd in φ to the last bit. Of the even functions of u this
    one is smooth, as the force of HMC needs it, and grows no faster than |u|, so that exp(s) stays tame far
    from the vacuum.

    Args:
        kernel: side of both kernels, odd.
        dimensions: of the lattice.
        generator: draws the initial kernels; s starts at zero.

    Raises:
        ValueError: for an even kernel.
    """

    def __init__(self, kernel: int, *, dimensions: int, generator: Generator) -> None:
        super().__init__((1, 2), kernel, dimensions=dimensions, bias=False, generator=generator)
        self.offset: nn.Parameter = nn.Parameter(torch.zeros(()))
        self.slope: nn.Parameter = nn.Parameter(torch.zeros(()))

    def forward(self, x: Features, select: Select | None = None) -> Tensor:
        """(s, t) at every site, (batch, 2, *lattice), or at the active ones, (batch, 2, active)."""
        u, t = super().forward(x, select).split(1, 1)
        s = self.offset + self.slope * (torch.sqrt(1 + u * u) - 1)
        return torch.cat((s, t), 1)


def minimal_flow(
    lattice: Sequence[int],
    *,
    kernel: Count = 3,
    layers: Layers = 2,
    generator: Generator | None = None,
) -> Flow:
    """Affine couplings on a checkerboard, each with one convolution for s and one for t, over normal numbers.

    Two layers, one for each colour, are the network of the source: a few dozen numbers, on which the flow
    commutes with φ → −φ exactly, and which serve every volume. The source has s even and t odd in φ "where
    possible"; how s is even here, `MinimalNetwork` says.

    Source: the slides on machine-learned trivializing flows by Albandea, Del Debbio, Hernández, Kenway, Marsh
    Rossney and Ramos; Learning trivializing flows, arXiv:2302.08408.

    Args:
        lattice: one to three side lengths, all even.
        kernel: side of the kernels, odd; `kernel_for` gives one for a correlation length.
        layers: number of couplings; the colours take turns.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice without a checkerboard, an even kernel, or a negative number of layers.

    Example:
        >>> flow = minimal_flow((4, 6))
        >>> sum(p.numel() for p in flow.parameters())
        40
    """
    recipe = recipe_of("minimal", minimal_flow, locals())
    sides = checked_lattice(lattice)
    check_even(sides)
    if layers < 0:
        raise ValueError(f"expected layers ≥ 0, got {layers}")
    generator = seeded(generator)
    couplings = [
        Coupling(layer % 2, Affine(), MinimalNetwork(kernel, dimensions=len(sides), generator=generator))
        for layer in range(layers)
    ]
    return Flow(Normal(sides), Compose(*couplings), recipe, ("z2",))


def kernel_for(correlation_length: float) -> int:
    """The side of the kernel whose pair of couplings reaches one correlation length.

        k = the smallest odd number with k − 1 ≥ ξ, at least 3

    A site sees (k − 1)/2 sites far in one coupling, and k − 1 through two. The source scales the footprint of
    the network with ξ, in which the information of the two-point function lies, without giving the factor.

    Args:
        correlation_length: ξ, in lattice units.

    Raises:
        ValueError: unless it is positive and finite.

    Example:
        >>> [kernel_for(xi) for xi in (1.5, 2.0, 4.0, 5.0)]
        [3, 3, 5, 7]
    """
    if not 0 < correlation_length < float("inf"):
        raise ValueError(f"expected a positive, finite correlation length, got {correlation_length}")
    return max(3, 2 * math.ceil(correlation_length / 2) + 1)
