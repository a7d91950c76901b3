"""A run of seconds, and everything about it that must not depend on how often it was stopped."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from latflow.config import RunConfig
from latflow.runs import Run
from latflow.storage import digest_of, load_tree, save_tree

SMALL = [
    "name=small",
    "model.layers=1",
    "model.hidden=[4]",
    "model.kernel=[3, 1]",
    "training.steps=20",
    "training.batch=16",
    "training.checkpoint_every=6",
    "sampling.steps=25",
    "sampling.chains=4",
    "sampling.thermalisation=5",
    "sampling.proposals.batch=40",
    "sampling.block=10",
    "beside.steps=25",
    "beside.chains=4",
    "beside.thermalisation=15",
    "beside.block=10",
    "compute.threads=1",
]
"""Changes to the preset phi4-quick. No number of steps is a multiple of a block."""

SMALL_CHAINS = [
    "name=small",
    "training.batch=64",
    "training.checkpoint_every=25",
    "training.estimator_options={chains=128}",
    "sampling.steps=205",
    "sampling.chains=16",
    "sampling.proposals.batch=400",
    "sampling.block=100",
    "beside.steps=205",
    "beside.chains=16",
    "beside.thermalisation=100",
    "beside.block=100",
    "compute.threads=1",
]
"""Changes to presets of multilevel densities."""

GROUPS = ("model", "proposals", "beside")


def outcome(path: Path, groups: tuple[str, ...] = GROUPS) -> dict[str, np.ndarray]:
    """All numbers of a run but its times, by name: of its training, and of some groups of its chains."""
    run = Run.open(path)
    history = run.history()
    numbers = {
        f"history/{name}": np.array([record[name] for record in history])
        for name in (history[0] if history else {})
        if name != "seconds"
    }
    for name in ("last", "best"):
        weights = load_tree(run.checkpoint(name))["weights"]
        numbers |= {f"{name}/{key}": values.numpy() for key, values in weights.items()}
    for group in groups:
        numbers |= {f"{group}/{name}": values for name, values in run.series(group).items()}
    return numbers


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The two outcomes agree in every bit."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def visible_steps(path: Path, group: str) -> int:
    """How long a group is for a reader who knows nothing of this package."""
    if not (path / "samples.zarr" / ".zmetadata").exists():
        return 0
    try:
        with xarray.open_zarr(path / "samples.zarr", group=group, chunks=None) as opened:
            return opened.sizes["step"]
    except (FileNotFoundError, KeyError):  # a store or a group that nothing has been written to
        return 0


def misled(run: Run, path: Path, config: RunConfig) -> Run:
    """A copy of a run whose checkpoints claim that another configuration has made them."""
    shutil.copytree(run.path, path)
    copy = Run(path, config)
    for name in ("last", "best", "model", "beside"):
        claim: dict[str, Any] = {"made_by": copy.made_by("training" if name in ("last", "best") else name)}
        if name == "model":
            claim["weights"] = digest_of(copy.checkpoint("best"))
        save_tree(copy.checkpoint(name), load_tree(copy.checkpoint(name)) | claim)
    return copy
