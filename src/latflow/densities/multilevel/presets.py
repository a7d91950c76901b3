"""The multilevel density by name."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Generator

from latflow.compiled import as_foreseen
from latflow.densities.multilevel.bonded import BondedMultilevel
from latflow.densities.multilevel.counted import CountedMultilevel
from latflow.densities.multilevel.density import Multilevel, new_networks
from latflow.densities.multilevel.geometry import depth
from latflow.densities.multilevel.kinds import conditional_of
from latflow.densities.multilevel.spans import Span
from latflow.densities.recipe import recipe_of
from latflow.lattice import checked_lattice
from latflow.seeds import seeded
from latflow.theories.base import Action
from latflow.theories.neighbours import BondedSpins, NearestNeighbours
from latflow.types import Count, Whole


def multilevel(
    lattice: Sequence[int],
    *,
    action: Action,
    conditional: Literal["networks", "tables"] = "networks",
    width: Count | None = None,
    nodes: Count | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    degree: Whole = 3,
    compiled: bool | Literal["auto"] = False,
    generator: Generator | None = None,
) -> Multilevel | CountedMultilevel | BondedMultilevel:
    """A field drawn from the coarsest scale to the finest, each site from a window of known sites around it.

    It serves theories in two and three dimensions whose sites are coupled to nearest neighbours alone, the
    same everywhere, as `Action.nearest_neighbours` says, be they real numbers, spins, states or angles: their
    odd sites are integrated out exactly, and the last of the even ones have their exact density too. Spins
    may have a coupling of its own for every bond: then every site has a network of its own.

    What a site is like in its window a network says, to be trained with the estimator `soft_labels`, or for
    spins on a plane a table, to be made with the estimator `counting`: without gradients, in far less time,
    and better.

    With `ranges` one density serves all couplings in them: every number of the networks is a polynomial of
    the couplings. As it is, it is the density for those of the action; `at` makes it that for others. Train
    it with `soft_labels_in_ranges`.

    Args:
        lattice: two or three sides that halve until few sites are left, such as powers of 2.
        action: has `nearest_neighbours`, or `coupled_sites` that are spins.
        conditional: by what a site is drawn, "networks" or "tables".
        width: of the networks; None for 32, or 16 where every site has its own.
        nodes: of the grid on which densities of real numbers or angles are normalised; None for as many as
            resolve the theory.
        ranges: by the names of couplings of the action, the lowest and the highest for which the density is;
            None for those of the action alone.
        degree: of the polynomials, where there are ranges.
        compiled: whether draws of real numbers or angles are compiled for the CPU, which takes some ten
            seconds and pays from ten to fifty thousand fields on; "auto" where there is a C++ compiler and a
            known version of PyTorch. A GPU draws as without.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for another theory, a lattice that does not halve often enough, and ranges that do not
            hold the couplings of the action; for tables of real numbers or in three dimensions, and with
            settings of networks; for couplings that differ of what is no spins, and with tables, nodes or
            ranges; for compiled draws of what has no grid, or with ranges.

    >>> from latflow.theories import HoppingPhi4
    >>> import torch
    >>> q = multilevel((8, 8), action=HoppingPhi4((8, 8), beta=0.58, lam=0.5))
    >>> x, log_q = q.sample(3, Generator().manual_seed(0))
    >>> x.shape, torch.allclose(log_q, q.log_prob(x), atol=1e-3)
    (torch.Size([3, 8, 8]), True)
    """
    recipe = recipe_of("multilevel", multilevel, locals())
    sides = checked_lattice(lattice)
    depth(sides)
    theory = action.coupled_sites()
    if theory is None or theory.lattice != sides:
        raise ValueError(
            f"expected a theory on {sides} of sites that are coupled to nearest neighbours for a multilevel "
            f"density, got {action.words.name} on {action.lattice}"
        )
    if width is not None and width < 1:
        raise ValueError(f"expected a positive width, got {width}")
    if conditional not in ("networks", "tables"):
        raise ValueError(f"expected conditional 'networks' or 'tables', got {conditional!r}")
    if not isinstance(theory, NearestNeighbours):
        if not isinstance(theory, BondedSpins):
            raise ValueError(f"expected spins where couplings differ, got {type(theory).__name__}")
        if conditional == "tables" or nodes is not None or ranges is not None or compiled:
            raise ValueError(
                "expected neither tables nor nodes nor ranges nor compiled draws where couplings differ, got "
                f"{conditional=}, {nodes=}, {ranges=} and {compiled=}"
            )
        return BondedMultilevel(sides, theory, width or 16, recipe, generator)
    if conditional == "tables":
        given = {"width": width, "nodes": nodes, "ranges": ranges}
        if any(one is not None for one in given.values()) or compiled:
            raise ValueError(
                f"expected neither width nor nodes nor ranges nor compiled draws beside tables, got "
                f"{given | {'compiled': compiled}}"
            )
        return CountedMultilevel(sides, theory, recipe=recipe)
    span = None if ranges is None else Span(action, ranges, degree)
    networks = new_networks(sides, conditional_of(theory, nodes), width or 32, seeded(generator), span)
    compiles = as_foreseen() if compiled == "auto" else compiled
    return Multilevel(sides, theory, action.kind, networks, nodes, recipe, span, compiles)
