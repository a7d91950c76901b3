"""What a run folder holds, as a reader in a process of its own finds it: numbers, results, names of files."""

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faults.children import call
from small_runs import GROUPS, SMALL, outcome

CURRICULUM = ["training.curriculum.lattices=[[2, 2]]", "training.curriculum.steps=[9]"]
KINDS = {"flow": SMALL, "curriculum": [*SMALL, *CURRICULUM], "pair": SMALL}
"""The runs that are killed, as changes of the preset phi4-quick; a pair is trained by two processes."""
_BY_THE_CLOCK = ("seconds", "digest", "run", "checkpoints", "mark")


def arguments(kind: str, path: Path) -> list[str]:
    """The command that makes a run of a kind, or goes on with it."""
    options = [part for change in KINDS[kind] for part in ("-o", change)]
    return ["run", "phi4-quick", *options, "--out", str(path)]


@dataclass
class Found:
    """What is in a folder.

    Attributes:
        error: why it cannot be read; empty where it can.
        told: warnings on the way.
        numbers: of training, weights and chains.
        results: what `results.json` says, less its times.
        files: all names.
        history: the lines of the history that are whole.
        steps: that each stage has made.
    """

    error: str = ""
    told: list[str] = field(default_factory=list)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    history: list[bytes] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)


def files_in(path: Path) -> set[str]:
    """The names of all files, less figures: a process that is hurried draws fewer."""
    names = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    return {name for name in names if not name.startswith("figures/") or not name.endswith((".png", ".pdf"))}


def results_in(path: Path) -> dict[str, Any]:
    """The verdict that is kept, less what depends on the clock, as checkpoints do by the seconds in them."""
    file = path / "results.json"
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in _BY_THE_CLOCK}


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a history that end."""
    file = path / "history.jsonl"
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def partial(path: Path) -> Found:
    """What a run that was stopped holds."""
    from latflow.runs import Run

    found = Found(files=files_in(path), history=whole_lines(path))
    if (path / "config.toml").exists():
        run = Run.open(path)
        run.history()
        found.steps = {str(name): steps for name, steps in run.done().items()}
        for group in GROUPS:
            found.numbers |= {f"{group}/{name}": values for name, values in run.series(group).items()}
    found.results = results_in(path)
    return found


def whole(path: Path) -> Found:
    """What a run that has ended holds."""
    return Found(numbers=outcome(path), results=results_in(path), files=files_in(path))


def read(path: Path, reader: Callable[[Path], Found], place: Path) -> Found:
    """A folder as a reader in a process of its own finds it.

    Args:
        path: the folder.
        reader: `partial` or `whole`.
        place: a folder for what the two processes exchange.
    """
    import pickle

    answer = place / "found.pickle"
    answer.unlink(missing_ok=True)

    def look() -> None:
        told: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: told.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            found = reader(path)
        except Exception as error:
            found = Found(error=f"{type(error).__name__}: {error}", numbers={}, files=files_in(path))
            from latflow.errors import LatflowError

            if not isinstance(error, LatflowError):
                found.error = f"no error of latflow: {traceback.format_exc()}"
        found.told += told
        answer.write_bytes(pickle.dumps(found))

    child = call(look, place / "reader.log")
    if child.wait() != 0:
        return Found(error=f"the reader ended with {child.code}: {child.said}")
    return pickle.loads(answer.read_bytes())  # noqa: S301 (written by this very program)


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """The names of numbers that are not the same in every bit."""
    names = sorted(one.keys() | other.keys())
    return [
        name
        for name in names
        if name not in one
        or name not in other
        or one[name].shape != other[name].shape
        or not np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
    ]
