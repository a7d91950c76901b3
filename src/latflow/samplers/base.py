"""What every sampler offers, and the loop that drives many chains and records them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

from latflow.observables.base import Observe
from latflow.samplers.history import joined, on_cpu, stacked
from latflow.theories.base import Action
from latflow.types import Draws, LogProb

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


class KnownAction(NamedTuple):
    """S of the field of each chain, and whose S it is."""

    action: Action
    value: LogProb


@dataclass(frozen=True)
class Place:
    """Where a kernel acts among others, for what `adapt` measures of the whole chain.

    Attributes:
        chain: the sampler of the chain, with this kernel in its place.
        name: of the kernel, which what it reports ends in: "accepted_NAME".
    """

    chain: "Callable[[Sampler[Any, Any]], Sampler[Any, Any]]"
    name: str


class Sampler(ABC, Generic[State, Info]):
    """A Markov chain on a batch of configurations, one chain an entry of the batch.

    The state is what must be kept to go on, the info is what one looks at ("accepted" among it); both are
    small frozen dataclasses of tensors, chains first. A sampler owns no randomness and no chain: with the
    same state and the same state of the generator, a step gives the same result bit for bit.

    A sampler of one's own needs `init`, `step`, `field` and `state_from_dict`.
    """

    title: str = ""
    """As a heading: "HMC"; the name of the class unless it says otherwise."""
    step_words: str = "one step"
    """What a step is: "one trajectory of HMC"."""
    ergodic: bool = True
    """False for a kernel that reaches some configurations only, and so must stand beside another one."""
    proposes: bool = False
    """Whether its steps come with independent draws and their weights."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.title = cls.title or cls.__name__

    @abstractmethod
    def init(self, x: Tensor) -> State:
        """The state of chains that start at the configurations x, one chain each."""

    @abstractmethod
    def step(self, state: State, generator: Generator) -> tuple[State, Info]:
        """One transition of every chain."""

    @abstractmethod
    def field(self, state: State) -> Tensor:
        """The physical field of each chain."""

    def known_action(self, state: State) -> KnownAction | None:  # noqa: ARG002 (of a state without)
        """The action of the physical field of each chain, where the state has it, for a next kernel."""
        return None

    def init_knowing(self, x: Tensor, known: KnownAction) -> State:  # noqa: ARG002 (of no use here)
        """`init` for configurations of which another kernel knows the action."""
        return self.init(x)

    @abstractmethod
    def state_from_dict(self, tree: dict[str, Any]) -> State:
        """The state that `state_dict` took apart, on the device where the tensors of `tree` are."""

    def state_dict(self, state: State) -> dict[str, Any]:
        """The state as tensors by name, from which the chains go on bit for bit."""
        return dict(vars(state))

    def step_with_draws(self, state: State, generator: Generator) -> tuple[State, Info, Draws | None]:
        """One transition of every chain, and the independent draws that were proposed in it.

        They are one for each chain, or several such batches one after the other; None of a sampler that makes
        none.
        """
        return *self.step(state, generator), None

    def check_chains(self, n: int) -> None:
        """Refuse a number of chains with which `adapt` cannot work.

        Raises:
            ValueError: saying how many are needed.
        """

    def adapt(
        self,
        state: State,
        generator: Generator,  # noqa: ARG002 (of those that have something to find)
        thermalisation: int,  # noqa: ARG002
    ) -> "tuple[Sampler[State, Info], State]":
        """The sampler as it is best for these chains, and the chains as they stand.

        It is called before anything is recorded.

        Args:
            state: the chains.
            generator: the source of randomness.
            thermalisation: steps after which the chains are trusted to be in equilibrium.
        """
        return self, state

    def within(self, place: Place) -> "Sampler[State, Info]":  # noqa: ARG002 (of those that measure nothing)
        """The same sampler, whose `adapt` knows of the chain in which it acts."""
        return self

    def found(self) -> dict[str, float]:
        """What `adapt` found, by name."""
        return {}

    def adapted(self, found: Mapping[str, float]) -> "Sampler[State, Info]":  # noqa: ARG002 (nothing is found)
        """The sampler of which `found` told this."""
        return self

    def alternatives(self) -> "Sequence[Mapping[str, Any]]":
        """Settings of its section in a configuration that a plan tries beside the ones that it has.

        They are what may serve better and cannot be found by `adapt`; none by default.
        """
        return ()

    @property
    def name(self) -> str:
        """In names of series: the class in lower case, "swendsen_wang"."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    @torch.no_grad()
    def advance(
        self, state: State, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[State, Block]:
        """Make `n_steps` transitions of every chain and record each, and the raw draws if there are any.

        The series stay on the device of the fields until the end, so that a block costs one synchronisation.

        Args:
            state: where the chains are.
            n_steps: how many transitions, at least one.
            observe: what is recorded of the fields after each step.
            generator: the source of randomness, on the device of the fields.
        """
        rows, proposals = [], []
        for _ in range(n_steps):
            state, info, draws = self.step_with_draws(state, generator)
            rows.append(observe(self.field(state)) | vars(info))
            if draws is not None:
                drawn = observe(draws.x) | {"log_weight": draws.log_weight}
                chains = len(rows[-1]["accepted"])
                proposals.append({name: values.unflatten(0, (-1, chains)) for name, values in drawn.items()})
        return state, Block(on_cpu(stacked(rows)), on_cpu(joined(proposals)) if proposals else None)


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
    start: Tensor | State,
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
    start: Tensor | State,
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
        series=joined([part.series for part in blocks]),
        proposals=joined(proposals) if proposals else None,
        state=last[0],
    )


def _blocks(
    sampler: Sampler[State, Info],
    start: Tensor | State,
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


def _nothing(_: Tensor) -> dict[str, Tensor]:
    return {}
