"""Ensembles: configurations in files, made here or elsewhere, read with care and written with a side-car."""

from latflow.ensembles.files import Stored, stored_arrays
from latflow.ensembles.reading import Ensemble, chosen, fitted, read_ensemble
from latflow.ensembles.sidecar import SideCar, side_car_of
from latflow.ensembles.writing import write_ensemble

__all__ = [
    "Ensemble",
    "SideCar",
    "Stored",
    "chosen",
    "fitted",
    "read_ensemble",
    "side_car_of",
    "stored_arrays",
    "write_ensemble",
]
