"""What a report is made of: the data of a run, read once."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from latflow.errors import LatflowError
from latflow.figures import LOOKS, Look, Source
from latflow.measurement import Measurement
from latflow.runs import Run
from latflow.theories import Action
from latflow.validation.known import known
from latflow.validation.words import CHAINS, Chain, ChainWords, chain_words

PROPOSALS = Source("model's proposals", LOOKS[2])
"""The raw draws of the model, as a source of numbers."""


class Material:
    """The data of a run, read once.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def action(self) -> Action:
        """The theory."""
        return self.run.action

    @property
    def with_model(self) -> bool:
        """Whether the run has a model."""
        return self.run.config.model is not None

    @property
    def first(self) -> Chain:
        """The chain whose history is drawn."""
        return "model" if self.with_model else "beside"

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The records of the training."""
        return self.run.history()

    @cached_property
    def words(self) -> dict[Chain, ChainWords]:
        """What the chains that the run has are called; one that is switched off is left out."""
        return {**chain_words(self.run)}

    @cached_property
    def kernels(self) -> dict[str, str]:
        """The kernels of the chains by name, and what they are called."""
        found = {**self.run.samplers("beside"), **self.run.samplers("model")}
        return {name: kernel.title for name, kernel in found.items()}

    @cached_property
    def known(self) -> dict[str, Measurement]:
        """What is known of the theory without this run."""
        return known(self.action, self.run.config.reference)

    @cached_property
    def model(self) -> Mapping[str, np.ndarray]:
        """The series of the model's chain."""
        return self.run.series("model")

    @cached_property
    def proposals(self) -> Mapping[str, np.ndarray]:
        """Those of the raw draws of the model."""
        return self.run.series("proposals")

    @cached_property
    def beside(self) -> Mapping[str, np.ndarray]:
        """Those of the chain beside it."""
        return self.run.series("beside")

    @property
    def series(self) -> Mapping[Chain, Mapping[str, np.ndarray]]:
        """Those of each chain."""
        return {"model": self.model, "beside": self.beside}

    @cached_property
    def sources(self) -> dict[Chain, Source]:
        """The chains as sources of numbers: each has its look in every figure."""
        looks: dict[Chain, Look] = dict(zip(CHAINS, LOOKS, strict=False))
        return {
            chain: Source(words.sentence.removeprefix("the "), looks[chain])
            for chain, words in self.words.items()
        }

    def draws(self) -> Mapping[str, np.ndarray]:
        """The raw draws of the model with their weights.

        Raises:
            NotYetError: when there are none yet, or no kernel of the chain proposes any.
        """
        if "log_weight" in self.proposals:
            return self.proposals
        words = self.words.get("model")
        if words is None or words.proposes:
            raise NotYetError("the model has not been sampled yet.")
        raise NotYetError(
            f"no kernel of {words.sentence} ({words.heading}) proposes draws of the model, so there are no "
            "weights."
        )

    def chains(self, *names: str) -> dict[str, tuple[np.ndarray, ...]]:
        """Some series of each Markov chain that has all of them.

        Raises:
            NotYetError: when none has.
        """
        found: dict[str, tuple[np.ndarray, ...]] = {
            source: tuple(self.series[chain][name] for name in names)
            for chain, source in self.sources.items()
            if all(name in self.series[chain] for name in names)
        }
        if not found:
            beside = self.words.get("beside")
            if beside is None:
                raise NotYetError("the model has not been sampled yet.")
            neither = f"neither the model nor {beside.sentence} has"
            who = neither if self.with_model else f"{beside.sentence} has not"
            raise NotYetError(f"{who} been sampled yet.")
        return found

    def one(self, name: str) -> dict[str, np.ndarray]:
        """One series of each Markov chain that has it; as `chains`."""
        return {source: series for source, (series,) in self.chains(name).items()}

    def factor(self, source: str) -> np.ndarray | None:
        """With what the averages of a chain are reweighted, (steps, chains); None where with nothing."""
        name = self.action.reweighting
        chain: Chain = next(chain for chain, one in self.sources.items() if one == source)
        return None if name is None else by_chain(self.series[chain][name])

    @property
    def exact_free_energy(self) -> float | None:
        """F = −log Z where it is known."""
        log_z = self.known.get("log_z")
        return None if log_z is None else -log_z.value


def by_chain(series: np.ndarray) -> np.ndarray:
    """(steps, chains)."""
    return np.asarray(series).reshape(len(series), -1)


class NotYetError(LatflowError):
    """A figure has nothing to show, because a stage has not run."""
