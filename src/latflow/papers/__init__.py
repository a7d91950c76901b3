"""One file for each experiment of a paper that `latflow reproduce` runs."""

from typing import Any

from latflow.papers import schwinger, spins, toy, variance
from latflow.papers.bench import Bench, Experiment, Findings, Table

EXPERIMENTS: dict[str, Experiment[Any]] = {
    "toy": toy.EXPERIMENT,
    "phi4-variance": variance.PHI4,
    "ising-variance": variance.ISING,
    "ising-dynamics": spins.EXPERIMENT,
    "schwinger": schwinger.EXPERIMENT,
}
"""By the name on the command line."""

__all__ = ["EXPERIMENTS", "Bench", "Experiment", "Findings", "Table"]
