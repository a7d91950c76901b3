"""What is wrong with a section, in one line a key."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MOST_LINES = 20


def explained(invalid: ValidationError, place: str = "") -> str:
    """A line for each key at fault, which names the section and the key, what was expected and what came."""
    messages: dict[str, str] = {}
    for error in invalid.errors():
        names = [str(part) for part in error["loc"] if _is_key(part)]
        key = ".".join([*([place] if place else []), *names])
        # a union reports one error for each of its branches: the first of a field says enough
        messages.setdefault(key, message(error))
    lines = [f"{key}: {message}" if key else message for key, message in messages.items()]
    more = len(lines) - _MOST_LINES
    return "\n".join(lines if more <= 0 else [*lines[:_MOST_LINES], f"and {more} more"])


def unknown_key(key: str, legal: list[str]) -> str:
    """That a key means nothing, and which one may have been meant."""
    close = difflib.get_close_matches(key, legal, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(legal) or 'none'}"
    return f"unknown key; {hint}"


def with_hints(invalid: ValidationError, section: type[BaseModel], place: str = "") -> str:
    """`explained`, where an unknown key at the top of the section is compared with those that it has."""
    lines = []
    for line in explained(invalid, place).split("\n"):
        key, _, message = line.partition(": ")
        if message == _UNKNOWN:
            lines.append(f"{key}: {unknown_key(key.rpartition('.')[2], _keys(section, key, place))}")
        else:
            lines.append(line)
    return "\n".join(lines)


_UNKNOWN = "unknown key"


def _keys(section: type[BaseModel], key: str, place: str) -> list[str]:
    """The legal keys beside an unknown one, which may lie in a section of the section."""
    inside = key.removeprefix(f"{place}.") if place else key
    for name in inside.split(".")[:-1]:
        annotation = section.model_fields[name].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel))
    return list(section.model_fields)


def _is_key(part: int | str) -> bool:
    """Whether a part of a location is a key: pydantic adds the branches of unions and numbers of entries."""
    return isinstance(part, str) and part.isidentifier() and part not in ("int", "float", "str", "bool")


def message(error: ErrorDetails) -> str:
    """What was expected and what came."""
    match error["type"]:
        case "extra_forbidden":
            return _UNKNOWN
        case "missing":
            return "expected a value, got none"
        case "tuple_type":
            return f"expected a list, got {_short(error['input'])}"
        case "value_error":
            return str(error.get("ctx", {})["error"])
        case "string_pattern_mismatch":
            pattern = error.get("ctx", {})["pattern"]
            meaning = _PATTERNS.get(pattern, f"a text that matches {pattern}")
            return f"expected {meaning}, got {_short(error['input'])}"
        case _:
            expected = error["msg"].replace("Input should be", "expected")
            return f"{expected}, got {_short(error['input'])}"


_PATTERNS = {
    r"^[^\x00-\x1f\x7f-\x9f]*$": "one line without control characters",
    r"^\w[\w.+-]*$": "a name of letters, digits, '.', '+', '-' and '_'",
    r"^(auto|cpu|cuda(:\d{1,4})?)$": "'auto', 'cpu', 'cuda' or 'cuda:<number>'",
}
"""What patterns of this package mean."""


def _short(value: Any) -> str:
    return f"{value!r:.80}"
