"""What the parts of a run are called in words: they depend on its kind of field, and on its configuration."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from latflow.actions import Action

_ALGORITHMS = {
    "wolff": ("Wolff", "one cluster turned over"),
    "swendsen_wang": ("Swendsen–Wang", "one update of all clusters"),
    "heat_bath": ("heat bath", "one sweep"),
    "metropolis": ("local Metropolis", "one sweep"),
}

_KERNELS = {
    "proposals": ("{model} proposals", "one proposal of the {model}"),
    "hmc": ("HMC", "one trajectory of HMC"),
    "flowed_hmc": ("HMC through the {model}", "one trajectory of HMC through the {model}"),
    "hops": ("sector hops", "one hop between sectors"),
}
"""Each kernel of the chain in words, and what a step of it is."""

MODELS = ("flow", "network")
"""What can be trained."""

CHAINS = (*MODELS, "kernel")
"""What can move the chain that is held against the one beside it, as `Names.mover` has it."""

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
        kernels: what moves the chain of the model, in turn: `config.SamplingConfig.kernels`.
    """

    model: str = "flow"
    beside: str = "HMC"
    beside_chain: str = "HMC"
    beside_step: str = "one trajectory of HMC"
    kernels: tuple[str, ...] = ("proposals",)

    @property
    def mover(self) -> str:
        """What moves the chain: the model, or kernels that do not use it."""
        return self.model if {"proposals", "flowed_hmc"} & set(self.kernels) else "kernel"

    @property
    def chain(self) -> str:
        """The Markov chain of the model, as a source of numbers."""
        return f"{self.mover} chain"

    @property
    def heading(self) -> str:
        """The kernels of that chain, as the heading of a column."""
        if self.kernels == ("proposals",):
            return f"{self.model} + Metropolis"
        heading = " + ".join(map(self.kernel, self.kernels))
        return heading if heading != self.beside else f"{heading} ({self.chain})"

    @property
    def chain_step(self) -> str:
        """What a step of that chain is."""
        steps = [_KERNELS[name][1].format(model=self.model) for name in self.kernels]
        return steps[0] if len(steps) == 1 else f"a cycle of {', '.join(steps[:-1])} and {steps[-1]}"

    def kernel(self, name: str) -> str:
        """A kernel in words."""
        return _KERNELS[name][0].format(model=self.model)

    @property
    def proposals(self) -> str:
        """The raw draws of the model, as a source of numbers."""
        return f"{self.model} proposals"

    @property
    def sentence(self) -> str:
        """The chain beside the model in a sentence: HMC, the Wolff chain."""
        return self.beside_chain if self.beside == "HMC" else f"the {self.beside_chain}"

    @property
    def proposes(self) -> bool:
        """Whether draws of the model are proposed to its chain, so that there are weights."""
        return "proposals" in self.kernels

    @property
    def without_weights(self) -> str:
        """Why there are no weights, where no draws are proposed."""
        none = f"no kernel of the chain ({self.heading}) proposes draws of the {self.model}"
        return f"{none}, so there are no weights"

    def words(self) -> dict[str, Any]:
        """All of that by name, for tables and files."""
        return asdict(self) | {"mover": self.mover, "heading": self.heading}

    @property
    def group(self) -> Literal["hmc", "classical"]:
        """The group of arrays in which the chain beside the model lies."""
        return "hmc" if self.beside == "HMC" else "classical"


def names_of(action: Action, config: Any) -> Names:
    """The words for a run, by its theory and its configuration."""
    if action.kind != "spin":
        return Names(kernels=config.sampling.kernels)
    beside, step = _ALGORITHMS[config.classical.algorithm]
    return Names("network", beside, f"{beside} chain", f"{step} by the {beside} chain")
