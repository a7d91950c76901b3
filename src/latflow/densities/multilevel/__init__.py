"""Multilevel densities: fields that are drawn from the coarsest scale to the finest."""

from latflow.densities.multilevel.conditionals import (
    Conditional,
    LineConditional,
    SpinConditional,
    conditional_of,
)
from latflow.densities.multilevel.counted import CountedMultilevel
from latflow.densities.multilevel.density import Multilevel
from latflow.densities.multilevel.geometry import SiteClass, classes, depth
from latflow.densities.multilevel.networks import CoupledNetwork, WindowNetwork
from latflow.densities.multilevel.presets import multilevel
from latflow.densities.multilevel.spans import Span

__all__ = [
    "Conditional",
    "CountedMultilevel",
    "CoupledNetwork",
    "LineConditional",
    "Multilevel",
    "SiteClass",
    "Span",
    "SpinConditional",
    "WindowNetwork",
    "classes",
    "conditional_of",
    "depth",
    "multilevel",
]
