"""Which settings decide the numbers of a stage, and what becomes of it when others are asked for."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from latflow.config import flat

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


def in_words(changed: Differing) -> list[str]:
    """A line for each key."""
    return [f"{key}: {there!r} and {now!r}" for key, (there, now) in changed.items()]
