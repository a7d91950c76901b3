"""What two processes do together for tests/test_distributed.py: each writes down what it saw."""

import contextlib
import math
import os
import shutil
import signal
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator, Tensor

from cases import GENERAL_ESTIMATORS
from latflow.config import load_config
from latflow.densities.flows import Flow, affine_flow
from latflow.errors import LatflowError
from latflow.estimators import ForwardKLOfFile
from latflow.fields import SCALAR
from latflow.runs import Interrupted, Run
from latflow.runs.lock import locked
from latflow.storage import save_tree
from latflow.theories import Action, Phi4
from latflow.training import Trainer, World
from small_runs import SMALL

LATTICE = (4, 6)
ACTION = Phi4(LATTICE, m2=0.5, lam=0.3)
BATCH = 16
SUB_BATCHES = (BATCH, 6)
"""All draws of a process at once; or 6 and 2 of its 8, whose 144 and 48 numbers are drawn as in one piece."""


@dataclass(frozen=True)
class Faulty(Action):
    """S = Σ φ², but not a number in the second process at some calls."""

    faults: tuple[int, ...]
    calls: list[int]
    lattice = LATTICE
    kind = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append(len(self.calls))
        s = x.square().flatten(1).sum(1)
        return s * math.nan if self.calls[-1] in self.faults and World.here().rank == 1 else s


def build(seed: int, dtype: torch.dtype = torch.float64) -> Flow:
    generator = Generator().manual_seed(seed)
    return affine_flow(LATTICE, layers=2, hidden=(3,), generator=generator).to(dtype)


def trainer(flow: Flow, estimator: str = "reinforce", action: Action = ACTION, **options: Any) -> Trainer:
    defaults = {"steps": 5, "batch": BATCH, "learning_rate": 0.01, "generator": Generator().manual_seed(5)}
    return Trainer(flow, action, GENERAL_ESTIMATORS[estimator], **defaults | options)


def weights(flow: Flow) -> Tensor:
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def gradients(rank: int) -> dict[str, Any]:
    """The gradient of the first step, its record, and the generator before it, for every estimator."""
    found = {}
    for name in GENERAL_ESTIMATORS:
        for sub_batch in SUB_BATCHES:
            flow = build(seed=rank)  # the weights of the first process are those that count
            training = trainer(flow, name, sub_batch=sub_batch)
            state = training.generator.get_state()
            record = next(training)
            gradient = torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
            found[f"{name} {sub_batch}"] = {
                "generator": state,
                "gradient": gradient,
                "record": record.as_dict(),
            }
    return found


def steps(rank: int) -> dict[str, Any]:
    """Weights and records after some steps, in several precisions."""
    found = {}
    for precision, dtype in (
        ("full", torch.float64),
        ("full", torch.float32),
        ("bfloat16", torch.float32),
        ("float16", torch.float32),
    ):
        flow = build(rank, dtype)
        records = [record.as_dict() for record in trainer(flow, clip=1.0, precision=precision)]
        found[f"{precision} {dtype}"] = {"weights": weights(flow), "records": records}
    flow = build(rank)
    pair = trainer(flow, "reinforce_leave_one_out", batch=2, steps=2)
    found["pair"] = {"records": [record.as_dict() for record in pair], "weights": weights(flow)}
    flow = build(rank)
    faulty = trainer(flow, action=Faulty((1, 3), []))
    found["faulty"] = {"records": [record.as_dict() for record in faulty], "weights": weights(flow)}
    return found


def of_file(rank: int, folder: Path) -> dict[str, Any]:
    """The first step by maximum likelihood on a file, a training that goes on, and one with another file."""
    file = folder / "configurations.npy"
    if rank == 0:
        np.save(file, configurations())
    dist.barrier()

    def training_of(flow: Flow) -> Trainer:
        options = {"steps": 4, "batch": BATCH, "learning_rate": 0.01, "sub_batch": 6}
        generator = Generator().manual_seed(5)
        return Trainer(flow, ACTION, ForwardKLOfFile(str(file)), generator=generator, **options)

    whole, first, second = (build(rank) for _ in range(3))
    training = training_of(whole)
    before = training.generator.get_state()
    record = next(training).as_dict()
    gradient = torch.cat([p.grad.flatten() for p in whole.parameters() if p.grad is not None])
    list(training)
    stopped = training_of(first)
    list(islice(stopped, 2))
    state = stopped.state_dict()
    second.load_state_dict(first.state_dict())
    again = training_of(second)
    again.load_state_dict(state)
    list(again)
    dist.barrier()  # before the file changes
    if rank == 0:
        np.save(file, 2 * configurations())
    dist.barrier()
    other = training_of(build(rank))
    other.load_state_dict(state)
    return {
        "generator": before,
        "gradient": gradient,
        "record": record,
        "whole": weights(whole),
        "resumed": weights(second),
        "refused": message(lambda: next(other)),
    }


