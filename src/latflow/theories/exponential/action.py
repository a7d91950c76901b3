"""The one-dimensional toy model on which every gradient estimator can be solved."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from latflow.fields import SCALAR, FieldKind
from latflow.lattice import summed
from latflow.theories.base import Action
from latflow.types import Field, Lattice, LogProb


@dataclass(frozen=True)
class Exponential(Action):
    """The exponential distribution p(φ) = λ exp(−λφ), φ ≥ 0, of a single site: S = λφ − log λ, so that Z = 1.

    A negative φ has S = ∞. Source: Białas, Korcyl, Stebel, Gradient estimators for normalising flows,
    section 5.

    Args:
        rate: λ > 0.

    Raises:
        ValueError: unless the rate is positive and finite.
    """

    rate: float
    lattice: Lattice = field(default=(1,), init=False)
    kind: ClassVar[FieldKind] = SCALAR

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ValueError(f"expected rate > 0 and finite, got {self.rate}")

    def __call__(self, x: Field) -> LogProb:
        site = summed(x)
        return torch.where(site < 0, torch.inf, self.rate * site - math.log(self.rate))
