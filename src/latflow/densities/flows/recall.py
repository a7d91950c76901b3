"""A network evaluated once, whose graph then serves a second evaluation at the same point.

A coupling computes the parameters of its map from the frozen half of the field, which is the same before and
after it. So the graph that the network leaves on the way from the prior to the field serves the way back,
along which the score ∂ log q at fixed x is differentiated.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def recalled(
    function: Callable[[Tensor], Tensor], at: Tensor, weights: Iterable[nn.Parameter]
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The value of a function at a point, and the function for arguments that equal this point.

    The second never evaluates the function again: it returns the known value, and differentiates it with
    respect to its argument and the weights by the graph of the first evaluation. It can be used once.

    Args:
        function: of a tensor, with `weights` inside.
        at: the point.
        weights: the parameters of the function that are to have a gradient.
    """
    trained = [weight for weight in weights if weight.requires_grad]
    leaf = at.detach().requires_grad_()
    with torch.enable_grad():
        value = function(leaf)
    known = value.detach()
    return known, lambda argument: _Recall.apply(argument, known, [value], leaf, *trained)


class _Recall(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        argument: Tensor,  # noqa: ARG004 (equal to the leaf, and the way of its gradient)
        known: Tensor,
        graph: list[Tensor],
        leaf: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        # in a list, which autograd does not look into: the graph stays out of the one that is made here
        ctx.graph, ctx.leaf, ctx.trained = graph, leaf, trained
        return known.view_as(known)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor):
        (value,) = ctx.graph
        found = torch.autograd.grad(value, [ctx.leaf, *ctx.trained], gradient, allow_unused=True)
        return found[0], None, None, None, *found[1:]
