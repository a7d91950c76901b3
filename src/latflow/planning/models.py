"""The models of a plan: those that are trained already, and what the training of another one would take."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latflow.config import RunConfig, parse_config
from latflow.config.sections import arguments_of
from latflow.densities import draws
from latflow.errors import ConfigError
from latflow.estimators import estimator_of
from latflow.runs import Run
from latflow.runs.folder import RunFolder
from latflow.runs.start import read_start, started
from latflow.seeds import generator_for
from latflow.training import Trainer

_STEPS, _DRAWS = 3, 1024


@dataclass(frozen=True)
class Trained:
    """A model that was trained in another run, on the lattice and for the theory of a plan.

    Attributes:
        name: of that run, as it was given.
        density: with its weights.
        config: of a run of the theory of the plan that takes them as they are.
        seconds: of its training, by the clock of that run.
        steps: of its training.
    """

    name: str
    density: Any
    config: RunConfig
    seconds: float
    steps: int


@dataclass(frozen=True)
class Untrained:
    """A model without weights worth using.

    Attributes:
        training: the seconds of its training, from those of a few of its steps.
        steps: of its training.
        draw: seconds of a draw with its weight.
    """

    training: float
    steps: int
    draw: float


def trained(source: str, config: RunConfig) -> Trained:
    """The model of a run, for the theory of another configuration.

    Args:
        source: the folder of the run.
        config: of the theory.

    Raises:
        ConfigError: when the folder has no trained model, or one that does not serve the theory.
        RunFolderError: when it is no run.
    """
    run = Run.open(source)
    if run.config.model is None or run.config.training is None or not run.checkpoint("best").exists():
        raise ConfigError(f"expected the folder of a run with a trained model, got {source}, which has none")
    path = str(Path(source).resolve())
    training = {"estimator": run.config.training.estimator, "steps": 0, "init_from": path}
    if run.config.training.estimator_options:
        training["estimator_options"] = dict(run.config.training.estimator_options)
    table = config.table() | {"model": run.config.model.table(), "training": training}
    table["sampling"] = {"save_fields": False}
    mine = parse_config(table, source)
    folder = RunFolder(Path(source), mine)
    tree = read_start(folder)
    assert tree is not None
    history = run.history()
    return Trained(
        source,
        started(folder, tree, source).eval(),
        mine,
        history[-1]["seconds"] if history else 0.0,
        run.trained_steps,
    )


def untrained(config: RunConfig) -> Untrained:
    """What the training of a configuration would take, measured in a few of its steps on its own lattice.

    Smaller lattices of a curriculum take less, of which nothing is known here.
    """
    folder = RunFolder(Path(config.name), config)
    model = folder.new_model()
    arguments = arguments_of(config.training)
    estimator = estimator_of(arguments["estimator"], arguments["estimator_options"])
    for key in ("checkpoint_every", "init_from", "estimator", "estimator_options", "curriculum"):
        arguments.pop(key, None)
    steps = arguments["steps"]
    options = {**arguments, "steps": max(steps, _STEPS), "generator": folder.generator("training")}
    trainer = Trainer(model, folder.action, estimator, **options)
    taken = []
    for _ in range(_STEPS):
        begin = seconds()
        next(trainer)
        taken.append(seconds() - begin)
    generator = generator_for(config.seed, "plan draws", folder.device)
    drawn = []
    for _ in range(_STEPS):
        begin = seconds()
        with torch.no_grad():
            draws(model, _DRAWS, folder.action, generator)
        drawn.append((seconds() - begin) / _DRAWS)
    # the first of each comes with what is set up once
    return Untrained(steps * min(taken[1:]), steps, min(drawn[1:]))


def seconds() -> float:
    """The clock of a plan: of one thread on a CPU its own seconds, so that other work does not count."""
    if torch.get_num_threads() == 1 and not torch.cuda.is_initialized():
        return time.process_time()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
