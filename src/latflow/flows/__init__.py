"""Normalizing flows: bijections, the densities they make of a prior, and named presets."""

from latflow.flows.base import Bijection, Compose, Flow, Inverse
from latflow.flows.circular_maps import CircularMap, CircularSpline, ProjectionMixture
from latflow.flows.coupling import Coupling, Scale, SiteMap
from latflow.flows.files import BUILDERS, build_flow, load_flow, save_flow
from latflow.flows.fourier import FourierLayer
from latflow.flows.gauge import GaugeCoupling
from latflow.flows.gauge_presets import gauge_flow
from latflow.flows.interpolation import (
    ChainPrior,
    EverySecondSite,
    Interleaved,
    OnSublattices,
    interleave,
    refined,
    separate,
)
from latflow.flows.link_patterns import LinkPattern
from latflow.flows.link_priors import QuenchedLinks, UniformLinks
from latflow.flows.minimal import MinimalNetwork, kernel_for, minimal_flow
from latflow.flows.networks import ConvNet, Z2ConvNet
from latflow.flows.presets import affine_flow, spline_flow
from latflow.flows.priors import Normal, Prior
from latflow.flows.pullback import Pullback
from latflow.flows.scalar_maps import Affine, RealMap, ScalarMap, Spline

__all__ = [
    "BUILDERS",
    "Affine",
    "Bijection",
    "ChainPrior",
    "CircularMap",
    "CircularSpline",
    "Compose",
    "ConvNet",
    "Coupling",
    "EverySecondSite",
    "Flow",
    "FourierLayer",
    "GaugeCoupling",
    "Interleaved",
    "Inverse",
    "LinkPattern",
    "MinimalNetwork",
    "Normal",
    "OnSublattices",
    "Prior",
    "ProjectionMixture",
    "Pullback",
    "QuenchedLinks",
    "RealMap",
    "ScalarMap",
    "Scale",
    "SiteMap",
    "Spline",
    "UniformLinks",
    "Z2ConvNet",
    "affine_flow",
    "build_flow",
    "gauge_flow",
    "interleave",
    "kernel_for",
    "load_flow",
    "minimal_flow",
    "refined",
    "save_flow",
    "separate",
    "spline_flow",
]
