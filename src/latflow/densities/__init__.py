"""Densities: what is trained towards exp(−S), and what samplers and weights ask of it.

Flows are in `latflow.densities.flows`, autoregressive networks in `latflow.densities.autoregressive`.
"""

from latflow.densities.base import Density, FixedDrawDensity, WeightedSampler, draws, log_weight
from latflow.densities.files import (
    build_density,
    contents_of,
    density_in,
    load_density,
    load_weights,
    save_density,
)

__all__ = [
    "Density",
    "FixedDrawDensity",
    "WeightedSampler",
    "build_density",
    "contents_of",
    "density_in",
    "draws",
    "load_density",
    "load_weights",
    "log_weight",
    "save_density",
]
