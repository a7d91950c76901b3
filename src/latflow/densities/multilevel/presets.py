"""The multilevel density by name."""

from collections.abc import Sequence

from torch import Generator

from latflow.densities.multilevel.conditionals import conditional_of
from latflow.densities.multilevel.density import Multilevel, new_networks
from latflow.densities.multilevel.geometry import depth
from latflow.densities.recipe import recipe_of
from latflow.lattice import checked_lattice
from latflow.seeds import seeded
from latflow.theories.base import Action
from latflow.types import Count


def multilevel(
    lattice: Sequence[int],
    *,
    action: Action,
    width: Count = 32,
    nodes: Count | None = None,
    generator: Generator | None = None,
) -> Multilevel:
    """A field drawn from the coarsest scale to the finest, each site from a window of known sites around it.

    It serves theories in two dimensions whose sites are coupled to nearest neighbours alone, the same
    everywhere, as `Action.nearest_neighbours` says: their odd sites are integrated out exactly, and the last
    of the even ones have their exact density too. Train it with the estimator `soft_labels`.

    Args:
        lattice: two sides that halve until few sites are left, such as powers of 2.
        action: has `nearest_neighbours`.
        width: of the networks.
        nodes: of the grid on which densities of real numbers are normalised; None for as many as resolve
            the theory.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for another theory, and a lattice that does not halve often enough.

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
    networks = new_networks(sides, conditional_of(theory, nodes), width, seeded(generator))
    return Multilevel(sides, theory, action.kind, networks, nodes, recipe)
