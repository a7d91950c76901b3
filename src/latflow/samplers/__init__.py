"""Samplers: Markov chains whose stationary distribution is exp(−S), each an `init` and a `step`."""

from latflow.samplers.base import (
    Block,
    Chain,
    Observe,
    Sampler,
    run,
    run_blocks,
    thermalisation_time,
    thermalise,
)
from latflow.samplers.hmc import HMC, HMCInfo, HMCState, tune_step_size
from latflow.samplers.integrators import INTEGRATORS, LEAPFROG, OMELYAN, Integrator, integrate
from latflow.samplers.metropolis import (
    IndependenceInfo,
    IndependenceMetropolis,
    IndependenceState,
    metropolis_scan,
)

__all__ = [
    "HMC",
    "INTEGRATORS",
    "LEAPFROG",
    "OMELYAN",
    "Block",
    "Chain",
    "HMCInfo",
    "HMCState",
    "IndependenceInfo",
    "IndependenceMetropolis",
    "IndependenceState",
    "Integrator",
    "Observe",
    "Sampler",
    "integrate",
    "metropolis_scan",
    "run",
    "run_blocks",
    "thermalisation_time",
    "thermalise",
    "tune_step_size",
]
