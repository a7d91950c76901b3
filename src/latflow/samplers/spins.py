"""Markov chains of Ising spins: single spins on a checkerboard, and clusters, all chains at once."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from latflow.lattice import check_even, checkerboard
from latflow.samplers.base import Sampler
from latflow.theories.base import Action
from latflow.theories.ising import Ising, ising_of
from latflow.types import Mask, Spins

Rule = Literal["heat_bath", "metropolis"]


@dataclass(frozen=True)
class SpinState:
    """The configuration of each chain."""

    x: Spins


@dataclass(frozen=True)
class SpinInfo:
    """What became of one step of each chain.

    Attributes:
        accepted: share of the sites whose spin changed.
    """

    accepted: Float[Tensor, "batch"]


class _SpinSampler(Sampler[SpinState, SpinInfo]):
    """What the samplers of spins share: the spins are all of their state."""

    action: Action

    @cached_property
    def model(self) -> Ising:
        """The Ising model that the action is."""
        return ising_of(self.action)

    def init(self, x: Spins) -> SpinState:
        """Start one chain at each configuration of x, (batch, *lattice), of spins ±1.

        Raises:
            ValueError: for spins on another lattice, or numbers other than ±1.
        """
        self.action.check(x)
        self.action.kind.check_values(x)
        return SpinState(x.detach().clone())

    @torch.no_grad()
    def step(self, state: SpinState, generator: Generator) -> tuple[SpinState, SpinInfo]:
        """One transition of every chain."""
        x = self._moved(state.x, generator)
        return SpinState(x), SpinInfo((x != state.x).flatten(1).to(x.dtype).mean(1))

    def field(self, state: SpinState) -> Spins:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> SpinState:
        """The state that `state_dict` took apart."""
        return SpinState(**tree)

    @abstractmethod
    def _moved(self, x: Spins, generator: Generator) -> Spins:
        """The spins after one step."""


@dataclass(frozen=True)
class SingleSpin(_SpinSampler):
    """Updates of single spins, a sweep a step: all sites of one colour of the checkerboard, then all others.

        heat_bath    s′_x = +1 with probability σ(2 H_x), whatever s_x is
        metropolis   s′_x = −s_x with probability min(1, exp(−2 s_x H_x))

    H_x is the local field, made by sites of the other colour. Each half of a sweep leaves exp(−S) as it is.
    Metropolis moves faster; it flips a spin for certain where H_x = 0.

    Args:
        action: an Ising model, or a sum or multiple of such, on a lattice with even sides.
        rule: one of the names above.

    Raises:
        ValueError: for another theory, an odd side, another rule, and for Metropolis where a site has neither
            bonds nor a field: its spin would flip at every sweep, in step with others like it.
    """

    action: Action
    rule: Rule = "heat_bath"

    step_words = "one sweep"

    @property
    def title(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {"heat_bath": "heat bath", "metropolis": "local Metropolis"}[self.rule]

    def __post_init__(self) -> None:
        check_even(self.action.lattice)
        if self.rule not in ("heat_bath", "metropolis"):
            raise ValueError(f"expected rule 'heat_bath' or 'metropolis', got {self.rule!r}")
        strength = self.model.bond_strengths().abs()
        around = sum(j + j.roll(1, axis) for axis, j in enumerate(strength)) + abs(self.model.field)
        if self.rule == "metropolis" and bool((torch.as_tensor(around) == 0).any()):
            raise ValueError(
                "expected a bond or a field at every site for Metropolis; the heat bath needs none"
            )

    def _moved(self, x: Spins, generator: Generator) -> Spins:
        # float64, since in float32 one in 2²⁴ of the numbers is zero and would accept anything
        uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
        for parity in (0, 1):
            twice = 2 * self.model.local_field(x)
            if self.rule == "heat_bath":
                updated = torch.where(uniform < torch.sigmoid(twice), 1.0, -1.0).to(x)
            else:
                updated = torch.where(uniform < torch.exp(-x * twice), -x, x)
            x = torch.where(self._colours[parity].to(x.device), updated, x)
        return x

    @cached_property
    def _colours(self) -> tuple[Mask, Mask]:
        lattice = self.action.lattice
        return checkerboard(lattice, 0), checkerboard(lattice, 1)


class _ClusterSampler(_SpinSampler):
    """What the cluster algorithms share: bonds between satisfied neighbours, and the clusters they make.

    The bond between x and x+μ is occupied with probability 1 − exp(−2 β J s_x s_{x+μ}), where that is
    positive. Given the bonds, each cluster may be turned over as a whole: its weight is exp(h Σ_cluster s).
    Source: Fortuin, Kasteleyn, On the random-cluster model, Physica 57 (1972) 536.
    """

    def __post_init__(self) -> None:
        self.model  # noqa: B018 (refuses another theory before the first step)

    def _clusters(self, x: Spins, generator: Generator) -> tuple[Int[Tensor, "batch sites"], int]:
        """The number of each site's cluster, counted through all chains, and how many there are."""
        directions = range(1, x.ndim)
        shape = (len(directions), *x.shape)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=x.device)
        satisfied = torch.stack([x * x.roll(-1, axis) for axis in directions])
        strength = self.model.bond_strengths().to(x)[:, None]
        occupied = uniform < -torch.expm1(-2 * strength * satisfied)
        return connected_components(occupied)


