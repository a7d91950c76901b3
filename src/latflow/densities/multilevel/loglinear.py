"""A log-linear model of a table: what its counts say together, where each alone says little."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, combinations_with_replacement, pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latflow.densities.multilevel.windows import Window, orbits

_RIDGE = 3.0
_LARGEST_STEP = 3.0
"""Of log-odds in one iteration."""

_INNER = 8
"""Products of more than three spins are those of so many nearest ones."""

Numbers = Float[Tensor, "orbits sums"]


class LogLinear:
    """Log-odds of +1 that are linear in products of the window's spins, and in powers of their sum beyond.

        z(s, u) = Σ_{p=0…3} u^p F_p(s) · θ_p

    F_0 are products of one and three spins, and of five out of the nearest eight; F_1 are one, products of
    pairs, and of four out of the nearest eight; F_2 of one and three, F_3 one and pairs. Each is summed over
    the symmetries of the window. Without the symmetry s → −s F_0 has products of up to five spins, F_1 of up
    to two, F_2 of one and F_3 is one.

    Args:
        window: of the table.
        z2: whether z(−s, −u) = −z(s, u).
    """

    def __init__(self, window: Window, *, z2: bool) -> None:
        spins = orbits(window, z2=z2).spins.double()
        u = 2 * torch.arange(window.summed + 1, dtype=torch.float64) - window.summed
        self.u: Tensor = u / math.sqrt(max(sum(h * h for h in window.heights), 1))
        by_power = (
            [(1, 3, 5), (0, 2, 4), (1, 3), (0, 2)] if z2 else [tuple(range(6)), (0, 1, 2), (0, 1), (0,)]
        )
        by_power = by_power if window.summed else by_power[:1]
        self.features: list[Tensor] = [_products(spins, window, chosen) for chosen in by_power]

    @property
    def size(self) -> int:
        """How many numbers θ has."""
        return sum(part.shape[1] for part in self.features)

    def log_odds(self, theta: Float[Tensor, "size"]) -> Numbers:
        """z of all orbits and sums."""
        parts = theta.split([part.shape[1] for part in self.features])
        return sum(
            (
                (part @ some)[:, None] * self.u**power
                for power, (part, some) in enumerate(zip(self.features, parts, strict=True))
            ),
            start=torch.zeros(()),
        )

    def fitted(self, theta: Float[Tensor, "size"], n: Numbers, s: Numbers) -> Float[Tensor, "size"]:
        """The θ of largest likelihood, less ½ · 3 θ², for s out of n spins that are +1, by Newton's method.

        Args:
            theta: to begin with.
            n: how many were counted of each orbit and sum.
            s: how many of them were, or should have been, +1.
        """
        for _ in range(_MOST_ITERATIONS):
            p = torch.sigmoid(self.log_odds(theta))
            gradient = self._summed(s - n * p) - _RIDGE * theta
            step = torch.linalg.solve(self._curvature(n * p * (1 - p)), gradient)
            longest = self.log_odds(step)[n > 0].abs().max() if bool(n.any()) else step.new_zeros(())
            theta = theta + step * (_LARGEST_STEP / longest.clamp(min=1e-9)).clamp(max=1)
            if gradient @ step < _PRECISION:
                break
        return theta

    def _summed(self, values: Numbers) -> Float[Tensor, "size"]:
        """Σ over all orbits and sums of values times what multiplies each θ."""
        return torch.cat([part.T @ (values @ self.u**power) for power, part in enumerate(self.features)])

    def _curvature(self, weight: Numbers) -> Float[Tensor, "size size"]:
        """Minus the second derivative, Σ weight times what multiplies each pair of θ, plus the ridge."""
        found = _RIDGE * torch.eye(self.size, dtype=torch.float64)
        ends = np.cumsum([0, *(part.shape[1] for part in self.features)]).tolist()
        places = [slice(*pair) for pair in pairwise(ends)]
        for k, m in combinations_with_replacement(range(len(places)), 2):
            scale = (weight @ self.u ** (k + m))[:, None]
            block = self.features[k].T @ (scale * self.features[m])
            found[places[k], places[m]] += block
            if k != m:
                found[places[m], places[k]] += block.T
        return found


_MOST_ITERATIONS = 12
_PRECISION = 1.0
"""Of the likelihood of all that was counted, whose own noise is a half for each number of θ."""


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def log_linear(window: Window, *, z2: bool) -> LogLinear:
    """The model of a window, made once."""
    return LogLinear(window, z2=z2)


def _products(
    spins: Float[Tensor, "orbits bits"], window: Window, orders: Sequence[int]
) -> Float[Tensor, "orbits features"]:
    """Sums of products of so many spins over all that are alike, scaled to a variance of about 1."""
    made = [
        torch.stack([spins[:, list(some)].prod(1) for some in alike]).sum(0) / math.sqrt(len(alike))
        for order in orders
        for alike in _alike(window, order)
    ]
    return torch.stack(made, 1) if made else spins.new_zeros(len(spins), 0)


def _alike(window: Window, order: int) -> Iterator[set[tuple[int, ...]]]:
    """Choices of so many bits, those together which the symmetries exchange."""
    met: set[tuple[int, ...]] = set()
    among = window.bits if order <= 3 else min(window.bits, _INNER)
    for choice in combinations(range(among), order):
        if choice not in met:
            alike = {tuple(sorted(image[k] for k in choice)) for image in window.images}
            met |= alike
            yield alike
