"""The exponential toy model: gradient estimators along a training, beside their exact variances."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from latflow.estimators import ESTIMATORS
from latflow.exact import toy_variance
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.theories import Exponential
from latflow.training import Trainer
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Table, number

NAMES = {
    "score": (r"$g_1$, score function", BLUE),
    "reinforce": (r"$g_2$, REINFORCE", ORANGE),
    "reparametrization": (r"$g_3$, reparametrisation", GREEN),
    "path_gradient": ("path gradient", INK),
}
"""The estimators that are compared, with their names in the figure."""

SERIES = ("path", "theta", "variance", "spread")
"""Of a training: θ at every step, and at some of them θ, the variance of the estimates and its own spread."""


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
    parts = {name: bench.part(name, lambda name=name: _train(bench, settings, name)) for name in NAMES}
    found = {name: {key: part[key].numpy() for key in SERIES} for name, part in parts.items()}
    rows = []
    for name, numbers in found.items():
        exact = _exact(name, numbers["theta"], settings)
        pull = (numbers["variance"] - exact) / numbers["spread"]
        ends = numbers["path"][-1]
        largest, mean_square = np.abs(pull).max(), np.square(pull).mean()
        rows.append([name, number(ends, ".4f"), number(largest, ".1f"), number(mean_square, ".2f")])
    head = ["estimator", "θ at the end", "largest deviation of the variance [σ]", "mean square deviation"]
    text = (
        f"The model q = θ exp(−θφ) learns λ = {settings.rate} from θ = {settings.start} in {settings.steps} "
        f"steps of Adam with batches of {settings.batch}. Every {settings.every} steps, $places times, the "
        f"variance of the estimator is taken from {settings.batches} batches and compared with the exact "
        "one, in units of the spread that a sample variance has. g₂ and the path gradient lose their "
        "variance as θ reaches λ, g₃ does not; g₁ does so only because the target is normalised, Z = 1."
    )
    table, places = Table("estimators", head, rows), len(found["score"]["theta"])
    return Findings(text, [table], {"toy": _figure(found, settings)}, {"places": places})


def _train(bench: Bench, settings: ToySettings, name: str) -> dict[str, Tensor]:
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
    path, theta, variance, spread = [settings.start], [], [], []
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
    series = zip(SERIES, (path, theta, variance, spread), strict=True)
    return {key: torch.tensor(values, dtype=torch.float64) for key, values in series}


def _exact(name: str, theta: np.ndarray, settings: ToySettings) -> np.ndarray:
    short = {"score": "g1", "reinforce": "g2", "reparametrization": "g3", "path_gradient": "g_path"}[name]
    return np.array([getattr(toy_variance(t, settings.rate, settings.batch), short) for t in theta])


@styled
def _figure(found: dict[str, dict[str, np.ndarray]], settings: ToySettings) -> Figure:
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    furthest = max(numbers["path"].max() for numbers in found.values())
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
    left.legend(loc="best")
    label(right, "Spread of the estimate; dotted: exact", r"$\theta$", r"$\sqrt{\mathrm{var}\,g}$")
    return figure


EXPERIMENT = Experiment(
    name="toy",
    title="Gradient estimators on a toy model",
    source="Białas, Korcyl, Stebel, Gradient estimators for normalising flows, section 5.1, figure 2",
    run=run,
    settings=ToySettings(),
    quick=ToySettings(steps=40, batches=50, every=20),
)
