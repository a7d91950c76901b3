"""The run folder: what it holds, how it goes on after every kind of end, and what it refuses."""

import errno
import json
import math
import os
import shutil
import signal
import threading
from importlib.metadata import version

import numpy as np
import pytest
import torch
import xarray

import latflow
from latflow.config import load_config
from latflow.densities.flows import load_flow
from latflow.errors import CheckpointError, RunFolderError
from latflow.observables import magnetization
from latflow.runs import Interrupted, Run, chains, checkpoints, training
from latflow.runs.interrupts import deferred_signals
from latflow.storage import load_tree, save_tree
from latflow.training import Record
from small_runs import GROUPS, SMALL, assert_same, outcome, visible_steps

CONFIG = load_config("phi4-quick", SMALL)


class Killed(BaseException):
    """The end of a process: nothing in the library catches it."""


def new_run(path, changes=()):
    return Run.create(path, load_config("phi4-quick", [*SMALL, *changes]))


def finish(path):
    run = Run.open(path)
    run.train()
    run.sample()
    run.sample_beside()
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never stopped; tests read it only."""
    path = tmp_path_factory.mktemp("finished") / "run"
    new_run(path)
    return finish(path)


@pytest.fixture(scope="module")
def expected(finished):
    return outcome(finished.path)


@pytest.fixture(scope="module")
def expected_training(finished):
    return outcome(finished.path, groups=())


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of the finished run that knows of no chain."""
    path = tmp_path / "trained"
    shutil.copytree(finished.path, path)
    shutil.rmtree(path / "samples.zarr")
    for name in ("model", "beside"):
        (path / "checkpoints" / f"{name}.safetensors").unlink()
    return Run.open(path)


def after(number, what=Killed):
    """A callback, or a replacement of a function, that ends the process at its call of that number."""
    calls = []

    def call(*_args, **_options):
        calls.append(1)
        if len(calls) == number:
            raise what

    return call


# what a run holds


def test_history_is_one_record_a_step(finished):
    history = finished.history()
    assert [record["step"] for record in history] == list(range(1, 21))
    assert set(history[0]) == set(Record.__dataclass_fields__)
    assert finished.trained_steps == 20


def test_chains_have_their_lengths_and_names(finished):
    model, proposals, beside = (finished.series(group) for group in GROUPS)
    observables = {"action", "magnetization", "phi_squared", "two_point", "lowest_mode"}
    assert set(model) == observables | {"accepted", "log_weight"}
    assert set(proposals) == observables | {"log_weight"}
    assert set(beside) == observables | {"accepted", "delta_h"}
    for series in (model, proposals, beside):
        assert {values.shape[:2] for values in series.values()} == {(25, 4)}
    assert finished.dataset("beside").two_point.dims == ("step", "chain", "time")


def test_the_chain_follows_its_proposals(finished):
    flow, proposals = finished.series("model"), finished.series("proposals")
    accepted = flow["accepted"]
    assert 0 < accepted.mean() < 1
    for name in proposals:
        np.testing.assert_array_equal(flow[name][accepted], proposals[name][accepted])
        held = ~accepted[1:]
        np.testing.assert_array_equal(flow[name][1:][held], flow[name][:-1][held])


def test_best_is_the_checkpoint_after_the_lowest_window(finished):
    f_q = [record["f_q"] for record in finished.history()]
    means = {step: np.mean(f_q[max(0, step - 6) : step]) for step in (6, 12, 18, 20)}
    best = load_tree(finished.checkpoint("best"))
    assert best["step"] == min(means, key=means.__getitem__)
    assert best["f_q"] == pytest.approx(min(means.values()))


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("at", [0, 5])
def test_a_free_energy_that_is_none_is_never_the_best(bad, at):
    """Windows of two steps; the one with a number that is none loses to every other."""
    f_q = [3.0, 3.0, 1.0, 1.0, 0.5, 0.5, 2.5, 2.5]
    f_q[at] = bad
    best, improved = training._Best(window=2), []
    for step, value in enumerate(f_q, start=1):
        best.see(Record(step, 0.0, value, 0.0, 0.0, 0.0, 0.0, 0.0))
        if step % 2 == 0 and best.improved(step):
            improved.append(step)
    assert (best.step, best.f_q) == ((6, 0.5) if at == 0 else (4, 1.0))
    assert improved[0] == 2  # there is a best from the first checkpoint on


