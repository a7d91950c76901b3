"""Actions: one theory a file, over `Action`."""

from latflow.actions.base import Action, Scaled, Sum
from latflow.actions.fermions import Schwinger, WilsonFermions, fermions_of
from latflow.actions.ising import Ising, ising_of
from latflow.actions.phi4 import HoppingPhi4, Phi4
from latflow.actions.toy import Exponential
from latflow.actions.u1 import U1Gauge, gauge_transformed, plaquette_angles

__all__ = [
    "Action",
    "Exponential",
    "HoppingPhi4",
    "Ising",
    "Phi4",
    "Scaled",
    "Schwinger",
    "Sum",
    "U1Gauge",
    "WilsonFermions",
    "fermions_of",
    "gauge_transformed",
    "ising_of",
    "plaquette_angles",
]
