"""Priors of U(1) links in two dimensions: uniform angles, and pure gauge theory drawn exactly."""

import math
from collections.abc import Sequence

import torch
from torch import Generator

from latflow.densities.flows.priors import Prior
from latflow.fields import LINKS, FieldKind
from latflow.lattice import checked_plane
from latflow.theories.u1.draws import PureGauge
from latflow.types import Links, LogProb

_TURN = 2 * math.pi


class UniformLinks(Prior):
    """U(1) links in two dimensions, angles uniform on (−π, π]: log r(z) = −2V log 2π, whatever z.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2.
    """

    kind: FieldKind = LINKS

    def __init__(self, lattice: Sequence[int]) -> None:
        super().__init__(checked_plane(lattice))

    def sample(self, n: int, generator: Generator) -> Links:
        """n independent draws, (n, 2, L0, L1)."""
        shape = (n, 2, *self.lattice)
        unit = torch.rand(shape, generator=generator, dtype=self.like.dtype, device=self.like.device)
        return _TURN * (0.5 - unit)

    def log_prob(self, z: Links) -> LogProb:
        """log r(z)."""
        return z.new_full((len(z),), -math.prod(z.shape[1:]) * math.log(_TURN), dtype=torch.float64)


class QuenchedLinks(Prior):
    """Pure U(1) gauge theory at the inverse coupling β, drawn exactly by `theories.u1.draws.PureGauge`.

        log r(z) = β Σ_x cos P(x) − log Z,    Z = (2π)^{2V} Σ_n I_n(β)^V

    As the prior of a flow, the networks learn what fermions change and nothing else.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: β ≥ 0.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2, and for a negative β.
    """

    kind: FieldKind = LINKS

    def __init__(self, lattice: Sequence[int], beta: float) -> None:
        super().__init__(checked_plane(lattice))
        self.theory: PureGauge = PureGauge(self.lattice, beta)
        self.beta: float = beta
        self.log_z: float = self.theory.log_z

    def sample(self, n: int, generator: Generator) -> Links:
        """n independent draws, (n, 2, L0, L1)."""
        return self.theory.sample(n, generator)[0].to(self.like)

    def log_prob(self, z: Links) -> LogProb:
        """log r(z)."""
        return self.theory.log_prob(z)

    def on_lattice(self, lattice: Sequence[int]) -> "QuenchedLinks":
        """The same theory on another lattice."""
        return QuenchedLinks(lattice, self.beta).to(self.like)
