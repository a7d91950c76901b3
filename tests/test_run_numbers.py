"""What a run counts and keeps, each number against the one that it must be."""

import math
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import xarray
from torch import Generator, Tensor

from latflow.config import ChainPlan, Given, load_config, parse_config
from latflow.errors import RunFolderError
from latflow.runs import Run, growth
from latflow.runs.chains import ChainStore, Written
from latflow.runs.run import described
from latflow.runs.sampling import begun, joined
from latflow.runs.training import _Best
from latflow.samplers import Cycle, Sampler
from latflow.storage import load_tree, save_tree
from latflow.theories import Phi4
from latflow.training import Record
from small_runs import SMALL

BESIDE = {
    "name": "beside",
    "action": {"type": "phi4", "lattice": [4, 4], "m2": 1.0, "lam": 0.0},
    "beside": {"steps": 25, "chains": 4, "thermalisation": 15, "block": 10, "hmc": {"compiled": False}},
    "compute": {"threads": 1},
}
"""HMC alone: blocks of the thermalisation of 10 and 5 steps, of the record of 10, 10 and 5."""


def record(step: int, f_q: float, *, skipped: bool = False) -> Record:
    return Record(step, 0.0, f_q, 0.0, 0.0, 0.0, 0.0, 0.0, skipped)


# the weights that are kept


def test_chains_are_drawn_from_the_best_weights(tmp_path):
    """log w = −S − log q of the fields that the chain holds, with q of best.safetensors and no other."""
    changes = ["training.steps=2", "sampling.steps=6", "sampling.save_fields=true", "compute.dtype=float64"]
    run = Run.create(tmp_path / "run", load_config("phi4-quick", [*SMALL, *changes]))
    run.train()
    best = load_tree(run.checkpoint("best"))
    weights = {name: 1.25 * values + 0.1 for name, values in best["weights"].items()}
    save_tree(run.checkpoint("best"), best | {"weights": weights})
    run.sample()
    series = run.series("model")
    x = torch.from_numpy(series["field"]).flatten(0, 1)
    with torch.no_grad():
        log_q = run.model("best").log_prob(x)
        other = run.model("last").log_prob(x)
    assert not torch.allclose(log_q, other)
    np.testing.assert_allclose(series["log_weight"].ravel(), -series["action"].ravel() - log_q.numpy())


def test_the_window_of_the_best_begins_with_the_first_step_of_the_theory_itself():
    """Update number 3, counted from 0, is the first after annealing: that of the record of step 4."""
    best = _Best(window=4, settled=lambda step: step >= 3)
    for step in (1, 2, 3):
        best.see(record(step, -9.0))
    best.see(record(4, 1.0))
    best.see(record(5, 3.0))
    assert best.improved(5)
    assert best.f_q == 2.0  # of two steps, in a window of four


def test_skipped_steps_are_no_part_of_a_window():
    best = _Best(window=3)
    best.see(record(1, 5.0))
    best.see(record(2, -100.0, skipped=True))
    best.see(record(3, 7.0))
    assert best.improved(3)
    assert best.f_q == 6.0


def test_the_best_is_remembered_with_its_window():
    one, other = _Best(window=3), _Best(window=3)
    for step, f_q in enumerate((4.0, 2.0), start=1):
        one.see(record(step, f_q))
    assert one.improved(2)
    other.load_state_dict(one.state_dict())
    for best in (one, other):
        best.see(record(3, 1.0))
        best.see(record(4, 6.0))  # (2 + 1 + 6)/3 = 3, no better than 3
        assert not best.improved(4)
    assert one.state_dict() == other.state_dict()


# how a chain grows


@pytest.fixture
def beside(tmp_path):
    return Run.create(tmp_path / "run", parse_config(BESIDE))


