"""Samplers by the names that configurations use; the arguments are the keys of their sections."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from latflow.densities.flows.base import Bijection, Flow
from latflow.samplers.flowed import flowed_hmc as through_flow
from latflow.samplers.hmc import HMC
from latflow.samplers.kinetic import FourierMass
from latflow.samplers.spins import SingleSpin
from latflow.samplers.tuning import Tuning, slow_observables
from latflow.theories.base import Action
from latflow.types import Count, Positive

Acceptance = Annotated[float, Gt(0), Lt(1)]
Jitter = Annotated[float, Ge(0), Lt(1)]
Scheme = Literal["leapfrog", "omelyan", "minimum_norm"]
Compiled = Literal["auto"] | bool

InnerSteps = Count | Sequence[Count] | Literal["off"]

_START_STEPS = 10
"""Steps in a trajectory from which the tuning starts."""

_INNER_STEPS = 4
"""From which on more save no costly force at acceptance 0.8, in the Schwinger model on 8² and 16²."""


def hmc(
    action: Action,
    *,
    trajectory_length: Positive | Sequence[Positive] = 1.0,
    target_acceptance: Acceptance = 0.8,
    integrator: Scheme = "leapfrog",
    jitter: Jitter = 0.2,
    fourier_mass: Positive | None = None,
    compiled: Compiled = "auto",
    inner_steps: InnerSteps | None = None,
    observables: str | Sequence[str] | None = None,
) -> HMC:
    """Hybrid Monte Carlo whose step size is tuned when a chain begins.

    Args:
        action: the theory.
        trajectory_length: τ; of several, the one with the fewest force evaluations for each independent value
            of the slowest observable is taken (`samplers.tune_cost`).
        target_acceptance: to which the step size is tuned.
        integrator: a name in `samplers.INTEGRATORS`.
        jitter: of the step size.
        fourier_mass: m² of a `samplers.FourierMass`, for fields of real numbers; without it all modes have
            mass 1.
        compiled: whether trajectories are compiled; "auto" where that pays (`samplers.Trajectories`).
        inner_steps: of the cheap force in each drift of a step with the costly one, for theories that have
            both; of several the number with the fewest costly forces is taken (`samplers.tune_inner_steps`).
            If None, 4 where there are both, unless trajectories shall be compiled; "off" for one time scale.
        observables: for several lengths, those of which the slowest counts; all that the theory calls slow if
            none.

    Raises:
        ValueError: as `HMC` and `Tuning`, for several lengths where the theory has no slow observable, and
            for observables that it does not have.
    """
    candidates = _inner_steps(action, inner_steps, compiled)
    tuning = _tuning(action, trajectory_length, target_acceptance, candidates, observables)
    mass = None if fourier_mass is None else FourierMass(fourier_mass)
    step_size, inner = tuning.lengths[0] / _START_STEPS, candidates[0] if candidates else None
    return HMC(action, step_size, _START_STEPS, integrator, jitter, mass, compiled, tuning, inner_steps=inner)


def flowed_hmc(
    density: Any,
    action: Action,
    *,
    trajectory_length: Positive | Sequence[Positive] = 1.0,
    target_acceptance: Acceptance = 0.8,
    integrator: Scheme = "leapfrog",
    jitter: Jitter = 0.2,
    compiled: Compiled = "auto",
) -> HMC:
    """Hybrid Monte Carlo in the latent variables of a flow, whose step size is tuned when a chain begins.

    Args:
        density: the flow.
        action: the theory.
        trajectory_length: as the others, of `hmc`.
        target_acceptance: to which the step size is tuned.
        integrator: a name in `samplers.INTEGRATORS`.
        jitter: of the step size.
        compiled: whether the pass through the flow is compiled, which may take minutes: not for "auto".

    Raises:
        ValueError: for a density that is no flow, and as `hmc`.
    """
    if not isinstance(density, Flow | Bijection):
        raise ValueError(f"expected a flow for HMC through the model, got {type(density).__name__}")
    tuning = _tuning(action, trajectory_length, target_acceptance)
    step_size = tuning.lengths[0] / _START_STEPS
    wanted = compiled is True
    return through_flow(
        density, action, step_size, _START_STEPS, integrator, jitter, compiled=wanted, tuning=tuning
    )


def heat_bath(action: Action) -> SingleSpin:
    """Sweeps of the heat bath over single spins."""
    return SingleSpin(action, "heat_bath")


def metropolis(action: Action) -> SingleSpin:
    """Sweeps of Metropolis updates over single spins."""
    return SingleSpin(action, "metropolis")


def _inner_steps(action: Action, wanted: InnerSteps | None, compiled: Compiled) -> tuple[int, ...]:
    """The numbers to choose from; none for one time scale."""
    if wanted is None:
        return (_INNER_STEPS,) if compiled is not True and action.by_cost() is not None else ()
    if isinstance(wanted, str):
        return ()
    return (wanted,) if isinstance(wanted, int) else tuple(wanted)


def _tuning(
    action: Action,
    length: float | Sequence[float],
    target: float,
    inner_steps: tuple[int, ...] = (),
    observables: str | Sequence[str] | None = None,
) -> Tuning:
    lengths = tuple(length) if isinstance(length, Sequence) else (length,)
    names = (observables,) if isinstance(observables, str) else tuple(observables or ())
    if len(lengths) > 1 or names:
        slow_observables(action, names)  # refuses a theory that has none
    return Tuning(target, lengths, inner_steps if len(inner_steps) > 1 else (), names)
