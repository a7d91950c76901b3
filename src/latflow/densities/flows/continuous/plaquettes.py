"""The vector field of plaquette angles that knows what Wilson fermions do to a gauge field."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from latflow.densities.flows.continuous.flow import BatchLast, VectorField, Velocity
from latflow.densities.flows.continuous.kernels import (
    Momenta,
    momenta_of,
    momentum_functions,
    number_of_functions,
)
from latflow.seeds import seeded
from latflow.types import Lattice, LogProb

_LOOPS = ((2, 1), (1, 2), (2, 2))
_SINES = 3
"""sin nF for n = 1 … 3, and likewise cosines."""
_PRODUCTS = 2
"""Products with sin jF and cos jF for j = 1, 2."""
_MODULATORS = 4
_BY_CHARGE = 2
_OF_PRODUCTS = 2
"""Factors 1 and χ of the products."""
_SMOOTH_CHARGE = tuple(
    2 * (-1) ** (n + 1) / n * math.sin(math.pi * n / 4) / (math.pi * n / 4) for n in range(1, _SINES + 1)
)
"""s_n of the smooth charge: the sawtooth F/2π as a Fourier series, with Lanczos' factors."""


class PlaquetteField(VectorField):
    """Velocities of plaquettes F(x), of zero sum, which depend on all of F at any distance.

        dF/dt = Σ_a m_a Σ_j M^a_j * g_j  +  Σ_a μ_a Σ_n N^a_n * cos nF
              + Σ_{j, m = 1, χ} m { M_j * [sin jF · (B_j * cos F)] + M′_j * [cos jF · (B′_j * sin F)] }

    g are sin F, sin 2F, sin 3F and, for each of the loops W of 2×1, 1×2 and 2×2, the mean of sin W over those
    loops that hold the site; j = 1, 2. The factors m are 1, χ, χe, e and μ are sin(2πQ_s)/2π, Q_s/(1 + Q_s²),

        Q_s = (1/2π) Σ_x Σ_{n≤3} s_n sin nF(x),   χ = Q_s²/(Q_s² + ¼),
        e = ē/√(1 + ē²),   ē = √V (V⁻¹ Σ cos F − c).

    The bound on e keeps rare fields from velocities that the steps could not follow. Every kernel is a sum of
    the functions of momentum of `momentum_functions`, with free coefficients; those which make velocities
    vanish at k = 0. The divergence is exact. To leading order fermions make the action
    quadratic and non-local in F, which the first two terms of the basis with the mass of the boson express.
    Translations, reflections and F → −F are exact symmetries.

    Args:
        stages: parts of the time, each with coefficients of its own.
        degree: reach of the kernels beside the massive ones, in sites.
        mass: m of the massive ones; that of the Schwinger boson is √(N_f/(πβ)).
        mean_cosine: c, about ⟨cos F⟩ of the theory.
        generator: draws the first B and B′; the velocity is zero at the start.

    Raises:
        ValueError: for no stage, a negative degree, or a mass that is not positive.
    """

    def __init__(
        self,
        stages: int = 3,
        degree: int = 3,
        mass: float = 0.56,
        mean_cosine: float = 0.72,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if stages < 1 or degree < 0 or not mass > 0:
            raise ValueError(f"expected {stages=} ≥ 1, {degree=} ≥ 0 and {mass=} > 0")
        self.degree: int = degree
        self.mass: float = mass
        self.mean_cosine: float = mean_cosine
        n = number_of_functions(2, degree, (mass,))
        self.kernels: nn.Parameter = nn.Parameter(torch.zeros(stages, _MODULATORS, _SINES + len(_LOOPS), n))
        self.by_charge: nn.Parameter = nn.Parameter(torch.zeros(stages, _BY_CHARGE, _SINES, n))
        self.outer: nn.Parameter = nn.Parameter(torch.zeros(stages, _OF_PRODUCTS, 2 * _PRODUCTS, n))
        first = torch.randn(stages, 2 * _PRODUCTS, n, generator=seeded(generator))
        self.inner: nn.Parameter = nn.Parameter(0.01 * first)

    def stages(self, x: BatchLast) -> Sequence[Velocity]:
        lattice = tuple(x.shape[:-1])
        geometry = _geometry(lattice, self.degree, self.mass, x.dtype, x.device)
        parts = zip(self.kernels, self.by_charge, self.outer, self.inner, strict=True)
        return [_Stage.of(geometry, self.mean_cosine, *coefficients) for coefficients in parts]


@dataclass(frozen=True)
class _Geometry:
    momenta: Momenta
    functions: Float[Tensor, "momenta n"]
    without_zero: Float[Tensor, "momenta n"]
    """The same, but zero at k = 0."""
    loops: Float[Tensor, "momenta loops"]
    """|Σ_{r∈W} exp(ikr)|²/|W| of each loop."""


@cache
def _geometry(
    lattice: Lattice, degree: int, mass: float, dtype: torch.dtype, device: torch.device
) -> _Geometry:
    functions = momentum_functions(lattice, degree, (mass,), dtype, device)
    without_zero = functions.clone()
    without_zero[0] = 0
    loops = []
    for sides in _LOOPS:
        box = torch.zeros(lattice, dtype=torch.float64)
        for i in range(sides[0]):
            for j in range(sides[1]):
                box[i % lattice[0], j % lattice[1]] += 1
        loops.append(torch.fft.fft2(box).abs().square().flatten() / math.prod(sides))
    structure = torch.stack(loops, -1).to(dtype=dtype, device=device)
    return _Geometry(momenta_of(lattice, dtype, device), functions, without_zero, structure)


@dataclass(frozen=True)
class _Stage:
    """One stage on one lattice: kernels as functions of momentum, and what the divergence needs of them."""

    momenta: Momenta
    mean_cosine: float
    kernels: Float[Tensor, "momenta modulators features"]
    traces: Float[Tensor, "modulators features"]
    by_charge: Float[Tensor, "momenta factors cosines"]
    traces_by_charge: Float[Tensor, "factors cosines"]
    outer: Float[Tensor, "momenta factors products"]
    at_zero: Float[Tensor, "factors products"]
    """M(r = 0)."""
    inner: Float[Tensor, "momenta products"]
    products: Float[Tensor, "momenta factors products"]
    """The transform of M(r) B(r)."""

    @classmethod
    def of(
        cls,
        geometry: _Geometry,
        mean_cosine: float,
        kernels: Tensor,
        by_charge: Tensor,
        outer: Tensor,
        inner: Tensor,
    ) -> "_Stage":
        zero_mean, momenta = geometry.without_zero, geometry.momenta
        k = torch.einsum("kn,afn->kaf", zero_mean, kernels)
        loops = torch.einsum("kf,kaf->af", geometry.loops, k[..., _SINES:]) / len(k)
        n = torch.einsum("kn,afn->kaf", zero_mean, by_charge)
        m, b = torch.einsum("kn,ajn->kaj", zero_mean, outer), geometry.functions @ inner.T
        here = momenta.at_distance(m.flatten(1)).view_as(m)
        apart = here * momenta.at_distance(b)[:, None]
        return cls(
            momenta,
            mean_cosine,
            kernels=k,
            traces=torch.cat((k[..., :_SINES].mean(0), loops), -1),
            by_charge=n,
            traces_by_charge=n.mean(0),
            outer=m,
            at_zero=here[0],
            inner=b,
            products=momenta.spectra_of(apart.flatten(1)).view_as(m) * math.sqrt(len(k)),
        )

    def __call__(self, x: BatchLast) -> tuple[BatchLast, LogProb]:
        sines, cosines = _multiples(x)
        around = [_around(x, sides) for sides in _LOOPS]
        spectra = self.momenta.spectra(torch.stack([*sines, *(mean for mean, _ in around), *cosines], 2))
        odd, even = spectra[:, : -len(cosines)], spectra[:, -len(cosines) :]
        total = _Totals.of(sines, cosines, [cosine for _, cosine in around], even, self.mean_cosine)
        moved, divergence = self._modulated(total, odd)
        pushed, of_charge = self._by_charge(total, even)
        products, of_products = self._products(total, sines, cosines, odd, even)
        velocity = self.momenta.fields((moved + pushed + products)[:, None])
        return velocity[:, :, 0], divergence + of_charge + of_products

    def _modulated(self, total: "_Totals", odd: Tensor) -> tuple[Tensor, LogProb]:
        """Σ_a m_a Σ_j M^a_j * g_j."""
        chi, energy, root = total.chi, total.energy, math.sqrt(len(odd))
        one, none = torch.ones_like(chi), torch.zeros_like(chi)
        factors = torch.stack((one, chi, chi * energy, energy))
        charge_slopes = torch.stack((none, total.chi_slope, total.chi_slope * energy, none))
        energy_slopes = torch.stack((none, none, chi, one)) * total.energy_slope
        driven = self.kernels @ odd
        along_charge = torch.einsum("kb,kab->ab", total.slope, driven)
        along_energy = torch.einsum("kb,kab->ab", odd[:, 0], driven) / -root
        traces = self.traces @ torch.cat((total.orders * total.cosines, total.loops))
        divergence = (factors * traces + charge_slopes * along_charge + energy_slopes * along_energy).sum(0)
        return (driven * factors).sum(1), divergence

    def _by_charge(self, total: "_Totals", even: Tensor) -> tuple[Tensor, LogProb]:
        """Σ_a μ_a Σ_n N^a_n * cos nF."""
        turn, more = 2 * math.pi * total.charge, 1 + total.charge**2
        factors = torch.stack((turn.sin() / (2 * math.pi), total.charge / more))
        slopes = torch.stack((turn.cos(), (1 - total.charge**2) / more**2))
        pushed = self.by_charge @ even
        along = torch.einsum("kb,kab->ab", total.slope, pushed)
        traces = self.traces_by_charge @ (-total.orders * total.sines)
        return (pushed * factors).sum(1), (factors * traces + slopes * along).sum(0)

    def _products(
        self, total: "_Totals", sines: list[Tensor], cosines: list[Tensor], odd: Tensor, even: Tensor
    ) -> tuple[Tensor, LogProb]:
        """Σ_{j, m = 1, χ} m { M_j * [sin jF · (B_j * cos F)] + M′_j * [cos jF · (B′_j * sin F)] }."""
        n = _PRODUCTS
        inside = torch.cat((self.inner[:, :n, None] * even[:, :1], self.inner[:, n:, None] * odd[:, :1]), 1)
        convolved = self.momenta.fields(inside)
        own = torch.stack([*sines[:n], *cosines[:n]], 2)
        orders = total.orders[:n]
        slopes = torch.cat((orders * own[:, :, n:], -orders * own[:, :, :n]), 2)
        crossed = torch.cat((-odd[:, :n] * odd[:, :1], even[:, :n] * even[:, :1]), 1)
        traces = self.at_zero @ (slopes * convolved).sum((0, 1))
        traces = traces + torch.einsum("kaj,kjb->ab", self.products, crossed)
        driven = self.outer @ self.momenta.spectra(own * convolved)
        along = (total.slope * driven[:, 1]).sum(0)
        divergence = traces[0] + total.chi * traces[1] + total.chi_slope * along
        return driven[:, 0] + total.chi * driven[:, 1], divergence


@dataclass(frozen=True)
class _Totals:
    """Sums over all plaquettes of each configuration.

    Attributes:
        orders: n = 1, 2, 3, a column.
        sines, cosines, loops: Σ sin nF, Σ cos nF and Σ cos W.
        charge, energy: Q_s and e.
        energy_slope: √V ∂e/∂(mean cos F) over √V.
        chi, chi_slope: χ and ∂χ/∂Q_s.
        slope: the transform of ∂Q_s/∂F.
    """

    orders: Tensor
    sines: Tensor
    cosines: Tensor
    loops: Tensor
    charge: Tensor
    energy: Tensor
    energy_slope: Tensor
    chi: Tensor
    chi_slope: Tensor
    slope: Tensor

    @classmethod
    def of(
        cls, sines: list[Tensor], cosines: list[Tensor], loops: list[Tensor], even: Tensor, mean_cosine: float
    ) -> "_Totals":
        orders = torch.arange(1, _SINES + 1, dtype=even.dtype, device=even.device)
        weights = torch.tensor(_SMOOTH_CHARGE, dtype=even.dtype, device=even.device) / (2 * math.pi)
        of_sines, of_cosines, of_loops = (
            torch.stack([numbers.sum((0, 1)) for numbers in several]) for several in (sines, cosines, loops)
        )
        sites = len(even)
        charge = weights @ of_sines
        energy = (of_cosines[0] / sites - mean_cosine) * math.sqrt(sites)
        bound = (1 + energy * energy).rsqrt()
        squared = charge * charge
        return cls(
            orders[:, None],
            of_sines,
            of_cosines,
            of_loops,
            charge,
            energy * bound,
            bound**3,
            chi=squared / (squared + 0.25),
            chi_slope=0.5 * charge / (squared + 0.25) ** 2,
            slope=torch.einsum("n,knb->kb", weights * orders, even),
        )


def _multiples(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """sin nF and cos nF for n = 1 … 3."""
    sines, cosines = [x.sin()], [x.cos()]
    while len(sines) < _SINES:
        sine, cosine = sines[-1], cosines[-1]
        sines.append(sine * cosines[0] + cosine * sines[0])
        cosines.append(cosine * cosines[0] - sine * sines[0])
    return sines, cosines


def _around(x: BatchLast, sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The mean of sin W over the loops that hold a site, and cos W of the loop that begins there."""
    loop = x
    for axis, side in enumerate(sides):
        loop = sum((loop.roll(-shift, axis) for shift in range(1, side)), loop)
    sine = loop.sin()
    for axis, side in enumerate(sides):
        sine = sum((sine.roll(shift, axis) for shift in range(1, side)), sine)
    return sine / math.prod(sides), loop.cos()
