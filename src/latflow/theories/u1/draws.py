"""Independent draws of pure U(1) gauge theory in two dimensions."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.lattice import checked_plane, summed, wrapped
from latflow.links import axial_links, gauge_transformed, plaquette_angles
from latflow.theories.u1.exact import u1_log_z
from latflow.types import Lattice, Links, LogProb

_TURN = 2 * math.pi


class PureGauge:
    """Pure U(1) gauge theory at the inverse coupling β, drawn independently and exactly, in float64.

        log r(z) = β Σ_x cos P(x) − log Z,    Z = (2π)^{2V} Σ_n I_n(β)^V

    All plaquettes P(x) but the last are drawn one by one from exp(β cos P); the last one is minus their sum,
    and the draw is kept with probability exp(β (cos P − 1)). Links of these plaquettes follow with two
    uniform holonomies, and a random gauge transformation spreads them over all gauges. So every topological
    sector is drawn as often as it should be.

    Args:
        lattice: the two side lengths, each at least 2.
        beta: β ≥ 0.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 2, and for a negative β.
    """

    label = "quenched"

    def __init__(self, lattice: Sequence[int], beta: float) -> None:
        self.lattice: Lattice = checked_plane(lattice)
        if not 0 <= beta < math.inf:
            raise ValueError(f"expected a beta of at least 0, got {beta}")
        self.beta = beta
        self.log_z: float = u1_log_z(self.lattice, beta) + 2 * math.prod(self.lattice) * math.log(_TURN)

    def sample(self, n: int, generator: Generator) -> tuple[Links, LogProb]:
        """n independent draws, (n, 2, L0, L1), and log r of each."""
        l0, l1 = self.lattice
        found = torch.empty(0, l0 * l1, dtype=torch.float64, device=generator.device)
        while len(found) < n:
            free = self._angles((max(n, 64), l0 * l1 - 1), generator)
            whole = torch.cat((free, -free.sum(1, keepdim=True)), 1)
            found = torch.cat((found, whole[self._kept(whole[:, -1], generator)]))
        plaquettes = found[:n].reshape(n, l0, l1)
        links = axial_links(plaquettes, _uniform((n, 2), generator))
        links = gauge_transformed(links, _uniform((n, l0, l1), generator))
        links = wrapped(links)
        return links, self.log_prob(links)

    def log_prob(self, z: Links) -> LogProb:
        """log r(z), normalised for the flat measure of all angles."""
        half = torch.sin(plaquette_angles(z) / 2)  # as in the action, to the last bit
        return -self.beta * (2 * summed(half * half) - math.prod(self.lattice)) - self.log_z

    def _angles(self, shape: tuple[int, int], generator: Generator) -> Float[Tensor, "n angles"]:
        """Independent angles with the density exp(β cos p), by rejection."""
        wanted, found = shape[0] * shape[1], torch.empty(0, dtype=torch.float64, device=generator.device)
        while len(found) < wanted:
            p = _uniform((wanted,), generator)
            found = torch.cat((found, p[self._kept(p, generator)]))
        return found[:wanted].reshape(shape)

    def _kept(self, angles: Tensor, generator: Generator) -> Tensor:
        """Where to keep an angle, with probability exp(β (cos p − 1))."""
        chance = torch.rand(angles.shape, generator=generator, dtype=torch.float64, device=generator.device)
        return chance < torch.exp(self.beta * (torch.cos(angles) - 1))


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return _TURN * (unit - 0.5)
