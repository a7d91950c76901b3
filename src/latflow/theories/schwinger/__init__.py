"""Dynamical Wilson fermions in a two-dimensional U(1) gauge field: the Schwinger model."""

from latflow.theories.schwinger.action import Schwinger, WilsonFermions, fermions_of

__all__ = ["Schwinger", "WilsonFermions", "fermions_of"]
