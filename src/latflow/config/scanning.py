"""A scan: one configuration with lists of values, and the runs that it stands for."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from latflow.config.explaining import with_hints
from latflow.config.lists import Key, replaced, scanned_lists
from latflow.config.reading import PREVIOUS
from latflow.config.sections import Section
from latflow.errors import ConfigError

_MOST_RUNS = 10_000
_UNFIT = re.compile(r"[^\w.+-]+")
"""What names of runs and values in names of folders do not have."""
_LONGEST_VALUE, _LONGEST_NAME = 40, 120
"""Letters in the name of a folder, of which file systems take 255 bytes."""


class ScanTable(Section):
    """The table [scan].

    Attributes:
        zip: keys whose lists go together, value by value, instead of every one with every other; or several
            such groups of keys.
        omega: the exponent ω of corrections to scaling that finite-size fits are to have; they have none
            without.
    """

    omega: Annotated[float, Field(gt=0)] | None = None
    zip: Annotated[tuple[tuple[str, ...], ...], Field(strict=False)] = ()

    @field_validator("zip", mode="before")
    @classmethod
    def _one_group(cls, groups: Any) -> Any:
        if not isinstance(groups, list):
            return groups
        groups = [groups] if all(isinstance(one, str) for one in groups) else groups
        return tuple(tuple(one) if isinstance(one, list) else one for one in groups)

    @field_validator("zip")
    @classmethod
    def _pairs(cls, groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        if any(len(group) < 2 for group in groups):
            raise ValueError("expected at least two keys whose lists go together, got fewer")
        named = [key for group in groups for key in group]
        if len(set(named)) < len(named):
            raise ValueError(f"expected each key once, got {', '.join(named)}")
        return groups


@dataclass(frozen=True)
class Axis:
    """One dimension of a scan: a key with its values, or several keys that go together.

    Attributes:
        keys: as they are written, "action.beta".
        steps: the values of the keys, one entry a step.
    """

    keys: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...]

    @property
    def seeds(self) -> bool:
        """Whether its runs differ in nothing but their random numbers."""
        return self.keys == ("seed",)


@dataclass(frozen=True)
class Point:
    """One run of a scan.

    Attributes:
        folder: the name of its folder, made of its values.
        values: of the scanned keys.
        table: its configuration, not checked; `training.init_from` may still be "previous".
        previous: the folder of the run before it: the one that is a step behind along the last axis at whose
            beginning this one is not. Other seeds are no axis of this sort: they repeat all of it. None for
            a first one.
    """

    folder: str
    values: dict[str, Any]
    table: dict[str, Any]
    previous: str | None

    @property
    def continues(self) -> bool:
        """Whether its training is to begin with the weights of the run before."""
        return self.table.get("training", {}).get("init_from") == PREVIOUS


@dataclass(frozen=True)
class Scan:
    """A configuration with lists, and its runs.

    Attributes:
        name: of its folder where no other is given.
        table: the configuration with the lists.
        axes: in the order of the tables; of the runs the last varies fastest.
        points: the runs.
        omega: of corrections in finite-size fits.
    """

    name: str
    table: dict[str, Any]
    axes: tuple[Axis, ...]
    points: tuple[Point, ...] = field(repr=False)
    omega: float | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All that are scanned, in the order of the axes."""
        return _keys(self.axes)


def scan_of(table: Mapping[str, Any], source: str | Path = "configuration") -> Scan | None:
    """The scan that the tables of a configuration describe; None for those of a single run.

    Every run has random numbers of its own: its seed follows from that of the configuration and from its
    values, so that neighbouring runs are independent. Where seeds alone are scanned they are taken as they
    are.

    Raises:
        ConfigError: naming the key, for lists that make no scan: see `latflow.config.lists.scanned_lists`;
            for values that are there twice, and for more than ten thousand runs.
    """
    try:
        lists = scanned_lists(table)
        if not lists and "scan" not in table:
            return None
        settings = _settings(table)
        axes = _axes(lists, settings.zip)
        if not axes:
            raise ConfigError("scan: expected a list of values for some key, got none")
        if (number := math.prod(len(axis.steps) for axis in axes)) > _MOST_RUNS:
            raise ConfigError(f"expected at most {_MOST_RUNS} runs in a scan, got {number}")
        _check_references(table, lists)
        points = tuple(_points(table, axes))
        return Scan(str(table["name"]), dict(table), axes, points, settings.omega)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _keys(axes: Sequence[Axis]) -> tuple[str, ...]:
    return tuple(key for axis in axes for key in axis.keys)


