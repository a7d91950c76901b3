"""Theories of single sites that are coupled to nearest neighbours, the same everywhere or by bonds."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.lattice import check_even, checkerboard, summed
from latflow.theories.sites import SiteWeight, SpinWeight
from latflow.types import Lattice, LogProb, Mask, SiteField


class CoupledSites(ABC):
    """A theory of single sites that are coupled to their nearest neighbours.

    On even sides the sites of one colour of the checkerboard are independent given those of the other. They
    can be integrated out,

        S_eff(even) = Σ_even V(x_n) − Σ_odd log z(h_n)

    with h_n the sum of couplings times e(x_m) over the neighbours m, and drawn afterwards, each from its
    weight in the field of its neighbours. The vector e of a number is the number, see `SiteWeight`.

    Attributes:
        lattice: side lengths.
        site: V and what follows from it.
    """

    lattice: Lattice
    site: SiteWeight

    @abstractmethod
    def scaled(self, factor: float) -> "CoupledSites":
        """The theory with factor · S."""

    @abstractmethod
    def _fields(self, vectors: Tensor) -> Tensor:
        """h_n by e(x), (*shape, batch, *lattice)."""

    def fields(self, x: SiteField) -> Tensor:
        """h_n, (*shape, batch, *lattice)."""
        return self._fields(self.site.vector(x))

    def effective_action(self, x: SiteField) -> LogProb:
        """S_eff of the even sites, whatever the odd ones are; exp(−S_eff) is the sum over these.

        Raises:
            ValueError: for an odd side.
        """
        even = self._colour(0, x.device)
        own = torch.where(even, self.site.potential(x).double(), 0.0)
        known = torch.where(even, self.site.vector(x), 0.0).double()
        return summed(own - torch.where(even, 0.0, self.site.log_partition(self._fields(known))))

    @torch.no_grad()
    def redrawn(self, x: SiteField, parity: int, generator: Generator) -> SiteField:
        """The same field with the sites of one colour drawn anew, given the others. Raises as above."""
        colour = self._colour(parity, x.device)
        fields = self.fields(x)[..., colour]
        drawn = x.clone()
        drawn[:, colour] = self.site.draw(fields, generator)
        return drawn

    def _colour(self, parity: int, device: torch.device) -> Mask:
        check_even(self.lattice)
        return checkerboard(self.lattice, parity).to(device)


@dataclass(frozen=True)
class NearestNeighbours(CoupledSites):
    """A theory S(x) = Σ_n V(x_n) − J Σ_bonds e(x_n)·e(x_m), the same at all sites and in all directions.

    Args:
        lattice: side lengths.
        site: V and what follows from it.
        coupling: J.
    """

    lattice: Lattice
    site: SiteWeight
    coupling: float

    def scaled(self, factor: float) -> "NearestNeighbours":
        coupling = factor * self.coupling
        site = self.site.scaled(factor, 2 * len(self.lattice) * coupling)
        return replace(self, site=site, coupling=coupling)

    def _fields(self, vectors: Tensor) -> Tensor:
        rolled = [vectors.roll(shift, axis) for axis in range(-len(self.lattice), 0) for shift in (-1, 1)]
        return self.coupling * reduce(add, rolled)


@dataclass(frozen=True)
class BondedSpins(CoupledSites):
    """Spins with a coupling of its own for every bond, S(s) = −H Σ_n s_n − Σ_bonds J_nm s_n s_m.

    Args:
        lattice: side lengths.
        site: H.
        strengths: J of the bond from each site in each direction, (d, *lattice), as nested tuples.
    """

    lattice: Lattice
    site: SpinWeight
    strengths: tuple[Any, ...]

    def scaled(self, factor: float) -> "BondedSpins":
        strengths = nested((factor * self._ahead).tolist())
        return BondedSpins(self.lattice, self.site.scaled(factor, 0.0), strengths)

    @cached_property
    def _ahead(self) -> Float[Tensor, "directions *lattice"]:
        return torch.tensor(self.strengths, dtype=torch.float64)

    @cached_property
    @torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
    def around(self) -> Float[Tensor, "neighbours *lattice"]:
        """J of the bonds of each site, one forwards and one backwards in each direction, float64."""
        pairs = [(ahead, ahead.roll(1, axis)) for axis, ahead in enumerate(self._ahead)]
        return torch.stack([j for pair in pairs for j in pair])

    def _fields(self, vectors: Tensor) -> Tensor:
        axes = range(-len(self.lattice), 0)
        rolled = [vectors.roll(shift, axis) for axis in axes for shift in (-1, 1)]
        return reduce(add, (j * near for j, near in zip(self.around.to(vectors), rolled, strict=True)))


def nested(values: Any) -> Any:
    """Lists as tuples, at every depth."""
    return tuple(nested(value) for value in values) if isinstance(values, list) else values
