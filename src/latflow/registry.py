"""Open registries: theories, densities and samplers by name, loaded when they are first used.

A name stands for an object in a module. Names come from `registry.toml` files, one in each folder of this
package that adds some; from the entry points of other packages (`latflow.theories`, `latflow.densities`,
`latflow.samplers`, `latflow.experiments`, `latflow.documents`); and without any registration as "module:Name"
or "file.py:Name".
"""

import difflib
import hashlib
import importlib
import importlib.util
import sys
import tomllib
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from latflow.errors import ConfigError

Group = Literal["theories", "densities", "samplers", "experiments", "documents", "networks", "bijections"]
"""What can be registered."""

_NOUNS: dict[Group, str] = {
    "theories": "a theory",
    "densities": "a density",
    "samplers": "a sampler",
    "experiments": "an experiment",
    "documents": "a list of documents",
    "networks": "a network",
    "bijections": "a bijection",
}
_PACKAGE = Path(__file__).parent
FOREIGN: dict[str, Path] = {}
"""The files of code that "file.py:Name" or "module:Name" have loaded, by the names of their modules."""


@cache
def folders() -> tuple[Path, ...]:
    """The folders of this package that hold a `registry.toml`, or presets."""
    return tuple(sorted(path.parent for path in _PACKAGE.glob("**/registry.toml")))


@cache
def _own(group: Group) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in folders():
        table = tomllib.loads((folder / "registry.toml").read_text(encoding="utf-8"))
        found |= table.get(group, {})
    return found


def names(group: Group) -> list[str]:
    """All registered names of a group, without loading what they stand for."""
    return sorted({*_own(group), *(point.name for point in entry_points(group=f"latflow.{group}"))})


def load(group: Group, name: str) -> Any:
    """The object that a name stands for.

    Args:
        group: what it is.
        name: a registered name, "module:Name", or "file.py:Name" with the path of a file.

    Raises:
        ConfigError: when there is no such name, module, file, or object in it. An error in the code of a
            module is raised as it is.
    """
    noun = _NOUNS[group]
    if ":" in name:
        return _attribute(name, noun)
    if name in _own(group):
        return _attribute(_own(group)[name], noun)
    for point in entry_points(group=f"latflow.{group}"):
        if point.name == name:
            return point.load()
    close = difflib.get_close_matches(name, names(group), n=1)
    raise ConfigError(
        f"expected {noun} out of {', '.join(names(group))}, or one of your own as module:Name or "
        f"file.py:Name, got {name!r:.80}{f'; did you mean {close[0]}?' if close else ''}"
    )


def located(name: str, folder: Path) -> str:
    """The same name, with the path of a file made absolute as seen from a folder."""
    where, colon, attribute = name.rpartition(":")
    if not colon or not where.endswith(".py"):
        return name
    path = Path(where)
    beside = folder / path
    return f"{(beside if beside.is_file() else path).resolve()}:{attribute}"


def sources(table: Any) -> Iterator[Path]:
    """The files that a configuration names by `type` = "file.py:Name", at any depth."""
    if isinstance(table, dict):
        for key, value in table.items():
            if key == "type" and isinstance(value, str) and ".py:" in value:
                yield Path(value.rpartition(":")[0])
            else:
                yield from sources(value)
    elif isinstance(table, list | tuple):
        for value in table:
            yield from sources(value)


def foreign_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The last line that an error passed in a file or a module that "…:Name" named; None without one."""
    files = {str(path) for path in FOREIGN.values()}
    if isinstance(error, SyntaxError) and error.filename in files:
        return traceback.FrameSummary(error.filename, error.lineno, "module", line=(error.text or "").strip())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return frames[-1] if frames else None


def _attribute(name: str, noun: str) -> Any:
    where, _, attribute = name.rpartition(":")
    module = _file(Path(where), noun) if where.endswith(".py") else _module(where, noun)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            own = (key for key, value in vars(module).items() if callable(value) and key[0] != "_")
            legal = [key for key in own if getattr(vars(module)[key], "__module__", "") == module.__name__]
            raise ConfigError(f"expected {noun} {attribute!r} in {where}, which has {', '.join(legal)}")
        found = getattr(found, part)
    return found


def _module(name: str, noun: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
        if module.__file__ is not None and _PACKAGE not in Path(module.__file__).parents:
            FOREIGN[name] = Path(module.__file__)
        return module
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself needs
        raise ConfigError(f"expected a module {name!r} for {noun}, found none: is it installed?") from error


def _file(path: Path, noun: str) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"expected a Python file at {path} for {noun}, found none")
    # one module a path: what is loaded twice would be two different classes
    name = f"latflow_file_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    FOREIGN[name] = path
    sys.modules[name] = module  # dataclasses look their module up here
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module
