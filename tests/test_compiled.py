"""A compiled step is the eager one to rounding, decisions and random numbers included."""

import dataclasses
import warnings

import pytest
import torch

import latflow as lf
from latflow.actions import Action, Phi4, U1Gauge
from latflow.samplers import HMC, FourierMass, can_compile, flowed_hmc, run, run_blocks
from latflow.samplers import hmc as hmc_module

pytestmark = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")

ACTION = Phi4((6, 4), m2=-4.0, lam=8.0)

SAMPLERS = {
    "leapfrog": HMC(ACTION, 0.15, 3),
    "omelyan, jitter": HMC(U1Gauge((4, 6), beta=2.0), 0.2, 2, integrator="omelyan", jitter=0.2),
    "Fourier mass": HMC(ACTION, 0.2, 2, mass=FourierMass(m2=0.5)),
    "flow": flowed_hmc(lf.flows.minimal_flow((6, 4)), ACTION, 0.1, 3),
}
COMPILED = {name: dataclasses.replace(sampler, compiled=True) for name, sampler in SAMPLERS.items()}
"""The same, which keep their programs from test to test."""

CHAINS = {"leapfrog": 1, "omelyan, jitter": 3, "Fourier mass": 2, "flow": 5}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(action: Action, chains: int, dtype: torch.dtype) -> torch.Tensor:
    return 0.3 * torch.randn(chains, *action.field_shape, generator=seeded(1), dtype=dtype)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_compiled_step_is_the_eager_one(name: str) -> None:
    eager, compiled, filters = SAMPLERS[name], COMPILED[name], list(warnings.filters)
    assert compiled != eager
    dtype = torch.float32 if name == "flow" else torch.float64
    tolerance = 1e-4 if name == "flow" else 1e-10
    states = [sampler.init(start(sampler.action, CHAINS[name], dtype)) for sampler in (eager, compiled)]
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


def recorded(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What differs from chain to chain and from step to step."""
    return {"squares": (x**2).flatten(1).mean(1), "corner": x[:, 0]}


@pytest.fixture
def in_twos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of two trajectories, where there are several, and five steps recorded at once."""
    monkeypatch.setattr(hmc_module, "_UNROLLED", 2)
    monkeypatch.setattr(hmc_module, "_STRETCH", 5)


@pytest.mark.usefixtures("in_twos")
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_compiled_history_is_the_eager_one(name: str) -> None:
    eager, compiled = SAMPLERS[name], COMPILED[name]
    dtype = torch.float32 if name == "flow" else torch.float64
    tolerance = 1e-3 if name == "flow" else 1e-10
    # the second stretch is of three steps, no multiple of two
    generators = [seeded(4), seeded(4)]
    expected, found = (
        run(sampler, start(sampler.action, CHAINS[name], dtype), 8, recorded, generator)
        for sampler, generator in zip((eager, compiled), generators, strict=True)
    )
    assert compiled._together(vars(found.state)) == (2 if name in ("leapfrog", "omelyan, jitter") else 1)
    assert list(found.series) == list(expected.series)
    for key, values in expected.series.items():
        torch.testing.assert_close(found.series[key], values, rtol=tolerance, atol=tolerance)
    for key, values in vars(expected.state).items():
        torch.testing.assert_close(vars(found.state)[key], values, rtol=tolerance, atol=tolerance)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.usefixtures("in_twos")
def test_a_compiled_history_goes_on_at_the_end_of_a_block_bit_for_bit() -> None:
    sampler, first, generator = COMPILED["leapfrog"], start(ACTION, 1, torch.float64), seeded(5)
    whole = run(sampler, first, 60, recorded, seeded(5), block=18)
    ((state, _),) = run_blocks(sampler, first, 18, recorded, generator, block=18)
    kept = sampler.state_from_dict(sampler.state_dict(state))
    rest = run(sampler, kept, 42, recorded, generator, block=18)
    assert 0 < float(whole.series["accepted"].double().mean()) < 1
    for key, values in rest.series.items():
        assert torch.equal(values, whole.series[key][18:])
    for key, values in vars(whole.state).items():
        assert torch.equal(values, vars(rest.state)[key])


@pytest.mark.usefixtures("in_twos")
def test_compiled_histories_keep_the_weight() -> None:
    """⟨exp(−ΔH)⟩ = 1, and ⟨Σ φ ∂S/∂φ⟩ = V, which holds where all chains follow exp(−S)."""
    sampler = COMPILED["leapfrog"]

    def virial(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"virial": -(x * ACTION.force(x)).flatten(1).sum(1) / 24}

    series = run(sampler, start(ACTION, 1, torch.float64), 6000, virial, seeded(6), 100).series
    assert 0.1 < float(series["delta_h"].std()) < 1
    for values in (torch.exp(-series["delta_h"]), series["virial"]):
        # bins of 200 steps, longer than any memory of the chain, give the spread
        means = values.reshape(30, 200).mean(1)
        assert abs(float(means.mean()) - 1) < 5 * float(means.std()) / 30**0.5
