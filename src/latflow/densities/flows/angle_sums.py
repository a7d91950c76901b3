"""Independent angles with a given sum: their normalisation by characters, and exact draws."""

import math
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

_TURN = 2 * math.pi
_NODES = 400
"""Of Gauss's rule on (−π, π): characters up to ν = 100 to rounding."""
_CELLS = 1024
"""In which single angles are drawn before rejection."""
_FEW = 8
"""So many angles are drawn without bridging."""
_BISECTIONS = 60
_NEGLIGIBLE = 1e-18
_AT_ONCE = 256
"""Sets of angles that are tried together at least."""


class AngleSums:
    """What V independent angles, each with a density ∝ w(F) on (−π, π], are when they add up to 2πQ.

        log w(F) = Σ_{n≤N} (b_n cos nF + d_n sin nF)
        Z = ∫ Π_x dF(x)/2π w(F(x)) · 2πδ(Σ_x F(x) − 2πQ) = ∫ dν ŵ(ν)^V exp(−2πiνQ),  ŵ(ν) = ∫ dF/2π w exp(iνF)

    A factor exp(λF) with any λ changes neither the angles nor, up to exp(2πQλ), Z. With the λ at which the
    mean of F is 2πQ/V the integrand is positive around ν = 0 and small elsewhere, so Z keeps its digits for
    every charge, and draws of independent angles come close to the sum that they should have.

    Args:
        sites: V.
        harmonics: N.
        device: where the numbers are.

    Raises:
        ValueError: for less than 9 sites, where characters fall too slowly.
    """

    def __init__(self, sites: int, harmonics: int, device: torch.device) -> None:
        if sites < 9:
            raise ValueError(f"expected at least 9 angles, got {sites}")
        self.sites: int = sites
        self.harmonics: int = harmonics
        self.device: torch.device = device

    @cached_property
    def _rule(self) -> tuple[Tensor, Tensor, Tensor]:
        """F, log of dF/2π, and the waves (2N, nodes)."""
        x, weights = _gauss_rule()
        nodes = torch.tensor(math.pi * x, device=self.device)
        return nodes, torch.tensor(weights / 2, device=self.device).log(), self.waves(nodes).T

    @cached_property
    def _characters(self) -> tuple[int, Tensor, Tensor, Tensor]:
        """The period in which sums are told apart, ν in steps of its inverse, and cos νF, sin νF.

        Beyond the largest ν the power of a character is below rounding, as it falls at least as 1/πν. By
        Hoeffding's bound no sum strays as far from its mean as the period.
        """
        period = math.ceil(min(self.sites + 1, math.sqrt(20 * self.sites) + 1))
        count = math.ceil(max(6, 200 / self.sites) * period)
        nu = torch.arange(count, dtype=torch.float64, device=self.device) / period
        phase = self._rule[0][:, None] * nu
        return period, nu, phase.cos(), phase.sin()

    def waves(self, angles: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape waves"]:
        """cos nF for n = 1 … N, then sin nF."""
        orders = torch.arange(1, self.harmonics + 1, dtype=angles.dtype, device=angles.device)
        multiples = angles[..., None] * orders
        return torch.cat((multiples.cos(), multiples.sin()), -1)

    def log_partition(
        self, series: Float[Tensor, "sets waves"], charges: Float[Tensor, "sets"]
    ) -> Float[Tensor, "sets"]:
        """log Z of each set of b and d with its Q; differentiable in b and d."""
        nodes, log_measure, waves = self._rule
        period, *_ = self._characters
        log_w = series @ waves
        tilt = self.tilt(series, charges)
        log_norm, size, angle = self._transformed(log_w + tilt[:, None] * nodes + log_measure)
        # about the mean, 2πQ/V for each angle
        integrand = size**self.sites * torch.cos(
            self.sites * angle - _TURN * charges[:, None] * self._characters[1]
        )
        integral = (integrand[:, 0] + 2 * integrand[:, 1:].sum(1)) / period
        return self.sites * log_norm - _TURN * charges * tilt + integral.log()

    @torch.no_grad()
    def tilt(
        self, series: Float[Tensor, "sets waves"], charges: Float[Tensor, "sets"]
    ) -> Float[Tensor, "sets"]:
        """λ at which the mean of F is 2πQ/V, by bisection."""
        nodes, log_measure, waves = self._rule
        log_w, wanted = series @ waves + log_measure, _TURN * charges / self.sites
        low = torch.full_like(wanted, -10.0 * self.sites)
        high = -low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            mean = torch.softmax(log_w + middle[:, None] * nodes, 1) @ nodes
            low, high = torch.where(mean < wanted, middle, low), torch.where(mean < wanted, high, middle)
        return (low + high) / 2

    def _transformed(self, log_w: Float[Tensor, "sets nodes"]) -> tuple[Tensor, Tensor, Tensor]:
        """log ŵ(0), and |ŵ(ν)/ŵ(0)| with its phase."""
        log_norm = torch.logsumexp(log_w, 1)
        density = torch.exp(log_w - log_norm[:, None])
        real, imaginary = density @ self._characters[2], density @ self._characters[3]
        return log_norm, torch.sqrt(real * real + imaginary * imaginary), torch.atan2(imaginary, real)

    @torch.no_grad()
    def draw(
        self, n: int, series: Float[Tensor, "waves"], charge: int, generator: Generator
    ) -> Float[Tensor, "n sites"]:
        """n independent draws of the V angles, exact to rounding.

        Half of the angles are drawn independently and kept with the density, at what is missing to the sum,
        of the sum of the others; then half of these, and so on.
        """
        tilt = self.tilt(series[None], series.new_tensor([charge])).item()
        single = _Single(self, series, tilt)
        angles = series.new_empty(n, self.sites)
        missing = series.new_full((n,), _TURN * charge)
        first = 0
        while (left := self.sites - first) > 1:
            some = left // 2 if left > _FEW else left - 1
            density, largest = self._density_of_sum(single, left - some)
            place = slice(first, first + some)
            rows = torch.arange(n, device=self.device)
            while len(rows):
                tries = max(1, _AT_ONCE // len(rows))  # in vain for most where a sum is far from its mean
                drawn = single.draw((len(rows) * tries, some), generator)
                chance = density(missing[rows].repeat_interleave(tries) - drawn.sum(1)) / largest
                kept = (_uniform((len(drawn),), generator) < chance).view(-1, tries)
                found, first_kept = kept.any(1), kept.byte().argmax(1)
                angles[rows[found], place] = drawn.view(-1, tries, some)[found, first_kept[found]]
                rows = rows[~found]
            missing = missing - angles[:, place].sum(1)
            first += some
        angles[:, -1] = missing
        return angles

    def _density_of_sum(self, single: "_Single", angles: int) -> tuple[Callable[[Tensor], Tensor], float]:
        """The density of the sum of some independent angles, and a bound of it; of one up to a factor."""
        if angles == 1:
            return single.relative, 1.0
        nodes, log_measure, waves = self._rule
        _, size, angle = self._transformed((single.series @ waves + single.tilt * nodes + log_measure)[None])
        nu, power, phase = self._characters[1], size[0] ** angles, angles * angle[0]
        used = power > _NEGLIGIBLE
        nu, power, phase = nu[used], power[used] * torch.where(nu[used] > 0, 2.0, 1.0), phase[used]

        def density(total: Tensor) -> Tensor:
            return torch.cos(total[:, None] * nu - phase) @ power

        centre = angles * (
            torch.softmax(single.series @ waves + single.tilt * nodes + log_measure, 0) @ nodes
        )
        reach = torch.linspace(-3, 3, 4001, dtype=torch.float64, device=self.device) * math.sqrt(angles)
        return density, 1.0001 * density(centre + reach).max().item()


class _Single:
    """One angle with the density ∝ w(F) exp(λF), drawn from a histogram above it by rejection.

    Within a cell the density has a lower bound as well, which is close: few angles need it evaluated.
    """

    def __init__(self, sums: AngleSums, series: Tensor, tilt: float) -> None:
        self.sums, self.series, self.tilt = sums, series, tilt
        edges = torch.linspace(-math.pi, math.pi, _CELLS + 1, dtype=torch.float64, device=series.device)
        at_edges = self._log_density(edges)
        orders = torch.arange(1, sums.harmonics + 1, dtype=torch.float64, device=series.device).repeat(2)
        width = _TURN / _CELLS
        above = width**2 / 8 * (series.abs() @ orders**2)  # the most that it leaves the chord of a cell by
        self.bounds = torch.maximum(at_edges[1:], at_edges[:-1]) + above
        self.sure = (torch.minimum(at_edges[1:], at_edges[:-1]) - above - self.bounds).exp()
        self.largest = self.bounds.max()
        self.cumulative = torch.cumsum((self.bounds - self.largest).exp(), 0)

    def _log_density(self, angles: Tensor) -> Tensor:
        return self.sums.waves(angles) @ self.series + self.tilt * angles

    def relative(self, angles: Tensor) -> Tensor:
        """The density over a bound of it; zero outside of (−π, π]."""
        inside = (angles > -math.pi) & (angles <= math.pi)
        return torch.where(inside, (self._log_density(angles) - self.largest).exp(), 0.0)

    def draw(self, shape: tuple[int, int], generator: Generator) -> Tensor:
        found, wanted = self.series.new_empty(0), math.prod(shape)
        while len(found) < wanted:
            chosen = _uniform((wanted + 64,), generator) * self.cumulative[-1]
            cell = torch.searchsorted(self.cumulative, chosen).clamp(max=_CELLS - 1)
            angles = (cell + _uniform((len(cell),), generator)) * (_TURN / _CELLS) - math.pi
            limit = _uniform((len(cell),), generator)
            kept = limit < self.sure[cell]
            unsure = (~kept).nonzero()[:, 0]
            chance = (self._log_density(angles[unsure]) - self.bounds[cell[unsure]]).exp()
            kept[unsure] = limit[unsure] < chance
            found = torch.cat((found, angles[kept]))
        return found[:wanted].reshape(shape)


@cache
def _gauss_rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
