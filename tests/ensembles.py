"""Configurations for the tests of what judges them: exact draws, or by HMC and clusters."""

import functools
import itertools

import torch
from torch import Generator, Tensor

import latflow as lf
from latflow.registry import load
from latflow.theories.potts import Potts
from latflow.theories.xy import XY
from toy import InField

HOPPING = lf.actions.HoppingPhi4((8, 8), beta=0.6, lam=0.5)
BROKEN = lf.actions.HoppingPhi4((8, 8), beta=1.0, lam=0.5)
LINKS = lf.actions.U1Gauge((6, 6), beta=3.0)
ISING = lf.actions.Ising((4, 4), beta=0.4)
POTTS = Potts((6, 6), q=3, beta=0.9)
ANGLES = XY((6, 6), beta=0.9)
OWN = InField((4, 4), h=1.0)


def chain(kernel, action, steps: int, chains: int, thin: int, before: int) -> Tensor:
    """Configurations (steps, chains, …) of a sampler."""
    generator = Generator().manual_seed(11)
    state = kernel.init(action.kind.start(action.lattice, chains, generator, torch.float64))
    fields = []
    for step in range(before + steps * thin):
        state, _ = kernel.step(state, generator)
        if step >= before and (step - before) % thin == 0:
            fields.append(kernel.field(state).clone())
    return torch.stack(fields)


@functools.cache
def phi4() -> Tensor:
    """4000 configurations of φ⁴ in the hopping parametrisation, (4000, 8, 8), as published ensembles are."""
    kernel = lf.samplers.HMC(HOPPING, step_size=0.15, n_steps=6)
    fields = chain(kernel, HOPPING, 50, 80, 6, 100)
    return fields.transpose(0, 1).reshape(-1, 8, 8)


@functools.cache
def enumerated(lattice: tuple[int, ...]) -> Tensor:
    """All configurations of Ising spins."""
    sites = torch.Size(lattice).numel()
    numbers = torch.arange(2**sites)[:, None] >> torch.arange(sites)
    return (2.0 * (numbers & 1) - 1).double().view(-1, *lattice)


@functools.cache
def drawn(name: str) -> Tensor:
    """About 4000 configurations (steps, chains, …) of a theory above."""
    generator = Generator().manual_seed(12)
    if name == "ising":
        x = enumerated(ISING.lattice)
        index = torch.multinomial(torch.softmax(-ISING(x), 0), 4000, True, generator=generator)
        return x[index][:, None]
    if name == "links":
        return LINKS.exact_sampler().sample(4000, generator)[0].double()[:, None]
    if name == "own":
        grid = torch.linspace(-torch.pi, torch.pi, 20_001, dtype=torch.float64)[:-1]
        index = torch.multinomial(torch.softmax(OWN.h * grid.cos(), 0), 4000 * 16, True, generator=generator)
        angle = (
            grid[index].view(4000, 4, 4) + 2 * torch.pi / 20_000 * torch.rand(1, generator=generator).double()
        )
        return torch.stack((angle.cos(), angle.sin()), 1)[:, None]
    samplers = {"potts": ("potts_swendsen_wang", POTTS), "angles": ("xy_wolff", ANGLES)}
    sampler, action = samplers[name]
    return chain(load("samplers", sampler)(action), action, 200, 20, 2, 100)


THEORIES = {"ising": ISING, "links": LINKS, "own": OWN, "potts": POTTS, "angles": ANGLES}


def states(q: int, lattice: tuple[int, ...]) -> Tensor:
    """All configurations of q states."""
    sites = torch.Size(lattice).numel()
    return torch.tensor(list(itertools.product(range(q), repeat=sites))).view(-1, *lattice)
