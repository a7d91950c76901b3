"""Multilevel densities: fields that are drawn from the coarsest scale to the finest."""

from latflow.densities.multilevel.angles import AngleConditional
from latflow.densities.multilevel.bonded import BondedMultilevel
from latflow.densities.multilevel.conditionals import (
    Conditional,
    LineConditional,
    SpinConditional,
)
from latflow.densities.multilevel.counted import CountedMultilevel
from latflow.densities.multilevel.density import Multilevel
from latflow.densities.multilevel.geometry import SiteClass, classes, depth
from latflow.densities.multilevel.kinds import conditional_of
from latflow.densities.multilevel.networks import CoupledNetwork, SiteNetwork, WindowNetwork
from latflow.densities.multilevel.presets import multilevel
from latflow.densities.multilevel.spans import Span
from latflow.densities.multilevel.states import StateConditional
from latflow.densities.multilevel.symmetric import AngleNetwork, StateNetwork

__all__ = [
    "AngleConditional",
    "AngleNetwork",
    "BondedMultilevel",
    "Conditional",
    "CountedMultilevel",
    "CoupledNetwork",
    "LineConditional",
    "Multilevel",
    "SiteClass",
    "SiteNetwork",
    "Span",
    "SpinConditional",
    "StateConditional",
    "StateNetwork",
    "WindowNetwork",
    "classes",
    "conditional_of",
    "depth",
    "multilevel",
]
