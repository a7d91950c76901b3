"""Which settings decide the numbers of a stage, and what becomes of it when others are asked for."""

import math
from collections.abc import Callable, Mapping, Set
from typing import Any, Literal

from latflow.config import Given, RunConfig, differing, flat, parse_config
from latflow.errors import ConfigError

Stage = Literal["training", "model", "beside"]
"""What a run computes: the weights, the chain of the model, and the one beside it."""

_OF_ALL = ("action.", "seed", "compute.dtype")

_SECTIONS: dict[Stage, tuple[str, ...]] = {
    "training": ("model.", "training."),
    "model": ("model.", "sampling."),
    "beside": ("beside.", "sampling.save_fields"),
}
"""What decides the numbers of a stage, by the beginnings of its keys; but not how far it goes."""

_LENGTHS: dict[str, Stage] = {
    "training.steps": "training",
    "sampling.steps": "model",
    "beside.steps": "beside",
}

_IN_WORDS: dict[Stage, str] = {
    "training": "the training",
    "model": "the chain of the model",
    "beside": "the chain beside the model",
}

Differing = dict[str, tuple[Any, Any]]
"""Keys with the value that is there and the one that is asked for."""


def depends(stage: Stage, table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the numbers of a stage, by their keys, out of those of a configuration."""
    beginnings = (*_OF_ALL, *_SECTIONS[stage])
    return {k: v for k, v in flat(table).items() if k.startswith(beginnings) and k not in _LENGTHS}


def extension(changed: Differing, count: Callable[[], Mapping[Stage, int]]) -> tuple[Differing, list[str]]:
    """What of a changed configuration a run cannot take over, and what the rest means for it.

    A key is free where no stage that has begun depends on it. The length of a stage may be anything from what
    is done already.

    Args:
        changed: the keys, with the values that are there and those that are asked for.
        count: finds the steps of each stage that has begun.
    """
    done = count()
    refused: Differing = {}
    news = []
    for key, (there, now) in changed.items():
        stage = _LENGTHS.get(key)
        if stage is None:
            if any(depends(one, {key: now}) for one in done):
                refused[key] = there, now
        elif stage in done and (not isinstance(now, int) or now < done[stage]):
            refused[key] = there, now
        elif stage in done:
            news.append(f"{key} = {now}: {_IN_WORDS[stage]} goes on from step {done[stage]}")
    if "training.steps" in changed and not refused and "model" in done:
        news.append(
            f"{_IN_WORDS['model']}, of {done['model']} steps, is computed anew where the training finds "
            "better weights"
        )
    return refused, news


def changed_settings(there: Mapping[str, Any], now: Mapping[str, Any], config: RunConfig) -> Differing:
    """What differs between settings that were kept and those of a configuration.

    A key that was not known then has come with a later version, whose default does what was done before.

    Args:
        there: the settings that were kept, by their keys or as tables.
        now: the same of the configuration.
        config: all of it.
    """
    changed = differing(there, now)
    later = changed.keys() - flat(there).keys()
    if not later:
        return changed
    given = {part.place: part for part in (config.action, config.model) if isinstance(part, Given)}
    try:
        default = flat(plain(parse_config(_without(config.table(), later), given=given).table()))
    except ConfigError:  # one of them has no default
        return changed
    return {key: pair for key, pair in changed.items() if key not in later or pair[1] != default.get(key)}


def _without(table: Mapping[str, Any], keys: Set[str], prefix: str = "") -> dict[str, Any]:
    """Tables without some of their keys, each with those of the tables around it: "training.steps"."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in table.items()
        if prefix + key not in keys
    }


def plain(value: Any) -> Any:
    """The same tree of dicts and lists, with None for the numbers that JSON does not know: nan and inf."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_words(changed: Differing) -> list[str]:
    """A line for each key."""
    return [f"{key}: {there!r} and {now!r}" for key, (there, now) in changed.items()]
