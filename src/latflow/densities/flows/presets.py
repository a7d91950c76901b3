"""Named flows of scalar fields."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, nn

from latflow import registry
from latflow.densities.flows.base import Bijection, Compose, Flow
from latflow.densities.flows.coupling import Coupling, OddMap, Scale, SiteMap
from latflow.densities.flows.fourier import FourierLayer
from latflow.densities.flows.networks import ConvNet, Parities, Z2ConvNet
from latflow.densities.flows.priors import Normal
from latflow.densities.flows.scalar_maps import Affine, RealMap, Spline
from latflow.densities.recipe import constructed, recipe_of
from latflow.lattice import Checkerboard, check_even, checked_lattice, lattice_momentum_squared
from latflow.seeds import seeded
from latflow.types import Count, Lattice, Layers, Positive, Whole


def affine_flow(
    lattice: Sequence[int],
    *,
    layers: Layers = 16,
    hidden: Sequence[Count] = (16, 16, 16),
    kernel: Count | Sequence[Count] = 3,
    dilation: Count | Sequence[Count] = 1,
    activation: str = "leaky_relu",
    final: str = "tanh",
    z2: bool = False,
    fourier: bool = False,
    network: Mapping[str, Any] | None = None,
    extra: Sequence[Mapping[str, Any]] = (),
    generator: Generator | None = None,
) -> Flow:
    """Affine couplings on a checkerboard over normal numbers. The defaults are those of the source.

    Source: Białas, Korcyl, Stebel, Gradient estimators for normalising flows, section 6 and table 1.

    Args:
        lattice: side lengths, all even.
        layers: number of couplings; the colours take turns.
        hidden: channels between the convolutions of each network.
        kernel: side of the kernels, one number or one for each convolution.
        dilation: likewise.
        activation: between the convolutions, a name in `networks.ACTIVATIONS`.
        final: after the last convolution, "tanh" or "none".
        z2: whether the flow commutes with φ → −φ exactly.
        fourier: whether a Fourier layer comes first and carries the two-point function.
        network: recipe of a network of one's own for every coupling, in place of convolutions: `type`, as
            "module:Name" or "file.py:Name", of what has the contract `networks.Network`, and its keys. With
            `z2` it runs twice, which makes its outputs even and odd.
        extra: recipes of bijections of one's own, `type` and keys, which follow after the others in their
            order. Each is a `Bijection` whose constructor is handed `dimensions` and `generator` where it
            asks for them; one that commutes with φ → −φ says so by `symmetries = ("z2",)`.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice without a checkerboard or a network that does not fit together.
    """
    recipe = recipe_of("affine", affine_flow, locals())
    parts = _Parts(lattice, hidden, kernel, dilation, activation, final, z2, network, generator)
    bijections: list[Bijection] = [_free_field(parts.lattice)] if fourier else []
    bijections += parts.couplings(layers, Affine())
    return parts.flow([*bijections, *parts.extra(extra)], recipe)


def spline_flow(
    lattice: Sequence[int],
    *,
    layers: Layers = 4,
    bins: Count = 8,
    bound: Positive = 4.0,
    hidden: Sequence[Count] = (32, 32),
    kernel: Count | Sequence[Count] | None = None,
    dilation: Count | Sequence[Count] = 1,
    activation: str = "silu",
    z2: bool = True,
    fourier: bool = True,
    site_bins: Whole = 16,
    scale: Positive = 1.0,
    network: Mapping[str, Any] | None = None,
    extra: Sequence[Mapping[str, Any]] = (),
    generator: Generator | None = None,
) -> Flow:
    """A free field, rational-quadratic spline couplings on a checkerboard, one spline for all sites, a scale.

    The Fourier layer carries the two-point function, the couplings what is local and not Gaussian, the last
    maps the distribution at a single site; each learns what the others cannot.

    Args:
        lattice: side lengths, all even.
        layers: number of couplings; the colours take turns.
        bins: bins of the coupling splines, at least 2.
        bound: the splines act on [−bound, bound], in standard deviations of a site.
        hidden: channels between the convolutions of each network.
        kernel: side of the kernels, one number or one for each convolution; 5 and then 1, which costs least,
            if None.
        dilation: likewise.
        activation: between the convolutions, a name in `networks.ACTIVATIONS`.
        z2: whether the flow commutes with φ → −φ exactly.
        fourier: whether a Fourier layer comes first.
        site_bins: bins of the map at the end; 0 leaves it out.
        scale: initial standard deviation of the field at a site.
        network: recipe of a network of one's own for every coupling, in place of convolutions: `type`, as
            "module:Name" or "file.py:Name", of what has the contract `networks.Network`, and its keys. With
            `z2` it runs twice, which makes its outputs even and odd.
        extra: recipes of bijections of one's own, `type` and keys, which follow after the others in their
            order. Each is a `Bijection` whose constructor is handed `dimensions` and `generator` where it
            asks for them; one that commutes with φ → −φ says so by `symmetries = ("z2",)`.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice without a checkerboard or a network that does not fit together.
    """
    recipe = recipe_of("spline", spline_flow, locals())
    parts = _Parts(lattice, hidden, kernel, dilation, activation, "none", z2, network, generator)
    bijections: list[Bijection] = [_free_field(parts.lattice)] if fourier else []
    bijections += parts.couplings(layers, Spline(bins, bound))
    if site_bins:
        bijections.append(SiteMap(Spline(site_bins, bound), z2))
    if not scale > 0:
        raise ValueError(f"expected scale > 0, got {scale}")
    bijections.append(Scale(math.log(scale)))
    return parts.flow([*bijections, *parts.extra(extra)], recipe)


class _Parts:
    """Makes one flow and its couplings, whose networks are alike but for their weights."""

    def __init__(
        self,
        lattice: Sequence[int],
        hidden: Sequence[int],
        kernel: int | Sequence[int] | None,
        dilation: int | Sequence[int],
        activation: str,
        final: str,
        z2: bool,
        network: Mapping[str, Any] | None,
        generator: Generator | None,
    ) -> None:
        self.lattice = checked_lattice(lattice)
        check_even(self.lattice)
        self.hidden, self.z2, self.network = tuple(hidden), z2, network
        self.common: dict[str, Any] = {"dimensions": len(self.lattice), "generator": seeded(generator)}
        self.options: dict[str, Any] = {
            "activation": activation,
            "final": final,
            "final_scale": 0.1,  # near the identity, yet with a gradient in every layer
        }
        given = (5, *[1] * len(self.hidden)) if kernel is None else kernel
        self.kernel = given if isinstance(given, int) else tuple(given)
        self.dilation = dilation if isinstance(dilation, int) else tuple(dilation)

    def couplings(self, layers: int, scalar_map: RealMap) -> list[Coupling]:
        if layers < 0:
            raise ValueError(f"expected layers ≥ 0, got {layers}")
        if not self.z2:
            return [Coupling(layer % 2, scalar_map, self.plain(scalar_map)) for layer in range(layers)]
        return [
            Coupling(layer % 2, scalar_map, OddMap(scalar_map, self.symmetric(scalar_map)))
            for layer in range(layers)
        ]

    def plain(self, scalar_map: RealMap) -> nn.Module:
        """A network whose outputs are the parameters of the map."""
        if self.network is not None:
            sizes = {"inputs": 1, "outputs": scalar_map.n_parameters}
            network = _own(self.network, nn.Module, "network", sizes | self.common)
            _check_network(network, self.lattice, scalar_map.n_parameters)
            return network
        sizes = (1, *self.hidden, scalar_map.n_parameters)
        return ConvNet(sizes, self.kernel, dilation=self.dilation, **self.options, **self.common)

    def symmetric(self, scalar_map: RealMap) -> nn.Module:
        """A network with even and odd outputs, of which the map makes its parameters."""
        if self.network is not None:
            return Parities(self.plain(scalar_map), scalar_map.n_even)
        kernel, dilation = self.kernel, self.dilation
        if not isinstance(kernel, int):
            *kernel, last = kernel
            if last != 1:
                raise ValueError(
                    f"the outputs of a Z2 network have kernel 1, got {last} ending {self.kernel}"
                )
        if not isinstance(dilation, int):
            dilation = dilation[:-1]  # that of the outputs, which reach no neighbour
        outputs = {"even": scalar_map.n_even, "odd": scalar_map.n_odd}
        options = self.options | self.common
        return Z2ConvNet((1, *self.hidden), kernel=kernel, dilation=dilation, **outputs, **options)

    def extra(self, recipes: Sequence[Mapping[str, Any]]) -> list[Bijection]:
        """The bijections of one's own."""
        own = [_own(recipe, Bijection, "bijection", self.common) for recipe in recipes]
        self.z2 = self.z2 and all("z2" in getattr(bijection, "symmetries", ()) for bijection in own)
        return own

    def flow(self, bijections: list[Bijection], recipe: dict[str, Any]) -> Flow:
        return Flow(Normal(self.lattice), Compose(*bijections), recipe, ("z2",) if self.z2 else ())


