"""The XY model."""

from latflow.theories.xy.action import XY, xy_of

__all__ = ["XY", "xy_of"]
