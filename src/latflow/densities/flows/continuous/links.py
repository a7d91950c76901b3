"""Flows of gauge links: by a map of their plaquettes, and by a map of their holonomies."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.densities.flows.base import Bijection, WayBack
from latflow.densities.flows.continuous.kernels import momenta_of
from latflow.densities.flows.continuous.torus import bilinear_from_uniform, bilinear_to_uniform
from latflow.lattice import lattice_momentum_squared, wrapped
from latflow.links import holonomies, plaquette_angles
from latflow.theories.base import Action
from latflow.types import Links, LogProb

_TURN = 2 * math.pi


class OnPlaquettes(Bijection):
    """Moves links such that their plaquettes F follow a bijection f of angles, which keeps ΣF.

        θ′_μ(x) = θ_μ(x) + ε_{μν} [w(x) − w(x−ν̂)],   −Δw = f(F) − F,   log_det = log |det ∂f/∂F|

    with ε_01 = 1. Holonomies and the gauge stay as they are, so the determinant is that of f. Links lie in
    (−π, π].

    Args:
        bijection: f, which commutes with F → F + 2π at each site on its own.
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Links) -> tuple[Links, LogProb]:
        return self._moved(x, *self._mapped(x, self.bijection.forward))

    def inverse(self, y: Links) -> tuple[Links, LogProb]:
        return self._moved(y, *self._mapped(y, self.bijection.inverse))

    def nearly_inverse(self, y: Links) -> tuple[Links, LogProb]:
        return self._moved(y, *self._mapped(y, self.bijection.nearly_inverse))

    def refined(self) -> Bijection | None:
        finer = self.bijection.refined()
        return None if finer is None else OnPlaquettes(finer)

    def forward_and_back(self, x: Links) -> tuple[Links, LogProb, WayBack]:
        plaquettes = plaquette_angles(x)
        with torch.no_grad():
            mapped, log_det, back = self.bijection.forward_and_back(plaquettes)
            y, log_det = self._moved(x, mapped - plaquettes, log_det)
            turns = mapped - plaquette_angles(y)  # what wrapping links has done, and rounding

        def there(same: Links) -> tuple[Links, LogProb]:
            moved = plaquette_angles(same) + turns
            original, log_det_back = back(moved)
            return self._moved(same, original - moved, log_det_back)

        return y, log_det, there

    @staticmethod
    def _mapped(x: Links, function: WayBack) -> tuple[Tensor, LogProb]:
        plaquettes = plaquette_angles(x)
        mapped, log_det = function(plaquettes)
        return mapped - plaquettes, log_det

    @staticmethod
    def _moved(x: Links, change: Tensor, log_det: LogProb) -> tuple[Links, LogProb]:
        lattice = tuple(change.shape[1:])
        transform = momenta_of(lattice, x.dtype, x.device)
        squared = lattice_momentum_squared(lattice).to(x).flatten()
        propagator = torch.where(squared > 0, 1 / squared, 0.0)
        spectra = transform.spectra(change.movedim(0, -1)[:, :, None])
        w = transform.fields(propagator[:, None, None] * spectra)[:, :, 0].movedim(-1, 0)
        curl = torch.stack((w - w.roll(1, 2), w.roll(1, 1) - w), 1)
        return wrapped(x + curl), log_det


class HolonomyMap(Bijection):
    """Maps the two holonomies h of links from uniform ones to what a theory makes of them among plaquettes F.

        q(h|F) = (p(h|F) + ε) / (1 + ε),    p(h|F) ∝ exp(−S),    ε = 0.003 of the mean

    so that log-weights are those of the plaquettes alone, −log ∫dh exp(−S), but for ε and for a bilinear
    interpolation between the points of a grid, with which q is normalised exactly. The links θ_0 of the last
    time slice and θ_1 of the first column move by one angle each.

    There are no parameters, and no gradient leads from q(h|F) to F: in a path gradient ∂ log p(h|F)/∂F has
    mean zero. The Jacobian is triangular, so that its determinant does not miss it.

    Args:
        theory: has `holonomy_density`.
        grid: points along each holonomy.

    Raises:
        ValueError: for no grid.
    """

    def __init__(self, theory: Action, grid: int = 48) -> None:
        super().__init__()
        if grid < 2:
            raise ValueError(f"expected {grid=} ≥ 2")
        self.theory: Action = theory
        self.grid: int = grid

    def forward(self, x: Links) -> tuple[Links, LogProb]:
        by, log_density = self._moves(x, bilinear_from_uniform)
        return _turned(x, by), -log_density

    def inverse(self, y: Links) -> tuple[Links, LogProb]:
        by, log_density = self._moves(y, bilinear_to_uniform)
        return _turned(y, by), log_density

    def _moves(self, x: Links, mapped: Callable[..., Any]) -> tuple[Float[Tensor, "batch 2"], LogProb]:
        """What is added to the holonomies, and log (2π)² q of those on the side of the density."""
        old = wrapped(holonomies(x))
        new, log_density = mapped(self._density(_turned(x, -old)).to(x.dtype), old)
        return new - old, log_density

    @torch.no_grad()
    def _density(self, without: Links) -> Float[Tensor, "batch grid grid"]:
        """q(h|F) on the grid up to a factor, from links with holonomies 0."""
        angles = torch.arange(self.grid, dtype=torch.float64, device=without.device) * (_TURN / self.grid)
        density = self.theory.holonomy_density(without.double(), angles - math.pi)
        if density is None:
            raise ValueError(f"expected a theory with `holonomy_density`, got {self.theory.words.name}")
        return density + _FLOOR * density.mean((1, 2), keepdim=True)


_FLOOR = 0.003
"""Of the mean density: where the determinant nearly vanishes, draws are rare but not unheard of."""


def _turned(x: Links, by: Float[Tensor, "batch 2"]) -> Links:
    """Links whose holonomies are larger by two angles, with the same plaquettes."""
    time, space = x.unbind(1)
    last = torch.cat((time[:, :-1], time[:, -1:] + by[:, 0, None, None]), 1)
    first = torch.cat((space[:, :, :1] + by[:, 1, None, None], space[:, :, 1:]), 2)
    return wrapped(torch.stack((last, first), 1))
