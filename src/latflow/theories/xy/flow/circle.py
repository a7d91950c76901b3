"""The map of the circle that carries uniform angles to those of a generalised von Mises distribution."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.densities.flows.circular_maps import CircularMap
from latflow.densities.flows.scalar_maps import Parameters
from latflow.lattice import wrapped
from latflow.types import Sites

_NODES = 64
"""Angles at which the density is known: the Fourier coefficients that they miss are below 10⁻¹⁴ of the mean
for concentrations up to about 10."""


_LONGEST_SEARCH = 40
"""Steps of Newton's method or bisections: a handful, but where the density is next to nothing."""


class _Series(NamedTuple):
    """The density at each site.

    Attributes:
        exponents: a_k − i b_k, (batch, active, K).
        log_mean: log ⟨exp g⟩, (batch, active).
        coefficients: 2 (A_j − i B_j), (batch, active, _NODES/2 − 1).
    """

    exponents: Tensor
    log_mean: Tensor
    coefficients: Tensor


class GeneralizedVonMises(CircularMap):
    """y = t + Φ⁻¹(x − t), where Φ is 2π times the distribution function of a density of angles.

        r(δ) = exp g(δ) / ⟨exp g⟩,   g(δ) = Σ_{k≤K} [a_k cos kδ + b_k sin kδ],   ⟨f⟩ = (2π)⁻¹ ∫ f dδ
        Φ(δ) = δ + Σ_j (2/j) [A_j sin jδ − B_j cos jδ],   A_j = ⟨r cos jδ⟩,   B_j = ⟨r sin jδ⟩

    So log y′ = −log r(y − t), and a uniform x gives y the density r(y − t)/2π. With K = 1 this is the
    distribution of von Mises. If x and t are turned by one angle, so is y; and b → −b, t → −t, x → −x makes
    it −y. The parameters are a_1 … a_K, b_1 … b_K and t; averages over the circle are sums over 64 angles,
    exact to rounding for concentrations of physical size. Values lie in (−π, π]. Φ⁻¹ is found by Newton's
    method between brackets; its gradients are those of the implicit function. Source: Gatto, Jammalamadaka,
    The generalized von Mises distribution, Statistical Methodology 4 (2007) 341.

    Args:
        harmonics: K, at least 1.

    Raises:
        ValueError: for no harmonic.
    """

    def __init__(self, harmonics: int = 4) -> None:
        if harmonics < 1:
            raise ValueError(f"expected at least one harmonic, got {harmonics}")
        self.harmonics = harmonics

    @property
    def n_parameters(self) -> int:
        """2K + 1."""
        return 2 * self.harmonics + 1

    def identity(self) -> list[float]:
        """Zeros."""
        return [0.0] * self.n_parameters

    def forward(self, x: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """y in (−π, π] and log y′."""
        series, shift = self._series(parameters)
        x = wrapped(x - shift)
        with torch.no_grad():
            root = _root(x, series)
            slope = self._log_density(root, series).exp()
            slope = slope.clamp(min=torch.finfo(slope.dtype).eps ** 2)  # where nothing is ever drawn
        # a step of Newton's method from the root has the gradient of the inverse,
        # dδ = (dx − ∂Φ at fixed δ) / r; its value would be rounding over a density that may be tiny;
        # x and Φ differ by whole turns
        step = wrapped(x - _distribution(root, series)) / slope
        angle = root + (step - step.detach())
        return wrapped(angle + shift), -self._log_density(angle, series)

    def inverse(self, y: Sites, parameters: Parameters) -> tuple[Sites, Sites]:
        """x in (−π, π] and −log y′."""
        series, shift = self._series(parameters)
        angle = y - shift
        return wrapped(_distribution(angle, series) + shift), self._log_density(angle, series)

    def _series(self, parameters: Parameters) -> tuple[_Series, Tensor]:
        if parameters.shape[1] != self.n_parameters:
            raise ValueError(f"expected {self.n_parameters} parameters a site, got {parameters.shape[1]}")
        a, b, shift = parameters.split([self.harmonics, self.harmonics, 1], 1)
        exponents = torch.complex(a, -b).transpose(1, 2)
        waves = _waves(_nodes(parameters), _NODES // 2 - 1)
        g = (exponents @ waves[:, : self.harmonics].T).real
        log_mean = torch.logsumexp(g, -1) - math.log(_NODES)
        r = torch.exp(g - log_mean[..., None])
        coefficients = torch.complex(r @ waves.real, -(r @ waves.imag)) * (2 / _NODES)
        return _Series(exponents, log_mean, coefficients), shift[:, 0]

    def _log_density(self, angle: Sites, series: _Series) -> Sites:
        """log r."""
        return (series.exponents * _waves(angle, self.harmonics)).real.sum(-1) - series.log_mean


def _waves(angle: Tensor, order: int) -> Tensor:
    """e^{ikδ} for k = 1 … order, along a new last axis, each the product of two before."""
    waves = torch.complex(angle.cos(), angle.sin())[..., None]
    while (n := waves.shape[-1]) < order:
        waves = torch.cat((waves, waves[..., : order - n] * waves[..., -1:]), -1)
    return waves


def _nodes(like: Tensor) -> Tensor:
    """−π + 2πi/_NODES."""
    steps = torch.arange(_NODES, dtype=like.dtype, device=like.device)
    return 2 * math.pi * steps / _NODES - math.pi


def _orders(series: _Series) -> Tensor:
    """The numbers j of the coefficients."""
    real = series.log_mean
    return torch.arange(1, series.coefficients.shape[-1] + 1, dtype=real.dtype, device=real.device)


def _distribution(angle: Sites, series: _Series) -> Sites:
    """Φ, which grows by 2π when δ does."""
    waves = _waves(angle, series.coefficients.shape[-1])
    return angle + (series.coefficients / _orders(series) * waves).imag.sum(-1)


def _root(x: Sites, series: _Series) -> Sites:
    """δ with Φ(δ) = x up to whole turns, to the last digits of the precision."""
    integrated = series.coefficients / _orders(series)
    nodes, order = _nodes(x), integrated.shape[-1]
    values = nodes + (integrated @ _waves(nodes, order).T).imag
    values = torch.cat((values, values[..., :1] + 2 * math.pi), -1)
    first = values[..., 0]
    target = first + (x - first).remainder(2 * math.pi)
    k = (target[..., None] >= values[..., 1:-1]).sum(-1, keepdim=True)
    below, above = (torch.take_along_dim(values, index, -1)[..., 0] for index in (k, k + 1))
    step = 2 * math.pi / _NODES
    low = k[..., 0].to(x.dtype) * step - math.pi
    high = low + step
    delta = low + step * ((target - below) / (above - below).clamp(min=torch.finfo(x.dtype).tiny)).clamp(0, 1)
    for _ in range(_LONGEST_SEARCH):
        waves = _waves(delta, order)
        excess = delta + (integrated * waves).imag.sum(-1) - target
        low, high = torch.where(excess > 0, low, delta), torch.where(excess > 0, delta, high)
        newton = delta - excess / (1 + (series.coefficients * waves).real.sum(-1))
        # a step of Newton's method that leaves the brackets, or is nan, becomes a bisection
        delta = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if not bool((excess.abs() > 8 * math.pi * torch.finfo(x.dtype).eps).any()):
            break
    return delta
