"""Markov chains of Potts states: single sites on a checkerboard, and clusters, all chains at once."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from latflow.lattice import check_even, checkerboard
from latflow.samplers.base import Sampler
from latflow.samplers.spins import connected_components
from latflow.theories.base import Action
from latflow.theories.potts.action import Potts, potts_of
from latflow.types import States


@dataclass(frozen=True)
class PottsState:
    """The configuration of each chain."""

    x: States


@dataclass(frozen=True)
class PottsInfo:
    """What became of one step of each chain.

    Attributes:
        accepted: share of the sites whose state changed.
    """

    accepted: Float[Tensor, "batch"]


class _PottsSampler(Sampler[PottsState, PottsInfo]):
    """What the samplers of Potts states share: the configurations are all of their state."""

    action: Action

    @cached_property
    def model(self) -> Potts:
        """The Potts model that the action is."""
        return potts_of(self.action)

    def init(self, x: States) -> PottsState:
        """Start one chain at each configuration of x, (batch, *lattice).

        Raises:
            ValueError: for another lattice, or numbers other than 0 … q−1.
        """
        self.action.check(x)
        self.action.kind.check_values(x)
        return PottsState(x.detach().clone())

    @torch.no_grad()
    def step(self, state: PottsState, generator: Generator) -> tuple[PottsState, PottsInfo]:
        """One transition of every chain."""
        x = self._moved(state.x, generator)
        return PottsState(x), PottsInfo((x != state.x).flatten(1).double().mean(1))

    def field(self, state: PottsState) -> States:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> PottsState:
        """The state that `state_dict` took apart."""
        return PottsState(**tree)

    @abstractmethod
    def _moved(self, x: States, generator: Generator) -> States:
        """The configurations after one step."""


@dataclass(frozen=True)
class PottsHeatBath(_PottsSampler):
    """Sweeps of the heat bath: all sites of one colour of the checkerboard, then all others.

        s′_x = a with probability exp(H_a(x)) / Σ_b exp(H_b(x)), whatever s_x is

    H_a(x) is the local field of `Potts`, made by sites of the other colour.

    Args:
        action: a Potts model, or a sum or multiple of such, on a lattice with even sides.

    Raises:
        ValueError: for another theory, and for an odd side.
    """

    action: Action

    title = "heat bath"
    step_words = "one sweep"

    def __post_init__(self) -> None:
        self.model  # noqa: B018 (refuses another theory before the first step)
        check_even(self.action.lattice)

    def _moved(self, x: States, generator: Generator) -> States:
        uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64, device=x.device)
        for parity in (0, 1):
            updated = _drawn(self.model.local_fields(x), uniform)
            x = torch.where(checkerboard(self.action.lattice, parity).to(x.device), updated, x)
        return x


class _PottsClusters(_PottsSampler):
    """What the cluster algorithms share: bonds between equal states, and the clusters they make.

    The bond between x and x+μ is occupied with probability 1 − exp(−β J) where both have one state. Given the
    bonds, the state a of each cluster has the weight exp(h(a) · size). Source: Fortuin, Kasteleyn, On the
    random-cluster model, Physica 57 (1972) 536.
    """

    def __post_init__(self) -> None:
        strength = self.model.bond_strengths()
        if bool((strength < 0).any()):
            raise ValueError(
                f"expected couplings β J of at least 0 for clusters of equal states, got "
                f"{float(strength.min()):g}: the heat bath takes any, by the name potts_heat_bath"
            )

    def _clusters(self, x: States, generator: Generator) -> tuple[Int[Tensor, "batch sites"], int]:
        """The number of each site's cluster, counted through all chains, and how many there are."""
        equal = torch.stack([x == x.roll(-1, axis) for axis in range(1, x.ndim)])
        uniform = torch.rand(equal.shape, generator=generator, dtype=torch.float64, device=x.device)
        occupied = equal & (uniform < -torch.expm1(-self.model.bond_strengths().to(x.device)[:, None]))
        return connected_components(occupied)


@dataclass(frozen=True)
class PottsSwendsenWang(_PottsClusters):
    """Swendsen's and Wang's algorithm: all clusters at once, each with a new state, independently.

        P(a) = exp(h(a) · size) / Σ_b exp(h(b) · size),   1/q without a field

    Source: Swendsen, Wang, Nonuniversal critical dynamics in Monte Carlo simulations, Physical Review Letters
    58 (1987) 86.

    Args:
        action: a Potts model, or a sum or multiple of such, on any lattice, with couplings β J ≥ 0.

    Raises:
        ValueError: for another theory, and for a negative coupling.
    """

    action: Action

    title = "Swendsen–Wang"
    step_words = "one update of all clusters"

    def _moved(self, x: States, generator: Generator) -> States:
        labels, number = self._clusters(x, generator)
        size = torch.bincount(labels.flatten(), minlength=number).double()
        fields = torch.tensor(self.model.fields, dtype=torch.float64, device=x.device)
        uniform = torch.rand(number, generator=generator, dtype=torch.float64, device=x.device)
        return _drawn(size[:, None] * fields, uniform)[labels].view_as(x)


@dataclass(frozen=True)
class PottsWolff(_PottsClusters):
    """Wolff's algorithm: the cluster of one site drawn at random goes over to another state.

    The state is one of the q−1 others with equal probability; with a field that is accepted with probability
    min(1, exp([h(s′) − h(s)] · size)). A step takes as long as one of `PottsSwendsenWang`, for the clusters
    of all chains are found together. Source: Wolff, Collective Monte Carlo updating for spin systems,
    Physical Review Letters 62 (1989) 361.

    Args:
        action: a Potts model, or a sum or multiple of such, on any lattice, with couplings β J ≥ 0.

    Raises:
        ValueError: for another theory, and for a negative coupling.
    """

    action: Action

    title = "Wolff"
    step_words = "one cluster"

    def _moved(self, x: States, generator: Generator) -> States:
        labels, _ = self._clusters(x, generator)
        q, flat, size = self.model.q, x.flatten(1), (len(x), 1)
        seed = torch.randint(flat.shape[1], size, generator=generator, device=x.device)
        ahead = torch.randint(1, q, size, generator=generator, device=x.device)
        uniform = torch.rand(size, generator=generator, dtype=torch.float64, device=x.device)
        cluster, before = labels == labels.gather(1, seed), flat.gather(1, seed)
        after = (before + ahead) % q
        fields = torch.tensor(self.model.fields, dtype=torch.float64, device=x.device)
        gain = (fields[after] - fields[before]) * cluster.sum(1, keepdim=True)
        return torch.where(cluster & (uniform < torch.exp(gain)), after, flat).view_as(x)


def _drawn(log_weight: Float[Tensor, "batch q *others"], uniform: Float[Tensor, "batch *others"]) -> Tensor:
    """One of q states for each entry with a probability proportional to exp(log_weight).

    It is the number of those a < q−1 with P(0) + … + P(a) ≤ u, all in float64.
    """
    cumulative = log_weight.softmax(1).cumsum(1)
    return (cumulative[:, :-1] <= uniform.unsqueeze(1)).sum(1)