def test_a_thermalisation_has_its_steps_in_blocks(beside, monkeypatch):
    made, thermalise = [], growth.thermalise

    def counted(sampler, state, n, generator):
        made.append(n)
        return thermalise(sampler, state, n, generator)

    monkeypatch.setattr(growth, "thermalise", counted)
    reports = []
    beside.sample_beside(reports.append)
    assert made == [10, 5]
    accepted = beside.series("beside")["accepted"]
    assert [one.step for one in reports] == [0, 0, 10, 20, 25]
    for one, part in zip(reports[2:], (slice(10), slice(10, 20), slice(20, 25)), strict=True):
        assert one.acceptance == pytest.approx(accepted[part].mean())


def test_seconds_of_a_chain_are_counted_once_and_over_interruptions(beside, monkeypatch):
    """The clock strikes at every look: a process looks once at its start, and then at every checkpoint."""
    strikes = iter(range(1000))
    monkeypatch.setattr(growth, "time", SimpleNamespace(perf_counter=lambda: float(next(strikes))))

    def stop(report):
        if report.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beside.sample_beside(stop)
    assert beside.sampling_info("beside")["seconds"] == 2.0  # after the thermalisation and one block
    beside.sample_beside()
    assert beside.sampling_info("beside")["seconds"] == 4.0


class At(NamedTuple):
    x: Tensor


@dataclass(frozen=True)
class Shifts(Sampler[At, None]):
    """A kernel whose search moves the chains by one step."""

    by: float

    def init(self, x):
        return At(x)

    def step(self, state, *_):
        return state, None

    def field(self, state):
        return state.x

    def state_from_dict(self, tree):
        return At(**tree)

    def adapt(self, state, *_):
        return self, At(state.x + self.by)


def test_each_kernel_tunes_itself_where_the_one_before_has_left_the_chains():
    kernels = {name: Given(name, partial(Shifts, by), name) for name, by in (("one", 1.0), ("two", 10.0))}
    plan = ChainPlan("beside", steps=1, chains=3, thermalisation=0, block=1, kernels={**kernels})
    action = Phi4((2, 2), m2=1.0, lam=0.0)
    found = begun(plan, action, None, Generator().manual_seed(1), torch.float64)
    start = action.kind.start(action.lattice, 3, Generator().manual_seed(1), torch.float64)
    assert torch.equal(found.sampler.field(found.state), start + 11)


def test_a_kernel_that_acts_twice_is_a_cycle():
    kernel = Shifts(1.0)
    assert joined({"one": kernel}, {"one": 1}) is kernel
    twice = joined({"one": kernel}, {"one": 2})
    assert isinstance(twice, Cycle)
    assert (twice.steps, twice.names) == ((2,), ("one",))


def test_objects_with_other_numbers_are_others():
    """At any depth, be they arrays or tensors; equal ones are known by the same words."""
    for make in (np.array, torch.tensor):
        one, same, other = (SimpleNamespace(inner=[{"x": make([1.0, last])}]) for last in (2.0, 2.0, 3.0))
        assert described(one) == described(same) != described(other)


# what lies on the disk


def stored(path, *blocks):
    """Blocks of one series, and what is written of it."""
    store, written = ChainStore(path, {}), Written()
    for block in blocks:
        series = {"x": np.asarray(block, dtype=np.float64)[:, None]}
        store.append({"model": series}, written.steps)
        written = written.grown(series)
    return store, written


def test_readers_find_a_chain_that_was_cut_at_its_new_length(tmp_path):
    store, _ = stored(tmp_path / "store", [1, 2, 3], [4, 5, 6])
    series = {"x": np.array([[1.0], [2.0], [3.0]])}
    store.cut({"model": Written().grown(series)})
    with xarray.open_zarr(store.path, group="model", chunks=None) as opened:
        assert opened["x"].shape == (3, 1)


def test_a_last_chunk_that_is_not_full_is_missed(tmp_path):
    store, written = stored(tmp_path / "store", [1, 2, 3], [4, 5])
    (store.path / "model/x/1.0").unlink()
    with pytest.raises(RunFolderError, match=r"chunk 1\.0 of the array x is missing"):
        store.dataset("model", written)


@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_checksums_know_every_number_of_every_block(tmp_path, place):
    _, written = stored(tmp_path / "store", [1, 2, 3], [4, 5])
    values = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert written.holds("x", values)
    values[place] = math.pi
    assert not written.holds("x", values)
