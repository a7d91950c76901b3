"""Checks of an autoregressive network itself, which need no chain."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from latflow.actions import Action
from latflow.autoregressive import Level, SpinNetwork
from latflow.exact import spin_states
from latflow.lattice import volume
from latflow.types import Spins
from latflow.validation.checks import Check, bounded

_SITES_OF_ALL_DRAWS = 2**14
_MOST_SITES_ENUMERATED = 16
_STATES_AT_ONCE = 2**12
_CUTS = 8
_SEED = 7


def network_checks(network: SpinNetwork, action: Action) -> Iterator[Check]:
    """Checks of a network of spins itself, from fresh draws with a fixed seed.

    Each spin depends on earlier ones alone, so that the probabilities of all configurations add up to 1; on a
    small lattice they are added up. Draws come with their probability; log-weights recomputed in float64
    agree with those in the network's own precision; a network that claims Z₂ has it.
    """
    sites = volume(network.lattice)
    draws = max(16, min(256, _SITES_OF_ALL_DRAWS // sites))
    own, precise = copy.deepcopy(network).cpu(), copy.deepcopy(network).cpu().double()
    single = own.like.dtype == torch.float32
    with torch.no_grad():
        x, log_q = own.sample(draws, Generator().manual_seed(_SEED))
        again, exact = own.log_prob(x), precise.log_prob(x.double())
        yield _causal(precise, x[:16].double())
        if sites <= _MOST_SITES_ENUMERATED:
            yield _normalised(precise)
        yield bounded(
            "draws come with their probability",
            (log_q - again).abs().max(),
            1e-3 if single else 1e-9,
            f"largest difference of log q over {draws} draws",
        )
        change = (-action(x) - log_q).double() - (-action(x.double()) - exact)
        yield bounded(
            "log-weights in float64",
            change.abs().max(),
            0.05 if single else 1e-6,
            f"largest change of a log-weight over {draws} draws",
        )
        if (network.recipe or {}).get("z2"):
            yield bounded(
                "Z₂ of the network",
                (again - own.log_prob(-x)).abs().max(),
                1e-3 if single else 1e-9,
                "largest |log q(−s) − log q(s)|",
            )


def _causal(network: SpinNetwork, x: Spins) -> Check:
    """Turn over all spins that are drawn later than one of them: no logit up to that one may change."""
    sites = x.flatten(1).T
    known: set[int] = set()
    worst, late = 0.0, False
    for level in network.levels:
        assert isinstance(level, Level)
        late = late or not set(level.contexts.flatten().tolist()) <= known
        known |= set(level.blocks.flatten().tolist())
        worst = max(worst, _leak(level, sites))
    title = "each spin depends on earlier ones alone"
    if late:
        return Check(title, False, "the context of a block holds spins that are not drawn before it")
    return bounded(title, torch.tensor(worst), 1e-12, "largest change of a logit by later spins")


def _leak(level: Level, sites: Tensor) -> float:
    context, spins = sites[level.contexts].flatten(1), sites[level.blocks].flatten(1)
    logits, worst = level.conditional.logits(context, spins), 0.0
    for i in sorted({math.floor(k * len(spins) / _CUTS) for k in range(_CUTS)}):
        later = torch.cat((spins[:i], -spins[i:]))
        moved = level.conditional.logits(context, later)
        worst = max(worst, (moved - logits)[: i + 1].abs().max().item())
    return worst


def _normalised(network: SpinNetwork) -> Check:
    states = spin_states(network.lattice)
    total = sum(network.log_prob(part).exp().sum().item() for part in states.split(_STATES_AT_ONCE))
    return bounded(
        "probabilities add up to 1",
        torch.tensor(abs(total - 1), dtype=torch.float64),
        1e-9,
        f"|Σ q − 1| over all {len(states)} configurations",
    )
