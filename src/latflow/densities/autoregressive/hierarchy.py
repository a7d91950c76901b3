"""A hierarchy of blocks: a boundary first, then lines that divide what it encloses, down to single spins."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from latflow.densities.autoregressive.base import Conditional
from latflow.densities.autoregressive.values import Rows, Signs, Values
from latflow.types import Lattice


@dataclass(frozen=True)
class Division:
    """The tables of one level: sites in raster order, a row for each block.

    Attributes:
        contexts: the sites that surround a block, as far as its spins interact with them.
        blocks: the sites that are drawn.
        single: whether each block is one spin, whose context are its nearest neighbours in all directions.
    """

    contexts: Int[Tensor, "blocks context"]
    blocks: Int[Tensor, "blocks spins"]
    single: bool


def divisions(lattice: Lattice) -> list[Division]:
    """The levels of a two-dimensional lattice, the boundary first.

    The boundary is row 0 and column 0: on the torus it encloses a rectangle of (L0 − 1)(L1 − 1) sites. A
    rectangle within a frame of a × b is divided by the row a/2, if a is even and above 2, and by the column
    b/2 likewise; the rectangles that remain are alike. One that cannot be divided is drawn whole; where all
    sides are powers of two it is a single spin. Given its frame, a rectangle of a theory with
    nearest-neighbour interactions is independent of everything else.
    """
    rows, columns = lattice
    boundary = [(0, c) for c in range(columns)] + [(r, 0) for r in range(1, rows)]
    levels = [Division(torch.empty(1, 0, dtype=torch.int64), _sites([(0, 0)], boundary, lattice), False)]
    origins, a, b = [(0, 0)], rows, columns
    while True:
        row = a // 2 if a % 2 == 0 and a > 2 else None
        column = b // 2 if b % 2 == 0 and b > 2 else None
        frame = [(0, c) for c in range(1, b)] + [(a, c) for c in range(1, b)]
        frame += [(r, 0) for r in range(1, a)] + [(r, b) for r in range(1, a)]
        contexts = _sites(origins, frame, lattice)
        inside = [(r, c) for r in range(1, a) for c in range(1, b)]
        if row is None and column is None:
            single = len(inside) == 1
            contexts = contexts if single else _distinct(contexts)
            return [*levels, Division(contexts, _sites(origins, inside, lattice), single)]
        lines = [site for site in inside if site[0] == row or site[1] == column]
        levels.append(Division(_distinct(contexts), _sites(origins, lines, lattice), False))
        down, across = (0, row) if row else (0,), (0, column) if column else (0,)
        origins = [(r + dr, c + dc) for r, c in origins for dr in down for dc in across]
        a, b = row or a, column or b


class NeighbourConditional(Conditional):
    """A single site in the local field of its neighbours.

        p(x) ∝ exp(f·e(x)),   f = K Σ_neighbours e(y) + h

    For spins e(s) = s, with the log-odds a = 2 (K Σ s + h) of +1. For q states it is a_s = K n_s + h_s with
    the number n_s of neighbours in the state s. At the K and h of an Ising model or a Potts model with
    uniform couplings, which training finds, it is the heat bath.

    Args:
        neighbours: how many there are, 2d.
        coupling: K at the start.
        z2: whether h is zero for ever.
        values: of a site.
    """

    def __init__(self, neighbours: int, coupling: float, *, z2: bool, values: Values | None = None) -> None:
        super().__init__()
        self.spins: int = 1
        self.context: int = neighbours
        self.values: Values = values or Signs()
        self.coupling: nn.Parameter = nn.Parameter(torch.tensor(coupling))
        self.field: nn.Parameter | None = None if z2 else nn.Parameter(torch.zeros(self.values.features, 1))

    def logits(self, context: Rows, spins: Rows) -> Rows:  # noqa: ARG002 (a single site has none before)
        local = self.coupling * context.unflatten(0, (self.context, -1)).sum(0)
        return self.values.outputs_of(local if self.field is None else local + self.field)

    def begin(self, context: Rows) -> list[Tensor]:
        """The context: there is nothing else to know."""
        return [context]

    def advance(self, cache: list[Tensor], i: int) -> Rows:  # noqa: ARG002 (i is 0)
        return self.logits(cache[0], cache[0])

    def set(self, cache: list[Tensor], i: int, spin: Rows) -> None:
        """No later site would look."""


def _sites(
    origins: list[tuple[int, int]], offsets: list[tuple[int, int]], lattice: Lattice
) -> Int[Tensor, "blocks sites"]:
    rows, columns = lattice
    return torch.tensor(
        [[(r + dr) % rows * columns + (c + dc) % columns for dr, dc in offsets] for r, c in origins]
    )


def _distinct(contexts: Int[Tensor, "blocks sites"]) -> Int[Tensor, "blocks distinct"]:
    """Without columns that repeat another: around the torus two sides of a frame can be the same sites."""
    first = [
        j
        for j in range(contexts.shape[1])
        if not bool((contexts[:, :j] == contexts[:, j : j + 1]).all(0).any())
    ]
    return contexts[:, first]
