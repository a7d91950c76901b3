"""Actions: one theory a file, over `Action`."""

from latflow.actions.base import Action, Scaled, Sum
from latflow.actions.phi4 import HoppingPhi4, Phi4
from latflow.actions.toy import Exponential

__all__ = ["Action", "Exponential", "HoppingPhi4", "Phi4", "Scaled", "Sum"]
