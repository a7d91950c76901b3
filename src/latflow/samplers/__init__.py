"""Samplers: Markov chains whose stationary distribution is exp(−S), each an `init` and a `step`."""

from latflow.analysis import thermalisation_time
from latflow.compiled import can_compile
from latflow.observables.base import Observe
from latflow.samplers.base import (
    Block,
    Chain,
    Sampler,
    run,
    run_blocks,
    thermalise,
)
from latflow.samplers.chain_prior import RunningChains
from latflow.samplers.cycle import Cycle, CycleInfo, CycleState
from latflow.samplers.flowed import flowed_hmc
from latflow.samplers.hmc import HMC, HMCInfo, HMCState
from latflow.samplers.integrators import (
    INTEGRATORS,
    LEAPFROG,
    OMELYAN,
    Integrator,
    integrate,
    integrate_nested,
)
from latflow.samplers.kinetic import FourierMass
from latflow.samplers.metropolis import (
    IndependenceInfo,
    IndependenceMetropolis,
    IndependenceState,
    metropolis_scan,
)
from latflow.samplers.sector import HolonomyShift, SectorHop, SectorInfo, SectorState, constant_flux
from latflow.samplers.sites import EmbeddedClusters, SiteInfo, SiteState
from latflow.samplers.spins import SingleSpin, SpinInfo, SpinState, SwendsenWang, Wolff
from latflow.samplers.trajectories import Trajectories
from latflow.samplers.tuning import TrajectoryCost, Tuning, tune_cost, tune_inner_steps, tune_step_size

__all__ = [
    "HMC",
    "INTEGRATORS",
    "LEAPFROG",
    "OMELYAN",
    "Block",
    "Chain",
    "Cycle",
    "CycleInfo",
    "CycleState",
    "EmbeddedClusters",
    "FourierMass",
    "HMCInfo",
    "HMCState",
    "HolonomyShift",
    "IndependenceInfo",
    "IndependenceMetropolis",
    "IndependenceState",
    "Integrator",
    "Observe",
    "RunningChains",
    "Sampler",
    "SectorHop",
    "SectorInfo",
    "SectorState",
    "SingleSpin",
    "SiteInfo",
    "SiteState",
    "SpinInfo",
    "SpinState",
    "SwendsenWang",
    "Trajectories",
    "TrajectoryCost",
    "Tuning",
    "Wolff",
    "can_compile",
    "constant_flux",
    "flowed_hmc",
    "integrate",
    "integrate_nested",
    "metropolis_scan",
    "run",
    "run_blocks",
    "thermalisation_time",
    "thermalise",
    "tune_cost",
    "tune_inner_steps",
    "tune_step_size",
]
