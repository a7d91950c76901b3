"""The multilevel density: fields drawn class by class, from the coarsest sites to the finest."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from latflow.compiled import Programs
from latflow.densities.base import unlowered
from latflow.densities.multilevel.conditionals import Conditional
from latflow.densities.multilevel.geometry import (
    SiteClass,
    beyond,
    classes,
    counterpart,
    depth,
    images,
    neighbours,
    offsets,
)
from latflow.densities.multilevel.kinds import conditional_of
from latflow.densities.multilevel.networks import CoupledNetwork, SiteNetwork
from latflow.densities.multilevel.spans import Span
from latflow.fields import FieldKind
from latflow.lattice import batches, volume
from latflow.theories.neighbours import NearestNeighbours
from latflow.types import Lattice, LogProb, SiteField

Rows = Float[Tensor, "*components _ batch"]
"""e(x) of a lattice, a site in a row, and at the end a row of zeros for what is not known."""


class Multilevel(nn.Module):
    """A density of a field with couplings to nearest neighbours that knows it at every scale.

        q(x) = Π over classes Π over their sites q(x_n; c(window)) · Π_odd exp(−V(x_n) + h_n·e(x_n)) / z(h_n)

    Given the coarser sites, what is left has a correlation length of a few spacings on every level, whatever
    it is of the field. So each site of a class is drawn by itself, from a density whose coefficients c a
    small network finds in a window of known sites. The last class of even sites has its exact density, given
    by sites that are all known, and so have the odd ones: log-weights are those of the even sites alone,

        log w = −S_eff(even) − log q(even)

    The weights of the networks do not know the lattice.

    Args:
        lattice: two or three sides that halve until few sites are left, see `geometry.depth`.
        theory: S as weights of single sites.
        kind: of the field.
        networks: by the names of classes, for all but the last class.
        nodes: of the grid of real numbers or angles; None for as many as resolve the theory.
        recipe: the configuration from which a named preset built the density.
        span: the couplings between which the theory can be moved by `at`; None where it has those that it
            has. The networks are then made for such a span.
        compiled: whether draws from grids are compiled, see `multilevel`.

    Raises:
        ValueError: for a lattice that does not halve often enough, and for compiled draws without grids or in
            a span.
    """

    like: Tensor

    def __init__(
        self,
        lattice: Sequence[int],
        theory: NearestNeighbours,
        kind: FieldKind,
        networks: Mapping[str, SiteNetwork],
        nodes: int | None = None,
        recipe: dict[str, Any] | None = None,
        span: Span | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.lattice: Lattice = tuple(lattice)
        self.theory, self.kind, self.nodes, self.recipe = theory, kind, nodes, recipe
        self.span = span
        self.symmetries = theory.site.symmetries
        self.conditional: Conditional = conditional_of(theory, nodes)
        self.compiled = compiled
        if compiled:
            if span is not None or not hasattr(self.conditional, "grid"):
                raise ValueError(
                    "expected real numbers or angles, and no ranges, for draws that are compiled"
                )
            self.conditional.programs = Programs()
        self.classes = classes(self.lattice)
        self.width = next(iter(networks.values())).width
        self.networks = nn.ModuleDict(networks)
        for one in self.classes:
            self.register_buffer(f"sites_{one.name}", one.sites, persistent=False)
            others = beyond(one.sites, self.lattice).movedim(1, 0)
            for what, table in (("window", one.window), ("beyond", others)):
                self.register_buffer(f"{what}_{one.name}", self._rows_of(table), persistent=False)
            self.register_buffer(f"images_{one.name}", images(one, self.lattice), persistent=False)
        for colour, parity in (("even", 0), ("odd", 1)):
            sites, around = neighbours(self.lattice, parity)
            self.register_buffer(colour, sites, persistent=False)
            self.register_buffer(f"around_{colour}", around, persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> tuple[SiteField, LogProb]:
        """n independent draws, (n, *lattice), and log q of each in float64, without graph."""
        site = self.theory.site
        if n == 0:
            none = site.value(self.like.new_zeros(*site.shape, 0, *self.lattice))
            return none, self.like.new_zeros(0, dtype=torch.float64)
        parts = [self._drawn(size, generator) for size in batches(n, self.lattice, _AT_ONCE)]
        x = torch.cat([site.value(rows[..., :-1, :]).T for rows, _ in parts]).contiguous()
        return x.unflatten(1, self.lattice), torch.cat([log_q for _, log_q in parts])

    def _drawn(self, n: int, generator: Generator) -> tuple[Rows, LogProb]:
        """All sites of n fields, and log q of them."""
        rows = self.like.new_zeros(*self.theory.site.shape, volume(self.lattice) + 1, n)
        log_q = self.like.new_zeros(n, dtype=torch.float64)
        for one in self.classes:
            numbers = torch.arange(len(one.sites), device=rows.device)
            for some in numbers.split(max(1, _COLUMNS // n)):
                c, free = (None, None) if one.last else self._coefficients(one, rows, some)
                with unlowered(rows):
                    if c is None or free is None:
                        drawn, each = self.conditional.draw_exactly(self._beyond(one, rows, some), generator)
                    else:
                        drawn, each = self.conditional.draw(c, free, generator)
                self._place(rows, self._table("sites", one)[some], drawn.view(-1, n))
                log_q += each.view(-1, n).sum(0)
        fields = self._odd_fields(rows)
        odd = self.theory.site.draw(fields, generator)
        self._place(rows, self._index("odd"), odd)
        log_q += self.theory.site.log_prob(odd, fields).sum(0, dtype=torch.float64)
        return rows, log_q

    def log_prob(self, x: SiteField) -> LogProb:
        """log q(x) in float64; −∞ where a number lies beyond the grid.

        Raises:
            ValueError: for fields on another lattice.
        """
        self.kind.check(x, self.lattice)
        rows, log_q = self._rows(x), self.like.new_zeros(len(x), dtype=torch.float64)
        if len(x) == 0:
            return log_q
        for one in self.classes:
            values = self._values(rows, self._table("sites", one)).flatten()
            c, free = (None, None) if one.last else self._coefficients(one, rows)
            with unlowered(rows):
                if c is None or free is None:
                    each = self.conditional.log_prob_exactly(values, self._beyond(one, rows))
                else:
                    each = self.conditional.log_prob(values, c, free)
            log_q = log_q + each.view(-1, len(x)).sum(0)
        values = self._values(rows, self._index("odd"))
        odd = self.theory.site.log_prob(values, self._odd_fields(rows))
        return log_q + odd.sum(0, dtype=torch.float64)

    def cross_entropy(self, x: SiteField, columns: int, generator: Generator) -> Tensor:
        """−⟨log q(even)⟩ by soft labels: in place of each x_n its exact density given all other even sites.

        One number with a graph: the sum over classes of the means over the fields, and over some sites of
        the class, times the number of its sites. Where these are few, each is judged in several images under
        the symmetries of the lattice, which all have its exact density: what a network makes of one of them
        by chance is noise.

        Args:
            x: fields from p, of which the even sites alone matter.
            columns: of how many sites, over all fields, each class is judged, or of how many images; both are
                drawn at random.
            generator: of these.
        """
        rows, total = self._rows(x), self.like.new_zeros((), dtype=torch.float64)
        for one in self.classes[:-1]:
            most, some = max(1, columns // len(x)), None
            if most < len(one.sites):
                some = self._at_random(len(one.sites), most, generator)
            every = self._table("images", one)
            turned = every[self._at_random(len(every), max(1, most // len(one.sites)), generator)]
            c, free = self._coefficients(one, rows, some, turned)
            with unlowered(rows):
                labels = self.conditional.labels(self._beyond(one, rows, some))
                each = self.conditional.cross_entropy(labels.repeat(1, len(turned)), c, free)
            total = total + len(one.sites) * each.mean(dtype=torch.float64)
        return total

    def _at_random(self, number: int, most: int, generator: Generator) -> Int[Tensor, "chosen"]:
        """So many of a number, all where there are no more, each once."""
        order = torch.rand(number, generator=generator, device=self.like.device)
        return order.argsort()[:most]

    def on_lattice(self, lattice: Sequence[int]) -> "Multilevel":
        """The density on another lattice: every class has the network of the class with its role here.

        The finest levels, the two coarsest and the top lattice keep their networks, which are shared with
        this density. Levels in between, of which a larger lattice has more, begin as copies of the one that
        is nearest; where nothing has their role they begin as in a new density.

        Raises:
            ValueError: for a lattice that does not halve often enough.
        """
        sides = tuple(lattice)
        here, shared = depth(self.lattice), set()
        span = None if self.span is None else self.span.on_lattice(sides)
        networks = new_networks(sides, self.conditional, self.width, Generator().manual_seed(0), span)
        # the coarsest first: what two levels have from one stays with the coarser, whose role is the same
        for one in classes(sides)[:-1]:
            source = counterpart(one, depth(sides), here, self.networks)
            if source is None:
                networks[one.name].to(self.like)
                continue
            network = self.networks[source]
            assert isinstance(network, SiteNetwork)
            networks[one.name] = copy.deepcopy(network) if source in shared else network
            shared.add(source)
        theory = replace(self.theory, lattice=sides)
        recipe = None if self.recipe is None else self.recipe | {"lattice": list(sides)}
        made = Multilevel(sides, theory, self.kind, networks, self.nodes, recipe, span, self.compiled)
        return made.to(self.like)

    def at(self, **couplings: float) -> "Multilevel":
        """The density for other couplings of the theory, within the ranges for which it was built.

        All that is exact is that of the theory there; the weights of the networks are shared.

        Raises:
            ValueError: for a coupling without range or outside it, and of a density for one theory alone.
        """
        if self.span is None:
            raise ValueError(f"expected a density built with ranges of {', '.join(couplings)}, got none")
        span = self.span.at(**couplings)
        networks: dict[str, SiteNetwork] = {}
        for name, network in self.networks.items():
            assert isinstance(network, SiteNetwork)
            networks[name] = CoupledNetwork(network, span.terms)
        made = Multilevel(self.lattice, span.theory, self.kind, networks, self.nodes, self.recipe, span)
        return made.to(self.like)

    def knots(self, number: int) -> list[dict[str, float]]:
        """So many values of the couplings, spread over their ranges, see `Span.knots`; of one theory none."""
        return [] if self.span is None else self.span.knots(number)

    def inherit(self, other: "Multilevel") -> None:
        """Take over weights from a smaller lattice, for what is not shared with it: the middle levels."""
        for one in self.classes[:-1]:
            own = self.networks[one.name]
            source = counterpart(one, depth(self.lattice), depth(other.lattice), other.networks)
            if source is not None and all(own is not theirs for theirs in other.networks.values()):
                own.load_state_dict(other.networks[source].state_dict())

    def _coefficients(
        self,
        one: SiteClass,
        rows: Rows,
        some: Int[Tensor, "some"] | None = None,
        turned: Int[Tensor, "images known"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """c of all sites, or some, of a class in all fields, (coefficients, sites · batch), and f.

        With images of the window, all columns in the first of them, then in the second, and so on.
        """
        network, window = self.networks[one.name], self._table("window", one)
        assert isinstance(network, SiteNetwork)
        known = _taken(rows, window if some is None else window[..., some])
        if turned is not None:
            known = torch.cat([known[order] for order in turned], -1)
        return network(self.conditional.seen(known)).to(rows.dtype), network.free

    def _beyond(self, one: SiteClass, rows: Rows, some: Tensor | None = None) -> Tensor:
        """Sums of e over the other neighbours of each neighbour, (2d, *components, sites · batch)."""
        table = self._table("beyond", one)
        table = table if some is None else table[..., some]
        return _taken(rows, table).sum(0)

    def _odd_fields(self, rows: Rows) -> Rows:
        return self.theory.coupling * rows[..., self._index("around_odd"), :].sum(-3)

    def _rows(self, x: SiteField) -> Rows:
        """The field as this density has it, in the precision of the weights."""
        flat = self.theory.site.vector(x.flatten(1).T).to(self.like)
        return torch.cat((flat, torch.zeros_like(flat[..., :1, :])), -2)

    def _place(self, rows: Rows, sites: Int[Tensor, "some"], x: Tensor) -> None:
        """Give rows the e(x) of these sites."""
        rows[..., sites, :] = self.theory.site.vector(x).to(rows.dtype)

    def _values(self, rows: Rows, sites: Int[Tensor, "some"]) -> Tensor:
        """x of these sites."""
        return self.theory.site.value(rows[..., sites, :])

    def _rows_of(self, numbers: Int[Tensor, "*more sites"]) -> Int[Tensor, "*rows sites"]:
        """Where sites have their components, among the rows of all components."""
        for size in self.theory.site.shape:
            firsts = (volume(self.lattice) + 1) * torch.arange(size)
            numbers = numbers[..., None, :] + firsts[:, None]
        return numbers

    def _table(self, what: str, one: SiteClass) -> Tensor:
        return self._index(f"{what}_{one.name}")

    def _index(self, name: str) -> Tensor:
        return self.get_buffer(name)


def _taken(rows: Rows, table: Int[Tensor, "*more sites"]) -> Float[Tensor, "*more columns"]:
    """The rows that a table of several for each site names; several times as fast as by brackets."""
    taken = rows.flatten(0, -2).index_select(0, table.flatten())
    return taken.view(*table.shape[:-1], table.shape[-1] * rows.shape[-1])


_AT_ONCE = 1_048_576
"""Sites that are drawn together, so that even classes of few sites are many columns."""

_COLUMNS = 16_384
"""Sites of one class that are drawn at once: what belongs to them stays near the processor."""


def new_networks(
    lattice: Lattice, conditional: Conditional, width: int, generator: Generator, span: Span | None = None
) -> dict[str, SiteNetwork]:
    """A network with initial weights for every class but the last; at first they are the same in a span."""

    def named() -> Iterator[tuple[str, SiteNetwork]]:
        for one in classes(lattice)[:-1]:
            known = len(offsets(one.role)) if one.level < depth(lattice) else len(one.window)
            network = conditional.network(known, width, generator)
            yield one.name, network if span is None else CoupledNetwork(network, span.terms)

    return dict(named())
