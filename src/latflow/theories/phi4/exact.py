"""Exact results of scalar fields: the free field, and φ⁴ on narrow lattices by its transfer matrix."""

from latflow.theories.phi4.free_field import (
    free_field_action,
    free_field_log_z,
    free_field_lowest_mode,
    free_field_phi_squared,
    free_field_propagator,
    free_field_two_point,
    free_field_zero_mode,
)
from latflow.theories.phi4.solution import Converged, phi4_log_z, phi4_phi_squared

__all__ = [
    "Converged",
    "free_field_action",
    "free_field_log_z",
    "free_field_lowest_mode",
    "free_field_phi_squared",
    "free_field_propagator",
    "free_field_two_point",
    "free_field_zero_mode",
    "phi4_log_z",
    "phi4_phi_squared",
]
