"""Which densities of a site go with its weight."""

from latflow.densities.multilevel.angles import AngleConditional
from latflow.densities.multilevel.conditionals import Conditional, LineConditional, SpinConditional
from latflow.densities.multilevel.states import StateConditional
from latflow.theories.neighbours import NearestNeighbours
from latflow.theories.sites import LineWeight, SpinWeight
from latflow.theories.vectors import AngleWeight, StateWeight


def conditional_of(theory: NearestNeighbours, nodes: int | None = None) -> Conditional:
    """The densities of a site that go with its weight.

    Raises:
        ValueError: for sites that are neither real numbers nor spins, states or angles.
    """
    match theory.site:
        case LineWeight():
            return LineConditional(theory, nodes)
        case SpinWeight():
            return SpinConditional(theory)
        case StateWeight():
            return StateConditional(theory)
        case AngleWeight():
            return AngleConditional(theory, nodes)
        case other:
            raise ValueError(
                f"expected sites of real numbers, spins, states or angles, got {type(other).__name__}"
            )
