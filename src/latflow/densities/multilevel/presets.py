"""The multilevel density by name."""

from collections.abc import Mapping, Sequence

from torch import Generator

from latflow.densities.multilevel.conditionals import conditional_of
from latflow.densities.multilevel.density import Multilevel, new_networks
from latflow.densities.multilevel.geometry import depth
from latflow.densities.multilevel.spans import Span
from latflow.densities.recipe import recipe_of
from latflow.lattice import checked_lattice
from latflow.seeds import seeded
from latflow.theories.base import Action
from latflow.types import Count, Whole


def multilevel(
    lattice: Sequence[int],
    *,
    action: Action,
    width: Count = 32,
    nodes: Count | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    degree: Whole = 3,
    generator: Generator | None = None,
) -> Multilevel:
    """A field drawn from the coarsest scale to the finest, each site from a window of known sites around it.

    It serves theories in two dimensions whose sites are coupled to nearest neighbours alone, the same
    everywhere, as `Action.nearest_neighbours` says: their odd sites are integrated out exactly, and the last
    of the even ones have their exact density too. Train it with the estimator `soft_labels`.

    With `ranges` one density serves all couplings in them: every number of the networks is a polynomial of
    the couplings. As it is, it is the density for those of the action; `at` makes it that for others. Train
    it with `soft_labels_in_ranges`.

    Args:
        lattice: two sides that halve until few sites are left, such as powers of 2.
        action: has `nearest_neighbours`.
        width: of the networks.
        nodes: of the grid on which densities of real numbers are normalised; None for as many as resolve
            the theory.
        ranges: by the names of couplings of the action, the lowest and the highest for which the density is;
            None for those of the action alone.
        degree: of the polynomials, where there are ranges.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for another theory, a lattice that does not halve often enough, and ranges that do not
            hold the couplings of the action.

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
    theory = action.nearest_neighbours()
    if theory is None or theory.lattice != sides:
        raise ValueError(
            f"expected a theory on {sides} of sites that are coupled to nearest neighbours, the same "
            f"everywhere, for a multilevel density, got {action.words.name} on {action.lattice}"
        )
    if width < 1:
        raise ValueError(f"expected a positive width, got {width}")
    span = None if ranges is None else Span(action, ranges, degree)
    networks = new_networks(sides, conditional_of(theory, nodes), width, seeded(generator), span)
    return Multilevel(sides, theory, action.kind, networks, nodes, recipe, span)
