"""Which lists in a configuration are values to scan: those that are illegal where each entry is legal."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from latflow.config.explaining import message
from latflow.config.parts import arguments_section
from latflow.config.schema import Tables, training_section
from latflow.config.sections import UnsettableError
from latflow.errors import ConfigError
from latflow.registry import Group

Key = tuple[str, ...]
"""The names of a key from the outermost table inwards: ("action", "beta")."""

_ONE_FOR_ALL = ("name", "description", "scan")
"""Keys of a scan as a whole."""


class _Fault(NamedTuple):
    """What is not legal: where, as pydantic says it, with the names of branches of unions between."""

    place: Key
    message: str


def scanned_lists(table: Mapping[str, Any]) -> dict[Key, list[Any]]:
    """The lists of values to scan, by their keys in the order of the tables.

    A list is one where the annotations of its key do not take it and take each of its entries. A lattice is a
    list itself, so that a scan of lattices is a list of lists; so is one of the kernels of a chain.

    Raises:
        ConfigError: naming the key, for an empty list where one value is expected, for a list of which only
            some entries are legal, and for lists of names and descriptions.
    """
    lists = {key: value for key, value in _values(table) if isinstance(value, list)}
    types = {key: value[0] for key, value in lists.items() if key[-1] == "type" and value}
    faults = list(_faults(replaced(table, types)))
    suspects = {key: value for key, value in lists.items() if key in types or not value or _told(key, faults)}
    firsts = {key: value[0] for key, value in suspects.items() if value}
    found = {}
    for key, entries in suspects.items():
        name = ".".join(key)
        if not entries:
            if _told(key, list(_faults(replaced(table, {**firsts, key: entries})))):
                raise ConfigError(f"{name}: expected one value, or a list of at least one to scan, got []")
            continue
        told = [_told(key, list(_faults(replaced(table, {**firsts, key: entry})))) for entry in entries]
        if all(told):
            continue  # no value of this key at all: what was expected is told where one is read
        if any(told):
            number, words = next((i, words) for i, words in enumerate(told, 1) if words)
            raise ConfigError(f"{name}: value {number} of the list to scan: {words}")
        if key[0] in _ONE_FOR_ALL:
            raise ConfigError(f"{name}: expected one for all runs of a scan, got a list")
        found[key] = entries
    return found


def replaced(table: Mapping[str, Any], values: Mapping[Key, Any]) -> dict[str, Any]:
    """A copy of nested tables with other values of some keys that are there."""
    changed = copy.deepcopy(dict(table))
    for key, value in values.items():
        inner = changed
        for name in key[:-1]:
            inner = inner[name]
        inner[key[-1]] = value
    return changed


def _values(table: Mapping[str, Any], prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """The values of nested tables, by their keys."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _values(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _told(key: Key, faults: Sequence[_Fault]) -> str:
    """What is said against the value of a key; "" where nothing is."""
    for fault in faults:
        names = iter(fault.place)
        if all(name in names for name in key):  # in this order, whatever stands between
            return fault.message
    return ""


def _faults(table: Mapping[str, Any]) -> Iterator[_Fault]:
    """What annotations say against the values of a configuration, as far as they can be found."""
    yield from _of_section(Tables, {k: v for k, v in table.items() if k != "scan"}, ())
    yield from _of_section(training_section(), table.get("training", {}), ("training",))
    yield from _of_part("theories", table.get("action"), ("action",))
    yield from _of_part("densities", table.get("model"), ("model",))
    for place in ("sampling", "beside"):
        section = table.get(place)
        if not isinstance(section, dict):
            continue
        kernels = section.get("kernels", ())
        kernels = kernels if isinstance(kernels, list) else [kernels]
        types = {name.rpartition(":")[2]: name for name in kernels if isinstance(name, str)}
        for name, kernel in section.items():
            if isinstance(kernel, dict):
                settings = {"type": types.get(name, name), **kernel}
                repeat = settings.pop("repeat", 1)
                if not isinstance(repeat, int):
                    yield _Fault((place, name, "repeat"), f"expected a whole number, got {repeat!r}")
                yield from _of_part("samplers", settings, (place, name))


def _of_part(group: Group, table: Any, place: Key) -> Iterator[_Fault]:
    if not isinstance(table, dict):
        return
    name = table.get("type")
    if not isinstance(name, str):
        yield _Fault((*place, "type"), f"expected a string, got {name!r:.80}")
        return
    try:
        section = arguments_section(group, name)
    except (ConfigError, UnsettableError):
        return  # told where it is read
    yield from _of_section(section, {key: value for key, value in table.items() if key != "type"}, place)


def _of_section(section: type[BaseModel], values: Any, place: Key) -> Iterator[_Fault]:
    try:
        section.model_validate(values)
    except ValidationError as invalid:
        for error in invalid.errors():
            yield _Fault((*place, *(name for name in error["loc"] if isinstance(name, str))), message(error))
