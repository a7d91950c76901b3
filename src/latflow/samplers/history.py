"""Histories of chains, by name: single steps and stretches of them put together, and states chosen."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Single steps, (chain, …) each, as one stretch (step, chain, …)."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stretches one after the other; one alone is not copied."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def on_cpu(series: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same on the CPU."""
    return {name: values.cpu() for name, values in series.items()}


def chosen(moved: Bool[Tensor, "batch"], new: Tensor, old: Tensor) -> Tensor:
    """The new values, (chain, …), of the chains that moved, the old ones of the others."""
    return torch.where(moved.view(-1, *[1] * (new.ndim - 1)), new, old)
