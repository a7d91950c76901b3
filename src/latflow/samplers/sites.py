"""Markov chains of sites that are coupled to nearest neighbours: clusters of signs, and exact sweeps."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.lattice import check_even
from latflow.samplers.base import Sampler
from latflow.samplers.spins import connected_components
from latflow.theories.base import Action
from latflow.theories.neighbours import NearestNeighbours
from latflow.types import Count, Field


@dataclass(frozen=True)
class SiteState:
    """The configuration of each chain."""

    x: Field


@dataclass(frozen=True)
class SiteInfo:
    """What became of one step of each chain.

    Attributes:
        accepted: share of the sites whose sign changed.
    """

    accepted: Float[Tensor, "batch"]


@dataclass(frozen=True)
class EmbeddedClusters(Sampler[SiteState, SiteInfo]):
    """Clusters of the signs of a field, and sweeps of the heat bath.

        S = Σ_n V(x_n) − J Σ_bonds x_n x_m,    V(−x) = V(x)

    The signs s = x/|x| are Ising spins with couplings J |x_n x_m|. Swendsen's and Wang's algorithm moves
    them: neighbours are joined with probability 1 − exp(−2 J x_n x_m), where that is positive, and each
    cluster is turned over with probability ½. Then every site is drawn from its own density given its
    neighbours, all of one colour of the checkerboard, then all others. Both moves leave exp(−S) as it is;
    the first is fast where the magnetisation is slow, the second moves the sizes |x| too.

    Source: Brower, Tamayo, Embedded dynamics for φ⁴ theory, Physical Review Letters 62 (1989) 1087, with all
    clusters in place of one, and the heat bath in place of Metropolis.

    Args:
        action: a theory that `nearest_neighbours` describes, on even sides in any number of dimensions.
        sweeps: of the heat bath after each update of the clusters.

    Raises:
        ValueError: for another theory, a potential that is not even, an odd side, and no sweep.
    """

    action: Action
    sweeps: Count = 1

    title = "clusters of signs"
    step_words = "one update of all clusters, with sweeps of the heat bath"

    def __post_init__(self) -> None:
        check_even(self.action.lattice)
        if self.sweeps < 1:
            raise ValueError(f"expected at least one sweep after the clusters, got {self.sweeps}")
        self.theory  # noqa: B018 (refuses another theory before the first step)

    @cached_property
    def theory(self) -> NearestNeighbours:
        """The action by its single sites."""
        theory = self.action.nearest_neighbours()
        if theory is None or not theory.site.even:
            raise ValueError(
                "expected a theory of sites with an even potential that are coupled to nearest neighbours, "
                f"the same everywhere, for clusters of signs, got {self.action.words.name} with "
                f"{self.action.words.parameters}"
            )
        return theory

    def init(self, x: Field) -> SiteState:
        """Start one chain at each configuration of x, (batch, *lattice).

        Raises:
            ValueError: for fields on another lattice, or values that the theory does not have.
        """
        self.action.check(x)
        self.action.kind.check_values(x)
        return SiteState(x.detach().clone())

    @torch.no_grad()
    def step(self, state: SiteState, generator: Generator) -> tuple[SiteState, SiteInfo]:
        """One transition of every chain."""
        x = self._turned(state.x, generator)
        for _ in range(self.sweeps):
            for parity in (0, 1):
                x = self.theory.redrawn(x, parity, generator)
        return SiteState(x), SiteInfo(((x < 0) != (state.x < 0)).flatten(1).to(x.dtype).mean(1))

    def field(self, state: SiteState) -> Field:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> SiteState:
        """The state that `state_dict` took apart."""
        return SiteState(**tree)

    def _turned(self, x: Field, generator: Generator) -> Field:
        """The field after an update of its signs."""
        directions = range(1, x.ndim)
        product = torch.stack([x * x.roll(-1, axis) for axis in directions])
        uniform = torch.rand(product.shape, generator=generator, dtype=torch.float64, device=x.device)
        occupied = uniform < -torch.expm1(product.mul_(-2 * self.theory.coupling))
        labels, number = connected_components(occupied)
        uniform = torch.rand(number, generator=generator, device=x.device)
        signs = torch.where(uniform < 0.5, -1.0, 1.0).to(x.dtype)
        return x * signs[labels].view_as(x)
