"""Checks of the flow itself, which need no chain."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latflow.actions import Action
from latflow.flows import Flow
from latflow.lattice import volume

_SIDE = 4  # of the small lattice for Jacobians; every mask fits on it
_DRAWS = 256
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
    has it.
    """
    own, precise = copy.deepcopy(flow).cpu(), copy.deepcopy(flow).cpu().double()
    single = next(own.parameters()).dtype == torch.float32
    with torch.no_grad():
        z = precise.prior.sample(_DRAWS, Generator().manual_seed(_SEED))
        z_own = z.to(next(own.parameters()).dtype)
        x, log_det = own.forward(z_own)
        back, log_det_back = own.inverse(x)
    tolerance = 1e-2 if single else 1e-6
    yield _bounded("inverse undoes forward", (back - z_own).abs().max(), tolerance, "largest |f⁻¹(f(z)) − z|")
    sites = volume(flow.lattice)
    yield _bounded(
        "log-determinants cancel",
        (log_det + log_det_back).abs().max() / sites,
        tolerance / 10,
        "largest |log det f + log det f⁻¹| a site",
    )
    yield _jacobian_check(precise)
    with torch.no_grad():
        log_weight = -action(x) - own.prior.log_prob(z_own) + log_det
        exact_weight = -action(x.double()) - precise.log_prob(x.double())
    yield _bounded(
        "log-weights in float64",
        (log_weight.double() - exact_weight).abs().max(),
        0.05 if single else 1e-6,
        f"largest change of a log-weight over {_DRAWS} draws",
    )
    if (flow.recipe or {}).get("z2"):
        with torch.no_grad():
            mirrored, _ = own.forward(-z_own)
        yield _bounded(
            "Z₂ of the flow", (mirrored + x).abs().max(), tolerance / 100, "largest |f(−z) + f(z)|"
        )


def _jacobian_check(flow: Flow) -> Check:
    """log |det ∂f/∂z| against automatic differentiation, on a small lattice in float64."""
    small = flow.on_lattice((_SIDE,) * len(flow.lattice))
    sites = volume(small.lattice)
    z = small.prior.sample(3, Generator().manual_seed(_SEED))
    worst = 0.0
    for one in z.split(1):
        jacobian = torch.autograd.functional.jacobian(lambda v: small.forward(v)[0], one)
        # one matrix at a time: batched LU of large matrices can hang on the CPU
        expected = torch.linalg.slogdet(torch.as_tensor(jacobian).reshape(sites, sites)).logabsdet
        with torch.no_grad():
            worst = max(worst, (small.forward(one)[1] - expected).abs().item())
    return _bounded(
        "log-determinant is the Jacobian's",
        torch.tensor(worst),
        1e-8,
        f"largest difference on {small.lattice}",
    )


def _bounded(name: str, value: Tensor, limit: float, what: str) -> Check:
    number = value.item()
    return Check(name, number <= limit, f"{what}: {number:.1e} (limit {limit:.0e})")
