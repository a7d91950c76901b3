"""The Wilson operator D of two-dimensional fermions in a U(1) gauge field, and its determinant."""

from latflow.wilson.determinant import dense_log_abs_det, log_abs_det
from latflow.wilson.operator import Boundary, apply, dense, hops

__all__ = ["Boundary", "apply", "dense", "dense_log_abs_det", "hops", "log_abs_det"]
