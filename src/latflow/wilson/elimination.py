"""Eliminating the time slices of γ5 D, every second one at a time, at a cost of L0 L1³.

In the spin basis where σ_0 = diag(1, −1) and σ_1 = −σ_y, γ5 exchanges the two spins, and H = γ5 D is
Hermitian. With the sites of a time slice together H is cyclic block-tridiagonal, of L1 × L1 spin blocks:

    H_tt = [[ −u, a ], [ a, u ]]      a = 1 − κ(h + h†),  u = iκ(h − h†),  h(x,x') = U_1(x) δ_{x+1,x'}
    H_{t,t+1} = [[ 0, f ], [ 0, 0 ]]  f = −2κ U_0,  and  H_{t+1,t} = H_{t,t+1}†

Eliminating the slice o between its neighbours e = o−1 and e' = o+1, with G = H_oo⁻¹, leaves
det H = det H_oo · det H', where

    (H'_ee)_00 = (H_ee)_00 − f_e G_11 f_e†
    (H'_e'e')_11 = (H_e'e')_11 − f_o† G_00 f_o
    f'_e = −f_e G_10 f_o

so that hops keep their place, and a never changes. Every second slice goes at each level, until the last one
wraps onto itself; an odd number of slices keeps two neighbours, whose hop stays as it is.

Where κ is beyond its critical value hops grow: at spatial momentum zero of the free field |f/a| = 2κ/(1 − 2κ)
is squared at each level, and rounding errors of large components drown the small ones. The pivot ratio of
the last block shows it. Elimination can stop where hops span fewer slices, with a larger block left.

Only one inverse of an L1 × L1 block is computed for a slice, and none at the first level. As h^L1 = w, the
product of the links around the slice, the propagation in one direction is a finite geometric sum,

    (1 − ρh)⁻¹ = Σ_{n<L1} (ρh)ⁿ / (1 − ρ^L1 w).

At ρ = 2κ it gives G at the first level, as a ± iu = 1 − 2κh or 1 − 2κh†, and it gives a⁻¹ by the ρ for which
a ∝ (1 − ρh)(1 − ρh†). Further down G_10 = (a − H_00 a⁻¹ H_11)⁻¹, and the other blocks of G follow.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.lattice import summed
from latflow.wilson.linear_algebra import Determinant, inverse_and_determinant, slogdet


class Elimination(NamedTuple):
    """H with all slices eliminated: its determinant, and what going back needs."""

    log_abs: Tensor
    """log|det D|, (batch,), in float64."""
    sign: Tensor
    """The sign of det D."""
    pivot_ratio: Tensor
    """The least of all blocks, about 1/cond: small where digits are lost, though D may be regular."""
    first: "FirstLevel"
    levels: list["Level"]
    last: Tensor
    """X of the slices that are left, n of them: (batch, 2 n L1, 2 n L1), spin first, slice, site."""


class FirstLevel(NamedTuple):
    """The slices 1, 3, … of the operator itself."""

    propagation: Tensor
    """K = (1 − 2κh)⁻¹, (batch, pairs, L1, L1)."""
    before: Tensor
    """f_e, diagonal: (batch, pairs, L1)."""
    after: Tensor
    """f_o."""


class Level(NamedTuple):
    """The slices eliminated further down, (batch, pairs, …)."""

    upper: Tensor
    """G_00."""
    mixed: Tensor
    """G_10 = G_01†."""
    lower: Tensor
    """G_11."""
    before: Tensor
    """f_e."""
    joined_upper: Tensor
    """G_00 f_o, of the blocks of G C."""
    joined_mixed: Tensor
    """G_10 f_o."""
    joined_lower: Tensor
    """G_11 f_e†."""


class _Slices(NamedTuple):
    """H at one level, blocks (batch, n, L1, L1)."""

    mixed: Tensor
    """a = H_01 = H_10."""
    mixed_inverse: Tensor
    upper: Tensor
    """H_00."""
    lower: Tensor
    """H_11."""
    hop: Tensor
    """f."""
    log_mixed: Tensor
    """log det a, (batch, n)."""


def eliminate(phases: Tensor, kappa: float, span: int | None = None) -> Elimination:
    """Eliminate the slices of each configuration.

    Args:
        phases: the `hops`, (batch, 2, L0, L1).
        kappa: |κ| < ½; from there on a may be singular.
        span: stop where a hop spans this many slices; None: at a single slice.
    """
    first, slices, levels, log_abs, sign, ratio = _descended(phases, kappa, span)
    last, determinant = inverse_and_determinant(_last_block(slices))
    return Elimination(
        log_abs=log_abs + determinant.log_abs,
        sign=sign * torch.sgn(determinant.phase.real),
        pivot_ratio=torch.minimum(ratio, determinant.pivot_ratio),
        first=first,
        levels=levels,
        last=last.roll(last.shape[-1] // 2, -1),  # γ5 exchanged the rows
    )


def turned_determinants(
    phases: Tensor, kappa: float, turns: Tensor, span: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """log|det D| and its sign, (batch, turns), where all loops in time are turned by angles; and the pivots.

    A turn is a phase of one hop, and what is eliminated before the last hop is left does not see it. The
    pivot ratio is that of the eliminated slices: where det D itself vanishes nothing is wrong.

    Args:
        phases: as of `eliminate`.
        kappa: likewise.
        turns: the angles.
        span: as of `eliminate`.
    """
    _, slices, _, log_abs, sign, ratio = _descended(phases, kappa, span)
    *others, last = slices.hop.split(1, 1)
    phase = torch.polar(torch.ones_like(turns), turns).to(phases.dtype)
    blocks = [_last_block(slices._replace(hop=torch.cat((*others, one * last), 1))) for one in phase]
    determinant = slogdet(torch.stack(blocks, 1))
    signs = sign[:, None] * torch.sgn(determinant.phase.real)
    return log_abs[:, None] + determinant.log_abs, signs, ratio


class _Descent(NamedTuple):
    """What is left when every second slice has been eliminated again and again, and what that has given."""

    first: FirstLevel
    slices: _Slices
    levels: list[Level]
    log_abs: Tensor
    sign: Tensor
    pivot_ratio: Tensor


def _descended(phases: Tensor, kappa: float, span: int | None) -> _Descent:
    keep = 1 if span is None else -(-phases.shape[2] // span)
    first, slices, log_abs = _first_eliminated(phases, kappa)
    sign, ratio = phases.real.new_ones(len(phases)), phases.real.new_ones(len(phases))
    levels = []
    while slices.hop.shape[1] > keep:
        level_log_mixed = slices.log_mixed[:, 1::2]
        slices, level, schur = _eliminated(slices)
        levels.append(level)
        log_abs = log_abs + summed(schur.log_abs) + summed(level_log_mixed)
        sign = sign * torch.sgn(schur.phase.real).prod(1)
        ratio = torch.minimum(ratio, schur.pivot_ratio.amin(1))
    return _Descent(first, slices, levels, log_abs, sign, ratio)


def _last_block(slices: _Slices) -> Tensor:
    """γ5 H' of the slices that are left, (batch, 2 n L1, 2 n L1), spin first, slice, site."""
    mixed, _, upper, lower, hop, _ = slices
    within = torch.eye(hop.shape[1], dtype=hop.dtype, device=hop.device)
    forward = within.roll(1, 1)

    def placed(blocks: Tensor, places: Tensor) -> Tensor:
        return torch.einsum("bnij,nm->bnimj", blocks, places).flatten(3, 4).flatten(1, 2)

    diagonal, ahead = placed(mixed, within), placed(hop, forward)
    return assembled(diagonal + ahead.mH, placed(lower, within), placed(upper, within), diagonal + ahead)


