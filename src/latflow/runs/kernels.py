"""The kernels that move the chain of the flow, as a configuration names them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from latflow.autoregressive import NamedDensity
from latflow.config import RunConfig, TrajectoriesConfig
from latflow.flows import Flow
from latflow.observables import magnetization
from latflow.runs.growth import GrowingChain
from latflow.samplers import (
    HMC,
    Cycle,
    HMCState,
    IndependenceMetropolis,
    Sampler,
    SectorHop,
    tune_cost,
    tune_step_size,
)

Hybrid = TypeVar("Hybrid", bound=HMC)

_START_STEPS = 10
"""Steps in a trajectory from which the tuning of HMC starts."""
_LEAST_TRAJECTORIES = 200
"""Of each chain, for the autocorrelation time at each of several trajectory lengths."""


def first(
    chain: GrowingChain, density: NamedDensity
) -> tuple[Sampler[Any, Any], Any, dict[str, dict[str, Any]]]:
    """The sampler of a chain that begins at draws of the density, with tuned trajectories.

    Returns:
        The sampler, its state, and what `assembled` needs to make the sampler again.
    """
    config = chain.folder.config
    proposals = _proposals(config, density)
    draws = proposals.init_from_draws(config.sampling.chains, chain.generator)
    if config.sampling.kernels == ("proposals",):
        return proposals, draws, {}
    x, trajectories = draws.x, {}
    for name, (settings, build) in _hybrids(config, density).items():
        hmc, state = tuned(chain, settings, build, x)
        x = hmc.field(state)
        trajectories[name] = {"step_size": hmc.step_size, "n_steps": hmc.n_steps}
    sampler = assembled(config, density, trajectories)
    return sampler, sampler.init(x), trajectories


def assembled(
    config: RunConfig, density: NamedDensity, trajectories: Mapping[str, Mapping[str, Any]]
) -> Sampler[Any, Any]:
    """The one kernel of a configuration, or the cycle of several.

    Args:
        config: of the run.
        density: that was trained.
        trajectories: "step_size" and "n_steps" of each kernel that was tuned.
    """
    hybrids = {name: build(**trajectories[name]) for name, (_, build) in _hybrids(config, density).items()}
    kernels: dict[str, Sampler[Any, Any]] = {}
    for name in config.sampling.kernels:
        match name:
            case "proposals":
                kernels[name] = _proposals(config, density)
            case "hops":
                kernels[name] = SectorHop(config.action.build())
            case _:
                kernels[name] = hybrids[name]
    only, *others = kernels.values()
    return Cycle([only, *others], names=list(kernels)) if others else only


def tuned(
    chain: GrowingChain, settings: TrajectoriesConfig, build: Callable[..., Hybrid], start: Tensor
) -> tuple[Hybrid, HMCState]:
    """HMC with the step size, and of several the trajectory length, that the chains of a run find for it.

    Args:
        chain: whose random numbers and thermalisation are used.
        settings: what is to be reached.
        build: step_size and n_steps to the sampler.
        start: where the chains are.

    Returns:
        The sampler, and the chains as they stand.

    Raises:
        LatflowError: when no step size is accepted.
    """
    length, *others = settings.lengths
    hmc = build(length / _START_STEPS, _START_STEPS)
    target, generator = settings.target_acceptance, chain.generator
    hmc, state = tune_step_size(hmc, hmc.init(start), generator, target)
    if others:
        # τ is found from chains in equilibrium, in a time to which the configuration trusts for that
        state = chain.thermalise(hmc, state)
        trajectories = max(_LEAST_TRAJECTORIES, chain.settings.thermalisation)
        hmc, state, _ = tune_cost(
            hmc, state, generator, magnetization, settings.lengths, target, trajectories
        )
    return hmc, state


def _proposals(config: RunConfig, density: NamedDensity) -> IndependenceMetropolis:
    return IndependenceMetropolis(density, config.action.build(), config.sampling.batch)


def _hybrids(
    config: RunConfig, density: NamedDensity
) -> dict[str, tuple[TrajectoriesConfig, Callable[..., HMC]]]:
    """Of each kernel that makes trajectories the settings, and what builds it from its step size."""
    action, found = config.action.build(), {}
    for name in config.sampling.kernels:
        if name == "hmc" and config.hmc is not None:
            found[name] = config.hmc, partial(config.hmc.build, action)
        elif name == "flowed_hmc" and config.sampling.flowed_hmc is not None:
            assert isinstance(density, Flow)  # the configuration refuses this kernel for spins
            flowed = config.sampling.flowed_hmc
            found[name] = flowed, partial(flowed.build, action, density)
    return found
