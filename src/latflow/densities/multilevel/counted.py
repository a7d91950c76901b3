"""The multilevel density of spins by tables, which are learned by counting."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from latflow.densities.multilevel.conditionals import SpinConditional
from latflow.densities.multilevel.geometry import classes, counterpart, depth, neighbours
from latflow.densities.multilevel.tables import Counts, Table
from latflow.densities.multilevel.windows import Seen, windows
from latflow.fields import SPINS
from latflow.lattice import batches, volume
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.sites import SpinWeight
from latflow.types import Field, Lattice, LogProb

Rows = Float[Tensor, "_ batch"]
"""The spins of a lattice, a site in a row."""


class CountedMultilevel(nn.Module):
    """A density of Ising spins on a plane that knows them at every scale by tables.

        q(s) = Π_n σ(2 c[index(window of n)] s_n)

    The order in which sites are drawn is that of `Multilevel`, and so is what is exact: the last class of
    even sites by eight spins around, the odd sites by the sum of four. All these c are looked up: spins near
    a site are bits of the index, and those beyond it has by their sum. Nothing is learned by gradients:
    `count` compares fields with what the theory says of each of their sites, and `fit` makes tables of what
    was counted. Without a field the symmetry s → −s is exact.

    Args:
        lattice: side lengths that halve until few sites are left, see `geometry.depth`.
        theory: S as weights of single spins.
        tables: by the names of classes, for all but the last class; None for new ones, with which all spins
            of these classes are ±1 alike.
        recipe: the configuration from which a named preset built the density.

    Raises:
        ValueError: for a lattice that is no plane or does not halve often enough, and sites that are no
            spins.
    """

    like: Tensor

    def __init__(
        self,
        lattice: Sequence[int],
        theory: NearestNeighbours,
        tables: dict[str, Table] | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(theory.site, SpinWeight):
            raise ValueError(f"expected spins for tables, got {type(theory.site).__name__}")
        self.lattice: Lattice = tuple(lattice)
        self.theory, self.kind, self.recipe = theory, SPINS, recipe
        self.symmetries = ("z2",) if theory.site.even else ()
        self.seen = windows(self.lattice)
        self.tables = nn.ModuleDict(
            tables or {seen.one.name: Table(seen.window, z2=theory.site.even) for seen in self.seen}
        )
        for seen in self.seen:
            self._add(seen.one.name, seen.one.sites, seen.places, seen.window.weights)
        sites = torch.arange(volume(self.lattice))
        around, eight = _around(self.lattice), 2.0 ** torch.arange(8)
        last = classes(self.lattice)[-1].sites
        odd, four = neighbours(self.lattice, 1)
        self._add("anywhere", sites, around, eight)
        self._add("last", last, around[last], eight)
        self._add("odd", odd, four.T, torch.ones(4))
        for name, exact in zip(("exact_even", "exact_odd"), _exact(theory), strict=True):
            self.register_buffer(name, exact, persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)

    def _add(self, name: str, sites: Tensor, window: Tensor, weights: Tensor) -> None:
        """The numbers of the sites of a class, and of those they see, with the weights of an index."""
        self.register_buffer(f"sites_{name}", sites, persistent=False)
        self.register_buffer(f"window_{name}", window.contiguous(), persistent=False)
        weights = weights.expand(window.shape).contiguous()
        self.register_buffer(f"weights_{name}", weights, persistent=False)

    @property
    def _steps(self) -> list[str]:
        """The names of the classes in the order in which they are drawn."""
        return [*self.tables, "last", "odd"]

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent draws, (n, *lattice), and log q of each in float64, without graph."""
        if n == 0:
            return self.like.new_zeros(0, *self.lattice), self.like.new_zeros(0, dtype=torch.float64)
        parts = [self._drawn(size, generator) for size in batches(n, self.lattice, _AT_ONCE)]
        x = torch.cat([rows.T for rows, _ in parts]).contiguous()
        return x.unflatten(1, self.lattice), torch.cat([log_q for _, log_q in parts])

    def _drawn(self, n: int, generator: Generator) -> tuple[Rows, LogProb]:
        rows = self.like.new_zeros(volume(self.lattice), n)
        log_q = self.like.new_zeros(n, dtype=torch.float64)
        for name in self._steps:
            log_odds = 2 * self._looked_up(name, rows)
            uniform = torch.rand(log_odds.shape, generator=generator, dtype=torch.float64, device=rows.device)
            drawn = (uniform < torch.sigmoid(log_odds)).to(rows).mul_(2).sub_(1)
            rows[self.get_buffer(f"sites_{name}")] = drawn
            log_q += functional.logsigmoid(log_odds * drawn).sum(0, dtype=torch.float64)
        return rows, log_q

    @torch.no_grad()
    def log_prob(self, x: Field) -> LogProb:
        """log q(x) in float64, without graph: no parameter has a gradient.

        Raises:
            ValueError: for fields on another lattice.
        """
        self.kind.check(x, self.lattice)
        if len(x) == 0:
            return self.like.new_zeros(0, dtype=torch.float64)
        return torch.cat([self._log_prob(part) for part in x.split(batches(len(x), self.lattice, _AT_ONCE))])

    def _log_prob(self, x: Field) -> LogProb:
        rows, log_q = self._rows(x), self.like.new_zeros(len(x), dtype=torch.float64)
        for name in self._steps:
            log_odds = 2 * self._looked_up(name, rows)
            values = rows[self.get_buffer(f"sites_{name}")]
            log_q += functional.logsigmoid(log_odds * values).sum(0, dtype=torch.float64)
        return log_q

    @torch.no_grad()
    def count(self, x: Field, generator: Generator) -> Counts:
        """What fields from p say of all tables, of which each spin should be +1 with its exact probability.

        Coarse levels have few sites: they are looked for at so many random places of the field that every
        level is seen about as often.

        Args:
            x: the fields, of which both the even and the odd sites are from p.
            generator: of the places.

        Returns:
            The counts of all slots of all tables, in the order of `classes`.
        """
        parts = [self._rows(part) for part in x.split(batches(len(x), self.lattice, _AT_ONCE))]
        exact = [torch.sigmoid(2 * self._looked_up("anywhere", rows)) for rows in parts]
        found = []
        for seen in self.seen:
            table, name = self._table(seen.one.name), seen.one.name
            moves = self._moves(seen.one.level, generator)
            sites = self._moved(self.get_buffer(f"sites_{name}"), moves).flatten()
            window = self._moved(self.get_buffer(f"window_{name}"), moves).flatten(0, 1)
            weights = self.get_buffer(f"weights_{name}").repeat(len(moves), 1)
            index = [_indices(rows, window, weights).flatten() for rows in parts]
            p = [part[sites].flatten() for part in exact]
            found.append(table.count(torch.cat(index), torch.cat(p)))
        return torch.cat(found, 1)

    def fit(self, counts: Counts) -> None:
        """Make the tables of what was counted, in the order of `count`."""
        for name, part in zip(self.tables, self._parts(counts), strict=True):
            self._table(name).fit(part)

    @property
    def slots(self) -> int:
        """Of all tables together."""
        return sum(self._table(name).slots for name in self.tables)

    def carried(self, counts: Counts, lattice: Lattice) -> Counts:
        """What was counted on another lattice, for the tables here whose windows are the same.

        Middle levels, which a larger lattice has in addition, have the counts of the nearest one at a tenth.
        """
        other = self.on_lattice(lattice)
        theirs = dict(zip(other.tables, other._parts(counts), strict=True))
        taken: set[str] = set()
        found = []
        for seen in self.seen:
            source = other._source(seen, depth(self.lattice))
            if source is None:
                found.append(counts.new_zeros(2, self._table(seen.one.name).slots))
            else:
                found.append(theirs[source] * (0.1 if source in taken else 1.0))
                taken.add(source)
        return torch.cat(found, 1)

    def on_lattice(self, lattice: Sequence[int]) -> "CountedMultilevel":
        """The density on another lattice: every class has the table of the class with its role here.

        The finest levels, the two coarsest and the top lattice keep their tables, which are shared with this
        density, where their windows are the same. Levels in between, of which a larger lattice has more,
        begin as copies of the one that is nearest, and what has no counterpart as in a new density.

        Raises:
            ValueError: for a lattice that does not halve often enough.
        """
        sides = tuple(lattice)
        tables: dict[str, Table] = {}
        shared: set[str] = set()
        # the coarsest first: what two levels have from one stays with the coarser, whose role is the same
        for seen in windows(sides):
            source = self._source(seen, depth(sides))
            if source is not None and source not in shared:
                tables[seen.one.name] = self._table(source)
                shared.add(source)
                continue
            table = tables[seen.one.name] = Table(seen.window, z2=self.theory.site.even).to(self.like)
            if source is not None:
                table.load_state_dict(self._table(source).state_dict())
        theory = replace(self.theory, lattice=sides)
        recipe = None if self.recipe is None else self.recipe | {"lattice": list(sides)}
        return CountedMultilevel(sides, theory, tables, recipe).to(self.like)

    def inherit(self, other: "CountedMultilevel") -> None:
        """Take over tables from a smaller lattice, for what is not shared with it: the middle levels."""
        for seen in self.seen:
            own, source = self._table(seen.one.name), other._source(seen, depth(self.lattice))
            if source is not None and all(own is not theirs for theirs in other.tables.values()):
                own.load_state_dict(other._table(source).state_dict())

    def _source(self, seen: Seen, there: int) -> str | None:
        """The name of the table here that a class of a lattice with so many levels begins with."""
        alike = {name for name in self.tables if self._table(name).window == seen.window}
        return counterpart(seen.one, there, depth(self.lattice), alike)

    def _parts(self, counts: Counts) -> tuple[Counts, ...]:
        """Those of each table."""
        return counts.split([self._table(name).slots for name in self.tables], 1)

    def _table(self, name: str) -> Table:
        table = self.tables[name]
        assert isinstance(table, Table)
        return table

    def _looked_up(self, name: str, rows: Rows) -> Rows:
        """c of all sites of a class."""
        index = _indices(rows, self.get_buffer(f"window_{name}"), self.get_buffer(f"weights_{name}"))
        if name in self.tables:
            return self._table(name).half_log_odds(index)
        exact = self.get_buffer("exact_odd" if name == "odd" else "exact_even")
        return exact.index_select(0, index.flatten()).view(index.shape)

    def _rows(self, x: Field) -> Rows:
        return x.flatten(1).T.to(self.like).contiguous()

    def _moves(self, level: int, generator: Generator) -> Int[Tensor, "moves 2"]:
        """Random translations, so many that all levels are seen as often."""
        number = min(max(1, 4 ** (level - 1)) if level else 1, _MOST_MOVES)
        sides = torch.tensor(self.lattice, device=generator.device)
        uniform = torch.rand(number, 2, generator=generator, dtype=torch.float64, device=generator.device)
        return (uniform * sides).long()

    def _moved(self, sites: Int[Tensor, "*any"], moves: Int[Tensor, "moves 2"]) -> Int[Tensor, "moves *any"]:
        """The numbers of the sites that lie so far from these."""
        y, x = sites // self.lattice[1], sites % self.lattice[1]
        dy, dx = moves.view(-1, 2, *(1 for _ in sites.shape)).unbind(1)
        return (y + dy) % self.lattice[0] * self.lattice[1] + (x + dx) % self.lattice[1]


