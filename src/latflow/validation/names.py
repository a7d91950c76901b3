"""What the parts of a run are called in words: they depend on its kind of field, and on its configuration."""

from dataclasses import dataclass
from typing import Any, Literal

from latflow.actions import Action

_ALGORITHMS = {
    "wolff": ("Wolff", "one cluster turned over"),
    "swendsen_wang": ("Swendsen–Wang", "one update of all clusters"),
    "heat_bath": ("heat bath", "one sweep"),
    "metropolis": ("local Metropolis", "one sweep"),
}

MODELS = ("flow", "network")
"""What can be trained."""

BESIDE = ("HMC", *(f"{name} chain" for name, _ in _ALGORITHMS.values()))
"""What can run beside it, as a source of numbers."""


@dataclass(frozen=True)
class Names:
    """The words for a run.

    Attributes:
        model: the density that is trained.
        beside: the established sampler that runs beside it, as the heading of a column.
        beside_chain: the same as a source of numbers.
        beside_step: what a step of it is.
    """

    model: str = "flow"
    beside: str = "HMC"
    beside_chain: str = "HMC"
    beside_step: str = "one trajectory of HMC"

    @property
    def chain(self) -> str:
        """The Markov chain of the model, as a source of numbers."""
        return f"{self.model} chain"

    @property
    def proposals(self) -> str:
        """The raw draws of the model, as a source of numbers."""
        return f"{self.model} proposals"

    @property
    def sentence(self) -> str:
        """The chain beside the model in a sentence: HMC, the Wolff chain."""
        return self.beside_chain if self.beside == "HMC" else f"the {self.beside_chain}"

    @property
    def group(self) -> Literal["hmc", "classical"]:
        """The group of arrays in which the chain beside the model lies."""
        return "hmc" if self.beside == "HMC" else "classical"


def names_of(action: Action, config: Any) -> Names:
    """The words for a run, by its theory and its configuration."""
    if action.kind != "spin":
        return Names()
    beside, step = _ALGORITHMS[config.classical.algorithm]
    return Names("network", beside, f"{beside} chain", f"{step} by the {beside} chain")
