"""A statement that must hold."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Check:
    """A statement that must hold, and what was found."""

    name: str
    passed: bool
    detail: str


def bounded(name: str, value: Tensor | float, limit: float, what: str) -> Check:
    """That a number is at most `limit`; one that is nan is not."""
    number = float(value)
    return Check(name, number <= limit, f"{what}: {number:.1e} (limit {limit:.0e})")
