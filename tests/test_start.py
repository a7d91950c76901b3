"""Runs that begin with the weights of another run, or are not trained at all."""

import shutil

import pytest
import torch

from latflow.config import load_config
from latflow.densities.files import load_density
from latflow.errors import CheckpointError, ConfigError
from latflow.runs import Run
from latflow.storage import load_tree
from small_runs import SMALL, assert_same, outcome

MULTILEVEL = [
    "model.compiled=false",
    "training.steps=6",
    "training.batch=8",
    "training.curriculum=null",
    "training.checkpoint_every=3",
    "sampling.steps=20",
    "sampling.chains=4",
    "beside.steps=20",
    "beside.chains=4",
    "compute.threads=1",
]


def made(path, preset="phi4-quick", *changes):
    short = SMALL if preset == "phi4-quick" else MULTILEVEL
    return Run.create(path, load_config(preset, [*short, *changes]))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    run = made(tmp_path_factory.mktemp("start") / "first")
    run.train()
    return run


def test_a_training_begins_with_the_weights_of_another_run(first, tmp_path):
    """From the first record on; and with no step at all they stay what they are."""
    kept = made(tmp_path / "kept", "phi4-quick", f"training.init_from={first.path}", "training.steps=0")
    kept.train()
    assert kept.history() == []
    best = load_tree(first.checkpoint("best"))["weights"]
    for name in ("last", "best"):
        weights = load_tree(kept.checkpoint(name))["weights"]
        assert all(torch.equal(values, best[key]) for key, values in weights.items())
    kept.sample()
    assert len(kept.series("model")["action"]) == 25
    more = made(tmp_path / "more", "phi4-quick", f"training.init_from={first.path}")
    new = made(tmp_path / "new")
    for run in (more, new):
        run.train()
    assert more.history()[0]["f_q"] < new.history()[0]["f_q"] - 1
    assert more.info["init_from"]["path"] == str(first.checkpoint("best").resolve())
    # a training of no steps may go on
    changes = [*SMALL, f"training.init_from={first.path}", "training.steps=4"]
    Run.create_or_resume(kept.path, load_config("phi4-quick", changes)).train()
    assert len(Run.open(kept.path).history()) == 4


def test_the_other_run_may_go_and_a_kill_changes_nothing(first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first.path, source)
    runs = [made(tmp_path / name, "phi4-quick", f"training.init_from={source}") for name in ("one", "two")]
    shutil.rmtree(source)
    runs[0].train()

    def killed(record):
        if record.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs[1].train(killed)
    Run.open(runs[1].path).train()
    assert_same(outcome(runs[0].path, ()), outcome(runs[1].path, ()))
    runs[0].checkpoint("init").unlink()
    runs[0].checkpoint("last").unlink()
    with pytest.raises(CheckpointError, match="init"):
        runs[0].train()


def test_weights_go_to_another_lattice(first, tmp_path):
    """The model there is that of `on_lattice`, draw by draw: of a flow, and of one with more levels there."""
    there = made(
        tmp_path / "there",
        "phi4-quick",
        f"training.init_from={first.path}",
        "training.steps=0",
        "action.lattice=[6, 10]",
    )
    there.train()
    flow = load_density(first.checkpoint("best")).on_lattice((6, 10))
    x, log_q = there.model().sample(5, torch.Generator().manual_seed(1))
    assert x.shape == (5, 6, 10)
    torch.testing.assert_close(flow.log_prob(x), log_q, rtol=0, atol=1e-4)
    small = made(tmp_path / "small", "phi4-critical-16", "action.lattice=[8, 8]")
    small.train()
    large = made(
        tmp_path / "large", "phi4-critical-16", f"training.init_from={small.path}", "training.steps=0"
    )
    large.train()
    x, log_q = large.model().sample(5, torch.Generator().manual_seed(1))
    expected = load_density(small.checkpoint("best"), action=small.action).on_lattice((16, 16))
    torch.testing.assert_close(large.model().log_prob(x), log_q, rtol=0, atol=1e-3)
    state = expected.state_dict()
    assert all(torch.equal(values, state[key]) for key, values in large.model().state_dict().items())


def test_a_start_that_cannot_be_is_told_before_there_is_a_folder(first, tmp_path):
    (tmp_path / "empty").mkdir()
    made(tmp_path / "untrained")
    file = tmp_path / "damaged.safetensors"
    file.write_bytes(first.checkpoint("best").read_bytes()[:-100])
    for named, told in (
        (tmp_path / "nothing", "found nothing at"),
        (tmp_path / "empty", "expected a folder that is a run"),
        (tmp_path / "untrained", "expected a folder that has trained weights"),
        (file, "damaged.safetensors"),
        (first.checkpoint("last").parent.parent / "history.jsonl", "history.jsonl"),
    ):
        with pytest.raises(ConfigError, match=told):
            made(tmp_path / "run", "phi4-quick", f"training.init_from={named}")
    with pytest.raises(ConfigError, match=r"checkpoint of another model: for .* expected shape"):
        made(tmp_path / "run", "phi4-quick", f"training.init_from={first.path}", "model.hidden=[5]")
    assert not (tmp_path / "run").exists()


def test_paths_are_looked_for_beside_the_file_and_else_here(first, tmp_path, monkeypatch):
    text = '[action]\ntype = "phi4"\nlattice = [4, 4]\nm2 = 1.0\nlam = 0.5\n[model]\ntype = "affine"\n'
    file = tmp_path / "mine.toml"
    file.write_text(text + f'[training]\ninit_from = "{first.path.name}"\n')
    monkeypatch.chdir(first.path.parent)
    assert load_config(file).training.init_from == str(first.path.resolve())
    (tmp_path / first.path.name).mkdir()
    assert load_config(file).training.init_from == str((tmp_path / first.path.name).resolve())
