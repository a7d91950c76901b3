"""Convolutional networks on periodic lattices of any size, plain and with exact Z2 symmetry."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.flows.convolution import (
    Features,
    Select,
    periodic_convolution,
    pointwise,
    selected_convolution,
)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": functional.elu,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "relu": functional.relu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "tanh": torch.tanh,
}
"""Nonlinearities between layers, by name."""

FINALS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "tanh": torch.tanh}
"""What may follow the last layer, by name."""


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
        self.kernel = (kernel,) * dimensions
        self.dilation = dilation
        orbits = _point_group_orbits(kernel, dimensions) if point_group else None
        self.register_buffer("orbits", orbits, persistent=False)
        taps = self.kernel if orbits is None else (int(orbits.max()) + 1,)
        bound = scale / math.sqrt(channels_in * kernel**dimensions)
        self.weight = nn.Parameter(_uniform((channels_out, channels_in, *taps), bound, generator))
        self.bias = nn.Parameter(_uniform((channels_out,), bound, generator)) if bias else None

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


class ConvNet(nn.Module):
    """Periodic convolutions with a nonlinearity between them.

    Layers of kernel 1 at the end of the network need no neighbours: with `select` they are evaluated at the
    active sites alone.

    Args:
        channels: of the input, of each hidden layer, and of the output.
        kernel: side of the kernels, one number or one for each layer.
        dilation: likewise.
        activation: a name in `ACTIVATIONS`.
        final: a name in `FINALS`, applied to the output.
        dimensions: of the lattice.
        bias: whether the layers have one.
        point_group: tie the weights so that the network commutes with the lattice's point group.
        final_scale: of the last layer's initial parameters; with a small one a flow starts near the identity.
        generator: draws the initial parameters.

    Raises:
        ValueError: for names, kernels or numbers of layers which do not fit.

    >>> network = ConvNet((1, 16, 2), kernel=(3, 1), generator=Generator().manual_seed(0))
    >>> network(torch.zeros(5, 1, 8, 4)).shape
    torch.Size([5, 2, 8, 4])
    >>> network(torch.zeros(5, 1, 8, 4), select=lambda h: h[..., ::2].flatten(2)).shape
    torch.Size([5, 2, 16])
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel: int | Sequence[int] = 3,
        *,
        generator: Generator,
        dilation: int | Sequence[int] = 1,
        activation: str = "leaky_relu",
        final: str = "none",
        dimensions: int = 2,
        bias: bool = True,
        point_group: bool = False,
        final_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation = _named(activation, ACTIVATIONS, "activation")
        self.final = _named(final, FINALS, "final")
        shapes = _layer_shapes(channels, kernel, dilation)
        self.layers = nn.ModuleList(
            PeriodicConvolution(
                *shape[:3],
                dilation=shape[3],
                dimensions=dimensions,
                bias=bias,
                point_group=point_group,
                scale=final_scale if i == len(shapes) - 1 else 1.0,
                generator=generator,
            )
            for i, shape in enumerate(shapes)
        )
        self.reach = max(1, _neighbourly(shapes))

    def forward(self, x: Features, select: Select | None = None) -> Tensor:
        """The output at every site, (batch, out, *lattice), or at the active ones, (batch, out, active).

        Args:
            x: (batch, in, *lattice).
            select: keeps the active sites, (batch, channels, *lattice) -> (batch, channels, active).
        """
        for i, layer in enumerate(self.layers):
            x = layer(self.activation(x) if i else x, select if i == self.reach - 1 else None)
        return self.final(x)


