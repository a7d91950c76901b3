"""Exact results of the Potts model: its critical point, rings and narrow tori, sums over small lattices."""

from latflow.theories.potts.enumeration import EnumeratedStates, potts_enumerated, potts_states
from latflow.theories.potts.order import order_cumulant
from latflow.theories.potts.solution import (
    PottsThermodynamics,
    potts_critical_coupling,
    potts_critical_energy,
    potts_ring,
    potts_ring_two_point,
)
from latflow.theories.potts.transfer import potts_torus

__all__ = [
    "EnumeratedStates",
    "PottsThermodynamics",
    "order_cumulant",
    "potts_critical_coupling",
    "potts_critical_energy",
    "potts_enumerated",
    "potts_ring",
    "potts_ring_two_point",
    "potts_states",
    "potts_torus",
]
