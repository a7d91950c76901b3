"""The Ising model."""

from latflow.theories.ising.action import Ising, ising_of

__all__ = ["Ising", "ising_of"]
