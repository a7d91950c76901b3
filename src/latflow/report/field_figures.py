"""Figures of the field: correlators, magnetisation, configurations; plain arrays and measurements in.

None of them touches the state of matplotlib, so they serve in notebooks too. All units are lattice units.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from latflow.analysis import Measurement
from latflow.observables import effective_mass
from latflow.report.style import BLUE, GREY, INK, OF_MODELS, SOURCES, label, new_figure, styled
from latflow.validation import BESIDE

_WIDTH = 7.2


@styled
def two_point_function(
    correlators: Mapping[str, Sequence[Measurement]],
    masses: Mapping[str, Sequence[Measurement]],
    exact: ArrayLike | None = None,
    what: str = "Two-point function",
) -> Figure:
    """Zero-momentum two-point function C(t), the pulls between its sources, and the effective mass.

    Args:
        correlators: for each source C(0), C(1), ….
        masses: for each source the effective masses at t = 1, 2, …; sources may be missing.
        exact: C(t) where it is known, the reference of the pulls; otherwise HMC is, or the classical chain.
        what: the name of C(t).
    """
    known = None if exact is None else np.asarray(exact, dtype=np.float64)
    figure = new_figure(_WIDTH, 3.6)
    grid = figure.add_gridspec(2, 2, height_ratios=[2.6, 1])
    compared = known is not None or (_beside(correlators) is not None and len(correlators) > 1)
    top = figure.add_subplot(grid[0, 0] if compared else grid[:, 0])
    _draw_correlators(top, correlators, known, what)
    if compared:
        bottom = figure.add_subplot(grid[1, 0], sharex=top)
        top.tick_params(labelbottom=False)
        top.set_xlabel("")
        _draw_pulls(bottom, correlators, known)
    right = figure.add_subplot(grid[:, 1])
    for shift, (source, values) in zip(_shifts(len(masses)), masses.items(), strict=True):
        _draw_measurements(right, np.arange(1, len(values) + 1) + shift, values, source)
    if known is not None and len(known) > 2:
        right.plot(
            np.arange(1, len(known) - 1), effective_mass(known), color=INK, linewidth=0.9, label="exact"
        )
    label(right, "Effective mass", r"$t$", r"$m_\mathrm{eff}(t)$")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xlim(0.5, max(map(len, masses.values()), default=1) + 0.5)
    _limit_to_sound(right, [m for values in masses.values() for m in values])
    return figure


@styled
def magnetization_histogram(
    magnetization: Mapping[str, ArrayLike],
    exact: tuple[np.ndarray, np.ndarray] | None = None,
    spacing: float | None = None,
) -> Figure:
    """Histogram of M for each source; a flow that has collapsed into one sign shows one peak of two.

    Args:
        magnetization: for each source ("flow chain", "HMC", …) the values, any shape.
        exact: the values that M can have and their probabilities, drawn where they are known.
        spacing: between neighbouring values of M where it is discrete, −1 and 1 among them: each bin then
            holds equally many of them.
    """
    values = {source: np.asarray(m, dtype=np.float64).ravel() for source, m in magnetization.items()}
    furthest = max(float(np.abs(m).max()) for m in values.values()) or 1.0
    fewest = min(len(m) for m in values.values())
    number = 2 * int(np.clip(math.sqrt(fewest) / 4, 6, 40))
    bins = np.linspace(-1.05 * furthest, 1.05 * furthest, number + 1)
    if spacing is not None:
        together = max(1, round(2 / number / spacing))
        bins = np.arange(-1 - spacing / 2, 1 + spacing * together, spacing * together)
    figure = new_figure(_WIDTH, 2.9)
    axes = figure.subplots()
    for source, m in values.items():
        colour, _ = SOURCES.get(source, (INK, "o"))
        density, _ = np.histogram(m, bins, density=True)
        text = f"{source}: {np.mean(m > 0):.1%} with $M > 0$"
        if source in OF_MODELS:
            axes.stairs(density, bins, fill=True, color=colour, alpha=0.25)
        axes.stairs(density, bins, color=colour, linewidth=1.3, label=text)
    if exact is not None:
        density, _ = np.histogram(exact[0], bins, weights=exact[1] / exact[1].sum(), density=True)
        centre = (bins[1:] + bins[:-1]) / 2
        axes.plot(centre, density, color=INK, marker=".", markersize=3, linewidth=0.6, label="exact")
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.set_ylim(0, 1.3 * axes.dataLim.ymax)
    axes.legend(loc="upper center", ncols=len(values) + (exact is not None))
    label(axes, "Distribution of the magnetisation", r"magnetisation $M$", "density")
    return figure


@styled
def configurations(
    fields: Mapping[str, ArrayLike], columns: int = 6, symbol: str = r"$\phi_x$", spins: bool = False
) -> Figure:
    """A row of configurations for each source: lines in one dimension, images in two, slices x₀ = 0 in three.

    Args:
        fields: for each source configurations (number, *lattice).
        columns: the most that are drawn of each.
        symbol: what the field is called.
        spins: whether its values are ±1 alone.

    Raises:
        ValueError: for a lattice of no or of more than three dimensions.
    """
    rows = {source: np.asarray(x, dtype=np.float64)[:columns] for source, x in fields.items()}
    dimensions = {x.ndim - 1 for x in rows.values()}
    if not dimensions <= {1, 2, 3} or len(dimensions) != 1:
        raise ValueError(
            f"expected fields (number, *lattice) of one to three dimensions, got {sorted(dimensions)}"
        )
    (dimension,) = dimensions
    number = max(len(x) for x in rows.values())
    uneven = len({len(x) for x in rows.values()}) > 1
    largest = max(float(np.quantile(np.abs(x), 0.995)) for x in rows.values()) or 1.0
    height, width = next(iter(rows.values())).shape[-2:] if dimension > 1 else (0.8, 1.0)
    cell = _WIDTH / number * (0.85 if dimension > 1 else 1.0)
    figure = new_figure(
        _WIDTH, len(rows) * (cell * min(height / width, 2.0) + 0.35 + (0.3 if uneven else 0.0)) + 0.45
    )
    panels = figure.subplots(len(rows), number, squeeze=False, sharex=True, sharey=True)
    for row, (source, sample) in zip(panels, rows.items(), strict=True):
        row[0].set_title(source)
        for axes, x in zip(row, sample, strict=False):
            _draw_configuration(axes, x, largest, SOURCES.get(source, (INK, "o"))[0])
        for unused in row[len(sample) :]:
            unused.set_visible(False)
        row[0].set_ylabel(symbol if dimension == 1 else r"$x_0$" if dimension == 2 else r"$x_1$")
    for column in panels.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(r"$x$" if dimension == 1 else r"$x_1$" if dimension == 2 else r"$x_2$")
    if dimension > 1:
        image = panels[0, 0].images[0]
        bar = figure.colorbar(image, ax=panels, label=symbol, shrink=0.9, pad=0.015, aspect=25)
        if spins:
            for drawn in (one for axes in panels.flat for one in axes.images):
                drawn.set_cmap(ListedColormap([BLUE, "white"]))
            bar.update_normal(image)
            bar.set_ticks([-0.5, 0.5], labels=["−1", "+1"])
    return figure


def _draw_configuration(axes: Axes, x: np.ndarray, largest: float, colour: str) -> None:
    axes.grid(False)
    if x.ndim == 1:
        axes.plot(np.arange(len(x)), x, color=colour, marker="o", markersize=2, linewidth=0.9)
        axes.axhline(0, color=GREY, linewidth=0.6)
    else:
        image = x[0] if x.ndim == 3 else x
        axes.imshow(image, vmin=-largest, vmax=largest, origin="lower", interpolation="nearest")
        axes.set_box_aspect(image.shape[0] / image.shape[1])
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if x.ndim > 1:
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _shifts(number: int) -> list[float]:
    """Small horizontal distances that keep the error bars of several sources apart."""
    return [0.12 * (i - (number - 1) / 2) for i in range(number)]


def _draw_measurements(axes: Axes, x: np.ndarray, values: Sequence[Measurement], source: str) -> None:
    colour, marker = SOURCES.get(source, (INK, "o"))
    axes.errorbar(
        x,
        [m.value for m in values],
        [m.error for m in values],
        color=colour,
        marker=marker,
        markerfacecolor="white",
        linestyle="none",
        label=source,
    )


def _draw_correlators(
    axes: Axes, correlators: Mapping[str, Sequence[Measurement]], exact: np.ndarray | None, what: str
) -> None:
    for shift, (source, values) in zip(_shifts(len(correlators)), correlators.items(), strict=True):
        _draw_measurements(axes, np.arange(len(values)) + shift, values, source)
    if exact is not None:
        axes.plot(np.arange(len(exact)), exact, color=INK, linewidth=0.9, label="exact")
    if all(m.value > 0 for values in correlators.values() for m in values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    label(axes, f"{what} at zero momentum", r"$t$", r"$C(t)$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")


def _draw_pulls(
    axes: Axes, correlators: Mapping[str, Sequence[Measurement]], exact: np.ndarray | None
) -> None:
    """(source − reference)/σ at each t, the reference exact, HMC or a classical chain."""
    name = "exact" if exact is not None else _beside(correlators) or ""
    reference = correlators[name] if exact is None else [Measurement(float(c), 0.0) for c in exact]
    compared = {source: values for source, values in correlators.items() if source != name}
    for shift, (source, values) in zip(_shifts(len(compared)), compared.items(), strict=True):
        colour, marker = SOURCES.get(source, (INK, "o"))
        pulls = [m.pull(r.value, r.error) for m, r in zip(values, reference, strict=True)]
        axes.plot(
            np.arange(len(pulls)) + shift,
            pulls,
            color=colour,
            marker=marker,
            markerfacecolor="white",
            linestyle="none",
        )
    axes.axhspan(-1, 1, color=GREY, alpha=0.15, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.7)
    reach = max(
        3.0, *(1.2 * abs(y) for line in axes.lines for y in np.asarray(line.get_ydata()) if np.isfinite(y))
    )
    axes.set_ylim(-reach, reach)
    label(axes, "", r"$t$", f"pull from\n{name}")


def _beside(correlators: Mapping[str, Sequence[Measurement]]) -> str | None:
    """The established sampler among the sources."""
    return next((source for source in correlators if source in BESIDE), None)


def _limit_to_sound(axes: Axes, values: Sequence[Measurement]) -> None:
    """Vertical limits by the points that mean something: those with an error below half their value."""
    sound = [m for m in values if math.isfinite(m.error) and 0 <= m.error < 0.5 * abs(m.value)]
    if not sound:
        return
    low, high = min(m.value - 2 * m.error for m in sound), max(m.value + 2 * m.error for m in sound)
    margin = max(0.15 * (high - low), 0.02 * abs(high))
    axes.set_ylim(low - margin, high + margin)
