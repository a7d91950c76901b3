"""Monotone maps of the circle, for angles: each turns it once, and ends with a rotation by a parameter."""

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from latflow.densities.flows.rational_quadratic import (
    Knots,
    at_least,
    inverse_spline,
    partition,
    precise,
    spline,
)
from latflow.densities.flows.scalar_maps import Parameters, ScalarMap
from latflow.types import Sites

_TURN = 2 * math.pi

_LARGEST_LOG_SCALE = 40.0
"""Beyond, a scaling of the real line moves no angle by more than rounding, and its square overflows."""


class CircularMap(ScalarMap):
    """Maps of the circle, by angles in radians."""

    @abstractmethod
    def identity(self) -> list[float]:
        """The parameters with which y = x."""


class CircularSpline(CircularMap):
    """Rational-quadratic spline of [0, 2π) onto itself, equal slopes at both ends, then a shift modulo 2π.

    The parameters are K widths and K heights (softmax), K slopes (softplus) and the shift. The slope at the
    knot i = 1, …, K is the i-th; that at 0 is the K-th. Values lie in [0, 2π). Source: Rezende et al.,
    Normalizing flows on tori and spheres, arXiv:2002.02428, section 3.1.

    Args:
        bins: K, at least 2.
        minimum: the smallest slope, and the smallest share of the circle that a bin has, below 1/K. The
            papers have 0, which here is the rounding error of one; a little more keeps the inverse accurate
            in single precision.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(self, bins: int = 8, minimum: float = 1e-3) -> None:
        if bins < 2 or not 0 <= minimum < 1 / bins:
            raise ValueError(f"expected at least 2 bins and 0 ≤ minimum < 1/bins, got {bins} and {minimum}")
        self.bins = bins
        self.minimum = minimum

    @property
    def n_parameters(self) -> int:
        """3K + 1."""
        return 3 * self.bins + 1

    def identity(self) -> list[float]:
        """Zeros, and slopes of one."""
        slope = math.log(math.expm1(1 - self.minimum))
        return [0.0] * (2 * self.bins) + [slope] * self.bins + [0.0]

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y in [0, 2π) and log y′."""
        knots, shift = self._knots(parameters)
        y, log_slope = spline(_positive(precise(x)), knots)
        return _positive(y + shift).to(x), log_slope.to(x)

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x in [0, 2π) and −log y′."""
        knots, shift = self._knots(parameters)
        x, log_slope = inverse_spline(_positive(precise(y) - shift), knots)
        return _positive(x).to(y), log_slope.to(y)

    def _knots(self, parameters: Parameters) -> tuple[Knots, Tensor]:
        _check(parameters, self.n_parameters)
        sizes = [self.bins, self.bins, self.bins, 1]
        widths, heights, slopes, shift = precise(parameters).split(sizes, 1)
        slopes = functional.softplus(slopes) + at_least(self.minimum, slopes)
        knots = Knots(
            0.0,
            partition(widths, _TURN, self.minimum),
            partition(heights, _TURN, self.minimum),
            torch.cat((slopes[:, -1:], slopes), 1),
        )
        return knots, shift[:, 0]


class ProjectionMixture(CircularMap):
    """The mean of K scalings of the real line, seen on the circle by x → tan(x/2), then a shift modulo 2π.

        y = K⁻¹ Σ_k 2 arctan(exp(s_k) tan(x/2)) + t
        y′ = K⁻¹ Σ_k [ exp(−s_k) cos²(x/2) + exp(s_k) sin²(x/2) ]⁻¹

    for x in [−π, π]; each scaling keeps 0 and ±π where they are. The parameters are the K numbers s_k, cut
    off at ±40, and the shift t. For K > 1 the inverse has no closed form: it is found between brackets, by
    Newton's method where that stays inside and by bisection where not, and its gradients are those of the
    implicit function. Sources: Kanwar et al., Equivariant flow-based sampling for lattice gauge theory,
    arXiv:2003.06413; Albergo et al., Introduction to normalizing flows for lattice field theory,
    arXiv:2101.08176.

    Args:
        components: K, at least 1.

    Raises:
        ValueError: for no component.
    """

    def __init__(self, components: int = 6) -> None:
        if components < 1:
            raise ValueError(f"expected at least one component, got {components}")
        self.components = components

    @property
    def n_parameters(self) -> int:
        """K + 1."""
        return self.components + 1

    def identity(self) -> list[float]:
        """Zeros."""
        return [0.0] * self.n_parameters

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y in [0, 2π) and log y′."""
        log_scales, shift = self._split(parameters)
        y, slope = _projected(_centred(precise(x)), log_scales)
        return _positive(y + shift).to(x), slope.log().to(x)

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x in [0, 2π) and −log y′."""
        log_scales, shift = self._split(parameters)
        target = _centred(precise(y) - shift)
        with torch.no_grad():
            root = _root(target, log_scales)
            _, slope = _projected(root, log_scales)
        # a step of Newton's method from the root has the gradient of the inverse, dx = (dy − ∂_s f ds) / f′;
        # its value would be rounding over a slope that may be tiny
        step = (target - _projected(root, log_scales)[0]) / slope
        x = root + (step - step.detach())
        return _positive(x).to(y), -_projected(x, log_scales)[1].log().to(y)

    def _split(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        _check(parameters, self.n_parameters)
        numbers = precise(parameters)
        return numbers[:, :-1].clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE), numbers[:, -1]


def _projected(x: Sites, log_scales: Tensor) -> tuple[Sites, Sites]:
    """y before the shift, and y′, for x in [−π, π]."""
    sine, cosine = torch.sin(x / 2)[:, None], torch.cos(x / 2)[:, None]
    grown, shrunk = torch.exp(log_scales / 2), torch.exp(-log_scales / 2)
    y = 2 * torch.atan2(grown * sine, shrunk * cosine)
    slope = 1 / ((shrunk * cosine) ** 2 + (grown * sine) ** 2)
    return y.mean(1), slope.mean(1)


def _root(target: Sites, log_scales: Tensor) -> Sites:
    """x in [−π, π] with y(x) = target, to the last digits of the precision."""
    low, high = torch.full_like(target, -math.pi), torch.full_like(target, math.pi)
    x = target.clone()
    for _ in range(-2 * math.frexp(torch.finfo(target.dtype).eps)[1]):
        y, slope = _projected(x, log_scales)
        above = y > target
        low, high = torch.where(above, low, x), torch.where(above, x, high)
        newton = x - (y - target) / slope
        # a step of Newton's method that leaves the brackets, or is nan, becomes a bisection
        new = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
        moved = (new - x).abs().amax() if x.numel() else x.new_zeros(())
        x = new
        if moved <= 4 * math.pi * torch.finfo(target.dtype).eps:
            break
    return x


def _positive(x: Sites) -> Sites:
    """The same angle in [0, 2π)."""
    turned = x.remainder(_TURN)
    return torch.where(turned < _TURN, turned, 0.0)  # of a small negative angle rounding makes 2π


def _centred(x: Sites) -> Sites:
    """The same angle in [−π, π]."""
    return (x + math.pi).remainder(_TURN) - math.pi


def _check(parameters: Parameters, expected: int) -> None:
    if parameters.shape[1] != expected:
        raise ValueError(f"expected {expected} parameters a site, got {parameters.shape[1]}")
