"""Named flows of scalar fields."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Generator

from latflow.flows.base import Bijection, Compose, Flow
from latflow.flows.coupling import Coupling, Scale, SiteMap
from latflow.flows.fourier import FourierLayer
from latflow.flows.networks import ConvNet, Z2ConvNet
from latflow.flows.priors import Normal
from latflow.flows.recipe import recipe_of
from latflow.flows.scalar_maps import Affine, RealMap, Spline
from latflow.lattice import check_even, checked_lattice, lattice_momentum_squared
from latflow.types import Lattice


def affine_flow(
    lattice: Sequence[int],
    *,
    layers: int = 16,
    hidden: Sequence[int] = (16, 16, 16),
    kernel: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    activation: str = "leaky_relu",
    final: str = "tanh",
    z2: bool = False,
    fourier: bool = False,
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
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice without a checkerboard or a network that does not fit together.
    """
    recipe = recipe_of("affine", affine_flow, locals())
    network = _Networks(lattice, hidden, kernel, dilation, activation, final, z2, generator)
    bijections: list[Bijection] = [_free_field(network.lattice)] if fourier else []
    bijections += network.couplings(layers, Affine())
    return Flow(Normal(network.lattice), Compose(*bijections), recipe)


def spline_flow(
    lattice: Sequence[int],
    *,
    layers: int = 4,
    bins: int = 8,
    bound: float = 4.0,
    hidden: Sequence[int] = (32, 32),
    kernel: int | Sequence[int] = (5, 1, 1),
    dilation: int | Sequence[int] = 1,
    activation: str = "silu",
    z2: bool = True,
    fourier: bool = True,
    site_bins: int = 16,
    scale: float = 1.0,
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
        kernel: side of the kernels, one number or one for each convolution. Trailing kernels of 1 cost least.
        dilation: likewise.
        activation: between the convolutions, a name in `networks.ACTIVATIONS`.
        z2: whether the flow commutes with φ → −φ exactly.
        fourier: whether a Fourier layer comes first.
        site_bins: bins of the map at the end; 0 leaves it out.
        scale: initial standard deviation of the field at a site.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice without a checkerboard or a network that does not fit together.
    """
    recipe = recipe_of("spline", spline_flow, locals())
    network = _Networks(lattice, hidden, kernel, dilation, activation, "none", z2, generator)
    bijections: list[Bijection] = [_free_field(network.lattice)] if fourier else []
    bijections += network.couplings(layers, Spline(bins, bound))
    if site_bins:
        bijections.append(SiteMap(Spline(site_bins, bound), z2))
    if not scale > 0:
        raise ValueError(f"expected scale > 0, got {scale}")
    bijections.append(Scale(math.log(scale)))
    return Flow(Normal(network.lattice), Compose(*bijections), recipe)


class _Networks:
    """Makes the couplings of one flow, whose networks are alike but for their weights."""

    def __init__(
        self,
        lattice: Sequence[int],
        hidden: Sequence[int],
        kernel: int | Sequence[int],
        dilation: int | Sequence[int],
        activation: str,
        final: str,
        z2: bool,
        generator: Generator | None,
    ) -> None:
        self.lattice = checked_lattice(lattice)
        check_even(self.lattice)
        self.hidden, self.z2 = tuple(hidden), z2
        self.options: dict[str, Any] = {
            "activation": activation,
            "final": final,
            "dimensions": len(self.lattice),
            "final_scale": 0.1,  # near the identity, yet with a gradient in every layer
            "generator": generator or Generator().manual_seed(0),
        }
        self.kernel = kernel if isinstance(kernel, int) else tuple(kernel)
        self.dilation = dilation if isinstance(dilation, int) else tuple(dilation)

    def couplings(self, layers: int, scalar_map: RealMap) -> list[Coupling]:
        if layers < 0:
            raise ValueError(f"expected layers ≥ 0, got {layers}")
        return [self.coupling(layer % 2, scalar_map) for layer in range(layers)]

    def coupling(self, parity: int, scalar_map: RealMap) -> Coupling:
        if not self.z2:
            sizes = (1, *self.hidden, scalar_map.n_parameters)
            network = ConvNet(sizes, self.kernel, dilation=self.dilation, **self.options)
            return Coupling(parity, scalar_map, network)
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
        network = Z2ConvNet((1, *self.hidden), kernel=kernel, dilation=dilation, **outputs, **self.options)
        return Coupling(parity, scalar_map, network)


def _free_field(lattice: Lattice, mass: float = 1.0, exponent: float = 0.5) -> FourierLayer:
    """A Fourier layer that starts between white noise and a free field, with unit variance at each site."""
    variance = (lattice_momentum_squared(lattice) + mass**2).pow(-exponent).mean().item()
    return FourierLayer(mass, exponent, log_scale=-0.5 * math.log(variance))
