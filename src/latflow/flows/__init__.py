"""Normalizing flows: bijections, the densities they make of a prior, and named presets."""

from latflow.flows.base import Bijection, Compose, Flow, Inverse
from latflow.flows.circular_maps import CircularMap, CircularSpline, ProjectionMixture
from latflow.flows.coupling import Coupling, Scale, SiteMap
from latflow.flows.files import BUILDERS, build_flow, load_flow, save_flow
from latflow.flows.fourier import FourierLayer
from latflow.flows.gauge import GaugeCoupling
from latflow.flows.gauge_presets import gauge_flow
from latflow.flows.link_patterns import LinkPattern
from latflow.flows.networks import ConvNet, Z2ConvNet
from latflow.flows.presets import affine_flow, spline_flow
from latflow.flows.priors import Normal, Prior, UniformLinks
from latflow.flows.scalar_maps import Affine, RealMap, ScalarMap, Spline

__all__ = [
    "BUILDERS",
    "Affine",
    "Bijection",
    "CircularMap",
    "CircularSpline",
    "Compose",
    "ConvNet",
    "Coupling",
    "Flow",
    "FourierLayer",
    "GaugeCoupling",
    "Inverse",
    "LinkPattern",
    "Normal",
    "Prior",
    "ProjectionMixture",
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
    "load_flow",
    "save_flow",
    "spline_flow",
]
