"""Tr D⁻¹ of large lattices from random sources, without a matrix: conjugate gradients on D D†."""

import math

import torch
from torch import Generator, Tensor

from latflow.errors import ConvergenceError
from latflow.types import Fermions, Links, LogProb
from latflow.wilson.operator import Boundary, apply


def stochastic_condensate(
    links: Links,
    kappa: float,
    boundary: Boundary = "antiperiodic",
    *,
    sources: int = 32,
    generator: Generator,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> tuple[LogProb, LogProb]:
    """An unbiased estimate of V⁻¹ Re Tr D⁻¹ of each configuration, and its standard error.

        V⁻¹ Re Tr D⁻¹ = V⁻¹ ⟨Re η†D⁻¹η⟩,   every component of η drawn from {1, −1}

    so that ⟨η η†⟩ = 1. The memory grows as V, and the time as V times the iterations that D needs. Source:
    Hutchinson, A stochastic estimator of the trace of the influence matrix, Communications in Statistics 19
    (1990) 433.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.
        sources: the number of draws of η for each configuration, at least 2.
        generator: draws the sources.
        tolerance: as for `solve`.
        max_iterations: as for `solve`.

    Returns:
        The mean over the sources, and the standard error of that mean.

    Raises:
        ValueError: for fewer than two sources, and as `solve`.
        ConvergenceError: as `solve`.
    """
    if sources < 2:
        raise ValueError(f"expected at least 2 sources, got {sources}")
    sites = links.shape[2:]
    repeated = links.detach().repeat_interleave(sources, 0)
    shape = (len(repeated), *sites, 2)
    signs = 2 * torch.randint(2, shape, generator=generator, device=links.device) - 1
    eta = signs.to(torch.complex(links[:0], links[:0]).dtype)
    solution = solve(repeated, eta, kappa, boundary, tolerance=tolerance, max_iterations=max_iterations)
    estimates = (signs * solution.real).flatten(1).sum(1).view(len(links), sources) / sites.numel()
    return estimates.mean(1), estimates.std(1) / math.sqrt(sources)


def solve(
    links: Links,
    eta: Fermions,
    kappa: float,
    boundary: Boundary = "antiperiodic",
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> Fermions:
    """ψ = D⁻¹η for each pair of links and source, by conjugate gradients: D D† χ = η, ψ = D†χ.

    The residual of this system is that of Dψ = η.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        eta: the sources η, (batch, L0, L1, 2).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.
        tolerance: where |η − Dψ| / |η| is below it a system is solved.
        max_iterations: how many applications of D D† there may be.

    Raises:
        ValueError: as `hops`.
        ConvergenceError: when |η − Dψ| / |η| is still above the tolerance at the end, or, by rounding errors,
            ten times as large as the tolerance where the iteration has it below.
    """
    goal = tolerance**2 * _squared_norm(eta)
    chi, residual, direction = torch.zeros_like(eta), eta, eta
    norm = _squared_norm(residual)
    for _ in range(max_iterations):
        active = norm > goal
        if not bool(active.any()):
            break
        image = apply(links, direction, kappa, boundary, adjoint=True)
        # a system that is solved stays as it is
        step = torch.where(active, norm / _squared_norm(image), 0.0)
        chi = chi + _times(step, direction)
        residual = residual - _times(step, apply(links, image, kappa, boundary))
        updated = torch.where(active, _squared_norm(residual), norm)
        direction = torch.where(
            active[:, None, None, None], residual + _times(updated / norm, direction), direction
        )
        norm = updated
    psi = apply(links, chi, kappa, boundary, adjoint=True)
    left = _squared_norm(eta - apply(links, psi, kappa, boundary))
    if not bool((left <= 100 * goal).all() & (norm <= goal).all()):
        relative = (left / _squared_norm(eta)).sqrt().max().item()
        raise ConvergenceError(
            f"conjugate gradients at kappa = {kappa}: expected |η − Dψ| / |η| below {tolerance:g} within "
            f"{max_iterations} iterations, got {relative:.1e}. D may be close to singular, or {links.dtype} "
            "not precise enough"
        )
    return psi


def _squared_norm(psi: Tensor) -> Tensor:
    return (psi.real.square() + psi.imag.square()).flatten(1).sum(1)


def _times(factor: Tensor, psi: Tensor) -> Tensor:
    return factor[:, None, None, None] * psi
