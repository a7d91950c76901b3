"""Exact results of the Ising model on narrow lattices, whatever its couplings and its field: row by row."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.lattice import volume
from latflow.theories.ising.action import Ising
from latflow.theories.ising.solution import spin_states

LONGEST_ROW = 8
"""The transfer matrix has 2 to this power states: a tenth of a second for each row."""


class ByRows(NamedTuple):
    """log Z, ⟨S⟩ and ⟨S²⟩ − ⟨S⟩²."""

    log_z: float
    action: float
    action_variance: float


@lru_cache(maxsize=16)
@torch.inference_mode(False)
@torch.enable_grad()
def ising_by_rows(model: Ising) -> ByRows:
    """Z = Tr Π_r T_r, with a transfer matrix of its own from each row to the next.

        log T_r(s, s′) = β Σ_x [J_1(r, x) s_x s_{x+1} + J_0(r, x) s_x s′_x] + h Σ_x s_x

    and the rows along the shorter side. With exp(−λS) in place of exp(−S), ⟨S⟩ = −∂ log Z/∂λ and the
    variance is ∂² log Z/∂λ², at λ = 1.

    Args:
        model: on one or two sides, the shorter of two at most 8.

    Raises:
        ValueError: for another lattice.

    Example:
        >>> round(ising_by_rows(Ising((4, 4), beta=0.44068679)).log_z, 10)
        15.5219153708
    """
    sides = model.lattice
    if len(sides) > 2 or (len(sides) == 2 and min(sides) > LONGEST_ROW):
        raise ValueError(f"expected one or two sides, the shorter at most {LONGEST_ROW}, got {sides}")
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    product, log_z = None, torch.zeros((), dtype=torch.float64)
    for exponent in _exponents(model):
        log_transfer = factor * exponent
        shift = log_transfer.detach().max()
        transfer = torch.exp(log_transfer - shift)
        product = transfer if product is None else product @ transfer
        scale = product.detach().max()
        product, log_z = product / scale, log_z + shift + scale.log()
    assert product is not None
    log_z = log_z + product.trace().log()
    # what was shifted has no graph: its part of the derivatives is that of the matrices
    (first,) = torch.autograd.grad(log_z, factor, create_graph=True)
    (second,) = torch.autograd.grad(first, factor)
    return ByRows(float(log_z.detach()), -float(first.detach()), float(second))


def _exponents(model: Ising) -> list[Float[Tensor, "states states"]]:
    """log T_r of each row."""
    strengths = model.bond_strengths()
    if len(model.lattice) == 1:
        between, within = strengths[0][:, None], torch.zeros(volume(model.lattice), 1, dtype=torch.float64)
    elif model.lattice[0] >= model.lattice[1]:
        between, within = strengths
    else:
        within, between = (part.T for part in strengths)
    states = spin_states((between.shape[1],))
    bonds, magnetization = states * states.roll(-1, 1), states.sum(1)
    return [
        (bonds @ along + model.field * magnetization)[:, None] + (states * across) @ states.T
        for across, along in zip(between, within, strict=True)
    ]
