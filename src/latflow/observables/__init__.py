"""Observables: what is measured on each configuration, and what is made of the expectation values."""

from latflow.observables.gauge import plaquette, polyakov_loop, topological_charge, wilson_loop
from latflow.observables.recording import RECORDED, recorded
from latflow.observables.scalar import (
    binder_cumulant,
    correlation_length,
    effective_mass,
    lowest_mode,
    magnetization,
    phi_squared,
    susceptibility,
    two_point,
)

__all__ = [
    "RECORDED",
    "binder_cumulant",
    "correlation_length",
    "effective_mass",
    "lowest_mode",
    "magnetization",
    "phi_squared",
    "plaquette",
    "polyakov_loop",
    "recorded",
    "susceptibility",
    "topological_charge",
    "two_point",
    "wilson_loop",
]
