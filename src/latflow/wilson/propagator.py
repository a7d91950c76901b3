"""Columns of D⁻¹ from a whole time slice, and its traces over time slices, by elimination."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from latflow.types import Links
from latflow.wilson.determinant import warn_if_any
from latflow.wilson.elimination import eliminate
from latflow.wilson.escalation import Results, with_escalation
from latflow.wilson.linear_algebra import inverse_and_determinant
from latflow.wilson.operator import Boundary, dense, hops
from latflow.wilson.restoration import from_first_slice, traces


def slice_norms(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic", source: int = 0
) -> Float[Tensor, "batch L0"]:
    """Σ |D⁻¹(source+t, x, s'; source, y, s)|² over x, y, s, s' for t = 0 … L0−1.

    The whole source slice is solved for by block elimination and back substitution, at a cost of L0 L1³.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.
        source: the time slice of the source.

    Warns:
        NearSingularWarning: as `log_abs_det`.

    Raises:
        ValueError: for links of another shape, a boundary of another name, or a slice beyond L0.
    """
    _checked(links, boundary, source)
    (norms,), singular = with_escalation(
        links,
        kappa,
        reduced=lambda part, span: _reduced(part, kappa, boundary, source, span),
        dense=lambda part: _dense(part, kappa, boundary, source),
    )
    warn_if_any(singular, kappa)
    return norms.to(links.dtype)


def slice_propagator(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic", source: int = 0
) -> Complex[Tensor, "batch L0 L1 2 L1 2"]:
    """D⁻¹(t0+t, x, s; t0, y, s') from a whole slice t0, at (batch, t, x, s, y, s').

    A row beyond the end of time has the sign of the boundary: it is the one of D⁻¹ at t0+t−L0. The source is
    the slice t0; arguments, cost, warning and exceptions are those of `slice_norms`.
    """
    _checked(links, boundary, source)
    (columns,), singular = with_escalation(
        links,
        kappa,
        reduced=lambda part, span: _reduced_columns(part, kappa, boundary, source, span),
        dense=lambda part: _dense_columns(part, kappa, boundary, source),
    )
    warn_if_any(singular, kappa)
    return columns.to(torch.promote_types(links.dtype, torch.complex32))


def slice_traces(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> Float[Tensor, "batch L0"]:
    """Σ_x tr γ5 D⁻¹(t, x; t, x) for t = 0 … L0−1: the loops of quark lines that begin and end in one slice.

    They are real by γ5-hermiticity, and exact: one elimination has those of all slices. Arguments, cost,
    warning and exceptions are those of `slice_norms`.
    """
    _checked(links, boundary, 0)
    (found,), singular = with_escalation(
        links,
        kappa,
        reduced=lambda part, span: _reduced_traces(part, kappa, boundary, span),
        dense=lambda part: _dense_traces(part, kappa, boundary),
    )
    warn_if_any(singular, kappa)
    return found.to(links.dtype)


def _reduced_traces(
    links: Tensor, kappa: float, boundary: Boundary, span: int | None
) -> tuple[Results, Tensor]:
    elimination = eliminate(hops(links, boundary), kappa, span)
    return (traces(elimination),), elimination.pivot_ratio


def _dense_traces(links: Tensor, kappa: float, boundary: Boundary) -> tuple[Results, Tensor]:
    inverse, determinant = inverse_and_determinant(dense(links, kappa, boundary))
    upper, lower = inverse.diagonal(dim1=-2, dim2=-1).real.unflatten(-1, (*links.shape[2:], 2)).unbind(-1)
    return ((upper - lower).sum(-1),), determinant.pivot_ratio


def _reduced(
    links: Tensor, kappa: float, boundary: Boundary, source: int, span: int | None
) -> tuple[Results, Tensor]:
    elimination = eliminate(hops(links, boundary).roll(-source, 2), kappa, span)
    norms = _squared(from_first_slice(elimination)).sum((2, 3))
    return (norms,), elimination.pivot_ratio


def _dense(links: Tensor, kappa: float, boundary: Boundary, source: int) -> tuple[Results, Tensor]:
    (columns,), pivot_ratio = _dense_columns(links, kappa, boundary, source)
    return (_squared(columns).sum((2, 3, 4, 5)),), pivot_ratio


def _reduced_columns(
    links: Tensor, kappa: float, boundary: Boundary, source: int, span: int | None
) -> tuple[Results, Tensor]:
    """X = D⁻¹γ5 is eliminated in the basis that (σ_x + σ_z)/√2 makes of the one of D, with γ5 = σ_x there."""
    elimination = eliminate(hops(links, boundary).roll(-source, 2), kappa, span)
    columns = from_first_slice(elimination)
    l1 = columns.shape[-1] // 2
    inverse = columns.roll(l1, -1).unflatten(-1, (2, l1)).unflatten(2, (2, l1)).permute(0, 1, 3, 2, 5, 4)
    turn = inverse.new_tensor([[1, 1], [1, -1]]) / math.sqrt(2)
    turned = (turn @ inverse.transpose(3, 4)) @ turn  # over spins: (batch, t, x, y, s, s')
    return (turned.transpose(3, 4),), elimination.pivot_ratio


def _dense_columns(links: Tensor, kappa: float, boundary: Boundary, source: int) -> tuple[Results, Tensor]:
    l0, l1 = links.shape[2:]
    inverse, determinant = inverse_and_determinant(dense(links, kappa, boundary))
    columns = inverse.view(len(links), l0, l1, 2, l0, l1, 2)[:, :, :, :, source]
    return (columns.roll(-source, 1),), determinant.pivot_ratio


def _checked(links: Tensor, boundary: Boundary, source: int) -> None:
    hops(links[:1], boundary)
    if not 0 <= source < links.shape[2]:
        raise ValueError(f"expected a source from 0 to {links.shape[2] - 1}, got {source}")


def _squared(values: Tensor) -> Tensor:
    """|z|²."""
    return values.real.square() + values.imag.square()
