"""The order in which a field is drawn from the coarsest scale to the finest, and what is known by then.

Level l of a lattice in two or three dimensions is the sublattice of spacing b = 2^l. Its sites n with n/b
even in all directions are level l + 1; the others are added, given all that is known already, in classes.
Each has sites of one kind, by the directions in which n/b is odd, in some of the cells of two sites each way,
by the directions in which the cell's own place is odd. On a plane

    Aa … Ad    (odd, odd), one colour of the checkerboard of these sites, in four: two halves, each in the
               colours of its own checkerboard
    Ba, Bb     (odd, odd), the other colour, in two halves
    oea, oeb   (odd, even), by the two colours of their checkerboard
    eoa, eob   (even, odd), likewise

and in space

    eooa … eood   (even, odd, odd), in four: each is every eighth of these sites, and those in the centres
    oeoa … oeod   (odd, even, odd), likewise
    ooea, ooeb    (odd, odd, even), by the two colours of their checkerboard
    oooa, ooob    (odd, odd, odd), likewise
    oee, eoe, eeo with a and b    those with one odd direction, likewise

On level 0 the last are B, one class, and ooeb: given all before them their sites are independent. The others
there are sites of the odd checkerboard, which are no part of this: given the even ones they are independent
too. What cannot be halved any more is the top lattice, whose sites come first, one by one.
"""

from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from itertools import permutations, product
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from latflow.densities.multilevel.parts import PERIOD, Part, before, parts
from latflow.lattice import checked_lattice, volume
from latflow.types import Lattice

TOP = "top"
MOST_TOP_SITES = 36
"""So many networks draw the top lattice, each its own site."""


class Placed(NamedTuple):
    """Sites that are drawn independently of each other.

    Attributes:
        level: of the sublattice to which they belong, 0 the finest.
        role: "Aa", "Ab", …, or "top0", "top1", … of the single sites of the top lattice.
        sites: their numbers in raster order of the whole lattice, (sites,).
    """

    level: int
    role: str
    sites: Int[Tensor, "sites"]

    @property
    def name(self) -> str:
        """Of the class among all, such as "Ba1"; the sites of the top lattice keep their roles."""
        return self.role if self.role.startswith(TOP) else f"{self.role}{self.level}"


class SiteClass(NamedTuple):
    """Sites that are drawn independently of each other, given those that are known.

    Attributes:
        level, role, sites: as of `Placed`.
        window: the numbers of the known sites around each, (known, sites); the number V, one beyond the
            last, where the torus is so small that a place of the window is not known.
        last: whether it is the last class of even sites, whose neighbours have no other unknown site.
    """

    level: int
    role: str
    sites: Int[Tensor, "sites"]
    window: Int[Tensor, "known sites"]
    last: bool = False

    @property
    def name(self) -> str:
        """Of the class among all, as of `Placed`."""
        return Placed(self.level, self.role, self.sites).name


