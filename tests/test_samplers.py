"""The loop that drives chains: what is recorded, what is not, and where it can be interrupted."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from latflow.samplers import HMC, run, run_blocks, thermalisation_time, thermalise
from latflow.storage import load_tree, save_tree
from latflow.theories import Phi4

ACTION = Phi4((4, 4), m2=-4.0, lam=8.0)
SAMPLER = HMC(ACTION, step_size=0.15, n_steps=5)


def observe(x: Tensor) -> dict[str, Tensor]:
    return {"magnetization": x.mean((1, 2)), "slices": x.mean(2)}


def start(chains: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return 0.3 * torch.randn(chains, 4, 4, generator=torch.Generator().manual_seed(7), dtype=dtype)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_series_have_one_entry_a_step_and_chain() -> None:
    chain = run(SAMPLER, start(), 7, observe, seeded())
    shapes = {name: tuple(values.shape) for name, values in chain.series.items()}
    assert shapes == {"magnetization": (7, 3), "slices": (7, 3, 4), "accepted": (7, 3), "delta_h": (7, 3)}
    assert chain.series["accepted"].dtype == torch.bool
    assert 0 < int(chain.series["accepted"].sum()) < 21, "chains that stand still test nothing here"
    assert chain.series["magnetization"].dtype == torch.float64
    assert chain.proposals is None
    assert torch.equal(chain.series["magnetization"][-1], chain.state.x.mean((1, 2)))


def test_the_size_of_the_blocks_does_not_change_an_hmc_history() -> None:
    whole = run(SAMPLER, start(), 7, observe, seeded(), thermalisation=3)
    parts = run(SAMPLER, start(), 7, observe, seeded(), thermalisation=3, block=2)
    assert all(torch.equal(whole.series[name], parts.series[name]) for name in whole.series)
    sizes = [
        len(block.series["accepted"])
        for _, block in run_blocks(SAMPLER, start(), 7, observe, seeded(), block=3)
    ]
    assert sizes == [3, 3, 1]


def test_thermalisation_is_made_and_not_recorded() -> None:
    whole = run(SAMPLER, start(), 7, observe, seeded())
    later = run(SAMPLER, start(), 4, observe, seeded(), thermalisation=3)
    assert torch.equal(later.series["slices"], whole.series["slices"][3:])
    state = thermalise(SAMPLER, SAMPLER.init(start()), 7, seeded())
    assert torch.equal(state.x, whole.state.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = run(SAMPLER, start(dtype=dtype), 8, observe, seeded(), block=2)

    generator = seeded()
    first = run(SAMPLER, start(dtype=dtype), 4, observe, generator, block=2)
    save_tree(
        tmp_path / "chain", {"state": SAMPLER.state_dict(first.state), "generator": generator.get_state()}
    )

    tree = load_tree(tmp_path / "chain")
    resumed = torch.Generator()
    resumed.set_state(tree["generator"])
    second = run(SAMPLER, SAMPLER.state_from_dict(tree["state"]), 4, observe, resumed, block=2)

    assert whole.series["slices"].dtype == dtype
    for name, values in whole.series.items():
        assert torch.equal(values, torch.cat([first.series[name], second.series[name]])), name
    assert torch.equal(whole.state.force, second.state.force)


@pytest.mark.parametrize(("n_steps", "thermalisation", "block"), [(0, 0, None), (5, -1, None), (5, 0, 0)])
def test_impossible_numbers_of_steps_are_refused(
    n_steps: int, thermalisation: int, block: int | None
) -> None:
    with pytest.raises(ValueError, match="expected"):
        run(SAMPLER, start(), n_steps, observe, seeded(), thermalisation, block)


def test_blocks_are_refused_before_the_first_is_asked_for() -> None:
    with pytest.raises(ValueError, match="expected"):
        run_blocks(SAMPLER, start(), -1, observe, seeded())


@pytest.mark.parametrize("chains", [(), (50,)])
def test_thermalisation_time_finds_the_end_of_a_drift(chains: tuple[int, ...]) -> None:
    # from 40 sigma, with a relaxation time of 30, the drift reaches the noise after 30 log 40 = 110 steps;
    # the mean over 50 chains has less noise, and crosses up to 60 steps later
    noise = torch.randn(2000, *chains, generator=seeded(), dtype=torch.float64)
    drift = 40 * torch.exp(-torch.arange(2000, dtype=torch.float64) / 30)
    found = thermalisation_time(noise + drift.view(-1, *[1] * len(chains)))
    assert 40 < found < 300
    assert thermalisation_time(noise) < 20
    assert thermalisation_time(torch.arange(100)) == 50
