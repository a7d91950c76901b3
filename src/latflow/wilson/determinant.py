"""log|det D| of the Wilson operator: reduced in time at a cost of L0 L1³, or dense, at V³.

In the spin basis where σ_0 = diag(1, −1), and with the sites of a time slice together, D is cyclic
block-tridiagonal:

    A_t  on the diagonal, 2 L1 rows      F_t  from slice t to t+1      B_t  from slice t to t−1

F has entries in the lower spin component alone and B in the upper one, each an L1 × L1 block f or b.
Eliminating the slice o between its neighbours e = o−1 and e' = o+1, with G = A_o⁻¹ and its spin blocks G_ss',
leaves det D = det A_o · det D', where D' has

    f'_e  = −f_e G_11 f_o         A'_e  = A_e  − f_e G_10 b_o     (in the spin block 10)
    b'_e' = −b_e' G_00 b_o        A'_e' = A_e' − b_e' G_01 f_o    (in the spin block 01)

so the hops keep their spin, and the diagonal spin blocks of A never change. Every second slice goes at each
level, all of them and all configurations in one batched factorisation, until the last one wraps onto itself:
A + F + B. An odd number of slices keeps two neighbours, whose hops stay as they are.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.errors import NearSingularWarning
from latflow.types import Links, LogProb
from latflow.wilson.linear_algebra import Determinant, inverse_and_determinant, slogdet
from latflow.wilson.operator import Boundary, dense, hops


def log_abs_det(links: Links, kappa: float, boundary: Boundary = "antiperiodic") -> tuple[LogProb, LogProb]:
    """(log|det D|, sign det D) of each configuration, by block-cyclic reduction.

    The lattice is reduced along its longer side. log|det D| is differentiable with respect to the links, as
    often as wanted; the sign has no gradient. A configuration in which an eliminated block is close to
    singular, as may happen when κ is large, is done again by `dense_log_abs_det`.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.

    Warns:
        NearSingularWarning: when D itself is close to singular, or a link is not finite. Where D is
            exactly singular log|det D| is −∞, the sign 0, and no gradient exists.

    Raises:
        ValueError: for links of another shape, or a boundary of another name.

    Example:
        >>> log_det, sign = log_abs_det(torch.zeros(1, 2, 4, 4, dtype=torch.float64), kappa=0.276)
        >>> print(f"{log_det.item():.10f}", sign.item())
        2.2491731772 1.0
    """
    phases = hops(links, boundary)
    if links.shape[3] > links.shape[2]:
        # a spin rotation exchanges σ_0 and σ_1, so relabelled axes have the same determinant
        phases = phases.flip(1).transpose(2, 3)
    whole, eliminated_ratio = _reduced(phases, kappa)
    weak = ~(eliminated_ratio > torch.finfo(links.dtype).eps ** 0.5)
    any_weak, near_singular = torch.stack((weak.any(), _is_near_singular(whole).any())).tolist()
    if any_weak:
        return _with_dense(weak, links, kappa, boundary)
    if near_singular:
        _warn(kappa)
    return whole.log_abs, _sign(whole)


def _with_dense(weak: Tensor, links: Links, kappa: float, boundary: Boundary) -> tuple[LogProb, LogProb]:
    """The weak configurations by the dense operator, the others reduced without them.

    Nothing is selected from a reduction of all: a gradient that is not finite would spoil the others'.
    """
    order = torch.cat((weak.nonzero()[:, 0], (~weak).nonzero()[:, 0])).argsort()
    parts = [dense_log_abs_det(links[weak], kappa, boundary)]
    if len(parts[0][0]) < len(links):
        parts.append(log_abs_det(links[~weak], kappa, boundary))
    log_abs, sign = (torch.cat(part)[order] for part in zip(*parts, strict=True))
    return log_abs, sign


def dense_log_abs_det(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> tuple[LogProb, LogProb]:
    """(log|det D|, sign det D) of each configuration from the dense operator, as a check.

    Arguments and warning are those of `log_abs_det`; the cost grows as V³ and the memory as V².
    """
    determinant = slogdet(dense(links, kappa, boundary))
    if bool(_is_near_singular(determinant).any()):
        _warn(kappa)
    return determinant.log_abs, _sign(determinant)


class _Slices(NamedTuple):
    """D at one level: n slices, in spin blocks of L1 × L1."""

    diagonal: Tensor
    """A_00 = A_11, (batch, n, L1, L1)."""
    upper: Tensor
    """A_01."""
    lower: Tensor
    """A_10."""
    forward: Tensor
    """f, in the spin block 11."""
    backward: Tensor
    """b, in the spin block 00."""


def _slices(phases: Tensor, kappa: float) -> _Slices:
    """The slices of D, after the rotation σ_0 = σ_x → σ_z, σ_1 = σ_y → −σ_y."""
    in_time, in_space = phases.unbind(1)
    sides = phases.shape[-1]
    identity = torch.eye(sides, dtype=phases.dtype, device=phases.device)
    hop = in_space[..., None] * identity.roll(1, 1)  # U_1(x) δ_{x+1,x'}
    upper = 1j * kappa * (hop - hop.mH)
    return _Slices(
        diagonal=identity - kappa * (hop + hop.mH),
        upper=upper,
        lower=-upper,
        forward=torch.diag_embed(-2 * kappa * in_time),
        backward=torch.diag_embed(-2 * kappa * in_time.roll(1, 1).conj()),
    )


def _reduced(phases: Tensor, kappa: float) -> tuple[Determinant, Tensor]:
    """det D, its pivot ratio that of the last slice, and the least pivot ratio of the eliminated slices."""
    slices = _slices(phases, kappa)
    log_abs = phases.real.new_zeros(len(phases))
    phase = phases.new_ones(len(phases))
    ratio = phases.real.new_ones(len(phases))
    while slices.diagonal.shape[1] > 1:
        slices, eliminated = _halved(slices)
        log_abs = log_abs + eliminated.log_abs.sum(1)
        phase = phase * eliminated.phase.prod(1)
        ratio = torch.minimum(ratio, eliminated.pivot_ratio.amin(1))
    diagonal, upper, lower, forward, backward = slices
    last = slogdet(_assembled(diagonal + backward, upper, lower, diagonal + forward)[:, 0])
    return Determinant(log_abs + last.log_abs, phase * last.phase, last.pivot_ratio), ratio


def _halved(slices: _Slices) -> tuple[_Slices, Determinant]:
    """Eliminate the slices 1, 3, …: what is left, and the determinants of the eliminated blocks."""
    count = slices.diagonal.shape[1]
    pairs = count // 2
    odd, before, kept = slice(1, 2 * pairs, 2), slice(0, 2 * pairs, 2), slice(0, None, 2)

    def after(block: Tensor) -> Tensor:
        return block.roll(-1, 1)[:, odd]

    diagonal, upper, lower, forward, backward = slices
    blocks = _assembled(diagonal[:, odd], upper[:, odd], lower[:, odd], diagonal[:, odd])
    inverse, determinant = inverse_and_determinant(blocks)
    sides = diagonal.shape[-1]
    g_upper, g_lower = inverse.split(sides, -2)  # [G_00 G_01] and [G_10 G_11]
    f_o, b_o = forward[:, odd], backward[:, odd]
    b_g00, b_g01 = (after(backward) @ g_upper).split(sides, -1)
    f_g10, f_g11 = (forward[:, before] @ g_lower).split(sides, -1)

    # of an odd number of slices the last one has no eliminated slice after it, and the first none before it
    lone_forward, lone_backward = forward[:, 2 * pairs :], backward[:, : count - 2 * pairs]
    nothing = torch.zeros_like(lone_forward)
    at_before = _joined(f_g10 @ b_o, nothing)
    at_after = _joined(b_g01 @ f_o, nothing).roll(1, 1)
    remaining = _Slices(
        diagonal=diagonal[:, kept],
        upper=upper[:, kept] - at_after,
        lower=lower[:, kept] - at_before,
        forward=_joined(-(f_g11 @ f_o), lone_forward),
        backward=_joined(-(b_g00 @ b_o), lone_backward).roll(1, 1),
    )
    return remaining, determinant


def _joined(eliminated: Tensor, lone: Tensor) -> Tensor:
    return torch.cat((eliminated, lone), 1)


def _assembled(upper_left: Tensor, upper_right: Tensor, lower_left: Tensor, lower_right: Tensor) -> Tensor:
    upper, lower = torch.cat((upper_left, upper_right), -1), torch.cat((lower_left, lower_right), -1)
    return torch.cat((upper, lower), -2)


def _sign(determinant: Determinant) -> Tensor:
    return torch.sgn(determinant.phase.real)


def _is_near_singular(determinant: Determinant) -> Tensor:
    """Where a quarter of the digits of det D, or fewer, are right; nan counts too."""
    return ~(determinant.pivot_ratio > torch.finfo(determinant.log_abs.dtype).eps ** 0.75)


def _warn(kappa: float) -> None:
    warnings.warn(
        f"nearly singular Wilson operator at kappa = {kappa}: "
        "log|det D| and its gradient have few correct digits",
        NearSingularWarning,
        stacklevel=3,
    )