def _first_eliminated(phases: Tensor, kappa: float) -> tuple[FirstLevel, _Slices, Tensor]:
    """The first level, the slices that are left, and what log|det D| has of both in closed form."""
    in_time, in_space = phases.unbind(1)
    pairs = in_time.shape[1] // 2
    odd, kept = slice(1, 2 * pairs, 2), slice(0, None, 2)
    hop = -2 * kappa * in_time
    before, after = hop[:, : 2 * pairs : 2], hop[:, odd]
    propagation, log_norm = _propagation(in_space[:, odd], 2 * kappa)
    mixed, lower = first_inverse(propagation)

    # a = (1 − ρh)(1 − ρh†) / (1 + ρ²)
    root = math.sqrt(1 - 4 * kappa**2)
    rho = 2 * kappa / (1 + root)
    rows = in_space.shape[-1]
    identity = torch.eye(rows, dtype=phases.dtype, device=phases.device)
    geometric, log_kept = _propagation(in_space[:, kept], rho)
    step = (kappa * in_space[:, kept, :, None]) * identity.roll(1, 1)
    current = 1j * (step - step.mH)
    remaining = _remaining(
        _Slices(
            mixed=identity - step - step.mH,
            mixed_inverse=(geometric + geometric.mH - identity) / root,
            upper=-current,
            lower=current,
            hop=torch.diag_embed(hop[:, 2 * pairs :]),
            log_mixed=log_kept - rows * math.log1p(rho**2),
        ),
        at_before=before[..., None] * lower * before.conj()[..., None, :],
        at_after=-after.conj()[..., None] * lower * after[..., None, :],
        across=-before[..., None] * mixed * after[..., None, :],
    )
    return FirstLevel(propagation, before, after), remaining, summed(log_norm)


