"""Hybrid Monte Carlo through a flow: trajectories in the latent variables, chains read in the field."""

from typing import Literal

from latflow.densities.flows.base import Bijection, Flow
from latflow.densities.flows.pullback import Pullback
from latflow.samplers.hmc import HMC, Tune
from latflow.samplers.integrators import Integrator
from latflow.samplers.kinetic import FourierMass
from latflow.theories.base import Action


def flowed_hmc(
    flow: Flow | Bijection,
    action: Action,
    step_size: float,
    n_steps: int,
    integrator: str | Integrator = "leapfrog",
    jitter: float = 0.0,
    mass: FourierMass | None = None,
    compiled: bool | Literal["auto"] = False,
    tuning: Tune | None = None,
) -> HMC:
    """HMC on the `Pullback` of a theory: on S(f(z)) − log |det ∂f/∂z|, exact for every flow f.

    The better the flow, the closer is that action to the one of the prior, which HMC decorrelates in few
    trajectories. Chains start at fields, whose latent variables f⁻¹ finds, or at these (`HMC.init_latent`); a
    trajectory passes through the flow once for each force, and recording the field costs no pass. Source: the
    slides on machine-learned trivializing flows by Albandea, Del Debbio, Hernández, Kenway, Marsh Rossney and
    Ramos; Learning trivializing flows, arXiv:2302.08408.

    Args:
        flow: f, on the lattice of the theory, trained on this or on another one (`Flow.on_lattice`), or any
            bijection.
        action: S.
        step_size: as the other arguments, of `HMC`; in the latent variables.
        n_steps: steps in a trajectory.
        integrator: a name, or an `Integrator`.
        jitter: of the step size.
        mass: of the modes of the latent variables.
        compiled: whether the compiler makes one function of the pass through the flow and back.
        tuning: what `adapt` does.

    Raises:
        ValueError: when the flow lives on another lattice than the theory, and as `HMC`.

    Example:
        >>> import torch
        >>> import latflow as lf
        >>> flow = lf.flows.affine_flow((4, 4), layers=2, hidden=(4,))
        >>> sampler = flowed_hmc(flow, lf.actions.Phi4((4, 4), m2=-4.0, lam=8.0), step_size=0.1, n_steps=10)
        >>> state = sampler.init(torch.zeros(3, 4, 4))
        >>> state, info = sampler.step(state, torch.Generator().manual_seed(1))
        >>> sampler.field(state).shape, info.accepted.shape
        (torch.Size([3, 4, 4]), torch.Size([3]))
    """
    return HMC(
        Pullback(action, flow), step_size, n_steps, integrator, jitter, mass, compiled, tuning, "the model"
    )
