"""A flow for φ⁴, trained by each gradient estimator from the same weights: ESS and F_q against time."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from latflow.analysis import (
    Measurement,
    effective_sample_size,
    expected_acceptance,
    tau_from_weights,
    variational_free_energy,
)
from latflow.densities import draws
from latflow.densities.flows import affine_flow
from latflow.estimators import ESTIMATORS
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, running_mean, styled
from latflow.theories import Phi4
from latflow.training import Trainer
from latflow.types import Lattice
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

NAMES = {
    "score": ("g1", BLUE),
    "reinforce": ("g2, REINFORCE", ORANGE),
    "reinforce_leave_one_out": ("leave one out", GREY),
    "reparametrization": ("g3, reparametrisation", GREEN),
    "path_gradient": ("path gradient", INK),
}
"""The estimators with their names in the table and the figure."""


@dataclass(frozen=True)
class TrainingSettings:
    """Trainings of one flow.

    Attributes:
        lattice: side lengths.
        m2, lam: of the theory.
        layers: of the affine flow.
        hidden: channels of its networks.
        steps: updates by Adam.
        batch: draws of an estimate.
        learning_rate: of Adam.
        window: steps over which ESS and F_q of a history are averaged.
        reached: ESS to which the time is told.
        draws: of each trained flow.
    """

    lattice: Lattice
    m2: float = -4.0
    lam: float = 8.0
    layers: int = 16
    hidden: tuple[int, ...] = (16, 16)
    steps: int = 1200
    batch: int = 128
    learning_rate: float = 4e-3
    window: int = 50
    reached: tuple[float, ...] = (0.1, 0.3, 0.5)
    draws: int = 20_000


def run(bench: Bench, settings: TrainingSettings) -> Findings:
    """Train with each estimator, and lay what was reached side by side."""
    found = {name: bench.part(name, lambda name=name: _train(bench, settings, name)) for name in NAMES}
    head = ["estimator", "F_q", "√var s", "ESS", "acceptance", "τ", "ms a step"]
    head += [f"seconds to ESS {ess:g}" for ess in settings.reached]
    rows = [[NAMES[name][0], *_row(settings, one)] for name, one in found.items()]
    lattice = "×".join(map(str, settings.lattice))
    text = (
        f"φ⁴ on {lattice} at m² = {settings.m2:g}, λ = {settings.lam:g}: an affine flow of {settings.layers} "
        f"layers, {settings.steps} steps of Adam at a rate of {settings.learning_rate:g} with batches of "
        f"{settings.batch}, from the same weights by each estimator; then {settings.draws} draws of each "
        "flow. Acceptance and τ are those of Metropolis with its proposals, from the weights of the draws. "
        "Seconds are those of the processor. A history is averaged over "
        f"{settings.window} steps; its ESS is that of single batches, which is too large where it is poor, "
        "and one that it never has is marked by a dash."
    )
    return Findings(text, [Table("training", head, rows)], {"phi4-training": _figure(settings, found)})


def _train(bench: Bench, settings: TrainingSettings, name: str) -> dict[str, Any]:
    action = Phi4(settings.lattice, settings.m2, settings.lam)
    flow = affine_flow(
        settings.lattice,
        layers=settings.layers,
        hidden=settings.hidden,
        generator=bench.generator("weights"),
    )
    trainer = Trainer(
        flow,
        action,
        ESTIMATORS[name],
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        generator=bench.generator(f"{name} training"),
    )
    ess, f_q, seconds, start = [], [], [], time.process_time()
    for record in trainer:
        ess.append(record.ess)
        f_q.append(record.f_q)
        seconds.append(time.process_time() - start)
    made = draws(flow, settings.draws, action, bench.generator(f"{name} draws")).log_weight
    history = {"ess": ess, "f_q": f_q, "cpu_seconds": seconds}
    return {
        "history": {key: torch.tensor(values, dtype=torch.float64) for key, values in history.items()},
        "log_weight": made,
    }


def _row(settings: TrainingSettings, one: dict[str, Any]) -> list[Cell]:
    weights = one["log_weight"].numpy()
    seconds = one["history"]["cpu_seconds"].numpy()
    smooth = _smooth(settings, one, "ess")
    f_q = variational_free_energy(weights)
    cells: list[Cell] = [
        Measurement(f_q.value, f_q.error),
        number(weights.std(), ".3f"),
        number(effective_sample_size(weights), ".3f"),
        number(expected_acceptance(weights), ".3f"),
        number(tau_from_weights(weights), ".3g"),
        number(1e3 * seconds[-1] / len(seconds), ".3g"),
    ]
    for wished in settings.reached:
        there = np.flatnonzero(smooth >= wished)
        cells.append(number(seconds[there[0]], ".3g") if len(there) else "–")
    return cells


def _smooth(settings: TrainingSettings, one: dict[str, Any], what: str) -> np.ndarray:
    return running_mean(one["history"][what].numpy(), min(settings.window, settings.steps))


@styled
def _figure(settings: TrainingSettings, found: dict[str, dict[str, Any]]) -> Figure:
    figure = new_figure(7.6, 5.2)
    panels = figure.subplots(2, 2, sharey="row", sharex="col")
    for row, (what, words) in zip(panels, (("ess", "ESS"), ("f_q", r"$F_q$")), strict=True):
        for name, one in found.items():
            smooth = _smooth(settings, one, what)
            times = (np.arange(settings.steps) + 1, one["history"]["cpu_seconds"].numpy())
            for axes, x in zip(row, times, strict=True):
                axes.plot(x, smooth, color=NAMES[name][1], label=NAMES[name][0], linewidth=1.0)
        last = {name: _smooth(settings, one, what) for name, one in found.items() if name != "score"}
        if what == "f_q":  # g1 starts far above the others and stays there
            low = min(values.min() for values in last.values())
            high = float(np.median(np.concatenate(list(last.values()))))
            row[0].set_ylim(low - 0.1 * (high - low), high + 2 * (high - low))
        label(row[0], "", "training step" if what == "f_q" else "", words)
        label(row[1], "", "processor seconds" if what == "f_q" else "", "")
    panels[0][0].legend(loc="best", fontsize=7)
    return figure


EXPERIMENT = Experiment(
    name="phi4-training",
    title="Training of a flow by each gradient estimator: ESS and F_q against steps and time",
    source="Białas, Korcyl, Stebel, Gradient estimators for normalising flows, figures 3 and 4, table 3",
    run=run,
    settings=TrainingSettings((8, 8)),
    quick=TrainingSettings((4, 4), layers=2, hidden=(2,), steps=6, batch=8, window=2, draws=100),
)
"""Ten minutes of one core; table 3 is at 16×16, with batches of 1024 and 400 000 steps on a GPU."""
