"""Kinds of field: what a configuration is, how it moves, and what is observed of it."""

from latflow.fields.base import FieldKind, Manifold, Picture, Transformation
from latflow.fields.gauge import LINKS, Angles, LinkAngles
from latflow.fields.scalar import SCALAR, Scalar
from latflow.fields.spins import SPINS, Signs

__all__ = [
    "LINKS",
    "SCALAR",
    "SPINS",
    "Angles",
    "FieldKind",
    "LinkAngles",
    "Manifold",
    "Picture",
    "Scalar",
    "Signs",
    "Transformation",
]
