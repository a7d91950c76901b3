"""The chains of a run: that of the model, moved by its kernels, and an established one beside it."""

import logging
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from latflow.config import ChainPlan
from latflow.densities import draws
from latflow.errors import RunFolderError
from latflow.runs.ensembles import starting_fields
from latflow.runs.folder import RunFolder
from latflow.runs.growth import ChainName, GrowingChain, OnBlock
from latflow.runs.training import require_trained
from latflow.samplers import Cycle, IndependenceMetropolis, Sampler
from latflow.theories import Action
from latflow.training.world import ALONE, World

_LOG = logging.getLogger(__name__)

Kernels = dict[str, Sampler[Any, Any]]


def sample(folder: RunFolder, name: ChainName, on_block: OnBlock | None = None) -> None:
    """Grow a chain of a run to its length, from where it stands.

    The chain of the model begins at draws of it, the one beside it where the kind of field starts, or at
    configurations of a file. Every kernel that tunes itself does so once, at the beginning. Of several
    processes each moves its share of the chains with random numbers of its own; the first one writes them
    all, and its kernels say how the others are tuned.

    Raises:
        Interrupted: after a signal, between blocks.
        RunFolderError: when the training has not ended, for the chain of the model; or when another process
            holds the folder.
        ConfigError: when the processes cannot share out the chains.
        CheckpointError: when a checkpoint is damaged, of another model, or of another number of processes.
        LatflowError: when a kernel finds no way to move.
        ProcessError: when another process was lost.
    """
    plan = folder.config.chain(name)
    if plan is None:
        return
    world = World.here()
    folder.check_processes()
    with folder.stage(world) as stop:
        density = None
        if name == "model":
            world.from_first(lambda: require_trained(folder))
        world.from_first(lambda: folder.mend(name))
        chain = GrowingChain(folder, name, plan, on_block, stop)
        if chain.finished:
            return
        if name == "model":
            density = chain.model = _model(folder, world)
        if chain.outdated and world.rank == 0:
            _LOG.warning("%s was drawn with other weights: it is computed anew", folder.checkpoint(name))
        if chain.stored:
            kernels: Kernels = plan.build(folder.action, density)
            found = chain.stored["info"]["found"]
            kernels |= {key: kernels[key].adapted(told) for key, told in found.items()}
            sampler = joined(kernels, plan.repeats)
            state = chain.restore(sampler)
        else:
            dtype = folder.config.compute.torch_dtype
            world.separate(chain.generator)
            sampler, state, found = begun(plan, folder.action, density, chain.generator, dtype, world)
            info = {"found": found, "proposes": name == "model" and sampler.proposes}
            state = chain.begin(sampler, state, info)
        chain.grow(sampler, state)


def _model(folder: RunFolder, world: World) -> Any:
    """The trained model, as the first process has read it: the others may not see the same disk."""
    model = folder.new_model().eval() if world.rank else folder.model("best")
    world.broadcast([*model.parameters(), *model.buffers()])
    return model


def joined(kernels: Kernels, repeats: dict[str, int]) -> Sampler[Any, Any]:
    """The one kernel of a chain, or the cycle of several."""
    if len(kernels) == 1 and not any(number > 1 for number in repeats.values()):
        return next(iter(kernels.values()))
    steps = [repeats.get(name, 1) for name in kernels]
    return Cycle(list(kernels.values()), steps=steps, names=list(kernels))


class Begun(NamedTuple):
    """A chain that begins.

    Attributes:
        sampler: as it has tuned itself.
        state: where its chains stand, before any thermalisation.
        found: what each kernel found as it tuned itself, by its name.
    """

    sampler: Sampler[Any, Any]
    state: Any
    found: dict[str, dict[str, float]]


def begun(
    plan: ChainPlan,
    action: Action,
    density: Any,
    generator: Generator,
    dtype: torch.dtype,
    world: World = ALONE,
) -> Begun:
    """The sampler of a chain, tuned, with chains that start at draws of its model or where the field does.

    Args:
        plan: of the chain.
        action: the theory.
        density: the model, None for a chain without.
        generator: of all random numbers of the chain, on the device of its fields.
        dtype: of fields that start without a model.
        world: the processes that share out the chains.

    Raises:
        RunFolderError: when the start of the kind of field does not fit the theory.
        LatflowError: when a kernel finds no way to move.
    """
    kernels: Kernels = plan.build(action, density)
    only, chains = joined(kernels, plan.repeats), world.share(plan.chains)
    if isinstance(only, IndependenceMetropolis):
        return Begun(only, only.init_from_draws(chains, generator), {})  # their weights are known already
    if density is None:
        x = _start(plan, action, generator, dtype, world)
    else:
        x = draws(density, chains, action, generator).x
    found = {}
    for name, kernel in kernels.items():
        kernels[name], state = kernel.adapt(kernel.init(x), generator, plan.thermalisation)
        x = kernels[name].field(state)
        # what the first has found serves all: chains of one run are moved alike
        if told := world.from_first(kernels[name].found):
            found[name] = told
            kernels[name] = kernels[name].adapted(told) if world.rank else kernels[name]
    sampler = joined(kernels, plan.repeats)
    return Begun(sampler, sampler.init(x), found)


def _start(plan: ChainPlan, action: Action, generator: Generator, dtype: torch.dtype, world: World) -> Tensor:
    if plan.start is not None:
        x = world.own(starting_fields(plan, action)[0])
        return x.to(generator.device, dtype if x.is_floating_point() else None)
    x = action.kind.start(action.lattice, world.share(plan.chains), generator, dtype)
    try:
        action.check(x)
    except ValueError as error:
        raise RunFolderError(f"the start of the kind of field {action.kind} does not fit: {error}") from error
    return x
