"""How a chain of a run grows: block by block onto the disk, and on from its checkpoint."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from torch import Generator, Tensor, nn

from latflow.analysis import effective_sample_size
from latflow.config import ChainPlan, to_toml
from latflow.errors import CheckpointError, RunFolderError
from latflow.observables import recorded
from latflow.runs.chains import ChainStore, Written
from latflow.runs.folder import RunFolder
from latflow.runs.interrupts import StopRequest
from latflow.samplers import Block, Observe, Sampler, run_blocks, thermalise
from latflow.storage import digest_of
from latflow.training.world import World

State = TypeVar("State")

ChainName = Literal["model", "beside"]
"""The Markov chain of the model, and the one beside it."""

Group = Literal["model", "proposals", "beside"]
"""A group of arrays: those of the chains, and the raw draws of the model that were proposed to its chain."""


@dataclass(frozen=True)
class BlockReport:
    """What became of a block of steps, after it is written.

    Attributes:
        step: the steps of each chain that are written now; 0 during thermalisation.
        steps: how many there will be.
        acceptance: share of accepted proposals in the block; nan during thermalisation.
        ess: effective sample size of the block's proposals, None for a chain without independent ones.
    """

    step: int
    steps: int
    acceptance: float
    ess: float | None = None


OnBlock = Callable[[BlockReport], None]


def chain_store(folder: RunFolder) -> ChainStore:
    """Where the chains of a run lie, with its configuration, versions and seed inside."""
    attributes = {key: value for key, value in folder.info.items() if isinstance(value, str | int)}
    axes = {one.name: one.axes for one in folder.action.observables if one.axes}
    attributes["configuration"] = to_toml(folder.config)
    return ChainStore(folder.path / "samples.zarr", attributes, axes)


def chain_info(folder: RunFolder, name: ChainName) -> dict[str, Any]:
    """The number of `steps` written, the `seconds` they took, and what was found when the chain began."""
    tree = stored_chain(folder, name) or {"steps": 0, "seconds": 0.0, "info": {}}
    return {"steps": tree["steps"], "seconds": tree["seconds"], **tree["info"]}


class GrowingChain:
    """One chain of a run, from its checkpoint to its end.

    The checkpoint (state, generator, number of steps) is written after the block whose end it describes. What
    lies beyond it in the arrays came from a process that was killed in between: it is cut off and computed
    again.
    """

    def __init__(
        self,
        folder: RunFolder,
        name: ChainName,
        settings: ChainPlan,
        on_block: OnBlock | None,
        stop: StopRequest,
    ) -> None:
        self.folder: RunFolder = folder
        self.settings: ChainPlan = settings
        self.world: World = World.here()
        self.name: ChainName = name
        self.on_block: OnBlock | None = on_block
        self.stop: StopRequest = stop
        self.generator: Generator = folder.generator(name)
        self.store: ChainStore = chain_store(folder)
        # all go on from what the first has read
        self.stored: dict[str, Any] | None = self.world.from_first(lambda: stored_chain(folder, name))
        self.model: nn.Module | None = None
        self.steps: int = 0
        self.arrays: dict[str, Written] = {}
        self.info: dict[str, Any] = {}
        self.seconds, self.since = 0.0, time.perf_counter()

    @property
    def outdated(self) -> bool:
        """Whether there is a chain of other weights, which this one replaces."""
        return self.stored is None and self.folder.checkpoint(self.name).exists()

    @property
    def finished(self) -> bool:
        """Whether the chain has its length."""
        return self.stored is not None and self.stored["steps"] >= self.settings.steps

    def begin(self, sampler: Sampler[State, Any], state: State, info: dict[str, Any]) -> State:
        """Thermalise from `state`; `info` is what later processes must know of the sampler."""
        self.info = info
        state = self.thermalise(sampler, state)
        self._save(sampler, state)
        return state

    def thermalise(self, sampler: Sampler[State, Any], state: State) -> State:
        """The steps of the thermalisation, of which nothing is kept but where they end."""
        for first in range(0, self.settings.thermalisation, self.settings.block):
            n = min(self.settings.block, self.settings.thermalisation - first)
            state = thermalise(sampler, state, n, self.generator)
            self._report(BlockReport(0, self.settings.steps, math.nan))
            self.stop.heed()
        return state

    def restore(self, sampler: Sampler[State, Any]) -> State:
        """The state of the checkpoint; generator and arrays go back to it, too."""
        tree, path = self.stored or {}, self.folder.checkpoint(self.name)
        self.folder.require_device(tree["device"], path)
        if (processes := tree.get("processes", 1)) != self.world.size:  # earlier versions did not say
            raise CheckpointError(
                f"{path}: expected chains of {self.world.size} processes, got those of {processes}: go on "
                f"with as many as before, or remove {path.name}, and they are sampled anew"
            )
        self.generator.set_state(self.world.own(tree["generator"]))
        self.steps, self.info, self.seconds = tree["steps"], tree["info"], tree["seconds"]
        self.arrays = _written(tree)
        if self.steps:
            self.world.from_first(lambda: self.store.cut(self.arrays))
        state = {
            name: (self.world.own(values) if values.ndim else values).to(self.folder.device)
            for name, values in tree["state"].items()
        }
        try:
            self._restore_buffers(tree.get("buffers", {}))
            return sampler.state_from_dict(state)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is the chain of another sampler: {error}") from error

    def grow(self, sampler: Sampler[State, Any], state: State) -> None:
        """Write block after block until the chain has its length."""
        if self.world.rank == 0:
            self.store.sweep()
        observe = _observe(self.folder)
        rest, block = self.settings.steps - self.steps, self.settings.block
        for state, own in run_blocks(sampler, state, rest, observe, self.generator, block=block):  # noqa: B020
            part = self._of_all(own)
            if self.world.rank == 0:
                groups = _alike(_arrays(self.name, part), self.arrays)
                self.store.append(groups, self.steps)
                self.arrays = {
                    group: self.arrays.get(group, Written()).grown(series) for group, series in groups.items()
                }
            self.steps += len(part.series["accepted"])
            self._save(sampler, state)
            self._report(_block_report(self.steps, self.settings.steps, part))
            self.stop.heed()

    def _of_all(self, own: Block) -> Block:
        """The same of the chains of all processes."""
        if self.world.size == 1:
            return own

        def gathered(series: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: self.world.gather(v.transpose(0, 1)).transpose(0, 1) for k, v in series.items()}

        return Block(gathered(own.series), None if own.proposals is None else gathered(own.proposals))

    def _save(self, sampler: Sampler[State, Any], state: State) -> None:
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        # all processes exchange what they have, and the first one writes it
        of_chains, gather = sampler.state_dict(state), self.world.gather
        tree = {
            "buffers": self._buffers(),
            "state": {name: gather(values) if values.ndim else values for name, values in of_chains.items()},
            "generator": gather(self.generator.get_state()),
            "processes": self.world.size,
        }
        if self.world.rank:
            return
        tree |= {
            "steps": self.steps,
            "arrays": {group: asdict(there) for group, there in self.arrays.items()},
            "info": self.info,
            "made_by": self.folder.made_by(self.name),
            "weights": _weights_of(self.folder, self.name),
            "seconds": self.seconds,
            "device": self.folder.device.type,
        }
        self.folder.keep(self.name, tree)

    def _buffers(self) -> dict[str, Tensor]:
        """What the model of each process keeps, one after the other where there are several."""
        moving = _moving_buffers(self.model)
        if self.world.size == 1:
            return moving
        return {name: self.world.gather(values[None]) for name, values in moving.items()}

    def _restore_buffers(self, buffers: dict[str, Tensor]) -> None:
        """Put the model back to where its own chains were, if it has some."""
        if self.model is not None and buffers:
            several = self.world.size > 1
            own = {name: values[self.world.rank] if several else values for name, values in buffers.items()}
            self.model.load_state_dict(own, strict=False)

    def _report(self, report: BlockReport) -> None:
        if self.on_block is not None and self.world.rank == 0:
            self.on_block(report)


def _moving_buffers(model: nn.Module | None) -> dict[str, Tensor]:
    """What a model keeps besides its weights, such as where chains of its prior stand: draws change it."""
    if model is None:
        return {}
    weights = {name for name, _ in model.named_parameters()}
    return {name: values for name, values in model.state_dict().items() if name not in weights}


def stored_chain(folder: RunFolder, name: ChainName) -> dict[str, Any] | None:
    """What the checkpoint of a chain holds, where there is one, and its model has the same weights still.

    Raises:
        CheckpointError: when it is damaged or of another run.
    """
    path = folder.checkpoint(name)
    if not path.exists():
        return None
    tree = folder.load(name, "state", "generator", "steps", "arrays", "seconds", "info", "device", "weights")
    if tree["weights"] != _weights_of(folder, name):
        return None
    settings = folder.config.chain(name)
    number = {len(values) for values in tree["state"].values() if values.ndim}
    expected, found = settings.chains if settings is not None else 0, max(number, default=0)
    if number != {expected}:
        raise CheckpointError(
            f"{path} is the chain of another run: expected a state of {expected} chains, got one of {found}"
        )
    if any(there.steps != tree["steps"] for there in _written(tree).values()):
        raise CheckpointError(
            f"{path} contradicts itself: {tree['steps']} steps, and arrays of other lengths"
        )
    return tree


def _observe(folder: RunFolder) -> Observe:
    """What is recorded: the observables of the theory, and the field itself on request."""
    observe = recorded(folder.action)
    if not folder.config.save_fields:
        return observe
    return lambda x: observe(x) | {"field": x}


def written(folder: RunFolder, group: str) -> Written:
    """What is written of a group of arrays.

    Raises:
        RunFolderError: when a chain is there whose checkpoint is gone.
        CheckpointError: as `stored_chain`.
    """
    name: ChainName = "beside" if group == "beside" else "model"
    if folder.config.chain(name) is None:
        return Written()
    there, checkpoint = chain_store(folder).path / group, folder.checkpoint(name)
    if there.exists() and not checkpoint.exists():
        raise RunFolderError(
            f"{there} is a chain whose checkpoint {checkpoint} is gone: put it back, or `latflow sample "
            f"{folder.path}` computes the chain anew"
        )
    return _written(stored_chain(folder, name) or {}).get(group, Written())


def _written(tree: dict[str, Any]) -> dict[str, Written]:
    """What is written of each group of arrays of a chain, by its checkpoint."""
    return {
        group: Written(
            steps=there["steps"],
            arrays={name: (dtype, tuple(chunks)) for name, (dtype, chunks) in there["arrays"].items()},
            blocks=tuple(there["blocks"]),
            sums={name: tuple(sums) for name, sums in there["sums"].items()},
        )
        for group, there in tree.get("arrays", {}).items()
    }


def _weights_of(folder: RunFolder, name: ChainName) -> str | None:
    """What the weights are known by that a chain draws from; None where it draws from none."""
    best = folder.checkpoint("best")
    return digest_of(best) if name == "model" and best.exists() else None


def _arrays(name: ChainName, part: Block) -> dict[str, dict[str, np.ndarray]]:
    """A block as the arrays that are written, by their groups: the chain, and the draws of the model.

    Where a step proposes several times its draws lie side by side, (step, draws · chains, …), so that all
    groups have as many steps.
    """
    groups = {name: {key: values.numpy() for key, values in part.series.items()}}
    if part.proposals is not None and name == "model":
        steps = len(part.series["accepted"])
        # of the fields, those that the chain held are enough
        drawn = {key: values.numpy() for key, values in part.proposals.items() if key != "field"}
        groups["proposals"] = {
            key: values.reshape(steps, -1, *values.shape[2:]) for key, values in drawn.items()
        }
    return groups


def _alike(
    groups: dict[str, dict[str, np.ndarray]], before: Mapping[str, Written]
) -> dict[str, dict[str, np.ndarray]]:
    """The same in the types of the blocks before: an array has one, whatever an observable does."""
    return {
        group: {
            key: values.astype(before[group].arrays[key][0], copy=False) for key, values in series.items()
        }
        if group in before and before[group].steps
        else series
        for group, series in groups.items()
    }


def _block_report(step: int, steps: int, part: Block) -> BlockReport:
    acceptance = part.series["accepted"].double().mean().item()
    if part.proposals is None:
        return BlockReport(step, steps, acceptance)
    log_weight = part.proposals["log_weight"]
    finite = log_weight[log_weight.isfinite()].numpy()
    return BlockReport(step, steps, acceptance, effective_sample_size(finite) if len(finite) else 0.0)
