"""Hybrid Monte Carlo through a flow: trajectories in the latent variables, chains read in the field."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latflow.actions import Action
from latflow.flows.base import Bijection, Flow
from latflow.flows.pullback import Pullback, Pulled
from latflow.samplers.hmc import HMC, HMCState
from latflow.samplers.integrators import Integrator
from latflow.samplers.kinetic import FourierMass
from latflow.types import Field, LogProb


@dataclass(frozen=True)
class FlowedState(HMCState):
    """The latent variables x of each chain, S̃ and its force there, and the field f(x) that they stand for."""

    field: Field


@dataclass(frozen=True)
class FlowedHMC(HMC):
    """Hybrid Monte Carlo on a `Pullback`: it moves z, and its `field` is f(z).

    Arguments and errors are those of `HMC`, with a `Pullback` as action. The field at the end of a trajectory
    and the value of S̃ come with the last force: a trajectory passes through the flow once for each force, and
    recording the chains costs no pass at all.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.action, Pullback):
            raise ValueError(f"expected a Pullback as action, got {type(self.action).__name__}")

    @property
    def pullback(self) -> Pullback:
        """The action S̃."""
        assert isinstance(self.action, Pullback)  # the constructor holds it
        return self.action

    @torch.no_grad()
    def init(self, x: Field) -> FlowedState:
        """Start one chain at each configuration x of the field; f⁻¹ finds its latent variables.

        Raises:
            ValueError: when x lives on another lattice, or its action is not finite.
        """
        self._check_shape(x)
        return self.init_latent(self.pullback.flow.inverse(x)[0])

    @torch.no_grad()
    def init_latent(self, z: Field) -> FlowedState:
        """Start one chain at each f(z), for example with z drawn from the prior of the flow.

        Raises:
            ValueError: when z lives on another lattice, or its action is not finite.
        """
        self._check_shape(z)
        pulled = self._pulled(z)
        self._check_finite(self._value(pulled))
        return self._state(z.detach().clone(), pulled)

    def field(self, state: HMCState) -> Field:
        """The physical field f(z) of each chain."""
        assert isinstance(state, FlowedState)  # what init and step make
        return state.field

    def state_from_dict(self, tree: dict[str, Any]) -> FlowedState:
        """The state that `state_dict` took apart."""
        return FlowedState(**tree)

    def _trajectory(
        self, state: HMCState, momentum: Field, step_size: float | Tensor
    ) -> tuple[HMCState, Field]:
        passes: list[Pulled] = []

        def force(z: Field) -> Field:
            passes[:] = [self._pulled(z)]
            return passes[0].force

        end, final_momentum, _ = self._integrated(force, state, momentum, step_size)
        return self._state(end, passes[0]), final_momentum

    def _transition(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        # the passes through the flow are compiled, not the trajectory: it would repeat one for each force
        return self._moved(given)

    def _together(self, known: dict[str, Tensor]) -> int:  # noqa: ARG002 (one, whatever the state)
        return 1

    def _pulled(self, z: Field) -> Pulled:
        if not self.compiled:
            return self.pullback.pulled(z)
        return Pulled(**self._programs.run(self._by_name, {"z": z}))

    def _by_name(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.pullback.pulled(given["z"])._asdict()

    def _state(self, z: Field, pulled: Pulled) -> FlowedState:
        return FlowedState(z, self._value(pulled), pulled.force, pulled.field)

    def _value(self, pulled: Pulled) -> LogProb:
        """S̃, of what is known after the force."""
        return self.pullback.action(pulled.field) - pulled.log_det


def flowed_hmc(
    flow: Flow | Bijection,
    action: Action,
    step_size: float,
    n_steps: int,
    integrator: str | Integrator = "leapfrog",
    jitter: float = 0.0,
    mass: FourierMass | None = None,
    compiled: bool = False,
) -> FlowedHMC:
    """HMC in the latent variables of a flow, on S(f(z)) − log |det ∂f/∂z|, exact for every flow f.

    The better the flow, the closer is that action to the one of the prior, which HMC decorrelates in few
    trajectories. Source: the slides on machine-learned trivializing flows by Albandea, Del Debbio, Hernández,
    Kenway, Marsh Rossney and Ramos; Learning trivializing flows, arXiv:2302.08408.

    Args:
        flow: f, on the lattice of the theory, trained on this or on another one (`Flow.on_lattice`), or any
            bijection.
        action: S.
        step_size: as the other arguments, of `HMC`; in the latent variables.
        n_steps: steps in a trajectory.
        integrator: a name, or an `Integrator`.
        jitter: of the step size.
        mass: of the modes of the latent variables.
        compiled: whether `torch.compile` makes one function of the pass through the flow and back.

    Raises:
        ValueError: when the flow lives on another lattice than the theory, and as `HMC`.

    Example:
        >>> import latflow as lf
        >>> flow = lf.flows.affine_flow((4, 4), layers=2, hidden=(4,))
        >>> sampler = flowed_hmc(flow, lf.actions.Phi4((4, 4), m2=-4.0, lam=8.0), step_size=0.1, n_steps=10)
        >>> state = sampler.init(torch.zeros(3, 4, 4))
        >>> state, info = sampler.step(state, torch.Generator().manual_seed(1))
        >>> sampler.field(state).shape, info.accepted.shape
        (torch.Size([3, 4, 4]), torch.Size([3]))
    """
    return FlowedHMC(Pullback(action, flow), step_size, n_steps, integrator, jitter, mass, compiled)
