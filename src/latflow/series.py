"""Series of numbers by name that are not all in memory at once."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


class Changed(Mapping[str, np.ndarray]):
    """Series to each of which a function is applied when it is asked for.

    Args:
        series: by name.
        change: of a series, given its name and its numbers.
    """

    def __init__(self, series: Mapping[str, Any], change: Callable[[str, Any], np.ndarray]) -> None:
        self._series, self._change = series, change

    def __getitem__(self, name: str) -> np.ndarray:
        return self._change(name, self._series[name])

    def __contains__(self, name: object) -> bool:
        return name in self._series  # without a look at the numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)


class Loaded(Mapping[str, np.ndarray]):
    """Series that are read when they are asked for; the last ones are kept, up to some size together.

    Args:
        names: of all of them.
        load: reads one.
        kept: bytes of those that stay; the last one stays in any case.
    """

    def __init__(self, names: tuple[str, ...], load: Callable[[str], np.ndarray], kept: int) -> None:
        self._names, self._load, self._kept = names, load, kept
        self._there: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        values = self._there.pop(name) if name in self._there else self._load(name)
        self._there[name] = values  # behind all others
        while len(self._there) > 1 and sum(one.nbytes for one in self._there.values()) > self._kept:
            del self._there[next(iter(self._there))]
        return values

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
