"""The masked convolutional network: the same weights at every site, on neighbours that come earlier."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from latflow.densities.autoregressive.base import Conditional
from latflow.densities.autoregressive.values import Rows, Signs, Values
from latflow.lattice import checked_lattice, volume
from latflow.types import Lattice

Features = Float[Tensor, "_ _ batch"]
"""Features of one site after the other in raster order; a last site of zeros stands for what is unknown."""


class CausalConvolution(nn.Module):
    """A periodic convolution over the neighbours that are known.

        y(n) = b + Σ_t W(t) x(n + t),    t over the taps with n + t before n in raster order

    or equal to n, if `inclusive`. Taps are the first half of a kernel in raster order, and the nearest
    neighbour in each direction: the bond from the last row around the torus to the first has a weight of its
    own. Neighbours that are not known count as zero.

    Args:
        lattice: side lengths.
        channels_in: features at each site of the input.
        channels_out: features at each site of the output.
        kernel: side of the kernel in sites, odd.
        inclusive: whether a site sees the features at itself.
        bias: whether there is a constant.
        generator: draws the initial weights, uniform in ±√(3/(in · taps in the half)).
    """

    table: Tensor

    def __init__(
        self,
        lattice: Lattice,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        inclusive: bool,
        bias: bool,
        generator: Generator,
    ) -> None:
        super().__init__()
        table = neighbours(lattice, kernel, inclusive)
        half = max(1, table.shape[1] - len(lattice))
        bound = math.sqrt(3 / (channels_in * half))
        shape = (channels_out, table.shape[1] * channels_in)
        unit = torch.rand(shape, generator=generator, device=generator.device)
        self.weight: nn.Parameter = nn.Parameter(bound * (2 * unit - 1))
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(channels_out, 1)) if bias else None
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Features) -> Features:
        """The output at every site, (V, out, batch), from (V + 1, in, batch)."""
        gathered = x.index_select(0, self.table.flatten())
        return self._combined(gathered.unflatten(0, self.table.shape).flatten(1, 2))

    def at(self, x: Features, i: int) -> Float[Tensor, "channels batch"]:
        """The output at site i, from the sites that it sees; the others are not read."""
        return self._combined(x.index_select(0, self.table[i]).flatten(0, 1))

    def _combined(self, gathered: Tensor) -> Tensor:
        y = self.weight @ gathered
        return y if self.bias is None else y + self.bias


class ConvolutionalConditional(Conditional):
    """A masked convolutional network over the whole lattice in raster order.

        h¹ = tanh(W¹ ∗ s),   h^{l+1} = h^l + tanh(W^{l+1} ∗ h^l),   a(n) = v(n)·(W¹ ∗ s)(n) + w(n)·h(n)

    The convolutions share their weights among the sites; the last, local step has weights of its own at each,
    since a site near the beginning has fewer known neighbours. Drawing computes every feature once. Without
    biases the logits are odd and the Z₂ symmetry exact. Source of the idea: van den Oord, Kalchbrenner,
    Kavukcuoglu, Pixel recurrent neural networks, arXiv:1601.06759.

    Args:
        lattice: side lengths, one to three of them.
        channels: features at each site.
        kernels: the side of each convolution, odd. The first acts on spins alone, and is cheap at any size.
        z2: whether there are no biases.
        generator: draws the initial weights.
        values: of a site.

    Raises:
        ValueError: for an even kernel, no kernel, or no channel.
    """

    def __init__(
        self,
        lattice: Sequence[int],
        channels: int,
        kernels: Sequence[int],
        *,
        z2: bool,
        generator: Generator,
        values: Values | None = None,
    ) -> None:
        super().__init__()
        sides = checked_lattice(lattice)
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"expected odd kernel sides, one for each convolution, got {tuple(kernels)}")
        if channels < 1:
            raise ValueError(f"expected at least one channel, got {channels}")
        self.spins: int = volume(sides)
        self.context: int = 0
        self.channels: int = channels
        self.values: Values = values or Signs()
        n_in, n_out = self.values.features, self.values.outputs
        options = {"bias": not z2, "generator": generator}
        self.first: CausalConvolution = CausalConvolution(
            sides, n_in, channels, kernels[0], inclusive=False, **options
        )
        self.layers: nn.ModuleList = nn.ModuleList(
            CausalConvolution(sides, channels, channels, kernel, inclusive=True, **options)
            for kernel in kernels[1:]
        )
        # near zero at first, where all configurations are equally likely
        shape = (self.spins, n_out, 2 * channels, 1)
        unit = torch.rand(shape, generator=generator, device=generator.device)
        self.readout: nn.Parameter = nn.Parameter(0.1 * (2 * unit - 1) / math.sqrt(2 * channels))
        self.offset: nn.Parameter | None = None if z2 else nn.Parameter(torch.zeros(self.spins, n_out, 1))

    def logits(self, context: Rows, spins: Rows) -> Rows:  # noqa: ARG002 (it has none)
        linear = self.first(_with_unknown(spins.unflatten(0, (self.spins, -1))))
        hidden = torch.tanh(linear)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(_with_unknown(hidden)))
        logits = (torch.cat((linear, hidden), 1)[:, None] * self.readout).sum(2)
        return (logits if self.offset is None else logits + self.offset).flatten(0, 1)

    def begin(self, context: Rows) -> list[Tensor]:
        """What is known of the sites, and the features of each layer as far as they are computed."""
        channels = [self.values.features, *[self.channels] * (1 + len(self.layers))]
        return [context.new_zeros(self.spins + 1, number, context.shape[1]) for number in channels]

    def advance(self, cache: list[Tensor], i: int) -> Rows:
        linear = self.first.at(cache[0], i)
        hidden = cache[1][i] = torch.tanh(linear)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, CausalConvolution)
            hidden = cache[number + 2][i] = hidden + torch.tanh(layer.at(cache[number + 1], i))
        logits = (torch.cat((linear, hidden)) * self.readout[i]).sum(1)
        return logits if self.offset is None else logits + self.offset[i]

    def set(self, cache: list[Tensor], i: int, spin: Rows) -> None:
        cache[0][i] = spin


def neighbours(lattice: Lattice, kernel: int, inclusive: bool) -> Int[Tensor, "sites taps"]:
    """For each site and tap of `CausalConvolution`, the site that the tap reads; V where it is not known."""
    sites = torch.arange(volume(lattice))
    coordinates = torch.stack(torch.unravel_index(sites, lattice), 1)
    columns = []
    for tap in taps(len(lattice), kernel, inclusive):
        shifted = (coordinates + torch.tensor(tap)) % torch.tensor(lattice)
        strides = torch.tensor([math.prod(lattice[axis + 1 :]) for axis in range(len(lattice))])
        read = (shifted * strides).sum(1)
        known = read <= sites if inclusive else read < sites
        columns.append(torch.where(known, read, len(sites)))
    return torch.stack(columns, 1)


def taps(dimensions: int, kernel: int, inclusive: bool) -> list[tuple[int, ...]]:
    """The offsets before zero in raster order, zero itself if `inclusive`, and one step in each direction."""
    half = kernel // 2
    offsets = itertools.product(range(-half, half + 1), repeat=dimensions)
    origin = (0,) * dimensions
    before = [offset for offset in offsets if offset < origin or (inclusive and offset == origin)]
    ahead = [tuple(int(axis == direction) for axis in range(dimensions)) for direction in range(dimensions)]
    return before + ahead


def _with_unknown(x: Features) -> Features:
    return torch.cat((x, x.new_zeros(1, *x.shape[1:])))