def test_best_weights_are_a_flow_by_themselves(finished):
    x = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    alone = load_flow(finished.checkpoint("best"))
    torch.testing.assert_close(alone.log_prob(x), finished.model().log_prob(x))


def test_a_run_says_how_it_came_about(finished):
    info = finished.info
    assert (info["latflow"], info["torch"], info["seed"]) == (
        latflow.__version__,
        version("torch"),
        CONFIG.seed,
    )
    assert info["command"]
    assert info["device"] == "cpu"
    with xarray.open_zarr(finished.path / "samples.zarr", group="beside", chunks=None) as opened:
        assert opened.attrs["seed"] == CONFIG.seed
        assert opened.attrs["torch"] == version("torch")
        assert "lam = 8.0" in opened.attrs["configuration"]
    assert Run.open(finished.path).config.table() == CONFIG.table()


def test_other_versions_are_noted(trained, monkeypatch):
    monkeypatch.setattr("latflow.runs.circumstances.__version__", "9.9")
    trained.sample()
    trained.sample_beside()
    assert trained.info["latflow"] == latflow.__version__
    assert [entry["latflow"] for entry in trained.info["resumed"]] == ["9.9"]


def test_hmc_is_tuned_once_and_remembers(finished):
    info = finished.sampling_info("beside")
    assert info["steps"] == 25
    tuned = info["found"]["hmc"]
    assert tuned["step_size"] * tuned["n_steps"] == pytest.approx(1.0)
    assert 0.5 < info["acceptance"] <= 1
    assert finished.sampling_info("model")["found"] == {}


def test_a_stage_does_not_change_the_numbers_of_another(tmp_path, expected):
    run = new_run(tmp_path / "run")
    run.sample_beside()
    for name, values in run.series("beside").items():
        np.testing.assert_array_equal(values, expected[f"beside/{name}"])


def test_another_seed_gives_other_numbers(tmp_path, expected):
    run = new_run(tmp_path / "run", ["seed=2", "training.steps=2"])
    run.train()
    assert run.history()[0]["f_q"] != expected["history/f_q"][0]


def test_generators_are_told_apart(finished):
    purposes = ("initialisation", "training", "model", "beside")
    assert len({finished.generator(purpose).initial_seed() for purpose in purposes}) == 4


def test_fields_on_request(tmp_path):
    path = tmp_path / "run"
    new_run(path, ["sampling.save_fields=true", "compute.dtype=float64", "training.steps=2"])
    run = finish(path)
    for group in ("model", "beside"):
        series = run.series(group)
        assert series["field"].shape == (25, 4, 4, 4)
        assert series["field"].dtype == np.float64
        fields = torch.from_numpy(series["field"]).flatten(0, 1)
        np.testing.assert_allclose(magnetization(fields), series["magnetization"].ravel(), rtol=1e-12)
    assert "field" not in run.series("proposals")


@pytest.mark.parametrize("ending", ["nc", "h5"])
def test_export(finished, tmp_path, ending):
    target = tmp_path / f"chains.{ending}"
    finished.export(target)
    for group in GROUPS:
        with xarray.open_dataset(target, group=group, engine="h5netcdf") as opened:
            for name, values in finished.series(group).items():
                np.testing.assert_array_equal(opened[name], values)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_export_refuses(finished, tmp_path):
    with pytest.raises(ValueError, match=r"\.nc, \.h5"):
        finished.export(tmp_path / "chains.csv")
    with pytest.raises(RunFolderError, match="no chain"):
        new_run(tmp_path / "run").export(tmp_path / "chains.nc")


# how it goes on


def test_stages_that_are_done_change_nothing(finished, expected):
    before = {file: file.stat().st_mtime_ns for file in finished.path.rglob("*") if file.is_file()}
    finish(finished.path)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert_same(outcome(finished.path), expected)


