"""Named networks for spins, and for fields with q states a site."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from latflow.densities.autoregressive.base import Conditional, Level, SpinNetwork
from latflow.densities.autoregressive.convolution import ConvolutionalConditional
from latflow.densities.autoregressive.dense import DenseConditional
from latflow.densities.autoregressive.hierarchy import Division, NeighbourConditional, divisions
from latflow.densities.autoregressive.values import Values, values_of
from latflow.densities.recipe import recipe_of
from latflow.fields import SPINS, FieldKind
from latflow.lattice import checked_lattice, checked_plane, volume
from latflow.seeds import seeded
from latflow.types import Count, Lattice


def dense_spins(
    lattice: Sequence[int],
    *,
    kind: FieldKind = SPINS,
    hidden: Sequence[Count] = (4,),
    z2: bool | None = None,
    generator: Generator | None = None,
) -> SpinNetwork:
    """A masked dense network over all sites in raster order; its weights grow as V².

    Args:
        lattice: side lengths.
        kind: of the field: spins, or one with q states a site.
        hidden: features at each site, one number for each hidden layer.
        z2: whether q(−s) = q(s) exactly; None for yes where the field has this symmetry, which spins have.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for numbers that are not positive, a continuous field, and z2 for other states than spins.

    >>> q = dense_spins((4, 6))
    >>> s, log_q = q.sample(3, Generator().manual_seed(0))
    >>> s.shape, torch.allclose(log_q, q.log_prob(s))
    (torch.Size([3, 4, 6]), True)
    """
    values, z2 = _values(kind, z2)
    recipe = recipe_of("dense", dense_spins, locals())
    sides, options = checked_lattice(lattice), _options(z2, values, generator)
    conditional = DenseConditional(volume(sides), 0, hidden, **options)
    return _network(sides, [_whole(sides, conditional)], recipe, kind)


def convolutional_spins(
    lattice: Sequence[int],
    *,
    kind: FieldKind = SPINS,
    channels: Count = 8,
    kernels: Sequence[Count] = (15, 5),
    z2: bool | None = None,
    generator: Generator | None = None,
) -> SpinNetwork:
    """A masked convolutional network in raster order; its weights hardly grow with the lattice.

    Args:
        lattice: side lengths.
        kind: of the field: spins, or one with q states a site.
        channels: features at each site.
        kernels: the side of each convolution, odd; one of 2L − 1 reaches every site.
        z2: whether q(−s) = q(s) exactly; None for yes where the field has this symmetry, which spins have.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for an even kernel, no kernel, or no channel, and as `dense_spins`.
    """
    values, z2 = _values(kind, z2)
    recipe = recipe_of("convolutional", convolutional_spins, locals())
    sides, options = checked_lattice(lattice), _options(z2, values, generator)
    conditional = ConvolutionalConditional(sides, channels, kernels, **options)
    return _network(sides, [_whole(sides, conditional)], recipe, kind)


def hierarchical_spins(
    lattice: Sequence[int],
    *,
    kind: FieldKind = SPINS,
    hidden: Sequence[Count] = (4,),
    coupling: float = 0.0,
    z2: bool | None = None,
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
        kind: of the field: spins, or one with q states a site.
        hidden: features at each spin of a block, one number for each hidden layer.
        coupling: where the coupling of the heat bath starts; training finds K, the exact one.
        z2: whether q(−s) = q(s) exactly; None for yes where the field has this symmetry, which spins have.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice that is not two-dimensional, and as `dense_spins`.
    """
    values, z2 = _values(kind, z2)
    recipe = recipe_of("hierarchical", hierarchical_spins, locals())
    sides, options = checked_plane(lattice), _options(z2, values, generator)

    def conditional(level: Division) -> Conditional:
        context, spins = level.contexts.shape[1], level.blocks.shape[1]
        if level.single:
            return NeighbourConditional(context, coupling, z2=z2, values=values)
        return DenseConditional(spins, context, hidden, **options)

    levels = [Level(level.contexts, level.blocks, conditional(level)) for level in divisions(sides)]
    return _network(sides, levels, recipe, kind)


def _values(kind: FieldKind, z2: bool | None) -> tuple[Values, bool]:
    """The values of a site, and whether the network is to have the symmetry of a sign."""
    values = values_of(kind)
    if z2 and not values.signs:
        raise ValueError(f"expected z2 = false for a field of {kind}: only spins ±1 can change their sign")
    return values, values.signs if z2 is None else z2


def _options(z2: bool, values: Values, generator: Generator | None) -> dict[str, Any]:
    """What all conditionals of a network share."""
    return {"z2": z2, "values": values, "generator": seeded(generator)}


def _network(
    lattice: Lattice, levels: Sequence[Level], recipe: dict[str, Any], kind: FieldKind
) -> SpinNetwork:
    return SpinNetwork(lattice, levels, recipe, kind=kind, symmetries=("z2",) if recipe["z2"] else ())


def _whole(lattice: Lattice, conditional: Conditional) -> Level:
    """The whole lattice in raster order as one block, without context."""
    return Level(torch.empty(1, 0, dtype=torch.int64), torch.arange(volume(lattice))[None], conditional)
