"""What the text files of a run's folder say: enough for a page over many runs, and read in no time.

No configuration is checked and nothing is built from it, so that a run shows whatever has become of the code
that it was made with.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from latflow.config import read_toml
from latflow.errors import ConfigError
from latflow.measurement import Measurement
from latflow.plain_files import read_whole
from latflow.runs.place import CONFIG, INFO, digests_in, identity
from latflow.storage import digest_holds

RESULTS, REPORT, SCAN_PAGE = "results.json", "report.html", "scan.html"

_LARGEST = 50_000_000
"""Bytes of a file of text."""
_DEEPEST = 4
"""Levels of folders below the one in which runs are looked for."""

State = Literal["passed", "failed", "inconclusive", "unfinished", "outdated", "damaged"]
"""The verdict on a run, or why there is none; outdated is one of other numbers or of another version."""

Values = Mapping[str, Mapping[str, Measurement]]
"""By the names of observables and of the ways to know them."""


@dataclass(frozen=True)
class Overview:
    """A run as its text files have it.

    Attributes:
        path: of its folder.
        state: of it.
        why: it has no verdict, or what the verdict says.
        name: of the run; of its folder where that is not known.
        theory: in words; its type and lattice where no verdict says more.
        created: when, "2026-01-31T12:00:00+00:00".
        labels: of its observables, by their names.
        values: of them.
        ways: the headings of the ways to know them, by their names and in their order.
        sampled: those that rest on draws.
        main: the names of those observables that one wants first.
        diagnostics: plain numbers by name.
        seconds: that its stages took, by the clock.
        mark: that the page of this verdict has.
    """

    path: Path
    state: State
    why: str = ""
    name: str = ""
    theory: str = ""
    created: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)
    sampled: tuple[str, ...] = ()
    main: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    mark: str = ""


def best_of(values: Mapping[str, Measurement], sampled: Sequence[str]) -> tuple[str, Measurement] | None:
    """The way that knows an observable with the smallest error, and its number.

    One whose error may not be trusted comes after all others. What is known without draws counts only where
    there is nothing else.

    Args:
        values: by the names of the ways.
        sampled: those that rest on draws.
    """

    def rank(way: str) -> tuple[bool, float]:
        error = values[way].error
        return bool(values[way].warning), error if math.isfinite(error) else math.inf

    best = min([way for way in sampled if way in values] or values, key=rank, default=None)
    return None if best is None else (best, values[best])


class _DamagedError(Exception):
    """What is wrong with a file."""


class _OutdatedError(Exception):
    """Of what other version or numbers a verdict is."""


def overview(path: Path) -> Overview:
    """What is known of the run in a folder, whatever state that is in."""
    known: dict[str, Any] = {"name": path.name}
    try:
        config = _toml(path / CONFIG)
        known |= {"name": str(config.get("name", path.name)), "theory": _theory(config)}
        info = _json(path / INFO)
        known["created"] = str(info.get("created", ""))
        if not (path / RESULTS).exists():
            return Overview(path, "unfinished", **known, why=_progress(path, config))
        found = _json(path / RESULTS)
        if found.get("run", identity(info)) != identity(info):
            raise _DamagedError(f"{RESULTS} is of another run: `latflow report {path}` writes it anew")
        known |= _results(found)
        if changed := _changed(found, path):
            raise _OutdatedError(f"other numbers than those in {', '.join(changed)}")
        return Overview(path, found["verdict"], **known)
    except _OutdatedError as error:
        known["why"] = f"{RESULTS} is of {error}: {_anew(path)}"
        return Overview(path, "outdated", **known)
    except _DamagedError as error:
        known["why"] = str(error)
        return Overview(path, "damaged", **known)


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or what is left of one."""
    return (path / CONFIG).exists() or (path / INFO).exists()


def run_folders(folder: Path) -> Iterator[Path]:
    """The folders of runs at or below a folder, by their names; links to folders are not followed."""
    for place, inner, _ in os.walk(folder):
        here = Path(place)
        if is_run(here):
            inner.clear()
            yield here
        depth = len(here.relative_to(folder).parts)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and depth < _DEEPEST)


