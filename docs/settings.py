"""The page of settings: every key with its default and meaning, from signatures and docstrings."""

import inspect
import json
import textwrap
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import griffe
from annotated_types import Ge, Gt, Lt

from latflow.config import (
    BesideConfig,
    ComputeConfig,
    SamplingConfig,
    Section,
    Tables,
    load_config,
    section_of,
)
from latflow.config.parts import arguments_section
from latflow.config.schema import training_section
from latflow.config.stages import ChainConfig
from latflow.estimators import ESTIMATORS, ScoreFunction
from latflow.registry import Group, load, names
from latflow.training import Anneal, Curriculum, Schedule, Trainer

EXAMPLE = "phi4-8x8"
"""The preset whose theory and model stand in the complete file."""

_WIDTH = 72
_PLAIN = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Any: "any value",
    dict: "table",
}


class Key(NamedTuple):
    """A key of a section.

    Attributes:
        name: of the key.
        values: that are legal, in words.
        default: as a file has it; None where there is none.
        needed: whether it has to be given.
        meaning: in words.
    """

    name: str
    values: str
    default: str | None
    needed: bool
    meaning: str


def keys_of(section: type[Section], *described: Any) -> list[Key]:
    """The keys of a section, with the words of the fields or else of the docstrings of these objects."""
    words = {name: text for one in described for name, text in _words(one).items()}
    keys = []
    for name, field in section.model_fields.items():
        default = None if field.is_required() else _toml(field.get_default(call_default_factory=True))
        meaning = " ".join((field.description or words.get(name, "")).split())
        keys.append(
            Key(name, _values(field.annotation, *field.metadata), default, field.is_required(), meaning)
        )
    return keys


def shared() -> dict[str, list[Key]]:
    """The sections that all configurations share by their headings; "" is the top of the file."""
    tables = {"action", "model", "training", "sampling", "beside", "compute", "reference"}
    top = [key for key in keys_of(Tables, Tables) if key.name not in tables]
    training = [key for key in keys_of(training_section(), Trainer) if key.name not in nested()]
    beside = keys_of(BesideConfig, ChainConfig, BesideConfig)
    of_theory = {"kernels": None}  # none at first is what the theory names, and none in a file is refused
    return {
        "": top,
        "training": training,
        "sampling": keys_of(SamplingConfig, ChainConfig, SamplingConfig),
        "beside": [key._replace(default=of_theory.get(key.name, key.default)) for key in beside],
        "compute": keys_of(ComputeConfig, ComputeConfig),
    }


def nested() -> dict[str, list[Key]]:
    """The tables within [training]."""
    parts = {"schedule": Schedule, "anneal": Anneal, "curriculum": Curriculum}
    return {name: keys_of(section_of(part), part) for name, part in parts.items()}


def registered(group: Group) -> dict[str, list[Key]]:
    """The names that a group has, and the keys of each."""
    return {name: keys_of(arguments_section(group, name), load(group, name)) for name in names(group)}


def estimators() -> dict[str, list[Key]]:
    """The estimators, and the settings of each; the only one of a score function is in its name."""
    kinds = {name: type(one) for name, one in ESTIMATORS.items()}
    return {
        name: [] if kind is ScoreFunction else keys_of(section_of(kind), kind) for name, kind in kinds.items()
    }


def file() -> str:
    """The complete file: a theory, a model, and all that configurations share, at their defaults."""
    config = load_config(EXAMPLE)
    assert config.model is not None
    top, *others = shared().values()
    blocks = {
        "action": _given("theories", config.action.table()),
        "model": _given("densities", config.model.table()),
        **dict(zip(list(shared())[1:], others, strict=True)),
    }
    name, *rest = top
    lines = _lines([name._replace(default=_toml(EXAMPLE)), *rest])
    for heading, keys in blocks.items():
        lines += ["", f"[{heading}]", *_lines(keys)]
    lines += ["", "[reference]", *_comment(_words(Tables)["reference"]), '# log_z = "9.29135(1)"']
    return "\n".join(lines) + "\n"


