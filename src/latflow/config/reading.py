"""Configurations in and out: presets, files, changes on the command line."""

import copy
import difflib
import logging
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from latflow.config.checking import check_kernels, checked
from latflow.config.explaining import with_hints
from latflow.config.parts import PYTHON, Given
from latflow.config.schema import RunConfig, Tables, training_section
from latflow.errors import ConfigError
from latflow.plain_files import read_whole
from latflow.registry import Group, folders, located, names

_LOG = logging.getLogger(__name__)

_DEEPEST = 32
"""Levels of tables and lists: what follows walks through them by recursion."""
PREVIOUS = "previous"
"""As `training.init_from`: the run before in a scan."""
_LONGEST_KEY = 1000
_PART = re.compile(r"[\w \t\"'-]{1,100}")
"""Of a key with dots."""
_LARGEST_FILE = 1_000_000
"""In bytes: a configuration is written by people."""


def presets() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    files = (file for folder in folders() for file in (folder / "presets").glob("*.toml"))
    return dict(sorted((file.stem, file) for file in files))


def preset_names() -> list[str]:
    """Their names."""
    return list(presets())


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        source: the name of a preset, or the path of a TOML file. Files of Python that it names, as in
            type = "phi6.py:Phi6", are looked for beside it, and else in the present folder.
        overrides: changes, "training.batch=512" each. The value is TOML; a bare word is a string, and null
            takes a value away, which leaves the default.

    Raises:
        ConfigError: when there is no such configuration, or a key or value is not legal.

    Example:
        >>> load_config("phi4-8x8", ["training.batch=512"]).training.batch
        512
    """
    return parse_config(load_tables(source, overrides), source)


def load_tables(source: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a configuration with all changes made, and not checked yet; as `load_config`."""
    return table_of(_path_of(source), overrides)


