"""The exponential toy model: gradient estimators along a training, beside their exact variances."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from latflow.actions import Exponential
from latflow.estimators import ESTIMATORS
from latflow.exact import toy_variance
from latflow.papers.bench import Bench, Experiment, Findings, Table
from latflow.report.style import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.training import Trainer

NAMES = {
    "score": (r"$g_1$, score function", BLUE),
    "reinforce": (r"$g_2$, REINFORCE", ORANGE),
    "reparametrization": (r"$g_3$, reparametrisation", GREEN),
    "path_gradient": ("path gradient", INK),
}
"""The estimators that are compared, with their names in the figure."""


@dataclass(frozen=True)
class ToySettings:
    """Numbers of section 5.1.

    Attributes:
        rate: λ of the target.
        start: θ before the training.
        batch: N, the draws of an estimate.
        steps: updates by Adam.
        learning_rate: of Adam.
        batches: estimates from which a variance is taken.
        every: steps between two variances.
    """

    rate: float = 1.5
    start: float = 0.5
    batch: int = 100
    steps: int = 1600
    learning_rate: float = 0.01
    batches: int = 1000
    every: int = 40


class ExponentialDensity(nn.Module):
    """q(φ) = θ exp(−θφ), drawn as φ = −log(1 − u)/θ with u uniform.

    Args:
        theta: θ > 0 at the start.
    """

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """n draws (n, 1) and log q of each."""
        unit = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        x = -torch.log1p(-unit) / self.theta
        return x, self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log θ − θφ."""
        return torch.log(self.theta) - self.theta * x[:, 0]


def run(bench: Bench, settings: ToySettings) -> Findings:
    """Train θ with each estimator, and measure the spread of all its estimates on the way."""
    found = {name: bench.part(name, lambda name=name: _train(bench, settings, name)) for name in NAMES}
    rows = []
    for name, numbers in found.items():
        exact = _exact(name, np.array(numbers["theta"]), settings)
        pull = (np.array(numbers["variance"]) - exact) / np.array(numbers["spread"])
        ends = numbers["path"][-1]
        rows.append([name, f"{ends:.4f}", f"{np.abs(pull).max():.1f}", f"{np.square(pull).mean():.2f}"])
    head = ["estimator", "θ at the end", "largest deviation of the variance [σ]", "mean square deviation"]
    text = (
        f"The model q = θ exp(−θφ) learns λ = {settings.rate} from θ = {settings.start} in {settings.steps} "
        f"steps of Adam with batches of {settings.batch}. Every {settings.every} steps the variance of the "
        f"estimator is taken from {settings.batches} batches and compared with the exact one at this θ, in "
        "units of the spread that a sample variance has. g₂ and the path gradient lose their variance as θ "
        "reaches λ, g₃ does not; g₁ does so only because the target is normalised, Z = 1."
    )
    return Findings(text, [Table(head, rows)], {"toy": _figure(found, settings)})


def _train(bench: Bench, settings: ToySettings, name: str) -> dict[str, Any]:
    density, action = ExponentialDensity(settings.start), Exponential(settings.rate)
    estimator, noise = ESTIMATORS[name], bench.generator(f"{name}, variance")
    trainer = Trainer(
        density,
        action,
        estimator,
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        generator=bench.generator(name),
    )
    path: list[float] = [settings.start]
    theta, variance, spread = [], [], []
    for record in trainer:
        if (record.step - 1) % settings.every == 0:
            estimates = []
            for _ in range(settings.batches):
                loss = estimator(density, action, settings.batch, noise).loss
                estimates.append(torch.autograd.grad(loss, density.theta)[0].item())
            deviations = np.array(estimates) - np.mean(estimates)
            second, fourth = (deviations**2).mean(), (deviations**4).mean()
            theta.append(density.theta.item())
            variance.append(second * settings.batches / (settings.batches - 1))
            spread.append(float(np.sqrt((fourth - second**2) / settings.batches)))
        path.append(density.theta.item())
    return {"path": path, "theta": theta, "variance": variance, "spread": spread}


def _exact(name: str, theta: np.ndarray, settings: ToySettings) -> np.ndarray:
    short = {"score": "g1", "reinforce": "g2", "reparametrization": "g3", "path_gradient": "g_path"}[name]
    return np.array([getattr(toy_variance(t, settings.rate, settings.batch), short) for t in theta])


@styled
def _figure(found: dict[str, dict[str, Any]], settings: ToySettings) -> Figure:
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    furthest = max(max(numbers["path"]) for numbers in found.values())
    theta = np.linspace(settings.start, furthest, 300)
    for name, numbers in found.items():
        text, colour = NAMES[name]
        left.plot(numbers["path"], color=colour, linewidth=0.9, label=text)
        right.plot(
            numbers["theta"],
            np.sqrt(numbers["variance"]),
            color=colour,
            marker="o",
            markersize=2.5,
            linestyle="none",
            label=text,
        )
        right.plot(theta, np.sqrt(_exact(name, theta, settings)), color=colour, linewidth=0.8, linestyle=":")
    left.axhline(settings.rate, color=GREY, linewidth=0.8)
    label(left, "Training", "step", r"$\theta$")
    left.legend(loc="lower right")
    label(right, "Spread of the estimate; dotted: exact", r"$\theta$", r"$\sqrt{\mathrm{var}\,g}$")
    return figure


EXPERIMENT = Experiment(
    title="Gradient estimators on a toy model",
    source="Białas, Korcyl, Stebel, Gradient estimators for normalising flows, section 5.1, figure 2",
    run=run,
    settings=ToySettings(),
    quick=ToySettings(steps=40, batches=50, every=20),
)
