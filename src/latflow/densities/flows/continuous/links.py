"""Flows of gauge links: by a map of their plaquettes, and by a map of their holonomies."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latflow.densities.flows.base import Bijection, WayBack
from latflow.densities.flows.continuous.kernels import momenta_of
from latflow.densities.flows.continuous.torus import bilinear_from_uniform, bilinear_to_uniform
from latflow.lattice import lattice_momentum_squared, wrapped
from latflow.links import holonomies, plaquette_angles, unwound
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
    """Maps the two holonomies h of links, given their plaquettes F, from uniform ones to a density q(h|F).

        q(h|F) ∝ exp E(h),   E = Σ_{m,n≤M} A_mn(F) cos m(h_0 + f_0) cos n(h_1 + f_1)
                               + Σ_{m,n≤M} mean_x (b + b′ cos F ± b″ sin F) cos mU_0 cos nU_1,

    plus a hundredth of its mean, interpolated bilinearly from a grid on the torus and exactly normalised.
    U_0(x_1) and U_1(x_0) are the angles of all loops around the torus, of which h_μ are the means; the waves
    of the loops at either side of a plaquette are averaged. b depend on m, n and |Q|; ± is the sign of Q.

    Where Q = 0, f = 0 and A is linear in the mean energy and in the spread of the loops. Where Q ≠ 0, the |Q|
    largest plaquettes of its sign give back 2π each and f is what that does to h, for that is how fields of
    Q = 0 look on the other side of F = π; then A depends on how near the smallest of these is to π. The
    second sum tells where on the lattice the modes are that a flux binds: where both loops have certain
    angles. At the start q(h|F) is uniform. E has the symmetries of the lattice.

    The links θ_0 of the last time slice and θ_1 of the first column move by one angle each.

    Args:
        harmonics: M.
        grid: points along each holonomy.
        mean_cosine: about ⟨cos F⟩ of the theory.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(self, harmonics: int = 3, grid: int = 48, mean_cosine: float = 0.72) -> None:
        super().__init__()
        if harmonics < 1 or grid < 2:
            raise ValueError(f"expected {harmonics=} ≥ 1 and {grid=} ≥ 2")
        self.harmonics, self.grid, self.mean_cosine = harmonics, grid, mean_cosine
        terms = (harmonics + 1) ** 2
        self.neutral = nn.Parameter(torch.zeros(_NEUTRAL_FEATURES, terms))
        self.charged = nn.Parameter(torch.zeros(_CHARGES, _CHARGED_FEATURES, terms))
        self.local = nn.Parameter(torch.zeros(1 + _CHARGES, _LOCAL_FUNCTIONS, terms))

    def forward(self, x: Links) -> tuple[Links, LogProb]:
        old = wrapped(holonomies(x))
        new, log_density = bilinear_from_uniform(self._density(x), old)
        return self._turned(x, new - old), -log_density

    def inverse(self, y: Links) -> tuple[Links, LogProb]:
        old = wrapped(holonomies(y))
        new, log_density = bilinear_to_uniform(self._density(y), old)
        return self._turned(y, new - old), log_density

    @staticmethod
    def _turned(x: Links, by: Float[Tensor, "batch 2"]) -> Links:
        time, space = x.unbind(1)
        last = torch.cat((time[:, :-1], time[:, -1:] + by[:, 0, None, None]), 1)
        first = torch.cat((space[:, :, :1] + by[:, 1, None, None], space[:, :, 1:]), 2)
        return wrapped(torch.stack((last, first), 1))

    def _density(self, x: Links) -> Float[Tensor, "batch grid grid"]:
        """exp E on the grid, up to a factor for each configuration."""
        plaquettes = wrapped(plaquette_angles(x))
        charge = (plaquettes.detach().flatten(1).sum(1) / _TURN).round()
        returned, nearness = _given_back(plaquettes, charge)
        along, back = unwound(plaquettes), unwound(returned)
        relative = [angles - angles.mean(1, keepdim=True) for angles in along]
        shifts = [after.mean(1) - before.mean(1) for before, after in zip(along, back, strict=True)]
        amplitudes = self._amplitudes(plaquettes, relative, charge, nearness)

        orders = torch.arange(self.harmonics + 1, dtype=x.dtype, device=x.device)
        points = torch.arange(self.grid, dtype=x.dtype, device=x.device) * (_TURN / self.grid) - math.pi
        waves = [torch.cos(orders[:, None] * (points + shift[:, None, None])) for shift in shifts]
        energy = waves[0].mT @ amplitudes @ waves[1] + self._local(plaquettes, relative, charge, points)
        density = torch.exp(energy - energy.detach().amax((1, 2), keepdim=True))
        return density + _FLOOR * density.mean((1, 2), keepdim=True)

    def _local(
        self, plaquettes: Tensor, relative: list[Tensor], charge: Tensor, points: Tensor
    ) -> Float[Tensor, "batch grid grid"]:
        """The second sum at all points of the grid."""
        orders = torch.arange(self.harmonics + 1, dtype=points.dtype, device=points.device)[:, None]
        # exp(imU) = exp(imh) exp(im(U − h)): (batch, m, x_1) and (batch, n, x_0), between the loops at either
        # side of a plaquette
        inner = [
            torch.polar(torch.ones_like(phase), phase) for phase in (orders * u[:, None] for u in relative)
        ]
        inner = [0.5 * (wave + wave.roll(-1, 2)) for wave in inner]
        functions = (
            torch.ones_like(plaquettes),
            plaquettes.cos(),
            charge.sign()[:, None, None] * plaquettes.sin(),
        )
        strength = self.local[charge.abs().long().clamp(max=_CHARGES)].unflatten(2, (self.harmonics + 1, -1))
        outer = torch.polar(torch.ones_like(orders * points), orders * points)
        energy = 0.0
        # cos mU_0 cos nU_1 is half the sum of Re exp(i(mU_0 ± nU_1))
        for second, along in ((inner[1], outer), (inner[1].conj(), outer.conj())):
            parts = [
                strength[:, i] * torch.einsum("bmy,bxy,bnx->bmn", inner[0], function.to(second.dtype), second)
                for i, function in enumerate(functions)
            ]
            energy = energy + (0.5 / plaquettes[0].numel()) * (outer.mT @ sum(parts) @ along).real
        return energy

    def _amplitudes(
        self, plaquettes: Tensor, relative: list[Tensor], charge: Tensor, nearness: Tensor
    ) -> Float[Tensor, "batch M N"]:
        """A_mn."""
        one = torch.ones_like(nearness)
        energy = plaquettes.cos().mean((1, 2)) - self.mean_cosine
        spread = [1 - angles.cos().mean(1) for angles in relative]
        neutral = torch.stack((one, energy, *spread), 1) @ self.neutral
        powers = torch.stack((one, nearness**2, nearness**4, nearness**8), 1)
        kind = (charge.abs().long() - 1).clamp(0, _CHARGES - 1)
        charged = (powers[:, None] @ self.charged[kind])[:, 0]
        chosen = torch.where((charge == 0)[:, None], neutral, charged)
        return chosen.unflatten(1, (self.harmonics + 1, -1))


_NEUTRAL_FEATURES = 4
_CHARGED_FEATURES = 4
_FLOOR = 0.01
"""Of the mean density: where the determinant nearly vanishes, draws are rare but not unheard of."""
_LOCAL_FUNCTIONS = 3
_CHARGES = 2
"""|Q| = 1 and |Q| ≥ 2 have parameters of their own."""


def _given_back(plaquettes: Tensor, charge: Tensor) -> tuple[Tensor, Tensor]:
    """F with 2π taken from the |Q| largest of the sign of Q, and (1 − cos F)/2 of the smallest of these."""
    flat, size, sign = plaquettes.flatten(1), charge.abs().long(), charge.sign()
    most = int(size.max()) if len(size) else 0
    if most == 0:
        return plaquettes, torch.ones_like(charge)
    values, places = (flat * sign[:, None]).topk(most, 1)
    used = (torch.arange(most, device=size.device) < size[:, None]).to(flat.dtype)
    returned = flat.scatter_add(1, places, -_TURN * sign[:, None] * used)
    smallest = values.gather(1, (size - 1).clamp(min=0)[:, None])[:, 0]
    nearness = torch.where(size > 0, (1 - smallest.cos()) / 2, 1.0)
    return returned.view_as(plaquettes), nearness
