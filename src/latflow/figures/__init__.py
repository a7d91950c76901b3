"""Figures of plain arrays and measurements, as the report and the experiments of the papers draw them.

None of them touches the state of matplotlib, so they serve in notebooks too. All units are lattice units.
"""

from latflow.figures.chains import autocorrelation_function, chain_history, rejection_runs, sector_history
from latflow.figures.correlators import two_point_function
from latflow.figures.distributions import histogram, probabilities
from latflow.figures.fields import configurations
from latflow.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LOOKS,
    ORANGE,
    RED,
    STYLE,
    WIDTH,
    Look,
    Source,
    envelope,
    label,
    look_of,
    new_figure,
    running_mean,
    save,
    styled,
)
from latflow.figures.training import training_history
from latflow.figures.weights import log_weight_histogram, sector_weights

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LOOKS",
    "ORANGE",
    "RED",
    "STYLE",
    "WIDTH",
    "Look",
    "Source",
    "autocorrelation_function",
    "chain_history",
    "configurations",
    "envelope",
    "histogram",
    "label",
    "log_weight_histogram",
    "look_of",
    "new_figure",
    "probabilities",
    "rejection_runs",
    "running_mean",
    "save",
    "sector_history",
    "sector_weights",
    "styled",
    "training_history",
    "two_point_function",
]
