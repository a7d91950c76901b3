"""Runs of seconds for spins, on a lattice so small that everything about it is known."""

from pathlib import Path

from latflow.config import load_config
from latflow.runs import Run

SMALL_SPINS = [
    "name=spins",
    "action.lattice=[4, 4]",
    "action.beta=0.4",
    "model.hidden=[3]",
    "training.steps=60",
    "training.batch=128",
    "training.learning_rate=0.03",
    "training.checkpoint_every=17",
    "sampling.steps=205",
    "sampling.chains=16",
    "sampling.thermalisation=20",
    "sampling.proposals.batch=400",
    "sampling.block=100",
    "beside.steps=205",
    "beside.chains=16",
    "beside.thermalisation=20",
    "beside.block=100",
    "compute.threads=1",
]
"""Changes to the preset ising-8x8. No number of steps is a multiple of a block."""


def new_spin_run(path: Path, *changes: str) -> Run:
    """A run in which nothing is done yet."""
    return Run.create(path, load_config("ising-8x8", [*SMALL_SPINS, *changes]))


def sampled_spins(path: Path, *changes: str) -> Run:
    """A run with every stage done."""
    run = new_spin_run(path, *changes)
    run.train()
    run.sample()
    run.sample_beside()
    return run
