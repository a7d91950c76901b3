"""The report of a run: figures, tables, and one HTML page that holds them all."""

from latflow.report.field_figures import configurations, magnetization_histogram, two_point_function
from latflow.report.figures import (
    autocorrelation_function,
    chain_history,
    log_weight_histogram,
    rejection_runs,
    training_history,
)
from latflow.report.gauge_figures import (
    charge_distribution,
    charge_history,
    plaquette_angles_images,
    plaquette_histogram,
    sector_weights,
)
from latflow.report.page import write_report
from latflow.report.style import STYLE, save

__all__ = [
    "STYLE",
    "autocorrelation_function",
    "chain_history",
    "charge_distribution",
    "charge_history",
    "configurations",
    "log_weight_histogram",
    "magnetization_histogram",
    "plaquette_angles_images",
    "plaquette_histogram",
    "rejection_runs",
    "save",
    "sector_weights",
    "training_history",
    "two_point_function",
    "write_report",
]
