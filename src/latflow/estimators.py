"""Estimators of the gradient of F_q, all with one signature.

With δ = ∂_θ log q and s = log q + S, the variational free energy F_q = E_q[s] has the gradient E_q[δ s]. An
estimator is called as `estimator(density, action, n, generator) -> Estimate`, and `loss.backward()` leaves
its estimate of the gradient from n draws in the parameters. Source of g1, g2, g3: Białas, Korcyl, Stebel,
Gradient estimators for normalising flows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from latflow.densities.base import Density, FixedDrawDensity, draws, log_weight, unlowered
from latflow.theories.base import Action
from latflow.types import LogProb

Baseline = Literal["none", "mean", "leave_one_out"]

Gather = Callable[[LogProb], LogProb]
"""Given the log-weights that one process drew, those of all processes which train together."""


def _alone(log_weight: LogProb) -> LogProb:
    return log_weight


class Estimate(NamedTuple):
    """A gradient estimate.

    Attributes:
        loss: a scalar whose `backward()` leaves the estimate in the parameters; its value carries no meaning.
        log_weight: −S(x) − log q(x) of the draws, (n,), without graph.
    """

    loss: Tensor
    log_weight: LogProb


class Estimator(ABC):
    """A gradient estimator; the instances below are called like functions."""

    needs_force: bool = False
    """Whether it differentiates the action, which discrete fields do not allow."""

    @abstractmethod
    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        """The estimate from n draws."""

    def pieces(
        self,
        density: Density,
        action: Action,
        n: int,
        generator: Generator,
        sub_batch: int,
        gather: Gather = _alone,  # noqa: ARG002 (only baselines need the other processes)
    ) -> Iterator[Estimate]:
        """The estimate from n draws, at most `sub_batch` of them at a time.

        The losses are weighted such that the gradients of all pieces add up to the estimate from n draws.
        Call `backward()` on each before the next is taken: then one piece at a time holds its activations.

        Of several processes, each with n draws of its own, each finds its part: the mean of their gradients
        is the estimate from all draws. An estimator that compares draws sees those of all by `gather`, which
        every process calls as often.
        """
        for size in _sizes(n, sub_batch):
            loss, log_weight = self(density, action, size, generator)
            yield Estimate(loss * (size / n), log_weight)


class ScoreFunction(Estimator):
    """⟨δ (s − b)⟩ with a baseline b: differentiates log q alone, never the action.

        none           b = 0                    g1, unbiased; its variance grows with (log Z)²
        mean           b = s̄ over the batch     g2, E g2 = (N−1)/N ∇F_q; no variance at q = p
        leave_one_out  b = mean of the others   N/(N−1) g2, unbiased

    The baseline runs over all N draws of a step, in `pieces` and of several processes too: these draw
    everything first, and only the gradient of log q is taken in pieces. Where one piece holds all draws, a
    flow runs its networks once, forward and backward.
    Source: Białas, Korcyl, Stebel, eqs. 19-22; algorithm 1.

    Args:
        baseline: one of the names above.

    Raises:
        ValueError: for another name.
    """

    def __init__(self, baseline: Baseline = "mean") -> None:
        if baseline not in ("none", "mean", "leave_one_out"):
            raise ValueError(f"expected baseline 'none', 'mean' or 'leave_one_out', got {baseline!r}")
        self.baseline = baseline

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        return next(self.pieces(density, action, n, generator, sub_batch=n))

    def pieces(
        self,
        density: Density,
        action: Action,
        n: int,
        generator: Generator,
        sub_batch: int,
        gather: Gather = _alone,
    ) -> Iterator[Estimate]:
        if n <= sub_batch and isinstance(density, FixedDrawDensity):
            x, log_q = density.sample_fixed(n, generator)
            log_w = log_weight(action, x, log_q.detach())
            yield Estimate((log_q * self.signal(log_w, gather(log_w))).mean(), log_w)
            return
        drawn = [draws(density, size, action, generator) for size in _sizes(n, sub_batch)]
        own = torch.cat([log_w for _, log_w in drawn])
        signal = self.signal(own, gather(own))
        for (x, log_w), part in zip(drawn, signal.split(sub_batch), strict=True):
            yield Estimate((density.log_prob(x) * part).sum() / n, log_w)

    def signal(self, log_weight: LogProb, whole: LogProb | None = None) -> LogProb:
        """s − b, from log_weight = −s.

        Args:
            log_weight: of some draws.
            whole: of all over which the baseline runs, these included; None where there are no others.

        Raises:
            ValueError: when a leave-one-out baseline has a single draw.
        """
        s = -log_weight
        if self.baseline == "none":
            return s
        everything = s if whole is None else -whole
        mean, n = everything.mean(), len(everything)
        if self.baseline == "mean":
            return s - mean
        if n < 2:
            raise ValueError("expected at least 2 draws for a leave-one-out baseline, got 1")
        return (s - mean) * (n / (n - 1))


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

    What it leaves out of g3, ⟨∂_θ log q at fixed x⟩, has mean zero. Source: Vaitl, Nicoli, Nakajima, Kessel,
    Gradients should stay on path, arXiv:2207.08219.

    Raises:
        ValueError: for a discrete field.
    """

    needs_force = True

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        manifold = action.kind.manifold
        if manifold is None:
            raise ValueError(
                f"expected a continuous field for the path gradient, got a discrete one ({action.kind})"
            )
        x, _ = density.sample(n, generator)
        fixed = x.detach()
        with torch.enable_grad():
            leaf = fixed.clone().requires_grad_()
            log_q = density.log_prob(leaf)
            # the gradient is asked for the leaf alone, so the parameters gather nothing here
            (score,) = torch.autograd.grad(log_q.sum(), leaf)
        with unlowered(fixed):
            gradient = manifold.project(fixed, score) - action.force(fixed)
        loss = manifold.pairing(x, gradient).mean()
        return Estimate(loss, log_weight(action, fixed, log_q.detach()))