def _given(group: Group, table: dict[str, Any]) -> list[Key]:
    """The keys of a part by its table in a configuration, with the values there for those that are needed."""
    legal = f"one of {', '.join(names(group))}, or one of your own"
    keys = registered(group)[table["type"]]
    given = [key._replace(default=_toml(table[key.name])) if key.needed else key for key in keys]
    return [Key("type", "", _toml(table["type"]), needed=True, meaning=legal), *given]


def tables(sections: dict[str, list[Key]], prefix: str = "") -> str:
    """A table of keys for each section; what has none is named in one line at the end."""
    parts, bare = [], []
    for name, keys in sections.items():
        if not keys:
            bare.append(f"`{name}`")
            continue
        rows = [
            f"| `{key.name}` | {_default(key)} | {_cell(key.values)} | {_cell(key.meaning)} |" for key in keys
        ]
        head = ["| key | default | values | |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"**`{prefix}{name}`**", "", *head, *rows]))
    if bare:
        parts.append(f"Without keys: {', '.join(bare)}.")
    return "\n\n".join(parts)


MARKERS = {
    "<!-- file -->": lambda: f"```toml\n{file()}```",
    "<!-- training -->": lambda: tables(nested(), "training."),
    "<!-- estimators -->": lambda: tables(estimators()),
    "<!-- theories -->": lambda: tables(registered("theories")),
    "<!-- densities -->": lambda: tables(registered("densities")),
    "<!-- samplers -->": lambda: tables(registered("samplers")),
}
"""What stands in the page for each part."""


def with_settings(markdown: str) -> str:
    """A page with what its markers ask for."""
    for marker, made in MARKERS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, made())
    return markdown


def _lines(keys: list[Key]) -> list[str]:
    lines = []
    for key in keys:
        lines += _comment(f"{key.meaning} ({key.values})" if key.values else key.meaning)
        lines.append(f"{key.name} = {key.default}" if key.default is not None else f"# {key.name} = …")
    return lines


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _default(key: Key) -> str:
    if key.needed:
        return "needed"
    return "–" if key.default is None else f"`{_cell(key.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _words(described: Any) -> dict[str, str]:
    """What a docstring says of each argument or attribute."""
    sections = griffe.Docstring(inspect.getdoc(described) or "").parse("google", warnings=False)
    listed = [
        entry for one in sections if one.kind.value in ("parameters", "attributes") for entry in one.value
    ]
    return {name.strip(): entry.description for entry in listed for name in entry.name.split(",")}


def _toml(value: Any) -> str | None:
    if value is None or isinstance(value, Section):
        return None
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }" if value else "{}"
        )
    return json.dumps(value, ensure_ascii=False)


def _values(annotation: Any, *bounds: Any) -> str:
    """The legal values of an annotation, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], *inner[1:], *bounds)
    if origin is Literal:
        return ", ".join(json.dumps(one) for one in inner)
    if origin in (Union, UnionType):
        return " or ".join(_values(one) for one in inner if one is not type(None))
    if origin is tuple:
        return f"list of {_plural(_values(inner[0]))}"
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return "table"
    word = _PLAIN.get(origin or annotation, str(annotation))
    limits = [limit for bound in bounds for limit in _limit(bound)]
    return " ".join([word, " and ".join(limits)]) if limits else word


def _plural(words: str) -> str:
    """Of "integer ≥ 1", "integers ≥ 1"."""
    first, *rest = words.split(" ", 1)
    return " ".join([f"{first}s", *rest])


def _limit(bound: Any) -> Iterator[str]:
    """A bound in words; what only stops slips of the hand, such as 10¹², is left out."""
    match bound:
        case Ge(limit):
            yield f"≥ {limit}"
        case Gt(limit):
            yield f"> {limit}"
        case Lt(limit) if limit < 2**31:
            yield f"< {limit}"
