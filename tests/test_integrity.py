"""A run folder in which something is missing, changed, or of other settings: it is told, and never pooled."""

import errno
import fcntl
import json
import multiprocessing
import random
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.errors import CheckpointError, LatflowError, RunFolderError
from latflow.runs import Run, growth
from latflow.runs.place import info_in, write_info
from latflow.runs.provenance import changed_settings, depends, extension, plain
from latflow.samplers import run_blocks
from latflow.storage import load_tree, save_tree
from latflow.theories import Phi4
from small_runs import SMALL, assert_same, outcome

CONFIG = load_config("phi4-quick", SMALL)
STAGES = ("train", "sample", "sample_beside")


def complete(path, *changes, steps=STAGES):
    run = Run.create_or_resume(path, load_config("phi4-quick", [*SMALL, *changes]))
    for stage in steps:
        getattr(run, stage)()
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Tests read it only."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run = complete(path)
    CliRunner().invoke(cli.app, ["report", str(path)])
    return run.path


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def latflow(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def told(path, *words, stage=lambda path: outcome(path)):
    with pytest.raises(LatflowError) as caught:
        stage(path)
    for word in words:
        assert word in str(caught.value), caught.value
    result = latflow("validate", path)
    assert result.exit_code == 2, result.output
    assert words[0] in " ".join(result.stderr.split())


# lost


def test_lost_chains_are_told(copy):
    shutil.rmtree(copy / "samples.zarr")
    told(copy, "is missing or damaged", "remove checkpoints/model.safetensors")


@pytest.mark.parametrize("group", ["beside", "proposals", "model"])
def test_a_lost_group_is_told(copy, group):
    shutil.rmtree(copy / "samples.zarr" / group)
    told(copy, f"{group} is missing or damaged")


@pytest.mark.parametrize("chunk", ["0.0", "2.0"])
def test_a_lost_chunk_is_told(copy, chunk):
    (copy / "samples.zarr/model/accepted" / chunk).unlink()
    told(copy, f"the chunk {chunk} of the array accepted is missing", "model is missing or damaged")


def test_a_chunk_of_zeros_is_no_missing_one(tmp_path):
    """Where no step is accepted the chunks hold nothing but zeros; they are written all the same."""
    run = complete(tmp_path / "run", "beside.hmc.trajectory_length=1.0", steps=("train",))
    run.sample()
    for name in ("accepted", "action"):
        chunks = (run.path / "samples.zarr/model" / name).glob("[0-9]*")
        assert len(list(chunks)) == 3


def test_an_array_of_another_type_is_told(copy):
    for file in (copy / "samples.zarr/model/action/.zarray", copy / "samples.zarr/.zmetadata"):
        file.write_text(file.read_text().replace('"<f4"', '"<i4"'))
    told(copy, "is missing or damaged", "model")


def test_a_block_of_another_type_is_written_as_the_first(tmp_path, monkeypatch):
    def more_digits_later(*arguments, **settings):
        for number, (state, part) in enumerate(run_blocks(*arguments, **settings)):
            if number:
                other = {torch.float32: torch.float64, torch.float64: torch.float32}
                part.series.update({n: v.to(other.get(v.dtype, v.dtype)) for n, v in part.series.items()})
            yield state, part

    monkeypatch.setattr(growth, "run_blocks", more_digits_later)
    run = complete(tmp_path / "run")
    first = {name: values.dtype for name, values in run.series("beside").items()}
    monkeypatch.undo()
    plain = complete(tmp_path / "plain").series("beside")
    assert first == {name: values.dtype for name, values in plain.items()}


def test_what_is_lost_is_computed_anew(copy, finished):
    shutil.rmtree(copy / "samples.zarr")
    for chain in ("model", "beside"):
        (copy / f"checkpoints/{chain}.safetensors").unlink()
    assert_same(outcome(complete(copy).path), outcome(finished))


def test_lost_weights_are_told(copy, finished):
    best = copy / "checkpoints/best.safetensors"
    best.unlink()
    told(copy, "best.safetensors is gone", "remove last.safetensors too", stage=complete)
    (copy / "checkpoints/last.safetensors").unlink()
    assert_same(outcome(complete(copy).path), outcome(finished))


def test_a_lost_history_is_told(copy):
    (copy / "history.jsonl").unlink()
    with pytest.raises(RunFolderError, match=r"history\.jsonl is missing or damaged: .* remove it and the"):
        Run.open(copy).history()


@pytest.mark.parametrize("line", ["", "garbage", "[1, 2]", '{"step": 1}'])
def test_a_history_with_another_line_is_told(tmp_path, line):
    run = Run.create(tmp_path / "run", CONFIG)
    run.history_file.write_text(f"{line}\n")
    with pytest.raises(RunFolderError, match=r"history\.jsonl is damaged: line 1 is no record"):
        run.train()


@pytest.mark.parametrize("text", ["[]", "3", "{", '"a"', "[" * 100_000])
def test_a_run_json_that_is_no_table_is_told(copy, text):
    (copy / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json is (missing or )?damaged"):
        Run.open(copy)
    assert latflow("run", copy).exit_code == 2


# changed


def damaged_by_a_bit(finished: Path, folder: Path, generator: random.Random) -> Path:
    """A copy in which one bit of one file is flipped; files are drawn by their number, not their size."""
    shutil.copytree(finished, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    file = generator.choice(files)
    contents = bytearray(file.read_bytes())
    contents[generator.randrange(len(contents))] ^= 1 << generator.randrange(8)
    file.write_bytes(contents)
    return file


def numbers(path: Path) -> dict:
    run = Run.open(path)
    known = {f"reference/{key}": np.array(value) for key, value in run.config.reference.items()}
    return outcome(path) | known


def flipped_bits(finished: Path, folder: Path, count: int, seed: int, caplog) -> list[str]:
    """The files whose damage changed a number and was not told."""
    expected, generator, passed = numbers(finished), random.Random(seed), []
    for number in range(count):
        copy = folder / str(number)
        file = damaged_by_a_bit(finished, copy, generator)
        caplog.clear()
        try:
            found = numbers(copy)
        except LatflowError:
            continue
        finally:
            shutil.rmtree(copy)
        same = found.keys() == expected.keys() and all(
            np.array_equal(found[name], expected[name], equal_nan=expected[name].dtype.kind == "f")
            for name in expected
        )
        if not same and not caplog.messages:
            passed.append(str(file.relative_to(copy)))
    return passed


def test_a_flipped_bit_is_told_or_without_effect(finished, tmp_path, caplog):
    assert flipped_bits(finished, tmp_path, 30, 1, caplog) == []


@pytest.mark.slow
def test_many_flipped_bits_are_told_or_without_effect(finished, tmp_path, caplog):
    assert flipped_bits(finished, tmp_path, 1000, 2, caplog) == []


def test_a_checkpoint_of_other_steps_is_told(copy):
    """As if another program had written it, with the right digest."""
    path = copy / "checkpoints/model.safetensors"
    save_tree(path, load_tree(path) | {"steps": 1000})
    told(copy, "model.safetensors contradicts itself: 1000 steps")
    tree = load_tree(path)
    arrays = {group: there | {"steps": 1000} for group, there in tree["arrays"].items()}
    save_tree(path, tree | {"arrays": arrays})
    told(copy, "is missing or damaged", "expected the array", "1000 steps")


# other settings


def test_an_edited_configuration_is_told(copy):
    file = copy / "config.toml"
    file.write_text(file.read_text().replace("lam = 8.0", "lam = 7.0"))
    told(copy, "config.toml was edited", "action.lam: 8.0 and 7.0", stage=Run.open)


def test_settings_that_a_later_version_brings_change_no_run(copy, finished, caplog):
    """A run of before they were there is read and goes on, unless its file now says one."""
    file, info, last = copy / "config.toml", info_in(copy), copy / "checkpoints" / "last.safetensors"
    file.write_text(file.read_text().replace("recompute = false\n", ""))
    del info["configuration"]["training"]["recompute"]
    write_info(copy, info)
    tree = load_tree(last)  # of the best weights the chain knows the digest
    del tree["made_by"]["training.recompute"]
    save_tree(last, tree)
    assert_same(outcome(copy), outcome(finished))
    assert caplog.messages == []
    told_by = file.read_text()
    file.write_text(told_by.replace("[training]\n", "[training]\nrecompute = true\n"))
    told(copy, "config.toml was edited", "training.recompute: None and True", stage=Run.open)
    file.write_text(told_by)
    run = complete(copy, "training.steps=25", steps=("train",))
    assert len(run.history()) == 25
    assert load_tree(last)["made_by"]["training.recompute"] is False


def test_what_a_later_version_brings_is_its_default_or_a_change(tmp_path):
    config = load_config("phi4-quick", SMALL)
    table = plain(config.table())

    def without(section, *keys):
        return table | {section: {key: value for key, value in table[section].items() if key not in keys}}

    assert changed_settings(without("training", "recompute"), table, config) == {}
    assert changed_settings(without("training", "learning_rate"), table, config) == {
        "training.learning_rate": (None, 0.01)  # which is not its default
    }
    # without its mass a theory cannot be built, so that nothing is taken for a default
    assert changed_settings(without("action", "m2"), table, config) == {"action.m2": (None, -4.0)}
    # one that was made in Python is taken as it is
    here = Run.of(Phi4((4, 4), m2=1.0, lam=0.5), None, tmp_path / "run", beside={"steps": 20}).config
    there, now = plain(here.table()), plain(here.table())
    del there["beside"]["hmc"]["jitter"]
    assert changed_settings(there, now, here) == {}


def test_another_description_or_thread_is_free(copy, finished, caplog):
    run = complete(copy, "description=mine", "compute.threads=2", "reference.log_z='2.4(1)'")
    assert run.config.description == "mine"
    assert tomllib.loads((copy / "config.toml").read_text())["description"] == "mine"
    assert_same(outcome(copy), outcome(finished))
    assert caplog.messages == []
    assert Run.open(copy).config.reference["log_z"] == "2.4(1)"


def test_a_longer_chain_goes_on(copy, finished, tmp_path, caplog):
    longer = ("sampling.steps=43", "beside.steps=31")
    run = complete(copy, *longer)
    assert run.written() == {"model": 43, "proposals": 43, "beside": 31}
    found, before = outcome(copy), outcome(finished)
    assert_same({name: v[: len(before[name])] if v.ndim else v for name, v in found.items()}, before)
    at_once = complete(tmp_path / "at-once", *longer)
    # draws of the model come in batches, which a block cuts short
    for name, values in at_once.series("beside").items():
        np.testing.assert_array_equal(values, found[f"beside/{name}"])
    assert any(
        "sampling.steps = 43: the chain of the model goes on from step 25" in m for m in caplog.messages
    )


def test_a_longer_training_replaces_the_chain(copy, finished, caplog):
    before = outcome(finished)
    run = Run.create_or_resume(copy, load_config("phi4-quick", [*SMALL, "training.steps=60"]))
    assert any("training.steps = 60: the training goes on from step 20" in m for m in caplog.messages)
    assert any("the chain of the model, of 25 steps, is computed anew" in m for m in caplog.messages)
    run.train()
    assert run.trained_steps == 60
    assert run.series("model") == {}  # of the old weights; never pooled with those of the new
    assert set(run.written()) == {"beside"}
    run.sample()
    assert run.written()["model"] == 25
    assert not np.array_equal(run.series("proposals")["action"], before["proposals/action"])
    np.testing.assert_array_equal(run.series("beside")["action"], before["beside/action"])


def test_what_is_done_is_not_cut(copy):
    for change in ("sampling.steps=20", "training.steps=19", "beside.steps=10", "sampling.chains=5"):
        with pytest.raises(RunFolderError, match=r"another configuration.*\n.*" + change.split("=")[0]):
            complete(copy, change)


def test_a_command_lengthens_a_run(copy):
    result = latflow("sample", copy, "-o", "sampling.steps=40")
    assert result.exit_code == 0, result.output
    assert Run.open(copy).written()["model"] == 40
    assert Run.open(copy).config.sampling.steps == 40


def test_a_run_begins_with_the_configuration_of_another(copy, tmp_path):
    result = latflow("train", copy, "-o", "training.batch=32", "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    made = Run.open(tmp_path / "new").config
    assert made.training.batch == 32
    assert made.action.table() == CONFIG.action.table()
    assert Run.open(copy).config.training.batch == 16


def test_what_decides_the_numbers_of_a_stage():
    table = CONFIG.table()
    assert "training.batch" in depends("training", table)
    assert "training.batch" not in depends("model", table)  # it knows the weights themselves
    assert "seed" in depends("beside", table)
    assert not any("steps" in key.split(".")[-1] for key in depends("beside", table))
    refused, news = extension({"beside.chains": (4, 5)}, lambda: {"training": 20})
    assert (refused, news) == ({}, [])
    refused, _ = extension({"beside.chains": (4, 5)}, lambda: {"beside": 0})
    assert refused == {"beside.chains": (4, 5)}


# two processes


def create(path, seed, barrier, answers):
    config = load_config("phi4-quick", [*SMALL, f"seed={seed}"])
    barrier.wait()
    try:
        Run.create_or_resume(path, config)
    except RunFolderError as error:
        answers.put((seed, str(error)))
    else:
        answers.put((seed, ""))


def test_of_two_processes_one_makes_the_folder(tmp_path):
    """Together one is refused; one after the other, the later settings replace those not used yet."""
    context = multiprocessing.get_context("fork")
    refused = 0
    for number in range(10):
        path, barrier, answers = tmp_path / str(number), context.Barrier(2), context.Queue()
        both = [context.Process(target=create, args=(path, seed, barrier, answers)) for seed in (1, 2)]
        for process in both:
            process.start()
        found = dict(answers.get(timeout=60) for _ in both)
        for process in both:
            process.join()
        made = [seed for seed, error in found.items() if not error]
        run = Run.open(path)
        assert run.config.seed in made
        assert run.info["configuration"]["seed"] == run.config.seed
        for error in filter(None, found.values()):
            assert "in use by another process" in error or "seed: " in error
            refused += 1
    assert refused > 0


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RunFolderError, match=r"locks no files \(No locks available\)"):
        Run.create(tmp_path / "run", CONFIG)


def test_a_refused_theory_leaves_no_folder(tmp_path):
    with pytest.raises(LatflowError):
        Run.create(tmp_path / "run", load_config("phi4-quick", [*SMALL, "training.batch=0"]))
    assert not (tmp_path / "run").exists()


def test_the_checkpoints_say_what_they_are(copy):
    tree = load_tree(copy / "checkpoints/model.safetensors")
    assert tree["made_by"]["action.lam"] == 8.0
    assert tree["made_by"]["sampling.chains"] == 4
    assert json.loads((copy / "run.json").read_text())["configuration"]["action"]["lam"] == 8.0
    with pytest.raises(CheckpointError, match="expected a checkpoint at"):
        load_tree(copy / "checkpoints/nothing.safetensors")
