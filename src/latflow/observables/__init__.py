"""Observables: functions of each configuration, records of what is measured, and formulas of averages."""

from latflow.formulas import (
    binder_cumulant,
    correlation_length,
    effective_mass,
    entropy,
    specific_heat,
    susceptibility,
)
from latflow.observables.base import Observable, Observe, Sectors, observing
from latflow.observables.fermions import (
    chiral_condensate,
    determinant_sign,
    pion_correlator,
    pion_correlators,
    singlet_correlator,
    singlet_of,
)
from latflow.observables.gauge import (
    closed_loop,
    plaquette,
    polyakov_loop,
    sine_charge,
    topological_charge,
    wilson_loop,
    wilson_loops,
)
from latflow.observables.recording import recorded
from latflow.observables.scalar import lowest_mode, magnetization, phi_squared, two_point
from latflow.observables.spins import bond_energy

__all__ = [
    "Observable",
    "Observe",
    "Sectors",
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
    "observing",
    "phi_squared",
    "pion_correlator",
    "pion_correlators",
    "plaquette",
    "polyakov_loop",
    "recorded",
    "sine_charge",
    "singlet_correlator",
    "singlet_of",
    "specific_heat",
    "susceptibility",
    "topological_charge",
    "two_point",
    "wilson_loop",
    "wilson_loops",
]
