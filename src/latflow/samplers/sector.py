"""Metropolis moves of U(1) links as a whole: between topological sectors, and of the holonomies."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.fields import LINKS
from latflow.lattice import checked_plane, volume, wrapped
from latflow.samplers.base import KnownAction, Sampler
from latflow.samplers.history import chosen
from latflow.theories.base import Action
from latflow.types import Lattice, Links, LogProb


def constant_flux(lattice: Sequence[int], charge: int = 1) -> Tensor:
    """Links (2, L0, L1), float64, of charge Q whose plaquettes all have the angle ω = 2πQ/V, modulo 2π.

        θ_1(x) = ω x_0,    θ_0(x) = −ω L0 x_1 at x_0 = L0 − 1 and 0 elsewhere

    The plaquette at the far corner alone has ω − 2πQ, which is the same angle. For |Q| < V/2 its topological
    charge is Q.

    Args:
        lattice: the two side lengths.
        charge: Q.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2.
    """
    l0, l1 = sides = checked_plane(lattice)
    omega = 2 * math.pi * charge / volume(sides)
    links = torch.zeros(2, l0, l1, dtype=torch.float64)
    links[1] = omega * torch.arange(l0, dtype=torch.float64)[:, None]
    links[0, -1] = -omega * l0 * torch.arange(l1, dtype=torch.float64)
    return links


@lru_cache(maxsize=16)
def _instanton(lattice: Lattice, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The field of charge 1, stored, so that no step waits for a copy to the device."""
    return constant_flux(lattice).to(device, dtype)


@dataclass(frozen=True)
class SectorState:
    """The links of each chain and their action."""

    x: Links
    action: LogProb


@dataclass(frozen=True)
class SectorInfo:
    """What became of one move of each chain.

    Attributes:
        accepted: whether the chain moved.
    """

    accepted: Bool[Tensor, "batch"]


class LinkMove(Sampler[SectorState, SectorInfo]):
    """A Metropolis move of all links of each chain at once: x′ with probability min(1, exp(S(x) − S(x′))).

    One of its own needs `action`, `numbers` and `proposed`, whose x′ leads back to x with the same
    probability; then exp(−S) is stationary.
    """

    action: Action
    numbers: ClassVar[int]
    """How many uniform numbers a proposal takes."""

    ergodic = False

    def __post_init__(self) -> None:
        if self.action.kind != LINKS:
            raise ValueError(f"expected a theory of {LINKS}, got one of {self.action.kind}")

    @abstractmethod
    def proposed(self, x: Links, uniform: Tensor) -> Links:
        """x′, not wrapped, from uniform numbers in [0, 1), float64, (`numbers`, batch)."""

    @torch.no_grad()
    def init(self, x: Links) -> SectorState:
        """Start one chain at each configuration of links, (batch, 2, L0, L1)."""
        return SectorState(x.detach().clone(), self.action(x))

    def init_knowing(self, x: Links, known: KnownAction) -> SectorState:
        """The same, without another evaluation of an action that is known."""
        return SectorState(x.detach().clone(), known.value) if known.action is self.action else self.init(x)

    def known_action(self, state: SectorState) -> KnownAction:
        """S of the links."""
        return KnownAction(self.action, state.action)

    @torch.no_grad()
    def step(self, state: SectorState, generator: Generator) -> tuple[SectorState, SectorInfo]:
        """One move offered to every chain."""
        x, shape = state.x, (self.numbers + 1, len(state.x))
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=x.device)
        proposed = wrapped(self.proposed(x, uniform[:-1]))
        action = self.action(proposed)
        # where det D = 0 the action is +∞, which compares false; −∞ would hold the chain for ever
        accepted = (uniform[-1].log() < state.action - action) & action.isfinite()
        new = SectorState(chosen(accepted, proposed, x), chosen(accepted, action, state.action))
        return new, SectorInfo(accepted)

    def field(self, state: SectorState) -> Links:
        """The links of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> SectorState:
        """The state that `state_dict` took apart."""
        return SectorState(**tree)


@dataclass(frozen=True)
class SectorHop(LinkMove):
    """Metropolis moves between topological sectors, by the field of an instanton spread over the lattice.

        x′ = x ± `constant_flux`, both signs with probability ½,   accept with probability min(1, exp(S − S′))

    Each plaquette turns by 2π/V, so the charge changes by one, unless a plaquette passes π on the way. The
    proposal is symmetric, and exp(−S) stationary. Alone the chain visits one configuration a sector: it
    belongs in a `Cycle` with one that moves within them, for example HMC, which does not move between them at
    weak coupling. Up to its fluctuations a hop costs ΔS = 2π²β/V, for V plaquettes.

    Source of the idea: Smit, Vink, Remnants of the index theorem on the lattice, Nuclear Physics B 286 (1987)
    485, for the fields of constant flux; as updates: Dürr, Physical Review D 85 (2012) 114503. Fluxes in a
    part of the lattice, as the windings of Albandea, Hernández, Ramos, Romero-López (Topological sampling
    through windings, arXiv:2106.14234) have them, cost 2π²β/A for A plaquettes.

    Args:
        action: a theory of U(1) links.

    Raises:
        ValueError: for a theory of another kind of field.
    """

    action: Action

    title = "sector hops"
    step_words = "one hop between sectors"
    numbers = 1

    def proposed(self, x: Links, uniform: Tensor) -> Links:
        sign = torch.where(uniform[0] < 0.5, -1.0, 1.0).to(x.dtype).view(-1, 1, 1, 1)
        return x + sign * _instanton(self.action.lattice, x.dtype, x.device)


@dataclass(frozen=True)
class HolonomyShift(LinkMove):
    """Metropolis moves of the two holonomies, which no plaquette knows of.

        θ_μ(x) → θ_μ(x) + α_μ for all x with x_μ = 0,   μ = 0, 1,   α_μ uniform in (−π, π]

    Each loop that winds once around direction μ, the Polyakov loop among them, turns by α_μ, and no plaquette
    changes: a gauge field alone accepts every move, one with fermions min(1, the ratio of their weights).
    Up to a gauge transformation it adds the constant α_μ/L_μ to all links of direction μ. It belongs in a
    `Cycle`, beside what moves the plaquettes.

    Args:
        action: a theory of U(1) links.

    Raises:
        ValueError: for a theory of another kind of field.
    """

    action: Action

    title = "holonomy shifts"
    step_words = "one shift of the holonomies"
    numbers = 2

    def proposed(self, x: Links, uniform: Tensor) -> Links:
        in_time, in_space = (2 * math.pi * (0.5 - uniform)).to(x.dtype).unsqueeze(-1)
        moved = x.clone()
        moved[:, 0, 0, :] += in_time
        moved[:, 1, :, 0] += in_space
        return moved
