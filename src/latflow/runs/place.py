"""What lies in the folder of a run by name, and whether it is whole."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latflow.config import read_toml
from latflow.errors import CheckpointError, ConfigError, RunFolderError
from latflow.plain_files import read_whole
from latflow.storage import DIGEST, digest_holds, digest_of, with_digest, write_text

CONFIG, INFO, CODE = "config.toml", "run.json", "code"

_LARGEST = 50_000_000
"""Bytes of a file that says what a run is."""

FORMAT = 3
"""Of the folder, as `run.json` says it."""


def check_place(path: Path, resume: bool) -> None:
    """A run can be made in a folder, or is there.

    Raises:
        RunFolderError: when something else is there; or a run, unless it may be gone on with.
    """
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"expected a folder at {path}, found a file")
    # hidden files, run.json and code alone are what is left of a creation that was killed
    found = [file.name for file in path.iterdir()] if path.exists() else []
    others = [name for name in found if name not in (INFO, CODE) and not name.startswith(".")]
    if others and not (resume and CONFIG in others):
        what = "already holds a run" if CONFIG in others else f"is no run, but not empty ({others[0]})"
        raise RunFolderError(f"{path} {what}: choose another folder")


def check_format(path: Path) -> None:
    """A folder of another format is refused.

    Raises:
        RunFolderError: naming both.
    """
    if not (path / INFO).exists():
        return  # told where it is needed
    found = info_in(path).get("format")
    if found != FORMAT:
        raise RunFolderError(
            f"{path} was written by another version of latflow, whose runs this one cannot go on with "
            f"(expected format {FORMAT}, found {found}): choose another folder"
        )


def info_in(path: Path) -> dict[str, Any]:
    """What `run.json` in a folder says.

    Raises:
        RunFolderError: when it is missing or damaged.
    """
    file = path / INFO
    try:
        found = json.loads(read_whole(file, _LARGEST))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{file} is missing or damaged: {error}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} is damaged: expected a table, found a {type(found).__name__}")
    if not digest_holds(found):
        raise RunFolderError(f"{file} is damaged: its contents are not those that were written")
    found.pop(DIGEST, None)
    return found


def identity(info: Mapping[str, Any]) -> list[Any]:
    """By which files of a run know whose they are: when it was created, and its seed."""
    return [info.get("created"), info.get("seed")]


def write_info(path: Path, info: Mapping[str, Any]) -> None:
    """Write `run.json` in a folder, with a digest."""
    write_text(path / INFO, json.dumps(with_digest(info), indent=2))


def digests_in(path: Path) -> dict[str, str | None]:
    """Digests of the checkpoints in a folder, by their names; None for one that is damaged.

    By them a verdict knows the numbers that it was made of. Those kept from before are not among them.
    """
    found: dict[str, str | None] = {}
    for name in ("last", "best", "model", "beside"):
        if (file := path / "checkpoints" / f"{name}.safetensors").exists():
            try:
                found[name] = digest_of(file)
            except CheckpointError:
                found[name] = None
    return found


def copies(code: dict[str, str]) -> dict[str, str]:
    """What the copy of each file is called: as the file, and with its digest where two have the same name."""
    names = [Path(name).name for name in code]
    return {
        name: Path(name).name if names.count(Path(name).name) == 1 else f"{digest[:8]}_{Path(name).name}"
        for name, digest in code.items()
    }


def check_code(path: Path) -> None:
    """The Python files of the configuration are those with which the run began.

    Raises:
        RunFolderError: naming one that is not.
    """
    if not (path / INFO).exists():
        return  # told where it is needed
    code = info_in(path).get("code", {})
    for name, digest in code.items():
        file = Path(name)
        if not file.is_file() or file_digest(file) != digest:
            what = "has changed since the run began" if file.is_file() else "is gone"
            raise RunFolderError(
                f"{file}, which {path} is made with, {what}: choose another folder, or put back what it was; "
                f"a copy is {path / CODE / copies(code)[name]}"
            )


def table_in(path: Path) -> dict[str, Any]:
    """The configuration in a folder.

    Raises:
        RunFolderError: when it is missing or no TOML.
    """
    file = path / CONFIG
    if not file.is_file():
        raise RunFolderError(f"{path} is no run: expected {CONFIG} in it")
    try:
        return read_toml(file)
    except ConfigError as error:
        raise RunFolderError(f"{file} is damaged: {error}") from error


def file_digest(file: Path) -> str:
    """SHA-256 of the contents of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
