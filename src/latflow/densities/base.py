"""Weighted samplers and densities: all that estimators, weights and samplers know of a model."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from latflow.theories.base import Action
from latflow.types import Draws, LogProb


@runtime_checkable
class WeightedSampler(Protocol):
    """What makes independent draws with their weights towards exp(−S)."""

    def draws(self, n: int, action: Action, generator: Generator) -> Draws:
        """n independent draws, without graph."""
        ...


@runtime_checkable
class Density(Protocol):
    """A normalised density q from which one can draw and which one can evaluate.

    By `draws` below it is a weighted sampler as well. Those of this package say in addition on which
    `lattice` and for which `kind` of field they are, the `recipe` from which they were built (or None), and
    the `symmetries` of the kind that they have exactly, such as ("z2",).
    """

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, LogProb]:
        """n independent draws x and log q(x) of each."""
        ...

    def log_prob(self, x: Tensor) -> LogProb:
        """log q(x)."""
        ...


@runtime_checkable
class FixedDrawDensity(Density, Protocol):
    """A density that draws and differentiates log q at the draws at a lower cost than the two apart."""

    def sample_fixed(self, n: int, generator: Generator) -> tuple[Tensor, LogProb]:
        """n independent draws x without graph, and log q(x) with the graph that `log_prob` has there."""
        ...


def log_weight(action: Action, x: Tensor, log_q: LogProb) -> LogProb:
    """log w = −S(x) − log q(x), such that ⟨w⟩_q = Z.

    Networks may run in lower precision under autocast; the action never does.

    Args:
        action: S.
        x: configurations.
        log_q: log q(x) of each.
    """
    with unlowered(x):
        return -action(x) - log_q


@torch.no_grad()
def draws(density: WeightedSampler | Density, n: int, action: Action, generator: Generator) -> Draws:
    """n independent draws with their weights towards exp(−S), without graph.

    Args:
        density: makes them by its own `draws` where it has that, else by `sample`.
        n: how many.
        action: S.
        generator: source of the draws.
    """
    if isinstance(density, WeightedSampler):
        return density.draws(n, action, generator)
    x, log_q = density.sample(n, generator)
    return Draws(x, log_weight(action, x, log_q))


def unlowered(x: Tensor) -> torch.autocast:
    """A context without autocast on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


class Strata(NamedTuple):
    """Which part of a mixture each draw is of.

    Attributes:
        labels: of the parts, whole numbers.
        log_prob: the logarithm of the probability of that part, with the graph of the parameters.
    """

    labels: Int[Tensor, "batch"]
    log_prob: LogProb


class PathDraws(NamedTuple):
    """Draws x = f(z) of a density with what path gradients need; a graph leads from x to the map alone.

    Attributes:
        x: the draws, with the graph of f at fixed z.
        log_q: log q(x), without graph.
        score: ∂ log q/∂x at fixed parameters, in the shape of x, without graph.
        log_prior: log r(z) at fixed z, with the graph of the prior's parameters, or zeros where it has none.
        strata: of z, where r is a mixture of parts that do not overlap.
    """

    x: Tensor
    log_q: LogProb
    score: Tensor
    log_prior: LogProb
    strata: Strata | None = None


@runtime_checkable
class PathDensity(Density, Protocol):
    """A density that draws by a differentiable map of a prior, and knows the score of its draws."""

    def sample_with_score(self, n: int, generator: Generator) -> PathDraws:
        """n independent draws with their scores."""
        ...


def path_draws(density: Density, n: int, generator: Generator) -> PathDraws:
    """n draws for a path gradient, of any density whose `sample` and `log_prob` are differentiable."""
    if isinstance(density, PathDensity):
        return density.sample_with_score(n, generator)
    x, _ = density.sample(n, generator)
    log_q, score = score_of(density.log_prob, x.detach())
    return PathDraws(x, log_q, score, torch.zeros_like(log_q))


def score_of(log_prob: Callable[[Tensor], LogProb], x: Tensor) -> tuple[LogProb, Tensor]:
    """log q(x) and ∂ log q/∂x, without graph."""
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        log_q = log_prob(leaf)
        if not log_q.requires_grad:  # a constant
            return log_q, torch.zeros_like(x)
        # the gradient is asked for the leaf alone, so the parameters gather nothing here
        (score,) = torch.autograd.grad(log_q.sum(), leaf)
    return log_q.detach(), score
