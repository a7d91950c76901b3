"""Monotone maps of one real number, with parameters for each site; they know no lattice.

Parameters have shape (batch, n_parameters, active), or anything that broadcasts to it. Each map says how its
parameters are built from outputs which are even and odd under a change of sign of the whole field, such that
f(−x; −frozen) = −f(x; frozen).
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latflow.types import Sites

Parameters = Float[Tensor, "#batch _ #active"]


class ScalarMap(ABC):
    """A family of monotone maps y = f(x; parameters), the identity where all parameters are zero."""

    n_even: int
    n_odd: int

    @property
    def n_parameters(self) -> int:
        """How many numbers fix the map at one site."""
        return self.n_even + self.n_odd

    @abstractmethod
    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y = f(x) and log f′(x), site by site."""

    @abstractmethod
    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x = f⁻¹(y) and log (f⁻¹)′(y), site by site."""

    @abstractmethod
    def symmetrized(self, even: Parameters, odd: Parameters) -> Parameters:
        """Parameters p with f(−x; p(−z)) = −f(x; p(z)), from even and odd functions of the frozen field z."""


class Affine(ScalarMap):
    """y = exp(s) x + t, with parameters (s, t). Source: Dinh, Sohl-Dickstein, Bengio, arXiv:1605.08803."""

    n_even = 1
    n_odd = 1

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y and s."""
        s, t = parameters.expand(len(x), -1, x.shape[1]).unbind(1)
        return torch.exp(s) * x + t, s

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x = exp(−s)(y − t) and −s."""
        s, t = parameters.expand(len(y), -1, y.shape[1]).unbind(1)
        return torch.exp(-s) * (y - t), -s

    def symmetrized(self, even: Parameters, odd: Parameters) -> Parameters:
        """s is even, t is odd."""
        return torch.cat((even, odd), 1)


class Spline(ScalarMap):
    """Rational-quadratic spline on [−bound, bound], the identity outside.

    In bin k, of width w and height h, from (x_k, y_k) with slopes d_k and d_{k+1} at its ends and mean
    slope s = h/w, with ξ = (x − x_k)/w:

        y  = y_k + h (s ξ² + d_k ξ(1−ξ)) / (s + (d_{k+1} + d_k − 2s) ξ(1−ξ))
        y′ = s² (d_{k+1} ξ² + 2s ξ(1−ξ) + d_k (1−ξ)²) / (s + (d_{k+1} + d_k − 2s) ξ(1−ξ))²

    With υ = (y − y_k)/h, the inverse is a root of a quadratic equation,

        ξ = 2sυ / (b + √D) = (√D − b) / (2(s − b)),   b = d_k − υ(d_{k+1} + d_k − 2s),
                                                      D = (d_k(1−υ) − d_{k+1}υ)² + 4s²υ(1−υ),

    where the first form is for b ≥ 0 and the second for b < 0: no term then cancels another.

    The parameters are K widths and K heights (softmax) and K − 1 slopes at the inner knots (softplus); the
    slope at ±bound is one. Source: Durkan, Bekasov, Murray, Papamakarios, Neural spline flows,
    arXiv:1906.04032, eqs. 4-8.

    Args:
        bins: K, 2 to 999.
        bound: half the length of the interval.

    Raises:
        ValueError: for another number of bins or a bound that is not positive.
    """

    _MINIMUM = 1e-3
    """Smallest slope, and smallest share of the interval that a bin has: keeps the inverse accurate."""

    def __init__(self, bins: int = 8, bound: float = 4.0) -> None:
        most = round(1 / self._MINIMUM) - 1
        if not 2 <= bins <= most or not bound > 0:
            raise ValueError(f"expected 2 to {most} bins and a positive bound, got {bins} and {bound}")
        self.bins = bins
        self.bound = bound
        sizes = (bins, bins, bins - 1)
        self.n_even = sum((size + 1) // 2 for size in sizes)
        self.n_odd = sum(size // 2 for size in sizes)

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y and log y′."""
        inside, clamped = self._clamped(x)
        widths, heights, slopes = self._shapes(parameters)
        x0, width, y0, height, d0, d1 = self._bin(clamped, widths, heights, slopes, widths)
        xi = (clamped - x0) / width
        y, log_slope = _segment(xi, y0, height, height / width, d0, d1)
        return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x and −log y′."""
        inside, clamped = self._clamped(y)
        widths, heights, slopes = self._shapes(parameters)
        x0, width, y0, height, d0, d1 = self._bin(clamped, widths, heights, slopes, heights)
        s = height / width
        u = ((clamped - y0) / height).clamp(0, 1)
        v = 1 - u
        discriminant = (d0 * v - d1 * u) ** 2 + 4 * s * s * u * v
        root, b = torch.sqrt(discriminant), d0 - u * (d0 + d1 - 2 * s)
        rising = 2 * s * u / (b.clamp(min=0) + root)
        falling = (root - b) / (2 * (s - b.clamp(max=0)))
        xi = torch.where(b >= 0, rising, falling)
        _, log_slope = _segment(xi, y0, height, s, d0, d1)
        return torch.where(inside, x0 + width * xi, y), torch.where(inside, -log_slope, 0.0)

    def symmetrized(self, even: Parameters, odd: Parameters) -> Parameters:
        """Widths, heights and slopes, mirrored about the middle when the field changes sign."""
        sizes = (self.bins, self.bins, self.bins - 1)
        evens = even.split([(size + 1) // 2 for size in sizes], 1)
        odds = odd.split([size // 2 for size in sizes], 1)
        return torch.cat([_mirrored(e, o) for e, o in zip(evens, odds, strict=True)], 1)

    def _clamped(self, x: Sites) -> tuple[Tensor, Sites]:
        return x.abs() < self.bound, x.clamp(-self.bound, self.bound)

    def _shapes(self, parameters: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """Widths and heights (K of each) that fill the interval, and the slopes at all K + 1 knots."""
        if parameters.shape[1] != self.n_parameters:
            raise ValueError(
                f"expected {self.n_parameters} spline parameters a site, got {parameters.shape[1]}"
            )
        widths, heights, slopes = parameters.split([self.bins, self.bins, self.bins - 1], 1)
        widths, heights = (self._partition(logits) for logits in (widths, heights))
        slope_one = math.log(math.expm1(1 - self._MINIMUM))  # where the next line is 1
        slopes = functional.softplus(slopes + slope_one) + self._MINIMUM
        return widths, heights, functional.pad(slopes, (0, 0, 1, 1), value=1.0)

    def _partition(self, logits: Tensor) -> Tensor:
        share = self._MINIMUM + (1 - self._MINIMUM * self.bins) * logits.softmax(1)
        return 2 * self.bound * share

    def _bin(self, at: Sites, widths: Tensor, heights: Tensor, slopes: Tensor, along: Tensor) -> list[Tensor]:
        """x_k, w, y_k, h, d_k, d_{k+1} of the bin that holds `at`; `along` is `widths` or `heights`."""
        x0, y0 = self._starts(widths), self._starts(heights)
        knots = x0 if along is widths else y0
        k = (at[:, None] >= knots[:, 1:]).sum(1, keepdim=True)
        tables = ((x0, k), (widths, k), (y0, k), (heights, k), (slopes, k), (slopes, k + 1))
        return [table.expand(len(at), -1, at.shape[1]).gather(1, index)[:, 0] for table, index in tables]

    def _starts(self, sizes: Tensor) -> Tensor:
        """Where each bin begins."""
        return functional.pad(sizes.cumsum(1)[:, :-1], (0, 0, 1, 0)) - self.bound


def _segment(
    xi: Tensor, y0: Tensor, height: Tensor, s: Tensor, d0: Tensor, d1: Tensor
) -> tuple[Tensor, Tensor]:
    """y and log y′ at the fraction ξ of a bin."""
    cross = xi * (1 - xi)
    denominator = s + (d0 + d1 - 2 * s) * cross
    y = y0 + height * (s * xi * xi + d0 * cross) / denominator
    slope = s * s * (d1 * xi * xi + 2 * s * cross + d0 * (1 - xi) ** 2) / (denominator * denominator)
    return y, torch.log(slope)


def _mirrored(even: Tensor, odd: Tensor) -> Tensor:
    """(e + o, [middle], flipped e − o): reversed when the odd part changes its sign."""
    half = odd.shape[1]
    sides, middle = even[:, :half], even[:, half:]
    return torch.cat((sides + odd, middle, (sides - odd).flip(1)), 1)
