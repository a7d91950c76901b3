"""Conditional distributions of the XY model that are known in closed form, as maps of uniform angles."""

import math

import torch
from torch import Tensor

from latflow.densities.flows.scalar_maps import Parameters
from latflow.theories.xy.action import XY
from latflow.theories.xy.flow.circle import GeneralizedVonMises
from latflow.theories.xy.flow.stages import Stage
from latflow.types import Field

_HARMONICS, _NODES = 10, 32
"""The harmonics of log I₀(|s + K e^{iθ}|) fall as e^{−1.6k} or faster at β = 1, so that 10⁻⁷ is left out."""


def last_conditional(theory: XY, x: Field, stage: Stage) -> tuple[GeneralizedVonMises, Parameters]:
    """Sites whose neighbours are all known: the distribution of von Mises about the local field.

    Args:
        theory: the XY model, on the lattice of x.
        x: angles, those at active sites being of no account.
        stage: which sites are active.

    Returns:
        The map, and its parameters at the active sites.
    """
    along, across = (part.flatten(1)[:, stage.active] for part in theory.local_field(x))
    length = torch.sqrt(along**2 + across**2 + _tiny(x))
    return GeneralizedVonMises(1), torch.stack(
        (length, torch.zeros_like(length), torch.atan2(across, along)), 1
    )


def conditional_before(theory: XY, x: Field, stage: Stage) -> tuple[GeneralizedVonMises, Parameters]:
    """Sites of which all but the odd sublattice is known, over which the XY model is integrated.

        p(θ) ∝ exp(h cos θ) Π_j I₀(|s_j + K_j e^{iθ}|),   j the neighbours of the site, all odd

    with K_j = β J of the bond to j, and s_j the local field at j of its other neighbours. With ρ e^{iα} = s_j
    the logarithm of each factor is a series of cosines of θ − α, and g the sum of these series; it is cut off
    where nothing is left. Arguments and result are those of `last_conditional`; no two active sites have
    a neighbour in common.
    """
    unknown = torch.zeros(math.prod(x.shape[1:]), dtype=torch.bool, device=x.device)
    unknown[stage.active] = True
    odd = torch.stack(torch.meshgrid(*(torch.arange(side) for side in x.shape[1:]), indexing="ij")).sum(0) % 2
    hidden = unknown.view(x.shape[1:]) | (odd == 1).to(x.device)
    fields = theory.field_of(x.cos().where(~hidden, 0.0), x.sin().where(~hidden, 0.0))
    strengths = theory.bond_strengths().to(x)
    exponents = torch.zeros((), dtype=x.dtype, device=x.device)
    for axis, ahead in enumerate(strengths, start=1):
        for step, strength in ((-1, ahead), (1, ahead.roll(1, axis - 1))):
            along, across = (part.roll(step, axis).flatten(1)[:, stage.active] for part in fields)
            exponents = exponents + _cosines(along, across, strength.flatten()[stage.active])
    first = exponents[..., 0] + theory.field
    exponents = torch.cat((first[..., None], exponents[..., 1:]), -1)
    # seen from the direction of the first harmonic, as the other maps are from that of their local field
    shift = torch.atan2(-first.imag, first.real)
    orders = torch.arange(1, _HARMONICS + 1, dtype=x.dtype, device=x.device)
    turns = shift[..., None] * orders
    turned = exponents * torch.complex(turns.cos(), turns.sin())
    parameters = torch.cat((turned.real, -turned.imag, shift[..., None]), -1)
    return GeneralizedVonMises(_HARMONICS), parameters.transpose(1, 2)


def _cosines(along: Tensor, across: Tensor, strength: Tensor) -> Tensor:
    """a_k − i b_k of log I₀(|s + K e^{iθ}|) = Σ_k c_k(|s|) cos k(θ − arg s), (batch, active, harmonics)."""
    nodes = 2 * math.pi * torch.arange(_NODES, dtype=along.dtype, device=along.device) / _NODES
    orders = torch.arange(1, _HARMONICS + 1, dtype=along.dtype, device=along.device)
    length = torch.sqrt(along**2 + across**2 + _tiny(along))
    squared = (length**2 + strength**2)[..., None] + 2 * (length * strength)[..., None] * nodes.cos()
    argument = torch.sqrt(squared.clamp(min=0) + _tiny(along))
    logarithm = argument + torch.special.i0e(argument).log()
    cosines = logarithm @ torch.cos(nodes[:, None] * orders) * (2 / _NODES)
    turns = torch.atan2(across, along)[..., None] * orders
    return cosines * torch.complex(turns.cos(), -turns.sin())


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
