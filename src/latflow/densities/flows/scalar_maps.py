"""Monotone maps of one number, with parameters for each site; they know no lattice.

Parameters have shape (batch, n_parameters, active), or anything that broadcasts to it.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latflow.densities.flows.rational_quadratic import Knots, inverse_spline, partition, precise, spline
from latflow.types import Sites

Parameters = Float[Tensor, "#batch _ #active"]


class ScalarMap(ABC):
    """A family of monotone maps y = f(x; parameters) of one number."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """How many numbers fix the map at one site."""

    @abstractmethod
    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y = f(x) and log f′(x), site by site."""

    @abstractmethod
    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x = f⁻¹(y) and log (f⁻¹)′(y), site by site."""


class RealMap(ScalarMap):
    """Maps of the real line, the identity where all parameters are zero.

    Each says how its parameters are built from outputs which are even and odd under a change of sign of the
    whole field, such that f(−x; −frozen) = −f(x; frozen).
    """

    n_even: int
    n_odd: int

    @property
    def n_parameters(self) -> int:
        """How many numbers fix the map at one site."""
        return self.n_even + self.n_odd

    @abstractmethod
    def symmetrized(self, even: Parameters, odd: Parameters) -> Parameters:
        """Parameters p with f(−x; p(−z)) = −f(x; p(z)), from even and odd functions of the frozen field z."""


class Affine(RealMap):
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


class Spline(RealMap):
    """Rational-quadratic spline on [−bound, bound], the identity outside.

    The parameters are K widths and K heights (softmax) and K − 1 slopes at the inner knots (softplus); the
    slope at ±bound is one. In half precisions the map is computed in single. Source: Durkan, Bekasov, Murray,
    Papamakarios, Neural spline flows, arXiv:1906.04032.

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
        self.n_even: int = sum((size + 1) // 2 for size in sizes)
        self.n_odd: int = sum(size // 2 for size in sizes)

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y and log y′."""
        inside, clamped = self._clamped(x)
        y, log_slope = spline(clamped, self._knots(parameters))
        return torch.where(inside, y.to(x), x), torch.where(inside, log_slope.to(x), 0.0)

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x and −log y′."""
        inside, clamped = self._clamped(y)
        x, log_slope = inverse_spline(clamped, self._knots(parameters))
        return torch.where(inside, x.to(y), y), torch.where(inside, log_slope.to(y), 0.0)

    def symmetrized(self, even: Parameters, odd: Parameters) -> Parameters:
        """Widths, heights and slopes, mirrored about the middle when the field changes sign."""
        sizes = (self.bins, self.bins, self.bins - 1)
        evens = even.split([(size + 1) // 2 for size in sizes], 1)
        odds = odd.split([size // 2 for size in sizes], 1)
        return torch.cat([_mirrored(e, o) for e, o in zip(evens, odds, strict=True)], 1)

    def _clamped(self, x: Sites) -> tuple[Tensor, Sites]:
        return x.abs() < self.bound, x.clamp(-self.bound, self.bound)

    def _knots(self, parameters: Parameters) -> Knots:
        if parameters.shape[1] != self.n_parameters:
            raise ValueError(
                f"expected {self.n_parameters} spline parameters a site, got {parameters.shape[1]}"
            )
        sizes = [self.bins, self.bins, self.bins - 1]
        widths, heights, slopes = precise(parameters).split(sizes, 1)
        widths, heights = (partition(part, 2 * self.bound, self._MINIMUM) for part in (widths, heights))
        slope_one = math.log(math.expm1(1 - self._MINIMUM))  # where the next line is 1
        slopes = functional.softplus(slopes + slope_one) + self._MINIMUM
        return Knots(-self.bound, widths, heights, functional.pad(slopes, (0, 0, 1, 1), value=1.0))


def _mirrored(even: Tensor, odd: Tensor) -> Tensor:
    """(e + o, [middle], flipped e − o): reversed when the odd part changes its sign."""
    half = odd.shape[1]
    sides, middle = even[:, :half], even[:, half:]
    return torch.cat((sides + odd, middle, (sides - odd).flip(1)), 1)
