"""What tables know of the sites around one: spins as bits, those beyond as one sum, and what is alike."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latflow.densities.multilevel.geometry import Placed, order
from latflow.lattice import volume
from latflow.types import Lattice

Place = tuple[int, int]
"""Steps (y, x) from a site, in spacings of its level."""

BITS = 16
"""At most so many known sites tell by themselves."""

SUMMED = 28
"""At most so many beyond these tell by their sum."""

_HEIGHTS = (4, 2, 1)
"""How much a spin of their first, second and every further shell adds to it."""

_REACH = 9
"""Of all windows, in spacings."""


class Window(NamedTuple):
    """The known sites around each site of a class: whole shells of one distance, the nearest first.

    With b the bits of the nearest W sites, 1 for a spin +1, and u = Σ_k h_k b_k of the sites beyond, a table
    has the index Σ_k 2^k b_k + 2^W u.

    Attributes:
        shells: how many sites each shell of the bits has, from the nearest.
        heights: h of each site that is summed.
        images: the symmetries of the square that map the window onto itself, as permutations of the bits.
    """

    shells: tuple[int, ...]
    heights: tuple[int, ...]
    images: tuple[tuple[int, ...], ...]

    @property
    def summed(self) -> int:
        """The largest u."""
        return sum(self.heights)

    @property
    def bits(self) -> int:
        """W."""
        return sum(self.shells)

    @property
    def weights(self) -> Float[Tensor, "known"]:
        """What each site adds to the index, float32: exact, since the index is far below 2²⁴."""
        powers = [2.0**k for k in range(self.bits)]
        return torch.tensor([*powers, *(height * 2.0**self.bits for height in self.heights)])


class Seen(NamedTuple):
    """A class of sites with its window.

    Attributes:
        one: the class.
        window: what its table knows.
        places: the numbers of the known sites around each, bits first, (sites, known).
    """

    one: Placed
    window: Window
    places: Int[Tensor, "sites known"]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
def windows(lattice: Lattice) -> tuple[Seen, ...]:
    """The classes of even sites of a plane but for the last, in the order in which they are drawn.

    Raises:
        ValueError: for a lattice that is no plane: in space no table could tell apart the spins that matter.
    """
    if len(lattice) != 2:
        raise ValueError(f"expected two sides for a density by tables, got {lattice}: networks serve three")
    known = torch.zeros(lattice, dtype=torch.bool)
    found = []
    for one in list(order(lattice))[:-1]:
        spacing = 2**one.level
        torus = tuple(side // spacing for side in lattice)
        here = torch.stack((one.sites // lattice[1], one.sites % lattice[1]), -1)
        shells = _shells(known, here, spacing, torus)
        bits, summed = _shared_out(shells)
        places = [place for shell in (*bits, *summed) for place in shell]
        images = tuple(_images(bits, summed, torus, square=lattice[0] == lattice[1]))
        heights = tuple(_HEIGHTS[min(k, 2)] for k, shell in enumerate(summed) for _ in shell)
        window = Window(tuple(map(len, bits)), heights, images)
        around = here[:, None] + spacing * torch.tensor(places, dtype=torch.int64).view(1, -1, 2)
        y, x = around.unbind(-1)
        found.append(Seen(one, window, y % lattice[0] * lattice[1] + x % lattice[1]))
        known.view(volume(lattice))[one.sites] = True
    return tuple(found)


def _shells(
    known: Bool[Tensor, "rows columns"], here: Int[Tensor, "sites 2"], spacing: int, torus: Lattice
) -> list[list[Place]]:
    """The places that are known around all of the sites, each once, by their distance."""
    reach = [min(_REACH, side // 2) for side in torus]
    steps = [(y, x) for y in range(-reach[0], reach[0] + 1) for x in range(-reach[1], reach[1] + 1)]
    steps.sort(key=lambda step: (_distance(step), step))
    met: set[Place] = {(0, 0)}
    found = []
    for step in steps:
        if (place := _reduced(step, torus)) in met or _distance(step) > _REACH**2:
            continue
        met.add(place)
        y, x = (here + spacing * torch.tensor(step)).unbind(-1)
        if bool(known[y % known.shape[0], x % known.shape[1]].all()):
            found.append(step)
    return [list(shell) for _, shell in groupby(found, key=_distance)]


def _distance(place: Place) -> int:
    """Its square."""
    return place[0] ** 2 + place[1] ** 2


def _reduced(place: Place, torus: Lattice) -> Place:
    return place[0] % torus[0], place[1] % torus[1]


def _shared_out(shells: Sequence[list[Place]]) -> tuple[list[list[Place]], list[list[Place]]]:
    """The shells of the bits, and those that are summed."""
    bits: list[list[Place]] = []
    summed: list[list[Place]] = []
    for shell in shells:
        if not summed and sum(map(len, bits)) + len(shell) <= BITS:
            bits.append(shell)
        elif sum(map(len, summed)) + len(shell) <= SUMMED:
            summed.append(shell)
        else:
            break
    return bits, summed


def _images(
    bits: Sequence[list[Place]], summed: Sequence[list[Place]], torus: Lattice, *, square: bool
) -> Iterator[tuple[int, ...]]:
    """Of each symmetry of the square that keeps the window: which bit has the place of bit k."""
    order = [_reduced(place, torus) for shell in bits for place in shell]
    rest = {_reduced(place, torus) for shell in summed for place in shell}
    for swap in (False, True) if square else (False,):
        for up in (1, -1):
            for right in (1, -1):

                def turned(place: Place, swap: bool = swap, up: int = up, right: int = right) -> Place:
                    y, x = place[::-1] if swap else place
                    return _reduced((up * y, right * x), torus)

                moved = [turned(place) for place in order]
                if set(moved) == set(order) and {turned(place) for place in rest} == rest:
                    yield tuple(order.index(place) for place in moved)


class Orbits(NamedTuple):
    """Which spins of the bits are alike, by the symmetries of a window and, where it holds, by s → −s.

    Attributes:
        spins: those of one representative of each orbit, (orbits, W).
        orbit: of each pattern of bits; plus the number of orbits where the opposite spins are those alike.
        even: whether an orbit is its own opposite.
    """

    spins: Float[Tensor, "orbits bits"]
    orbit: Int[Tensor, "patterns"]
    even: Bool[Tensor, "orbits"]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def orbits(window: Window, *, z2: bool) -> Orbits:
    """The orbits of a window."""
    pattern, everything = torch.arange(2**window.bits), 2**window.bits - 1
    lowest, opposite = pattern, everything - pattern
    for image in window.images:
        moved = torch.zeros_like(pattern)
        for bit, source in enumerate(image):
            moved |= (pattern >> source & 1) << bit
        lowest = torch.minimum(lowest, moved)
        opposite = torch.minimum(opposite, everything - moved)
    if not z2:
        opposite = torch.full_like(pattern, everything + 1)
    representatives, orbit = torch.unique(torch.minimum(lowest, opposite), return_inverse=True)
    even = torch.zeros(len(representatives), dtype=torch.bool)
    even[orbit[lowest == opposite]] = True
    spins = 2.0 * (representatives[:, None] >> torch.arange(window.bits) & 1) - 1
    orbit = orbit + len(representatives) * (opposite < lowest)
    return Orbits(spins, orbit.int(), even)
