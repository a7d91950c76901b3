"""Which links a gauge-equivariant coupling updates, and which loops it may look at meanwhile.

Of the links in one direction μ a pattern picks the active ones, no two of them in one plaquette; ν is the
other direction. Each active link θ_μ(x) lies in the active plaquette P(x), whose new value fixes that of the
link, and in the passive one P(x−ν̂), which follows. All other plaquettes are frozen.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from latflow.types import Lattice, Mask

MASKS = ("diagonal", "stripes")
"""How active links are arranged; either way every link of a direction is active in one of four offsets."""

RECTANGLES = ("none", "frozen", "all")
"""Which of the 2 × 1 loops without active links a coupling sees: none, those at frozen sites, or all."""


@dataclass(frozen=True)
class LinkPattern:
    """The active links of one coupling layer, a quarter of those in its direction.

        diagonal    x_μ ≡ k + 2 (x_ν mod 2)  (mod 4)
        stripes     x_ν ≡ k                  (mod 4)

    Sources: Białas, Korcyl, Stebel, Training normalizing flows with computationally intensive target
    probability distributions, eq. A.1, where the second set should read 4n + 2 + k; Albergo et al.,
    Introduction to normalizing flows for lattice field theory, arXiv:2101.08176.

    Args:
        masks: the arrangement.
        direction: μ, 0 or 1.
        offset: k, 0 to 3.

    Raises:
        ValueError: for another arrangement, direction or offset.
    """

    masks: str
    direction: int
    offset: int

    def __post_init__(self) -> None:
        if self.masks not in MASKS:
            raise ValueError(f"expected masks to be one of {MASKS}, got {self.masks!r}")
        if self.direction not in (0, 1) or self.offset not in range(4):
            raise ValueError(
                f"expected a direction of 0 or 1 and an offset of 0 to 3, got {self.direction}, {self.offset}"
            )

    @classmethod
    def of_layer(cls, layer: int, masks: str) -> "LinkPattern":
        """That of a layer by its number: four offsets in one direction, then four in the other."""
        return cls(masks, layer // 4 % 2, layer % 4)

    @property
    def transverse(self) -> int:
        """ν, the other direction."""
        return 1 - self.direction

    def active(self, lattice: Lattice) -> Mask:
        """The sites x of the active links θ_μ(x), which are those of the active plaquettes.

        Raises:
            ValueError: for a lattice that the pattern cannot tile.
        """
        check_tiling(lattice)
        coordinates = torch.meshgrid(*(torch.arange(side) for side in lattice), indexing="ij")
        along, across = coordinates[self.direction], coordinates[self.transverse]
        if self.masks == "stripes":
            return across % 4 == self.offset
        return (along - 2 * (across % 2)) % 4 == self.offset

    def frozen(self, lattice: Lattice) -> Mask:
        """The plaquettes without an active link."""
        active = self.active(lattice)
        return ~(active | active.roll(-1, self.transverse))

    def visible(self, lattice: Lattice, rectangles: str) -> Tensor:
        """The loops at x that a coupling sees, (loops, L0, L1): P, and those 2 long in ν and in μ.

        None holds an active link. A rectangle of two plaquettes which share an active link does not hold it:
        with "all" the coupling thus sees the sum of each active plaquette and its passive neighbour, which
        its update leaves alone. With "none" there is P alone.
        """
        active, frozen = self.active(lattice), self.frozen(lattice)
        if rectangles == "none":
            return frozen[None]
        long_across = ~(active | active.roll(-2, self.transverse))
        long_along = frozen & frozen.roll(-1, self.direction)
        if rectangles == "frozen":
            long_across, long_along = long_across & frozen, long_along & frozen
        return torch.stack((frozen, long_across, long_along))


class Tables(NamedTuple):
    """A pattern on one lattice.

    Attributes:
        active: the numbers of the active sites in the flattened lattice.
        visible: `LinkPattern.visible`.
    """

    active: Tensor
    visible: Tensor


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # a table made inside that mode could not serve a gradient later
def tables(pattern: LinkPattern, rectangles: str, lattice: Lattice, device: torch.device) -> Tables:
    """The tables of a pattern on a device, kept for the next call."""
    active = pattern.active(lattice).flatten().nonzero()[:, 0]
    return Tables(active.to(device), pattern.visible(lattice, rectangles).to(device))


def check_tiling(lattice: Lattice) -> None:
    """Raise ValueError, naming legal lattices, unless there are two sides and both are multiples of 4."""
    if len(lattice) != 2 or any(side % 4 for side in lattice):
        legal = tuple(max(4, 4 * round(side / 4)) for side in lattice) if len(lattice) == 2 else (8, 8)
        raise ValueError(
            f"the masks of gauge links repeat every 4 sites: expected two sides that are multiples of 4, "
            f"such as {legal}, got {tuple(lattice)}"
        )
