"""Configurations in and out: presets, files, changes on the command line."""

import difflib
import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from latflow.config.schema import SECTIONS, RunConfig
from latflow.errors import ConfigError

_PRESETS = importlib.resources.files("latflow") / "presets"


def preset_names() -> list[str]:
    """The configurations that come with the package."""
    files = (file.name for file in _PRESETS.iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        source: the name of a preset, or the path of a TOML file.
        overrides: changes, "training.batch=512" each. The value is TOML; a bare word is a string, and null
            takes a value away, which leaves the default.

    Raises:
        ConfigError: when there is no such configuration, or a key or value is not legal.

    Example:
        >>> load_config("phi4-8x8", ["training.batch=512"]).training.batch
        512
    """
    try:
        table = tomllib.loads(_text_of(source))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} is no TOML: {error}") from error
    table.setdefault("name", Path(source).stem)
    for override in overrides:
        _apply(table, override)
    return parse_config(table, source)


def parse_config(table: Mapping[str, Any], source: str | Path = "configuration") -> RunConfig:
    """Check a configuration that is a nested dict; `source` names it in errors.

    Raises:
        ConfigError: when a key or value is not legal.
    """
    try:
        return RunConfig.model_validate(table)
    except ValidationError as invalid:
        # a union reports one error for each of its branches: the first of a field says enough
        messages: dict[str, str] = {}
        for error in invalid.errors():
            key, model = _place(error["loc"])
            messages.setdefault(key, _message(error, model))
        lines = [f"{key}: {message}" if key else message for key, message in messages.items()]
        raise ConfigError(f"{source}: " + "\n".join(lines)) from invalid


def to_toml(config: RunConfig) -> str:
    """The whole configuration, defaults too, as a file from which it can be read again."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """The keys in which two configurations differ, with both values."""
    first, second = _flat(one.model_dump()), _flat(other.model_dump())
    keys = [key for key in first | second if first.get(key) != second.get(key)]
    return [f"{key}: {first.get(key)!r} and {second.get(key)!r}" for key in keys]


def _text_of(source: str | Path) -> str:
    if str(source) in preset_names():
        return (_PRESETS / f"{source}.toml").read_text(encoding="utf-8")
    path = Path(source)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    raise ConfigError(
        f"expected a preset or a TOML file, got {str(source)!r}; the presets are {', '.join(preset_names())}"
    )


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


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _place(location: tuple[int | str, ...]) -> tuple[str, type[BaseModel]]:
    """The dotted key of an error, without the branches of unions that pydantic adds, and its section."""
    parts = tuple(map(str, location))
    depth = max(depth for depth in range(len(parts) + 1) if parts[:depth] in SECTIONS)
    shown = parts[: 1 if parts[:1] in (("action",), ("flow",)) else depth]
    return ".".join([*shown, *parts[depth : depth + 1]] if depth else parts[:1]), SECTIONS[parts[:depth]]


def _message(error: ErrorDetails, section: type[BaseModel]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(str(error["loc"][-1]), list(section.model_fields))
        case "missing":
            return "expected a value, got none"
        case "union_tag_not_found":
            return "expected a key 'type'"
        case "union_tag_invalid":
            return f"expected type {context['expected_tags']}, got {context['tag']!r}"
        case "value_error":
            return str(context["error"])
        case _:
            expected = error["msg"].replace("Input should be", "expected")
            return f"{expected}, got {error['input']!r:.80}"


def _unknown_key(key: str, legal: list[str]) -> str:
    close = difflib.get_close_matches(key, legal, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(legal)}"
    return f"unknown key; {hint}"
