"""Estimators that differentiate log q alone: by the score of the draws, and by maximum likelihood."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.densities.base import Density, FixedDrawDensity, draws, log_weight
from latflow.estimators.base import Estimate, Estimator, Gather, alone, sizes
from latflow.theories.base import Action
from latflow.types import LogProb

Baseline = Literal["none", "mean", "leave_one_out"]


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
        gather: Gather = alone,
    ) -> Iterator[Estimate]:
        if n <= sub_batch and isinstance(density, FixedDrawDensity):
            x, log_q = density.sample_fixed(n, generator)
            log_w = log_weight(action, x, log_q.detach())
            yield Estimate((log_q * self.signal(log_w, gather(log_w))).mean(), log_w)
            return
        drawn = [draws(density, size, action, generator) for size in sizes(n, sub_batch)]
        own = torch.cat([log_w for _, log_w in drawn])
        signal = self.signal(own, gather(own))
        for (x, log_w), part in zip(drawn, signal.split(sub_batch), strict=True):
            yield Estimate((density.log_prob(x) * part).sum() / n, log_w)

    def signal(self, log_weight: LogProb, whole: Float[Tensor, "all"] | None = None) -> LogProb:
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

    of_target = True

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
