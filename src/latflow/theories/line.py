"""Densities of one real number on a grid: normalised by the trapezoid rule, drawn exactly by rejection."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from latflow.errors import LatflowError

At = Callable[[Float[Tensor, "some"], Int[Tensor, "some"] | None], Float[Tensor, "some"]]
"""log p(x) up to the constant, of numbers x that belong to columns of the nodes; None for all in order."""

_MARGIN = 0.01
"""What is added to the logarithm of a bound: few draws more are thrown away."""


_LARGEST_EXCESS = 2.2
"""Of a node over the mean of those beside it: of a normal density, nodes 1.3 standard deviations apart."""


_POWER = 2 / 3
"""Of the excess of a node, for the bound between nodes."""

_TRIES = 4
"""Proposals at once for each number whose first one was thrown away."""


class ResolutionError(LatflowError):
    """A grid that is too coarse for a density."""


@dataclass(frozen=True)
class Grid:
    """Equidistant nodes on [−X, X], for densities that have decayed there.

        Z = Δ [½ p(−X) + p(x_2) + … + ½ p(X)]

    which converges faster than any power of Δ for a smooth p that vanishes with its derivatives at both ends.

    Args:
        cut: X > 0.
        nodes: how many, at least 8.

    Raises:
        ValueError: for numbers out of range.
    """

    cut: float
    nodes: int

    def __post_init__(self) -> None:
        if not (self.cut > 0 and math.isfinite(self.cut)) or self.nodes < 8:
            raise ValueError(f"expected a finite cut > 0 and at least 8 nodes, got {self}")

    @property
    def spacing(self) -> float:
        """Δ."""
        return 2 * self.cut / (self.nodes - 1)

    @cached_property
    @torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
    def x(self) -> Float[Tensor, "nodes"]:
        """The nodes, float64."""
        return torch.linspace(-self.cut, self.cut, self.nodes, dtype=torch.float64)

    def log_normalisation(self, log_p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        """log Z of each column, summed in float64."""
        largest = log_p.detach().amax(0)
        total = _trapezoid(torch.exp(log_p - largest))
        return largest + torch.log(total * self.spacing)

    def probabilities(self, log_p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "nodes columns"]:
        """Δ p/Z at the nodes, the end ones halved: the weights with which a mean over p is a sum."""
        p = torch.exp(log_p - log_p.amax(0))
        p[0], p[-1] = p[0] / 2, p[-1] / 2
        return p / p.sum(0)

    @torch.no_grad()
    def draw(
        self, log_p: Float[Tensor, "nodes columns"], at: At, generator: Generator
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"]]:
        """One x of every column, with log q(x) = log p(x) − log Z in float64.

        Proposals come from the piecewise linear interpolant f of p and are kept with probability p/(M f):
        what is drawn is p itself. M is 1.01 r^⅔, with r the most by which p at a node exceeds the mean of the
        nodes on both sides. Between neighbours p and f differ by less: of a normal density p/f is at most
        about r to the power of ¼ to ⅓, of one with two peaks up to 0.6.

        Args:
            log_p: at the nodes.
            at: log p between them.
            generator: source of the draws.

        Raises:
            ResolutionError: where r is so large that the nodes do not resolve p, or p > M f.
        """
        largest = log_p.amax(0)
        p = self._stretched(log_p, largest)
        masses = self._masses(p)
        excess = self._excess(p[: self.nodes])
        self._check(excess.max())
        # subtracted from log p it leaves log p/M, where the highest node is one
        most = excess.clamp_(min=1).log_().mul_(_POWER).add_(_MARGIN).add_(largest)
        x, height, kept = self._tried(p, masses, most, None, at, generator)
        left = (~kept).nonzero()[:, 0]
        while len(left):
            # several for each at once: almost none is left after that, where one by one it would take long
            again = left.repeat(_TRIES)
            proposed, heights, kept = self._tried(p, masses.of(again), most[again], again, at, generator)
            kept, first = kept.view(_TRIES, -1).max(0)
            taken = first * len(left) + torch.arange(len(left), device=x.device)
            x[left], height[left] = proposed[taken], heights[taken]
            left = left[~kept]
        return x, height.double() - largest - torch.log(masses.total * self.spacing)

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        """The most by which p at a node exceeds the mean of those beside it, as a ratio."""
        return (p[1:-1] / (p[2:] + p[:-2]).add_(torch.finfo(p.dtype).tiny)).amax(0) * 2

    def _tried(
        self,
        p: Float[Tensor, "rows all"],
        masses: "Masses",
        most: Float[Tensor, "columns"],
        some: Int[Tensor, "columns"] | None,
        at: At,
        generator: Generator,
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"], Bool[Tensor, "columns"]]:
        """A proposal for each column, log p of it, and whether it is kept."""
        proposed, interpolant = self._from_interpolant(p, masses, some, generator)
        height = at(proposed, some)
        chance = (height - most).exp_().div_(interpolant)
        self._check(_LARGEST_EXCESS * (chance.max() - 1e-4))
        uniform = torch.rand(chance.shape, generator=generator, dtype=chance.dtype, device=chance.device)
        return proposed, height, uniform < chance

    def _check(self, excess: Tensor) -> None:
        if not float(excess) <= _LARGEST_EXCESS:
            raise ResolutionError(
                f"expected densities that {self.nodes} nodes on |x| ≤ {self.cut:.4g} resolve, got one that "
                "changes too much from node to node: give it more nodes, or a smaller learning rate"
            )

    @property
    def _stretch(self) -> int:
        """Nodes in each of the stretches in which a sum of many is found."""
        return math.isqrt(self.nodes - 1) + 1

    def _stretched(
        self, log_p: Float[Tensor, "nodes columns"], largest: Float[Tensor, "columns"]
    ) -> Float[Tensor, "rows columns"]:
        """p over its largest at the nodes, and rows of zeros that fill up the last stretch."""
        rows = -(-self.nodes // self._stretch) * self._stretch
        p = log_p.new_empty(rows, log_p.shape[1])
        torch.sub(log_p, largest, out=p[: self.nodes]).exp_()
        p[self.nodes :] = 0
        return p

    def _masses(self, p: Float[Tensor, "rows columns"]) -> "Masses":
        """In float64, for what is left of a sum of float32 numbers beyond most of p is noise."""
        columns = p.shape[1]
        before = p.new_zeros(len(p) // self._stretch + 1, columns, dtype=torch.float64)
        torch.sum(p.view(-1, self._stretch, columns), 1, dtype=torch.float64, out=before[1:])
        _accumulate(before)
        start = p[0].double() / 2
        return Masses(before, start, before[-1] - start - p[self.nodes - 1] / 2)

    def _from_interpolant(
        self,
        p: Float[Tensor, "rows all"],
        masses: "Masses",
        some: Int[Tensor, "columns"] | None,
        generator: Generator,
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"]]:
        """Draws of the piecewise linear density with values p at the nodes, and its values there.

        It is a sum of triangles around the nodes: one is drawn by its weight, first its stretch and then the
        node in it, and how far the draw reached into its weight tells where in the triangle x lies. Of the
        triangles at the ends there is one half, the right one of the first and the left one of the last.
        """
        all_columns, stretch = p.shape[1], self._stretch
        own = torch.arange(len(masses.total), device=p.device)
        column = own if some is None else some
        uniform = torch.rand(own.shape, generator=generator, dtype=torch.float64, device=p.device)
        which, rest = _part(masses.before, uniform.mul_(masses.total).add_(masses.start), own)
        flat, first = p.view(-1), (which * (stretch * all_columns)).add_(column)
        places = first + all_columns * torch.arange(stretch, device=p.device)[:, None]
        before = p.new_zeros(stretch + 1, len(own), dtype=torch.float64)
        before[1:] = flat.index_select(0, places.view(-1)).view_as(places)
        _accumulate(before)
        inside, rest = _part(before, rest, own)
        here = flat.index_select(0, (inside * all_columns).add_(first))
        # −1 to 1 within the triangle, from which the density 1 − |shift| makes ±[1 − √(1 − |t|)]
        t = rest.mul_(2).div_(here).sub_(1).to(p.dtype).clamp_(-1, 1)
        size = 1 - (1 - t.abs()).sqrt_()
        node = which.mul_(stretch).add_(inside)
        beside = torch.where(t < 0, -1, 1).add_(node).clamp_(0, self.nodes - 1)
        there = flat.index_select(0, beside.mul_(all_columns).add_(column))
        interpolant = torch.lerp(here, there, size).clamp_(min=torch.finfo(p.dtype).tiny)
        return torch.copysign(size, t).add_(node).mul_(self.spacing).sub_(self.cut), interpolant


class Masses(NamedTuple):
    """Sums of p over nodes, in float64, for each column.

    Attributes:
        before: of all nodes before each of the stretches, and at the end of all.
        start: half the first node, from where draws begin.
        total: of all, the end nodes halved: ∫ p in spacings.
    """

    before: Float[Tensor, "stretches columns"]
    start: Float[Tensor, "columns"]
    total: Float[Tensor, "columns"]

    def of(self, some: Int[Tensor, "some"]) -> "Masses":
        """Those of some columns."""
        return Masses(self.before.index_select(1, some), self.start[some], self.total[some])


class Circle(Grid):
    """Equidistant nodes on a circle, from one end of [−X, X] to the other, which are the same point.

    The formulas are those of `Grid`. They need no decay, for p is smooth across the ends.
    """

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        ends = p[0] / (p[1] + p[-2]).add_(torch.finfo(p.dtype).tiny) * 2
        return torch.maximum(super()._excess(p), ends)


def _accumulate(rows: Float[Tensor, "rows columns"]) -> None:
    """Add to each row all rows before it, in place."""
    for before, row in itertools.pairwise(rows.unbind()):
        row += before


def _part(
    before: Float[Tensor, "parts columns"], target: Float[Tensor, "columns"], own: Int[Tensor, "columns"]
) -> tuple[Int[Tensor, "columns"], Float[Tensor, "columns"]]:
    """The part of a sum in which a target lies, by what comes before each, and how far it reaches into it.

    Args:
        before: each part, and all of them at the end.
        target: of each column; changed in place.
        own: the numbers of the columns.
    """
    part = (before[1:-1] < target).sum(0)
    return part, target.sub_(before.view(-1).index_select(0, (part * len(own)).add_(own)))


def _trapezoid(p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
    return p.sum(0, dtype=torch.float64) - (p[0] + p[-1]).double() / 2
