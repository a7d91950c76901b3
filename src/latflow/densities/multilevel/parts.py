"""Which sites of a level are drawn together, in which order, and how far each looks."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

Cells = frozenset[tuple[int, ...]]
"""Cells of two sites each way, by their coordinates modulo a period."""


class Part(NamedTuple):
    """One kind of the sites of a level, in some of the cells.

    Attributes:
        role: its name, the same on all levels.
        odd: 1 for each direction in which a site of this kind lies at an odd place.
        cells: those of the sites.
        reach: of the window, in spacings of the level.
        period: of `cells`.
    """

    role: str
    odd: tuple[int, ...]
    cells: Cells
    reach: float
    period: int = 2


def _split(role: str, odd: tuple[int, ...], reach: float, *cells: Cells) -> Iterator[Part]:
    """A kind in parts "a", "b", … with these cells."""
    for letter, some in zip("abcd", cells, strict=False):
        yield Part(role + letter, odd, some, reach)


def _colours(dimensions: int) -> tuple[Cells, Cells]:
    """The cells of each colour of a checkerboard."""
    everywhere = frozenset(product((0, 1), repeat=dimensions))
    even = frozenset(cell for cell in everywhere if sum(cell) % 2 == 0)
    return even, everywhere - even


def _pairs() -> Iterator[Cells]:
    """The corners of a cube with the opposite ones: sites 2√3 spacings or more apart."""
    for corner in sorted(_colours(3)[0]):
        yield frozenset({corner, tuple(1 - c for c in corner)})


_PLANE = _colours(2)
_SPACE = _colours(3)
_HALVES = [[frozenset({cell}) for cell in sorted(colour)] for colour in _PLANE]

_A = tuple(_split("A", (1, 1), 4.3, *_HALVES[0]))

_FINEST = {
    2: (*_A, Part("B", (1, 1), _PLANE[1], 3.2)),
    3: (
        *_split("eoo", (0, 1, 1), 4.3, *_pairs()),
        *_split("oeo", (1, 0, 1), 3.5, *_pairs()),
        *_split("ooe", (1, 1, 0), 3.2, *_SPACE),
    ),
}
"""By dimensions: even sites alone, of which the last are independent.

The windows hold 16 to 20 known sites on a plane, and 38 to 66 in space, where fewer of those nearby are known
at first. What windows do not tell is mostly between sites of the first kinds, which come in four parts there.
Of a free field with ξ = L/4 the best linear conditionals leave D_KL(p|q) = 0.021 on 32×32 and 0.108 on 16³.
"""

_COARSER = {
    2: (
        *_A,
        *_split("B", (1, 1), 3.2, *_HALVES[1]),
        *_split("oe", (1, 0), 3.2, *_PLANE),
        *_split("eo", (0, 1), 2.3, *_PLANE),
    ),
    3: (
        *_FINEST[3],
        *_split("ooo", (1, 1, 1), 2.9, *_SPACE),
        *_split("oee", (1, 0, 0), 2.5, *_SPACE),
        *_split("eoe", (0, 1, 0), 2.3, *_SPACE),
        *_split("eeo", (0, 0, 1), 2.3, *_SPACE),
    ),
}
"""By dimensions: of all other levels."""


def parts(dimensions: int, level: int) -> tuple[Part, ...]:
    """Those of a level, in the order in which they are drawn."""
    return (_COARSER if level else _FINEST)[dimensions]


def before(role: str) -> tuple[Part, tuple[Part, ...]]:
    """The part with a role, and those of a level that are drawn before it.

    Raises:
        ValueError: for a role that no part has.
    """
    for some in (*_FINEST.values(), *_COARSER.values()):
        for number, one in enumerate(some):
            if one.role == role:
                return one, some[:number]
    raise ValueError(f"expected the role of sites of a level, such as Aa or eooa, got {role!r}")


def quartered(some: Sequence[Part]) -> Iterator[Part]:
    """The same of a plane, with Aa and Ab in the colours of their own checkerboards: Aa, Ab, Ac and Ad."""
    for half, letters in zip(some[:2], ("ab", "cd"), strict=True):
        (first,) = half.cells
        cells = [
            tuple(c + 2 * up for c, up in zip(first, ups, strict=True)) for ups in product((0, 1), repeat=2)
        ]
        for second, letter in enumerate(letters):
            chosen = frozenset(cell for cell in cells if sum(cell) // 2 % 2 == second)
            yield half._replace(role=f"A{letter}", cells=chosen, period=4)
    yield from some[2:]
