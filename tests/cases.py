"""The registry of bijections, which the property tests of test_flows.py sweep with perturbed weights.

Each case builds a bijection for a number of dimensions. A new bijection is one line here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch
from torch import Generator, Tensor, nn

from latflow.densities.flows import (
    Affine,
    Bijection,
    Compose,
    ConvNet,
    Coupling,
    FourierLayer,
    Inverse,
    OddMap,
    OnSublattices,
    Parities,
    RealMap,
    Scale,
    SiteMap,
    Spline,
    Z2ConvNet,
    affine_flow,
    minimal_flow,
    spline_flow,
)
from latflow.estimators import ESTIMATORS

GENERAL_ESTIMATORS = {name: one for name, one in ESTIMATORS.items() if not one.stateful}
"""Those that take any density; what keeps chains of its own asks for single sites."""

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """A bijection by name.

    Attributes:
        name: of the test.
        build: number of dimensions to a bijection with its initial weights.
        z2: whether it claims to commute with φ → −φ.
        exact_z2: whether it does so to the last bit.
        any_side: whether it takes odd sides too.
    """

    name: str
    build: Callable[[int], Bijection]
    z2: bool = False
    exact_z2: bool = False
    any_side: bool = False

    def perturbed(self, dimensions: int, size: float = 0.15) -> Bijection:
        """With weights far from the initial ones, which are often those of the identity; float64."""
        return perturbed(self.build(dimensions).double(), size)


def perturbed(module: Module, size: float = 0.15) -> Module:
    """The module with noise added to every parameter."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
    return module


def thinned(values: Iterable[Any], n: int) -> list[Any]:
    """Of many values of a parameter every n-th for the ordinary tests, the others for the slow ones."""
    return [one if i % n == 0 else pytest.param(one, marks=pytest.mark.slow) for i, one in enumerate(values)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=dtype)


def plain_coupling(dimensions: int, scalar_map: RealMap, parity: int) -> Coupling:
    """A coupling whose network has no symmetry."""
    generator = Generator().manual_seed(1)
    sizes = (1, 4, scalar_map.n_parameters)
    return Coupling(parity, scalar_map, ConvNet(sizes, (3, 1), dimensions=dimensions, generator=generator))


def z2_coupling(dimensions: int, scalar_map: RealMap, parity: int) -> Coupling:
    """A coupling that commutes with φ → −φ."""
    generator = Generator().manual_seed(1)
    even, odd = scalar_map.n_even, scalar_map.n_odd
    network = Z2ConvNet((1, 4), even, odd, dimensions=dimensions, activation="silu", generator=generator)
    return Coupling(parity, scalar_map, OddMap(scalar_map, network))


def preset(build: Callable, **options) -> Callable[[int], Bijection]:
    """The bijection of a named flow."""
    return lambda dimensions: build((2,) * dimensions, hidden=(4,), **options).bijection


def own_network(dimensions: int, scalar_map: RealMap, parity: int) -> Coupling:
    """A coupling that is made to commute with φ → −φ, whatever the network."""
    generator = Generator().manual_seed(1)
    sizes = (1, 4, scalar_map.n_parameters)
    network = ConvNet(sizes, (3, 1), dimensions=dimensions, generator=generator)
    return Coupling(parity, scalar_map, OddMap(scalar_map, Parities(network, scalar_map.n_even)))


CASES = [
    Case("nothing", lambda _: Compose(), z2=True, exact_z2=True, any_side=True),
    Case("scale", lambda _: Scale(0.2), z2=True, exact_z2=True, any_side=True),
    Case("fourier", lambda _: FourierLayer(0.8), z2=True, exact_z2=True, any_side=True),
    Case("site affine", lambda _: SiteMap(Affine(), z2=False), any_side=True),
    Case("site affine z2", lambda _: SiteMap(Affine()), z2=True, exact_z2=True, any_side=True),
    Case("site spline", lambda _: SiteMap(Spline(5, 2.0), z2=False), any_side=True),
    Case("site spline z2", lambda _: SiteMap(Spline(6, 2.0)), z2=True, any_side=True),
    Case("affine coupling", lambda d: plain_coupling(d, Affine(), 0)),
    Case("affine coupling z2", lambda d: z2_coupling(d, Affine(), 1), z2=True, exact_z2=True),
    Case("spline coupling", lambda d: plain_coupling(d, Spline(4, 2.5), 1)),
    Case("spline coupling z2, even bins", lambda d: z2_coupling(d, Spline(4, 2.5), 0), z2=True),
    Case("spline coupling z2, odd bins", lambda d: z2_coupling(d, Spline(5, 2.5), 1), z2=True),
    Case("affine coupling made odd", lambda d: own_network(d, Affine(), 1), z2=True, exact_z2=True),
    Case("spline coupling made odd", lambda d: own_network(d, Spline(5, 2.5), 0), z2=True),
    Case("inverse", lambda d: Inverse(z2_coupling(d, Spline(4, 2.5), 0)), z2=True),
    Case(
        "inverse composed",
        lambda d: Inverse(Compose(FourierLayer(), plain_coupling(d, Affine(), 1), Scale(-0.1))),
    ),
    Case(
        "composition",
        lambda d: Compose(plain_coupling(d, Affine(), 0), Compose(SiteMap(Spline(4))), Scale(0.1)),
    ),
    Case("on sublattices", lambda _: OnSublattices(FourierLayer(0.8)), z2=True, exact_z2=True),
    Case(
        "couplings over sublattices",
        lambda d: Compose(OnSublattices(SiteMap(Spline(5, 2.0), z2=False)), plain_coupling(d, Affine(), 0)),
    ),
    Case("minimal flow", lambda d: minimal_flow((2,) * d, layers=3).bijection, z2=True, exact_z2=True),
    Case("affine flow", preset(affine_flow, layers=3)),
    Case("affine flow z2", preset(affine_flow, layers=3, z2=True, fourier=True), z2=True, exact_z2=True),
    Case("spline flow", preset(spline_flow, layers=2, kernel=(3, 1), scale=0.6), z2=True),
    Case("spline flow, no symmetry", preset(spline_flow, layers=2, kernel=(3, 1), z2=False, fourier=False)),
]
