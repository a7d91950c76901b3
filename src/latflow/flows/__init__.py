"""Normalizing flows: bijections, the densities they make of a prior, and named presets."""

from latflow.flows.base import Bijection, Compose, Flow, Inverse
from latflow.flows.coupling import Coupling, Scale, SiteMap
from latflow.flows.fourier import FourierLayer
from latflow.flows.networks import ConvNet, Z2ConvNet
from latflow.flows.presets import BUILDERS, affine_flow, build_flow, load_flow, save_flow, spline_flow
from latflow.flows.priors import Normal, Prior, UniformAngles
from latflow.flows.scalar_maps import Affine, ScalarMap, Spline

__all__ = [
    "BUILDERS",
    "Affine",
    "Bijection",
    "Compose",
    "ConvNet",
    "Coupling",
    "Flow",
    "FourierLayer",
    "Inverse",
    "Normal",
    "Prior",
    "ScalarMap",
    "Scale",
    "SiteMap",
    "Spline",
    "UniformAngles",
    "Z2ConvNet",
    "affine_flow",
    "build_flow",
    "load_flow",
    "save_flow",
    "spline_flow",
]
