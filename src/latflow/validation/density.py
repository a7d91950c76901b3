"""Checks of the model itself, which need no chain: whatever it says that it can do, it must do right."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latflow.densities.base import Density, WeightedSampler, draws, log_weight
from latflow.lattice import volume
from latflow.theories import Action
from latflow.types import LogProb
from latflow.validation.checks import Check, bounded
from latflow.validation.flows import flow_checks, is_flow
from latflow.validation.networks import causality_check, is_ordered, normalisation_check, values_of

_SITES_OF_ALL_DRAWS = 2**14
SEED = 7


def density_checks(density: WeightedSampler | Density, action: Action) -> Iterator[Check]:
    """Checks of a density itself, from fresh draws with a fixed seed.

    Its draws are fields of the theory with finite weights. What can be evaluated draws with the probability
    that it says, in its own precision as in float64, and is invariant under the symmetries that it claims. A
    flow is undone by its inverse and has the log-determinant of its Jacobian matrix; in an autoregressive
    network each site depends on earlier ones alone; on a small lattice the probabilities of all
    configurations of a discrete field are added up. What a density does not offer is not asked.

    Args:
        density: the model, which is left as it is.
        action: the theory, in whose kind of field distances are measured.
    """
    n = max(16, min(256, _SITES_OF_ALL_DRAWS // volume(action.lattice)))
    own = _copied(density)
    precise = _precise(own)
    if not isinstance(own, Density):
        yield _fields(action, *draws(own, n, action, _generator()))
        return
    with torch.no_grad():
        x, log_q = own.sample(n, _generator())
        yield (sound := _fields(action, x, log_q))
        if not sound.passed:
            return
        yield from _probability(own, precise, action, x, log_q)
        for name in getattr(own, "symmetries", ()):
            yield _invariance(own, action, name, x)
    if is_flow(own):
        yield from flow_checks(own, precise, action, n, SEED)
    x = _doubled(x)
    if is_ordered(own) and values_of(action.kind, x) is not None:
        yield causality_check(precise, x[:16], action.kind)
    yield from normalisation_check(precise, action, x)


def _fields(action: Action, x: Tensor, weights: LogProb) -> Check:
    """That draws have the shape and the values of the kind, and their weights or probabilities are finite."""
    title = "draws are fields of the theory"
    try:
        action.check(x)
        action.kind.check_values(x)
    except ValueError as error:
        return Check(title, False, str(error))
    if x.is_floating_point() and not bool(x.isfinite().all()):
        return Check(title, False, "some of their numbers are not finite")
    bad = int((weights.isnan() | weights.isposinf()).sum())
    detail = f"{bad} of {len(x)} draws have a log-weight or log-probability that is not finite"
    return Check(title, bad == 0, detail if bad else f"{len(x)} draws of shape {tuple(x.shape[1:])}")


def _probability(
    own: Density, precise: Density, action: Action, x: Tensor, log_q: LogProb
) -> Iterator[Check]:
    """log q of draws is log q of what was drawn, and so it is in float64, where S is computed there, too."""
    limit = _limit(own, action, x)
    yield bounded(
        "draws come with their probability",
        (log_q - own.log_prob(x)).abs().max(),
        limit,
        f"largest difference of log q over {len(x)} draws",
    )
    if isinstance(own, nn.Module):
        x_precise = _doubled(x)
        exactly = log_weight(action, x_precise, precise.log_prob(x_precise))
        yield bounded(
            "log-weights in float64",
            (log_weight(action, x, log_q).double() - exactly).abs().max(),
            0.05 if _single(own, x) else 1e-6,
            f"largest change of a log-weight over {len(x)} draws",
        )


def _invariance(own: Density, action: Action, name: str, x: Tensor) -> Check:
    """log q(Tx) = log q(x) for a random transformation T of each configuration."""
    title = f"{name} symmetry of the density"
    transformation = action.kind.symmetries.get(name)
    if transformation is None:
        known = ", ".join(action.kind.symmetries) or "none"
        return Check(
            title, False, f"it is claimed, and {action.kind} fields have no such symmetry, but {known}"
        )
    log_q = own.log_prob(x)
    return bounded(
        title,
        (own.log_prob(transformation(x, _generator())) - log_q).abs().max(),
        _limit(own, action, x),
        "largest |log q(Tx) − log q(x)|",
    )


def _limit(own: Density, action: Action, x: Tensor) -> float:
    """Of differences of log q: a discrete field is not rounded on the way, an inverse is."""
    single, discrete = _single(own, x), action.kind.states is not None
    if discrete:
        return 1e-3 if single else 1e-9
    return 0.05 if single else 1e-6


def _single(own: Density, x: Tensor) -> bool:
    """Whether the density computes in float32; log q is summed in float64 all the same."""
    numbers = [*own.parameters(), *own.buffers()] if isinstance(own, nn.Module) else []
    return any(number.dtype == torch.float32 for number in (x, *numbers))


def _generator() -> Generator:
    return Generator().manual_seed(SEED)


def _copied(density: Any) -> Any:
    """A copy on the processor, for the model is left as it is."""
    return copy.deepcopy(density).cpu() if isinstance(density, nn.Module) else density


def _precise(density: Any) -> Any:
    """The same in float64, where it is a module."""
    return copy.deepcopy(density).double() if isinstance(density, nn.Module) else density


def _doubled(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
