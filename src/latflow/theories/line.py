"""Densities of one real number on a grid: normalised by the trapezoid rule, drawn exactly by rejection."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from latflow.compiled import Named, Programs
from latflow.errors import LatflowError

At = Callable[[Float[Tensor, "columns"]], Float[Tensor, "columns"]]
"""log p(x) up to the constant, of one x in each column."""

Given = dict[str, Tensor]
"""Tensors by name."""

_MARGIN = 0.01
"""What is added to the logarithm of a bound: few draws more are thrown away."""


_LARGEST_EXCESS = 2.2
"""Of a node over the mean of those beside it: of a normal density, nodes 1.3 standard deviations apart."""


_POWER = 2 / 3
"""Of the excess of a node, for the bound between nodes."""

_FEW = 1024
"""Columns that take as long as one."""

_BLOCK = 2048
"""Columns of a compiled call: enough for its overhead, few enough to stay near the processor."""


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
        self,
        propose: Named,
        columns: Given,
        shared: Given,
        generator: Generator,
        programs: Programs | None = None,
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"]]:
        """One x of every column, with log q(x) = log p(x) − log Z in float64.

        Proposals come from the piecewise linear interpolant f of p and are kept with probability p/(M f):
        what is drawn is p itself. M is 1.01 r^⅔, with r the most by which p at a node exceeds the mean of the
        nodes on both sides. Between neighbours p and f differ by less: of a normal density p/f is at most
        about r to the power of ¼ to ⅓, of one with two peaks up to 0.6.

        Args:
            propose: makes `proposals` of what is given, and of uniform numbers `place` and `chance`.
            columns: numbers by name, with a column for each density last.
            shared: others that all have in common.
            generator: source of the draws.
            programs: compile `propose` for a CPU, with 2048 columns in each call; None for all at once.

        Raises:
            ResolutionError: where r is so large that the nodes do not resolve p, or p > M f.
        """

        def proposed(columns: Given) -> tuple[Tensor, Tensor, Tensor]:
            like = next(iter(columns.values()))
            uniform = partial(torch.rand, like.shape[-1], generator=generator, device=like.device)
            given = columns | {"place": uniform(dtype=torch.float64), "chance": uniform(dtype=like.dtype)}
            if programs is not None and like.device.type == "cpu":
                found = _in_blocks(programs, propose, given, shared)
            else:
                found = propose(given | shared)
            self._check(found["excess"].max())
            return found["x"], found["log_q"], found["kept"]

        x, log_q, kept = proposed(columns)
        left = (~kept).nonzero()[:, 0]
        while len(left):
            # several for each of few: almost none is left after that, where one by one it would take long
            again = left.repeat(-(-_FEW // len(left)))
            found, each, kept = proposed({name: one.index_select(-1, again) for name, one in columns.items()})
            kept, first = kept.view(-1, len(left)).max(0)
            taken = first * len(left) + torch.arange(len(left), device=x.device)
            x[left], log_q[left] = found[taken], each[taken]
            left = left[~kept]
        return x, log_q

    def proposals(self, log_p: Float[Tensor, "nodes columns"], at: At, given: Given) -> Given:
        """x of each column, log q(x), whether it is `kept`, and by all of them the `excess` to be checked."""
        largest = log_p.amax(0)
        p = (log_p - largest).exp_()
        excess = self._excess(p)
        x, interpolant, total = self._from_interpolant(p, given["place"])
        height = at(x)
        # subtracted from log p it leaves log p/M, where the highest node is one
        most = excess.clamp(min=1).log_().mul_(_POWER).add_(_MARGIN).add_(largest)
        chance = (height - most).exp_().div_(interpolant)
        return {
            "x": x,
            "log_q": height.double() - largest - torch.log(total * self.spacing),
            "kept": given["chance"] < chance,
            "excess": torch.maximum(excess.amax(), _LARGEST_EXCESS * (chance.amax() - 1e-4)),
        }

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        """The most by which p at a node exceeds the mean of those beside it, as a ratio."""
        return (p[1:-1] / (p[2:] + p[:-2]).add_(torch.finfo(p.dtype).tiny)).amax(0) * 2

    def _check(self, excess: Tensor) -> None:
        if not float(excess) <= _LARGEST_EXCESS:
            raise ResolutionError(
                f"expected densities that {self.nodes} nodes on |x| ≤ {self.cut:.4g} resolve, got one that "
                "changes too much from node to node: give it more nodes, or a smaller learning rate"
            )

    def _from_interpolant(
        self, p: Float[Tensor, "nodes columns"], place: Float[Tensor, "columns"]
    ) -> tuple[Float[Tensor, "columns"], Float[Tensor, "columns"], Float[Tensor, "columns"]]:
        """Draws of the piecewise linear density with values p at the nodes, its values there, and ∫ p / Δ.

        It is a sum of triangles around the nodes: one is drawn by its weight, first its stretch and then the
        node in it, and how far the draw reached into its weight tells where in the triangle x lies. Of the
        triangles at the ends there is one half, the right one of the first and the left one of the last. Sums
        are in float64, for what is left of a sum of float32 numbers beyond most of p is noise.
        """
        flat, number, own = p.view(-1), p.shape[1], torch.arange(p.shape[1], device=p.device)
        stretch, last = math.isqrt(self.nodes - 1) + 1, self.nodes - 1
        sums, start = [some.sum(0, dtype=torch.float64) for some in p.split(stretch)], p[0].double() / 2
        total = reduce(torch.add, sums) - start - p[last] / 2
        which, rest = _part(sums[:-1], place * total + start)
        first = which * stretch
        # beyond the last node, where a stretch may be shorter, rounding alone can lead
        within = (first + torch.arange(stretch - 1, device=p.device)[:, None]).clamp_(max=last)
        weights = flat.index_select(0, within.mul_(number).add_(own).view(-1)).double().view_as(within)
        inside, rest = _part(weights.unbind(), rest)
        node = first.add_(inside).clamp_(max=last)
        here = flat.index_select(0, (node * number).add_(own))
        # −1 to 1 within the triangle, from which the density 1 − |shift| makes ±[1 − √(1 − |t|)]
        t = rest.mul_(2).div_(here).sub_(1).to(p.dtype).clamp_(-1, 1)
        size = 1 - (1 - t.abs()).sqrt_()
        beside = torch.where(t < 0, -1, 1).add_(node).clamp_(0, last)
        there = flat.index_select(0, beside.mul_(number).add_(own))
        interpolant = torch.lerp(here, there, size).clamp_(min=torch.finfo(p.dtype).tiny)
        return torch.copysign(size, t).add_(node).mul_(self.spacing).sub_(self.cut), interpolant, total


class Circle(Grid):
    """Equidistant nodes on a circle, from one end of [−X, X] to the other, which are the same point.

    The formulas are those of `Grid`. They need no decay, for p is smooth across the ends.
    """

    def _excess(self, p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
        ends = p[0] / (p[1] + p[-2]).add_(torch.finfo(p.dtype).tiny) * 2
        return torch.maximum(super()._excess(p), ends)


def _in_blocks(programs: Programs, propose: Named, columns: Given, shared: Given) -> Given:
    """`propose` as a program for blocks of columns, of which the last is filled up with the first columns."""
    number = next(iter(columns.values())).shape[-1]
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, number, _BLOCK):
        some = {name: one[..., start : start + _BLOCK] for name, one in columns.items()}
        if number < start + _BLOCK:
            again = torch.arange(start, start + _BLOCK) % number
            some = {name: one.index_select(-1, again) for name, one in columns.items()}
        for name, one in programs.run(propose, some | shared).items():
            parts.setdefault(name, []).append(one if one.ndim else one[None])
    return {name: torch.cat(some)[:number] for name, some in parts.items()}


def _part(
    parts: Sequence[Float[Tensor, "columns"]], target: Float[Tensor, "columns"]
) -> tuple[Int[Tensor, "columns"], Float[Tensor, "columns"]]:
    """Which part of a sum a target lies in, beyond all that are given if need be, and how far it reaches."""
    before = torch.stack(list(accumulate(parts, initial=torch.zeros_like(target))))
    part = (before[1:] < target).sum(0)
    own = torch.arange(len(target), device=target.device)
    return part, target - before.view(-1).index_select(0, (part * len(target)).add_(own))


def _trapezoid(p: Float[Tensor, "nodes columns"]) -> Float[Tensor, "columns"]:
    return p.sum(0, dtype=torch.float64) - (p[0] + p[-1]).double() / 2
