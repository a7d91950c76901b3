"""Checks of a flow: its inverse, its log-determinant, and its symmetries."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from latflow.fields import FieldKind
from latflow.lattice import volume
from latflow.theories import Action
from latflow.types import Field
from latflow.validation.checks import Check, bounded
from latflow.wilson.linear_algebra import slogdet

_SIDE = 4  # of the small lattice for Jacobians; every mask fits on it
_HALVINGS = 2  # of steps of integration for Jacobians: an error that falls as h⁴ becomes 250 times smaller
_OF_SMALL_STEPS = 1e-5  # what is left then of the difference of log-determinant and Jacobian's
_MOST_OF_THE_SPREAD = 1e-2  # what steps of integration may add to the spread of log-weights
_MOST_NUMBERS = 64  # in a configuration whose Jacobian matrix is computed, where there is no smaller lattice


def is_flow(density: Any) -> bool:
    """Whether a density is that of x = f(z), z drawn from a prior.

    It then has `prior`, with `sample` and `log_prob`, and `forward` and `inverse`, which return a field with
    the log-determinant of the map; it may have `on_lattice`.
    """
    return all(hasattr(density, name) for name in ("prior", "forward", "inverse"))


def flow_checks(own: Any, precise: Any, action: Action, n: int, seed: int) -> Iterator[Check]:
    """Checks of the map f of a flow, from draws of its prior.

    The inverse undoes it, log-determinants cancel, and are those of the Jacobian matrix on a small lattice;
    with the symmetries that the flow claims, f commutes.

    Args:
        own: the flow in its own precision.
        precise: the same in float64.
        action: the theory, whose kind of field measures distances: angles are compared modulo 2π.
        n: how many draws.
        seed: of the draws.
    """
    kind, sites = action.kind, volume(action.lattice)
    with torch.no_grad():
        like = own.prior.sample(1, Generator().manual_seed(seed))
        z = precise.prior.sample(n, Generator().manual_seed(seed)).to(like.dtype)
        x, log_det = own.forward(z)
        back, log_det_back = own.inverse(x)
    tolerance = 1e-2 if x.dtype == torch.float32 else 1e-6
    yield bounded(
        "inverse undoes forward", kind.distance(back, z).max(), tolerance, "largest |f⁻¹(f(z)) − z|"
    )
    yield bounded(
        "log-determinants cancel",
        (log_det + log_det_back).abs().max() / sites,
        tolerance / 10,
        "largest |log det f + log det f⁻¹| a site",
    )
    yield from _jacobian_check(precise, action, seed)
    yield from _discretisation_check(precise, action, n, seed)
    for name in getattr(own, "symmetries", ()):
        if name in kind.symmetries:
            yield _equivariance(own, kind, name, z, x, seed, tolerance)


def _equivariance(
    own: Any, kind: FieldKind, name: str, z: Field, x: Field, seed: int, tolerance: float
) -> Check:
    """f(Tz) = T f(z)."""
    transformation = kind.symmetries[name]
    with torch.no_grad():
        moved, _ = own.forward(transformation(z, Generator().manual_seed(seed)))
        expected = transformation(x, Generator().manual_seed(seed))
    return bounded(
        f"{name} equivariance of the flow",
        kind.distance(moved, expected).max(),
        tolerance,
        "largest |f(Tz) − T f(z)|",
    )


def _jacobian_check(flow: Any, action: Action, seed: int) -> Iterator[Check]:
    """log |det ∂f/∂z| against automatic differentiation, on a small lattice in float64."""
    manifold, lattice = action.kind.manifold, action.lattice
    on_lattice = getattr(flow, "on_lattice", None)
    small = None
    if on_lattice is not None:
        with contextlib.suppress(ValueError):  # of one that is bound to its lattice
            small, lattice = on_lattice((_SIDE,) * len(lattice)), (_SIDE,) * len(lattice)
    if small is None and torch.Size(action.field_shape).numel() > _MOST_NUMBERS:
        return
    small = flow if small is None else small
    if manifold is None or not manifold.linear:
        return
    limit, worst = 1e-8, 0.0
    if _refined(small) is not None:
        # a log-determinant that is integrated is that of the steps as these become small
        limit = _OF_SMALL_STEPS
        for _ in range(_HALVINGS):
            small = _refined(small)
    for one in small.prior.sample(3, Generator().manual_seed(seed)).split(1):
        jacobian: Tensor = torch.as_tensor(
            torch.autograd.functional.jacobian(lambda v: small.forward(v)[0], one)
        )
        expected = slogdet(jacobian.reshape(1, one.numel(), one.numel())).log_abs
        with torch.no_grad():
            worst = max(worst, (small.forward(one)[1] - expected).abs().item())
    yield bounded("log-determinant is the Jacobian's", worst, limit, f"largest difference on {lattice}")


def _refined(flow: Any) -> Any:
    """The flow with half its steps of integration in size; None where it takes none."""
    return flow.refined() if hasattr(flow, "refined") else None


def _discretisation_check(flow: Any, action: Action, n: int, seed: int) -> Iterator[Check]:
    """What half the steps of integration change in log-weights, beside the spread that these have anyway."""
    finer = _refined(flow)
    if finer is None:
        return
    with torch.no_grad():
        x, log_q = flow.sample(n, Generator().manual_seed(seed))
        change = finer.log_prob(x) - log_q
        spread = (action(x) + log_q).std()
    yield bounded(
        "log-weights with halved steps",
        change.square().mean().sqrt(),
        _MOST_OF_THE_SPREAD * float(spread),
        f"the mean of {n} log-weights, which spread by {float(spread):.3g}, changes by "
        f"{float(change.mean()):.1e}, and each by (rms)",
    )
