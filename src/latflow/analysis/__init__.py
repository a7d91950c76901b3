"""Analysis: series of numbers in, measurements with errors out."""

from latflow.analysis.autocorrelation import Autocorrelation, autocorrelation, derive, derive_vector, measure
from latflow.analysis.fits import effective_masses, fitted_correlation_length
from latflow.analysis.measurement import Measurement
from latflow.analysis.summary import LABELS, summary
from latflow.analysis.weights import (
    acceptance,
    effective_sample_size,
    expected_acceptance,
    free_energy,
    largest_weight_share,
    longest_rejection_run,
    pareto_tail_index,
    tau_from_weights,
    variational_free_energy,
)

__all__ = [
    "LABELS",
    "Autocorrelation",
    "Measurement",
    "acceptance",
    "autocorrelation",
    "derive",
    "derive_vector",
    "effective_masses",
    "effective_sample_size",
    "expected_acceptance",
    "fitted_correlation_length",
    "free_energy",
    "largest_weight_share",
    "longest_rejection_run",
    "measure",
    "pareto_tail_index",
    "summary",
    "tau_from_weights",
    "variational_free_energy",
]
