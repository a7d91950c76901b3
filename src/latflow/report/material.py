"""What a report is made of: the data of a run, read once, and the plates that are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from latflow.actions import Action
from latflow.errors import LatflowError
from latflow.validation import Names, names_of


@runtime_checkable
class RunLike(Protocol):
    """What a report asks of a run."""

    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> Any: ...
    @property
    def info(self) -> Mapping[str, Any]: ...
    @property
    def action(self) -> Action: ...
    def history(self) -> list[dict[str, Any]]: ...
    def series(self, group: Any) -> dict[str, np.ndarray]: ...
    def flow(self) -> Any: ...
    def checkpoint(self, name: str) -> Path: ...
    def sampling_info(self, name: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Plate:
    """A figure with its words.

    Attributes:
        name: of its files.
        title: its heading.
        figure: None when it cannot be drawn, which `caption` then explains.
        alt: what it shows, for those who do not see it.
        caption: what to look for.
    """

    name: str
    title: str
    figure: Figure | None
    alt: str
    caption: str


class Material:
    """The data of a run, read once.

    Args:
        run: the run.
        exact_free_energy: F = −log Z where it is known.
    """

    def __init__(self, run: RunLike, exact_free_energy: float | None = None) -> None:
        self.run, self.exact_free_energy = run, exact_free_energy

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The records of the training."""
        return self.run.history()

    @cached_property
    def names(self) -> Names:
        """What its parts are called."""
        return names_of(self.run.action, self.run.config)

    @cached_property
    def flow(self) -> dict[str, np.ndarray]:
        """The series of the chain of the flow, or of the network."""
        return self.run.series("flow")

    @cached_property
    def proposals(self) -> dict[str, np.ndarray]:
        """The raw draws from it."""
        return self.run.series("proposals")

    @cached_property
    def beside(self) -> dict[str, np.ndarray]:
        """The series of the chain beside it: of HMC, for spins the classical one."""
        return self.run.series(self.names.group)

    def draws(self) -> dict[str, np.ndarray]:
        """The raw draws from the model with their weights.

        Raises:
            NotYetError: when there are none yet, or no kernel of the chain proposes any.
        """
        if "log_weight" in self.proposals:
            return self.proposals
        raise NotYetError(
            f"the {self.names.model} has not been sampled yet."
            if self.names.proposes
            else f"{self.names.without_weights}."
        )

    def chains(self, name: str) -> dict[str, np.ndarray]:
        """A series of each Markov chain that has it.

        Raises:
            NotYetError: when none has.
        """
        sources = {self.names.chain: self.flow, self.names.beside_chain: self.beside}
        found = {source: series[name] for source, series in sources.items() if name in series}
        if not found:
            raise NotYetError(
                f"neither the {self.names.model} nor {self.names.sentence} has been sampled yet."
            )
        return found


class NotYetError(LatflowError):
    """A figure has nothing to show, because a stage has not run."""
