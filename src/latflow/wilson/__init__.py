"""The Wilson operator D of two-dimensional fermions in a U(1) gauge field, and its determinant."""

from latflow.wilson.determinant import (
    DeterminantAndCondensate,
    dense_log_abs_det,
    determinant_and_condensate,
    log_abs_det,
)
from latflow.wilson.holonomies import holonomy_determinants, interpolated
from latflow.wilson.noise import solve, stochastic_condensate
from latflow.wilson.operator import Boundary, apply, dense, hops
from latflow.wilson.propagator import slice_norms, slice_propagator, slice_traces
from latflow.wilson.spectrum import hermitian_spectrum, spectrum

__all__ = [
    "Boundary",
    "DeterminantAndCondensate",
    "apply",
    "dense",
    "dense_log_abs_det",
    "determinant_and_condensate",
    "hermitian_spectrum",
    "holonomy_determinants",
    "hops",
    "interpolated",
    "log_abs_det",
    "slice_norms",
    "slice_propagator",
    "slice_traces",
    "solve",
    "spectrum",
    "stochastic_condensate",
]
