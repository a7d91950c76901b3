"""Series that are not all in memory: the same numbers and verdict, and damage that is told when it is met."""

import numpy as np
import pytest

from latflow.config import parse_config
from latflow.errors import RunFolderError
from latflow.runs import Run, chains
from latflow.series import Changed, Loaded
from latflow.validation.evidence import finite_draws
from latflow.workflow import judged


def test_series_are_read_once_while_they_are_kept():
    read = []

    def load(name):
        read.append(name)
        return np.full(10, float(name))

    found = Loaded(("1", "2", "3"), load, kept=160)
    assert list(found) == ["1", "2", "3"]
    assert (len(found), "2" in found, "4" in found, read) == (3, True, False, [])
    for name in ("1", "2", "1", "3", "1"):  # two are kept; of 1 and 2 the first was asked for later
        assert found[name][0] == float(name)
    assert read == ["1", "2", "3"]
    assert found["2"][0] == 2
    assert read == ["1", "2", "3", "2"]
    with pytest.raises(KeyError):
        found["4"]
    alone = Loaded(("1", "2"), load, kept=0)
    assert alone["1"] is alone["1"]


def test_series_are_changed_as_they_are_asked_for():
    asked = []
    found = Changed({"a": [1, 2], "b": [3]}, lambda name, values: asked.append(name) or np.array(values) * 2)
    assert (list(found), len(found), "a" in found, "c" in found, asked) == (["a", "b"], 2, True, False, [])
    np.testing.assert_array_equal(found["a"], [2, 4])
    assert asked == ["a"]


def test_draws_that_are_not_finite_are_left_out_of_every_series():
    log_weight = np.array([[0.0, np.nan], [np.inf, -np.inf], [1.0, 2.0]])
    series = {"log_weight": log_weight, "two": np.arange(12.0).reshape(3, 2, 2)}
    draws, bad = finite_draws(series)
    assert bad == 2
    np.testing.assert_array_equal(draws["log_weight"], [0, -np.inf, 1, 2])
    np.testing.assert_array_equal(draws["two"], [[0, 1], [6, 7], [8, 9], [10, 11]])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a model and an established sampler."""
    config = {
        "name": "tiny",
        "action": {"type": "phi4", "lattice": [4, 4], "m2": 1.0, "lam": 0.5},
        "model": {"type": "affine", "layers": 2, "hidden": [4]},
        "training": {"steps": 5, "batch": 32, "checkpoint_every": 5},
        "sampling": {"steps": 120, "chains": 8, "block": 40},
        "beside": {"steps": 120, "chains": 8, "block": 40, "thermalisation": 20},
        "compute": {"threads": 1},
    }
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", parse_config(config))
    run.train()
    run.sample()
    run.sample_beside()
    return run


def test_a_long_chain_is_read_a_series_at_a_time(run, monkeypatch):
    """Which changes no number of the verdict."""
    whole, verdict = run.series("model"), judged(run).as_dict()
    monkeypatch.setattr(chains, "_IN_MEMORY", 0)
    parts = run.series("model")
    assert isinstance(whole, dict)
    assert isinstance(parts, Loaded)
    assert list(parts) == list(whole)
    for name, values in parts.items():
        np.testing.assert_array_equal(values, whole[name])
        assert values.dtype == whole[name].dtype
    assert repr(judged(run).as_dict()) == repr(verdict)


def test_the_bound_is_on_all_series_of_a_group_together(run, monkeypatch):
    size = sum(values.nbytes for values in run.series("beside").values())
    monkeypatch.setattr(chains, "_IN_MEMORY", size)
    assert isinstance(run.series("beside"), dict)
    monkeypatch.setattr(chains, "_IN_MEMORY", size - 1)
    assert isinstance(run.series("beside"), Loaded)


def test_damage_is_told_when_it_is_met(run, monkeypatch):
    chunk = run.path / "samples.zarr" / "beside" / "action" / "1.0"
    kept = chunk.read_bytes()
    monkeypatch.setattr(chains, "_IN_MEMORY", 0)
    parts = run.series("beside")
    other = (chunk.parent / "0.0").read_bytes()  # which unpacks
    try:
        chunk.write_bytes(other)
        assert np.isfinite(parts["accepted"]).all()
        with pytest.raises(RunFolderError, match="the array action is not what was written"):
            parts["action"]
        with pytest.raises(RunFolderError, match="the array action is not what was written"):
            judged(run)
        chunk.unlink()
        with pytest.raises(RunFolderError, match=r"the chunk 1\.0 of the array action is missing"):
            run.series("beside")
    finally:
        chunk.write_bytes(kept)