def _propagation(in_space: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """(1 − ρh)⁻¹ of each slice, and log|det(1 − ρh)|² = 2 log|1 − ρ^L1 w|."""
    rows = in_space.shape[-1]
    along = in_space.cumprod(-1)
    start = torch.cat((torch.ones_like(along[..., :1]), along[..., :-1]), -1)
    winding = along[..., -1]
    place = torch.arange(rows, device=in_space.device)
    steps = place - place[:, None]
    weight = (ratio ** (steps % rows).to(in_space.real.dtype)).to(in_space.dtype)
    norm = 1 - ratio**rows * winding
    # the part below the diagonal has gone around
    transport = (start.conj() / norm[..., None])[..., None] * start[..., None, :]
    weights = torch.addcmul(weight.triu(), weight.tril(-1), winding[..., None, None])
    return transport * weights, 2 * norm.abs().log()


def first_inverse(propagation: Tensor) -> tuple[Tensor, Tensor]:
    """(G_10, G_11) from K; G_01 is G_10, and G_00 is −G_11."""
    adjoint = propagation.mH
    return 0.5 * (propagation + adjoint), 0.5j * (propagation - adjoint)


def _eliminated(slices: _Slices) -> tuple[_Slices, Level, Determinant]:
    """Eliminate the slices 1, 3, …; the determinants are those of the Schur complements of a."""
    pairs = slices.hop.shape[1] // 2
    mixed, mixed_inverse, upper, lower, after, _ = (block[:, 1 : 2 * pairs : 2] for block in slices)
    before = slices.hop[:, : 2 * pairs : 2]
    from_lower = mixed_inverse @ lower
    g_mixed, determinant = inverse_and_determinant(mixed - upper @ from_lower)
    g_upper = -(from_lower @ g_mixed)
    g_lower = -(g_mixed @ (upper @ mixed_inverse))
    joined_upper, joined_mixed, joined_lower = g_upper @ after, g_mixed @ after, g_lower @ before.mH
    remaining = _remaining(
        _Slices(*(block[:, ::2] for block in slices))._replace(hop=slices.hop[:, 2 * pairs :]),
        at_before=before @ joined_lower,
        at_after=after.mH @ joined_upper,
        across=-(before @ joined_mixed),
    )
    level = Level(g_upper, g_mixed, g_lower, before, joined_upper, joined_mixed, joined_lower)
    return remaining, level, determinant


def _remaining(kept: _Slices, at_before: Tensor, at_after: Tensor, across: Tensor) -> _Slices:
    """The kept slices, given the hop of a lone last one, with what the eliminated ones leave behind."""
    if kept.hop.shape[1]:
        nothing = torch.zeros_like(kept.hop)
        across = torch.cat((across, kept.hop), 1)
        at_before, at_after = torch.cat((at_before, nothing), 1), torch.cat((at_after, nothing), 1)
    return kept._replace(upper=kept.upper - at_before, lower=kept.lower - at_after.roll(1, 1), hop=across)


def spin_blocks(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The blocks 00, 01, 10, 11."""
    upper, lower = matrix.chunk(2, -2)
    (block_00, block_01), (block_10, block_11) = upper.chunk(2, -1), lower.chunk(2, -1)
    return block_00, block_01, block_10, block_11


def assembled(block_00: Tensor, block_01: Tensor, block_10: Tensor, block_11: Tensor) -> Tensor:
    """The matrix of these blocks."""
    return torch.cat((torch.cat((block_00, block_01), -1), torch.cat((block_10, block_11), -1)), -2)
