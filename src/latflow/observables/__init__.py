"""Observables: what is measured on each configuration, and what is made of the expectation values."""

from latflow.observables.fermions import chiral_condensate, determinant_sign, pion_correlator
from latflow.observables.gauge import (
    closed_loop,
    plaquette,
    polyakov_loop,
    topological_charge,
    wilson_loop,
)
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
from latflow.observables.spins import bond_energy, entropy, specific_heat

__all__ = [
    "RECORDED",
    "binder_cumulant",
    "bond_energy",
    "chiral_condensate",
    "closed_loop",
    "correlation_length",
    "determinant_sign",
    "effective_mass",
    "entropy",
    "lowest_mode",
    "magnetization",
    "phi_squared",
    "pion_correlator",
    "plaquette",
    "polyakov_loop",
    "recorded",
    "specific_heat",
    "susceptibility",
    "topological_charge",
    "two_point",
    "wilson_loop",
]