class ForwardKL(Estimator):
    """Maximum likelihood on configurations drawn from p: the gradient of D_KL(p|q) = −⟨log q(x)⟩_p + const.

    Each call takes n of the configurations, drawn with replacement. It sees every mode of p that the
    configurations visit, where the estimators above see only what q already reaches. The log-weights are
    those of the configurations: averages of a record (F_q, ESS) then run over p, not over q.

    Args:
        configurations: (number, *lattice), from an exact sampler such as HMC.

    Raises:
        ValueError: when there is no configuration.
    """

    def __init__(self, configurations: Tensor) -> None:
        if len(configurations) == 0:
            raise ValueError("expected at least one configuration, got none")
        self.configurations = configurations

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        device = self.configurations.device
        chosen = torch.randint(len(self.configurations), (n,), generator=generator, device=device)
        x = self.configurations[chosen]
        log_q = density.log_prob(x)
        return Estimate(-log_q.mean(), log_weight(action, x, log_q.detach()))


score = ScoreFunction("none")
"""g1 = ⟨δ s⟩."""

reinforce = ScoreFunction("mean")
"""g2 = ⟨δ (s − s̄)⟩."""

reinforce_leave_one_out = ScoreFunction("leave_one_out")
"""g2 made unbiased: the baseline of each draw is the mean of the others."""

reparametrization = Reparametrization()
"""g3, through the draws and the action."""

path_gradient = PathGradient()
"""The path gradient of arXiv:2207.08219."""


def forward_kl(configurations: Tensor) -> ForwardKL:
    """The estimator of maximum likelihood on these configurations, (number, …): the only one with data."""
    return ForwardKL(configurations)


ESTIMATORS: dict[str, Estimator] = {
    "score": score,
    "reinforce": reinforce,
    "reinforce_leave_one_out": reinforce_leave_one_out,
    "reparametrization": reparametrization,
    "path_gradient": path_gradient,
}
"""The estimators by the name that a configuration uses."""


def _sizes(n: int, sub_batch: int) -> list[int]:
    """n in parts of `sub_batch`, the last one smaller where it does not divide n."""
    return [min(sub_batch, n - first) for first in range(0, n, sub_batch)]
