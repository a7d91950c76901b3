"""Exact results of the Ising model: Kaufman's solution, the transfer matrix, sums over small lattices."""

from latflow.theories.ising.information import ising_mutual_information, ising_strip_entropy
from latflow.theories.ising.rows import ByRows, ising_by_rows
from latflow.theories.ising.solution import (
    Enumerated,
    MagnetizationDistribution,
    ising_energy,
    ising_entropy,
    ising_log_z,
    ising_magnetization,
    ising_specific_heat,
    spin_states,
    spins_enumerated,
)

__all__ = [
    "ByRows",
    "Enumerated",
    "MagnetizationDistribution",
    "ising_by_rows",
    "ising_energy",
    "ising_entropy",
    "ising_log_z",
    "ising_magnetization",
    "ising_mutual_information",
    "ising_specific_heat",
    "ising_strip_entropy",
    "spin_states",
    "spins_enumerated",
]
