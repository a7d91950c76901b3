"""Convolutional networks on periodic lattices of any size, plain and with exact Z2 symmetry.

A coupling asks its network in one way, `Network`. A network with a Z2 symmetry has even and odd outputs, one
after the other, of which `coupling.OddMap` makes the parameters of a map.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.densities.flows.convolution import Features, Select
from latflow.densities.flows.layers import PeriodicConvolution, uniform

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


@runtime_checkable
class Network(Protocol):
    """What a coupling asks of its network, which is an `nn.Module`; one's own can stand in a configuration.

    Its constructor is handed what it has arguments for: `inputs` and `outputs`, the channels that come in
    and go out; `dimensions`, those of the lattice; `generator`, for the initial weights; and the keys of its
    recipe. A flow starts near the identity where the outputs do near zero.
    """

    def __call__(self, x: Features, select: Select | None = None) -> Tensor:
        """The outputs at the active sites, (batch, outputs, active).

        Args:
            x: (batch, inputs, *lattice), the features that the network may see, on a periodic lattice.
            select: keeps the active sites of what is computed at every site, (batch, channels, *lattice) ->
                (batch, channels, active). Apply it to the result, or earlier where this saves work. Without
                it the outputs are those at every site, (batch, outputs, *lattice).
        """
        ...


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
        self.activation: Callable[[Tensor], Tensor] = _named(activation, ACTIVATIONS, "activation")
        self.final: Callable[[Tensor], Tensor] = _named(final, FINALS, "final")
        shapes = _layer_shapes(channels, kernel, dilation)
        common = {"dimensions": dimensions, "point_group": point_group, "generator": generator}
        scales = [*[1.0] * (len(shapes) - 1), final_scale]
        self.layers: nn.ModuleList = _layers(shapes, scales, [bias] * len(shapes), **common)
        self.reach: int = max(1, _neighbourly(shapes))

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
    """A network with even and odd outputs: even(−x) = even(x), odd(−x) = −odd(x), exact to the last bit.

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
    >>> network(torch.ones(5, 1, 8, 4)).shape
    torch.Size([5, 3, 8, 4])
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
        self.activation: Callable[[Tensor], Tensor] = _named(activation, ACTIVATIONS, "activation")
        self.final: Callable[[Tensor], Tensor] = _named(final, FINALS, "final")
        shapes = _layer_shapes(channels, kernel, dilation)
        reach = max(1, _neighbourly(shapes))
        common = {"dimensions": dimensions, "point_group": point_group, "generator": generator}
        scales = [math.sqrt(6)] * len(shapes)  # He et al., arXiv:1502.01852: the variance stays
        layers = _layers(shapes, scales, [i >= reach for i in range(len(shapes))], **common)
        self.odd_layers: nn.ModuleList = layers[:reach]
        self.site_layers: nn.ModuleList = layers[reach:]
        width, last = shapes[reach - 1][1], shapes[-1][1]
        self.offset: nn.Parameter = nn.Parameter(uniform((width,), 1.0, generator))
        self.even: PeriodicConvolution = PeriodicConvolution(
            last, even, 1, scale=final_scale, generator=generator
        )
        self.odd: PeriodicConvolution = PeriodicConvolution(
            last, odd, 1, bias=False, scale=final_scale, generator=generator
        )

    def forward(self, x: Features, select: Select | None = None) -> Tensor:
        """The even outputs, then the odd ones, (batch, even + odd, *lattice), or (batch, even + odd, active).

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
        even, odd = self.even((plus + minus) / 2), self.odd((plus - minus) / 2)
        return self.final(torch.cat((even, odd), 1))

    def _branch(self, h: Tensor) -> Tensor:
        h = self.activation(h + self.offset.unflatten(0, (-1, *[1] * (h.ndim - 2))))
        for layer in self.site_layers:
            h = self.activation(layer(h))
        return h


class Parities(nn.Module):
    """Any network with its outputs made even and odd, exact to the last bit, by a second evaluation.

        even(x) = ½[N₁(x) + N₁(−x)],   odd(x) = ½[N₂(x) − N₂(−x)],   N = (N₁, N₂)

    Args:
        network: N.
        even: number of even outputs; the others are odd.
    """

    def __init__(self, network: nn.Module, even: int) -> None:
        super().__init__()
        self.network = network
        self.n_even = even

    def forward(self, x: Features, select: Select | None = None) -> Tensor:
        """The even outputs, then the odd ones."""
        plus, minus = self.network(x, select), self.network(-x, select)
        n = self.n_even
        return torch.cat((plus[:, :n] + minus[:, :n], plus[:, n:] - minus[:, n:]), 1) / 2


def _layers(
    shapes: list[tuple[int, int, int, int]],
    scales: Sequence[float],
    biases: Sequence[bool],
    **common: Any,
) -> nn.ModuleList:
    """A convolution for each shape, with its own scale and bias, and what they have in common."""
    return nn.ModuleList(
        PeriodicConvolution(*shape, dilation=dilation, scale=scale, bias=bias, **common)
        for (*shape, dilation), scale, bias in zip(shapes, scales, biases, strict=True)
    )


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
