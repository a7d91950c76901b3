"""Figures of U(1) links: topological charge and its sectors, plaquettes; plain arrays and measurements in.

None of them touches the state of matplotlib, so they serve in notebooks too. All units are lattice units.
"""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from latflow.analysis import Measurement, effective_sample_size, scaled_weight
from latflow.report.style import (
    BLUE,
    GREY,
    INK,
    OF_MODELS,
    ORANGE,
    SOURCES,
    envelope,
    label,
    new_figure,
    styled,
)

_WIDTH = 7.2
_EXCERPT = 300
_LEAST_DRAWS = 10


@styled
def charge_history(charge: Mapping[str, ArrayLike], rates: Mapping[str, Measurement]) -> Figure:
    """Topological charge of one chain of each source against its steps: whole, and the beginning of it.

    Args:
        charge: for each source Q at each step, (steps,).
        rates: for each source the share of steps at which Q changes.
    """
    histories = {source: np.asarray(q, dtype=np.float64) for source, q in charge.items()}
    highest = max(1.0, *(float(np.abs(q).max()) for q in histories.values()))
    longest = max(map(len, histories.values()))
    zoomed = longest > 2 * _EXCERPT
    figure = new_figure(_WIDTH, 0.7 + 1.45 * len(histories))
    panels = figure.subplots(
        len(histories),
        1 + zoomed,
        squeeze=False,
        sharex="col",
        sharey=True,
        width_ratios=[3, 2][: 1 + zoomed],
    )
    for row, (source, q) in zip(panels, histories.items(), strict=True):
        colour, _ = SOURCES.get(source, (INK, "o"))
        for axes, last in zip(row, (longest, _EXCERPT), strict=False):
            steps = np.arange(min(len(q), last))
            drawn = envelope(steps, q[: len(steps)])
            axes.plot(*drawn, color=colour, linewidth=0.7, drawstyle="steps-mid", rasterized=True)
            axes.axhline(0, color=GREY, linewidth=0.6)
            axes.set_xlim(0, last)
            axes.set_ylim(-highest - 0.5, highest + 0.5)
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.locator_params(axis="x", nbins=5)
        label(row[0], f"{source}: Q changes at {rates[source]} of the steps", "", r"$Q$")
        if zoomed:
            label(row[1], f"The first {_EXCERPT} steps", "", "")
    for axes in panels[-1]:
        axes.set_xlabel("Markov chain step")
    return figure


