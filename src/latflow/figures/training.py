"""The figure of a training: plain records in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from latflow.figures.style import (
    BLUE,
    GREY,
    INK,
    WIDTH,
    envelope,
    label,
    legend_below,
    new_figure,
    running_mean,
    styled,
)


@styled
def training_history(
    history: Sequence[Mapping[str, Any]], exact_free_energy: float | None = None, preliminary: int = 0
) -> Figure:
    """ESS and F_q of each training step, against the step and against the wall time.

    Args:
        history: records with "step", "seconds", "ess", "f_q".
        exact_free_energy: F = −log Z, drawn as a line where it is known.
        preliminary: how many of the first steps were made for another action or lattice; they are shaded.

    Raises:
        ValueError: when there is no record.
    """
    if not history:
        raise ValueError("expected at least one training record, got none")
    step, seconds, ess, f_q = (
        np.array([record[name] for record in history], dtype=np.float64)
        for name in ("step", "seconds", "ess", "f_q")
    )
    unit, scale = next(
        (u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if seconds[-1] >= 3 * s or s == 1
    )
    window = max(1, min(len(step) // 25, 500))
    figure = new_figure(WIDTH, 4.6)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, time in zip(panels.T, (step, seconds / scale), strict=True):
        for axes, values in zip(column, (ess, f_q), strict=True):
            axes.plot(*envelope(time, values), color=BLUE, alpha=0.25, linewidth=0.5, rasterized=True)
            axes.plot(time, running_mean(values, window), color=BLUE, label=f"mean of {window} steps")
        if exact_free_energy is not None:
            column[1].axhline(exact_free_energy, color=INK, linestyle="--", linewidth=1, label=r"$F=-\log Z$")
        column[0].set_ylim(0, 1)
        if preliminary:
            for axes in column:
                axes.axvspan(
                    time[0], time[min(preliminary, len(time)) - 1], color=GREY, alpha=0.12, linewidth=0
                )
    panels[1, 0].set_ylim(
        *_settled_range(f_q[preliminary:] if preliminary < len(f_q) else f_q, exact_free_energy)
    )
    label(panels[0, 0], "Effective sample size", "", "ESS")
    label(panels[0, 1], "… against wall time", "", "")
    label(panels[1, 0], "Variational free energy", "training step", r"$F_q$")
    label(panels[1, 1], "… against wall time", f"wall time [{unit}]", "")
    legend_below(figure)
    return figure


def _settled_range(f_q: np.ndarray, exact: float | None) -> tuple[float, float]:
    """Limits in which the training is seen to settle; the fall of its first fifth may lie above them."""
    finite = f_q[np.isfinite(f_q)]
    if not len(finite):
        return 0.0, 1.0
    settling = f_q[len(f_q) // 5 :]
    settling = settling[np.isfinite(settling)] if np.isfinite(settling).any() else finite
    low, high = np.quantile(settling, [0.002, 0.998])
    low = min(float(low), exact if exact is not None else math.inf)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, float(high) + margin