def table_of(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The tables of a file with changes."""
    table = read_toml(path)
    table.setdefault("name", _name_from(path))
    return _with_files(_located(changed(table, overrides), path.parent), path.parent)


def changed(table: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A configuration with changes, and without what it says of another theory or of a model that is gone."""
    before = copy.deepcopy(table)
    for override in overrides:
        _apply(table, override)
    _leave_behind(before, table)
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """A file of TOML, whatever else may be in a file of that name.

    Raises:
        ConfigError: when it is none, or too large or too deeply nested for a configuration.
    """
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        raise ConfigError(
            f"{path}: expected a configuration of at most {_LARGEST_FILE} bytes, got {path.stat().st_size}"
        )
    deep = ConfigError(f"{path}: nested too deeply, expected at most {_DEEPEST} levels")
    try:
        text = read_whole(path, _LARGEST_FILE).decode("utf-8-sig").replace("\r\n", "\n")
        if _dotted(text):
            raise deep
        table = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except RecursionError as error:
        raise deep from error
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        level = [entry for one in level for entry in (one.values() if isinstance(one, dict) else one)]
        level = [entry for entry in level if isinstance(entry, dict | list)]
    if level:
        raise deep
    return table


def _dotted(text: str) -> bool:
    """Whether there is a key of very many parts, which tomllib would be at for hours."""
    length = 0
    for part in text.split("."):
        length = length + 1 if _PART.fullmatch(part) else 0
        if length > _LONGEST_KEY:
            return True
    return False


def description_of(preset: str) -> str:
    """What a preset says of itself."""
    return tomllib.loads(presets()[preset].read_text(encoding="utf-8")).get("description", "")


def parse_config(
    table: Mapping[str, Any], source: str | Path = "configuration", given: dict[str, Given] | None = None
) -> RunConfig:
    """Check a configuration that is a nested dict; `source` names it in errors.

    What can be told without loading PyTorch is told first.

    Args:
        table: the configuration.
        source: its name in errors.
        given: the "action" and the "model" where they were made in Python.

    Raises:
        ConfigError: when a key or value is not legal.
    """
    try:
        tables = _read(Tables, table, "")
        groups: dict[str, Group] = {"action": "theories", "model": "densities"}
        for key, group in groups.items():
            if (part := getattr(tables, key)) is not None:
                _check_type(key, part, names(group), given or {})
        check_kernels("sampling", tables.sampling, tables.sampling.kernels)
        check_kernels("beside", tables.beside, tables.beside.kernels)
        training = _read(training_section(), tables.training, "training")
        return checked(tables, training, given)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def to_toml(config: RunConfig) -> str:
    """The whole configuration, defaults too, as a file from which it can be read again."""
    return tomli_w.dumps(config.table())


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which the tables of two configurations differ, with both values; None for none."""
    first, second = flat(one), flat(other)
    keys = [key for key in first | second if first.get(key) != second.get(key)]
    return {key: (first.get(key), second.get(key)) for key in keys}


def _read(section: Any, table: Mapping[str, Any], place: str) -> Any:
    try:
        return section.model_validate(table)
    except ValidationError as invalid:
        raise ConfigError(with_hints(invalid, section, place)) from invalid


def _check_type(key: str, table: Mapping[str, Any], legal: list[str], given: Mapping[str, Given]) -> None:
    name = table.get("type")
    if key in given:
        return
    if name == PYTHON:
        raise ConfigError(
            f"{key}: it was made in Python ({table.get('object', '')}): open the run with "
            "latflow.Run.of(action, density, folder)"
        )
    if name is None:
        raise ConfigError(f"{key}: expected a key 'type', one of {', '.join(legal)}")
    if isinstance(name, str) and name.endswith(".py"):
        raise ConfigError(f"{key}.type: expected a name in that file, as {name[:80]}:Name, got {name!r:.80}")
    if not isinstance(name, str) or (":" not in name and name not in legal):
        raise ConfigError(
            f"{key}.type: expected one of {', '.join(legal)}, or one of your own as module:Name or "
            f"file.py:Name, got {name!r:.80}"
        )


def _name_from(path: Path) -> str:
    """The name of a file as that of a run, whatever letters it has."""
    letters = "".join(c if c.isalpha() or c.isdecimal() or c in "_.+-" else " " for c in path.stem[:100])
    return "-".join(letters.split()).strip(".+-") or "run"


def _path_of(source: str | Path) -> Path:
    found = presets()
    if str(source) in found:
        return found[str(source)]
    path = Path(source)
    if path.is_file():
        return path
    close = difflib.get_close_matches(str(source), found, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the presets are {', '.join(found)}"
    raise ConfigError(
        f"expected a preset, a TOML file or the folder of a run, got {str(source)!r:.200}; {hint}"
    )


def _leave_behind(before: dict[str, Any], table: dict[str, Any]) -> None:
    """What a file says of its own theory does not follow it to another one: references and description.

    Nor does what it says of a model that is taken away: its training and its chain.
    """
    if "model" in before and "model" not in table:
        for key in ("training", "sampling"):
            old, new = before.get(key, {}), table.get(key, {})
            if isinstance(old, dict) and isinstance(new, dict):
                table[key] = {k: v for k, v in new.items() if k == "save_fields" or old.get(k) != v}
        if table.get("description") == before.get("description"):
            table.pop("description", None)
    if before.get("action") == table.get("action"):
        return
    if table.get("description") == before.get("description"):
        table.pop("description", None)
    of_old, of_new = before.get("reference", {}), table.get("reference", {})
    if isinstance(of_old, dict) and isinstance(of_new, dict) and of_old:
        table["reference"] = {name: text for name, text in of_new.items() if of_old.get(name) != text}
        _LOG.warning("the reference numbers of the file are of another action: they are left out")


def _located(table: Any, folder: Path, path: Callable[[str, Path], str] | None = None) -> Any:
    """The same tables, in which the paths of Python files and of other runs are absolute.

    Args:
        table: or a value in it.
        folder: from which paths are seen.
        path: makes the strings of this value absolute, where these are paths.
    """
    of_paths = {"type": located, "init_from": _beside}
    if isinstance(table, dict):
        return {key: _located(value, folder, of_paths.get(key)) for key, value in table.items()}
    if isinstance(table, list):
        return [_located(entry, folder, path) for entry in table]
    return path(table, folder) if path is not None and isinstance(table, str) else table


_FILES = (("training", "estimator_options", "configurations"), ("beside", "start"))
"""The keys that name files of configurations."""


def _with_files(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same tables, in which the paths of files of configurations are absolute."""
    for *sections, key in _FILES:
        inner: Any = table
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get(key), str) and inner[key]:
            inner[key] = _beside(inner[key], folder)
    return table


def _beside(path: str, folder: Path) -> str:
    """A path as seen from a folder where it is there, and else from the present one."""
    if path == PREVIOUS:
        return path
    return str((folder / path if (folder / path).exists() else Path(path)).resolve())


def _apply(table: dict[str, Any], override: str) -> None:
    """Make one change, "section.key=value", in a nested dict."""
    path, equals, text = override.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not all((*sections, key)):
        raise ConfigError(f"expected a change of the form section.key=value, got {override!r}")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{path.strip()}: {section} is a value and holds no keys")
    value = _value(text.strip())
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _value(text: str) -> Any:
    if text == "null":
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables by their keys, joined by dots."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
