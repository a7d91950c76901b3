"""What a site can hold, as autoregressive networks see it: spins ±1, or q states."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from latflow.fields import SPINS, FieldKind
from latflow.types import LogProb

Rows = Float[Tensor, "_ batch"]
"""Numbers of a sequence of sites: the site first, so that a site is a row, or several in a row."""

SiteValues = Num[Tensor, "_ batch"]
"""The values of a sequence of sites, the site first."""


class Values(ABC):
    """The values of a site: how a network reads them, and how its outputs make their distribution.

    Attributes:
        features: c, the numbers that stand for one site where a network reads it.
        outputs: l, the numbers that a network gives for one site.
        signs: whether x → −x is a symmetry that a network without biases has: its features change sign.
    """

    features: int
    outputs: int
    signs: bool

    @abstractmethod
    def dtype(self, like: Tensor) -> torch.dtype:
        """Of the values, where the weights have the dtype of `like`."""

    @abstractmethod
    def encoded(self, x: SiteValues, like: Tensor) -> Rows:
        """The features e(x) of each site, (sites · c, batch); zeros would stand for an unknown value."""

    @abstractmethod
    def log_probability(self, x: SiteValues, outputs: Rows) -> LogProb:
        """Σ over sites of log p(x) in float64, finite however large an output is."""

    @abstractmethod
    def thresholds(self, uniform: Float[Tensor, "sites batch"]) -> Float[Tensor, "sites batch"]:
        """What `drawn` compares with, from uniform numbers in [0, 1): once for all sites."""

    @abstractmethod
    def drawn(self, threshold: Float[Tensor, "batch"], outputs: Rows) -> Num[Tensor, "1 batch"]:
        """The value of one site, from its threshold and its outputs, (l, batch)."""

    @abstractmethod
    def outputs_of(self, field: Rows) -> Rows:
        """The outputs for which p(x) ∝ exp(f·e(x)), from f, (c, batch)."""


class Signs(Values):
    """Spins ±1 in the precision of the weights, with one output a, the log-odds of +1.

        p(s) = σ(s a),   σ(a) = 1/(1 + exp(−a)),   e(s) = s

    Networks without biases are odd functions of such features.
    """

    features = 1
    outputs = 1
    signs = True

    def dtype(self, like: Tensor) -> torch.dtype:
        return like.dtype

    def encoded(self, x: SiteValues, like: Tensor) -> Rows:  # noqa: ARG002 (spins keep their precision)
        return x

    def log_probability(self, x: SiteValues, outputs: Rows) -> LogProb:
        return functional.logsigmoid(x * outputs).sum(0, dtype=torch.float64)

    def thresholds(self, uniform: Float[Tensor, "sites batch"]) -> Float[Tensor, "sites batch"]:
        """log(u/(1 − u)): the spin is +1 where this is below a, that is where u < σ(a)."""
        return torch.logit(uniform)

    def drawn(self, threshold: Float[Tensor, "batch"], outputs: Rows) -> Num[Tensor, "1 batch"]:
        return torch.where(threshold < outputs, 1.0, -1.0).to(outputs.dtype)

    def outputs_of(self, field: Rows) -> Rows:
        return 2 * field


class Categories(Values):
    """States 0 … q−1 (int64), with one output a_s for each.

        p(s) = exp(a_s) / Σ_t exp(a_t),   e_t(s) = δ_ts − 1/q

    Args:
        q: how many, at least 2.
    """

    signs = False

    def __init__(self, q: int) -> None:
        self.features: int = q
        self.outputs: int = q

    def dtype(self, like: Tensor) -> torch.dtype:  # noqa: ARG002
        return torch.int64

    def encoded(self, x: SiteValues, like: Tensor) -> Rows:
        states = torch.arange(self.features, device=x.device)[:, None]
        return ((x[:, None] == states).to(like.dtype) - 1 / self.features).flatten(0, 1)

    def log_probability(self, x: SiteValues, outputs: Rows) -> LogProb:
        log_p = outputs.unflatten(0, (-1, self.outputs)).log_softmax(1)
        return log_p.gather(1, x[:, None])[:, 0].sum(0, dtype=torch.float64)

    def thresholds(self, uniform: Float[Tensor, "sites batch"]) -> Float[Tensor, "sites batch"]:
        """u itself: the state is the number of those s < q−1 for which p(0) + … + p(s) ≤ u."""
        return uniform

    def drawn(self, threshold: Float[Tensor, "batch"], outputs: Rows) -> Num[Tensor, "1 batch"]:
        cumulative = outputs.to(threshold.dtype).softmax(0).cumsum(0)
        return (cumulative[:-1] <= threshold).sum(0, keepdim=True)

    def outputs_of(self, field: Rows) -> Rows:
        return field


def values_of(kind: FieldKind) -> Values:
    """The values of a kind of field: signs for spins, else as many states as it has.

    Raises:
        ValueError: for a continuous field.
    """
    if kind.states is None:
        raise ValueError(f"expected a field with a few values a site, got a {kind} field: it needs a flow")
    return Signs() if kind == SPINS else Categories(kind.states)
