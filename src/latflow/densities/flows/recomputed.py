"""Flows that keep little for the derivative: of each layer the field that went in, and no activations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latflow.densities.flows.base import Bijection, Compose, Flow, WayBack
from latflow.types import Field, LogProb


def recomputed(density: object) -> Flow:
    """The same flow, over the same parameters, which keeps the activations of one layer at a time.

    Each layer that a `Compose` is made of keeps the fields that went into it, and computes the rest again
    when the derivative comes to it: one more pass through the networks, for the memory of one layer instead
    of all. Values and gradients are those of the flow; what REINFORCE finds differs by rounding, since it
    takes the derivative of the inverse of a layer.

    Raises:
        ValueError: for a density that is no flow.
    """
    if not isinstance(density, Flow):
        raise ValueError(f"expected a flow, whose layers can be recomputed, got {type(density).__name__}")
    return Flow(density.prior, _lean(density.bijection), None, density.symmetries)


def _lean(bijection: Bijection) -> Bijection:
    if isinstance(bijection, Compose):
        return Compose(*map(_lean, bijection.bijections))  # pyright: ignore[reportArgumentType]
    return Recomputed(bijection)


class Recomputed(Bijection):
    """A bijection whose derivatives are found by evaluating it once more.

    Args:
        bijection: over whose parameters it is.
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        return self._evaluated(self.bijection.forward, x)

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self._evaluated(self.bijection.inverse, y)

    def nearly_inverse(self, y: Field) -> tuple[Field, LogProb]:
        return self._evaluated(self.bijection.nearly_inverse, y)

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, WayBack]:
        with torch.no_grad():
            y, log_det = self.bijection.forward(x)
        # where the way back leads is known; it is followed for its derivative alone
        return y, log_det, lambda same: self._known(self.bijection.nearly_inverse, same, x, -log_det)

    def forward_with_score(self, x: Field, score: Tensor) -> tuple[Field, LogProb, Tensor]:
        y, log_det, after = self.bijection.forward_with_score(x.detach(), score)
        y, log_det = self._known(self.bijection.forward, x, y.detach(), log_det.detach())
        return y, log_det, after

    def _evaluated(self, function: WayBack, x: Field) -> tuple[Field, LogProb]:
        with torch.no_grad():
            known = function(x)
        return self._known(function, x, *known)

    def _known(self, function: WayBack, x: Field, y: Field, log_det: LogProb) -> tuple[Field, LogProb]:
        """What is known to be the value of a function at x, with the derivative of the function."""
        trained = [weight for weight in self.bijection.parameters() if weight.requires_grad]
        return _Again.apply(function, (y, log_det), x, *trained)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Any], known: tuple[Tensor, Tensor], x: Tensor, *trained: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.function = function
        ctx.save_for_backward(x, *trained)
        device = x.device.type
        ctx.lowered = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        return tuple(value.view_as(value) for value in known)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor):
        x, *trained = ctx.saved_tensors
        dtype, enabled = ctx.lowered
        leaf = x.detach().requires_grad_()
        # as it was on the first evaluation
        with torch.enable_grad(), torch.autocast(x.device.type, dtype, enabled, cache_enabled=False):
            values = ctx.function(leaf)
        pairs = [pair for pair in zip(values, gradients, strict=True) if pair[0].requires_grad]
        found = torch.autograd.grad(
            [value for value, _ in pairs], [leaf, *trained], [one for _, one in pairs], allow_unused=True
        )
        return None, None, *found
