"""The Potts model."""

from latflow.theories.potts.action import Potts, potts_of

__all__ = ["Potts", "potts_of"]
