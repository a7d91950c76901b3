"""Uniform numbers that decide have float64: in float32 one in 2²⁴ is zero, and would accept anything."""

import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from latflow.densities.flows import affine_flow
from latflow.estimators import SoftLabels
from latflow.samplers import (
    HMC,
    EmbeddedClusters,
    HolonomyShift,
    IndependenceMetropolis,
    Sampler,
    SectorHop,
    SingleSpin,
    SwendsenWang,
    Wolff,
)
from latflow.theories import XY, Ising, Phi4, Potts, U1Gauge
from latflow.theories.potts.updates import PottsHeatBath, PottsSwendsenWang, PottsWolff
from latflow.theories.xy.updates import XYMetropolis, XYWolff

PHI4, SPINS, LINKS = Phi4((4, 4), m2=-1.0, lam=1.0), Ising((4, 4), 0.4), U1Gauge((4, 4), 1.0)
ANGLES, STATES = XY((4, 4), 0.8), Potts((4, 4), 3, 0.9)
SAMPLERS = [
    HMC(PHI4, 0.1, 2),
    IndependenceMetropolis(affine_flow((4, 4), layers=1, hidden=(2,)), PHI4),
    SectorHop(LINKS),
    HolonomyShift(LINKS),
    SingleSpin(SPINS),
    SingleSpin(SPINS, "metropolis"),
    SwendsenWang(SPINS),
    Wolff(SPINS),
    PottsHeatBath(STATES),
    PottsSwendsenWang(STATES),
    PottsWolff(STATES),
    XYMetropolis(ANGLES),
    XYWolff(ANGLES),
]


class Uniform(TorchDispatchMode):
    """Notes the precision of all uniform numbers that are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.dtype] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        drawn = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.rand, torch.ops.aten.uniform_):
            assert isinstance(drawn, Tensor)
            self.found.append(drawn.dtype)
        return drawn


def drawn_by(sampler: Sampler) -> list[torch.dtype]:
    """In one step of chains of float32."""
    action, generator = sampler.action, Generator().manual_seed(1)
    start = sampler.init(action.kind.start(action.lattice, 3, generator, torch.float32))
    with Uniform() as seen:
        sampler.step(start, generator)
    return seen.found


@pytest.mark.parametrize(
    "sampler", SAMPLERS, ids=lambda one: f"{type(one).__name__} of {one.action.words.name}"
)
def test_what_decides_has_double_precision(sampler):
    found = drawn_by(sampler)
    assert set(found) == {torch.float64}


def test_clusters_of_signs_are_joined_in_double_precision():
    """The first of all numbers are those of the bonds; the others toss coins, and draw sites by rejection."""
    assert drawn_by(EmbeddedClusters(PHI4))[0] == torch.float64


def test_populations_decide_in_double_precision():
    """The first numbers are those of draws, for which any precision will do; the last decide."""
    flow = affine_flow((4, 4), layers=1, hidden=(2,))
    x, generator = torch.zeros(4, 4, 4), Generator().manual_seed(1)
    with Uniform() as seen:
        SoftLabels()._proposed(flow, PHI4, x, generator)
    assert seen.found[-1] == torch.float64