def configurations() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(40, *LATTICE))


def states(rank: int) -> dict[str, Any]:
    """A training that stops after three steps, and others that go on from its state."""
    whole, first, second = (build(rank) for _ in range(3))
    list(trainer(whole))
    training = trainer(first)
    list(islice(training, 3))
    second.load_state_dict(first.state_dict())
    again = trainer(second)
    again.load_state_dict(training.state_dict())
    list(again)
    alone = training.state_dict() | {"processes": 1, "generator": training.generator.get_state()}
    return {
        "whole": weights(whole),
        "resumed": weights(second),
        "refused": message(lambda: trainer(build(rank)).load_state_dict(alone)),
    }


def config(*changes: str) -> Any:
    return load_config("phi4-quick", [*SMALL, *changes])


def runs(rank: int, folder: Path) -> dict[str, Any]:
    """Runs that are stopped and go on, and what they refuse."""
    threads = []
    short = Run.create_or_resume(folder / "short", config("training.steps=1", "compute.threads=2"))
    short.train(lambda _: threads.append(torch.get_num_threads()))
    whole = Run.create_or_resume(folder / "whole", config())
    whole.train()
    whole.train()  # done: nothing happens
    if rank == 0:
        shutil.copytree(whole.path, folder / "trained")
    dist.barrier()
    whole.sample()
    whole.sample_beside()

    stopped = Run.create(folder / "stopped", config())
    caught = 0
    try:
        # the second process alone receives the signal
        stopped.train(
            lambda record: os.kill(os.getpid(), signal.SIGTERM) if (rank, record.step) == (1, 8) else None
        )
    except Interrupted as stop:
        caught = stop.signum
    dist.barrier()
    found = {"signum": caught, "threads": threads, "steps": stopped.trained_steps}
    if rank == 0:
        shutil.copytree(stopped.path, folder / "left")
    Run.open(stopped.path).train()

    last = folder / "left" / "checkpoints" / "last.safetensors"
    contents = last.read_bytes() if rank == 0 else b""
    if rank == 0:
        last.write_bytes(contents[:-10])
        last.with_name("last.before.safetensors").unlink()  # which would stand in for it
    found["truncated"] = message(lambda: Run.open(folder / "left").train())
    if rank == 0:
        last.write_bytes(contents)
        with locked(stopped.path):
            found["locked"] = message(stopped.train)
    else:
        found["locked"] = message(stopped.train)
    found["halted"] = halted(rank, folder)
    found["chains"] = message(lambda: Run.create_or_resume(folder / "odd", config("beside.chains=3")))
    found["batch"] = message(lambda: Run.create_or_resume(folder / "odd", config("training.batch=15")))
    found["odd exists"] = (folder / "odd").exists()
    return found


def halted(rank: int, folder: Path) -> list[int]:
    """Chains of a trained run, stopped by a signal to one process after a block, which then go on.

    Returns the steps that were written at each stop.
    """
    if rank == 0:
        shutil.copytree(folder / "trained", folder / "halted")
    dist.barrier()
    steps = []
    for stage in ("sample", "sample_beside"):
        with contextlib.suppress(Interrupted):
            # the first process alone hears of blocks
            getattr(Run.open(folder / "halted"), stage)(
                lambda block: os.kill(os.getpid(), signal.SIGTERM) if block.step else None
            )
        dist.barrier()
        run = Run.open(folder / "halted")
        steps.append(run.sampling_info("model" if stage == "sample" else "beside")["steps"])
        if rank == 0 and stage == "sample":
            shutil.copytree(folder / "halted", folder / "half")
        dist.barrier()
        getattr(run, stage)()
    return steps


def message(act: Any) -> str:
    try:
        act()
    except (LatflowError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def work(rank: int, folder: Path) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    found = {
        "gradients": gradients(rank),
        "steps": steps(rank),
        "states": states(rank),
        "of file": of_file(rank, folder),
        "runs": runs(rank, folder),
        "batch": message(lambda: trainer(build(rank), batch=15, sub_batch=5)),
    }
    save_tree(folder / f"process{rank}.safetensors", found)
    dist.barrier()
    dist.destroy_process_group()
