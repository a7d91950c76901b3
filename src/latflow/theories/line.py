"""Densities of one real number on a grid: normalised by the trapezoid rule, drawn exactly by rejection."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from latflow.errors import LatflowError

At = Callable[[Float[Tensor, "some"], Int[Tensor, "some"] | None], Float[Tensor, "some"]]
"""log p(x) up to the constant, of numbers x that belong to columns of the nodes; None for all in order."""

_MARGIN = 0.01
"""What is added to the logarithm of a bound: few draws more are thrown away."""


_LARGEST_EXCESS = 2.2
"""Of a node over the mean of those beside it: of a normal density, nodes 1.3 standard deviations apart."""


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
        what is drawn is p itself. M is 1.01 √r, with r the most by which p at a node exceeds the mean of the
        nodes on both sides. Between neighbours p and f differ by less: of a normal density p/f is at most
        about r to the power of ¼ to ⅓.

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
        excess = (p[1:-1] / (p[2:] + p[:-2]).add_(torch.finfo(p.dtype).tiny)).amax(0) * 2
        self._check(excess.max())
        bound = torch.log(excess).clamp_(min=0).div_(2).add_(_MARGIN)
        x, log_q = torch.empty_like(largest), torch.empty_like(largest)
        left: Tensor | None = None
        while left is None or len(left):
            some = (mass, largest, bound) if left is None else (mass[:, left], largest[left], bound[left])
            proposed, interpolant = self._from_interpolant(p, some[0], left, generator)
            height = at(proposed, left) - some[1]
            ratio = height - torch.log(interpolant) - some[2]
            self._check(_LARGEST_EXCESS * torch.exp(ratio.max() - 1e-4))
            uniform = torch.rand(ratio.shape, generator=generator, dtype=ratio.dtype, device=ratio.device)
            accepted = torch.log(uniform) < ratio
            kept = accepted.nonzero()[:, 0] if left is None else left[accepted]
            x[kept], log_q[kept] = proposed[accepted], height[accepted]
            left = (~accepted).nonzero()[:, 0] if left is None else left[~accepted]
        return x, log_q.double() - torch.log(mass[-1] * self.spacing)

    def _check(self, excess: Tensor) -> None:
        if not float(excess) <= _LARGEST_EXCESS:
            raise ResolutionError(
                f"expected densities that {self.nodes} nodes on |x| ≤ {self.cut:.4g} resolve, got one that "
                "changes too much from node to node: give it more nodes, or a smaller learning rate"
            )

    @property
    def _stretch(self) -> int:
        """Intervals in each of the stretches, all but the last, in which a sum of many is found."""
        return math.isqrt(self.nodes - 2) + 1

    def _cumulative(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "stretches columns"]:
        """∫ p up to the end of each stretch of intervals, in spacings.

        In float64, for what is left of a sum of float32 numbers beyond most of p is noise.
        """
        first = range(0, self.nodes - 1, self._stretch)
        mass = torch.stack([_trapezoid(p[i : i + self._stretch + 1]) for i in first])
        for before, row in itertools.pairwise(mass):
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

        The stretch is found first, and then the interval within, so that few of all nodes are looked at.
        """
        uniform = torch.rand(mass.shape[1], generator=generator, dtype=torch.float64, device=p.device)
        stretch, rest = _place(mass, uniform * mass[-1])
        first = stretch * self._stretch
        rows = first + torch.arange(self._stretch + 1, device=p.device)[:, None]
        column = torch.arange(p.shape[1], device=p.device) if some is None else some
        # beyond the last node of a short stretch nothing is found
        near = p.flatten()[rows.clamp_(max=self.nodes - 1) * p.shape[1] + column]
        inside = (near[1:] + near[:-1]).double().div_(2)
        for before, row in itertools.pairwise(inside):
            row += before
        interval, rest = _place(inside, rest)
        interval = torch.minimum(interval, self.nodes - 2 - first)
        left, right = near.gather(0, interval[None])[0], near.gather(0, interval[None] + 1)[0]
        rest, slope = rest.to(p.dtype), right - left
        # the root of left z + slope z²/2 = rest that loses no digits
        root = torch.sqrt((left * left + 2 * slope * rest).clamp_(min=0))
        z = (2 * rest / (left + root).clamp_(min=torch.finfo(p.dtype).tiny)).clamp_(0, 1)
        x = self.spacing * (first + interval + z) - self.cut
        return x, (left + slope * z).clamp_(min=torch.finfo(p.dtype).tiny)


def _place(
    mass: Float[Tensor, "parts columns"], target: Float[Tensor, "columns"]
) -> tuple[Int[Tensor, "columns"], Float[Tensor, "columns"]]:
    """In which part a target of the mass up to its end lies, and how far beyond its beginning."""
    part = (mass < target).sum(0).clamp_(max=len(mass) - 1)
    before = mass.gather(0, (part - 1).clamp_(min=0)[None])[0] * (part > 0)
    return part, (target - before).clamp_(min=0)


def _trapezoid(p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
    return p.sum(0, dtype=torch.float64) - (p[0] + p[-1]).double() / 2
