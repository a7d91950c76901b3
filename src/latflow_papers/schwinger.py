"""The Schwinger model: gradient estimators for the published flow, and a continuous flow beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from latflow.analysis import effective_sample_size, free_energy, variational_free_energy
from latflow.densities import draws
from latflow.densities.flows import Flow, continuous_gauge_flow, gauge_flow
from latflow.estimators import ESTIMATORS
from latflow.figures import BLUE, GREEN, INK, ORANGE, label, new_figure, running_mean, styled
from latflow.theories import Schwinger
from latflow.training import Schedule, Trainer
from latflow.types import Lattice
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

NAMES = {
    "reinforce": ("REINFORCE", BLUE),
    "reparametrization": ("reparametrisation", ORANGE),
    "path_gradient": ("path gradient", GREEN),
    "forward_path": ("continuous flow, forward path", INK),
}
"""The estimators with their names in the figure; all but the last train the published flow."""

_COLUMNS = {
    "parameters": ".0f",
    "final_ess": ".3f",
    "final_f_q": ".2f",
    "free_energy": ".2f",
    "seconds": ".0f",
}


@dataclass(frozen=True)
class SchwingerSettings:
    """A training of the published flow for each estimator, from the same weights, and of a continuous flow.

    Attributes:
        lattice: side lengths, multiples of 4.
        beta: the inverse gauge coupling.
        kappa: the hopping parameter.
        layers: of the published flow.
        hidden: channels of its networks.
        steps: updates by Adam.
        batch: draws of an estimate.
        learning_rate: of Adam, at its peak, for the published flow.
        clip: largest norm of a gradient.
        draws: of the trained flow, for its effective sample size.
        continuous: the arguments of the continuous flow.
        continuous_learning_rate: of Adam, at its peak, for the continuous flow.
        continuous_clip: largest norm of its gradient.
    """

    lattice: Lattice
    beta: float
    kappa: float
    layers: int
    hidden: tuple[int, ...]
    steps: int
    batch: int
    learning_rate: float
    clip: float
    draws: int
    continuous: Mapping[str, Any] = field(default_factory=lambda: {"prior_beta": 2.35, "substeps": 1})
    continuous_learning_rate: float = 1e-2
    continuous_clip: float = 5.0


def run(bench: Bench, settings: SchwingerSettings) -> Findings:
    """Train with each estimator, and compare ESS, F_q and the tails of the gradients."""
    found = {name: bench.part(name, lambda name=name: _train(bench, settings, name)) for name in NAMES}
    rows = []
    for name, numbers in found.items():
        norms = np.quantile(numbers["grad_norm"].numpy()[settings.steps // 4 :], [0.5, 0.9, 0.99, 1.0])
        ends: list[Cell] = [number(numbers[key], form) for key, form in _COLUMNS.items()]
        rows.append([NAMES[name][0], *ends, *(number(norm, ".1f") for norm in norms)])
    head = ["estimator", "parameters", "ESS", "F_q", "F", "seconds"]
    head += [f"{what} gradient norm" for what in ("median", "90%", "99%", "largest")]
    lattice = "×".join(map(str, settings.lattice))
    text = (
        f"The Schwinger model on {lattice} at β = {settings.beta}, κ = {settings.kappa}: the published flow "
        f"of {settings.layers} layers over uniform angles, and a continuous flow that is given what is known "
        f"of Wilson fermions; {settings.steps} steps with batches of {settings.batch} each. Gradient norms "
        f"are those before clipping at {settings.clip}, of the continuous flow at "
        f"{settings.continuous_clip}, of the last three quarters of the training. The determinant has zeros, "
        "where a flow that is not perfect still has weight: the force there grows as one over the distance d "
        "to the zero, so that ⟨|force|⟩ diverges logarithmically and its variance as 1/d. Estimators through "
        "the draws inherit these tails, but for the forward path, whose weights vanish where the determinant "
        "does. REINFORCE sees log |det D| alone, whose moments are finite."
    )
    return Findings(text, [Table("gradients", head, rows)], {"schwinger": _figure(found, settings)})


def _train(bench: Bench, settings: SchwingerSettings, name: str) -> dict[str, Any]:
    action = Schwinger(settings.lattice, settings.beta, settings.kappa)
    continuous = name == "forward_path"
    flow = (
        continuous_gauge_flow(settings.lattice, action=action, **settings.continuous)
        if continuous
        else _published(bench, settings)
    )
    generator = bench.generator(name)
    trainer = Trainer(
        flow,
        action,
        ESTIMATORS[name],
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.continuous_learning_rate if continuous else settings.learning_rate,
        schedule=Schedule("cosine", warmup=max(1, settings.steps // 20), floor=0.05),
        clip=settings.continuous_clip if continuous else settings.clip,
        generator=generator,
    )
    kept = ("ess", "f_q", "grad_norm")
    history: dict[str, list[float]] = {key: [] for key in kept}
    for record in trainer:
        for key in kept:
            history[key].append(getattr(record, key))
    batches = [
        draws(flow, settings.batch, action, generator).log_weight
        for _ in range(settings.draws // settings.batch)
    ]
    log_weight = torch.cat(batches).double().numpy()
    series = {key: torch.tensor(values, dtype=torch.float64) for key, values in history.items()}
    return series | {
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "final_ess": effective_sample_size(log_weight),
        "final_f_q": variational_free_energy(log_weight).value,
        "free_energy": free_energy(log_weight).value,
    }


def _published(bench: Bench, settings: SchwingerSettings) -> Flow:
    return gauge_flow(
        settings.lattice,
        layers=settings.layers,
        hidden=settings.hidden,
        generator=bench.generator("weights"),
    )


@styled
def _figure(found: dict[str, dict[str, Any]], settings: SchwingerSettings) -> Figure:
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    steps, window = np.arange(1, settings.steps + 1), max(1, settings.steps // 25)
    for name, numbers in found.items():
        text, colour = NAMES[name]
        left.plot(steps, numbers["ess"], color=colour, alpha=0.15, linewidth=0.6)
        left.plot(steps, running_mean(numbers["ess"].numpy(), window), color=colour, label=text)
        norms = np.sort(numbers["grad_norm"].numpy())[::-1]
        right.plot(norms, np.arange(1, len(norms) + 1) / len(norms), color=colour, label=text)
    label(left, "Effective sample size", "training step", "ESS")
    left.set_ylim(bottom=0)
    left.legend(loc="center right")
    label(right, "Tails of the gradients", r"norm $g$", "share of steps with a larger norm")
    right.set_xscale("log")
    right.set_yscale("log")
    return figure


EXPERIMENT = Experiment(
    name="schwinger",
    title="Gradient estimators for the Schwinger model",
    source="Białas, Korcyl, Stebel, Training normalizing flows with computationally intensive target "
    "probability distributions, section 5.1, figure 2, on a smaller lattice",
    run=run,
    settings=SchwingerSettings((8, 8), 2.0, 0.276, 16, (16, 16), 400, 128, 5e-4, 10.0, 8192),
    quick=SchwingerSettings((4, 4), 2.0, 0.276, 2, (4, 4), 4, 8, 1e-3, 10.0, 64),
)
