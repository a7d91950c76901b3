"""The one place through which every factorisation goes: LU, and eigenvalues.

PyTorch 2.13's CPU build never returns from a batched LU (`slogdet`, `lu_factor`, `inv`, `solve`) of matrices
of 160 rows or more when the batch holds two of them and more than one thread is set; with another code path
forced it returns wrong numbers. One matrix at a time is right. Hence nothing else in this library calls
`torch.linalg` for a factorisation, an inverse or a determinant. Eigenvalues do not hang: there is no LU in
them, and LAPACK gets one matrix at a time.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

SAFE_ROWS = 128
"""Up to this size the CPU factorises a batch in one call: 144 rows have been seen to work, 160 to hang."""


class Determinant(NamedTuple):
    """A determinant, and how far its matrix is from a singular one; each of shape (*batch,)."""

    log_abs: Tensor
    """log|det A|, summed in float64; −∞ when A is singular."""
    phase: Tensor
    """det A / |det A|, of A's dtype; 0 when A is singular. No gradient flows through it."""
    pivot_ratio: Tensor
    """min|U_ii| / max|U_ii| of A = PLU: about 1/cond(A), and 0 or nan where A is singular."""


def inverse(matrix: Tensor) -> Tensor:
    """A⁻¹ of each matrix of a batch (*batch, n, n); not finite where A is singular."""
    return inverse_and_determinant(matrix)[0]


def slogdet(matrix: Tensor) -> Determinant:
    """The determinant of each matrix of a batch (*batch, n, n)."""
    if torch.is_grad_enabled() and matrix.requires_grad:
        return inverse_and_determinant(matrix)[1]  # the gradient needs the inverse
    return _determinant(*_factorized(matrix))


def inverse_and_determinant(matrix: Tensor) -> tuple[Tensor, Determinant]:
    """A⁻¹ and det A of each matrix of a batch (*batch, n, n), by one factorisation.

    Both are differentiable, as often as wanted: d log|det A| = Re Tr(A⁻¹ dA), dA⁻¹ = −A⁻¹ dA A⁻¹.
    """
    inverse, *determinant = _InverseAndDeterminant.apply(matrix)  # pyright: ignore[reportGeneralTypeIssues]
    return inverse, Determinant(*determinant)


def eigenvalues(matrix: Tensor) -> Tensor:
    """The eigenvalues of each matrix of a batch (*batch, n, n), complex and in no order."""
    return torch.linalg.eigvals(matrix)


def hermitian_eigenvalues(matrix: Tensor) -> Tensor:
    """The real eigenvalues of each Hermitian matrix of a batch (*batch, n, n), in ascending order."""
    return torch.linalg.eigvalsh(matrix)


class _InverseAndDeterminant(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, ...]:
        factors, pivots = _factorized(matrix)
        inverse = _inverse(factors, pivots)
        determinant = _determinant(factors, pivots)
        ctx.save_for_backward(inverse)
        ctx.mark_non_differentiable(determinant.phase, determinant.pivot_ratio)
        ctx.set_materialize_grads(False)
        return inverse, *determinant

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor | None) -> Tensor | None:
        to_inverse, to_log_abs, _, _ = gradients
        adjoint = ctx.saved_tensors[0].mH  # pyright: ignore[reportAttributeAccessIssue]
        total = None
        if to_inverse is not None:
            total = -(adjoint @ to_inverse @ adjoint)
        if to_log_abs is not None:
            direct = to_log_abs.to(adjoint.real.dtype)[..., None, None] * adjoint
            total = direct if total is None else total + direct
        return total


def _one_at_a_time(matrix: Tensor) -> bool:
    return matrix.device.type == "cpu" and matrix.shape[-1] > SAFE_ROWS and matrix.shape[:-2].numel() > 1


def _factorized(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(LU, pivots) of A = PLU; a singular matrix raises nothing, and leaves a zero on U's diagonal."""
    if not _one_at_a_time(matrix):
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        return factors, pivots
    single = [torch.linalg.lu_factor_ex(one) for one in matrix.flatten(0, -3)]
    factors = torch.stack([one.LU for one in single]).view(matrix.shape)
    return factors, torch.stack([one.pivots for one in single]).view(matrix.shape[:-1])


def _inverse(factors: Tensor, pivots: Tensor) -> Tensor:
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    if not _one_at_a_time(factors):
        return torch.linalg.lu_solve(factors, pivots, identity.expand(factors.shape))
    pairs = zip(factors.flatten(0, -3), pivots.flatten(0, -2), strict=True)
    return torch.stack([torch.linalg.lu_solve(*pair, identity) for pair in pairs]).view(factors.shape)


def _determinant(factors: Tensor, pivots: Tensor) -> Determinant:
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    in_place = torch.arange(1, diagonal.shape[-1] + 1, dtype=pivots.dtype, device=pivots.device)
    parity = 1 - 2 * ((pivots != in_place).sum(-1) % 2)
    size = diagonal.abs()
    return Determinant(
        log_abs=size.log().sum(-1, dtype=torch.float64),
        phase=torch.sgn(diagonal).prod(-1) * parity,
        pivot_ratio=size.amin(-1) / size.amax(-1),
    )