@styled
def charge_distribution(
    shares: Mapping[str, Mapping[int, Measurement]], exact: Mapping[int, float] | None = None
) -> Figure:
    """P(Q) on a logarithmic scale, the sources side by side at each Q, with the exact one where it is known.

    Args:
        shares: for each source the probability of each Q; those of zero have no place on the scale.
        exact: P(Q).
    """
    figure = new_figure(_WIDTH, 3.2)
    axes = figure.subplots()
    width = 0.7 / len(shares)
    for i, (source, of_charge) in enumerate(shares.items()):
        colour, marker = SOURCES.get(source, (INK, "o"))
        seen = {q: m for q, m in of_charge.items() if m.value > 0}
        low = [min(m.error, 0.9 * m.value) for m in seen.values()]  # a bar that reaches zero has no lower end
        axes.errorbar(
            [q + (i - (len(shares) - 1) / 2) * width for q in seen],
            [m.value for m in seen.values()],
            [low, [m.error for m in seen.values()]],
            color=colour,
            marker=marker,
            markerfacecolor="white",
            linestyle="none",
            label=source,
        )
    if exact:
        shown = {q: p for q, p in exact.items() if p > 0}
        axes.hlines(
            list(shown.values()),
            [q - 0.45 for q in shown],
            [q + 0.45 for q in shown],
            color=INK,
            linewidth=1.1,
            label="exact",
        )
    axes.set_yscale("log")
    smallest = min((m.value for of in shares.values() for m in of.values() if m.value > 0), default=0.1)
    axes.set_ylim(0.3 * smallest, 2.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", ncols=len(shares) + bool(exact))
    label(axes, "Distribution of the topological charge", r"$Q$", r"$P(Q)$ (log scale)")
    return figure


@styled
def sector_weights(log_weight: ArrayLike, charge: ArrayLike, most: int = 4) -> Figure:
    """Histograms of log w of the draws within each sector |Q| = 0, 1, …, with the ESS of each.

    The upright line is the estimate of log Z. A sector whose weights lie to the right of the others is
    proposed too rarely.

    Args:
        log_weight: log w of each draw, any shape.
        charge: Q of each draw.
        most: sectors that are drawn, the lowest ones; those of less than ten draws are left out.

    Raises:
        ValueError: without any sector to draw, and as `effective_sample_size`.
    """
    exponent, sector = np.asarray(log_weight, dtype=np.float64).ravel(), np.abs(np.asarray(charge)).ravel()
    weight = scaled_weight(exponent)
    log_z = float(exponent.max() + math.log(weight.mean()))
    finite = exponent[np.isfinite(exponent)]
    low, high = np.quantile(finite, [0.002, 1.0])
    margin = 0.05 * (high - low) or 1.0
    bins = np.linspace(low - margin, high + margin, int(np.clip(math.sqrt(len(finite)) / 2, 12, 60)) + 1)
    found = [n for n in range(most) if np.sum(sector == n) >= _LEAST_DRAWS]
    if not found:
        raise ValueError(f"expected a sector with at least {_LEAST_DRAWS} draws, got none")
    figure = new_figure(_WIDTH, 0.6 + 1.0 * len(found))
    panels = figure.subplots(len(found), 1, squeeze=False, sharex=True)[:, 0]
    for axes, n in zip(panels, found, strict=True):
        inside = sector == n
        counts, _ = np.histogram(exponent[inside], bins)
        density = counts / max(counts.sum(), 1)
        axes.stairs(density, bins, fill=True, color=BLUE, alpha=0.25)
        axes.stairs(density, bins, color=BLUE, linewidth=1)
        axes.axvline(log_z, color=ORANGE, linewidth=1.1)
        axes.set_yticks([])
        axes.set_ylim(0, 1.2 * density.max() or 1.0)
        axes.set_ylabel(f"$|Q| = {n}$")
        axes.text(0.01, 0.92, _sector_text(exponent, weight, inside), transform=axes.transAxes, va="top")
    panels[0].set_title(r"Log-weights within each topological sector; upright: the estimate of $\log Z$")
    panels[-1].set_xlabel(r"$\log w = -S - \log q$")
    return figure


def _sector_text(exponent: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> str:
    lines = [f"{np.mean(inside):.2%} of draws", f"{weight[inside].sum() / weight.sum():.2%} of weight"]
    if weight[inside].any():
        lines.append(rf"$\mathrm{{ESS}} = {effective_sample_size(exponent[inside]):.3f}$")
    return "\n".join(lines)


@styled
def plaquette_histogram(
    plaquette: Mapping[str, ArrayLike], averages: Mapping[str, Measurement], exact: float | None = None
) -> Figure:
    """Histogram over configurations of the mean cos P of each, for each source.

    Args:
        plaquette: for each source the values, any shape.
        averages: for each source their average.
        exact: the average where it is known.
    """
    values = {source: np.asarray(p, dtype=np.float64).ravel() for source, p in plaquette.items()}
    low, high = min(p.min() for p in values.values()), max(p.max() for p in values.values())
    fewest = min(len(p) for p in values.values())
    margin = 0.03 * (high - low) or 0.01
    bins = np.linspace(low - margin, high + margin, int(np.clip(math.sqrt(fewest) / 2, 10, 60)) + 1)
    figure = new_figure(_WIDTH, 2.9)
    axes = figure.subplots()
    for source, p in values.items():
        colour, _ = SOURCES.get(source, (INK, "o"))
        density, _ = np.histogram(p, bins, density=True)
        if source in OF_MODELS:
            axes.stairs(density, bins, fill=True, color=colour, alpha=0.25)
        axes.stairs(density, bins, color=colour, linewidth=1.3, label=f"{source}: {averages[source]}")
    if exact is not None:
        axes.axvline(exact, color=INK, linestyle="--", linewidth=1, label=f"exact average {exact:.6f}")
    axes.set_ylim(0, 1.3 * axes.dataLim.ymax)
    axes.legend(loc="upper left")
    label(axes, "Distribution of the plaquette", r"$V^{-1}\sum_x \cos P(x)$ of a configuration", "density")
    return figure


@styled
def plaquette_angles_images(
    angles: Mapping[str, ArrayLike], charges: Mapping[str, ArrayLike], columns: int = 6
) -> Figure:
    """Plaquette angles of a row of configurations for each source, as images on the circle.

    Args:
        angles: for each source P(x) in (−π, π], (number, L0, L1).
        charges: for each source Q of each configuration.
        columns: the most that are drawn of each.
    """
    rows = {source: np.asarray(p, dtype=np.float64)[:columns] for source, p in angles.items()}
    number = max(len(p) for p in rows.values())
    height, width = next(iter(rows.values())).shape[1:]
    cell = 0.85 * _WIDTH / number
    figure = new_figure(_WIDTH, len(rows) * (cell * min(height / width, 2.0) + 0.3) + 0.45)
    panels = figure.subplots(len(rows), number, squeeze=False, sharex=True, sharey=True)
    for row, (source, sample) in zip(panels, rows.items(), strict=True):
        for axes, p, q in zip(row, sample, np.asarray(charges[source]), strict=False):
            _draw_angles(axes, p, f"$Q = {q:+.0f}$" if q else "$Q = 0$")
        for unused in row[len(sample) :]:
            unused.set_visible(False)
        row[0].set_title(source)
        row[0].set_ylabel(r"$x_0$")
    for axes in panels[-1]:
        axes.set_xlabel(r"$x_1$")
    bar = figure.colorbar(
        panels[0, 0].images[0], ax=panels, label=r"$P(x)$", shrink=0.9, pad=0.015, aspect=25
    )
    bar.set_ticks([-math.pi, 0, math.pi], labels=[r"$-\pi$", "0", r"$\pi$"])
    return figure


def _draw_angles(axes: Axes, angles: np.ndarray, charge: str) -> None:
    axes.grid(False)
    image = axes.imshow(angles, vmin=-math.pi, vmax=math.pi, origin="lower", interpolation="nearest")
    image.set_cmap("twilight_shifted")
    axes.set_box_aspect(angles.shape[0] / angles.shape[1])
    backed = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.04, 0.95, charge, transform=axes.transAxes, va="top", fontsize=8, bbox=backed)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
