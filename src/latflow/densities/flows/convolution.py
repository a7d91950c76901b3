"""The periodic convolution, in the way that is fastest on each device, and the products at single sites."""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latflow.types import Lattice

Features = Float[Tensor, "batch _ *lattice"]
"""Channels of features at every site: (batch, channels, *lattice)."""

Select = Callable[[Tensor], Tensor]
"""Keeps the active sites: (batch, channels, *lattice) -> (batch, channels, active)."""

_LARGEST_TABLE = 8
"""Of neighbours at the active sites, in units of the output at all sites: up to here gathering pays."""

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def periodic_convolution(
    x: Features, weight: Tensor, bias: Tensor | None = None, dilation: int = 1
) -> Features:
    """Cross-correlation on a torus of one to three dimensions.

    y_o(n) = b_o + Σ_c Σ_t w_oc(t) x_c(n + dilation (t − (k−1)/2)),  n and its neighbours modulo the lattice

    The kernel may be wider than the lattice: it then wraps more than once. Differentiable to any order in
    `x`, `weight` and `bias`; under autocast it runs in the lower precision.

    How, by measurement (`benchmarks/convolution.py`): pads by concatenation, one library convolution, and a
    gradient of our own, because that of pads and slices costs more than the pads. Kernels of a single site
    are matrix products.

    Args:
        x: (batch, in, *lattice).
        weight: (out, in, *kernel), every side of the kernel odd.
        bias: (out,).
        dilation: distance in sites between neighbouring taps of the kernel.

    Returns:
        (batch, out, *lattice).

    Raises:
        ValueError: for an even kernel, or channels or dimensions that do not match.

    >>> x = torch.arange(4.0).reshape(1, 1, 4)
    >>> periodic_convolution(x, torch.tensor([[[1.0, 0.0, 0.0]]]))
    tensor([[[3., 0., 1., 2.]]])
    """
    _check_shapes(x, weight)
    x, weight, bias = _autocast(x, weight, bias)
    if weight.shape[2:].numel() == 1:
        return pointwise(x, weight.flatten(1), bias)
    padded = _wrap(x, _pad_widths(weight, dilation))
    of_weights = _OfWeights.apply([padded], weight, bias, dilation)
    return _PaddedConvolution.apply(x, padded, weight, bias, of_weights, dilation)


def selected_convolution(
    x: Features, weight: Tensor, select: Select, bias: Tensor | None = None, dilation: int = 1
) -> Float[Tensor, "batch out active"]:
    """`select(periodic_convolution(x, weight, bias, dilation))`, without the sites that are not kept.

    Where a table of all neighbours of the active sites is not much larger than the output at every site (few
    channels in, many out, few active), it is gathered and multiplied with the weights: on a CPU up to five
    times faster. Elsewhere, and on a GPU, where the gradient of a gather adds in an order that changes from
    run to run, the whole convolution is made.

    The arguments are those of `periodic_convolution`, and `select`, which treats all channels alike.

    Raises:
        ValueError: as `periodic_convolution`.
    """
    _check_shapes(x, weight)
    lattice, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])
    if x.device.type != "cpu":
        return select(periodic_convolution(x, weight, bias, dilation))
    neighbours = select(_neighbours(lattice, kernel, dilation))
    if weight[0].numel() * neighbours.shape[2] > _LARGEST_TABLE * len(weight) * math.prod(lattice):
        return select(periodic_convolution(x, weight, bias, dilation))
    columns = x.flatten(2).index_select(2, neighbours.flatten()).unflatten(2, neighbours.shape[1:])
    return pointwise(columns.flatten(1, 2), weight.flatten(1), bias)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
