"""Blocks of (γ5 D)⁻¹ from the elimination of the time slices, at a cost of L0 L1³.

In the notation of `elimination`, X = H⁻¹ restricted to the kept slices is the inverse of H'. The matrix
C = diag(f_o, f_e†) joins the spins of o to those that it touches, spin 1 of e' and spin 0 of e. With the
block M of X between these two,

    X_{o,(e',e)} = −G C M,    X_oo = G + G C M C† G.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from latflow.wilson.elimination import Elimination, FirstLevel, Level, assembled, first_inverse, spin_blocks


class Neighbours(NamedTuple):
    """What derivatives of log|det D| need of X, each (batch, L0, L1)."""

    hop: Tensor
    """X from (t, x) in spin 0 to (t+1, x) in spin 1."""
    diagonal: Tensor
    """E(x, x) of E = X_01 + X_10 + i (X_00 − X_11) within a slice; its sum is Tr D⁻¹."""
    adjacent: Tensor
    """E(x+1, x)."""


class _Blocks(NamedTuple):
    """X at one level, blocks (batch, n, L1, L1), and the entries of E of `Neighbours`."""

    upper: Tensor
    lower: Tensor
    hop: Tensor
    """X from spin 0 of slice t to spin 1 of slice t+1."""
    diagonal: Tensor
    adjacent: Tensor


def neighbours(elimination: Elimination) -> Neighbours:
    """The entries of X = D⁻¹γ5 between neighbouring sites."""
    return _first_restored(elimination.first, _kept(elimination))


def traces(elimination: Elimination) -> Tensor:
    """Tr X_tt of every slice, over sites and spins, (batch, L0): Tr γ5 D⁻¹ of the slice, which is real."""
    kept, joined = _kept(elimination), _first_joined(elimination.first)
    of_kept = (kept.upper + kept.lower).diagonal(dim1=-2, dim2=-1).real.sum(-1)
    # of G itself the trace is zero, as G_00 = −G_11
    product = joined @ _touched(kept, joined.shape[1])
    return _interleaved(of_kept, (product * joined.conj()).real.sum((-2, -1)))


def from_first_slice(elimination: Elimination) -> Tensor:
    """X from all sites and spins of slice 0 to those of every slice, (batch, L0, 2 L1, 2 L1)."""
    sides = elimination.first.before.shape[-1]
    slices = elimination.last.shape[-1] // (2 * sides)
    columns = assembled(*(_sliced(block, slices)[:, :, 0] for block in spin_blocks(elimination.last)))
    joined = [_first_joined(elimination.first), *map(_joined, elimination.levels)]
    for level in reversed(joined):
        upper, lower = columns.split(sides, -2)
        pairs = level.shape[1]
        towards = torch.cat((_following(lower, pairs), upper[:, :pairs]), -2)
        columns = _interleaved(columns, -(level @ towards))
    return columns


def _kept(elimination: Elimination) -> _Blocks:
    """X of the slices that the first level keeps."""
    slices = elimination.last.shape[-1] // (2 * elimination.first.before.shape[-1])
    place = torch.arange(slices, device=elimination.last.device)
    of_spins = [_sliced(block, slices) for block in spin_blocks(elimination.last)]
    upper, mixed, adjoint, lower = (block[:, place, place] for block in of_spins)
    hop = of_spins[2][:, place.roll(-1), place]
    blocks = _Blocks(upper, lower, hop, *_entries_of_e(upper, mixed, adjoint, lower))
    for level in reversed(elimination.levels):
        blocks = _restored(level, blocks)
    return blocks


def _sliced(block: Tensor, slices: int) -> Tensor:
    """A spin block by slices, (batch, to, from, L1, L1)."""
    return block.unflatten(2, (slices, -1)).unflatten(1, (slices, -1)).transpose(2, 3)


def _restored(level: Level, kept: _Blocks) -> _Blocks:
    """X of a level from that of its kept slices."""
    pairs = level.upper.shape[1]
    joined = _joined(level)
    product = joined @ _touched(kept, pairs)
    (row_0, row_1), (joined_0, joined_1) = (
        block.split(block.shape[-1] // 2, -2) for block in (product, joined)
    )
    product_00, _, _, product_11 = spin_blocks(product)
    of_g = _entries_of_e(level.upper, level.mixed.mH, level.mixed, level.lower)
    of_product = _product_entries(row_0 - 1j * row_1, (joined_0 + 1j * joined_1).conj())
    diagonal, adjacent = (one + 1j * other for one, other in zip(of_g, of_product, strict=True))
    hop = _interleaved(-product_11, -product_00.mH)
    return _Blocks(
        upper=_interleaved(kept.upper, level.upper + row_0 @ joined_0.mH),
        lower=_interleaved(kept.lower, level.lower + row_1 @ joined_1.mH),
        hop=torch.cat((hop, kept.hop[:, pairs:]), 1),
        diagonal=_interleaved(kept.diagonal, diagonal),
        adjacent=_interleaved(kept.adjacent, adjacent),
    )


def _first_restored(first: FirstLevel, kept: _Blocks) -> Neighbours:
    """As `_restored`, where C is diagonal and (1, −i) G = −iK (1, i): E_oo = 2K − iKNK, N from C M C†."""
    propagation, before, after = first
    pairs = before.shape[1]
    touched = _touched(kept, pairs)
    m_00, m_01, m_10, m_11 = spin_blocks(_joint(after, before.conj()).mT * touched)
    mixed, lower = first_inverse(propagation)
    # the diagonals of (G C M)_11 and of (G C M)_00†
    to_before = (mixed * m_01.mT + lower * m_11.mT).sum(-1)
    to_after = (mixed * m_10.mT - lower * m_00.mT).sum(-1).conj()
    n = (m_00 + 1j * m_10) * after.conj()[..., None, :] + (1j * m_01 - m_11) * before[..., None, :]
    through = _product_entries(propagation @ n, propagation.mT)
    diagonal, adjacent = (
        2 * direct - 1j * entries for direct, entries in zip(_entries(propagation), through, strict=True)
    )
    hop = torch.cat((_interleaved(-to_before, -to_after), kept.hop[:, pairs:].diagonal(dim1=-2, dim2=-1)), 1)
    return Neighbours(hop, _interleaved(kept.diagonal, diagonal), _interleaved(kept.adjacent, adjacent))


def _first_joined(first: FirstLevel) -> Tensor:
    """G C of the first level."""
    mixed, lower = first_inverse(first.propagation)
    return assembled(-lower, mixed, mixed, lower) * _joint(first.after, first.before.conj())


def _joined(level: Level) -> Tensor:
    """G C further down, (batch, pairs, 2 L1, 2 L1)."""
    off_diagonal = (level.before @ level.mixed).mH
    return assembled(level.joined_upper, off_diagonal, level.joined_mixed, level.joined_lower)


def _joint(left: Tensor, right: Tensor) -> Tensor:
    return torch.cat((left, right), -1)[..., None, :]


def _touched(kept: _Blocks, pairs: int) -> Tensor:
    """M: X between (e', spin 1) and (e, spin 0) for each eliminated slice."""
    hop = kept.hop[:, :pairs]
    return assembled(_following(kept.lower, pairs), hop, hop.mH, kept.upper[:, :pairs])


def _following(kept: Tensor, pairs: int) -> Tensor:
    """Of the kept slices, those that follow an eliminated one."""
    return kept.roll(-1, 1)[:, :pairs]


def _interleaved(kept: Tensor, eliminated: Tensor) -> Tensor:
    """All slices in their order; of an odd number the last one was kept."""
    pairs = eliminated.shape[1]
    return torch.cat((torch.stack((kept[:, :pairs], eliminated), 2).flatten(1, 2), kept[:, pairs:]), 1)


def _entries_of_e(upper: Tensor, mixed: Tensor, adjoint: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """`_entries` of E from blocks of X, of which E is a linear function."""
    blocks = zip(*map(_entries, (upper, mixed, adjoint, lower)), strict=True)
    diagonal, adjacent = (b_01 + b_10 + 1j * (b_00 - b_11) for b_00, b_01, b_10, b_11 in blocks)
    return diagonal, adjacent


def _entries(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The entries (x, x) and (x+1, x)."""
    place = torch.arange(matrix.shape[-1], device=matrix.device)
    return matrix.diagonal(dim1=-2, dim2=-1), matrix[..., place.roll(-1), place]


def _product_entries(left: Tensor, right_transposed: Tensor) -> tuple[Tensor, Tensor]:
    """`_entries` of a product of two matrices."""
    return (left * right_transposed).sum(-1), (left.roll(-1, -2) * right_transposed).sum(-1)
