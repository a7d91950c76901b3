"""The action of a theory in the latent variables of a flow."""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch

from latflow.actions import Action
from latflow.flows.base import Bijection, Flow
from latflow.types import Field, Lattice, LogProb


class Pulled(NamedTuple):
    """What one pass through a flow and back gives: the field f(z), log |det ∂f/∂z|, and −∂S̃/∂z."""

    field: Field
    log_det: LogProb
    force: Field


@dataclass(frozen=True, eq=False)
class Pullback(Action):
    """A theory seen from the latent side of a flow x = f(z).

        S̃(z) = S(f(z)) − log |det ∂f/∂z|,      F̃(z) = Jᵀ F(f(z)) + ∂_z log |det J|,   J = ∂f/∂z

    If z follows exp(−S̃), then f(z) follows exp(−S), whatever f. The force costs one pass through the flow and
    one back; F is that of the theory, in closed form where it has one. A `Pullback` of a `Pullback` stands
    for the composition, the inner flow applied last.

    The flow is copied, without gradients of its parameters: training it further does not change the action.
    Fields come in the precision of the flow.

    A force needs f twice differentiable for energy violations that fall as ε²: splines and activations with
    kinks (ReLU and its kin) make it jump, and the violations then fall more slowly, which costs acceptance
    and never exactness.

    Source: Foreman, HMC with normalizing flows (arXiv:2112.01586), eqs. 10 and 11, where the derivative and
    the sign before log |det J| are misprinted; Lüscher, Trivializing maps, the Wilson flow and the HMC
    algorithm, arXiv:0907.5491.

    Args:
        action: S.
        flow: f, as a flow on the lattice of the theory or as a bijection.

    Raises:
        ValueError: when the flow lives on another lattice than the theory.

    Example:
        >>> import latflow as lf
        >>> free, flow = lf.actions.Phi4((4, 4), m2=1.0, lam=0.0), lf.flows.Scale(0.5)
        >>> Pullback(free, flow)(torch.zeros(1, 4, 4))
        tensor([-8.])
    """

    action: Action
    flow: Flow | Bijection

    def __post_init__(self) -> None:
        bijection = self.flow
        if isinstance(bijection, Flow):
            if bijection.lattice != self.action.lattice:
                raise ValueError(
                    f"expected a flow on the lattice {self.action.lattice}, got one on {bijection.lattice}"
                )
            bijection = bijection.bijection
        object.__setattr__(self, "flow", copy.deepcopy(bijection).requires_grad_(False).eval())

    @property
    def lattice(self) -> Lattice:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.action.lattice

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.action.kind

    @property
    def field_shape(self) -> tuple[int, ...]:
        return self.action.field_shape

    def __call__(self, x: Field) -> LogProb:
        field, log_det = self.flow.forward(x)
        return self.action(field) - log_det

    def force(self, x: Field) -> Field:
        return self.pulled(x).force

    def pulled(self, z: Field) -> Pulled:
        """The field, the log-determinant and the force at z, for the price of the force.

        The value S̃(z) is then `action(field) - log_det`, without another pass through the flow.
        """
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            x, log_det = self.flow.forward(leaf)
            field = x.detach()
            # the gradient of Σ x·F(x) at fixed F is Jᵀ F
            total = (x * self.action.force(field).detach()).sum() + log_det.sum()
            (force,) = torch.autograd.grad(total, leaf)
        return Pulled(field, log_det.detach(), force)