def depth(lattice: Sequence[int]) -> int:
    """How many levels a lattice has beside the top lattice.

    All sides are halved as often as the cells of two sites each way can be coloured like a checkerboard: they
    are an even number in each direction, or one.

    Raises:
        ValueError: unless there are two or three even sides of at least 4 that leave a small top lattice.
    """
    sides = checked_lattice(lattice)
    if len(sides) < 2:
        raise ValueError(f"expected two or three sides for a multilevel density, got {sides}")
    if min(sides) < 4 or any(side % 2 for side in sides):
        raise ValueError(f"expected even sides of at least 4 for a multilevel density, got {sides}")
    levels, halves = 0, [side // 2 for side in sides]
    while all(half == 1 or half % 2 == 0 for half in halves):
        levels += 1
        if 1 in halves:
            break
        halves = [half // 2 for half in halves]
    top = tuple(side >> levels for side in sides)
    if levels == 0 or volume(top) > MOST_TOP_SITES:
        raise ValueError(
            f"expected sides that halve until no more than {MOST_TOP_SITES} sites are left, such as powers "
            f"of 2, got {sides}, which end at {top}"
        )
    return levels


@lru_cache(maxsize=64)
def offsets(role: str) -> list[tuple[int, ...]]:
    """The places of a class's window, in spacings of its level, those nearby first.

    They are the places that are known before the class is drawn, as parity and cell tell, up to a distance.
    """
    one, earlier = before(role)
    steps = range(-int(one.reach), int(one.reach) + 1)
    near = [place for place in product(steps, repeat=len(one.odd)) if 0 < _squared(place) <= one.reach**2]
    return sorted((place for place in near if _is_known(one, earlier, place)), key=lambda p: (_squared(p), p))


@torch.inference_mode(False)
def images(one: SiteClass, lattice: Lattice) -> Int[Tensor, "images known"]:
    """The rotations and reflections of the lattice about a site that keep what is known around it.

    They are orders of the places of the window, the first as it is: a density with the symmetries of the
    lattice is the same for the window in any of them. Of a site of the top lattice there is that one alone.
    """
    as_it_is = torch.arange(len(one.window))
    if one.role.startswith(TOP):
        return as_it_is[None]
    places = offsets(one.role)
    number, unknown = {place: k for k, place in enumerate(places)}, one.window == volume(lattice)
    found = []
    for axes in permutations(range(len(lattice))):
        if tuple(lattice[axis] for axis in axes) != lattice:
            continue
        for signs in product((1, -1), repeat=len(lattice)):
            turned = [
                tuple(sign * place[axis] for sign, axis in zip(signs, axes, strict=True)) for place in places
            ]
            if all(place in number for place in turned):
                order = torch.tensor([number[place] for place in turned])
                if bool((unknown[order] == unknown).all()):
                    found.append(order)
    return torch.stack(found)


def _squared(place: tuple[int, ...]) -> int:
    return sum(step * step for step in place)


def _is_known(one: Part, earlier: Sequence[Part], place: tuple[int, ...]) -> bool:
    """Whether the sites at an offset from all sites of a class are drawn before it."""
    ends = [[2 * c + o + step for c, o, step in zip(cell, one.odd, place, strict=True)] for cell in one.cells]
    odd = tuple(end % 2 for end in ends[0])
    cells = {tuple(end // 2 % PERIOD for end in one_end) for one_end in ends}
    same = [part.cells for part in earlier if part.odd == odd]
    return not any(odd) or cells <= frozenset[tuple[int, ...]]().union(*same)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
def classes(lattice: Lattice) -> tuple[SiteClass, ...]:
    """All classes of even sites, in the order in which they are drawn. Raises as `depth`."""
    known = torch.zeros(volume(lattice) + 1, dtype=torch.bool)
    found = []
    for level, role, sites in order(lattice):
        if role.startswith(TOP):
            window = torch.tensor([int(one.sites) for one in found], dtype=torch.int64)[:, None]
        else:
            steps = torch.tensor(offsets(role))[:, None] * 2**level
            window = _numbers(steps + _places(sites, lattice), lattice)
            window[~known[window]] = volume(lattice)
        known[sites] = True
        found.append(SiteClass(level, role, sites, window))
    return (*found[:-1], found[-1]._replace(last=True))


def order(lattice: Lattice) -> Iterator[Placed]:
    """All classes of even sites, in the order in which they are drawn. Raises as `depth`."""
    levels = depth(lattice)
    spacing = 2**levels
    top = spacing * _grid(*(side // spacing for side in lattice))
    for number, site in enumerate(top):
        yield Placed(levels, f"{TOP}{number}", _numbers(site[None], lattice))
    for level in reversed(range(levels)):
        for role, places in _added(level, lattice):
            yield Placed(level, role, _numbers(places, lattice))


def _added(level: int, lattice: Lattice) -> Iterator[tuple[str, Int[Tensor, "sites dimensions"]]]:
    """The classes that are not empty, and the coordinates of their sites."""
    spacing = 2**level
    cells = _grid(*(side // (2 * spacing) for side in lattice))
    for one in parts(len(lattice), level):
        chosen = cells[[tuple(cell) in one.cells for cell in (cells % PERIOD).tolist()]]
        if len(chosen):
            yield one.role, spacing * (2 * chosen + torch.tensor(one.odd))


def _grid(*sides: int) -> Int[Tensor, "places dimensions"]:
    """All places with coordinates from 0 to below each of the sides, in raster order."""
    return torch.cartesian_prod(*(torch.arange(side) for side in sides))


def _numbers(places: Int[Tensor, "*shape dimensions"], lattice: Lattice) -> Int[Tensor, "*shape"]:
    """The numbers of sites in raster order, from coordinates that may lie beyond the torus."""
    number = torch.zeros_like(places[..., 0])
    for coordinate, side in zip(places.unbind(-1), lattice, strict=True):
        number = number * side + coordinate % side
    return number


def _places(sites: Int[Tensor, "*shape"], lattice: Lattice) -> Int[Tensor, "*shape dimensions"]:
    """The coordinates of sites."""
    return torch.stack(torch.unravel_index(sites, lattice), -1)


def counterpart(one: SiteClass | Placed, there: int, here: int, names: Container[str]) -> str | None:
    """Which class of another lattice has the role of this one.

    The finest levels, the two coarsest and the top lattice keep their roles; levels in between have that of
    the one that is nearest.

    Args:
        one: the class.
        there: how many levels its lattice has.
        here: how many the other has.
        names: of the classes of the other.
    """
    if one.level == there:
        return one.role if one.role in names else None
    nearest = [one.level]
    if one.level >= there - 2:
        nearest = [one.level + here - there]
    elif one.level > here - 3:
        nearest = [here - 2]
    if one.level == 0:
        nearest = [0]
    else:
        nearest += sorted(range(1, here), key=lambda level: abs(level - nearest[0]))
    found = [f"{one.role}{level}" for level in nearest if level > 0 or one.level == 0]
    return next((name for name in found if name in names), None)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def neighbours(lattice: Lattice, parity: int) -> tuple[Int[Tensor, "sites"], Int[Tensor, "neighbours sites"]]:
    """The sites of one colour of the checkerboard, and the 2d neighbours of each."""
    places = _grid(*lattice)
    places = places[places.sum(1) % 2 == parity % 2]
    return _numbers(places, lattice), _numbers(_steps(len(lattice))[:, None] + places, lattice)


@torch.inference_mode(False)
def beyond(sites: Int[Tensor, "sites"], lattice: Lattice) -> Int[Tensor, "neighbours others sites"]:
    """Of each of the 2d neighbours of a site, the 2d − 1 neighbours that are other sites."""
    places, steps, tables = _places(sites, lattice), _steps(len(lattice)), []
    for step in steps:
        others = torch.stack([step + other for other in steps if bool((step + other).any())])
        tables.append(_numbers(others[:, None] + places, lattice))
    return torch.stack(tables)


def _steps(dimensions: int) -> Int[Tensor, "neighbours dimensions"]:
    """To the neighbours of a site: one forwards and one backwards in each direction."""
    ahead = torch.eye(dimensions, dtype=torch.int64)
    return torch.stack((ahead, -ahead), 1).flatten(0, 1)
