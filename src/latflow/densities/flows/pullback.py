"""The action of a theory in the latent variables of a flow."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from latflow.densities.flows.base import Bijection, Flow, check_precision
from latflow.fields.base import FieldKind
from latflow.observables.base import Observable
from latflow.theories.base import Action, Evaluation, Words
from latflow.types import Field, Lattice, LogProb

Reached = TypeVar("Reached")


@dataclass(frozen=True, eq=False)
class Pullback(Action):
    """A theory seen from the latent side of a flow x = f(z).

        S̃(z) = S(f(z)) − log |det ∂f/∂z|,      F̃(z) = Jᵀ F(f(z)) + ∂_z log |det J|,   J = ∂f/∂z

    If z follows exp(−S̃), then f(z) follows exp(−S), whatever f. The force costs one pass through the flow and
    one back; F is that of the theory, in closed form where it has one. `evaluate` gives the physical
    configuration f(z) with it, which is what samplers record. A `Pullback` of a `Pullback` stands for the
    composition, the inner flow applied last.

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
        ValueError: when the flow lives on another lattice than the theory, or the field is discrete.

    Example:
        >>> import latflow as lf
        >>> free, flow = lf.actions.Phi4((4, 4), m2=1.0, lam=0.0), lf.flows.Scale(0.5)
        >>> Pullback(free, flow)(torch.zeros(1, 4, 4))
        tensor([-8.], dtype=torch.float64)
    """

    action: Action
    flow: Flow | Bijection

    def __post_init__(self) -> None:
        if self.action.kind.manifold is None:
            raise ValueError(f"expected a field that flows can move, got discrete {self.action.kind}")
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
    def kind(self) -> FieldKind:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the latent variables: what flows to a kind of field begins as one of that kind."""
        return self.action.kind

    @property
    def observables(self) -> tuple[Observable, ...]:
        """Those of the theory, at the physical configuration."""
        return self.action.observables

    @property
    def words(self) -> Words:
        return self.action.words

    def check_proper(self) -> None:
        """∫ exp(−S̃) dz = ∫ exp(−S) dx: as the theory."""
        self.action.check_proper()

    def coordinates(self, field: Field) -> Field:
        """z = f⁻¹(field).

        Raises:
            ValueError: for a field in another precision than that of the flow.
        """
        found = self.action.coordinates(field)
        check_precision(self.flow, found)
        return self.flow.inverse(found)[0]

    def __call__(self, x: Field) -> LogProb:
        check_precision(self.flow, x)
        field, log_det = self.flow.forward(x)
        return self.action(field) - log_det

    def force(self, x: Field) -> Tensor:
        return self._pulled(x, self.action.force, lambda force: force)[2]

    def evaluate(self, x: Field) -> Evaluation:
        """S̃(z), its force and the physical configuration at z, for the price of the force."""
        reached, log_det, force = self._pulled(x, self.action.evaluate, lambda reached: reached.force)
        return Evaluation(reached.value - log_det, force, reached.field)

    def _pulled(
        self, z: Field, there: Callable[[Field], Reached], force_of: Callable[[Reached], Tensor]
    ) -> tuple[Reached, LogProb, Tensor]:
        """What `there` gives at f(z), the force on f(z) among it; log |det ∂f/∂z|; and −∂S̃/∂z."""
        check_precision(self.flow, z)
        manifold = self.kind.manifold
        assert manifold is not None  # the constructor refuses a kind without
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            x, log_det = self.flow.forward(leaf)
        with torch.no_grad():
            reached = there(manifold.canonical(x.detach()))
        with torch.enable_grad():
            # the gradient of ⟨F(x), x⟩ at fixed F is Jᵀ F
            total = manifold.pairing(x, force_of(reached)).sum() + log_det.sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return reached, log_det.detach(), manifold.project(z, gradient)