@dataclass(frozen=True)
class SwendsenWang(_ClusterSampler):
    """Swendsen's and Wang's algorithm: all clusters at once, each turned over or not, independently.

        P(turn a cluster over) = σ(−2 h Σ_cluster s),   ½ without a field

    It is exact for couplings of both signs, but fast only where these do not frustrate each other. Source:
    Swendsen, Wang, Nonuniversal critical dynamics in Monte Carlo simulations, Physical Review Letters 58
    (1987) 86.

    Args:
        action: an Ising model, or a sum or multiple of such, on any lattice.

    Raises:
        ValueError: for another theory.
    """

    action: Action

    title = "Swendsen–Wang"
    step_words = "one update of all clusters"

    def _moved(self, x: Spins, generator: Generator) -> Spins:
        labels, number = self._clusters(x, generator)
        total = x.new_zeros(number).index_add_(0, labels.flatten(), x.flatten())
        uniform = torch.rand(number, generator=generator, dtype=torch.float64, device=x.device)
        turned = uniform < torch.sigmoid(-2 * self.model.field * total)
        return torch.where(turned[labels].view_as(x), -x, x)


@dataclass(frozen=True)
class Wolff(_ClusterSampler):
    """Wolff's algorithm: the cluster of one site drawn at random is turned over.

    With a field that is accepted with probability min(1, exp(−2 h Σ_cluster s)). A step turns about V⟨M²⟩
    sites, but takes as long as one of `SwendsenWang`: the clusters of all chains are found together. Source:
    Wolff, Collective Monte Carlo updating for spin systems, Physical Review Letters 62 (1989) 361.

    Args:
        action: an Ising model, or a sum or multiple of such, on any lattice.

    Raises:
        ValueError: for another theory.
    """

    action: Action

    title = "Wolff"
    step_words = "one cluster turned over"

    def _moved(self, x: Spins, generator: Generator) -> Spins:
        labels, _ = self._clusters(x, generator)
        size = (len(x), 1)
        seed = torch.randint(labels.shape[1], size, generator=generator, device=x.device)
        uniform = torch.rand(size, generator=generator, dtype=torch.float64, device=x.device)
        cluster = labels == labels.gather(1, seed)
        total = (x.flatten(1) * cluster).sum(1, keepdim=True)
        turned = cluster & (uniform < torch.exp(-2 * self.model.field * total))
        return torch.where(turned.view_as(x), -x, x)


def connected_components(
    occupied: Bool[Tensor, "directions batch *lattice"],
) -> tuple[Int[Tensor, "batch sites"], int]:
    """The clusters of sites that occupied bonds join, for all chains in one graph.

    Args:
        occupied: whether the bond from each site to its neighbour one step ahead is.

    Returns:
        The number of each site's cluster, from 0 and different for different chains, and how many there are.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components as components

    shape = occupied.shape[1:]
    # a row of the matrix for each site: made so, and of float64, nothing of it is sorted or converted
    joined = occupied.cpu().movedim(0, -1).flatten(0, -2).numpy()
    sites = torch.arange(shape.numel(), dtype=torch.int32).view(shape)
    ahead = torch.stack([sites.roll(-1, axis) for axis in range(1, len(shape))], -1).flatten(0, -2).numpy()
    rows = np.zeros(shape.numel() + 1, dtype=np.int32)
    np.cumsum(joined.sum(1, dtype=np.int32), out=rows[1:])
    ends = ahead[joined]
    graph = csr_array((np.ones(len(ends)), ends, rows), shape=(shape.numel(), shape.numel()))
    number, labels = components(graph, directed=False)
    return torch.from_numpy(labels).to(occupied.device, torch.int64).view(len(sites), -1), int(number)
