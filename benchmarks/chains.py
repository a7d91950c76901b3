"""What benchmarks of Markov chains share: trained models, interleaved histories, τ with its cost."""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.analysis import measure
from latflow.config import load_config
from latflow.errors import UnreliableErrorWarning
from latflow.measurement import Measurement
from latflow.runs import Run
from latflow.samplers import Sampler, thermalise

BLOCK = 20
"""Steps between one way and the next."""


def trained(preset: str, changes: Sequence[str]) -> tuple[Any, float]:
    """The model of a preset with changes, from nothing, and the processor seconds of its training."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", load_config(preset, [*changes, "compute.threads=1"]))
        begin = time.process_time()
        run.train()
        return run.model("best"), time.process_time() - begin


def begun(sampler: Sampler[Any, Any], start: Tensor, steps: int, generator: Generator) -> tuple[Any, Any]:
    """The tuned sampler, and its chains after some steps."""
    sampler, state = sampler.adapt(sampler.init(start), generator, 0)
    return sampler, thermalise(sampler, state, steps, generator)


def histories(
    chains: Mapping[Any, tuple[Any, Any]],
    steps: int,
    recorded: Callable[[Tensor], Mapping[str, Tensor]],
    generator: Generator,
) -> dict[Any, tuple[float, np.ndarray]]:
    """Of each way the median seconds of a step, and the record (observable, step, chain).

    Blocks of steps of all ways are interleaved; what a model proposes in a block is drawn at once.
    """
    states = {key: state for key, (_, state) in chains.items()}
    taken: dict[Any, list[float]] = {key: [] for key in chains}
    record: dict[Any, list[Tensor]] = {key: [] for key in chains}
    for _ in range(steps // BLOCK):
        for key, (sampler, _) in chains.items():
            observed = 0.0

            def observe(x: Tensor) -> dict[str, Tensor]:
                nonlocal observed
                begin = time.thread_time()
                values = dict(recorded(x))
                observed += time.thread_time() - begin
                return values

            names = list(recorded(sampler.field(states[key])))
            begin = time.thread_time()
            states[key], block = sampler.advance(states[key], BLOCK, observe, generator)
            taken[key].append((time.thread_time() - begin - observed) / BLOCK)
            record[key].append(torch.stack([block.series[name] for name in names]))
    return {key: (statistics.median(taken[key]), torch.cat(record[key], 1).numpy()) for key in chains}


def measured(series: np.ndarray) -> Measurement:
    """The average, whose τ may be longer than its warning says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        return measure(series)


def cells(found: Measurement, factor: float) -> str:
    """τ times a factor, with its error."""
    if found.tau_int is None or not found.tau_int_error or not np.isfinite(found.error):
        return "–"
    short = "> " if found.warning else ""
    return short + str(Measurement(factor * found.tau_int, factor * found.tau_int_error))
