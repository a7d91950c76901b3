"""Observables: what is measured on each configuration, and what is made of the expectation values."""

from latflow.observables.fermions import chiral_condensate, determinant_sign, pion_correlator
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
    "chiral_condensate",
    "correlation_length",
    "determinant_sign",
    "effective_mass",
    "lowest_mode",
    "magnetization",
    "phi_squared",
    "pion_correlator",
    "plaquette",
    "polyakov_loop",
    "recorded",
    "susceptibility",
    "topological_charge",
    "two_point",
    "wilson_loop",
]
