"""Exact results to hold samplers against: closed forms, and sums that converge to any accuracy."""

from latflow.exact.fermions import (
    free_fermion_condensate,
    free_fermion_log_det,
    free_fermion_pion_correlator,
)
from latflow.exact.free_field import (
    free_field_action,
    free_field_log_z,
    free_field_lowest_mode,
    free_field_phi_squared,
    free_field_propagator,
    free_field_two_point,
    free_field_zero_mode,
)
from latflow.exact.ising import (
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
from latflow.exact.ising_information import ising_mutual_information, ising_strip_entropy
from latflow.exact.phi4 import Converged, phi4_log_z, phi4_phi_squared
from latflow.exact.toy import ToyVariance, toy_gradient, toy_kl, toy_variance
from latflow.exact.u1 import u1_charge_distribution, u1_charge_squared, u1_log_z, u1_plaquette

__all__ = [
    "Converged",
    "Enumerated",
    "MagnetizationDistribution",
    "ToyVariance",
    "free_fermion_condensate",
    "free_fermion_log_det",
    "free_fermion_pion_correlator",
    "free_field_action",
    "free_field_log_z",
    "free_field_lowest_mode",
    "free_field_phi_squared",
    "free_field_propagator",
    "free_field_two_point",
    "free_field_zero_mode",
    "ising_energy",
    "ising_entropy",
    "ising_log_z",
    "ising_magnetization",
    "ising_mutual_information",
    "ising_specific_heat",
    "ising_strip_entropy",
    "phi4_log_z",
    "phi4_phi_squared",
    "spin_states",
    "spins_enumerated",
    "toy_gradient",
    "toy_kl",
    "toy_variance",
    "u1_charge_distribution",
    "u1_charge_squared",
    "u1_log_z",
    "u1_plaquette",
]
