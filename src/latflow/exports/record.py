"""A record of a run for an archive: one zip that says what was computed, with what, and what came out.

The zip holds a bag after RFC 8493 (BagIt), in a folder by the name of the run, and the bag an RO-Crate 1.1:
the first is what archives check files by, the second how repositories read what files are and what made them,
and each is made for being put into the other. Without any program for either,

    unzip record.zip && cd NAME && sha256sum -c manifest-sha256.txt

verifies every file. The same run makes the same bytes: files have no times of their own, and dates are those
of the run.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latflow.exports.bag import Member, write_bag
from latflow.exports.crate import DESCRIPTOR, crate, day
from latflow.report import mark_in, mark_of, write_report
from latflow.runs import Group, Run
from latflow.runs.lock import locked
from latflow.runs.place import CODE, CONFIG, INFO
from latflow.runs.provenance import plain
from latflow.storage import digest_holds, replacing
from latflow.validation import Validation
from latflow.workflow import judged, keep

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]|^[-.]")
_FILES = {
    CONFIG: "the configuration, which `latflow run` computes again",
    INFO: "versions, commit, seed, machine and command",
    "history.jsonl": "the records of the training, one a line",
    "results.json": "the numbers by every way to know them, pulls, checks and the verdict",
    "report.html": "the report, with figures",
    "theta.json": "the theory at other vacuum angles",
    "theta.md": "the same as a table",
}
"""The files of a run that a record takes, and what they are."""
_CHAINS, _WEIGHTS = "chains.nc", "weights.safetensors"


def write_record(run: Run, target: Path, groups: Sequence[Group]) -> None:
    """Write a record of a run. Its verdict and its report are brought up to date before.

    Args:
        run: the run, which no other process may change meanwhile.
        target: the zip.
        groups: of chains that go with it; with any of them, the weights of the model too.

    Raises:
        RunFolderError: when there are no numbers yet, or another process holds the folder.
    """
    with (
        locked(run.path),
        replacing(target) as temporary,
        TemporaryDirectory(dir=target.parent, prefix=".") as folder,
    ):
        verdict = _up_to_date(run)
        members = [*_members(run), *_chains(run, groups, Path(folder))]
        words = json.dumps(crate(run, verdict, members), indent=2, ensure_ascii=False)
        described = Member(DESCRIPTOR, words.encode(), "")
        write_bag(temporary, safe(run.config.name), [described, *members], day(run))


def _up_to_date(run: Run) -> Validation:
    """Judge the run, and write verdict and report where they are not of what is there now."""
    verdict, page, file = judged(run), run.path / "report.html", run.path / "results.json"
    now, kept = json.loads(json.dumps(plain(verdict.as_dict()))), _kept(file)
    if {key: kept.get(key) for key in now} != now:
        keep(run, verdict)
    if mark_in(page) != mark_of(verdict):
        write_report(run, verdict)
    return verdict


def _kept(file: Path) -> dict[str, Any]:
    """The verdict that is kept; nothing where that is damaged."""
    try:
        found = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and digest_holds(found) else {}


def _members(run: Run) -> Iterator[Member]:
    """The files of the folder that a record always has."""
    for name, words in _FILES.items():
        if (file := run.path / name).is_file():
            yield Member(name, file.read_bytes(), words)
    taken: set[str] = set()
    for file in sorted((run.path / CODE).glob("*")):
        name = safe(file.name)
        while name in taken:
            name = f"_{name}"
        taken.add(name)
        yield Member(f"{CODE}/{name}", file.read_bytes(), f"code that the configuration names, {file.name!r}")


def _chains(run: Run, groups: Sequence[Group], folder: Path) -> Iterator[Member]:
    """The chains that go with a record, and the weights that made them."""
    if not groups:
        return
    run.export(folder / _CHAINS, groups)
    yield Member(_CHAINS, folder / _CHAINS, "the chains, (step, chain, …), as NetCDF-4")
    if (weights := run.checkpoint("best")).is_file():
        yield Member(_WEIGHTS, weights, "the weights of the model, which `training.init_from` takes")


def safe(name: str) -> str:
    """A name that means the same to every file system and shell."""
    return _UNSAFE.sub("_", name)
