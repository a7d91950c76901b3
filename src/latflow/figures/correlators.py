"""The figure of a correlator in time: measurements in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from latflow.figures.style import GREY, INK, WIDTH, Look, label, legend_below, look_of, new_figure, styled
from latflow.formulas import effective_mass
from latflow.measurement import Measurement


@styled
def two_point_function(
    correlators: Mapping[str, Sequence[Measurement]],
    masses: Mapping[str, Sequence[Measurement]],
    exact: ArrayLike | None = None,
    reference: str | None = None,
    what: str = "Two-point function",
) -> Figure:
    """Zero-momentum two-point function C(t), the pulls between its sources, and the effective mass.

    Args:
        correlators: for each source C(0), C(1), ….
        masses: for each source the effective masses at t = 1, 2, …; sources may be missing.
        exact: C(t) where it is known; then the pulls are from it.
        reference: otherwise the source from which they are, the last one unless it is named.
        what: the name of C(t).
    """
    known = None if exact is None else np.asarray(exact, dtype=np.float64)
    figure = new_figure(WIDTH, 3.9)
    grid = figure.add_gridspec(2, 2, height_ratios=[2.6, 1])
    compared = known is not None or len(correlators) > 1
    looks = look_of([*correlators, *masses])
    top = figure.add_subplot(grid[0, 0] if compared else grid[:, 0])
    _draw_correlators(top, correlators, looks, known, what)
    if compared:
        bottom = figure.add_subplot(grid[1, 0], sharex=top)
        top.tick_params(labelbottom=False)
        top.set_xlabel("")
        _draw_pulls(bottom, correlators, looks, known, reference or list(correlators)[-1])
    right = figure.add_subplot(grid[:, 1])
    for shift, (source, values) in zip(_shifts(len(masses)), masses.items(), strict=True):
        _draw_measurements(right, np.arange(1, len(values) + 1) + shift, values, source, looks[source])
    if known is not None and len(known) > 2:
        right.plot(
            np.arange(1, len(known) - 1), effective_mass(known), color=INK, linewidth=0.9, label="exact"
        )
    label(right, "Effective mass", r"$t$", r"$m_\mathrm{eff}(t)$")
    last = max(map(len, masses.values()), default=1)
    right.xaxis.set_major_locator(MaxNLocator(integer=True) if last > 2 else FixedLocator([1, 2]))
    right.set_xlim(0.5, last + 0.5)
    _limit_to_sound(right, [m for values in masses.values() for m in values])
    legend_below(figure)
    return figure


def _shifts(number: int) -> list[float]:
    """Small horizontal distances that keep the error bars of several sources apart."""
    return [0.12 * (i - (number - 1) / 2) for i in range(number)]


def _draw_measurements(
    axes: Axes, x: np.ndarray, values: Sequence[Measurement], source: str, look: Look
) -> None:
    axes.errorbar(
        x,
        [m.value for m in values],
        [m.error for m in values],
        color=look.colour,
        marker=look.marker,
        markerfacecolor="white",
        linestyle="none",
        label=source,
    )


def _draw_correlators(
    axes: Axes,
    correlators: Mapping[str, Sequence[Measurement]],
    looks: Mapping[str, Look],
    exact: np.ndarray | None,
    what: str,
) -> None:
    for shift, (source, values) in zip(_shifts(len(correlators)), correlators.items(), strict=True):
        _draw_measurements(axes, np.arange(len(values)) + shift, values, source, looks[source])
    if exact is not None:
        axes.plot(np.arange(len(exact)), exact, color=INK, linewidth=0.9, label="exact")
    if all(m.value > 0 for values in correlators.values() for m in values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    label(axes, f"{what} at zero momentum", r"$t$", r"$C(t)$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_pulls(
    axes: Axes,
    correlators: Mapping[str, Sequence[Measurement]],
    looks: Mapping[str, Look],
    exact: np.ndarray | None,
    source_of_reference: str,
) -> None:
    """(source − reference)/σ at each t, the reference exact or one of the sources."""
    name = "exact" if exact is not None else source_of_reference
    reference = correlators[name] if exact is None else [Measurement(float(c), 0.0) for c in exact]
    compared = {source: values for source, values in correlators.items() if source != name}
    for shift, (source, values) in zip(_shifts(len(compared)), compared.items(), strict=True):
        pulls = [m.pull(r.value, r.error) for m, r in zip(values, reference, strict=True)]
        axes.plot(
            np.arange(len(pulls)) + shift,
            pulls,
            color=looks[source].colour,
            marker=looks[source].marker,
            markerfacecolor="white",
            linestyle="none",
        )
    axes.axhspan(-1, 1, color=GREY, alpha=0.15, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.7)
    reach = max(
        3.0, *(1.2 * abs(y) for line in axes.lines for y in np.asarray(line.get_ydata()) if np.isfinite(y))
    )
    axes.set_ylim(-reach, reach)
    label(axes, "", r"$t$", "pull")
    axes.set_title(f"Pulls from {name}", fontsize=8)


def _limit_to_sound(axes: Axes, values: Sequence[Measurement]) -> None:
    """Vertical limits by the points that mean something: those with an error below half their value."""
    sound = [m for m in values if math.isfinite(m.error) and 0 <= m.error < 0.5 * abs(m.value)]
    if not sound:
        return
    low, high = min(m.value - 2 * m.error for m in sound), max(m.value + 2 * m.error for m in sound)
    margin = max(0.15 * (high - low), 0.02 * abs(high))
    axes.set_ylim(low - margin, high + margin)
