"""A compiled step is the eager one to rounding, decisions and random numbers included."""

import dataclasses
import warnings

import pytest
import torch

import latflow as lf
from latflow.actions import Action, Phi4, U1Gauge
from latflow.samplers import HMC, FourierMass, can_compile, flowed_hmc

pytestmark = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")

ACTION = Phi4((6, 4), m2=-4.0, lam=8.0)

SAMPLERS = {
    "leapfrog": HMC(ACTION, 0.1, 3),
    "omelyan, jitter": HMC(U1Gauge((4, 6), beta=2.0), 0.2, 2, integrator="omelyan", jitter=0.2),
    "Fourier mass": HMC(ACTION, 0.2, 2, mass=FourierMass(m2=0.5)),
    "flow": flowed_hmc(lf.flows.minimal_flow((6, 4)), ACTION, 0.1, 3),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(action: Action, chains: int, dtype: torch.dtype) -> torch.Tensor:
    return 0.3 * torch.randn(chains, *action.field_shape, generator=seeded(1), dtype=dtype)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_compiled_step_is_the_eager_one(name: str) -> None:
    eager, filters = SAMPLERS[name], list(warnings.filters)
    compiled = dataclasses.replace(eager, compiled=True)
    assert compiled != eager
    dtype = torch.float32 if name == "flow" else torch.float64
    tolerance = 1e-4 if name == "flow" else 1e-10
    states = [sampler.init(start(sampler.action, 5, dtype)) for sampler in (eager, compiled)]
    generators = [seeded(2), seeded(2)]
    for _ in range(2):
        (states[0], expected), (states[1], found) = (
            sampler.step(state, generator)
            for sampler, state, generator in zip((eager, compiled), states, generators, strict=True)
        )
        assert torch.equal(found.accepted, expected.accepted)
        torch.testing.assert_close(found.delta_h, expected.delta_h, rtol=tolerance, atol=tolerance)
        for key, values in vars(states[0]).items():
            torch.testing.assert_close(vars(states[1])[key], values, rtol=tolerance, atol=tolerance)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert warnings.filters == filters


def test_other_batches_other_precisions_and_other_strides_get_programs_of_their_own() -> None:
    eager, compiled = HMC(ACTION, 0.1, 2), HMC(ACTION, 0.1, 2, compiled=True)
    for chains, dtype, turned in (
        (1, torch.float32, False),
        (2, torch.float64, False),
        (2, torch.float64, True),
    ):
        x = start(ACTION, chains, dtype)
        if turned:
            x = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        (expected, _), (found, _) = (one.step(one.init(x), seeded(3)) for one in (eager, compiled))
        assert found.x.dtype == dtype
        assert found.x.shape == x.shape
        torch.testing.assert_close(found.x, expected.x)
