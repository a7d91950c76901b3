"""Checks of densities of discrete fields: the order of an autoregressive network, and normalisation."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from latflow.densities.base import Density
from latflow.fields import FieldKind
from latflow.theories import Action
from latflow.validation.checks import Check, bounded

_MOST_BITS = 16
_STATES_AT_ONCE = 2**12
_CUTS = 8


def is_ordered(density: Any) -> bool:
    """Whether a density draws blocks of sites level by level, each site given those before it.

    A level then has the sites of its `blocks` and of their `contexts`, one column a block, and a
    `conditional`, whose `logits` are a function of their features, site after site, by its `values`.
    """
    levels = getattr(density, "levels", ())
    parts = ("blocks", "contexts", "conditional")
    return len(levels) > 0 and all(hasattr(level, part) for level in levels for part in parts)


def causality_check(network: Any, x: Tensor, kind: FieldKind) -> Check:
    """Change all sites that are drawn later than one of them: no logit up to that one may change."""
    sites = x.flatten(1).T
    known: set[int] = set()
    worst, late = 0.0, False
    for level in network.levels:
        late = late or not set(level.contexts.flatten().tolist()) <= known
        known |= set(level.blocks.flatten().tolist())
        worst = max(worst, _leak(level, sites, kind))
    title = "each site depends on earlier ones alone"
    if late:
        return Check(title, False, "the context of a block holds sites that are not drawn before it")
    return bounded(title, worst, 1e-12, "largest change of a logit by later sites")


def _leak(level: Any, sites: Tensor, kind: FieldKind) -> float:
    context, block = sites[level.contexts].flatten(1), sites[level.blocks].flatten(1)

    def logits(values: Tensor) -> Tensor:
        like, features = torch.empty(0, dtype=torch.float64), level.conditional.values.encoded
        found = level.conditional.logits(features(context, like), features(values, like))
        return found.unflatten(0, (len(block), -1))

    right, worst = logits(block), 0.0
    for i in sorted({math.floor(k * len(block) / _CUTS) for k in range(_CUTS)}):
        moved = logits(torch.cat((block[:i], _changed(block[i:], kind))))
        worst = max(worst, (moved - right)[: i + 1].abs().max().item())
    return worst


def values_of(kind: FieldKind, like: Tensor) -> Tensor | None:
    """The values that a site of a discrete field has, None where they are not known.

    Args:
        kind: of the field.
        like: configurations; whole numbers are 0 … q−1 unless the kind says otherwise.
    """
    if kind.states is None:
        return None
    if kind.picture.values is not None:
        return torch.tensor(kind.picture.values).to(like)
    return None if like.is_floating_point() else torch.arange(kind.states).to(like)


def _changed(x: Tensor, kind: FieldKind) -> Tensor:
    """Every site with another of its values: the next one."""
    values = values_of(kind, x)
    assert values is not None
    index = (x[..., None] == values).int().argmax(-1)
    return values[(index + 1) % len(values)]


def normalisation_check(density: Density, action: Action, like: Tensor) -> Iterator[Check]:
    """Σ q = 1 over all configurations of a discrete field, where they are few.

    Args:
        density: in float64.
        action: the theory.
        like: configurations of it.
    """
    values, sites = values_of(action.kind, like), math.prod(action.field_shape)
    if values is None or sites * math.log2(len(values)) > _MOST_BITS:
        return
    states = torch.cartesian_prod(*[values] * sites).reshape(-1, *action.field_shape)
    with torch.no_grad():
        total = sum(density.log_prob(part).exp().sum().item() for part in states.split(_STATES_AT_ONCE))
    yield bounded(
        "probabilities add up to 1",
        abs(total - 1),
        1e-9,
        f"|Σ q − 1| over all {len(states)} configurations",
    )
