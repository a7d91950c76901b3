"""Whether configurations of an ensemble are copies of others, or were never written."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from latflow.theories import Action
from latflow.validation.checks import Check

_FEWEST_RUNS = 10
"""Runs of equal configurations whose lengths say that each was written several times."""
_RARE = 8
"""A configuration of a discrete field that is seen no more often tells of copies, not of probability."""
_FEWEST_PAIRS = 25
_EXCESS = 10.0
"""So many times more pairs at one distance than at others are no chance."""


def numbered(fields: Tensor) -> np.ndarray:
    """A number for each configuration, (steps, chains), equal where all of its numbers are equal."""
    known: dict[bytes, int] = {}
    array = fields.numpy()
    numbers = [
        known.setdefault(hashlib.blake2b(np.ascontiguousarray(one).data, digest_size=16).digest(), len(known))
        for one in array.reshape(-1, *array.shape[2:])
    ]
    return np.array(numbers).reshape(array.shape[:2])


def moved(numbers: np.ndarray) -> np.ndarray:
    """Whether each configuration differs from the one before, (steps, chains); the first one does."""
    return np.concatenate((np.ones_like(numbers[:1], dtype=bool), numbers[1:] != numbers[:-1]))


def copy_checks(action: Action, fields: Tensor, numbers: np.ndarray) -> Iterator[Check]:
    """That configurations are copies of others no more often than chance and rejections make them.

    A chain that rejects a proposal stands still, so that equal neighbours are sound; but not where each
    configuration is there two times, or three. A continuous field never comes back to the same numbers. A
    discrete one does, so that of it those configurations are asked that are seen but a few times, and whether
    they come again after the same number of others.

    Args:
        action: the theory.
        fields: (steps, chains, …).
        numbers: of each configuration, as `numbered`.
    """
    continuous = action.kind.states is None
    if continuous:
        empty = int((fields.flatten(2) == 0).all(2).sum())
        detail = f"{empty} of {numbers.size} configurations are zero at every site"
        yield Check(
            "every configuration was written",
            not empty,
            f"{detail}: the file was not filled" if empty else detail,
        )
    yield _repeats(numbers)
    yield _copies_apart(numbers) if continuous else _copies_in_order(numbers)


def _repeats(numbers: np.ndarray) -> Check:
    """That rejections are the reason of equal neighbours."""
    title = "equal neighbours are rejections"
    lengths = _run_lengths(numbers)
    times = math.gcd(*lengths)
    if times > 1 and len(lengths) >= _FEWEST_RUNS:
        return Check(
            title,
            False,
            f"every configuration stands there {times} times in a row, as no rejections would have it: "
            + _cost(numbers.size, numbers.size // times),
        )
    equal = numbers.size - len(lengths)
    return Check(
        title,
        True,
        f"{equal} of {numbers.size} are equal to the one before, at most {max(lengths)} stand in a row",
    )


def _copies_apart(numbers: np.ndarray) -> Check:
    """That no configuration of a continuous field comes again after others."""
    title = "no configuration comes again"
    runs, distinct = len(_run_lengths(numbers)), len(np.unique(numbers))
    if runs == distinct:
        return Check(title, True, f"{distinct} different ones out of {numbers.size}")
    return Check(
        title,
        False,
        f"{runs - distinct} times a configuration stands where others were before, to the last bit: copies; "
        + _cost(runs, distinct),
    )


def _copies_in_order(numbers: np.ndarray) -> Check:
    """That rare configurations do not come again in the order in which they came before."""
    title = "configurations do not come again in the same order"
    flat = numbers.T.reshape(-1)  # chain after chain
    starts = np.flatnonzero(moved(numbers).T.reshape(-1))
    ids, counts = flat[starts], Counter(flat[starts].tolist())
    places: dict[int, list[int]] = defaultdict(list)
    for place, one in zip(starts.tolist(), ids.tolist(), strict=True):
        if counts[one] <= _RARE:
            places[one].append(place)
    distances = Counter(
        later - place
        for found in places.values()
        for i, place in enumerate(found)
        for later in found[i + 1 :]
        if later - place > len(flat) // 100
    )
    if distances:
        (distance, most), pairs = distances.most_common(1)[0], sum(distances.values())
        rare = sum(map(len, places.values()))
        if most >= _FEWEST_PAIRS and most > _EXCESS * pairs / max(len(flat), 1) and most > pairs / 20:
            return Check(
                title,
                False,
                f"{most} of {rare} rare configurations stand there again {distance} places later: copies; "
                + _cost(len(starts), round(len(starts) * (1 - most / rare))),
            )
    return Check(title, True, f"{len(counts)} different ones out of {numbers.size}")


def _run_lengths(numbers: np.ndarray) -> list[int]:
    """How many equal neighbours stand in a row, run by run, of all chains."""
    starts = np.flatnonzero(moved(numbers).T.reshape(-1))
    return np.diff(np.append(starts, numbers.size)).tolist()


def _cost(there: int, distinct: int) -> str:
    factor = math.sqrt(there / max(distinct, 1))
    return f"{distinct} of {there} are different, and errors that count all are {factor:.2f} times too small"
