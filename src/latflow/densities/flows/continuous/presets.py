"""The named continuous flows."""

from collections.abc import Sequence
from typing import Literal

from torch import Generator

from latflow.densities.flows.base import Bijection, Compose, Flow
from latflow.densities.flows.continuous.flow import ContinuousFlow
from latflow.densities.flows.continuous.links import HolonomyMap, OnPlaquettes
from latflow.densities.flows.continuous.plaquettes import PlaquetteField
from latflow.densities.flows.continuous.scalar import KernelField
from latflow.densities.flows.gauge_presets import gauge_couplings
from latflow.densities.flows.priors import Normal
from latflow.densities.flows.sector_links import SectorLinks
from latflow.densities.recipe import recipe_of
from latflow.seeds import seeded
from latflow.theories.base import Action
from latflow.types import Count, Layers, NotNegative, Positive, Whole


def continuous_gauge_flow(
    lattice: Sequence[int],
    *,
    prior_beta: NotNegative,
    charge_terms: Count = 3,
    harmonics: Count = 6,
    stages: Count = 3,
    degree: Whole = 3,
    mass: Positive = 0.56,
    mean_cosine: float = 0.72,
    substeps: Count = 2,
    holonomies: Literal["exact", "uniform"] = "exact",
    grid: Count = 48,
    action: Action | None = None,
    couplings: Layers = 0,
    hidden: Sequence[Count] = (16, 16),
    generator: Generator | None = None,
) -> Flow:
    """A flow of U(1) links that is given what is known of Wilson fermions, with two thousand parameters.

    Sectors with weights and shapes of their own (`SectorLinks`), an equation of the plaquettes with kernels
    of the whole lattice (`PlaquetteField`), and holonomies as the theory has them (`HolonomyMap`). At
    the start it is pure gauge theory at `prior_beta`. The parameters know no lattice.

    Args:
        lattice: the two side lengths, each at least 3.
        prior_beta: β of the pure gauge theory from which it starts; somewhat above that of the theory, since
            fermions make the field smoother.
        charge_terms: functions of |Q| of which the sectors' weights and densities are made.
        harmonics: of the plaquettes' density in each sector.
        stages: of the equation, each with parameters of its own.
        degree: reach of its kernels beside those of the boson, in sites.
        mass: of the boson in lattice units, √(N_f/(πβ)).
        mean_cosine: about ⟨cos P⟩ of the theory.
        substeps: of the method of Runge and Kutta in each stage.
        holonomies: "exact" as the theory makes them among the plaquettes, or "uniform" as without fermions.
        grid: points along each exact holonomy.
        action: has `holonomy_density`, for exact holonomies.
        couplings: layers as in `gauge_flow` that come after all this, with networks that see nearest
            neighbours; 8 update every link once. They do not have the symmetry F → −F.
        hidden: channels between the convolutions of each of their networks.
        generator: draws the initial weights; a new one with seed 0 if None.

    Raises:
        ValueError: for a lattice that is not two-dimensional, has a side below 3, or that the couplings
            cannot tile, for numbers out of range, and for exact holonomies without an action.
    """
    recipe = recipe_of("continuous_gauge", continuous_gauge_flow, locals())
    generator = seeded(generator)
    prior = SectorLinks(lattice, prior_beta, charge_terms, harmonics)
    field = PlaquetteField(stages, degree, mass, mean_cosine, generator)
    parts: list[Bijection] = [OnPlaquettes(ContinuousFlow(field, substeps))]
    if holonomies == "exact":
        if action is None:
            raise ValueError("expected the action of the theory for exact holonomies, got none")
        parts.append(HolonomyMap(action, grid))
    further = gauge_couplings(
        prior.lattice, couplings, hidden=hidden, dilation=(1,) * (len(hidden) + 1), generator=generator
    )
    return Flow(prior, Compose(*parts, *further), recipe, ("gauge",) if further else ("gauge", "z2"))


def continuous_flow(
    lattice: Sequence[int],
    *,
    stages: Count = 4,
    frequencies: Whole = 8,
    degree: Whole = 3,
    mass: Positive = 0.5,
    substeps: Count = 2,
    z2: bool = True,
) -> Flow:
    """A flow of a scalar field from normal numbers, by an equation with kernels of the whole lattice.

    Args:
        lattice: one to three side lengths.
        stages: of the equation, each with parameters of its own.
        frequencies: sines of the field that drive it.
        degree: reach of the kernels beside the massive ones, in sites.
        mass: of the massive ones, such as 1/ξ.
        substeps: of the method of Runge and Kutta in each stage.
        z2: whether to claim the symmetry φ → −φ, which the flow has in any case.

    Raises:
        ValueError: for a lattice of other dimensions, and for numbers out of range.
    """
    recipe = recipe_of("continuous", continuous_flow, locals())
    prior = Normal(lattice)
    field = KernelField(len(prior.lattice), stages, frequencies, degree, mass)
    return Flow(prior, ContinuousFlow(field, substeps), recipe, ("z2",) if z2 else ())