@pytest.mark.parametrize("steps", [5, 6, 19])
def test_training_goes_on_after_a_kill(tmp_path, expected_training, steps):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        run.train(on_record=after(steps))
    written = (run.path / "history.jsonl").read_bytes()
    assert len(run.history()) == steps
    Run.open(run.path).train()
    assert (run.path / "history.jsonl").read_bytes().startswith(written)
    assert_same(outcome(run.path, groups=()), expected_training)


@pytest.mark.parametrize("saves", [1, 2, 3])
def test_training_goes_on_after_a_kill_between_two_files(tmp_path, expected_training, monkeypatch, saves):
    run = new_run(tmp_path / "run")
    stop, save = after(saves), checkpoints.save_tree

    def save_then_stop(*arguments):
        save(*arguments)
        stop()

    monkeypatch.setattr(checkpoints, "save_tree", save_then_stop)
    with pytest.raises(Killed):
        run.train()
    monkeypatch.undo()
    Run.open(run.path).train()
    assert_same(outcome(run.path, groups=()), expected_training)


def test_a_line_that_was_cut_off_is_replaced(tmp_path, expected_training):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        run.train(on_record=after(9))
    with run.history_file.open("ab") as file:
        file.write(b'{"step": 10, "loss": 0.')
    assert len(run.history()) == 9
    Run.open(run.path).train()
    assert_same(outcome(run.path, groups=()), expected_training)


@pytest.mark.parametrize(("signum", "step"), [(signal.SIGINT, 8), (signal.SIGTERM, 3)])
def test_a_signal_loses_no_step(tmp_path, expected_training, signum, step):
    """Also before the first checkpoint that was due, when no weights are the best yet."""
    run = new_run(tmp_path / "run")

    def press(record):
        if record.step == step:
            os.kill(os.getpid(), signum)

    with pytest.raises(Interrupted) as caught:
        run.train(on_record=press)
    assert caught.value.signum == signum
    assert run.trained_steps == len(run.history()) == step + 1
    best = run.checkpoint("best")  # of the checkpoint that was due after six steps, where it came to that
    assert (load_tree(best)["step"] if best.exists() else None) == (6 if step > 6 else None)
    Run.open(run.path).train()
    assert_same(outcome(run.path, groups=()), expected_training)


@pytest.mark.parametrize("blocks", [1, 3])
def test_sampling_goes_on_after_a_kill(trained, expected, blocks):
    for stage in (trained.sample, trained.sample_beside):
        with pytest.raises(Killed):
            stage(on_block=after(blocks))
    finish(trained.path)
    assert_same(outcome(trained.path), expected)


@pytest.mark.parametrize("where", ["between the groups", "before they show", "before the checkpoint"])
@pytest.mark.parametrize("block", [1, 2])
def test_sampling_goes_on_after_a_kill_while_writing(trained, expected, monkeypatch, where, block):
    if where == "between the groups":
        # the second data set of a block is that of the proposals
        stop, make = after(2 * block), chains.ChainStore._dataset
        monkeypatch.setattr(chains.ChainStore, "_dataset", lambda *arguments: stop() or make(*arguments))
    elif where == "before they show":
        stop, consolidate = after(block), chains.zarr.consolidate_metadata
        monkeypatch.setattr(
            chains.zarr, "consolidate_metadata", lambda *a, **options: stop() or consolidate(*a, **options)
        )
    else:
        # the first checkpoint comes with the end of the thermalisation
        stop, save = after(block + 1), checkpoints.save_tree
        monkeypatch.setattr(checkpoints, "save_tree", lambda *arguments: stop() or save(*arguments))
    with pytest.raises(Killed):
        trained.sample()
    monkeypatch.undo()
    reported = trained.sampling_info("model")["steps"]
    assert reported == 10 * (block - 1)
    assert visible_steps(trained.path, "model") >= reported
    assert {len(values) for values in trained.series("model").values()} <= {reported}
    Run.open(trained.path).sample()
    numbers = outcome(trained.path, groups=("model", "proposals"))
    assert_same(numbers, {name: expected[name] for name in numbers})


