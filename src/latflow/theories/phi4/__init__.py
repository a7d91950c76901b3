"""Scalar φ⁴ theory, in two parametrisations."""

from latflow.theories.phi4.action import HoppingPhi4, Phi4

__all__ = ["HoppingPhi4", "Phi4"]
