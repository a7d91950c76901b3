"""The Wilson operator of two-dimensional fermions in a U(1) gauge field, dense and matrix-free.

    D(y,x) = δ_{yx} − κ Σ_μ { (1−σ_μ) U_μ(y) δ_{y+μ,x} + (1+σ_μ) U_μ*(y−μ) δ_{y−μ,x} }

with σ_0 = σ_x, σ_1 = σ_y, γ5 = σ_z and U_μ = exp(iθ_μ). Antiperiodic boundaries give the hops that cross the
end of direction 0, the time, a factor −1. γ5 D γ5 = D†, so det D is real. Source: Białas, Korcyl, Stebel,
Training normalizing flows with computationally intensive target probability distributions, eq. 25 (its
U_μ(y−x+μ̂) is a misprint for U_μ(y)).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from latflow.types import Fermions, Links, Matrices

Boundary = Literal["antiperiodic", "periodic"]
"""How fermions cross the end of the time direction."""


def hops(links: Links, boundary: Boundary = "antiperiodic") -> Tensor:
    """U_μ(x) = exp(iθ_μ(x)), with the sign of the boundary on the last time slice of U_0, (batch, 2, L0, L1).

    float32 angles give complex64, float64 angles complex128.

    Raises:
        ValueError: for a boundary of another name, or a field that is not (batch, 2, L0, L1).
    """
    if boundary not in get_args(Boundary):
        raise ValueError(f"expected the boundary to be one of {get_args(Boundary)}, got {boundary!r}")
    if links.ndim != 4 or links.shape[1] != 2:
        raise ValueError(f"expected links of shape (batch, 2, L0, L1), got {tuple(links.shape)}")
    phases = torch.complex(links.cos(), links.sin())
    if boundary == "periodic":
        return phases
    sign = links.new_ones(2, links.shape[2], 1)
    sign[0, -1] = -1
    return phases * sign


def dense(links: Links, kappa: float, boundary: Boundary = "antiperiodic") -> Matrices:
    """D as matrices (batch, 2V, 2V); the row of spin s at the site (x0, x1) is 2(L1·x0 + x1) + s.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.

    Raises:
        ValueError: as `hops`.
    """
    phases = hops(links, boundary)
    batch, lattice = len(links), links.shape[2:]
    volume = math.prod(lattice)
    site = torch.arange(volume, device=links.device).view(*lattice)
    spin = torch.arange(2, device=links.device)
    rows, columns, values = [], [], []
    for direction, gamma in enumerate(_gammas(phases)):
        forward = phases[:, direction]
        here, there = site.flatten(), site.roll(-1, direction).flatten()
        for y, x, phase, projector in ((here, there, forward, -gamma), (there, here, forward.conj(), gamma)):
            spins = torch.eye(2, dtype=phases.dtype, device=phases.device) + projector
            rows.append((2 * y[:, None, None] + spin[:, None]).expand(volume, 2, 2))
            columns.append((2 * x[:, None, None] + spin).expand(volume, 2, 2))
            values.append(phase.flatten(1)[..., None, None] * (-kappa * spins))
    size = 2 * volume
    entries = (torch.stack(rows) * size + torch.stack(columns)).flatten()
    identity = torch.eye(size, dtype=phases.dtype, device=phases.device).flatten().repeat(batch, 1)
    return identity.index_add(1, entries, torch.stack(values, 1).flatten(1)).view(batch, size, size)


def apply(
    links: Links, psi: Fermions, kappa: float, boundary: Boundary = "antiperiodic", *, adjoint: bool = False
) -> Fermions:
    """Dψ, or D†ψ, without a matrix.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        psi: the fermion field, (batch, L0, L1, 2), spin last.
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.
        adjoint: D† in place of D: the projectors 1 ± σ_μ change places.

    Raises:
        ValueError: as `hops`.
    """
    phases = hops(links, boundary)
    result = psi
    for direction, gamma in enumerate(_gammas(phases)):
        axis, phase = direction + 1, phases[:, direction, ..., None]
        forward = phase * psi.roll(-1, axis)
        backward = (phase.conj() * psi).roll(1, axis)
        sigma = -gamma if adjoint else gamma
        # (1−σ)f + (1+σ)b = f + b + σ(b−f)
        result = result - kappa * (forward + backward + (backward - forward) @ sigma.mT)
    return result


def _gammas(like: Tensor) -> tuple[Tensor, Tensor]:
    """(σ_x, σ_y)."""
    sigma_x = torch.tensor([[0, 1], [1, 0]], dtype=like.dtype, device=like.device)
    sigma_y = torch.tensor([[0, -1j], [1j, 0]], dtype=like.dtype, device=like.device)
    return sigma_x, sigma_y
