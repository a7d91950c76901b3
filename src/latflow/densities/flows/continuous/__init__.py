"""Flows that follow a differential equation, with exact divergences and kernels of the whole lattice."""

from latflow.densities.flows.continuous.flow import ContinuousFlow, VectorField
from latflow.densities.flows.continuous.links import HolonomyMap, OnPlaquettes
from latflow.densities.flows.continuous.plaquettes import PlaquetteField
from latflow.densities.flows.continuous.presets import continuous_flow, continuous_gauge_flow
from latflow.densities.flows.continuous.scalar import KernelField

__all__ = [
    "ContinuousFlow",
    "HolonomyMap",
    "KernelField",
    "OnPlaquettes",
    "PlaquetteField",
    "VectorField",
    "continuous_flow",
    "continuous_gauge_flow",
]
