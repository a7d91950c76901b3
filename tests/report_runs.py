"""Small real runs for the tests of the report: made once a process, copied where a test changes them."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latflow.config import load_config
from latflow.runs import Run
from latflow.theories import Action

SHORT = ["compute.threads=1", "sampling.steps=60", "sampling.thermalisation=5", "beside.steps=60"]
PHI4 = [*SHORT, "training.steps=30", "beside.thermalisation=20"]
STUCK_SPINS = [
    "name=spins", "action.lattice=[4, 4]", "action.beta=0.4", "model.hidden=[3]", "training.steps=2",
    "training.batch=64", "sampling.steps=400", "sampling.chains=3", "sampling.thermalisation=0",
    "sampling.proposals.batch=200", "beside.steps=100", "beside.chains=4", "beside.thermalisation=20",
    "compute.threads=1",
]  # fmt: skip
"""Changes to the preset ising-8x8: a network that is hardly trained, whose chain stands still for long."""


@functools.cache
def scratch() -> Path:
    """Where the runs of this process lie."""
    folder = Path(tempfile.mkdtemp(prefix="latflow-report-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def finished(preset: str, *changes: str) -> Run:
    """A run of a preset with every stage done. Tests read it only."""
    run = Run.create(Path(tempfile.mkdtemp(dir=scratch())) / "run", load_config(preset, list(changes)))
    run.train()
    run.sample()
    run.sample_beside()
    return run


def copied(run: Run, path: Path) -> Run:
    """The same run in another folder, to be changed."""
    shutil.copytree(run.path, path, dirs_exist_ok=True)
    return Run.open(path)


class Gaussian(nn.Module):
    """Independent normal numbers, one a site: a density for any lattice of a scalar field."""

    def __init__(self, lattice: tuple[int, ...]) -> None:
        super().__init__()
        self.lattice, self.log_scale = lattice, nn.Parameter(torch.zeros(()))

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        unit = torch.randn(n, *self.lattice, generator=generator, dtype=self.log_scale.dtype)
        x = self.log_scale.exp() * unit
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        normal = torch.distributions.Normal(torch.zeros_like(self.log_scale), self.log_scale.exp())
        return normal.log_prob(x).flatten(1).sum(1)


def gaussian_run(path: Path, action: Action, **changes: dict[str, Any]) -> Run:
    """A run of any scalar theory, in which nothing is done yet."""
    settings: dict[str, dict[str, Any]] = {
        "training": {"steps": 20, "batch": 64, "learning_rate": 0.02},
        "sampling": {"steps": 40, "chains": 8, "thermalisation": 2},
        "beside": {"steps": 40, "chains": 8, "thermalisation": 10},
        "compute": {"threads": 1},
    }
    for name, change in changes.items():
        settings[name] = settings[name] | change
    return Run.of(action, Gaussian(action.lattice), path, **settings)
