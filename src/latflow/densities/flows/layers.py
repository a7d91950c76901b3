"""The layer of convolutional networks, with its parameters."""

import itertools
import math

import torch
from torch import Generator, Tensor, nn

from latflow.densities.flows.convolution import (
    Features,
    Select,
    periodic_convolution,
    pointwise,
    selected_convolution,
)


class PeriodicConvolution(nn.Module):
    """A layer of `periodic_convolution` with its parameters, initially uniform in ±scale/√(in · taps).

    Args:
        channels_in: features that come in.
        channels_out: features that go out.
        kernel: side of the kernel in sites, odd; 1 acts on each site alone.
        dilation: distance in sites between the taps.
        dimensions: of the lattice, 1 to 3.
        bias: whether a constant is added to each channel.
        point_group: tie the taps which reflections and rotations of the lattice map into each other; the
            layer then commutes with these. In two dimensions a kernel of 3 has three weights for nine taps.
        scale: of the initial parameters; 0 gives a layer that starts as zero.
        generator: draws the initial parameters.

    Raises:
        ValueError: for an even kernel or numbers that are not positive.
    """

    orbits: Tensor | None

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        generator: Generator,
        dilation: int = 1,
        dimensions: int = 2,
        bias: bool = True,
        point_group: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if dimensions not in (1, 2, 3):
            raise ValueError(f"expected 1, 2 or 3 dimensions, got {dimensions}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel side, got {kernel}")
        if channels_in < 1 or channels_out < 1 or dilation < 1:
            raise ValueError(
                f"expected positive channels and dilation, got {channels_in}, {channels_out} and {dilation}"
            )
        self.kernel: tuple[int, ...] = (kernel,) * dimensions
        self.dilation = dilation
        orbits = _point_group_orbits(kernel, dimensions) if point_group else None
        self.register_buffer("orbits", orbits, persistent=False)
        taps = self.kernel if orbits is None else (int(orbits.max()) + 1,)
        bound = scale / math.sqrt(channels_in * kernel**dimensions)
        self.weight: nn.Parameter = nn.Parameter(
            uniform((channels_out, channels_in, *taps), bound, generator)
        )
        self.bias: nn.Parameter | None = (
            nn.Parameter(uniform((channels_out,), bound, generator)) if bias else None
        )

    def forward(self, x: Features, select: Select | None = None) -> Tensor:
        """The output at every site, (batch, out, *lattice), or at the active ones, (batch, out, active)."""
        if self.kernel[0] == 1:
            return pointwise(select(x) if select else x, self.weight.flatten(1), self.bias)
        weight = self.weight
        if self.orbits is not None:
            weight = weight.index_select(2, self.orbits).unflatten(2, self.kernel)
        if select:
            return selected_convolution(x, weight, select, self.bias, self.dilation)
        return periodic_convolution(x, weight, self.bias, self.dilation)


def uniform(shape: tuple[int, ...], bound: float, generator: Generator) -> Tensor:
    """Numbers uniform in ±bound."""
    return bound * (2 * torch.rand(shape, generator=generator, device=generator.device) - 1)


def _point_group_orbits(kernel: int, dimensions: int) -> Tensor:
    """The number of the orbit of each tap, flattened: taps with equal sorted |offsets| share one."""
    offsets = (abs(t - kernel // 2) for t in range(kernel))
    taps = [tuple(sorted(tap)) for tap in itertools.product(offsets, repeat=dimensions)]
    numbers = {orbit: i for i, orbit in enumerate(sorted(set(taps)))}
    return torch.tensor([numbers[tap] for tap in taps])
