"""The named flow of gauge links."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Generator

from latflow.densities.flows.base import Compose, Flow
from latflow.densities.flows.circular_maps import CircularMap, CircularSpline, ProjectionMixture
from latflow.densities.flows.gauge import GaugeCoupling
from latflow.densities.flows.link_patterns import LinkPattern, check_tiling
from latflow.densities.flows.link_priors import QuenchedLinks, UniformLinks
from latflow.densities.flows.networks import ConvNet
from latflow.densities.recipe import recipe_of
from latflow.seeds import seeded
from latflow.types import Count, Lattice, Layers, NotNegative

_MAPS: dict[str, type[CircularSpline] | type[ProjectionMixture]] = {
    "spline": CircularSpline,
    "projection": ProjectionMixture,
}


def gauge_flow(
    lattice: Sequence[int],
    *,
    layers: Layers = 48,
    masks: Literal["diagonal", "stripes"] = "diagonal",
    scalar_map: Literal["spline", "projection"] = "spline",
    bins: Count = 8,
    rectangles: Literal["none", "frozen", "all"] = "frozen",
    hidden: Sequence[Count] = (64, 64),
    kernel: Count | Sequence[Count] = 3,
    dilation: Count | Sequence[Count] = (1, 2, 3),
    activation: str = "leaky_relu",
    prior_beta: NotNegative = 0.0,
    generator: Generator | None = None,
) -> Flow:
    """Gauge-equivariant couplings of U(1) links. The defaults are those of the source.

    Eight layers update every link exactly once. With the defaults a layer has 54 873 parameters, 48 layers
    have 2 633 904.

    Source: Białas, Korcyl, Stebel, Training normalizing flows with computationally intensive target
    probability distributions, appendix A. Its masks and splines with `masks="stripes"` and
    `scalar_map="projection"` become those of arXiv:2101.08176.

    Args:
        lattice: the two side lengths, multiples of 4.
        layers: number of couplings.
        masks: arrangement of the active links, "diagonal" or "stripes".
        scalar_map: of the active plaquettes, "spline" or "projection".
        bins: of a spline, or components of a projection.
        rectangles: loops of 2 × 1 that the networks see: "none", those at "frozen" sites as in the source, or
            "all" that hold no active link; these tell what the update of a plaquette leaves to its neighbour.
        hidden: channels between the convolutions of each network.
        kernel: side of the kernels, one number or one for each convolution.
        dilation: likewise.
        activation: between the convolutions, a name in `networks.ACTIVATIONS`.
        prior_beta: β of the pure gauge theory that is mapped; 0 for uniform angles as in the source. With the
            β of the Schwinger model a flow begins as its quenched approximation.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice that the masks cannot tile, naming one that they can, and for names or a
            network that do not fit.
    """
    recipe = recipe_of("gauge", gauge_flow, locals())
    prior = QuenchedLinks(lattice, prior_beta) if prior_beta else UniformLinks(lattice)
    couplings = gauge_couplings(
        prior.lattice,
        layers,
        masks,
        scalar_map,
        bins,
        rectangles,
        hidden,
        kernel,
        dilation,
        activation,
        generator,
    )
    return Flow(prior, Compose(*couplings), recipe, ("gauge",))


def gauge_couplings(
    lattice: Lattice,
    layers: int,
    masks: str = "diagonal",
    scalar_map: str = "spline",
    bins: int = 8,
    rectangles: str = "frozen",
    hidden: Sequence[int] = (64, 64),
    kernel: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = (1, 2, 3),
    activation: str = "leaky_relu",
    generator: Generator | None = None,
) -> list[GaugeCoupling]:
    """The layers of `gauge_flow`, near the identity at first; arguments and exceptions are those there."""
    if layers < 0:
        raise ValueError(f"expected layers ≥ 0, got {layers}")
    if layers == 0:
        return []
    check_tiling(lattice)
    if scalar_map not in _MAPS:
        raise ValueError(f"expected scalar_map to be one of {', '.join(_MAPS)}, got {scalar_map!r}")
    circular_map = _MAPS[scalar_map](bins)
    channels = (GaugeCoupling.n_inputs(rectangles), *hidden, circular_map.n_parameters)
    options = {"kernel": kernel, "dilation": dilation, "activation": activation, "final_scale": 0.1}
    generator = seeded(generator)
    networks = [ConvNet(channels, **options, generator=generator) for _ in range(layers)]
    return [
        GaugeCoupling(LinkPattern.of_layer(layer, masks), circular_map, network, rectangles)
        for layer, network in enumerate(map(partial(_near_identity, circular_map), networks))
    ]


@torch.no_grad()
def _near_identity(circular_map: CircularMap, network: ConvNet) -> ConvNet:
    """The network with a last bias at which the map is the identity."""
    bias = network.layers[-1].bias
    assert isinstance(bias, torch.Tensor)
    bias += torch.tensor(circular_map.identity())
    return network