_AT_ONCE = 262_144
"""Sites that are drawn at once: what belongs to them stays near the processor."""

_MOST_MOVES = 64


def _indices(
    rows: Rows, window: Int[Tensor, "places known"], weights: Float[Tensor, "places known"]
) -> Int[Tensor, "places batch"]:
    """Σ_k weight_k b_k with the bit b_k = (1 + s_k)/2 of each known spin."""
    most = weights[0].sum() if len(weights) else 0
    if window.shape[1] == 0:
        return torch.zeros(len(window), rows.shape[1], dtype=torch.int32, device=rows.device)
    signed = functional.embedding_bag(window, rows, per_sample_weights=weights, mode="sum")
    return signed.add_(most).mul_(0.5).int()


_EIGHT = tuple((y, x) for y in range(-2, 3) for x in range(-2, 3) if abs(y) + abs(x) == 2)
"""The even sites on which the exact distribution of an even site depends."""


def _around(lattice: Lattice) -> Int[Tensor, "sites 8"]:
    """The numbers of the eight sites around each."""
    sites = torch.arange(volume(lattice))[:, None]
    y, x = torch.tensor(_EIGHT).T
    return (sites // lattice[1] + y) % lattice[0] * lattice[1] + (sites % lattice[1] + x) % lattice[1]


def _exact(theory: NearestNeighbours) -> tuple[Float[Tensor, "256"], Float[Tensor, "5"]]:
    """c of an even site by the bits of the eight around it, of an odd one by the sum of its neighbours."""
    spins = 2.0 * (torch.arange(256)[:, None] >> torch.arange(8) & 1).double() - 1
    steps = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    sums = [
        sum(spins[:, _EIGHT.index((y + v, x + u))] for v, u in steps if (y + v, x + u) != (0, 0))
        for y, x in steps
    ]
    assert isinstance(theory.site, SpinWeight)
    even = SpinConditional(theory).half_log_odds(torch.stack([torch.as_tensor(s) for s in sums]))[0]
    odd = theory.coupling * torch.arange(-4.0, 5.0, 2.0, dtype=torch.float64) + theory.site.field
    return even.float(), odd.float()
