"""A prior of U(1) links whose topological sectors have weights and shapes of their own."""

import math
from collections.abc import Sequence
from functools import reduce
from operator import mul

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latflow.densities.base import Strata
from latflow.densities.flows.angle_sums import AngleSums
from latflow.densities.flows.priors import Prior
from latflow.fields import LINKS, FieldKind
from latflow.lattice import checked_plane, volume, wrapped
from latflow.links import axial_links, gauge_transformed, plaquette_angles
from latflow.types import Links, LogProb

_TURN = 2 * math.pi
_PURE = 0.01
"""The share of draws whose charge is that of pure gauge theory: none gets lost in training."""
_REFERENCE_VOLUME = 64
"""In which the parameters are the logarithms of the weights."""
_RARE = 1e-10
"""Charges of which pure gauge theory has less have no densities of their own."""


class SectorLinks(Prior):
    """Links with independent plaquettes F given the charge Q, each charge with a weight and a density of F.

        r(θ) = p(Q) Π_x w_{|Q|}(±F(x)) / [(2π)^{2V} Z(|Q|)],    Σ_x F(x) = 2πQ,    ± = sgn Q
        log w_a(F) = β cos F + Σ_{n≤N} [b_n(a) cos nF + d_n(a) sin nF]
        p(Q) = 0.99 P_β(Q) exp(u(|Q|) 64/V) / Σ_Q′ P_β(Q′) exp(u(|Q′|) 64/V) + 0.01 P_β(Q)

    P_β is the distribution of the charge in pure gauge theory at β, and Z normalises each sector exactly
    (`AngleSums`). What depends on the charge are few bounded functions of it, and a square for u,

        b_n(a) = Σ_{j<J} b_nj f_j(a),   d_n(a) = Σ_{0<j<J} d_nj f_j(a),   u(a) = u_0 a² + Σ_{0<j<J} u_j f_j(a)
        f_j(a) = Π_{i<j} [t(a) − t(i)] / [t(j) − t(i)],    t(a) = a / (a + 2)

    which make the charges 0 … J − 1 free and take the others along: rare charges, of which a step of training
    sees one or none, would learn noise on their own. All parameters are zero at the start, where r is
    `QuenchedLinks`. Charges that have less than 10⁻¹⁰ in pure gauge theory are drawn too, with the densities
    of pure gauge theory: none has probability zero. Holonomies are uniform. The draws and the density are
    exact; but log r jumps where Q does, by what the tilts d leave.

    Args:
        lattice: the two side lengths, each at least 3.
        beta: β ≥ 0.
        terms: J, at least 1.
        harmonics: N, at least 1.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 3, and for other numbers out
            of range.
    """

    kind: FieldKind = LINKS

    def __init__(self, lattice: Sequence[int], beta: float, terms: int = 3, harmonics: int = 6) -> None:
        super().__init__(checked_plane(lattice))
        if min(self.lattice) < 3:
            raise ValueError(f"expected sides of at least 3, got {self.lattice}")
        if not 0 <= beta < math.inf or terms < 1 or harmonics < 1:
            raise ValueError(f"expected {beta=} ≥ 0, {terms=} ≥ 1 and {harmonics=} ≥ 1")
        self.beta = beta
        self.weights: nn.Parameter = nn.Parameter(torch.zeros(terms))
        self.cosines: nn.Parameter = nn.Parameter(torch.zeros(terms, harmonics))
        self.sines: nn.Parameter = nn.Parameter(torch.zeros(terms - 1, harmonics))
        self._set_pure_gauge()

    def _set_pure_gauge(self) -> None:
        """log Z of every charge in pure gauge theory, and the functions of those that are not too rare."""
        sites, (terms, harmonics) = volume(self.lattice), self.cosines.shape
        self._sums = AngleSums(sites, harmonics, self.like.device)
        self._pure = torch.zeros(2 * harmonics, dtype=torch.float64, device=self.like.device)
        self._pure[0] = self.beta
        # beyond twenty standard deviations of independent uniform angles nothing is ever drawn
        last = min((sites - 1) // 2, math.ceil(6 * math.sqrt(sites)))
        charges = torch.arange(last + 1, dtype=torch.float64, device=self.like.device)
        self._log_pure = self._sums.log_partition(self._pure.expand(len(charges), -1), charges)
        both = self._log_pure + math.log(2) * charges.sign()
        self._log_all = torch.logsumexp(both, 0)
        self._log_share = both - self._log_all
        """log P_β(|Q|), both signs together."""
        self._charges = charges[self._log_share > math.log(_RARE)]
        self._functions = _functions(self._charges, terms)

    def _apply(self, fn, recurse: bool = True):
        module = super()._apply(fn, recurse)
        if self._pure.device != self.like.device:
            self._set_pure_gauge()
        return module

    def sample(self, n: int, generator: Generator) -> Links:
        """n independent draws, (n, 2, L0, L1)."""
        with torch.no_grad():
            charges = self._drawn_charges(n, generator)
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
            row = charge.abs().long().clamp(max=len(self._charges))  # the last one: all that are too rare
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
        terms, harmonics = self.cosines.shape
        other = SectorLinks(lattice, self.beta, terms, harmonics).to(self.like)
        other.weights, other.cosines, other.sines = self.weights, self.cosines, self.sines
        return other

    def _series(self) -> Float[Tensor, "charges waves"]:
        """β δ_n1 + b(|Q|), and d(|Q|), of each charge that is not too rare."""
        even = self._functions @ self.cosines.double()
        odd = self._functions[:, 1:] @ self.sines.double()
        return torch.cat((even, odd), 1) + self._pure

    def _log_weights(self) -> Float[Tensor, "all"]:
        """u 64/V of every charge."""
        functions = torch.cat((self._charges[:, None].square(), self._functions[:, 1:]), 1)
        u = functions @ self.weights.double()
        beyond = u[-1:].expand(len(self._log_share) - len(u))
        return torch.cat((u, beyond)) * (_REFERENCE_VOLUME / volume(self.lattice))

    def _log_probabilities(self) -> Float[Tensor, "all"]:
        """log p(|Q|), both signs together."""
        trained = torch.log_softmax(self._log_weights() + self._log_share, 0)
        pure = torch.log_softmax(self._log_share, 0)
        return torch.logaddexp(trained + math.log(1 - _PURE), pure + math.log(_PURE))

    def _constants(self) -> Float[Tensor, "rows"]:
        """log r + 2V log 2π without the densities of plaquettes: of each charge, and of all too rare ones."""
        own = len(self._charges)
        more = self._log_probabilities() - self._log_share - self._log_all
        log_z = self._sums.log_partition(self._series(), self._charges)
        return torch.cat((more[:own] + self._log_pure[:own] - log_z, more[-1:]))

    def _drawn_charges(self, n: int, generator: Generator) -> Tensor:
        """Q of n draws."""
        charges = torch.multinomial(self._log_probabilities().exp(), n, replacement=True, generator=generator)
        signs = torch.rand(n, generator=generator, device=generator.device) < 0.5
        return torch.where(signs, charges, -charges)


def _functions(charges: Float[Tensor, "charges"], terms: int) -> Float[Tensor, "charges terms"]:
    """f_j(|Q|), Newton's polynomials of t."""
    t, nodes = charges / (charges + 2), [a / (a + 2) for a in range(terms)]
    factors = [[(t - node) / (nodes[j] - node) for node in nodes[:j]] for j in range(terms)]
    return torch.stack([reduce(mul, some, torch.ones_like(t)) for some in factors], 1)


def _angles(shape: tuple[int, ...], generator: Generator) -> Tensor:
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return _TURN * (unit - 0.5)
