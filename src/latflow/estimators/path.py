"""Estimators that differentiate through the draws, and need the derivative of the action."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.densities.base import Density, PathDraws, draws, log_weight, path_draws, unlowered
from latflow.estimators.base import Estimate, Estimator, Gather, alone, sizes
from latflow.estimators.score import ScoreFunction
from latflow.fields import Manifold
from latflow.theories.base import Action
from latflow.types import LogProb

_SIGNAL = ScoreFunction("mean")


class Reparametrization(Estimator):
    """g3: the derivative of ⟨log q + S⟩ through the draws x = f(z; θ). It needs the derivative of the action.

    Source: Białas, Korcyl, Stebel, eq. 14.
    """

    needs_force = True

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        x, log_q = density.sample(n, generator)
        log_w = log_weight(action, x, log_q)
        return Estimate(-log_w.mean(), log_w.detach())


class PathGradient(Estimator):
    """The part of g3 that flows through the draws: ⟨∂_x(log q + S) · ∂_θ x⟩. It has no variance at q = p.

    What it leaves out of g3, ⟨∂_θ log q at fixed x⟩, has mean zero. Parameters of the prior, which draws
    without a derivative, get the estimate of `reinforce`, whose mean runs over the draws of one call. Source:
    Vaitl, Nicoli, Nakajima, Kessel, Gradients should stay on path, arXiv:2207.08219.

    Raises:
        ValueError: for a discrete field.
    """

    needs_force = True

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        drawn, gradient = _drawn(density, action, n, generator)
        log_w = log_weight(action, drawn.x.detach(), drawn.log_q)
        loss = -_manifold(action).pairing(drawn.x, gradient).mean()
        if drawn.log_prior.requires_grad:
            loss = loss + of_prior(drawn, _SIGNAL.signal(log_w)) / n
        return Estimate(loss, log_w)


class ForwardPath(Estimator):
    """The gradient of a forward divergence D_α(p|q), from draws of q itself and through them.

        D_α = log⟨w^α⟩_q / (α(α − 1)),    w = p/q over its mean,    D_1 = D_KL(p|q),    D_2 = −½ log ESS,

        −⟨w^α ∂_x(log p − log q) · ∂_θ x⟩ / ⟨w^α⟩ + ρ × the path gradient of D_KL(q|p)

    Where the density misses what p has, w is large and draws it there; heavy tails of the force, as near the
    zeros of a determinant, are weighed down by the w that vanishes there. The larger α, the more counts what
    is missed most, and the fewer draws count at all: α is as large as the draws of a step can bear. The
    second part, in which single forces are shortened, pulls where all w are small. Parameters of the prior,
    which draws without a derivative, get the estimates of the score function with the same weights over α,
    less their means, and within the parts of a mixture less the means there. Weights are normalised over all
    draws of a step. A q that jumps, as over the sectors of `SectorLinks`, leaves out what flows over the
    jump. Source: arXiv:2207.08219, for α = 1.

    Args:
        largest: weights w^α beyond this many times their mean are cut to it.
        reverse: ρ ≥ 0.
        longest: in the second part, forces longer than this times the square root of the number of their
            components are shortened to it.
        order: α at most, at least 1.
        effective: α is the largest number, or 1, with which (Σ w^α)² / (n Σ w^2α) is at least this.

    Raises:
        ValueError: for numbers out of range; from a call, for a discrete field.
    """

    needs_force = True

    def __init__(
        self,
        largest: float = 20.0,
        reverse: float = 0.3,
        longest: float = 2.0,
        order: float = 2.0,
        effective: float = 0.5,
    ) -> None:
        if (
            not largest > 1
            or not reverse >= 0
            or not longest > 0
            or not order >= 1
            or not 0 <= effective <= 1
        ):
            raise ValueError(
                f"expected {largest=} > 1, {reverse=} ≥ 0, {longest=} > 0, {order=} ≥ 1 and "
                f"{effective=} from 0 to 1"
            )
        self.largest: float = largest
        self.reverse: float = reverse
        self.longest: float = longest
        self.order: float = order
        self.effective: float = effective

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        return next(self.pieces(density, action, n, generator, sub_batch=n))

    def pieces(
        self,
        density: Density,
        action: Action,
        n: int,
        generator: Generator,
        sub_batch: int,
        gather: Gather = alone,
    ) -> Iterator[Estimate]:
        if n <= sub_batch:
            drawn, gradient = _drawn(density, action, n, generator)
            log_w = log_weight(action, drawn.x.detach(), drawn.log_q)
            yield self._estimate(action, drawn, gradient, log_w, *self._signals(log_w, gather(log_w)), n)
            return
        # the weights of all are known before any is differentiated: everything is drawn, and then drawn again
        before = generator.get_state()
        own = torch.cat([draws(density, size, action, generator).log_weight for size in sizes(n, sub_batch)])
        after = generator.get_state()
        generator.set_state(before)
        parts = (one.split(sub_batch) for one in (own, *self._signals(own, gather(own))))
        for log_w, w, signal in zip(*parts, strict=True):
            # in no variable: the graph would live on beside the one of the next piece
            yield self._estimate(action, *_drawn(density, action, len(log_w), generator), log_w, w, signal, n)
        generator.set_state(after)

    def _signals(self, log_weight: LogProb, whole: Float[Tensor, "all"]) -> tuple[LogProb, LogProb]:
        """w^α, and what the score of the prior is weighted with, of some draws out of all."""
        order, median = self._order(whole), whole.median()
        log_mean = torch.logsumexp(order * whole, 0) - math.log(len(whole))

        def parts(of: LogProb) -> tuple[LogProb, LogProb]:
            return (order * of - log_mean).exp().clamp(max=self.largest), (of - median).clamp(-_FAR, _FAR)

        (w, near), (all_w, all_near) = parts(log_weight), parts(whole)
        return w, (w - all_w.mean()) / order + self.reverse * (near - all_near.mean())

    def _order(self, log_weight: LogProb) -> Tensor:
        """α."""
        orders = torch.linspace(1, self.order, _ORDERS, dtype=log_weight.dtype, device=log_weight.device)
        powers = orders[:, None] * log_weight
        shares = 2 * torch.logsumexp(powers, 1) - torch.logsumexp(2 * powers, 1) - math.log(len(log_weight))
        # they fall with the order
        return orders[(shares[1:].exp() >= self.effective).sum()]

    def _estimate(
        self,
        action: Action,
        drawn: PathDraws,
        gradient: Tensor,
        log_weight: LogProb,
        w: LogProb,
        signal: LogProb,
        n: int,
    ) -> Estimate:
        """The part of some draws in the estimate from n."""
        longest = self.longest * math.sqrt(gradient[0].numel())
        shorter = (longest / gradient.flatten(1).norm(dim=1)).clamp(max=1.0)
        along = (w + self.reverse * shorter).to(gradient.dtype)
        along = along.view(-1, *(1 for _ in gradient.shape[1:]))
        loss = -_manifold(action).pairing(drawn.x, along * gradient).sum()
        if drawn.log_prior.requires_grad:
            loss = loss - of_prior(drawn, signal)
        return Estimate(loss / n, log_weight)


_ORDERS = 17
"""Values of α that are tried."""
_FAR = 4.0
"""Log-weights farther from their median pull no more on a prior than this."""


def of_prior(drawn: PathDraws, signal: LogProb) -> Tensor:
    """Σ signal · log r, whose derivative is the estimate for the prior.

    In a mixture the parts' probabilities are moved by the signal, and their densities by what differs within
    a part: draws of a rare part, which all tell that there are too many of them, say nothing of its density.
    """
    if drawn.strata is None:
        return (drawn.log_prior * signal).sum()
    labels, log_part = drawn.strata
    _, part = labels.unique(return_inverse=True)
    sums = signal.new_zeros(int(part.max()) + 1).index_add(0, part, signal)
    within = signal - (sums / part.bincount())[part]
    return (log_part * signal).sum() + ((drawn.log_prior - log_part) * within).sum()


def _drawn(density: Density, action: Action, n: int, generator: Generator) -> tuple[PathDraws, Tensor]:
    """Draws, and ∂_x(log p − log q) at them."""
    manifold = _manifold(action)
    drawn = path_draws(density, n, generator)
    fixed = drawn.x.detach()
    with unlowered(fixed):
        return drawn, action.force(fixed) - manifold.project(fixed, drawn.score)


def _manifold(action: Action) -> Manifold:
    if action.kind.manifold is None:
        raise ValueError(
            f"expected a continuous field for the path gradient, got a discrete one ({action.kind})"
        )
    return action.kind.manifold
