"""In which precision networks run while they train."""

from typing import Literal

import torch

PrecisionName = Literal["full", "bfloat16", "float16"]

LOWER = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str) -> None:
    """Raises ValueError for a name that no precision has."""
    if precision not in ("full", *LOWER):
        raise ValueError(f"expected precision full, {' or '.join(LOWER)}, got {precision!r}")


def lowered(precision: str, device: str) -> torch.autocast:
    """A context in which networks run in a precision on a type of device; "full" is that of their weights."""
    # older PyTorch would reuse weights that were lowered while drawing, where they had no graph
    lower = precision in LOWER
    return torch.autocast(device, dtype=LOWER.get(precision), enabled=lower, cache_enabled=False)
