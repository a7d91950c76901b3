"""Figures of the weights of draws: plain arrays in, a matplotlib `Figure` out."""

import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from latflow.analysis import effective_sample_size, free_energy, scaled_weight
from latflow.figures.style import BLUE, INK, ORANGE, WIDTH, label, legend_below, new_figure, styled

_LEAST_DRAWS = 10


@styled
def log_weight_histogram(log_weight: ArrayLike, source: str = "proposals") -> Figure:
    """Histogram of log w of draws from q: its bulk, and all of it on a logarithmic scale.

    The dashed curve is a Gaussian of the same mean and width, the upright line the estimate of log Z.

    Args:
        log_weight: log w of each draw, any shape.
        source: what the draws are called.

    Raises:
        ValueError: when weights are nan, +inf, or all zero.
    """
    values = np.asarray(log_weight, dtype=np.float64).ravel()
    ess, log_z = effective_sample_size(values), -free_energy(values).value
    values = values[np.isfinite(values)]
    mean, deviation = float(values.mean()), float(values.std())
    width = deviation if deviation > 0 else 1.0
    low, high = max(values.min(), mean - 15 * width), min(values.max(), mean + 15 * width)
    bins = np.arange(
        low - width / 2, high + width, width * float(np.clip(3.5 * len(values) ** (-1 / 3), 0.1, 1))
    )
    density, _ = np.histogram(values, bins, density=True)
    grid = np.linspace(bins[0], bins[-1], 600)
    gaussian = np.exp(-0.5 * ((grid - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    figure = new_figure(WIDTH, 3.0)
    panels = figure.subplots(1, 2)
    for axes in panels:
        axes.stairs(density, bins, fill=True, color=BLUE, alpha=0.25)
        axes.stairs(density, bins, color=BLUE, linewidth=1, label=source)
        axes.plot(grid, gaussian, color=INK, linestyle="--", linewidth=1, label="Gaussian of this width")
        axes.axvline(log_z, color=ORANGE, linewidth=1.1, label=r"estimate of $\log Z$")
    highest = max(density.max(), gaussian.max())
    panels[0].set_xlim(max(mean - 4.5 * width, bins[0]), min(mean + 4.5 * width, bins[-1]))
    panels[0].set_ylim(0, 1.1 * highest)
    panels[1].set_yscale("log")
    panels[1].set_ylim(0.5 * density[density > 0].min(), 2.5 * highest)
    numbers = [rf"\mathrm{{mean}} = {mean:.4g}", rf"\sigma = {deviation:.3g}", rf"\mathrm{{ESS}} = {ess:.3f}"]
    text = "\n".join(f"${number}$" for number in numbers)
    panels[0].text(0.03, 0.95, text, transform=panels[0].transAxes, va="top", linespacing=1.5)
    label(panels[0], "Log-weights: the bulk", r"$\log w = -S - \log q$", "density")
    label(panels[1], "All of them, logarithmic", r"$\log w = -S - \log q$", "density (log scale)")
    legend_below(figure)
    return figure


@styled
def sector_weights(
    log_weight: ArrayLike,
    sector: ArrayLike,
    name: Callable[[int], str] = "sector {}".format,
    title: str = "sectors",
    most: int = 4,
) -> Figure:
    """Histograms of log w of the draws within each sector 0, 1, …, with the ESS of each.

    The upright line is the estimate of log Z. A sector whose weights lie to the right of the others is
    proposed too rarely.

    Args:
        log_weight: log w of each draw, any shape.
        sector: the number of the sector of each draw, negative for none.
        name: of a sector, by its number.
        title: what the sectors are called.
        most: sectors that are drawn, the lowest ones; those of less than ten draws are left out.

    Raises:
        ValueError: without any sector to draw, and as `effective_sample_size`.
    """
    exponent, number = np.asarray(log_weight, dtype=np.float64).ravel(), np.asarray(sector).ravel()
    weight = scaled_weight(exponent)
    log_z = float(exponent.max() + math.log(weight.mean()))
    finite = exponent[np.isfinite(exponent)]
    low, high = np.quantile(finite, [0.002, 1.0])
    margin = 0.05 * (high - low) or 1.0
    bins = np.linspace(low - margin, high + margin, int(np.clip(math.sqrt(len(finite)) / 2, 12, 60)) + 1)
    found = [n for n in range(most) if np.sum(number == n) >= _LEAST_DRAWS]
    if not found:
        raise ValueError(f"expected a sector with at least {_LEAST_DRAWS} draws, got none")
    figure = new_figure(WIDTH, 0.6 + 1.0 * len(found))
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True)[:, 0]
    for axes, n in zip(panels, found, strict=True):
        inside = number == n
        counts, _ = np.histogram(exponent[inside], bins)
        density = counts / max(counts.sum(), 1)
        axes.stairs(density, bins, fill=True, color=BLUE, alpha=0.25)
        axes.stairs(density, bins, color=BLUE, linewidth=1)
        axes.axvline(log_z, color=ORANGE, linewidth=1.1)
        axes.set_yticks([])
        axes.set_ylim(0, 1.2 * density.max() or 1.0)
        axes.set_ylabel(name(n))
        axes.text(0.01, 0.92, _sector_text(exponent, weight, inside), transform=axes.transAxes, va="top")
    panels[0].set_title(rf"Log-weights by {title}; upright: the estimate of $\log Z$")
    panels[-1].set_xlabel(r"$\log w = -S - \log q$")
    return figure


def _sector_text(exponent: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> str:
    lines = [f"{np.mean(inside):.2%} of draws", f"{weight[inside].sum() / weight.sum():.2%} of weight"]
    if weight[inside].any():
        lines.append(rf"$\mathrm{{ESS}} = {effective_sample_size(exponent[inside]):.3f}$")
    return "\n".join(lines)