def test_chains_are_readable_while_they_grow(trained):
    lengths = []

    def read(report):
        lengths.append(
            (report.step, visible_steps(trained.path, "model"), visible_steps(trained.path, "proposals"))
        )
        assert all(len(values) == report.step for values in Run.open(trained.path).series("model").values())

    trained.sample(on_block=read)
    assert lengths == [(0, 0, 0), (10, 10, 10), (20, 20, 20), (25, 25, 25)]


def test_a_full_disk_while_training(tmp_path, expected_training, monkeypatch):
    run = new_run(tmp_path / "run")
    full = after(4, OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(checkpoints, "save_tree", lambda *arguments: full() or save_tree(*arguments))
    with pytest.raises(OSError, match="No space left"):
        run.train()
    monkeypatch.undo()
    Run.open(run.path).train()
    assert_same(outcome(run.path, groups=()), expected_training)


# signals


def test_a_second_signal_does_not_wait():
    def press_twice():
        with deferred_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop
    finally:
        signal.signal(signal.SIGINT, before)


def test_runs_work_outside_the_main_thread(tmp_path):
    run = new_run(tmp_path / "run", ["training.steps=2"])
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join()
    assert run.trained_steps == 2


# what it refuses


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run: expected config\.toml"):
        Run.open(tmp_path)
    with pytest.raises(RunFolderError, match="found no such folder"):
        Run.open(tmp_path / "nothing")
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"not empty \(thesis\.tex\)"):
        Run.create_or_resume(tmp_path, CONFIG)
    with pytest.raises(RunFolderError, match="expected a folder"):
        Run.create(tmp_path / "thesis.tex", CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_creation_that_was_killed_is_repeated(tmp_path):
    run = new_run(tmp_path / "run")
    (run.path / "config.toml").unlink()
    assert Run.create_or_resume(run.path, CONFIG).config.table() == CONFIG.table()


def test_another_configuration_is_named(finished):
    other = load_config("phi4-quick", [*SMALL, "training.batch=32", "beside.enabled=false"])
    with pytest.raises(RunFolderError) as caught:
        Run.create_or_resume(finished.path, other)
    assert "training.batch: 16 and 32" in str(caught.value)
    assert "beside.enabled: None and False" in str(caught.value)
    assert Run.create_or_resume(finished.path, CONFIG).config.table() == CONFIG.table()
    with pytest.raises(RunFolderError, match="already holds a run"):
        Run.create(finished.path, CONFIG)


def test_a_damaged_configuration(tmp_path):
    run = new_run(tmp_path / "run")
    (run.path / "config.toml").write_text("name = ")
    with pytest.raises(RunFolderError, match=r"config\.toml is damaged"):
        Run.open(run.path)
    (run.path / "run.json").unlink()
    with pytest.raises(RunFolderError, match=r"run\.json is missing"):
        _ = run.info


def truncate(file):
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize("name", ["last", "best", "model", "beside"])
def test_a_truncated_checkpoint_says_what_to_do(finished, expected, tmp_path, name):
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    run = Run.open(path)
    file = run.checkpoint(name)
    truncate(file)
    truncate(run.checkpoint_before(name))
    meet = run.model if name == "best" else lambda: finish(path)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors is truncated.*remove {name}"):
        meet()
    file.unlink()
    if name == "best":
        run.checkpoint("last").unlink()
    finish(path)
    assert_same(outcome(path), expected)


@pytest.mark.parametrize(("name", "steps"), [("last", 18), ("model", 20), ("beside", 20)])
def test_the_checkpoint_before_stands_in_for_one_that_is_damaged(
    finished, expected, tmp_path, caplog, name, steps
):
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    run = Run.open(path)
    truncate(run.checkpoint(name))
    assert run.done()["training" if name == "last" else name] == steps
    assert f"the one before is taken in its place, {name}.before.safetensors" in caplog.text
    stages = {
        "last": lambda: run.train(on_record=after(1)),
        "model": lambda: run.sample(on_block=after(1)),
        "beside": lambda: run.sample_beside(on_block=after(1)),
    }
    with pytest.raises(Killed):  # where the next checkpoint is written or not yet: neither may be lost then
        stages[name]()
    finish(path)
    assert_same(outcome(path), expected)


def test_a_record_that_was_changed_beyond_the_checkpoint_is_written_anew(tmp_path, expected_training, caplog):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        run.train(on_record=after(9))
    text = run.history_file.read_text().splitlines(keepends=True)
    text[7] = text[7].replace('"ess": 0.', '"ess": 0.0')
    run.history_file.write_text("".join(text))
    Run.open(run.path).train()
    assert "the records from step 8 on are not those that are computed now" in caplog.text
    assert_same(outcome(run.path, groups=()), expected_training)


def test_a_checkpoint_of_another_model(finished, tmp_path):
    run = new_run(tmp_path / "run", ["model.hidden=[5]"])
    (run.path / "checkpoints").mkdir()
    for name in ("last", "best"):
        shutil.copy(finished.checkpoint(name), run.checkpoint(name))
    with pytest.raises(
        CheckpointError, match=r"(?s)made with other settings.*model\.hidden: \[4\] and \[5\]"
    ):
        run.train()
    with pytest.raises(CheckpointError, match="made with other settings"):
        run.sample()
    for name in ("last", "best"):
        save_tree(
            run.checkpoint(name), load_tree(run.checkpoint(name)) | {"made_by": run.made_by("training")}
        )
    with pytest.raises(CheckpointError, match=r"checkpoint of another model: for .* expected shape"):
        run.train()
    with pytest.raises(CheckpointError, match="checkpoint of another model"):
        run.sample()
    shutil.copy(finished.checkpoint("best"), run.checkpoint("last"))
    with pytest.raises(CheckpointError, match="holds no 'trainer'"):
        run.train()


def test_a_chain_of_another_run(finished, tmp_path):
    run = new_run(tmp_path / "run", ["beside.chains=5"])
    (run.path / "checkpoints").mkdir()
    shutil.copy(finished.checkpoint("beside"), run.checkpoint("beside"))
    with pytest.raises(CheckpointError, match=r"(?s)made with other settings.*beside\.chains: 4 and 5"):
        run.sample_beside()
    path = run.checkpoint("beside")
    save_tree(path, load_tree(path) | {"made_by": run.made_by("beside")})
    with pytest.raises(CheckpointError, match=r"expected a state of 5 chains, got one of 4"):
        run.sample_beside()


def test_a_chain_whose_arrays_are_gone(trained):
    with pytest.raises(Killed):
        trained.sample_beside(on_block=after(4))
    shutil.rmtree(trained.path / "samples.zarr")
    with pytest.raises(RunFolderError, match=r"beside is missing or damaged.*remove checkpoints/beside"):
        trained.sample_beside()


def test_a_checkpoint_of_another_device(trained):
    with pytest.raises(Killed):
        trained.sample_beside(on_block=after(4))
    path = trained.checkpoint("beside")
    save_tree(path, load_tree(path) | {"device": "cuda"})
    with pytest.raises(CheckpointError, match="was written on cuda"):
        trained.sample_beside()


def test_sampling_waits_for_the_training(tmp_path):
    run = new_run(tmp_path / "run")
    with pytest.raises(Killed):
        run.train(on_record=after(8))
    with pytest.raises(RunFolderError, match="trained for 6 of 20 steps: `latflow train"):
        run.sample()
    with pytest.raises(CheckpointError, match="no trained weights"):
        new_run(tmp_path / "other").model()


def test_one_process_at_a_time(tmp_path):
    run = new_run(tmp_path / "run")
    with run.stage(), pytest.raises(RunFolderError, match="in use by another process"):
        Run.open(run.path).train()
    run.train()


def test_a_history_is_json(tmp_path):
    run = new_run(tmp_path / "run")
    path = run.history_file
    nan = Record(1, float("nan"), 1.0, 1.0, 0.5, float("inf"), 0.1, 1.0, True)
    with training._history(run) as history:
        history.append(nan)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["loss"] is None
    (record,) = training.read_history(run)
    assert np.isnan(record["loss"])
    assert record["skipped"] is True