@torch.no_grad()
def _check_network(network: nn.Module, lattice: Lattice, outputs: int) -> None:
    """Refuse a network of one's own whose result has another shape than a coupling needs."""
    active, dimensions = Checkerboard(0), len(lattice)
    found = network(torch.zeros(1, 1, *lattice), lambda h: active.active(h, dimensions))
    expected = (1, outputs, math.prod(lattice) // 2)
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != expected:
        raise ValueError(
            f"expected {type(network).__name__} to give (batch, outputs, active) = {expected} for one field, "
            f"got {shape}"
        )


def _own(recipe: Mapping[str, Any], kind: type, what: str, supplied: dict[str, Any]) -> Any:
    """A part of one's own by its recipe.

    Raises:
        ConfigError: when there is no such module, file or name.
        ValueError: for a recipe without type, and what is no such part.
    """
    keys = dict(recipe)
    name = keys.pop("type", None)
    if not isinstance(name, str) or ":" not in name:
        raise ValueError(
            f"expected a {what} of one's own, its type as my_file.py:Name or my_module:Name, got {name!r}"
        )
    maker = registry.load("networks" if kind is nn.Module else "bijections", name)
    part = constructed(maker, keys, supplied)
    if not isinstance(part, kind):
        raise ValueError(f"expected {name} to make a {kind.__name__}, got {type(part).__name__}")
    return part


def _free_field(lattice: Lattice, mass: float = 1.0, exponent: float = 0.5) -> FourierLayer:
    """A Fourier layer that starts between white noise and a free field, with unit variance at each site."""
    variance = (lattice_momentum_squared(lattice) + mass**2).pow(-exponent).mean().item()
    return FourierLayer(mass, exponent, log_scale=-0.5 * math.log(variance))
