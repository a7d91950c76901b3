"""Analysis: series of numbers in, measurements with errors out."""

from latflow.analysis.autocorrelation import Autocorrelation, autocorrelation, derive, derive_vector, measure
from latflow.analysis.chains import acceptance, longest_rejection_run, thermalisation_time
from latflow.analysis.collapse import Collapse, collapse
from latflow.analysis.cost import Need, break_even, least_ess, needed, price, product, total
from latflow.analysis.fits import effective_masses, fitted_correlation_length
from latflow.analysis.fluctuations import Fluctuating, fluctuations
from latflow.analysis.information import mutual_information, part_entropy
from latflow.analysis.pooling import Average, crossing, pooled
from latflow.analysis.scaling import Crossing, Curve, crossings
from latflow.analysis.summary import Sample, average_of, summary
from latflow.analysis.theta import AtTheta, at_theta
from latflow.analysis.topology import charge_displacement, tunnelling_rate
from latflow.analysis.weights import (
    draws_behind_errors,
    effective_sample_size,
    entropy,
    expected_acceptance,
    free_energy,
    largest_weight_share,
    pareto_tail_index,
    reweighted_share,
    scaled_weight,
    tau_from_weights,
    variational_free_energy,
)
from latflow.measurement import Measurement

__all__ = [
    "AtTheta",
    "Autocorrelation",
    "Average",
    "Collapse",
    "Crossing",
    "Curve",
    "Fluctuating",
    "Measurement",
    "Need",
    "Sample",
    "acceptance",
    "at_theta",
    "autocorrelation",
    "average_of",
    "break_even",
    "charge_displacement",
    "collapse",
    "crossing",
    "crossings",
    "derive",
    "derive_vector",
    "draws_behind_errors",
    "effective_masses",
    "effective_sample_size",
    "entropy",
    "expected_acceptance",
    "fitted_correlation_length",
    "fluctuations",
    "free_energy",
    "largest_weight_share",
    "least_ess",
    "longest_rejection_run",
    "measure",
    "mutual_information",
    "needed",
    "pareto_tail_index",
    "part_entropy",
    "pooled",
    "price",
    "product",
    "reweighted_share",
    "scaled_weight",
    "summary",
    "tau_from_weights",
    "thermalisation_time",
    "total",
    "tunnelling_rate",
    "variational_free_energy",
]
