"""Random changes of legal configurations and of run folders: told in one message, or without harm.

What is accepted runs; a folder that was changed gives the same numbers, or says what is wrong with it.
"""

import copy
import logging
import math
import random
import shutil
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pytest

from latflow.config import flat, parse_config
from latflow.config.reading import presets
from latflow.errors import LatflowError
from latflow.runs import Run
from small_runs import SMALL, outcome

VALUES = [
    0, 1, -1, 2, 3, 7, 16, 1.5, -0.5, 0.0, 0.999, 1e30, -1e30, 1e-30, float("nan"), float("inf"), 2**63,
    10**12, True, False, "", "x", "all", "hmc", "file.py:X", "os:system", "a" * 10_000, "🦊", [], [0], [2, 2],
    [4, 4, 4], [-1, 3], ["a"], ["hmc"], [[1]], [1] * 1000, {}, {"a": 1}, {"type": "affine"},
    {"type": "hmc"}, None,
]  # fmt: skip

SHORT = {"steps": 6, "chains": 4, "thermalisation": 3, "block": 4}


def legal() -> dict[str, dict]:
    tables = {name: tomllib.loads(path.read_text()) | {"name": name} for name, path in presets().items()}
    for table in tables.values():
        for section in ("training", "sampling", "beside"):
            table.setdefault(section, {})
    # what a larger lattice does with a change, the smaller ones do in seconds
    return {name: table for name, table in tables.items() if math.prod(table["action"]["lattice"]) <= 256}


def paths(table: dict, above: tuple[str, ...] = ()):
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


def mutated(table: dict, generator: random.Random) -> dict:
    """One to three keys with another value, away, under another name, or with the value of another key."""
    table = copy.deepcopy(table)
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        every = list(paths(table))
        *above, key = generator.choice(every)
        place = table
        for name in above:
            place = place[name]
        way = generator.random()
        if way < 0.65:
            place[key] = generator.choice(VALUES)
        elif way < 0.8:
            del place[key]
        elif way < 0.9:
            place[f"{key}x"] = place.pop(key)
        else:
            value = table
            for name in generator.choice(every):
                value = value[name]
            place[key] = copy.deepcopy(value)
    return table


def shortened(table: dict) -> dict:
    """The same theory, model and kernels for a few steps: what it says of lengths does not matter."""
    table = copy.deepcopy(table)
    table["training"] |= {"steps": 3, "batch": 16, "checkpoint_every": 2}
    for part in ("anneal", "schedule", "sub_batch"):
        table["training"].pop(part, None)
    for chain in ("sampling", "beside"):
        table[chain] |= SHORT if table[chain].get("enabled", True) else {}
    if "layers" in table["model"]:
        table["model"]["layers"] = min(table["model"]["layers"], 2)
    return table | {"compute": table["compute"] | {"threads": 1}}


def tried(seed: int, number: int) -> dict[str, int]:
    """How many were refused and how many ran; the rest raises."""
    generator, tables, found = random.Random(seed), legal(), {"refused": 0, "ran": 0}
    for _ in range(number):
        name = generator.choice(list(tables))
        table = mutated(tables[name], generator)
        before = flat(tables[name])
        change = {key: value for key, value in flat(table).items() if before.get(key, "no") != value}
        message, accepted = "", None
        try:
            accepted = parse_config(table)
        except LatflowError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"{name}, {change}") from error
        if accepted is None:
            assert 0 < len(message) < 5000, (name, change)
            found["refused"] += 1
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = Run.create(Path(folder) / "run", parse_config(shortened(accepted.table())))
                run.train()
                run.sample()
                run.sample_beside()
            except LatflowError:  # couplings at which nothing can move
                found["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name}, {change}") from error
            else:
                found["ran"] += 1
    return found


def test_a_changed_configuration_is_told_or_runs():
    found = tried(seed=1, number=14)
    assert min(found.values()) > 2


@pytest.mark.slow
def test_many_changed_configurations_are_told_or_run():
    found = tried(seed=2, number=500)
    assert min(found.values()) > 50


# run folders


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    table = presets()["phi4-quick"]
    changes = [change.partition("=") for change in SMALL]
    config = tomllib.loads(table.read_text()) | {"name": "small"}
    for key, _, value in changes:
        if "." in key:
            *sections, last = key.split(".")
            place = config
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = tomllib.loads(f"value = {value}")["value"]
    run = Run.create(tmp_path_factory.mktemp("finished") / "run", parse_config(config))
    for stage in (run.train, run.sample, run.sample_beside):
        stage()
    return run.path


def removed(file: Path, _: list[Path], generator: random.Random) -> None:
    file.unlink()


def cut(file: Path, _: list[Path], generator: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: generator.randrange(max(file.stat().st_size, 1))])


def lengthened(file: Path, _: list[Path], generator: random.Random) -> None:
    file.write_bytes(file.read_bytes() + generator.randbytes(generator.randrange(1, 50)))


def emptied(file: Path, _: list[Path], generator: random.Random) -> None:
    file.write_bytes(b"")


def replaced(file: Path, files: list[Path], generator: random.Random) -> None:
    file.write_bytes(generator.choice(files).read_bytes())


def garbled(file: Path, _: list[Path], generator: random.Random) -> None:
    file.write_bytes(generator.randbytes(file.stat().st_size))


def shuffled(file: Path, _: list[Path], generator: random.Random) -> None:
    contents = bytearray(file.read_bytes())
    if contents:
        first = generator.randrange(len(contents))
        length = generator.randrange(1, 20)
        contents[first : first + length] = generator.randbytes(length)
    file.write_bytes(contents)


def made_a_folder(file: Path, _: list[Path], generator: random.Random) -> None:
    file.unlink()
    file.mkdir()


HARM = [removed, cut, lengthened, emptied, replaced, garbled, shuffled, made_a_folder]


def numbers(path: Path) -> dict[str, np.ndarray]:
    run = Run.open(path)
    reference = {f"reference/{name}": np.array(text) for name, text in run.config.reference.items()}
    return outcome(path) | reference


def harmed(finished: Path, folder: Path, seed: int, number: int, caplog) -> None:
    generator, expected = random.Random(seed), numbers(finished)
    for count in range(number):
        path = Path(shutil.copytree(finished, folder / str(count)))
        files = sorted(file for file in path.rglob("*") if file.is_file())
        file, harm = generator.choice(files), generator.choice(HARM)
        harm(file, files, generator)
        caplog.clear()
        what = f"{harm.__name__} {file.relative_to(path)}"
        try:
            found = numbers(path)
        except (LatflowError, IsADirectoryError):
            continue
        except Exception as error:
            raise AssertionError(what) from error
        finally:
            shutil.rmtree(path)
        if not caplog.messages:
            assert found.keys() == expected.keys(), what
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, err_msg=f"{what}: {name}")


def test_a_changed_folder_is_told_or_whole(finished, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    harmed(finished, tmp_path, 1, 30, caplog)


@pytest.mark.slow
def test_many_changed_folders_are_told_or_whole(finished, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    harmed(finished, tmp_path, 2, 1000, caplog)
