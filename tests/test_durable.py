"""What is reported as written is on the disk: contents before names, histories before checkpoints."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from latflow.config import load_config
from latflow.runs import Run, chains
from latflow.runs.chains import ChainStore
from latflow.storage import replacing, save_tree, write_text
from small_runs import SMALL


@pytest.fixture
def events(monkeypatch):
    """What reaches the disk, by its number there, and the names that change, in their order."""
    seen: list[tuple[str, int]] = []
    flush, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        seen.append(("flushed", os.fstat(handle).st_ino))
        flush(handle)

    def renamed(path: Path, target: Path) -> Path:
        seen.append(("renamed", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    return seen


@pytest.mark.parametrize(
    "write", [lambda path: write_text(path, "ä"), lambda path: save_tree(path, {"a": 1})]
)
def test_contents_reach_the_disk_before_the_name_and_the_name_after(tmp_path, events, write):
    path = tmp_path / "new" / "file"
    write(path)
    file, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert events == [("flushed", file), ("renamed", file), ("flushed", folder)]


def test_a_write_that_fails_leaves_nothing_and_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_no_checkpoint_is_ahead_of_the_history_on_the_disk(tmp_path, events):
    """With a checkpoint at every step, the history is flushed before each of them takes its name."""
    config = load_config("phi4-quick", [*SMALL, "training.steps=3", "training.checkpoint_every=1"])
    run = Run.create(tmp_path / "run", config)
    lines: list[int] = []
    events.clear()
    run.train(lambda _: lines.append(len(events)))
    history = ("flushed", run.history_file.stat().st_ino)
    for start, end in itertools.pairwise(lines):
        step = events[start:end]
        assert history in step
        # best takes its name first, then last: the history lies before the latter
        assert step.index(history) < max(i for i, (what, _) in enumerate(step) if what == "renamed")


def test_every_file_of_a_block_reaches_the_disk(tmp_path, monkeypatch):
    """Those that are new, and those that have changed: the lengths of the arrays, and what readers find."""
    flushed: list[Path] = []
    monkeypatch.setattr(chains, "reach_disk", flushed.append)
    store = ChainStore(tmp_path / "chains", {})
    store.append({"model": {"x": np.zeros((3, 2))}}, 0)
    everything = {store.path, *store.path.rglob("*")}
    assert set(flushed) == everything
    flushed.clear()
    store.append({"model": {"x": np.ones((3, 2))}}, 3)
    assert {store.path / ".zmetadata", store.path / "model/x/.zarray", store.path / "model/x/1.0"} <= set(
        flushed
    )
    assert store.path / "model/x/0.0" not in flushed
    for first, steps in ((6, 2), (8, 5)):  # chunks that are filled in part, and on
        before = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
        flushed.clear()
        store.append({"model": {"x": np.full((steps, 2), float(first))}}, first)
        now = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file()}
        assert {file for file in now if before.get(file) != now[file]} <= set(flushed)
