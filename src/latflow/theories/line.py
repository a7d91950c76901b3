"""Densities of one real number on a grid: normalised by the trapezoid rule, drawn exactly by rejection."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

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
        p = torch.exp(log_p - largest)
        mass = self._cumulative(p)
        excess = self._excess(p)
        self._check(excess.max())
        # subtracted from log p it leaves log p/M, where the highest node is one
        most = excess.clamp_(min=1).log_().mul_(_POWER).add_(_MARGIN).add_(largest)
        x, height, kept = self._tried(p, mass, most, None, at, generator)
        left = (~kept).nonzero()[:, 0]
        while len(left):
            # several for each at once: almost none is left after that, where one by one it would take long
            again = left.repeat(_TRIES)
            proposed, heights, kept = self._tried(p, mass[:, again], most[again], again, at, generator)
            kept, first = kept.view(_TRIES, -1).max(0)
            taken = first * len(left) + torch.arange(len(left), device=x.device)
            x[left], height[left] = proposed[taken], heights[taken]
            left = left[~kept]
        return x, height.double() - largest - torch.log(mass[-1] * self.spacing)

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        """The most by which p at a node exceeds the mean of those beside it, as a ratio."""
        return (p[1:-1] / (p[2:] + p[:-2]).add_(torch.finfo(p.dtype).tiny)).amax(0) * 2

    def _tried(
        self,
        p: Float[Tensor, "nodes all"],
        mass: Float[Tensor, "stretches columns"],
        most: Float[Tensor, "columns"],
        some: Int[Tensor, "columns"] | None,
        at: At,
        generator: Generator,
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"], Bool[Tensor, "columns"]]:
        """A proposal for each column, log p of it, and whether it is kept."""
        proposed, interpolant = self._from_interpolant(p, mass, some, generator)
        height = at(proposed, some)
        chance = torch.exp(height - most) / interpolant
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
        """Nodes in each of the stretches, all but the last, in which a sum of many is found."""
        return math.isqrt(self.nodes - 1) + 1

    def _cumulative(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "stretches columns"]:
        """∫ p up to the end of each stretch of nodes, in spacings; the end nodes count half.

        In float64, for what is left of a sum of float32 numbers beyond most of p is noise.
        """
        mass = torch.stack([part.sum(0, dtype=torch.float64) for part in p.split(self._stretch)])
        mass[0] -= p[0] / 2
        mass[-1] -= p[-1] / 2
        for before, row in itertools.pairwise(mass.unbind()):
            row += before
        return mass

    def _from_interpolant(
        self,
        p: Float[Tensor, "nodes all"],
        mass: Float[Tensor, "stretches columns"],
        some: Int[Tensor, "columns"] | None,
        generator: Generator,
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"]]:
        """Draws of the piecewise linear density with values p at the nodes, and its values there.

        It is a sum of triangles around the nodes: one is drawn by its weight, first its stretch and then the
        node in it, and x from the triangle. At the ends half of one is folded onto the other.
        """
        columns, last = p.shape[1], self.nodes - 1
        column = torch.arange(columns, device=p.device) if some is None else some
        both = torch.rand(2, mass.shape[1], generator=generator, dtype=torch.float64, device=p.device)
        stretch, rest = _place(mass, both[0] * mass[-1])
        first = stretch * self._stretch
        rows = first + torch.arange(self._stretch, device=p.device)[:, None]
        flat = p.view(-1)
        # beyond the last node of a short stretch nothing is found
        places = rows.clamp_(max=last).mul_(columns).add_(column)
        inside = flat.index_select(0, places.view(-1)).view_as(places).double()
        inside[0] -= torch.where(first == 0, inside[0] / 2, 0)
        for before, row in itertools.pairwise(inside.unbind()):
            row += before
        node = torch.minimum(_place(inside, rest)[0] + first, torch.as_tensor(last, device=p.device))
        shift = _triangular(both[1]).to(p.dtype)
        shift = torch.where(node == 0, shift.abs(), torch.where(node == last, -shift.abs(), shift))
        beside = (node + torch.where(shift < 0, -1, 1)).clamp_(max=last)
        here, there = (flat.index_select(0, at * columns + column) for at in (node, beside))
        interpolant = torch.lerp(here, there, shift.abs()).clamp_(min=torch.finfo(p.dtype).tiny)
        return (node + shift).mul_(self.spacing).sub_(self.cut), interpolant


class Circle(Grid):
    """Equidistant nodes on a circle, from one end of [−X, X] to the other, which are the same point.

    The formulas are those of `Grid`. They need no decay, for p is smooth across the ends.
    """

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        ends = p[0] / (p[1] + p[-2]).add_(torch.finfo(p.dtype).tiny) * 2
        return torch.maximum(super()._excess(p), ends)


def _triangular(uniform: Float[Tensor, "columns"]) -> Float[Tensor, "columns"]:
    """Numbers t in (−1, 1) of the density 1 − |t|, from uniform ones."""
    twice = 2 * uniform
    return torch.where(twice < 1, torch.sqrt(twice) - 1, 1 - torch.sqrt((2 - twice).clamp_(min=0)))


def _place(
    mass: Float[Tensor, "parts columns"], target: Float[Tensor, "columns"]
) -> tuple[Int[Tensor, "columns"], Float[Tensor, "columns"]]:
    """In which part a target of the mass up to its end lies, and how far beyond its beginning."""
    part = (mass < target).sum(0).clamp_(max=len(mass) - 1)
    before = mass.gather(0, (part - 1).clamp_(min=0)[None])[0] * (part > 0)
    return part, (target - before).clamp_(min=0)


def _trapezoid(p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
    return p.sum(0, dtype=torch.float64) - (p[0] + p[-1]).double() / 2
