"""Runs of seconds for theories of links, at couplings so weak that a nearly untrained flow overlaps."""

from pathlib import Path

from latflow.config import load_config
from latflow.runs import Run

SMALL_LINKS = [
    "model.layers=8",
    "model.hidden=[6]",
    "model.dilation=1",
    "training.steps=12",
    "training.batch=64",
    "training.learning_rate=1e-2",
    "sampling.steps=150",
    "sampling.chains=16",
    "sampling.thermalisation=20",
    "sampling.proposals.batch=400",
    "sampling.block=100",
    "beside.steps=150",
    "beside.chains=16",
    "beside.thermalisation=20",
    "beside.block=100",
    "compute.threads=1",
]
"""Changes to the presets u1 and schwinger-16x16-published."""

U1 = ["action.lattice=[4, 8]", "action.beta=0.5", "name=links"]
SCHWINGER = [
    "action.lattice=[4, 4]",
    "action.beta=0.5",
    "action.kappa=0.2",
    "model.prior_beta=0.5",
    "name=fermions",
]


def sampled(path: Path, preset: str, *changes: str) -> Run:
    """A run with every stage done."""
    run = Run.create(path, load_config(preset, [*SMALL_LINKS, *changes]))
    run.train()
    run.sample()
    run.sample_beside()
    return run
