"""The variance of gradient estimators along a training: of a flow for φ⁴, of a network for Ising spins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, nn

from latflow.densities.autoregressive import dense_spins
from latflow.densities.flows import affine_flow
from latflow.estimators import ESTIMATORS, Estimator
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.theories import Action, Ising, Phi4
from latflow.training import Trainer
from latflow.types import Lattice
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

_COLOURS = {
    "score": BLUE,
    "reinforce": ORANGE,
    "reinforce_leave_one_out": GREY,
    "reparametrization": GREEN,
    "path_gradient": INK,
}


@dataclass(frozen=True)
class VarianceSettings:
    """A training, and the estimates that are spread out at some of its steps.

    Attributes:
        theory: a name in `THEORIES`.
        lattice: side lengths.
        estimators: that are measured; the training is by REINFORCE.
        batch: draws of an estimate, in training and measuring alike.
        learning_rate: of Adam.
        checkpoints: the steps after which the spread is measured; the last one ends the training.
        batches: N_b, the estimates of which the variance is taken.
    """

    theory: str
    lattice: Lattice
    estimators: tuple[str, ...]
    batch: int
    learning_rate: float
    checkpoints: tuple[int, ...]
    batches: int


class Pair(NamedTuple):
    """A theory, and what is trained towards it.

    Attributes:
        action: on a lattice.
        model: in words.
        density: before its training.
    """

    action: Callable[[Lattice], Action]
    model: str
    density: Callable[[Lattice, Generator], nn.Module]


THEORIES = {
    "phi4": Pair(
        lambda lattice: Phi4(lattice, m2=-4.0, lam=8.0),
        "An affine flow",
        lambda lattice, generator: affine_flow(lattice, generator=generator),
    ),
    "ising": Pair(
        lambda lattice: Ising(lattice, beta=0.44068679),
        "A dense network",
        lambda lattice, generator: dense_spins(lattice, z2=False, generator=generator),
    ),
}
"""By the name in the settings."""


def mean_variance(
    density: Any, action: Action, estimator: Estimator, batch: int, batches: int, generator: Generator
) -> float:
    """The variance of a gradient estimate, averaged over the parameters.

        var g = N_θ⁻¹ Σ_j N_b⁻¹ Σ_i (g_j[i] − ḡ_j)²

    Source: Białas, Korcyl, Stebel, Gradient estimators for normalising flows, eq. 45.

    Args:
        density: the model.
        action: S.
        estimator: of the gradient.
        batch: draws of one estimate.
        batches: N_b, the number of estimates.
        generator: source of the draws.
    """
    parameters = list(density.parameters())
    mean, squares = (torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64) for _ in range(2))
    for count in range(1, batches + 1):
        loss = estimator(density, action, batch, generator).loss
        gradients = torch.autograd.grad(loss, parameters)
        flat = torch.cat([gradient.flatten() for gradient in gradients]).double()
        step = flat - mean
        mean += step / count
        squares += step * (flat - mean)
    return (squares.mean() / batches).item()


def run(bench: Bench, settings: VarianceSettings) -> Findings:
    """Train with REINFORCE, and measure the spread of every estimator at the same checkpoints."""
    numbers = bench.part("spread", lambda: _measure(bench, settings))
    spreads = numbers["spread"]
    head = ["step", "ESS", "F_q", *(f"√var {name}" for name in settings.estimators)]
    rows: list[list[Cell]] = [
        [step, number(numbers["ess"][i], ".3f"), number(numbers["f_q"][i], ".3f")]
        + [number(spreads[name][i], "#.3g") for name in settings.estimators]
        for i, step in enumerate(settings.checkpoints)
    ]
    lattice = "×".join(map(str, settings.lattice))
    pair = THEORIES[settings.theory]
    words = pair.action(settings.lattice).words
    text = (
        f"{pair.model} for the {words.name} on {lattice} ({words.parameters}), trained by REINFORCE with "
        f"batches of {settings.batch}. At each checkpoint {settings.batches} batches give the variance of "
        "every component of the gradient, averaged over the components, for all estimators at one set of "
        "weights. With a baseline and for the path gradient it vanishes where q = p; without one it grows "
        "with (log Z)², and the reparametrisation keeps the spread of ⟨∂ log q⟩."
    )
    return Findings(text, [Table("spread", head, rows)], {"variance": _figure(settings, spreads)})


def _measure(bench: Bench, settings: VarianceSettings) -> dict[str, Any]:
    pair = THEORIES[settings.theory]
    action = pair.action(settings.lattice)
    density = pair.density(settings.lattice, bench.generator("weights"))
    trainer = Trainer(
        density,  # pyright: ignore[reportArgumentType] (a module that is a density)
        action,
        ESTIMATORS["reinforce"],
        steps=settings.checkpoints[-1],
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        generator=bench.generator("training"),
    )
    found: dict[str, Any] = {"ess": [], "f_q": [], "spread": {name: [] for name in settings.estimators}}
    recent = []
    for record in trainer:
        recent.append(record)
        if record.step in settings.checkpoints:
            last = recent[-20:]
            found["ess"].append(float(np.mean([r.ess for r in last])))
            found["f_q"].append(float(np.mean([r.f_q for r in last])))
            for name in settings.estimators:
                noise = bench.generator(f"{name} {record.step}")
                variance = mean_variance(
                    density, action, ESTIMATORS[name], settings.batch, settings.batches, noise
                )
                found["spread"][name].append(variance**0.5)
            bench.say(f"step {record.step}: F_q = {found['f_q'][-1]:.3f}")
    return found


@styled
def _figure(settings: VarianceSettings, spreads: dict[str, list[float]]) -> Figure:
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    for name in settings.estimators:
        axes.plot(
            settings.checkpoints,
            spreads[name],
            color=_COLOURS[name],
            marker="o",
            label=name.replace("_", " "),
        )
    axes.set_yscale("log")
    label(axes, "Spread of the gradient estimators", "training step", r"$\sqrt{\mathrm{var}[g]}$")
    axes.legend(loc="best")
    return figure


_SOURCE = "Białas, Korcyl, Stebel, Gradient estimators for normalising flows, eq. 45 and figure 5"
_CONTINUOUS = ("score", "reinforce", "reparametrization", "path_gradient")
_DISCRETE = ("score", "reinforce", "reinforce_leave_one_out")

PHI4 = Experiment(
    name="phi4-variance",
    title="Variance of gradient estimators along the training of a flow",
    source=_SOURCE,
    run=run,
    settings=VarianceSettings("phi4", (8, 8), _CONTINUOUS, 128, 1e-3, (1, 100, 300, 600, 1000, 1600), 60),
    quick=VarianceSettings("phi4", (4, 4), _CONTINUOUS, 8, 1e-3, (1, 3), 3),
)

ISING = Experiment(
    name="ising-variance",
    title="Variance of gradient estimators along the training of an autoregressive network",
    source=f"{_SOURCE}, for the spins of its section 2",
    run=run,
    settings=VarianceSettings("ising", (8, 8), _DISCRETE, 256, 3e-3, (1, 100, 300, 600, 1000, 1600), 100),
    quick=VarianceSettings("ising", (4, 4), _DISCRETE, 8, 1e-3, (1, 3), 3),
)
