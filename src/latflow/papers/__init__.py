"""One file for each experiment of a paper that `latflow reproduce` runs."""

from typing import Any

from latflow.papers import acceleration, information, schwinger, spins, topology, toy, trivializing, variance
from latflow.papers.bench import Bench, Experiment, Findings, Table

EXPERIMENTS: dict[str, Experiment[Any]] = {
    "toy": toy.EXPERIMENT,
    "phi4-variance": variance.PHI4,
    "ising-variance": variance.ISING,
    "ising-dynamics": spins.EXPERIMENT,
    "ising-information": information.EXPERIMENT,
    "schwinger": schwinger.EXPERIMENT,
    "trivializing": trivializing.TRIVIALIZING,
    "trivializing-40": trivializing.COARSE_TO_FINE,
    "acceleration": acceleration.EXPERIMENT,
    "topology": topology.EXPERIMENT,
}
"""By the name on the command line."""

__all__ = ["EXPERIMENTS", "Bench", "Experiment", "Findings", "Table"]
