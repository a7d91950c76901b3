"""The density q: all that estimators and the independence sampler know of a model."""

from typing import Protocol, runtime_checkable

from torch import Generator

from latflow.types import Field, LogProb


@runtime_checkable
class Density(Protocol):
    """A normalised density from which one can draw and which one can evaluate."""

    def sample(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent draws x and log q(x) of each."""
        ...

    def log_prob(self, x: Field) -> LogProb:
        """log q(x)."""
        ...


@runtime_checkable
class FixedDrawDensity(Density, Protocol):
    """A density that draws and differentiates log q at the draws at a lower cost than the two apart."""

    def sample_fixed(self, n: int, generator: Generator) -> tuple[Field, LogProb]:
        """n independent draws x without graph, and log q(x) with the graph that `log_prob` has there."""
        ...
