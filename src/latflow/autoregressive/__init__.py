"""Autoregressive networks: densities of spins that are drawn exactly, site by site or block by block."""

from latflow.autoregressive.base import Conditional, Level, SpinNetwork
from latflow.autoregressive.convolution import ConvolutionalConditional
from latflow.autoregressive.dense import DenseConditional
from latflow.autoregressive.files import (
    DENSITIES,
    NamedDensity,
    build_density,
    load_density,
    save_density,
)
from latflow.autoregressive.hierarchy import NeighbourConditional, divisions
from latflow.autoregressive.information import CutWeights, cut_weights
from latflow.autoregressive.presets import BUILDERS, convolutional_spins, dense_spins, hierarchical_spins

__all__ = [
    "BUILDERS",
    "DENSITIES",
    "Conditional",
    "ConvolutionalConditional",
    "CutWeights",
    "DenseConditional",
    "Level",
    "NamedDensity",
    "NeighbourConditional",
    "SpinNetwork",
    "build_density",
    "convolutional_spins",
    "cut_weights",
    "dense_spins",
    "divisions",
    "hierarchical_spins",
    "load_density",
    "save_density",
]
