"""Figures of scans: observables along a parameter, and curves of several lattices at a critical point."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from latflow.figures.style import GREY, INK, LOOKS, RED, WIDTH, label, new_figure, styled
from latflow.measurement import Measurement

_COLUMNS = 3
_COLOURS = (*(look.colour for look in LOOKS), "#000000", "#8C564B", "#4B0082", "#7F7F00")
_MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True)
class Series:
    """Numbers of one curve by one way to know them.

    Attributes:
        curve: its name, such as the lattice; each has its colour.
        way: its name; each has its marker.
        x: the parameter, ascending.
        points: at each.
        failed: the numbers of those points whose run failed its validation.
        exact: whether they are known without draws, and drawn as a line.
    """

    curve: str
    way: str
    x: Sequence[float]
    points: Sequence[Measurement]
    failed: Sequence[int] = ()
    exact: bool = False


@dataclass(frozen=True)
class Panel:
    """One observable along the parameter."""

    title: str
    series: Sequence[Series]


@styled
def along(panels: Sequence[Panel], parameter: str, ticks: Sequence[str] = ()) -> Figure:
    """A panel for each observable, with error bars: curves by colour, ways to know them by marker.

    Args:
        panels: at least one.
        parameter: what is on the axis of all of them.
        ticks: names of the places 0, 1, … where the parameter is no number.
    """
    rows = math.ceil(len(panels) / _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    figure = new_figure(WIDTH if columns > 1 else 4.5, 0.7 + 2.1 * rows)
    curves = list(dict.fromkeys(one.curve for panel in panels for one in panel.series))
    ways = list(dict.fromkeys(one.way for panel in panels for one in panel.series if not one.exact))
    looks = _looks(curves, ways)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        for one in panel.series:
            _draw(axes, one, *looks[one.curve, one.way if not one.exact else ""], _shift(one, ways))
        label(axes, panel.title, parameter, "")
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks, rotation=30, ha="right")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(figure, curves, ways, looks, panels)
    return figure


def _looks(curves: Sequence[str], ways: Sequence[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and marker: of a single curve the ways have colours, too; exact numbers the way ""."""
    looks = {}
    for i, curve in enumerate(curves):
        for j, way in enumerate(ways):
            place = j if len(curves) == 1 else i
            looks[curve, way] = _COLOURS[place % len(_COLOURS)], _MARKERS[j % len(_MARKERS)]
        looks[curve, ""] = INK if len(curves) == 1 else _COLOURS[i % len(_COLOURS)], ""
    return looks


def _shift(one: Series, ways: Sequence[str]) -> float:
    """A small distance that keeps the error bars of several ways apart."""
    spread = float(np.min(np.diff(one.x))) if len(one.x) > 1 else 1.0
    return 0.0 if one.exact else 0.08 * spread * (ways.index(one.way) - (len(ways) - 1) / 2)


def _draw(axes: Axes, one: Series, colour: str, marker: str, shift: float) -> None:
    x = np.asarray(one.x, dtype=np.float64) + shift
    value, error = (np.array([getattr(m, what) for m in one.points]) for what in ("value", "error"))
    if one.exact:
        axes.plot(x, value, color=colour, linewidth=0.9, marker="_" if len(x) == 1 else "", markersize=14)
        return
    error = np.where(np.isfinite(error), error, 0.0)
    axes.errorbar(x, value, error, color=colour, marker=marker, markerfacecolor="white", linestyle="none")
    failed = list(one.failed)
    axes.plot(x[failed], value[failed], linestyle="none", marker="x", color=RED, markersize=8, zorder=4)


def _legend(
    figure: Figure,
    curves: Sequence[str],
    ways: Sequence[str],
    looks: dict[tuple[str, str], tuple[str, str]],
    panels: Sequence[Panel],
) -> None:
    """Above the panels, where it hides nothing."""
    handles = []
    if len(curves) > 1:
        handles += [Line2D([], [], color=looks[curve, ""][0], linewidth=3, label=curve) for curve in curves]
    for way in ways:
        colour, marker = looks[curves[0], way]
        colour = colour if len(curves) == 1 else GREY
        handles.append(
            Line2D([], [], color=colour, marker=marker, markerfacecolor="white", linestyle="none", label=way)
        )
    series = [one for panel in panels for one in panel.series]
    if any(one.exact for one in series):
        handles.append(Line2D([], [], color=INK if len(curves) == 1 else GREY, linewidth=0.9, label="exact"))
    if any(one.failed for one in series):
        handles.append(
            Line2D([], [], color=RED, marker="x", linestyle="none", markersize=8, label="validation failed")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=min(5, len(handles)))


@dataclass(frozen=True)
class Sized:
    """The curve of one lattice.

    Attributes:
        name: of it.
        size: L.
        x: the coupling.
        value: at each.
        error: of it.
    """

    name: str
    size: float
    x: np.ndarray
    value: np.ndarray
    error: np.ndarray


@styled
def critical_point(
    curves: Sequence[Sized],
    quantity: str,
    parameter: str,
    crossed: Sequence[Measurement] = (),
    critical: Measurement | None = None,
    nu: Measurement | None = None,
) -> Figure:
    """Curves of several lattices with the places where they cross, and all of them over a common variable.

    Args:
        curves: one for each lattice.
        quantity: what they are of.
        parameter: the coupling g.
        crossed: where neighbouring ones cross.
        critical: g_c, where it is known.
        nu: ν, likewise; with both a second panel shows the curves over (g − g_c) L^{1/ν}.
    """
    both = critical is not None and nu is not None
    figure = new_figure(WIDTH if both else 4.5, 3.0)
    first, *second = figure.subplots(1, 2 if both else 1, squeeze=False).flatten()
    for one, colour, marker in zip(
        curves, itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), strict=False
    ):
        options = {"color": colour, "marker": marker, "markerfacecolor": "white"}
        first.errorbar(one.x, one.value, one.error, linewidth=0.7, label=one.name, **options)
        for axes in second:
            assert critical is not None
            assert nu is not None
            x = (one.x - critical.value) * one.size ** (1 / nu.value)
            axes.errorbar(x, one.value, one.error, linestyle="none", **options)
    for place in crossed:
        first.axvspan(place.value - place.error, place.value + place.error, color=GREY, alpha=0.18, lw=0)
    if critical is not None:
        first.axvspan(critical.value - critical.error, critical.value + critical.error, color=INK, alpha=0.3)
    label(first, quantity, parameter, "")
    for axes in second:
        label(axes, f"{quantity}, scaled", rf"({parameter} $-$ {parameter}$_\mathrm{{c}}$) $L^{{1/\nu}}$", "")
    figure.legend(loc="outside upper center", ncols=min(6, len(curves)))
    return figure
