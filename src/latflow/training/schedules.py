"""Learning-rate schedules: the factor of each step, and the counter of plateaus."""

import math
from dataclasses import dataclass
from typing import Any, Literal

ScheduleName = Literal["constant", "cosine", "step", "plateau"]


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a factor of its peak.

        warm-up    t/warmup for the first `warmup` steps, times one of
        constant   1
        cosine     floor + (1 − floor) ½ (1 + cos(π t/steps))
        step       factor^⌊t/every⌋
        plateau    factor^(number of times that F_q, averaged over `patience` steps, did not improve)

    Args:
        name: what comes after the warm-up, one of the above.
        warmup: steps in which the rate rises linearly from zero.
        floor: smallest factor of `cosine` and `plateau`.
        factor: of `step` and `plateau`.
        every: steps between the falls of `step`.
        patience: of `plateau`, in steps.

    Raises:
        ValueError: for an unknown name or numbers out of range.
    """

    name: ScheduleName = "constant"
    warmup: int = 0
    floor: float = 0.0
    factor: float = 0.5
    every: int = 1000
    patience: int = 200

    def __post_init__(self) -> None:
        if self.name not in ("constant", "cosine", "step", "plateau"):
            raise ValueError(f"expected schedule constant, cosine, step or plateau, got {self.name!r}")
        if self.warmup < 0 or self.every < 1 or self.patience < 1:
            raise ValueError(f"expected warmup ≥ 0, every ≥ 1 and patience ≥ 1, got {self}")
        if not 0 <= self.floor <= 1 or not 0 < self.factor <= 1:
            raise ValueError(f"expected 0 ≤ floor ≤ 1 and 0 < factor ≤ 1, got {self}")

    def multiplier(self, step: int, steps: int, falls: int) -> float:
        """The factor for the update number `step` (from 0) out of `steps`, after `falls` plateaus."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        match self.name:
            case "cosine":
                return rise * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * step / steps)))
            case "step":
                return rise * self.factor ** (step // self.every)
            case "plateau":
                return rise * max(self.floor, self.factor**falls)
            case _:
                return rise


class Plateau:
    """Counts how often the mean of F_q over `patience` steps failed to improve."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.falls, self.seen, self.total, self.best = 0, 0, 0.0, math.inf

    def update(self, f_q: float) -> None:
        self.seen += 1
        self.total += f_q
        if self.seen == self.patience:
            mean = self.total / self.seen
            if mean < self.best:
                self.best = mean
            else:
                self.falls += 1
            self.seen, self.total = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"falls": self.falls, "seen": self.seen, "total": self.total, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.falls: int = state["falls"]
        self.seen: int = state["seen"]
        self.total: float = state["total"]
        self.best: float = state["best"]