def _settings(table: Mapping[str, Any]) -> ScanTable:
    try:
        return ScanTable.model_validate(table.get("scan", {}))
    except ValidationError as invalid:
        raise ConfigError(with_hints(invalid, ScanTable, "scan")) from invalid


def _axes(lists: Mapping[Key, Sequence[Any]], pairs: Sequence[Sequence[str]]) -> tuple[Axis, ...]:
    named = {".".join(key): values for key, values in lists.items()}
    group_of = {key: tuple(group) for group in pairs for key in group}
    for key, group in group_of.items():
        if key not in named:
            raise ConfigError(f"scan.zip: expected keys with lists of values, got {key}, which has none")
        if len(named[key]) != len(named[group[0]]):
            raise ConfigError(
                f"scan.zip: expected lists of one length, got {len(named[group[0]])} values of {group[0]} "
                f"and {len(named[key])} of {key}"
            )
    groups = dict.fromkeys(group_of.get(key, (key,)) for key in named)
    axes = tuple(Axis(keys, tuple(zip(*(named[key] for key in keys), strict=True))) for keys in groups)
    short = short_names(_keys(axes))
    for axis in axes:
        steps = [_label(short, dict(zip(axis.keys, step, strict=True))) for step in axis.steps]
        if twice := [step for i, step in enumerate(steps) if step in steps[:i]]:
            raise ConfigError(f"{', '.join(axis.keys)}: expected each value once, got {twice[0]} twice")
    return axes


def _check_references(table: Mapping[str, Any], lists: Mapping[Key, Any]) -> None:
    """Known numbers are those of one theory."""
    theories = [".".join(key) for key in lists if key[0] == "action"]
    for name in table.get("reference", {}):
        if theories and ("reference", name) not in lists:
            raise ConfigError(
                f"reference.{name}: a number of one theory cannot hold for all of a scan of {theories[0]}: "
                f"expected a list of numbers, and [scan] zip = [{theories[0]!r}, 'reference.{name}']"
            )


def _points(table: Mapping[str, Any], axes: Sequence[Axis]) -> list[Point]:
    short = short_names(_keys(axes))
    single = {name: value for name, value in table.items() if name != "scan"}
    values_at, folder_at = {}, {}
    for place in itertools.product(*(range(len(axis.steps)) for axis in axes)):
        steps = zip(axes, place, strict=True)
        values_at[place] = {
            key: value for axis, i in steps for key, value in zip(axis.keys, axis.steps[i], strict=True)
        }
        folder_at[place] = _label(short, values_at[place])
    points = []
    for place, values in values_at.items():
        own = replaced(single, {tuple(key.split(".")): value for key, value in values.items()})
        own["name"] = _run_name(table["name"], folder_at[place])
        seed = own.get("seed", 1)
        if not all(axis.seeds for axis in axes) and isinstance(seed, int):
            own["seed"] = _own_seed(seed, folder_at[place])
        before = _before(place, axes)
        points.append(Point(folder_at[place], values, own, folder_at.get(before) if before else None))
    return points


def _before(place: tuple[int, ...], axes: Sequence[Axis]) -> tuple[int, ...] | None:
    for i in reversed(range(len(axes))):
        if place[i] and not axes[i].seeds:
            return (*place[:i], place[i] - 1, *place[i + 1 :])
    return None


def _own_seed(seed: int, folder: str) -> int:
    from latflow.seeds import derived_seed

    return derived_seed(seed, folder) % 2**63


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """What keys are called in names of folders and in tables: their last word, where no other has it."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)}


def _label(short: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """The name of a folder: "beta=0.62,lattice=16x16". Reference numbers follow from the others."""
    own = {key: value for key, value in values.items() if not key.startswith("reference.")}
    label = ",".join(f"{short[key]}={_text(value)}" for key, value in own.items())
    return label if len(label) <= _LONGEST_NAME else f"{label[:_LONGEST_NAME]}~{_digest(label)}"


def _text(value: Any) -> str:
    """A value in the name of a folder; what a name cannot hold is told apart by a digest."""
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return "x".join(map(str, value))
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        value = "+".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    tail = Path(text).name if isinstance(value, str) else text
    plain = _UNFIT.sub("-", tail)[:_LONGEST_VALUE]
    return plain if plain == text else f"{plain}~{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _run_name(scan: Any, folder: str) -> str:
    """What a run of a scan is called: a name as every run has."""
    words = _UNFIT.sub("-", folder.replace("=", ""))
    return f"{scan}-{words}"[:200]
