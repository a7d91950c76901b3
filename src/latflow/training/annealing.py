"""Annealing: a training that begins with a weaker action, as at a higher temperature."""

from dataclasses import dataclass

from latflow.theories.base import Action


@dataclass(frozen=True)
class Anneal:
    """The action of each step is a multiple of S, which rises to S itself.

        S_t = [start + (1 − start) t/steps] S    for t < steps, and S from then on

    A theory with several phases is reached from one where all configurations are alike, so that the density
    does not settle in the first phase that it meets.

    Args:
        start: the factor at the first step, at least 0 and below 1.
        steps: in which the factor rises, at least 1.

    Raises:
        ValueError: for numbers out of range.
    """

    start: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1 or self.steps < 1:
            raise ValueError(f"expected 0 ≤ start < 1 and steps ≥ 1, got {self}")

    @property
    def total(self) -> int:
        """Steps for another action than S."""
        return self.steps

    def done(self, step: int) -> bool:
        """Whether the update number `step` (from 0) is made for S itself."""
        return step >= self.steps

    def factor(self, step: int) -> float:
        """The factor of S for the update number `step` (from 0): a function of it alone."""
        return 1.0 if self.done(step) else self.start + (1 - self.start) * step / self.steps

    def action(self, action: Action, step: int) -> Action:
        """S_t."""
        return action if self.done(step) else self.factor(step) * action
