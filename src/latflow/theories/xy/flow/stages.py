"""The order in which a flow draws the sites of a lattice: from the coarsest sublattice to the finest.

Level l of a lattice with sides that halve n times, l < n, is the sublattice of spacing b = 2^l. Its sites
whose numbers x_μ/b are all even are level l + 1; the others are classes, by which of the numbers are odd.
Given the coarser level, classes with an even number of odd ones come first, then those with an odd number;
of each one colour of a checkerboard after the other. On the finest level the last are one class, for no two
of them are neighbours: given the rest, they are independent.
"""

import itertools
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.lattice import check_even
from latflow.types import Lattice

TOP, BEFORE, LAST = "top", "before", "last"
"""Roles of the single sites of the coarsest lattice, and of the two classes that end the draw. No two sites
of the last are neighbours, and no two of the one before have a neighbour in common: given all that was drawn
earlier, the sites of each are independent, and their distribution is known in closed form."""


class Stage(NamedTuple):
    """Sites that are drawn independently, given those that are known.

    Attributes:
        level: of the sublattice on which they are, 0 the finest.
        role: of the class: a network for each.
        active: the numbers of the sites in the flattened lattice, (active,).
        window: the numbers of the sites around each, (active, offsets), for offsets at which any is known.
        known: whether the site at an offset is known, (active, offsets), as 0 and 1.
        offsets: the numbers of these offsets among `offsets_within`.
    """

    level: int
    role: str
    active: Tensor
    window: Tensor
    known: Tensor
    offsets: Tensor


_COLOURS = "ab"
"""Of the checkerboard by which each class is split."""


def offsets_within(reach: int, dimensions: int) -> Tensor:
    """The window of a site without the site itself, in spacings: (offsets, dimensions)."""
    steps = itertools.product(range(-reach, reach + 1), repeat=dimensions)
    return torch.tensor([step for step in steps if any(step)])


def roles(dimensions: int) -> list[str]:
    """The classes of a level in the order of the draw: "11a", "11b", "10a", "10b", "01a", "01b"."""
    patterns = ["".join(digits) for digits in itertools.product("10", repeat=dimensions)][:-1]
    ordered = sorted(patterns, key=lambda pattern: (pattern.count("1") % 2, -pattern.count("1")))
    return [pattern + colour for pattern in ordered for colour in _COLOURS]


def _last_even(dimensions: int) -> str:
    """The role after which only sites of odd parity are left; none in one dimension."""
    return next((role for role in reversed(roles(dimensions)) if role.count("1") % 2 == 0), "")


def levels(lattice: Lattice) -> int:
    """How often all sides can be halved.

    Raises:
        ValueError: when a side is odd.
    """
    check_even(lattice)
    return next(n for n in itertools.count() if any(side % 2 ** (n + 1) for side in lattice))


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
def stages(lattice: Lattice, reach: int, device: torch.device) -> tuple[Stage, ...]:
    """All stages of a draw; the first site of the coarsest lattice, which has a uniform angle, is none.

    Args:
        lattice: its sides, all even.
        reach: of the windows, in spacings; never further than half around the lattice.
        device: of the tables.

    Raises:
        ValueError: when a side is odd.
    """
    highest = levels(lattice)
    sites = torch.stack(torch.meshgrid(*(torch.arange(side) for side in lattice), indexing="ij")).flatten(1).T
    found: list[Stage] = []
    known = torch.zeros(len(sites), dtype=torch.bool)

    def draw(level: int, role: str, chosen: Tensor) -> None:
        if bool(chosen.any()):
            found.append(_stage(level, role, lattice, reach, sites, chosen, known, device))
            known[chosen] = True

    top = (sites % 2**highest == 0).all(1).nonzero()[:, 0]
    known[top[0]] = True
    for site in top[1:]:
        draw(highest, TOP, torch.arange(len(sites)) == site)
    for level in range(highest - 1, -1, -1):
        numbers = torch.div(sites, 2**level, rounding_mode="floor")
        on_level = (sites % 2**level == 0).all(1)
        colour = torch.div(numbers, 2, rounding_mode="floor").sum(1) % 2
        coloured = all(side // 2 ** (level + 1) % 2 == 0 for side in lattice)
        for role in roles(len(lattice)):
            pattern = torch.tensor([int(digit) for digit in role[: len(lattice)]])
            chosen = on_level & (numbers % 2 == pattern).all(1)
            if level == 0 and pattern.sum() % 2:
                continue
            # where the coarser lattice has no checkerboard, all sites are of the first colour
            chosen &= (colour if coloured else 0 * colour) == _COLOURS.index(role[-1])
            ends = level == 0 and coloured and role == _last_even(len(lattice))
            draw(level, BEFORE if ends else role, chosen)
    draw(0, LAST, sites.sum(1) % 2 == 1)
    return tuple(found)


def _stage(
    level: int,
    role: str,
    lattice: Lattice,
    reach: int,
    sites: Tensor,
    chosen: Tensor,
    known: Tensor,
    device: torch.device,
) -> Stage:
    offsets = offsets_within(reach, len(lattice)) * 2**level
    sides = torch.tensor(lattice)
    active = chosen.nonzero()[:, 0]
    strides = torch.tensor([sides[mu + 1 :].prod() for mu in range(len(lattice))])
    window = (((sites[active][:, None] + offsets) % sides) * strides).sum(-1)
    near = (2 * offsets.abs() <= sides).all(1)
    seen = known[window] & near
    used = seen.any(0).nonzero()[:, 0]
    tables = (active, window[:, used], seen[:, used].to(torch.get_default_dtype()), used)
    return Stage(level, role, *(table.to(device) for table in tables))
