"""Named networks for spins."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator

from latflow.autoregressive.base import Conditional, Level, SpinNetwork
from latflow.autoregressive.convolution import ConvolutionalConditional
from latflow.autoregressive.dense import DenseConditional
from latflow.autoregressive.hierarchy import Division, NeighbourConditional, divisions
from latflow.lattice import checked_lattice, checked_plane, volume
from latflow.types import Lattice


def dense_spins(
    lattice: Sequence[int],
    *,
    hidden: Sequence[int] = (4,),
    z2: bool = True,
    generator: Generator | None = None,
) -> SpinNetwork:
    """A masked dense network over all sites in raster order; its weights grow as V².

    Args:
        lattice: side lengths.
        hidden: features at each site, one number for each hidden layer.
        z2: whether q(−s) = q(s) exactly.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for numbers that are not positive.

    >>> q = dense_spins((4, 6))
    >>> s, log_q = q.sample(3, Generator().manual_seed(0))
    >>> s.shape, torch.allclose(log_q, q.log_prob(s))
    (torch.Size([3, 4, 6]), True)
    """
    sides = checked_lattice(lattice)
    recipe = {"type": "dense", "lattice": list(sides), "hidden": list(hidden), "z2": z2}
    conditional = DenseConditional(volume(sides), 0, hidden, z2=z2, generator=_seeded(generator))
    return SpinNetwork(sides, [_whole(sides, conditional)], recipe)


def convolutional_spins(
    lattice: Sequence[int],
    *,
    channels: int = 8,
    kernels: Sequence[int] = (15, 5),
    z2: bool = True,
    generator: Generator | None = None,
) -> SpinNetwork:
    """A masked convolutional network in raster order; its weights hardly grow with the lattice.

    Args:
        lattice: side lengths.
        channels: features at each site.
        kernels: the side of each convolution, odd; one of 2L − 1 reaches every site.
        z2: whether q(−s) = q(s) exactly.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for an even kernel, no kernel, or no channel.
    """
    sides = checked_lattice(lattice)
    options = {"channels": channels, "kernels": list(kernels), "z2": z2}
    conditional = ConvolutionalConditional(sides, **options, generator=_seeded(generator))
    recipe = {"type": "convolutional", "lattice": list(sides)} | options
    return SpinNetwork(sides, [_whole(sides, conditional)], recipe)


def hierarchical_spins(
    lattice: Sequence[int],
    *,
    hidden: Sequence[int] = (4,),
    coupling: float = 0.0,
    z2: bool = True,
    generator: Generator | None = None,
) -> SpinNetwork:
    """A boundary, then lines that divide what is left, level by level, and single spins by the heat bath.

    All blocks of a level are drawn at once, so that a lattice of L² sites takes some 5 L steps instead of L²,
    and one masked dense network serves them all. It is exact in structure for nearest-neighbour interactions,
    and shares weights between blocks as uniform couplings have it; with other couplings it is a density like
    any other, only less close. Source: Białas, Korcyl, Stebel, Hierarchical autoregressive neural networks
    for statistical systems, arXiv:2203.10989.

    Args:
        lattice: two side lengths, each at least 2, best powers of two.
        hidden: features at each spin of a block, one number for each hidden layer.
        coupling: where the coupling of the heat bath starts; training finds K, the exact one.
        z2: whether q(−s) = q(s) exactly.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice that is not two-dimensional, and numbers that are not positive.
    """
    sides, seeded = checked_plane(lattice), _seeded(generator)
    options = {"hidden": list(hidden), "coupling": coupling, "z2": z2}

    def conditional(level: Division) -> Conditional:
        context, spins = level.contexts.shape[1], level.blocks.shape[1]
        if level.single:
            return NeighbourConditional(context, coupling, z2=z2)
        return DenseConditional(spins, context, hidden, z2=z2, generator=seeded)

    levels = [Level(level.contexts, level.blocks, conditional(level)) for level in divisions(sides)]
    return SpinNetwork(sides, levels, {"type": "hierarchical", "lattice": list(sides)} | options)


BUILDERS: dict[str, Callable[..., SpinNetwork]] = {
    "dense": dense_spins,
    "convolutional": convolutional_spins,
    "hierarchical": hierarchical_spins,
}
"""The presets by the name that a configuration or a file uses."""


def _seeded(generator: Generator | None) -> Generator:
    return generator or Generator().manual_seed(0)


def _whole(lattice: Lattice, conditional: Conditional) -> Level:
    """The whole lattice in raster order as one block, without context."""
    return Level(torch.empty(1, 0, dtype=torch.int64), torch.arange(volume(lattice))[None], conditional)
