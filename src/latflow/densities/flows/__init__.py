"""Normalizing flows: bijections, the densities they make of a prior, and named presets."""

from latflow.densities.files import build_density as build_flow
from latflow.densities.files import load_density as load_flow
from latflow.densities.files import save_density as save_flow
from latflow.densities.flows.base import Bijection, Compose, Flow, Inverse
from latflow.densities.flows.circular_maps import CircularMap, CircularSpline, ProjectionMixture
from latflow.densities.flows.continuous import (
    ContinuousFlow,
    HolonomyMap,
    KernelField,
    OnPlaquettes,
    PlaquetteField,
    VectorField,
    continuous_flow,
    continuous_gauge_flow,
)
from latflow.densities.flows.coupling import Coupling, CouplingLayer, OddMap, Scale, SiteMap
from latflow.densities.flows.fourier import FourierLayer
from latflow.densities.flows.gauge import GaugeCoupling
from latflow.densities.flows.gauge_presets import gauge_flow
from latflow.densities.flows.interpolation import (
    EverySecondSite,
    Interleaved,
    OnSublattices,
    TheoryPrior,
    interleave,
    refined,
    separate,
)
from latflow.densities.flows.link_patterns import LinkPattern
from latflow.densities.flows.link_priors import QuenchedLinks, UniformLinks
from latflow.densities.flows.minimal import MinimalNetwork, kernel_for, minimal_flow
from latflow.densities.flows.networks import ConvNet, Network, Parities, Z2ConvNet
from latflow.densities.flows.presets import affine_flow, spline_flow
from latflow.densities.flows.priors import Normal, Prior
from latflow.densities.flows.pullback import Pullback
from latflow.densities.flows.scalar_maps import Affine, RealMap, ScalarMap, Spline
from latflow.densities.flows.sector_links import SectorLinks

__all__ = [
    "Affine",
    "Bijection",
    "CircularMap",
    "CircularSpline",
    "Compose",
    "ContinuousFlow",
    "ConvNet",
    "Coupling",
    "CouplingLayer",
    "EverySecondSite",
    "Flow",
    "FourierLayer",
    "GaugeCoupling",
    "HolonomyMap",
    "Interleaved",
    "Inverse",
    "KernelField",
    "LinkPattern",
    "MinimalNetwork",
    "Network",
    "Normal",
    "OddMap",
    "OnPlaquettes",
    "OnSublattices",
    "Parities",
    "PlaquetteField",
    "Prior",
    "ProjectionMixture",
    "Pullback",
    "QuenchedLinks",
    "RealMap",
    "ScalarMap",
    "Scale",
    "SectorLinks",
    "SiteMap",
    "Spline",
    "TheoryPrior",
    "UniformLinks",
    "VectorField",
    "Z2ConvNet",
    "affine_flow",
    "build_flow",
    "continuous_flow",
    "continuous_gauge_flow",
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
