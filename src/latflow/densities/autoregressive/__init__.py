"""Autoregressive networks: densities of discrete fields that are drawn exactly, site by site or by blocks."""

from latflow.densities.autoregressive.base import Conditional, Level, SpinNetwork
from latflow.densities.autoregressive.convolution import ConvolutionalConditional
from latflow.densities.autoregressive.dense import DenseConditional
from latflow.densities.autoregressive.hierarchy import NeighbourConditional, divisions
from latflow.densities.autoregressive.information import CutWeights, cut_weights
from latflow.densities.autoregressive.presets import convolutional_spins, dense_spins, hierarchical_spins
from latflow.densities.autoregressive.values import Categories, Signs, Values, values_of
from latflow.densities.files import build_density, load_density, save_density

__all__ = [
    "Categories",
    "Conditional",
    "ConvolutionalConditional",
    "CutWeights",
    "DenseConditional",
    "Level",
    "NeighbourConditional",
    "Signs",
    "SpinNetwork",
    "Values",
    "build_density",
    "convolutional_spins",
    "cut_weights",
    "dense_spins",
    "divisions",
    "hierarchical_spins",
    "load_density",
    "save_density",
    "values_of",
]
