"""Gauge-equivariant couplings of U(1) links in two dimensions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latflow.densities.flows.coupling import CouplingLayer
from latflow.densities.flows.link_patterns import RECTANGLES, LinkPattern, Tables, tables
from latflow.densities.flows.scalar_maps import Parameters, ScalarMap
from latflow.lattice import wrapped
from latflow.links import plaquette_angles
from latflow.types import Lattice, Links, Sites

Angles = Float[Tensor, "batch L0 L1"]
Loops = Float[Tensor, "batch loops L0 L1"]


class GaugeCoupling(CouplingLayer):
    """Maps the active plaquettes one by one, with parameters computed from loops without active links.

        P′ = f(P; N(cos, sin of the visible loops)),    δ = P′ − P,    log_det = Σ_active log f′
        θ_0(x) → θ_0(x) + δ(x)  for μ = 0,              θ_1(x) → θ_1(x) − δ(x)  for μ = 1

    Loops are gauge invariant, so the layer commutes with every gauge transformation; they are functions of
    angles modulo 2π, and the new links lie in (−π, π]. The visible loops do not change, so the inverse uses
    the same parameters. Sources: Kanwar et al., Equivariant flow-based sampling for lattice gauge theory,
    arXiv:2003.06413; Albergo et al., Flow-based sampling in the lattice Schwinger model at criticality,
    arXiv:2202.11712.

    Args:
        pattern: the active links.
        scalar_map: f, a map of the circle.
        network: N, with `n_inputs(rectangles)` inputs and the parameters of f as outputs.
        rectangles: which loops of 2 × 1 are visible besides the frozen plaquettes.

    Raises:
        ValueError: for other rectangles.
    """

    def __init__(
        self, pattern: LinkPattern, scalar_map: ScalarMap, network: nn.Module, rectangles: str = "frozen"
    ) -> None:
        super().__init__(scalar_map, network)
        if rectangles not in RECTANGLES:
            raise ValueError(f"expected rectangles to be one of {RECTANGLES}, got {rectangles!r}")
        self.pattern = pattern
        self.rectangles: str = rectangles

    @staticmethod
    def n_inputs(rectangles: str) -> int:
        """Channels that the network sees: cosine and sine of one kind of loop, or of three."""
        return 2 if rectangles == "none" else 6

    def parameters_from(self, seen: Loops, lattice: Lattice) -> Parameters:  # noqa: ARG002 (the loops have it)
        """The parameters of the map at each active plaquette, in the precision of the field."""
        features = torch.cat((seen.cos(), seen.sin()), 1)
        return self.network(features, self._select).to(seen.dtype)

    def visible_loops(self, plaquettes: Angles) -> Loops:
        """The angles of the loops that the layer looks at; 0 stands for those that it must not see."""
        loops = [plaquettes]
        if self.rectangles != "none":
            across, along = self.pattern.transverse + 1, self.pattern.direction + 1
            loops += [plaquettes + plaquettes.roll(-1, axis) for axis in (across, along)]
        return torch.where(self._tables(plaquettes).visible, torch.stack(loops, 1), 0.0)

    def split(self, x: Links) -> tuple[Sites, Loops]:
        """The active plaquettes, and the loops that the network sees."""
        plaquettes = plaquette_angles(x)
        active = plaquettes.flatten(1).index_select(1, self._tables(x).active)
        return active, self.visible_loops(plaquettes)

    def replaced(self, x: Links, old: Sites, new: Sites, seen: Loops) -> Links:  # noqa: ARG002
        """The links after the active plaquettes have changed."""
        sites = math.prod(x.shape[2:])
        active = self._tables(x).active + self.pattern.direction * sites
        flat = x.flatten(1)
        sign = 1 - 2 * self.pattern.direction  # θ_0 enters P with a plus, θ_1 with a minus
        links = wrapped(flat.index_select(1, active) + sign * (new - old))
        return flat.index_copy(1, active, links).view_as(x)

    def pulled_new(self, gradient: Tensor) -> Sites:
        """At the active links, with their sign in the plaquette."""
        along = gradient.select(1, self.pattern.direction).flatten(1)
        return (1 - 2 * self.pattern.direction) * along.index_select(1, self._tables(gradient).active)

    def pulled_split(self, gradient: Tensor, by_new: Sites, by_old: Sites, by_seen: Loops) -> Tensor:
        """Through the links, and from plaquettes and rectangles to the links around them."""
        tables = self._tables(gradient)
        seen = by_seen * tables.visible
        by_plaquettes = seen[:, 0].clone()
        if self.rectangles != "none":
            across, along = self.pattern.transverse + 1, self.pattern.direction + 1
            for loops, axis in ((seen[:, 1], across), (seen[:, 2], along)):
                by_plaquettes += loops + loops.roll(1, axis)
        flat = by_plaquettes.flatten(1).index_add_(1, tables.active, by_old - by_new)
        total = flat.view_as(by_plaquettes)
        return gradient + torch.stack((total - total.roll(1, 2), total.roll(1, 1) - total), 1)

    def _select(self, features: Tensor) -> Tensor:
        return features.flatten(2).index_select(2, self._tables(features).active)

    def _tables(self, x: Tensor) -> Tables:
        return tables(self.pattern, self.rectangles, tuple(x.shape[-2:]), x.device)
