"""Sections of a configuration, made from the signatures and annotations of constructors."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

SUPPLIED = frozenset({"action", "density", "kind", "generator"})
"""Arguments that a run gives to what it builds, where a constructor has them: they are no keys."""

_PLAIN = (int, float, bool, str, type(None))


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions, nothing changes once it is read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class UnsettableError(TypeError):
    """An argument without default that no configuration can hold."""


def parameters_of(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a constructor, in their order."""
    found = inspect.signature(constructor).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {parameter.name: parameter for parameter in found if parameter.kind not in variable}


@cache
def section_of(constructor: Callable[..., Any], supplied: frozenset[str] = SUPPLIED) -> type[Section]:
    """The section whose keys are the arguments of a constructor, checked by their annotations.

    Numbers, strings, truth values, `Literal`, several of them as a `Sequence`, tables as a `Mapping`, unions
    of these, `Annotated` bounds (see `latflow.types`), and dataclasses of such, which are sections in a
    section.

    Args:
        constructor: a class or a function.
        supplied: arguments that are no keys.

    Raises:
        UnsettableError: for an argument without default whose annotation is none of these.
    """
    hints = _hints(constructor)
    fields: dict[str, Any] = {}
    for name, parameter in parameters_of(constructor).items():
        if name in supplied:
            continue
        needed = parameter.default is inspect.Parameter.empty
        annotation = hints.get(name, Any)
        try:
            mapped = _mapped(annotation)
        except UnsettableError as error:
            if not needed:
                continue
            raise UnsettableError(
                f"{constructor.__name__} cannot be built from a configuration: its argument {name} is "
                f"{error}, and no table can hold that"
            ) from None
        if needed or _is_plain(default := _as_read(parameter.default)):
            fields[name] = (mapped, ... if needed else default)
    section = create_model(getattr(constructor, "__name__", "Section"), __base__=Section, **fields)
    section.__latflow_constructor__ = constructor  # pyright: ignore[reportAttributeAccessIssue]
    return section


def arguments_of(section: Section) -> dict[str, Any]:
    """The values of a section, those of sections in it built.

    Raises:
        ValueError: as the constructors of these.
    """
    values = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            constructor = type(value).__latflow_constructor__  # pyright: ignore[reportAttributeAccessIssue]
            try:
                value = constructor(**arguments_of(value))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        values[name] = value
    return values


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    target = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, AttributeError, TypeError):  # names that exist only for a type checker
        found = {}
        for name, annotation in getattr(target, "__annotations__", {}).items():
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                space = getattr(target, "__globals__", {})
                found |= typing.get_type_hints(alone, space, include_extras=True)
            except (NameError, AttributeError, TypeError):
                found[name] = annotation
        return found


def _is_plain(value: Any) -> bool:
    """Whether a file can hold a value."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Section | int | float | str)


def _as_read(default: Any) -> Any:
    """A default as a file would have given it."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        section = section_of(type(default))
        return section(**{field.name: getattr(default, field.name) for field in dataclasses.fields(default)})
    if isinstance(default, Mapping):
        return dict(default)
    return tuple(default) if isinstance(default, list) else default


def _mapped(annotation: Any) -> Any:
    """The type with which a value in a file is checked, for an annotation of an argument."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation in _PLAIN or annotation is None or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[_mapped(inner[0]), *inner[1:]]
    if origin in (Union, types.UnionType):
        return Union[tuple(_mapped(part) for part in inner if _settable(part))]  # noqa: UP007 (made at run time)
    if origin in (tuple, list, Sequence) or annotation in (tuple, list, Sequence):
        entry = _mapped(inner[0]) if inner else Any
        return Annotated[tuple[entry, ...], Field(strict=False)]
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        return dict[str, _mapped(inner[1]) if inner else Any]
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return section_of(annotation)
    raise UnsettableError(getattr(annotation, "__name__", str(annotation)))


def _settable(annotation: Any) -> bool:
    try:
        _mapped(annotation)
    except UnsettableError:
        return False
    return True
