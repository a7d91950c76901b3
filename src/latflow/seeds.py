"""Where random numbers come from: one seed, and what follows from it for each purpose."""

import hashlib

import torch
from torch import Generator


def derived_seed(seed: int, purpose: str) -> int:
    """The seed that belongs to a purpose: other purposes have independent ones.

    >>> derived_seed(1, "training") == derived_seed(1, "sampling")
    False
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def generator_for(seed: int, purpose: str, device: torch.device | str = "cpu") -> Generator:
    """A generator on a device, whose seed is `derived_seed(seed, purpose)`."""
    return Generator(device).manual_seed(derived_seed(seed, purpose))


def seeded(generator: Generator | None) -> Generator:
    """The generator of initial weights: the one that is given, or a new one with seed 0."""
    return Generator().manual_seed(0) if generator is None else generator
