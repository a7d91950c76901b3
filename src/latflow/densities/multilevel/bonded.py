"""The multilevel density of spins with a coupling of its own for every bond."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.densities.base import unlowered
from latflow.densities.multilevel.geometry import beyond, classes, neighbours
from latflow.densities.multilevel.networks import bounded
from latflow.fields import SPINS
from latflow.lattice import batches, volume
from latflow.seeds import seeded
from latflow.theories.neighbours import BondedSpins
from latflow.types import Field, Lattice, LogProb

Rows = Float[Tensor, "_ batch"]
"""The spins of a lattice, a site in a row, and at the end a row of zeros for what is not known."""


class OwnNetworks(nn.Module):
    """A network for each of some sites, by the known sites w around it; odd in w to the last bit.

        c_n = U_n·w + V_n·g(W_n w),    g(a) = a/√(1 + a²)

    Where there is a field, w has a constant 1 beside the known sites.

    Args:
        sites: how many.
        known: how many sites each sees.
        width: of the hidden layer.
        constant: whether w has the constant.
        generator: draws the initial weights; all c are 0 at first.
    """

    def __init__(self, sites: int, known: int, width: int, *, constant: bool, generator: Generator) -> None:
        super().__init__()
        self.constant = constant
        seen = known + constant
        drawn = torch.randn(sites, width, seen, generator=generator, device=generator.device)
        self.first = nn.Parameter(drawn / math.sqrt(max(seen, 1)))
        self.second = nn.Parameter(drawn.new_zeros(sites, 1, width))
        self.linear = nn.Parameter(drawn.new_zeros(sites, 1, seen))

    def forward(self, window: Float[Tensor, "sites known batch"]) -> Float[Tensor, "sites batch"]:
        """c of each site."""
        if self.constant:
            one = window.new_ones(len(window), 1, window.shape[-1])
            window = torch.cat((window, one), 1)
        hidden = bounded(self.first @ window)
        return (self.linear @ window + self.second @ hidden).squeeze(1)


class BondedMultilevel(nn.Module):
    """A density of Ising spins, each bond with a coupling of its own, that knows them at every scale.

        q(s) = Π_n σ(2 c_n(window of n) s_n)

    The order in which sites are drawn is that of `Multilevel`, and so is what is exact: the last class of
    even sites, given all around, and the odd sites, with the couplings that they have. No two sites are
    alike, so that each has a network of its own, and the density serves one realisation of the couplings.

    Args:
        lattice: two or three sides that halve until few sites are left, see `geometry.depth`.
        theory: S as weights of single spins.
        width: of the networks.
        recipe: the configuration from which a named preset built the density.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice that does not halve often enough.
    """

    like: Tensor

    def __init__(
        self,
        lattice: Sequence[int],
        theory: BondedSpins,
        width: int,
        recipe: dict[str, Any] | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.lattice: Lattice = tuple(lattice)
        self.theory, self.kind, self.recipe = theory, SPINS, recipe
        self.symmetries = theory.site.symmetries
        self.classes = classes(self.lattice)
        drawn, constant = seeded(generator), not theory.site.even
        made = {
            one.name: OwnNetworks(len(one.sites), len(one.window), width, constant=constant, generator=drawn)
            for one in self.classes[:-1]
        }
        self.networks = nn.ModuleDict(made)
        around = theory.around.flatten(1)
        for one in self.classes:
            others = beyond(one.sites, self.lattice)
            near, far = self._strengths(one.sites, around)
            self._add(one.name, sites=one.sites, window=one.window, beyond=others, near=near, far=far)
        sites, four = neighbours(self.lattice, 1)
        self._add("odd", sites=sites, beyond=four, far=around[:, sites])
        self.register_buffer("like", torch.empty(0), persistent=False)

    def _add(self, name: str, **tables: Tensor) -> None:
        """Tables of a class, or of the odd sites."""
        for what, table in tables.items():
            self.register_buffer(f"{what}_{name}", table, persistent=False)

    def _strengths(self, sites: Int[Tensor, "sites"], around: Tensor) -> tuple[Tensor, Tensor]:
        """J of a site and each neighbour, and of each neighbour and its others, as `beyond` has them."""
        even, ends = neighbours(self.lattice, 0)
        far = []
        for step, end in enumerate(ends[:, torch.searchsorted(even, sites)]):
            back = step ^ 1  # steps go forwards and backwards in pairs
            far.append(around[[other for other in range(len(ends)) if other != back]][:, end])
        return around[:, sites], torch.stack(far)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent draws, (n, *lattice), and log q of each in float64, without graph."""
        if n == 0:
            return self.like.new_zeros(0, *self.lattice), self.like.new_zeros(0, dtype=torch.float64)
        parts = [self._drawn(size, generator) for size in batches(n, self.lattice, _AT_ONCE)]
        x = torch.cat([rows[:-1].T for rows, _ in parts]).contiguous()
        return x.unflatten(1, self.lattice), torch.cat([log_q for _, log_q in parts])

    def _drawn(self, n: int, generator: Generator) -> tuple[Rows, LogProb]:
        rows = self.like.new_zeros(volume(self.lattice) + 1, n)
        log_q = self.like.new_zeros(n, dtype=torch.float64)
        for name in self._steps:
            log_odds = 2 * self._half_log_odds(name, rows).double()
            uniform = torch.rand(log_odds.shape, generator=generator, dtype=torch.float64, device=rows.device)
            drawn = torch.where(torch.logit(uniform) < log_odds, 1.0, -1.0)
            rows[self._table("sites", name)] = drawn.to(rows.dtype)
            log_q += functional.logsigmoid(log_odds * drawn).sum(0)
        return rows, log_q

    def log_prob(self, x: Field) -> LogProb:
        """log q(x) in float64.

        Raises:
            ValueError: for fields on another lattice.
        """
        self.kind.check(x, self.lattice)
        rows, log_q = self._rows(x), self.like.new_zeros(len(x), dtype=torch.float64)
        for name in self._steps:
            log_odds = 2 * self._half_log_odds(name, rows).double()
            log_q = log_q + functional.logsigmoid(log_odds * rows[self._table("sites", name)]).sum(0)
        return log_q

    def cross_entropy(self, x: Field, columns: int, generator: Generator) -> Tensor:
        """−⟨log q(even)⟩ by soft labels: in place of each s_n its exact density given all other even sites.

        One number with a graph, the sum over sites of the means over fields. Each site has to learn by
        itself, so that all of them are judged, in fewer of the fields where they are many.

        Args:
            x: fields from p, of which the even sites alone matter.
            columns: of how many sites, over all fields, each class is judged.
            generator: of the choice of fields.
        """
        total = self.like.new_zeros((), dtype=torch.float64)
        order = torch.rand(len(x), generator=generator, device=x.device).argsort()
        every = self._rows(x[order])
        for name in self.networks:
            rows = every[:, : max(1, columns // len(self._table("sites", name)))]
            log_odds = 2 * self._half_log_odds(name, rows)
            with unlowered(rows):
                p = torch.sigmoid(2 * self._exactly(name, rows))
                each = functional.softplus(log_odds) - p * log_odds
            total = total + each.mean(1).sum(dtype=torch.float64)
        return total

    @property
    def _steps(self) -> list[str]:
        """The names of the classes in the order in which they are drawn, and of the odd sites at the end."""
        return [*(one.name for one in self.classes), "odd"]

    def _half_log_odds(self, name: str, rows: Rows) -> Float[Tensor, "sites batch"]:
        """c of all sites of a class, or of the odd ones."""
        if name in self.networks:
            window = _taken(rows, self._table("window", name))
            return self.networks[name](window.transpose(0, 1)).to(rows.dtype)
        with unlowered(rows):
            if name == "odd":
                return self._summed(name, rows) + self.theory.site.field
            return self._exactly(name, rows)

    def _exactly(self, name: str, rows: Rows) -> Float[Tensor, "sites batch"]:
        """c of p(s | all other even sites) = H + ½ Σ_j [log z(h_j + J_nj) − log z(h_j − J_nj)]."""
        fields, site = self._summed(name, rows), self.theory.site
        near = self._table("near", name).to(rows.dtype)[..., None]
        gains = site.log_partition(fields + near) - site.log_partition(fields - near)
        return gains.sum(0) / 2 + site.field

    def _summed(self, name: str, rows: Rows) -> Tensor:
        """Σ J s over what a table names, for each of the sites that it is of."""
        strengths = self._table("far", name).to(rows.dtype)[..., None]
        return (strengths * _taken(rows, self._table("beyond", name))).sum(-3)

    def _table(self, what: str, name: str) -> Tensor:
        return self.get_buffer(f"{what}_{name}")

    def _rows(self, x: Field) -> Rows:
        flat = x.flatten(1).T.to(self.like)
        return torch.cat((flat, torch.zeros_like(flat[:1])))


_AT_ONCE = 262_144
"""Sites that are drawn at once: what belongs to them stays near the processor."""


def _taken(rows: Rows, table: Int[Tensor, "*more sites"]) -> Float[Tensor, "*more sites batch"]:
    """The rows that a table names; several times as fast as by brackets."""
    return rows.index_select(0, table.flatten()).view(*table.shape, rows.shape[1])
