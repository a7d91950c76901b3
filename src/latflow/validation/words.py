"""What the chains of a run are called in words, from the samplers that move them."""

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from latflow.runs import Run

OfRun = Literal["model", "beside"]
"""The Markov chains of a run: that of the model, and that of the established sampler beside it."""

Chain = Literal[OfRun, "ensemble"]
"""These, and configurations that were made elsewhere."""

CHAINS: tuple[OfRun, ...] = ("model", "beside")
"""Those of a run."""


class ChainWords(NamedTuple):
    """A Markov chain in words.

    Attributes:
        heading: of a column: "model + Metropolis", "HMC + sector hops", "Wolff".
        sentence: in a sentence: "the model's chain", "the Wolff chain".
        step: what a step of it is: "one trajectory of HMC".
        proposes: whether its steps come with independent draws and their weights.
        alone: whether nothing but proposals of the model moves it.
    """

    heading: str
    sentence: str
    step: str
    proposes: bool = False
    alone: bool = False


OF_ENSEMBLE = ChainWords("ensemble", "the ensemble", "one configuration of the file")
"""Configurations that were made elsewhere."""


def chain_words(run: "Run") -> dict[OfRun, ChainWords]:
    """The chains that a run has, in words: those that are switched off are left out."""
    words: dict[OfRun, ChainWords] = {}
    for chain in CHAINS:
        if kernels := run.samplers(chain):
            words[chain] = _words(chain, list(kernels.values()))
    if "model" in words and "beside" in words and words["model"].heading == words["beside"].heading:
        words["model"] = words["model"]._replace(heading=f"{words['model'].heading} (the model's chain)")
    return words


def _words(chain: OfRun, kernels: list) -> ChainWords:
    proposes = [kernel.proposes for kernel in kernels]
    alone = all(proposes) and len(kernels) == 1
    heading = " + ".join(kernel.title or type(kernel).__name__ for kernel in kernels)
    steps = [kernel.step_words for kernel in kernels]
    return ChainWords(
        heading="model + Metropolis" if chain == "model" and alone else heading,
        sentence="the model's chain" if chain == "model" else f"the {heading} chain",
        step=steps[0] if len(steps) == 1 else f"a cycle of {', '.join(steps[:-1])} and {steps[-1]}",
        proposes=any(proposes),
        alone=alone,
    )
