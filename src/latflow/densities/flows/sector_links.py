"""A prior of U(1) links whose topological sectors have weights and shapes of their own."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latflow.densities.base import Strata
from latflow.densities.flows.angle_sums import AngleSums
from latflow.densities.flows.priors import Prior
from latflow.fields import LINKS
from latflow.lattice import checked_plane, volume, wrapped
from latflow.links import axial_links, gauge_transformed, plaquette_angles
from latflow.types import Links, LogProb

_TURN = 2 * math.pi
_PURE = 0.01
"""The share of draws whose charge is that of pure gauge theory: none gets lost in training."""
_REFERENCE_VOLUME = 64
"""In which the parameters are the logarithms of the weights."""


class SectorLinks(Prior):
    """Links with independent plaquettes F given the charge Q, each charge with a weight and a density of F.

        r(θ) = p(Q) Π_x w_a(±F(x)) / [(2π)^{2V} Z_a(Q)],    Σ_x F(x) = 2πQ,    a = min(|Q|, A), ± = sgn Q
        log w_a(F) = β cos F + Σ_{n≤N} (b_{an} cos nF + d_{an} sin nF),    d_0 = 0
        p(Q) = 0.99 P_β(Q) exp(u_{|Q|} 64/V) / Σ_Q′ P_β(Q′) exp(u_{|Q′|} 64/V) + 0.01 P_β(Q)

    P_β is the distribution of the charge in pure gauge theory at β, and Z normalises each sector exactly
    (`AngleSums`). The parameters are zero at the start, where r is `QuenchedLinks`: b and d of a class are
    added to those of the class before, and u grows by the slope of the charge before plus a parameter, so
    that charges which no training has seen continue the others. Charges beyond A are drawn too, with u_A and
    the densities of pure gauge theory: none has probability zero. Holonomies are uniform. The draws and
    the density are exact; but log r jumps where Q does, by what the tilts d leave.

    Args:
        lattice: the two side lengths, each at least 3.
        beta: β ≥ 0.
        classes: A + 1, at least 1.
        harmonics: N, at least 1.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 3, and for other numbers out
            of range.
    """

    kind = LINKS

    def __init__(self, lattice: Sequence[int], beta: float, classes: int = 4, harmonics: int = 6) -> None:
        super().__init__(checked_plane(lattice))
        if min(self.lattice) < 3:
            raise ValueError(f"expected sides of at least 3, got {self.lattice}")
        if not 0 <= beta < math.inf or classes < 1 or harmonics < 1:
            raise ValueError(f"expected {beta=} ≥ 0, {classes=} ≥ 1 and {harmonics=} ≥ 1")
        self.beta = beta
        self.weights = nn.Parameter(torch.zeros(classes - 1))
        self.cosines = nn.Parameter(torch.zeros(classes, harmonics))
        self.sines = nn.Parameter(torch.zeros(classes - 1, harmonics))
        self._set_pure_gauge()

    def _set_pure_gauge(self) -> None:
        """log Z of every charge in pure gauge theory; those beyond A are drawn from there."""
        sites, (classes, harmonics) = volume(self.lattice), self.cosines.shape
        self._sums = AngleSums(sites, harmonics, self.like.device)
        self._pure = torch.zeros(2 * harmonics, dtype=torch.float64, device=self.like.device)
        self._pure[0] = self.beta
        # beyond twenty standard deviations of independent uniform angles nothing is ever drawn
        last = max(min((sites - 1) // 2, math.ceil(6 * math.sqrt(sites))), classes - 1)
        charges = torch.arange(last + 1, dtype=torch.float64, device=self.like.device)
        self._log_pure = self._sums.log_partition(self._pure.expand(len(charges), -1), charges)
        both = self._log_pure + math.log(2) * charges.sign()
        self._log_all = torch.logsumexp(both, 0)
        self._log_share = both - self._log_all
        """log P_β(|Q|), both signs together."""

    def _apply(self, fn, recurse: bool = True):
        module = super()._apply(fn, recurse)
        if self._pure.device != self.like.device:
            self._set_pure_gauge()
        return module

    def sample(self, n: int, generator: Generator) -> Links:
        """n independent draws, (n, 2, L0, L1)."""
        with torch.no_grad():
            charges = self._charges(n, generator)
            series = self._series()
            plaquettes = series.new_empty(n, volume(self.lattice))
            for charge in charges.unique().tolist():
                chosen = (charges == charge).nonzero()[:, 0]
                size = abs(charge)
                shape = series[size] if size < len(series) else self._pure
                drawn = self._sums.draw(len(chosen), shape, size, generator)
                plaquettes[chosen] = drawn if charge >= 0 else -drawn
            links = axial_links(plaquettes.view(n, *self.lattice), _angles((n, 2), generator))
            return wrapped(gauge_transformed(links, _angles((n, *self.lattice), generator))).to(self.like)

    def log_prob(self, z: Links) -> LogProb:
        """log r(z)."""
        plaquettes = wrapped(plaquette_angles(z)).flatten(1).double()
        with torch.no_grad():
            charge = (plaquettes.sum(1) / _TURN).round()
            row = charge.abs().long().clamp(max=len(self.cosines))  # the last one: beyond the classes
        wave = torch.polar(torch.ones_like(plaquettes), plaquettes)
        powers, sums = wave, []
        while len(sums) < self.cosines.shape[1]:
            sums.append(powers.sum(1))
            powers = powers * wave
        waves = torch.stack(sums, 1)
        even, odd = torch.cat((self._series(), self._pure[None]))[row].chunk(2, 1)
        log_w = (even * waves.real).sum(1) + charge.sign() * (odd * waves.imag).sum(1)
        return log_w + self._constants()[row] - 2 * volume(self.lattice) * math.log(_TURN)

    def strata(self, z: Links) -> Strata:
        """|Q|, and log p(|Q|), both signs together."""
        with torch.no_grad():
            charges = (wrapped(plaquette_angles(z)).flatten(1).double().sum(1) / _TURN).round().abs().long()
        return Strata(charges, self._log_probabilities()[charges])

    def on_lattice(self, lattice: Sequence[int]) -> "SectorLinks":
        """The same sectors, with the same parameters, on another lattice."""
        classes, harmonics = self.cosines.shape
        other = SectorLinks(lattice, self.beta, classes, harmonics).to(self.like)
        other.weights, other.cosines, other.sines = self.weights, self.cosines, self.sines
        return other

    def _series(self) -> Float[Tensor, "classes waves"]:
        """β δ_n1 + b and d of each class."""
        even = self.cosines.double().cumsum(0)
        odd = torch.cat((torch.zeros_like(even[:1]), self.sines.double().cumsum(0)))
        return torch.cat((even, odd), 1) + self._pure

    def _log_weights(self) -> Float[Tensor, "charges"]:
        """u 64/V of every charge."""
        slopes = self.weights.double().cumsum(0)
        u = torch.cat((torch.zeros_like(self._pure[:1]), slopes.cumsum(0)))
        beyond = u[-1:].expand(len(self._log_share) - len(u))
        return torch.cat((u, beyond)) * (_REFERENCE_VOLUME / volume(self.lattice))

    def _log_probabilities(self) -> Float[Tensor, "charges"]:
        """log p(|Q|), both signs together."""
        trained = torch.log_softmax(self._log_weights() + self._log_share, 0)
        pure = torch.log_softmax(self._log_share, 0)
        return torch.logaddexp(trained + math.log(1 - _PURE), pure + math.log(_PURE))

    def _constants(self) -> Float[Tensor, "rows"]:
        """log r + 2V log 2π without the densities of plaquettes: for each class, and for what is beyond."""
        series = self._series()
        classes = torch.arange(len(series), dtype=torch.float64, device=series.device)
        more = self._log_probabilities() - self._log_share - self._log_all
        log_z = self._sums.log_partition(series, classes)
        return torch.cat((more[: len(series)] + self._log_pure[: len(series)] - log_z, more[-1:]))

    def _charges(self, n: int, generator: Generator) -> Tensor:
        """Q of n draws."""
        charges = torch.multinomial(self._log_probabilities().exp(), n, replacement=True, generator=generator)
        signs = torch.rand(n, generator=generator, device=generator.device) < 0.5
        return torch.where(signs, charges, -charges)


def _angles(shape: tuple[int, ...], generator: Generator) -> Tensor:
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return _TURN * (unit - 0.5)