def _neighbours(lattice: Lattice, kernel: Lattice, dilation: int) -> Tensor:
    """The number of the site that each tap of the kernel meets at each site, (1, taps, *lattice)."""
    sites, axes = torch.arange(math.prod(lattice)).reshape(lattice), tuple(range(len(lattice)))
    taps = itertools.product(*(range(-(side // 2), side // 2 + 1) for side in kernel))
    return torch.stack([sites.roll([-dilation * t for t in tap], axes) for tap in taps])[None]


def pointwise(x: Features, weight: Float[Tensor, "out in"], bias: Tensor | None = None) -> Features:
    """The same linear map at every site, y_o(n) = b_o + Σ_c w_oc x_c(n).

    One batched matrix product: on a CPU twice as fast as a convolution with a kernel of one site, and faster
    than a linear layer between two transpositions.

    Args:
        x: (batch, in, *sites), the sites in any number of dimensions.
        weight: (out, in).
        bias: (out,).

    Returns:
        (batch, out, *sites).
    """
    sites = x.flatten(2)
    matrices = weight.expand(len(x), *weight.shape)
    y = torch.bmm(matrices, sites) if bias is None else torch.baddbmm(bias[:, None], matrices, sites)
    return y.unflatten(2, x.shape[2:])


class _PaddedConvolution(torch.autograd.Function):
    """The convolution of `padded`, the wrapped `x`, whose gradient goes to `x` without passing the pads' own.

    ∂L/∂x_c(n) = Σ_o Σ_t w_oc(t) g_o(n − dilation (t − (k−1)/2)),  g_o(n) = ∂L/∂y_o(n)

    With no more channels in g than in x, this is computed as written: the periodic convolution of g with the
    reflected, transposed kernel. Else the gradient of `padded` is folded back onto the torus. The gradients
    of the weights are found by `_OfWeights`, a node of its own which stands beside this one.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,  # noqa: ARG004 (the way of the gradient)
        padded: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        of_weights: Tensor,  # noqa: ARG004 (likewise)
        dilation: int,
    ) -> Tensor:
        return _CONVOLUTIONS[weight.ndim - 2](padded, weight, bias, dilation=dilation)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        _, padded, weight, *_, ctx.dilation = inputs
        ctx.save_for_backward(padded, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        padded, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0] and len(weight) <= weight.shape[1]:
            reflected = weight.flip(tuple(range(2, weight.ndim))).transpose(0, 1)
            grad_x = periodic_convolution(gradient, reflected, dilation=ctx.dilation)
        elif ctx.needs_input_grad[0]:
            wanted = [True, False, False]
            grad_x, *_ = _convolution_gradients(gradient, padded, weight, wanted, ctx.dilation)
            grad_x = _fold(grad_x, _pad_widths(weight, ctx.dilation))
        return grad_x, None, None, None, gradient, None


class _OfWeights(torch.autograd.Function):
    """Zeros in the shape of a convolution, along which its gradient comes to the weights.

    A function in Python computes all its gradients, asked for or not. So those of the weights have a node of
    their own, which does not run where x alone is asked for, as a score does. No way leads from it to x:
    `padded` comes in a list, which autograd does not look into, and the gradient of the weights stays
    differentiable in it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(padded: list[Tensor], weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:  # noqa: ARG004
        batch, _, *sides = padded[0].shape
        widths = _pad_widths(weight, dilation)
        lattice = [side - 2 * width for side, width in zip(sides, widths, strict=True)]
        return padded[0].new_zeros(()).expand(batch, len(weight), *lattice)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        (ctx.padded,), weight, _, ctx.dilation = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (weight,) = ctx.saved_tensors
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        wanted = [False, needs_weight, needs_bias]
        _, *found = _convolution_gradients(gradient, ctx.padded, weight, wanted, ctx.dilation)
        return None, *found, None


def _convolution_gradients(
    gradient: Tensor, padded: Tensor, weight: Tensor, wanted: list[bool], dilation: int
) -> tuple[Any, Any, Any]:
    """Those of `padded`, of the weight and of the bias; None for what is not wanted."""
    dimensions = weight.ndim - 2
    return torch.ops.aten.convolution_backward(
        gradient,
        padded,
        weight,
        bias_sizes=[len(weight)] if wanted[2] else None,
        stride=[1] * dimensions,
        padding=[0] * dimensions,
        dilation=[dilation] * dimensions,
        transposed=False,
        output_padding=[0] * dimensions,
        groups=1,
        output_mask=wanted,
    )


def _check_shapes(x: Tensor, weight: Tensor) -> None:
    if weight.ndim - 2 not in _CONVOLUTIONS or x.ndim != weight.ndim or x.shape[1] != weight.shape[1]:
        raise ValueError(
            "expected x (batch, in, *lattice) and weight (out, in, *kernel) with equal `in` and one to three "
            f"dimensions, got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    if not all(side % 2 for side in weight.shape[2:]):
        raise ValueError(f"expected odd kernel sides, got {tuple(weight.shape[2:])}")


def _pad_widths(weight: Tensor, dilation: int) -> list[int]:
    return [dilation * (side // 2) for side in weight.shape[2:]]


def _wrap(x: Tensor, widths: list[int]) -> Tensor:
    """`x` continued periodically by `widths` sites at both ends of each direction."""
    for axis, width in enumerate(widths, start=2):
        side = x.shape[axis]
        turns, rest = divmod(width, side)
        copies = [x] * (2 * turns + 1)
        x = torch.cat((x.narrow(axis, side - rest, rest), *copies, x.narrow(axis, 0, rest)), axis)
    return x


def _fold(padded: Tensor, widths: list[int]) -> Tensor:
    """The transpose of `_wrap`: adds to each site of the torus all its copies."""
    for axis, width in enumerate(widths, start=2):
        if not width:
            continue
        side = padded.shape[axis] - 2 * width
        turns, rest = divmod(width, side)
        x = padded.narrow(axis, width, side).clone(memory_format=torch.contiguous_format)
        for turn in range(1, turns + 1):
            x += padded.narrow(axis, width - turn * side, side)
            x += padded.narrow(axis, width + turn * side, side)
        x.narrow(axis, side - rest, rest).add_(padded.narrow(axis, 0, rest))
        x.narrow(axis, 0, rest).add_(padded.narrow(axis, side + 2 * width - rest, rest))
        padded = x
    return padded


def _autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments in the precision which autocast would choose, so that the pads are made in it too."""
    if not torch.is_autocast_enabled(x.device.type) or x.dtype == torch.float64:
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
