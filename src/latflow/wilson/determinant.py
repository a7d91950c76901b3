"""det D of the Wilson operator, its slope, and Tr D⁻¹: reduced at a cost of L0 L1³, or dense, at V³."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latflow.errors import NearSingularWarning
from latflow.types import Links, LogProb
from latflow.wilson.elimination import eliminate
from latflow.wilson.escalation import Results, judged, with_escalation
from latflow.wilson.linear_algebra import inverse_and_determinant, slogdet
from latflow.wilson.operator import Boundary, dense, hops
from latflow.wilson.restoration import neighbours


class DeterminantAndCondensate(NamedTuple):
    """What one elimination tells of each configuration, (batch,) and without a graph."""

    log_abs: LogProb
    """log|det D|."""
    sign: LogProb
    """The sign of det D, which is real."""
    condensate: LogProb
    """V⁻¹ Re Tr D⁻¹, over sites and spins."""


def log_abs_det(links: Links, kappa: float, boundary: Boundary = "antiperiodic") -> tuple[LogProb, LogProb]:
    """(log|det D|, sign det D) of each configuration, by block-cyclic reduction.

    The lattice is reduced along its longer side. log|det D| is differentiable with respect to the links, as
    often as wanted; the sign has no gradient. Where a gradient can be asked for it is computed at once, from
    the same elimination, and a batch is done in parts: the graph holds one node, and no blocks. A
    configuration in which an eliminated block is close to singular, and all of them from |κ| = ½ on, where a
    free slice may be, are done by `dense_log_abs_det`.

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
    if torch.is_grad_enabled() and links.requires_grad:
        log_abs, sign, singular = _LogAbsDet.apply(links, kappa, boundary)  # pyright: ignore[reportGeneralTypeIssues]
    else:
        (log_abs, sign), singular = _evaluated(links, kappa, boundary, derivatives=False)
    warn_if_any(singular, kappa)
    return log_abs, sign


def determinant_and_condensate(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> DeterminantAndCondensate:
    """log|det D|, its sign, and V⁻¹ Re Tr D⁻¹ of each configuration, at the cost of log|det D| and its slope.

    Arguments, warning and exceptions are those of `log_abs_det`.
    """
    with torch.no_grad():
        (log_abs, sign, condensate, _), singular = _evaluated(links, kappa, boundary, derivatives=True)
    warn_if_any(singular, kappa)
    return DeterminantAndCondensate(log_abs, sign, condensate)


def dense_log_abs_det(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> tuple[LogProb, LogProb]:
    """(log|det D|, sign det D) of each configuration from the dense operator, as a check.

    Arguments and warning are those of `log_abs_det`; the cost grows as V³ and the memory as V².
    """
    (log_abs, sign), singular = judged(links, lambda all_: _dense(all_, kappa, boundary, derivatives=False))
    warn_if_any(singular, kappa)
    return log_abs, sign


class _LogAbsDet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, links: Tensor, kappa: float, boundary: Boundary) -> tuple[Tensor, ...]:
        (log_abs, sign, _, slope), singular = _evaluated(links, kappa, boundary, derivatives=True)
        ctx.save_for_backward(links, slope)
        ctx.arguments = kappa, boundary
        ctx.mark_non_differentiable(sign, singular)
        return log_abs, sign, singular

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        links, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the slope itself is to be differentiated
            (log_abs, _), _ = _evaluated(links, *ctx.arguments, derivatives=False)
            (slope,) = torch.autograd.grad(log_abs.sum(), links, create_graph=True)
        return gradients[0].to(slope.dtype)[:, None, None, None] * slope, None, None


def _evaluated(links: Tensor, kappa: float, boundary: Boundary, derivatives: bool) -> tuple[Results, Tensor]:
    """log|det D|, sign, with derivatives V⁻¹ Re Tr D⁻¹ and the slope ∂ log|det D|/∂θ; where D is singular.

    Derivatives carry no graph; without them log|det D| may.
    """
    hops(links[:1], boundary)  # raises what is to be raised
    (log_abs, *others), singular = with_escalation(
        links,
        kappa,
        reduced=lambda part, span: _reduced(part, kappa, boundary, derivatives, span),
        dense=lambda part: _dense(part, kappa, boundary, derivatives),
    )
    return (log_abs, *(result.to(links.dtype) for result in others)), singular


def _reduced(
    links: Tensor, kappa: float, boundary: Boundary, derivatives: bool, span: int | None
) -> tuple[Results, Tensor]:
    phases = hops(links, boundary)
    turned = links.shape[3] > links.shape[2]
    if turned:
        # a spin rotation exchanges σ_0 and σ_1, so relabelled axes have the same determinant
        phases = phases.flip(1).transpose(2, 3)
    elimination = eliminate(phases, kappa, span)
    results = elimination.log_abs, elimination.sign
    if derivatives:
        near = neighbours(elimination)
        in_time, in_space = phases.unbind(1)
        by_time, by_space = 2 * (in_time * near.hop).imag, (in_space * near.adjacent).imag
        slope = 2 * kappa * torch.stack((by_time, by_space), 1)
        condensate = near.diagonal.real.mean((1, 2))
        results = *results, condensate, slope.transpose(2, 3).flip(1) if turned else slope
    return results, elimination.pivot_ratio


def _dense(links: Tensor, kappa: float, boundary: Boundary, derivatives: bool) -> tuple[Results, Tensor]:
    if not derivatives:
        determinant = slogdet(dense(links, kappa, boundary))
        return (determinant.log_abs, torch.sgn(determinant.phase.real)), determinant.pivot_ratio
    with torch.enable_grad():
        leaf = links.detach().requires_grad_()
        inverse, determinant = inverse_and_determinant(dense(leaf, kappa, boundary))
        (slope,) = torch.autograd.grad(determinant.log_abs.sum(), leaf)
    trace = inverse.detach().diagonal(dim1=-2, dim2=-1).real.sum(-1)
    log_abs, sign = determinant.log_abs.detach(), torch.sgn(determinant.phase.real)
    return (log_abs, sign, trace / links.shape[2:].numel(), slope), determinant.pivot_ratio


def warn_if_any(singular: Tensor, kappa: float) -> None:
    """Warn the caller's caller."""
    if bool(singular.any()):
        warnings.warn(
            f"nearly singular Wilson operator at kappa = {kappa}: "
            "log|det D| and its gradient have few correct digits",
            NearSingularWarning,
            stacklevel=3,
        )
