"""The chains of a run: that of the flow, moved by its kernels, and an established one beside it."""

from functools import partial

import torch
from torch import Generator, Tensor

from latflow.config import ClassicalConfig
from latflow.errors import RunFolderError
from latflow.runs import kernels
from latflow.runs.folder import RunFolder
from latflow.runs.growth import GrowingChain, OnBlock
from latflow.runs.training import require_trained

_START_SPREAD = 0.1
"""Of the fields from which HMC starts: small, where every action is finite and no vacuum is preferred."""


def sample_flow(folder: RunFolder, on_block: OnBlock | None = None) -> None:
    """Grow the chain of the flow to its length, from where it stands; it begins at draws of the flow.

    The step size of every kernel that makes trajectories is tuned once, at the beginning.

    Raises:
        Interrupted: after a signal, between blocks.
        RunFolderError: when the training has not ended, or another process holds the folder.
        CheckpointError: when a checkpoint is damaged or of another model.
        LatflowError: when no step size is accepted.
    """
    with folder.stage() as stop:
        require_trained(folder)
        chain = GrowingChain(folder, "flow", folder.config.sampling, on_block, stop)
        if chain.finished:
            return
        flow = folder.flow("best")
        if chain.stored:
            sampler = kernels.assembled(folder.config, flow, chain.stored["info"].get("trajectories", {}))
            state = chain.restore(sampler)
        else:
            sampler, state, trajectories = kernels.first(chain, flow)
            state = chain.begin(sampler, state, {"trajectories": trajectories} if trajectories else {})
        chain.grow(sampler, state)


def sample_hmc(folder: RunFolder, on_block: OnBlock | None = None) -> None:
    """Grow the HMC chain to its length, from where it stands; the step size is tuned once, at its beginning.

    Raises:
        Interrupted: after a signal, between blocks.
        RunFolderError: when another process holds the folder, or the run is of spins.
        CheckpointError: when the chain's checkpoint is damaged.
        LatflowError: when no step size is accepted.
    """
    settings = folder.config.hmc
    if settings is None:
        raise RunFolderError(f"{folder.path} is a run of spins: beside it runs its classical chain, not HMC")
    if not settings.enabled:
        return
    with folder.stage() as stop:
        chain = GrowingChain(folder, "hmc", settings, on_block, stop)
        if chain.finished:
            return
        if chain.stored:
            info = chain.stored["info"]
            hmc = settings.build(folder.action, info["step_size"], info["n_steps"])
            state = chain.restore(hmc)
        else:
            start = _small_fields(folder, settings.chains, chain.generator)
            hmc, state = kernels.tuned(chain, settings, partial(settings.build, folder.action), start)
            state = chain.begin(hmc, state, {"step_size": hmc.step_size, "n_steps": hmc.n_steps})
        chain.grow(hmc, state)


def sample_classical(folder: RunFolder, on_block: OnBlock | None = None) -> None:
    """Grow the classical chain of spins to its length, from where it stands; it begins at spins at random.

    Raises:
        Interrupted: after a signal, between blocks.
        RunFolderError: when another process holds the folder, or the run is not of spins.
        CheckpointError: when the chain's checkpoint is damaged.
    """
    settings = folder.config.classical
    if settings is None:
        raise RunFolderError(f"{folder.path} is no run of spins: beside it runs HMC, not a classical chain")
    if not settings.enabled:
        return
    with folder.stage() as stop:
        chain = GrowingChain(folder, "classical", settings, on_block, stop)
        if chain.finished:
            return
        sampler = settings.build(folder.action)
        if chain.stored:
            state = chain.restore(sampler)
        else:
            state = chain.begin(sampler, sampler.init(_random_spins(folder, settings, chain.generator)), {})
        chain.grow(sampler, state)


def _small_fields(folder: RunFolder, chains: int, generator: Generator) -> Tensor:
    device, dtype = folder.device, folder.config.compute.torch_dtype
    shape = (chains, *folder.action.field_shape)
    return _START_SPREAD * torch.randn(shape, generator=generator, device=device, dtype=dtype)


def _random_spins(folder: RunFolder, settings: ClassicalConfig, generator: Generator) -> Tensor:
    """±1 with equal probability: no phase is preferred."""
    shape = (settings.chains, *folder.action.field_shape)
    heads = torch.randint(2, shape, generator=generator, device=folder.device)
    return (2 * heads - 1).to(folder.config.compute.torch_dtype)
