"""U(1) gauge theory in two dimensions."""

from latflow.links import gauge_transformed, plaquette_angles
from latflow.theories.u1.action import LinkTheory, U1Gauge

__all__ = ["LinkTheory", "U1Gauge", "gauge_transformed", "plaquette_angles"]
