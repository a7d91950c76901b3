"""The rational-quadratic spline through given knots, on which real and circular maps are built.

In bin k, of width w and height h, from (x_k, y_k) with slopes d_k and d_{k+1} at its ends and mean slope
s = h/w, with ξ = (x − x_k)/w:

    y  = y_k + h (s ξ² + d_k ξ(1−ξ)) / (s + (d_{k+1} + d_k − 2s) ξ(1−ξ))
    y′ = s² (d_{k+1} ξ² + 2s ξ(1−ξ) + d_k (1−ξ)²) / (s + (d_{k+1} + d_k − 2s) ξ(1−ξ))²

With υ = (y − y_k)/h, the inverse is a root of a quadratic equation,

    ξ = 2sυ / (b + √D) = (√D − b) / (2(s − b)),   b = d_k − υ(d_{k+1} + d_k − 2s),
                                                  D = (d_k(1−υ) − d_{k+1}υ)² + 4s²υ(1−υ),

where the first form is for b ≥ 0 and the second for b < 0: no term then cancels another. Rounding of the
knots can carry ξ past 0 or 1, where the formula may have a pole or a slope below zero: ξ stays between.
Source: Durkan, Bekasov, Murray, Papamakarios, Neural spline flows, arXiv:1906.04032, eqs. 4-8.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from latflow.types import Sites


class Knots(NamedTuple):
    """A spline at each site: K bins from `start` on, in both directions.

    Attributes:
        start: where the first bin begins, in x and in y.
        widths: of the bins, (#batch, K, #active).
        heights: likewise.
        slopes: at the ends of the bins, (#batch, K + 1, #active).
    """

    start: float
    widths: Tensor
    heights: Tensor
    slopes: Tensor


def precise(numbers: Tensor) -> Tensor:
    """Numbers in single precision, where they came with less: a bin may be a thousandth of the whole."""
    return numbers.float() if numbers.dtype in (torch.float16, torch.bfloat16) else numbers


def at_least(minimum: float, numbers: Tensor) -> float:
    """`minimum`, or the rounding error of one, if that is more: bins and slopes do not vanish."""
    return max(minimum, torch.finfo(numbers.dtype).eps)


def partition(logits: Tensor, length: float, minimum: float) -> Tensor:
    """K positive parts of an interval of this `length`, each at least the share `minimum` of it.

    Args:
        logits: (batch, K, active); equal ones give equal parts.
        length: of the interval.
        minimum: below 1/K; 0 gives the plain softmax, to rounding.
    """
    minimum = at_least(minimum, logits)
    return length * (minimum + (1 - minimum * logits.shape[1]) * logits.softmax(1))


def spline(x: Sites, knots: Knots) -> tuple[Sites, Sites]:
    """y and log y′ for x within the knots."""
    x0, width, y0, height, d0, d1 = _bin(x, knots, knots.widths)
    xi = ((x - x0) / width).clamp(0, 1)
    return _segment(xi, y0, height, height / width, d0, d1)


def inverse_spline(y: Sites, knots: Knots) -> tuple[Sites, Sites]:
    """x and −log y′ for y within the knots."""
    x0, width, y0, height, d0, d1 = _bin(y, knots, knots.heights)
    s = height / width
    u = ((y - y0) / height).clamp(0, 1)
    v = 1 - u
    discriminant = (d0 * v - d1 * u) ** 2 + 4 * s * s * u * v
    root, b = torch.sqrt(discriminant), d0 - u * (d0 + d1 - 2 * s)
    rising = 2 * s * u / (b.clamp(min=0) + root)
    falling = (root - b) / (2 * (s - b.clamp(max=0)))
    xi = torch.where(b >= 0, rising, falling).clamp(0, 1)
    _, log_slope = _segment(xi, y0, height, s, d0, d1)
    return x0 + width * xi, -log_slope


def _bin(at: Sites, knots: Knots, along: Tensor) -> list[Tensor]:
    """x_k, w, y_k, h, d_k, d_{k+1} of the bin that holds `at`; `along` is `widths` or `heights`."""
    start, widths, heights, slopes = knots
    x0, y0 = _starts(widths, start), _starts(heights, start)
    edges = x0 if along is widths else y0
    k = (at[:, None] >= edges[:, 1:]).sum(1, keepdim=True)
    tables = ((x0, k), (widths, k), (y0, k), (heights, k), (slopes, k), (slopes, k + 1))
    return [table.expand(len(at), -1, at.shape[1]).gather(1, index)[:, 0] for table, index in tables]


def _starts(sizes: Tensor, start: float) -> Tensor:
    """Where each bin begins."""
    return functional.pad(sizes.cumsum(1)[:, :-1], (0, 0, 1, 0)) + start


def _segment(
    xi: Tensor, y0: Tensor, height: Tensor, s: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """y and log y′ at the fraction ξ of a bin."""
    cross = xi * (1 - xi)
    denominator = s + (d0 + d1 - 2 * s) * cross
    y = y0 + height * (s * xi * xi + d0 * cross) / denominator
    share = s / denominator
    slope = share * share * (d1 * xi * xi + 2 * s * cross + d0 * (1 - xi) ** 2)
    return y, torch.log(slope)