def _text(file: Path) -> str:
    try:
        return read_whole(file, _LARGEST).decode()
    except FileNotFoundError:
        raise _DamagedError(f"{file.name} is missing") from None
    except (OSError, ValueError) as error:
        raise _DamagedError(f"{file.name} cannot be read: {error}") from error


def _toml(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file)
    except FileNotFoundError:
        raise _DamagedError(f"{file.name} is missing") from None
    except (OSError, ConfigError) as error:
        raise _DamagedError(f"{file.name} is damaged: {error}") from error


def _json(file: Path) -> dict[str, Any]:
    text = _text(file)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _DamagedError(_damage(file, str(error))) from error
    if not isinstance(found, dict):
        raise _DamagedError(_damage(file, f"expected a table, found a {type(found).__name__}"))
    if not digest_holds(found):
        raise _DamagedError(_damage(file, "its contents are not those that were written"))
    return found


def _damage(file: Path, what: str) -> str:
    return f"{file.name} is damaged: {what}" + (f": {_anew(file.parent)}" if file.name == RESULTS else "")


def _anew(path: Path) -> str:
    return f"`latflow report {path}` writes it anew"


def _theory(config: Mapping[str, Any]) -> str:
    action = config.get("action")
    if not isinstance(action, dict):
        return ""
    lattice = action.get("lattice")
    place = f" on {' × '.join(map(str, lattice))}" if isinstance(lattice, list) else ""
    return f"{str(action.get('type', '')).rpartition('/')[2]}{place}"


def _progress(path: Path, config: Mapping[str, Any]) -> str:
    """How far a run without a verdict has come."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        checkpoints = {file.stem for file in (path / "checkpoints").glob("*.safetensors")}
        if chains := sorted(checkpoints & {"model", "beside"}):
            return f"no verdict yet: sampling has begun ({', '.join(chains)})"
        history = _text(path / "history.jsonl").strip().rpartition("\n")[2]
        return f"no verdict yet: trained {json.loads(history)['step']} of {config['training']['steps']} steps"
    return "no verdict yet"


def _results(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a verdict that is whole says, if it says it as this version of latflow does."""
    try:
        if found["verdict"] not in ("passed", "failed", "inconclusive"):
            raise ValueError(f"the verdict {found['verdict']!r}")
        rows = found["rows"]
        return {
            "theory": str(found["theory"]),
            "why": "; ".join(map(str, found["summary"])),
            "labels": {row["name"]: row["label"] for row in rows},
            "values": {
                row["name"]: {way: _measurement(one) for way, one in row["values"].items()} for row in rows
            },
            "ways": {way["name"]: way["heading"] for way in found["ways"]},
            "sampled": tuple(way["name"] for way in found["ways"] if way["sampled"]),
            "main": tuple(map(str, found["main"])),
            "diagnostics": {name: _number(one) for name, one in found["diagnostics"].items()},
            "seconds": {name: float(one) for name, one in found["seconds"].items()},
            "mark": str(found.get("mark", "")),
        }
    except KeyError as error:
        raise _OutdatedError(f"another version of latflow (it has no {error})") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _OutdatedError(f"another version of latflow (it has other values: {error})") from error


def _changed(found: Mapping[str, Any], path: Path) -> list[str]:
    """The checkpoints that are not among those that a verdict was made of, by their names."""
    if "checkpoints" not in found:
        return []  # earlier versions kept none
    judged = found["checkpoints"]
    if not isinstance(judged, dict):
        raise _OutdatedError("another version of latflow (its checkpoints are no table)")
    return [name for name, digest in digests_in(path).items() if judged.get(name, "") != digest]


def _number(value: float | None) -> float:
    """JSON has null for what is not finite."""
    return math.nan if value is None else float(value)


def _measurement(one: Mapping[str, Any]) -> Measurement:
    return Measurement(
        _number(one["value"]),
        _number(one["error"]),
        tau_int=one["tau_int"],
        tau_int_error=one["tau_int_error"],
        n=one["n"],
        warning=one["warning"],
    )