class Z2ConvNet(nn.Module):
    """A network with an even and an odd output: even(−x) = even(x), odd(−x) = −odd(x), exact to the last bit.

    The layers up to the last that looks at neighbours have no bias and tanh between them, so the features h
    are odd in x. What follows acts on each site alone, with biases and any activation a, for both signs of h:

        b(h) = a(… a(h + c) …),   even = W₊ ½[b(h) + b(−h)] + d,   odd = W₋ ½[b(h) − b(−h)]

    A network of sites can approximate every function of h, and these are its even and odd parts: the symmetry
    costs nothing in generality. It costs a second evaluation of the layers that act on single sites (only on
    the active ones where `select` is given); the convolutions run once.

    Args:
        channels: of the input and of each hidden layer.
        even: number of even outputs.
        odd: number of odd outputs.
        kernel: side of the kernels, one number or one for each step of `channels`. The first layer, and all
            up to the last with a kernel above 1, are odd.
        dilation: likewise.
        activation: a name in `ACTIVATIONS`.
        final: a name in `FINALS`, applied to both outputs; these are odd functions.
        dimensions: of the lattice.
        point_group: tie the weights so that the network commutes with the lattice's point group.
        final_scale: of the outputs' initial parameters; with a small one a flow starts near the identity.
        generator: draws the initial parameters.

    Raises:
        ValueError: for names, kernels or numbers of layers which do not fit.

    >>> network = Z2ConvNet((1, 16), even=2, odd=1, generator=Generator().manual_seed(0))
    >>> even, odd = network(torch.ones(5, 1, 8, 4))
    >>> even.shape, odd.shape
    (torch.Size([5, 2, 8, 4]), torch.Size([5, 1, 8, 4]))
    """

    def __init__(
        self,
        channels: Sequence[int],
        even: int = 1,
        odd: int = 1,
        kernel: int | Sequence[int] = 3,
        *,
        generator: Generator,
        dilation: int | Sequence[int] = 1,
        activation: str = "leaky_relu",
        final: str = "none",
        dimensions: int = 2,
        point_group: bool = False,
        final_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation = _named(activation, ACTIVATIONS, "activation")
        self.final = _named(final, FINALS, "final")
        shapes = _layer_shapes(channels, kernel, dilation)
        reach = max(1, _neighbourly(shapes))
        layers = [
            PeriodicConvolution(
                *shape[:3],
                dilation=shape[3],
                dimensions=dimensions,
                bias=i >= reach,
                point_group=point_group,
                scale=math.sqrt(6),  # He et al., arXiv:1502.01852: keeps the variance through the layers
                generator=generator,
            )
            for i, shape in enumerate(shapes)
        ]
        self.odd_layers, self.site_layers = nn.ModuleList(layers[:reach]), nn.ModuleList(layers[reach:])
        width, last = shapes[reach - 1][1], shapes[-1][1]
        self.offset = nn.Parameter(_uniform((width,), 1.0, generator))
        self.even = PeriodicConvolution(last, even, 1, scale=final_scale, generator=generator)
        self.odd = PeriodicConvolution(last, odd, 1, bias=False, scale=final_scale, generator=generator)

    def forward(self, x: Features, select: Select | None = None) -> tuple[Tensor, Tensor]:
        """(even, odd), each (batch, outputs, *lattice), or (batch, outputs, active) at the active sites.

        Args:
            x: (batch, in, *lattice).
            select: keeps the active sites, (batch, channels, *lattice) -> (batch, channels, active).
        """
        *before, last = self.odd_layers
        for layer in before:
            x = torch.tanh(layer(x))
        x = last(x, select)
        # One call for each sign: a flip of x then exchanges two identical computations, bit for bit.
        plus, minus = self._branch(x), self._branch(-x)
        return self.final(self.even((plus + minus) / 2)), self.final(self.odd((plus - minus) / 2))

    def _branch(self, h: Tensor) -> Tensor:
        h = self.activation(h + self.offset.unflatten(0, (-1, *[1] * (h.ndim - 2))))
        for layer in self.site_layers:
            h = self.activation(layer(h))
        return h


def _layer_shapes(
    channels: Sequence[int], kernel: int | Sequence[int], dilation: int | Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, dilation) of each layer."""
    n_layers = len(channels) - 1
    if n_layers < 1:
        raise ValueError(f"expected channels of an input and at least one layer, got {tuple(channels)}")
    steps = []
    for name, value in (("kernel", kernel), ("dilation", dilation)):
        values = (value,) * n_layers if isinstance(value, int) else tuple(value)
        if len(values) != n_layers:
            raise ValueError(f"expected one {name} or {n_layers}, one for each layer, got {values}")
        steps.append(values)
    return list(zip(channels[:-1], channels[1:], *steps, strict=True))


def _neighbourly(shapes: list[tuple[int, int, int, int]]) -> int:
    """The number of layers up to the last one whose kernel reaches a neighbour."""
    return max((i + 1 for i, shape in enumerate(shapes) if shape[2] > 1), default=0)


def _named(name: str, table: dict[str, Callable[[Tensor], Tensor]], what: str) -> Callable[[Tensor], Tensor]:
    if name not in table:
        raise ValueError(f"expected {what} to be one of {', '.join(sorted(table))}, got {name!r}")
    return table[name]


def _uniform(shape: tuple[int, ...], bound: float, generator: Generator) -> Tensor:
    return bound * (2 * torch.rand(shape, generator=generator, device=generator.device) - 1)


def _point_group_orbits(kernel: int, dimensions: int) -> Tensor:
    """The number of the orbit of each tap, flattened: taps with equal sorted |offsets| share one."""
    offsets = (abs(t - kernel // 2) for t in range(kernel))
    taps = [tuple(sorted(tap)) for tap in itertools.product(offsets, repeat=dimensions)]
    numbers = {orbit: i for i, orbit in enumerate(sorted(set(taps)))}
    return torch.tensor([numbers[tap] for tap in taps])
