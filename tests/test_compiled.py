"""A compiled step is the eager one to rounding, decisions and random numbers included."""

import dataclasses
import warnings

import pytest
import torch

import latflow as lf
import latflow.compiled as compiled_module
from latflow.samplers import HMC, FourierMass, can_compile, flowed_hmc, run, run_blocks
from latflow.samplers import trajectories as trajectories_module
from latflow.theories import Action, Phi4, Schwinger, U1Gauge

needs_compiler = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")

ACTION = Phi4((6, 4), m2=-4.0, lam=8.0)

SAMPLERS = {
    "leapfrog": HMC(ACTION, 0.15, 3),
    "omelyan, jitter": HMC(U1Gauge((4, 6), beta=2.0), 0.2, 2, integrator="omelyan", jitter=0.2),
    "Fourier mass": HMC(ACTION, 0.2, 2, mass=FourierMass(m2=0.5)),
    "flow": flowed_hmc(lf.flows.minimal_flow((6, 4)), ACTION, 0.15, 2),
}
COMPILED = {name: dataclasses.replace(sampler, compiled=True) for name, sampler in SAMPLERS.items()}
"""The same, which keep their programs from test to test."""

CHAINS = {"leapfrog": 1, "omelyan, jitter": 3, "Fourier mass": 2, "flow": 5}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(action: Action, chains: int, dtype: torch.dtype) -> torch.Tensor:
    return 0.3 * torch.randn(chains, *action.field_shape, generator=seeded(1), dtype=dtype)


@needs_compiler
@pytest.mark.parametrize(
    "name",
    [one if one == "leapfrog" else pytest.param(one, marks=pytest.mark.slow) for one in SAMPLERS],
)
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
        for key, values in eager.state_dict(states[0]).items():
            torch.testing.assert_close(vars(states[1])[key], values, rtol=tolerance, atol=tolerance)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert warnings.filters == filters


@needs_compiler
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
    monkeypatch.setattr(trajectories_module, "_UNROLLED", 2)
    monkeypatch.setattr(trajectories_module, "_STRETCH", 5)


@needs_compiler
@pytest.mark.usefixtures("in_twos")
@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=pytest.mark.slow) if "," in one or one == "flow" else one for one in SAMPLERS],
)
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
    together = compiled._trajectories.together(compiled, compiled.state_dict(found.state))
    assert together == (2 if name in ("leapfrog", "omelyan, jitter") else 1)
    assert list(found.series) == list(expected.series)
    for key, values in expected.series.items():
        torch.testing.assert_close(found.series[key], values, rtol=tolerance, atol=tolerance)
    for key, values in eager.state_dict(expected.state).items():
        torch.testing.assert_close(vars(found.state)[key], values, rtol=tolerance, atol=tolerance)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@needs_compiler
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
    for key, values in sampler.state_dict(whole.state).items():
        assert torch.equal(values, vars(rest.state)[key])


@needs_compiler
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


# --- other versions, no compiler ------------------------------------------------------------------


@pytest.fixture
def heard():
    """Warnings that come once in a process come once in each test."""
    compiled_module._say.cache_clear()
    yield
    compiled_module._say.cache_clear()


def assert_same_steps(name: str) -> HMC:
    """Two steps of each, of programs that are made anew; the compiled sampler."""
    eager, compiled = SAMPLERS[name], dataclasses.replace(SAMPLERS[name], compiled=True)
    dtype = torch.float32 if name == "flow" else torch.float64
    states = [sampler.init(start(sampler.action, 2, dtype)) for sampler in (eager, compiled)]
    generators = [seeded(2), seeded(2)]
    for _ in range(2):
        (states[0], expected), (states[1], found) = (
            sampler.step(state, generator)
            for sampler, state, generator in zip((eager, compiled), states, generators, strict=True)
        )
        assert torch.equal(found.accepted, expected.accepted)
        torch.testing.assert_close(states[1].x, states[0].x, rtol=1e-4, atol=1e-4)
    return compiled


@pytest.mark.usefixtures("heard")
def test_without_a_compiler_trajectories_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_module, "can_compile", lambda: False)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler was found, so nothing is compiled") as told:
        assert_same_steps("leapfrog")
    assert len(told) == 1
    assert_same_steps("omelyan, jitter")  # nothing is said again
    generators = [seeded(3), seeded(3)]
    histories = [
        run(one, start(ACTION, 1, torch.float64), 7, recorded, generator).series["corner"]
        for one, generator in zip(
            (SAMPLERS["leapfrog"], dataclasses.replace(SAMPLERS["leapfrog"], compiled=True)),
            generators,
            strict=True,
        )
    ]
    torch.testing.assert_close(*histories)


@needs_compiler
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("name", ["leapfrog", "Fourier mass"])
def test_another_version_is_compiled_by_the_public_way(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
    with pytest.warns(RuntimeWarning, match=r"PyTorch 2.7.1\+cpu is none of .*public torch.compile") as told:
        assert_same_steps(name)
    assert len(told) == 1


@needs_compiler
@pytest.mark.usefixtures("heard")
def test_private_parts_that_fail_give_way_to_the_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: object, **__: object) -> None:
        raise AttributeError("no current_callable\nand more lines")

    monkeypatch.setattr(compiled_module, "_compiled", changed)
    with pytest.warns(RuntimeWarning, match="failed .AttributeError: no current_callable.: the public"):
        assert_same_steps("leapfrog")
    compiled_module._say.cache_clear()
    monkeypatch.setattr(torch, "compile", changed)
    with pytest.warns(RuntimeWarning, match="and torch.compile as well .*: nothing is compiled"):
        assert_same_steps("leapfrog")


def test_an_error_of_the_theory_is_told_as_it_is() -> None:
    @dataclasses.dataclass(frozen=True)
    class Faulty(Phi4):
        def force(self, _: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("my own")

    sampler = HMC(Faulty((4, 4), 1.0, 0.0), 0.1, 2, compiled=True)
    with pytest.raises(ZeroDivisionError, match="my own"):
        sampler.init(torch.zeros(2, 4, 4))


# --- where compiling pays -------------------------------------------------------------------------


@needs_compiler
def test_auto_compiles_large_batches_of_cheap_theories_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles(action: Action, chains: int, **options) -> bool:
        sampler = HMC(action, 0.1, 8, compiled="auto", **options)
        known = sampler.state_dict(sampler.init(torch.zeros(chains, *action.field_shape)))
        return sampler._trajectories.compiles(sampler, known)

    large = Phi4((64, 64), m2=-4.0, lam=8.0)
    assert compiles(large, 64)
    assert compiles(U1Gauge((64, 64), 2.0), 32)
    assert not compiles(large, 8)
    assert not compiles(Schwinger((8, 8), 2.0, 0.2), 2100)
    monkeypatch.setattr(torch, "__version__", "2.7.1+cpu")
    assert not compiles(large, 64)


def test_auto_is_eager_where_it_does_not_pay() -> None:
    sampler = HMC(ACTION, 0.15, 3, compiled="auto")
    x = start(ACTION, 2, torch.float64)
    histories = [
        run(one, x, 5, recorded, seeded(7)).series["corner"]
        for one in (sampler, dataclasses.replace(sampler, compiled=False))
    ]
    assert torch.equal(*histories)


@needs_compiler
def test_a_trajectory_too_long_for_one_program_compiles_its_evaluations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trajectories_module, "_WHOLE", 10)
    sampler = assert_same_steps("leapfrog")
    assert [name for name, *_ in sampler._trajectories._programs._made] == ["evaluated"]
