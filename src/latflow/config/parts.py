"""What a configuration names by its type, theories, models and samplers, and how it is built."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latflow.config.explaining import with_hints
from latflow.config.sections import Section, UnsettableError, arguments_of, parameters_of, section_of
from latflow.errors import ConfigError
from latflow.registry import Group, foreign_frame, load

_SUPPLIED: dict[Group, frozenset[str]] = {
    "theories": frozenset(),
    "densities": frozenset({"lattice", "kind", "action", "generator"}),
    "samplers": frozenset({"action", "density"}),
}
"""The arguments that a run gives to what it builds, where a constructor has them: they are no keys."""


@dataclass(frozen=True)
class Part:
    """A registered object with its arguments, as a table of a configuration says it.

    Attributes:
        place: where the table stands.
        type: the name of the object.
        arguments: the rest of the table, checked.
        constructor: the object.
    """

    place: str
    type: str
    arguments: Section
    constructor: Callable[..., Any]

    def build(self, **supplied: Any) -> Any:
        """The object that the constructor makes.

        Args:
            supplied: given where the constructor has an argument of the name.

        Raises:
            ConfigError: when the constructor refuses the arguments, with the place; or when its code fails,
                with file and line, where that is not code of this package.
        """
        wanted = parameters_of(self.constructor)
        given = {name: value for name, value in supplied.items() if name in wanted}
        try:
            return self.constructor(**arguments_of(self.arguments), **given)
        except ValueError as error:
            raise ConfigError(f"{self.place}: {error}{where_in_foreign(error)}") from error
        except TypeError as error:
            if where_in_foreign(error):
                raise  # a defect of that code, told with its line
            raise ConfigError(f"{self.place}: {error}") from error

    def table(self) -> dict[str, Any]:
        return {"type": self.type, **self.arguments.model_dump(mode="json", exclude_none=True)}


@dataclass(frozen=True, eq=False)
class Given:
    """An object that was made in Python, and that no file can make again.

    Attributes:
        place: where it would stand in a configuration.
        make: a new object, the same each time.
        text: what tells it from others.
    """

    place: str
    make: Callable[[], Any]
    text: str

    def build(self, **_: Any) -> Any:
        """The object."""
        return self.make()

    def table(self) -> dict[str, Any]:
        return {"type": PYTHON, "object": self.text}


Buildable = Part | Given
"""A theory, a model or a sampler, as a run knows it."""

PYTHON = "python"
"""The type of what was made in Python."""


def part(group: Group, place: str, table: Mapping[str, Any], reserved: Collection[str] = ()) -> Part:
    """The part that a table describes by its `type` and its other keys.

    Args:
        group: what it is.
        place: where the table stands.
        table: the table.
        reserved: keys of the table besides `type` that are not the part's own.

    Raises:
        ConfigError: for a type that does not exist, and for keys or values that it does not take; naming the
            place.
    """
    arguments = dict(table)
    name = arguments.pop("type", None)
    if not isinstance(name, str):
        raise ConfigError(f"{place}: expected a key 'type', a string, got {name!r}")
    try:
        constructor = load(group, name)
    except ConfigError as error:
        # a kernel is named by its type, where its table does not say another one
        where = place if place.rpartition(".")[2] == name else f"{place}.type"
        raise ConfigError(f"{where}: {error}") from error
    if not callable(constructor):
        raise ConfigError(f"{place}.type: expected a class or a function, got {constructor!r}")
    try:
        section = arguments_section(group, name)
    except UnsettableError as error:
        raise ConfigError(f"{place}: {error}") from error
    if taken := [key for key in ("type", *reserved) if key in section.model_fields]:
        raise ConfigError(
            f"{place}: {name} has an argument {taken[0]!r}, which is a key of its section already: "
            "expected another name for it"
        )
    try:
        return Part(place, name, section.model_validate(arguments), constructor)
    except ValidationError as invalid:
        raise ConfigError(with_hints(invalid, section, place)) from invalid


def arguments_section(group: Group, name: str) -> type[Section]:
    """The keys that a table may hold beside its `type`.

    Raises:
        ConfigError: for a name that nothing has.
        UnsettableError: for what no configuration can build.
    """
    return section_of(load(group, name), _SUPPLIED[group])


def where_in_foreign(error: BaseException) -> str:
    """The last line of a user's own file that an error passed, as " (file.py, line 12)"; "" without one."""
    frame = foreign_frame(error)
    return f" ({Path(frame.filename).name}, line {frame.lineno})" if frame else ""
