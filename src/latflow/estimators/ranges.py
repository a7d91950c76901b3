"""Training of one density for a range of couplings: soft labels at several of them."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

from latflow.densities.base import Density
from latflow.estimators.base import Estimate, Estimator
from latflow.estimators.labels import SoftLabels
from latflow.theories.base import Action
from latflow.types import Count, Lattice


@runtime_checkable
class RangedDensity(Density, Protocol):
    """A density that is one for each value of some couplings of a theory."""

    def at(self, **couplings: float) -> Density:
        """The density for other couplings, with the same parameters."""
        ...

    def knots(self, number: int) -> Sequence[dict[str, float]]:
        """So many values of the couplings, spread over those for which it is; none where there is but one."""
        ...


class SoftLabelsInRanges(Estimator):
    """`SoftLabels` for all couplings of a range: at those of the action, and at one of several knots.

    Half of the chains that a call moves, and of the sites that it judges, are those of the action's own
    couplings; the log-weights are those of proposals there, so that records tell what they tell of any other
    training. The other half is at one of the knots, which take turns, each with a population of its own.

    Args:
        knots: values of the couplings, spread over the range.
        chains: of each process, half of them at the couplings of the action and the others at the knots, but
            nowhere fewer than a call moves.
        proposals: for which share of the chains the density proposes in each call, above 0 and at most 1.
        sweeps: of the heat bath in each call.
        columns: of how many sites, over all chains of a call, each class of sites is judged, or of how many
            of their images under the symmetries of the lattice.

    Raises:
        ValueError: for numbers out of range; from a call, for a density that is not for a range of couplings,
            fewer than two chains, and as `SoftLabels`.
    """

    stateful = True

    def __init__(
        self,
        knots: Count = 8,
        chains: Count = 1024,
        proposals: float = 0.25,
        sweeps: Count = 1,
        columns: Count = 2560,
    ) -> None:
        if knots < 1:
            raise ValueError(f"expected at least one knot, got {knots}")
        options: dict[str, Any] = {"proposals": proposals, "sweeps": sweeps, "columns": max(1, columns // 2)}
        self.own: SoftLabels = SoftLabels(chains=max(1, chains // 2), **options)
        self.others: list[SoftLabels] = [
            SoftLabels(chains=max(1, chains // (2 * knots)), **options) for _ in range(knots)
        ]
        self._calls = 0
        self._parts: dict[Lattice, tuple[Density, list[tuple[Density, Action]]]] = {}

    def check(self, density: object, action: Action) -> None:
        self.own.check(density, action)
        if not isinstance(density, RangedDensity) or not density.knots(1):
            raise ValueError(
                "expected a density with ranges of couplings, such as multilevel with `ranges`, for the "
                f"estimator soft_labels_in_ranges, got {type(density).__name__} without: soft_labels trains "
                "one"
            )

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        if n < 2:
            raise ValueError(f"expected at least two chains to move, got {n}")
        parts = self._at_knots(density, action)
        # neighbours are taught far apart in time
        number = self._calls * _stride(len(parts)) % len(parts)
        loss, log_weight = self.own(density, action, n - n // 2, generator)
        other, _ = self.others[number](*parts[number], n // 2, generator)
        self._calls += 1
        return Estimate((loss + other) / 2, log_weight)

    def _at_knots(self, density: Density, action: Action) -> list[tuple[Density, Action]]:
        """The density and the theory at each of the knots, made once."""
        known = self._parts.get(action.lattice)
        if known is None or known[0] is not density:
            self.check(density, action)
            assert isinstance(density, RangedDensity)
            knots = density.knots(len(self.others))
            known = density, [(density.at(**knot), action.at(**knot)) for knot in knots]
            self._parts[action.lattice] = known
        return known[1]

    def state_dict(self) -> dict[str, Tensor]:
        parts = {str(number): one for number, one in enumerate(self.others)} | {"own": self.own}
        return {
            f"{name}/{key}": kept for name, one in parts.items() for key, kept in one.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for number, one in [("own", self.own), *enumerate(self.others)]:
            prefix = f"{number}/"
            one.load_state_dict(
                {key.removeprefix(prefix): kept for key, kept in state.items() if key.startswith(prefix)}
            )
        self._calls = int(state.get("own/calls", [0])[0])


def _stride(number: int) -> int:
    """About 0.38 of a number, and without common divisor."""
    return next(s for s in range(max(1, round(0.38 * number)), number + 1) if math.gcd(s, number) == 1)
