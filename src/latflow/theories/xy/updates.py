"""Markov chains of the XY model: single angles on a colouring of the lattice, and clusters about an axis."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from latflow.lattice import wrapped
from latflow.samplers.base import Sampler
from latflow.samplers.spins import connected_components
from latflow.theories.base import Action
from latflow.theories.xy.action import XY, xy_of
from latflow.types import Field, Lattice, LogProb, Mask, Positive, Whole

_ROUNDS, _TARGET = 20, 0.5
"""Of the search for the width of the proposals, and the acceptance that it looks for."""


@dataclass(frozen=True)
class AngleState:
    """The configuration of each chain."""

    x: Field


@dataclass(frozen=True)
class AngleInfo:
    """What became of one step of each chain.

    Attributes:
        accepted: share of the sites whose angle was proposed to change, and did.
    """

    accepted: Float[Tensor, "batch"]


class _AngleSampler(Sampler[AngleState, AngleInfo]):
    """What the samplers of angles share: the angles, in (−π, π], are all of their state."""

    action: Action

    @cached_property
    def model(self) -> XY:
        """The XY model that the action is."""
        return xy_of(self.action)

    def init(self, x: Field) -> AngleState:
        """Start one chain at each configuration of x, (batch, *lattice).

        Raises:
            ValueError: for angles on another lattice.
        """
        self.model.check(x)
        return AngleState(wrapped(x.detach()))

    @torch.no_grad()
    def step(self, state: AngleState, generator: Generator) -> tuple[AngleState, AngleInfo]:
        """One transition of every chain."""
        x, accepted = self._moved(state.x, generator)
        return AngleState(x), AngleInfo(accepted)

    def field(self, state: AngleState) -> Field:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> AngleState:
        """The state that `state_dict` took apart."""
        return AngleState(**tree)

    @abstractmethod
    def _moved(self, x: Field, generator: Generator) -> tuple[Field, LogProb]:
        """The angles after one step, and the share of them that changed."""


@dataclass(frozen=True)
class XYMetropolis(_AngleSampler):
    """A sweep of Metropolis and sweeps of over-relaxation, colour by colour of the lattice.

        Metropolis       θ′ = θ + δ, δ uniform in ±width, accepted with probability min(1, exp(−ΔS))
        over-relaxation  θ′ = 2 arg H_x − θ, the reflection about the local field, which leaves S as it is

    No two sites of a colour are neighbours, so that all of them move at once: two colours where all sides are
    even, else three. `adapt` finds the width at which half of the proposals are accepted. Source: Creutz,
    Overrelaxation and Monte Carlo simulation, Physical Review D 36 (1987) 515.

    Args:
        action: an XY model, or a sum or multiple of such, on any lattice.
        overrelaxation: sweeps of reflections that follow each sweep of Metropolis.
        width: of the proposals, before it is adapted.

    Raises:
        ValueError: for another theory, or a width that is not positive.
    """

    action: Action
    overrelaxation: Whole = 2
    width: Positive = 1.0

    title = "XY Metropolis"
    step_words = "a sweep of Metropolis and sweeps of over-relaxation"

    def __post_init__(self) -> None:
        self.model  # noqa: B018 (refuses another theory before the first step)
        if not 0 < self.width < math.inf or self.overrelaxation < 0:
            raise ValueError(
                f"expected a positive width and no negative number of sweeps, got {self.width} and "
                f"{self.overrelaxation}"
            )

    @torch.no_grad()
    def adapt(
        self,
        state: AngleState,
        generator: Generator,
        thermalisation: int,  # noqa: ARG002 (few sweeps tell)
    ) -> "tuple[XYMetropolis, AngleState]":
        """The sampler with the width, at most π, at which half of the proposals are accepted."""
        log_width = math.log(min(self.width, math.pi))
        for turn in range(_ROUNDS):
            state, info = replace(self, width=math.exp(log_width)).step(state, generator)
            excess = float(info.accepted.mean()) - _TARGET
            log_width = min(log_width + 2 * excess / (1 + turn / 4), math.log(math.pi))
        return replace(self, width=math.exp(log_width)), state

    def found(self) -> dict[str, float]:
        """The width of the proposals."""
        return {"width": self.width}

    def adapted(self, found: Mapping[str, float]) -> "XYMetropolis":
        """The sampler with that width."""
        return replace(self, width=float(found["width"]))

    def _moved(self, x: Field, generator: Generator) -> tuple[Field, LogProb]:
        # float64, since in float32 one in 2²⁴ of the numbers is zero and would accept anything
        shape, place = (2, *x.shape), {"dtype": torch.float64, "device": x.device}
        shift, uniform = torch.rand(shape, generator=generator, **place)
        accepted = torch.zeros_like(x)
        for colour in self._colours(x.device):
            along, across = self.model.local_field(x)
            new = wrapped(x + (self.width * (2 * shift - 1)).to(x))
            gain = along * (new.cos() - x.cos()) + across * (new.sin() - x.sin())
            moves = colour & (uniform < torch.exp(gain))
            x, accepted = torch.where(moves, new, x), accepted + moves
        for _ in range(self.overrelaxation):
            for colour in self._colours(x.device):
                along, across = self.model.local_field(x)
                x = torch.where(colour, wrapped(2 * torch.atan2(across, along) - x), x)
        return x, accepted.flatten(1).mean(1)

    def _colours(self, device: torch.device) -> list[Mask]:
        return [colour.to(device) for colour in self._colouring]

    @cached_property
    def _colouring(self) -> list[Mask]:
        return colouring(self.action.lattice)


@dataclass(frozen=True)
class XYWolff(_AngleSampler):
    """Wolff's algorithm: the cluster of one site, reflected about an axis, both drawn at random.

        occupied with probability 1 − exp(−2 β J s_x s_y) where that is positive,   s_x = cos(θ_x − α)
        θ′ = π + 2α − θ on the cluster: s_x → −s_x, and the component across stays

    Given the axis α, one for each chain, the s_x are the spins of an Ising model with couplings
    β J |s_x s_y|. With a field the reflection is accepted with probability
    min(1, exp(−2 h cos α Σ_cluster s)). The clusters of all chains are found together. Source: Wolff,
    Collective Monte Carlo updating for spin systems, Physical Review Letters 62 (1989) 361.

    Args:
        action: an XY model, or a sum or multiple of such, on any lattice.

    Raises:
        ValueError: for another theory.
    """

    action: Action

    title = "Wolff"
    step_words = "one cluster, reflected about a random axis"

    def __post_init__(self) -> None:
        self.model  # noqa: B018 (refuses another theory before the first step)

    def _moved(self, x: Field, generator: Generator) -> tuple[Field, LogProb]:
        place = {"dtype": torch.float64, "device": x.device}
        axis, uniform = torch.rand((2, len(x), 1), generator=generator, **place)
        axis = (2 * math.pi * axis).to(x)
        across_lattice = axis.view(-1, *[1] * (x.ndim - 1))
        spins = torch.cos(x - across_lattice)
        labels, _ = connected_components(self._occupied(spins, generator))
        seed = torch.randint(labels.shape[1], (len(x), 1), generator=generator, device=x.device)
        cluster = labels == labels.gather(1, seed)
        total = (spins.flatten(1) * cluster).sum(1, keepdim=True)
        turned = cluster & (uniform < torch.exp(-2 * self.model.field * axis.cos() * total))
        new = torch.where(turned.view_as(x), wrapped(math.pi + 2 * across_lattice - x), x)
        return new, turned.to(x.dtype).mean(1)

    def _occupied(self, spins: Field, generator: Generator) -> Bool[Tensor, "directions batch *lattice"]:
        directions = range(1, spins.ndim)
        shape = (len(directions), *spins.shape)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=spins.device)
        products = torch.stack([spins * spins.roll(-1, axis) for axis in directions])
        strength = self.model.bond_strengths().to(spins)[:, None]
        return uniform < -torch.expm1(-2 * strength * products)


def colouring(lattice: Lattice) -> list[Mask]:
    """Masks that share out the sites of a torus such that no two sites of one are neighbours.

    Two of them, a checkerboard, where all sides are even; else three: along a side the colours 0, 1 take
    turns, the last site of an odd one has 2, and the colour of a site is the sum over the directions mod 3.

    Args:
        lattice: sides of at least 2.
    """
    sides = [torch.arange(side) % 2 for side in lattice]
    odd = [side % 2 == 1 for side in lattice]
    for colours, is_odd in zip(sides, odd, strict=True):
        if is_odd:
            colours[-1] = 2
    number = torch.stack(torch.meshgrid(*sides, indexing="ij")).sum(0) % (3 if any(odd) else 2)
    return [number == colour for colour in range(3 if any(odd) else 2)]
