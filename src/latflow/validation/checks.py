"""Checks of the flow itself, which need no chain."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latflow.actions import Action, gauge_transformed
from latflow.flows import Flow
from latflow.lattice import volume, wrapped
from latflow.wilson.linear_algebra import slogdet

_SIDE = 4  # of the small lattice for Jacobians; every mask fits on it
_SITES_OF_ALL_DRAWS = 2**14
_SEED = 7


@dataclass(frozen=True)
class Check:
    """A statement that must hold, and what was found."""

    name: str
    passed: bool
    detail: str


def flow_checks(flow: Flow, action: Action) -> Iterator[Check]:
    """Checks of the flow itself, from fresh draws with a fixed seed.

    The inverse undoes the flow; on a small lattice the log-determinant is that of the Jacobian matrix;
    log-weights recomputed in float64 agree with those in the flow's own precision; a flow that claims Z₂
    has it; a flow of links commutes with gauge transformations. Angles are compared modulo 2π.
    """
    sites, draws = volume(flow.lattice), max(16, min(256, _SITES_OF_ALL_DRAWS // volume(flow.lattice)))
    own, precise = copy.deepcopy(flow).cpu(), copy.deepcopy(flow).cpu().double()
    single = next(own.parameters()).dtype == torch.float32
    with torch.no_grad():
        z = precise.prior.sample(draws, Generator().manual_seed(_SEED))
        z_own = z.to(next(own.parameters()).dtype)
        x, log_det = own.forward(z_own)
        back, log_det_back = own.inverse(x)
    tolerance = 1e-2 if single else 1e-6
    yield bounded(
        "inverse undoes forward", _distance(back, z_own, action), tolerance, "largest |f⁻¹(f(z)) − z|"
    )
    yield bounded(
        "log-determinants cancel",
        (log_det + log_det_back).abs().max() / sites,
        tolerance / 10,
        "largest |log det f + log det f⁻¹| a site",
    )
    yield _jacobian_check(precise)
    with torch.no_grad():
        log_weight = -action(x) - own.prior.log_prob(z_own) + log_det
        exact_weight = -action(x.double()) - precise.log_prob(x.double())
    yield bounded(
        "log-weights in float64",
        (log_weight.double() - exact_weight).abs().max(),
        0.05 if single else 1e-6,
        f"largest change of a log-weight over {draws} draws",
    )
    recipe = flow.recipe or {}
    if recipe.get("z2") or recipe.get("type") == "minimal":
        with torch.no_grad():
            mirrored, _ = own.forward(-z_own)
        yield bounded("Z₂ of the flow", (mirrored + x).abs().max(), tolerance / 100, "largest |f(−z) + f(z)|")
    if action.kind == "gauge":
        yield from _gauge_checks(own, z_own, x, log_det, action, tolerance)


def _gauge_checks(
    flow: Flow, z: Tensor, x: Tensor, log_det: Tensor, action: Action, tolerance: float
) -> Iterator[Check]:
    """f(z^α) = f(z)^α, with the same log-determinant."""
    angles = torch.randn(len(z), *flow.lattice, generator=Generator().manual_seed(_SEED), dtype=torch.float64)
    angles = angles.to(z)
    with torch.no_grad():
        moved, log_det_moved = flow.forward(gauge_transformed(z, angles))
    yield bounded(
        "gauge equivariance of the flow",
        _distance(moved, gauge_transformed(x, angles), action),
        tolerance,
        "largest |f(zᵅ) − f(z)ᵅ| over random gauge transformations α",
    )
    yield bounded(
        "gauge invariance of the density",
        (log_det_moved - log_det).abs().max() / volume(flow.lattice),
        tolerance / 10,
        "largest |log det f(zᵅ) − log det f(z)| a site",
    )


def _distance(one: Tensor, other: Tensor, action: Action) -> Tensor:
    """The largest difference; of angles the shorter way around."""
    difference = one - other
    return (wrapped(difference) if action.kind == "gauge" else difference).abs().max()


def _jacobian_check(flow: Flow) -> Check:
    """log |det ∂f/∂z| against automatic differentiation, on a small lattice in float64."""
    small = flow.on_lattice((_SIDE,) * len(flow.lattice))
    z = small.prior.sample(3, Generator().manual_seed(_SEED))
    worst = 0.0
    for one in z.split(1):
        jacobian = torch.autograd.functional.jacobian(lambda v: small.forward(v)[0], one)
        expected = slogdet(torch.as_tensor(jacobian).reshape(1, one.numel(), one.numel())).log_abs
        with torch.no_grad():
            worst = max(worst, (small.forward(one)[1] - expected).abs().item())
    return bounded(
        "log-determinant is the Jacobian's",
        torch.tensor(worst),
        1e-8,
        f"largest difference on {small.lattice}",
    )


def bounded(name: str, value: Tensor, limit: float, what: str) -> Check:
    """That a number is at most `limit`; one that is nan is not."""
    number = value.item()
    return Check(name, number <= limit, f"{what}: {number:.1e} (limit {limit:.0e})")
