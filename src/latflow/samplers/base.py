"""What every sampler offers, and the loop that drives many chains and records them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Num
from torch import Generator, Tensor

from latflow.types import Field

Observe = Callable[[Field], dict[str, Tensor]]
"""What is recorded of a batch of fields: named tensors, (batch, …) each."""

State = TypeVar("State")
Info = TypeVar("Info")


@dataclass(frozen=True)
class Block:
    """A stretch of the history of all chains, on the CPU.

    Attributes:
        series: (step, chain, …) each: the observables of the configuration that a chain holds after each
            step, and what the sampler says of the step ("accepted" among it).
        proposals: (step, chain, …) each: "log_weight" and the observables of the raw draws from q, accepted
            or not, for importance sampling; None for samplers without independent proposals.
    """

    series: dict[str, Tensor]
    proposals: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Chain(Generic[State]):
    """The whole history of a run, as `Block` has it, and the state from which `run` goes on."""

    series: dict[str, Tensor]
    proposals: dict[str, Tensor] | None
    state: State


class Sampler(ABC, Generic[State, Info]):
    """A Markov chain on a batch of configurations, one chain an entry of the batch.

    The state is what must be kept to go on, the info is what one looks at; both are small frozen dataclasses
    of tensors, chains first. A sampler owns no randomness and no chain: with the same state and the same
    state of the generator, a step gives the same result bit for bit.
    """

    @abstractmethod
    def init(self, x: Field) -> State:
        """The state of chains that start at the configurations x, one chain each."""

    @abstractmethod
    def step(self, state: State, generator: Generator) -> tuple[State, Info]:
        """One transition of every chain."""

    @abstractmethod
    def field(self, state: State) -> Field:
        """The physical field of each chain."""

    @abstractmethod
    def state_from_dict(self, tree: dict[str, Any]) -> State:
        """The state that `state_dict` took apart, on the device where the tensors of `tree` are."""

    def state_dict(self, state: State) -> dict[str, Any]:
        """The state as tensors by name, from which the chains go on bit for bit."""
        return dict(vars(state))

    @torch.no_grad()
    def advance(
        self, state: State, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[State, Block]:
        """Make `n_steps` transitions of every chain and record each.

        The series stay on the device of the fields until the end, so that a block costs one synchronisation.

        Args:
            state: where the chains are.
            n_steps: how many transitions, at least one.
            observe: what is recorded of the fields after each step.
            generator: the source of randomness, on the device of the fields.
        """
        rows = []
        for _ in range(n_steps):
            state, info = self.step(state, generator)
            rows.append(observe(self.field(state)) | vars(info))
        return state, Block({name: torch.stack([row[name] for row in rows]).cpu() for name in rows[0]})


def thermalise(
    sampler: Sampler[State, Info], state: State, n_steps: int, generator: Generator, block: int | None = None
) -> State:
    """Make `n_steps` transitions of every chain and forget how; `block` bounds what is held meanwhile."""
    reached = state
    for reached, _ in run_blocks(sampler, state, n_steps, _nothing, generator, block=block):  # noqa: B007
        pass
    return reached


def run_blocks(
    sampler: Sampler[State, Info],
    start: Field | State,
    n_steps: int,
    observe: Observe,
    generator: Generator,
    thermalisation: int = 0,
    block: int | None = None,
) -> Iterator[tuple[State, Block]]:
    """Run the chains and yield, after every `block` steps, the state and what was recorded since the last.

    Whoever keeps the state (`sampler.state_dict`) and the state of the generator at such a point can go on
    there with `run_blocks(sampler, state, …)`; the rest of the history is then the same bit for bit as
    without the interruption, given the same `block`.

    Args:
        sampler: the transition.
        start: a batch of fields, one for each chain, or the state of an earlier run.
        n_steps: how many steps are recorded.
        observe: what is recorded of the fields after each step.
        generator: the source of randomness, on the device of the fields.
        thermalisation: how many steps are made first, unrecorded.
        block: steps in a block; all of them in one if None.

    Raises:
        ValueError: when a number of steps is negative or a block holds none.
    """
    if n_steps < 0 or thermalisation < 0:
        raise ValueError(f"expected no negative number of steps, got {n_steps=} and {thermalisation=}")
    if block is not None and block < 1:
        raise ValueError(f"expected at least one step in a block, got {block=}")
    return _blocks(sampler, start, n_steps, observe, generator, thermalisation, block or max(n_steps, 1))


def run(
    sampler: Sampler[State, Info],
    start: Field | State,
    n_steps: int,
    observe: Observe,
    generator: Generator,
    thermalisation: int = 0,
    block: int | None = None,
) -> Chain[State]:
    """Run the chains and return their history; the arguments are those of `run_blocks`, with `n_steps` ≥ 1.

    Raises:
        ValueError: when a number of steps is negative or zero.
    """
    if n_steps < 1:
        raise ValueError(f"expected at least one step, got {n_steps=}")
    *earlier, last = run_blocks(sampler, start, n_steps, observe, generator, thermalisation, block)
    blocks = [part for _, part in [*earlier, last]]
    proposals = [part.proposals for part in blocks if part.proposals is not None]
    return Chain(
        series=_concatenated([part.series for part in blocks]),
        proposals=_concatenated(proposals) if proposals else None,
        state=last[0],
    )


def thermalisation_time(history: Num[Tensor, "step *chain"]) -> int:
    """The step at which a history first crosses the mean of its second half.

    A chain that starts far out drifts towards equilibrium, and there fluctuates about the mean; the first
    crossing ends the drift. It is an estimate of how many steps to discard, sound if the second half is in
    equilibrium; discard a multiple of it.

    Args:
        history: one slow quantity, for example the action, of one chain (step,) or of several (step, chain),
            which are averaged first.

    Returns:
        The number of steps before the crossing, few for a history that starts in equilibrium, and never more
        than half its length.
    """
    average = history.double().flatten(1).mean(1) if history.ndim > 1 else history.double()
    half = len(average) // 2
    above = average > average[half:].mean()
    crossed = (above != above[0])[:half]
    return int(crossed.int().argmax()) if bool(crossed.any()) else half


def _blocks(
    sampler: Sampler[State, Info],
    start: Field | State,
    n_steps: int,
    observe: Observe,
    generator: Generator,
    thermalisation: int,
    block: int,
) -> Iterator[tuple[State, Block]]:
    state: State = sampler.init(start) if isinstance(start, Tensor) else start
    if thermalisation:
        state = thermalise(sampler, state, thermalisation, generator, block)
    for first in range(0, n_steps, block):
        state, part = sampler.advance(state, min(block, n_steps - first), observe, generator)
        yield state, part


def _nothing(_: Field) -> dict[str, Tensor]:
    return {}


def _concatenated(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
