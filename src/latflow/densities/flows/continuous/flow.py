"""Bijections that follow an ordinary differential equation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latflow.densities.flows.base import Bijection, WayBack
from latflow.types import Field, LogProb

BatchLast = Float[Tensor, "*lattice batch"]

Velocity = Callable[[BatchLast], tuple[BatchLast, LogProb]]
"""dx/dt at x, and its divergence Σ_x ∂(dx/dt)(x)/∂x(x). Fields have the batch last."""


class VectorField(nn.Module, ABC):
    """The right-hand side of dx/dt = v(x, t), constant in time within each of several stages."""

    @abstractmethod
    def stages(self, x: BatchLast) -> Sequence[Velocity]:
        """The velocities of all stages in order, for fields on the lattice and of the precision of x."""


class ContinuousFlow(Bijection):
    """x(0) → x(1) of dx/dt = v(x, t), by the method of Runge and Kutta of fourth order with fixed steps.

        log det = ∫₀¹ dt div v(x(t))

    by the same steps. The inverse undoes the steps that were taken, to the last digits: the equation followed
    back differs from that by h⁴, which a few corrections remove; so q(x) has one value however x was found.
    What is left is the difference between the integral and the log-determinant of the map that the steps are,
    which falls as h⁴ too: an error of log q that validation measures by `refined` and holds against the
    spread of the weights. Sources: Chen et al., Neural ordinary differential equations, arXiv:1806.07366; de
    Haan et al., Scaling up machine learning for quantum field theory with equivariant continuous flows,
    arXiv:2110.02673.

    Gradients of the inverse with respect to y and to parameters are those of the equation followed back.

    Args:
        vector_field: v.
        substeps: steps in each of its stages.

    Raises:
        ValueError: for less than one step.
    """

    def __init__(self, vector_field: VectorField, substeps: int = 2) -> None:
        super().__init__()
        if substeps < 1:
            raise ValueError(f"expected at least one substep, got {substeps}")
        self.vector_field = vector_field
        self.substeps = substeps

    def forward(self, x: Field) -> tuple[Field, LogProb]:
        y, log_det = self._followed(x.movedim(0, -1).contiguous(), 1)
        return y.movedim(-1, 0), log_det

    def inverse(self, y: Field) -> tuple[Field, LogProb]:
        with torch.no_grad():
            x, log_det = self._undone(y.movedim(0, -1).contiguous())
        x = x.movedim(-1, 0)
        return self._with_gradient(y, x, -log_det) if torch.is_grad_enabled() else (x, -log_det)

    def nearly_inverse(self, y: Field) -> tuple[Field, LogProb]:
        x, log_det = self._followed(y.movedim(0, -1).contiguous(), -1)
        return x.movedim(-1, 0), log_det

    def forward_and_back(self, x: Field) -> tuple[Field, LogProb, WayBack]:
        with torch.no_grad():
            y, log_det = self.forward(x)
        return y, log_det, lambda same: self._with_gradient(same, x, -log_det)

    def refined(self) -> "ContinuousFlow":
        return ContinuousFlow(self.vector_field, 2 * self.substeps)

    def _undone(self, target: BatchLast) -> tuple[BatchLast, LogProb]:
        """The x that the steps carry to the target, and the log-determinant of the way there."""
        limit = 8 * torch.finfo(target.dtype).eps * (1 + target.abs().amax())
        x, log_det = torch.empty_like(target), target.new_empty(target.shape[-1], dtype=torch.float64)
        aim, rest = target, torch.arange(target.shape[-1], device=target.device)
        for _ in range(_MOST_CORRECTIONS):
            x[..., rest], _ = self._followed(aim, -1)
            reached, log_det[rest] = self._followed(x[..., rest], 1)
            missed = target[..., rest] - reached
            far = missed.flatten(0, -2).abs().amax(0) > limit
            if not bool(far.any()):
                break
            aim, rest = (aim + missed)[..., far], rest[far]
        return x, log_det

    def _with_gradient(self, y: Field, x: Field, log_det: LogProb) -> tuple[Field, LogProb]:
        """x and the log-determinant of the inverse, with the graph of the equation followed back from y."""
        way, log_det_way = self.nearly_inverse(y)
        return way + (x - way).detach(), log_det_way + (log_det - log_det_way).detach()

    def _followed(self, x: BatchLast, direction: int) -> tuple[BatchLast, LogProb]:
        stages = self.vector_field.stages(x)[::direction]
        log_det = x.new_zeros(x.shape[-1], dtype=torch.float64)
        h = direction / (len(stages) * self.substeps)
        for velocity in stages:
            for _ in range(self.substeps):
                x, change = _step(velocity, x, h)
                log_det = log_det + change
        return x, log_det


_MOST_CORRECTIONS = 30
"""Each takes four or five digits off; two are the rule in double precision, far from where
anything is drawn it may take more."""


def _step(velocity: Velocity, x: BatchLast, h: float) -> tuple[BatchLast, LogProb]:
    """One step of the classical method."""
    v1, d1 = velocity(x)
    v2, d2 = velocity(torch.add(x, v1, alpha=h / 2))
    v3, d3 = velocity(torch.add(x, v2, alpha=h / 2))
    v4, d4 = velocity(torch.add(x, v3, alpha=h))
    return x + (h / 6) * (v1 + v4 + 2 * (v2 + v3)), (h / 6) * (d1 + d4 + 2 * (d2 + d3)).double()
