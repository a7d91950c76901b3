"""Which sites of a level are drawn together, in which order, and how far each looks."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

Cells = frozenset[tuple[int, ...]]
"""Cells of two sites each way, by their coordinates modulo `PERIOD`."""

PERIOD = 4
"""In each direction, the cells of all parts."""


class Part(NamedTuple):
    """One kind of the sites of a level, in some of the cells.

    Attributes:
        role: its name, the same on all levels.
        odd: 1 for each direction in which a site of this kind lies at an odd place.
        cells: those of the sites.
        reach: of the window, in spacings of the level.
    """

    role: str
    odd: tuple[int, ...]
    cells: Cells
    reach: float


def _split(role: str, odd: tuple[int, ...], reaches: tuple[float, ...], *cells: Cells) -> Iterator[Part]:
    """A kind in parts "a", "b", … with these reaches and cells."""
    for letter, reach, some in zip("abcd", reaches, cells, strict=False):
        yield Part(role + letter, odd, some, reach)


def _repeated(*corners: tuple[int, ...]) -> Cells:
    """The cells that lie like one of these in cubes of two cells each way."""
    return frozenset(
        cell
        for cell in product(range(PERIOD), repeat=len(corners[0]))
        if tuple(c % 2 for c in cell) in corners
    )


def _colours(dimensions: int) -> tuple[Cells, Cells]:
    """The cells of each colour of a checkerboard."""
    everywhere = frozenset(product(range(PERIOD), repeat=dimensions))
    even = frozenset(cell for cell in everywhere if sum(cell) % 2 == 0)
    return even, everywhere - even


def _pairs() -> Iterator[Cells]:
    """The corners of a cube with the opposite ones: sites 2√3 spacings or more apart."""
    for corner in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        yield _repeated(corner, tuple(1 - c for c in corner))


def _quarters() -> Iterator[Cells]:
    """Those of a colour of a plane: its halves, each in the colours of its own checkerboard.

    Their sites are 4√2 spacings apart or more.
    """
    for corner in ((0, 0), (1, 1)):
        for colour in (0, 1):
            yield frozenset(cell for cell in _repeated(corner) if sum(c // 2 for c in cell) % 2 == colour)


_PLANE = _colours(2)
_SPACE = _colours(3)

_A = tuple(_split("A", (1, 1), (5.1, 4.3, 5.1, 4.3), *_quarters()))

_FINEST = {
    2: (*_A, Part("B", (1, 1), _PLANE[1], 3.2)),
    3: (
        *_split("eoo", (0, 1, 1), (4.3,) * 4, *_pairs()),
        *_split("oeo", (1, 0, 1), (3.5,) * 4, *_pairs()),
        *_split("ooe", (1, 1, 0), (3.2,) * 2, *_SPACE),
    ),
}
"""By dimensions: even sites alone, of which the last are independent.

The windows hold 20 to 28 known sites on a plane, and 38 to 66 in space, where fewer of those nearby are known
at first. What windows do not tell is mostly between sites of the first kinds, which come in four parts. Of a
free field with ξ = L/4 the best linear conditionals leave D_KL(p|q) = 0.0030 on 32×32 and 0.108 on 16³; with
A in two parts and windows of 16 to 20 sites it was 0.021.
"""

_COARSER = {
    2: (
        *_A,
        *_split("B", (1, 1), (4.5, 4.3), _repeated((0, 1)), _repeated((1, 0))),
        *_split("oe", (1, 0), (3.7, 3.7), *_PLANE),
        *_split("eo", (0, 1), (3.2, 3.1), *_PLANE),
    ),
    3: (
        *_FINEST[3],
        *_split("ooo", (1, 1, 1), (2.9,) * 2, *_SPACE),
        *_split("oee", (1, 0, 0), (2.5,) * 2, *_SPACE),
        *_split("eoe", (0, 1, 0), (2.3,) * 2, *_SPACE),
        *_split("eeo", (0, 0, 1), (2.3,) * 2, *_SPACE),
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
