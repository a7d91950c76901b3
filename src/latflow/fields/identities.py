"""Schwinger–Dyson identities: averages over exp(−S) that vanish whatever S is, without a second simulation.

An integral of a total derivative is zero, ∫ dx ∂_i (f e^{−S}) = 0, and so is a sum over all configurations of
what changes its sign when two of them are exchanged. Each function here returns numbers of each
configuration, by a title that says the identity, whose averages over exp(−S) are zero: (batch,), or
(batch, components) where there is one for each site or for each momentum. Data of another action, or of none,
have other averages.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from latflow.lattice import lattice_momentum_squared
from latflow.links import plaquette_angles
from latflow.observables.base import Observable
from latflow.types import Field, Lattice, Links, LogProb

if TYPE_CHECKING:
    from latflow.fields.base import FieldKind

Identities = dict[str, Tensor]
"""Numbers whose averages are zero, by the title of the identity: (batch,) or (batch, components)."""

Vectors = Float[Tensor, "batch components *lattice"]
"""A vector at each site: a real number, (cos θ, sin θ), or which of the states it has."""

_LARGEST_MOVE = 4.0
_HALVINGS = 5
"""A move of the whole field is ε = 4 · 2^−u V^−1/2 long at each site, u uniform from 0 to 5."""


@runtime_checkable
class Theory(Protocol):
    """An action, as far as identities know it."""

    lattice: Lattice

    def __call__(self, x: Tensor) -> LogProb:
        """S(x)."""
        ...

    def force(self, x: Tensor) -> Tensor:
        """−∂S/∂x."""
        ...

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded of it."""
        ...


def of_real_numbers(theory: Theory, x: Field) -> Identities:
    """Those of a real number at each site, from ⟨∂_i f⟩ = ⟨f ∂_i S⟩.

        f = φ_i            ⟨φ_i ∂_i S⟩ = 1
        f = φ_i², φ_i³     ⟨φ_i² ∂_i S⟩ = 2⟨φ_i⟩,   ⟨φ_i³ ∂_i S⟩ = 3⟨φ_i²⟩
        f = φ_{i±μ}        ⟨Σ_{±μ} φ_{i±μ} ∂_i S⟩ = 0
        all f = φ_j        ⟨Re φ̃*(k) ∂S/∂φ̃*(k)⟩ = 1 of each mode, φ̃(k) = V^−1/2 Σ_x e^{−ikx} φ_x

    of each site, and summed.
    """
    force = theory.force(x)
    sites = 1 + x * force
    found = {
        "⟨φ ∂S/∂φ⟩ = 1": sites.flatten(1).mean(1),
        "⟨φ² ∂S/∂φ⟩ = 2⟨φ⟩": (2 * x + x**2 * force).flatten(1).mean(1),
        "⟨φ³ ∂S/∂φ⟩ = 3⟨φ²⟩": (3 * x**2 + x**3 * force).flatten(1).mean(1),
        "⟨φ ∂S/∂φ⟩ = 1 site by site": sites.flatten(1),
    }
    return found | _of_pairs("φ", x[:, None], force[:, None], torch.ones_like(x))


def of_angles(theory: Theory, x: Field) -> Identities:
    """Those of an angle at each site, with e = (cos θ, sin θ), t = ∂e/∂θ and f = t_i · e_j.

    ⟨(∂S/∂θ_i t_i + e_i) · e_j⟩ = δ_ij, of which i = j says nothing: by neighbours and mode by mode; and with
    a fixed vector in the place of e_j.
    """
    force = theory.force(x)
    cosine, sine = x.cos(), x.sin()
    across = torch.stack((-sine * force - cosine, cosine * force - sine), 1)
    found = {"⟨t ∂S/∂θ⟩ = −⟨e⟩ of each component": across.flatten(2).mean(2)}
    return found | _of_pairs("e", torch.stack((cosine, sine), 1), across, torch.ones_like(x))


def of_links(theory: Theory, links: Links) -> Identities:
    """Those of U(1) links, with P of a plaquette and ∂_P S = Σ_i ε_i ∂S/∂θ_i over its links, ε_i their signs.

        f = sin P_q         ⟨sin P_q ∂_P S⟩ = Σ_i ε_i ⟨∂_i sin P_q⟩: 4⟨cos P⟩ for q = P, −⟨cos P_q⟩ next to it
        f = sin W           ⟨sin W Σ_i ∂S/∂θ_i⟩ = L0 ⟨cos W⟩ for each loop W around time

    of each plaquette, and of each mode by ⟨Re s̃*(k) ∂̃S(k)⟩ = k̂² ⟨cos P⟩, s = sin P.
    """
    force = theory.force(links)
    angles, along = plaquette_angles(links), plaquette_angles(force)
    cosine, sine = angles.cos(), angles.sin()
    each = 4 * cosine + sine * along
    modes = _product(sine[:, None], along[:, None])
    squared = lattice_momentum_squared(theory.lattice).to(modes).flatten()
    mean = cosine.flatten(1).mean(1, keepdim=True)
    loops, turn = links[:, 0].sum(1), force[:, 0].sum(1)
    apart = _representatives(theory.lattice)[1:]  # k = 0 says 0 = 0
    return {
        "⟨sin P ∂S/∂P⟩ = 4⟨cos P⟩": each.flatten(1).mean(1),
        "⟨sin P ∂S/∂P⟩ = 4⟨cos P⟩ plaquette by plaquette": each.flatten(1),
        "⟨sin P ∂S/∂P⟩ = k̂²⟨cos P⟩ mode by mode": (modes.flatten(1) + squared * mean)[:, apart],
        "⟨sin W ∂S/∂W⟩ = L0⟨cos W⟩ of loops W around time": links.shape[2] * loops.cos() + loops.sin() * turn,
    }


def of_changes(kind: "FieldKind", theory: Theory, x: Tensor, changed: Tensor, sites: Tensor) -> Identities:
    """Those of single sites that change their values, for fields with a few values a site.

    T_i changes site i in a way that is as likely as its inverse. Then, for any f,

        ⟨ (f(T_i x) − f(x)) / (1 + exp(S(T_i x) − S(x))) ⟩ = 0

    for the summand changes its sign where x and T_i x are exchanged: exp(−S(x)) / (1 + exp(S(Tx) − S(x))) =
    1 / (exp(S(x)) + exp(S(Tx))). With f = S, the vector e_i of site i, its products with its neighbours, and
    Σ_i of |ẽ(k)|², where all sites are asked.

    Args:
        kind: of the field.
        theory: the action.
        x: configurations, (batch, *lattice).
        changed: by the value that each site takes from T_i.
        sites: which of the sites, counted through, are asked.
    """
    before = theory(x)
    flat, new = x.flatten(1), changed.flatten(1)
    costs = []
    for i in sites.tolist():
        moved = flat.clone()
        moved[:, i] = new[:, i]
        costs.append(theory(moved.view_as(x)) - before)
    cost = torch.stack(costs, 1)
    share = torch.sigmoid(-cost)
    vectors = kind.vectors(x, theory.lattice)
    step = kind.vectors(changed, theory.lattice) - vectors
    around = sum(vectors.roll(shift, axis) for axis in _long_axes(x) for shift in (1, -1))
    turned = share[:, None] * step.flatten(2)[:, :, sites]
    energies = share * cost
    found = {
        "⟨ΔS / (1 + exp ΔS)⟩ = 0 where one site changes": energies.mean(1),
        "⟨Δe / (1 + exp ΔS)⟩ = 0 of the value e of a site": turned.mean(2),
        "⟨ΔS / (1 + exp ΔS)⟩ = 0 site by site": energies,
    }
    if isinstance(around, Tensor):
        products = (turned * around.flatten(2)[:, :, sites]).sum(1)
        found["⟨Δ(e·e′) / (1 + exp ΔS)⟩ = 0 with its neighbours"] = products.mean(1)
    if len(sites) == flat.shape[1]:
        size = (share[:, None] * step.flatten(2).square()).sum(1).mean(1, keepdim=True)
        modes = 2 * _product(vectors, turned.view_as(vectors)).flatten(1) + size
        found["⟨Δ|e(k)|² / (1 + exp ΔS)⟩ = 0 mode by mode"] = modes[:, _representatives(theory.lattice)]
    return found


def of_moves(kind: "FieldKind", theory: Theory, x: Tensor, generator: Generator) -> Identities:
    """Those of fields that move all over, for any manifold: as `of_changes`, with T and its inverse.

    T moves a field along a random tangent, by a length that is random, too, and keeps the measure, as the
    moves of hybrid Monte Carlo do. With f = S and every single number that is recorded.
    """
    manifold = kind.manifold
    assert manifold is not None
    shape = (len(x), *manifold.tangent_shape(tuple(x.shape[1:])))
    real = {"generator": generator, "dtype": x.real.dtype}
    tangent = torch.randn(shape, **real)
    unit = torch.rand((len(x), *[1] * (len(shape) - 1)), **real)
    step = _LARGEST_MOVE * 2.0 ** (-_HALVINGS * unit) / math.sqrt(math.prod(shape[1:]))
    recorded = [one for one in theory.observables if one.function is not None and not one.axes]

    def numbers(field: Tensor) -> Iterator[tuple[str, LogProb]]:
        for one in recorded:
            assert one.function is not None
            values = one.function(field)
            values = values if isinstance(values, Tensor) else values[one.name]
            if values.ndim == 1:
                yield one.in_words, values.double()

    before, s = dict(numbers(x)), theory(x)
    found: Identities = {}
    for sign in (1, -1):
        moved = manifold.canonical(manifold.move(x, sign * tangent, step))
        share = torch.sigmoid(s - theory(moved))
        for name, after in numbers(moved):
            title = f"⟨Δf / (1 + exp ΔS)⟩ = 0 where the field moves, f = {name}"
            found[title] = found.get(title, 0) + share * (after - before[name]) / 2
    return found


def of_translations(
    kind: "FieldKind", theory: Theory, x: Tensor, translated: bool, turned: bool
) -> Identities:
    """Those of the symmetries of the lattice: averages are alike at all sites, and in all directions.

        ⟨e_x⟩ = ⟨ē⟩,   ⟨|e_x|²⟩ = mean over x,   ⟨e_x · e_{x+μ}⟩ = mean over x, and over μ

    Args:
        kind: of the field.
        theory: the action.
        x: configurations whose last axes are those of the lattice.
        translated: whether S stays when a field is translated.
        turned: whether it also stays when directions change places.
    """
    if not translated:
        return {}
    vectors = kind.vectors(x, theory.lattice)
    axes = _long_axes(vectors[:, 0])
    bonds = [(vectors * vectors.roll(-1, axis)).sum(1).flatten(1) for axis in axes]
    found = {
        "⟨e⟩ alike at all sites": _apart(vectors.flatten(2)).flatten(1),
        "⟨|e|²⟩ alike at all sites": _apart(vectors.square().sum(1).flatten(1)),
    }
    if bonds:
        found["⟨e·e′⟩ alike on all bonds"] = _apart(torch.stack(bonds, 1)).flatten(1)
    if turned:
        means = torch.stack([bond.mean(1) for bond in bonds], 1)
        found["⟨e·e′⟩ alike in all directions"] = _apart(means)
    return found


def _apart(values: Tensor) -> Tensor:
    """How far numbers lie from their mean over the last axis."""
    return values - values.mean(-1, keepdim=True)


def _of_pairs(symbol: str, vectors: Vectors, across: Vectors, squared: Field) -> Identities:
    """⟨v_j · g_i + δ_ij |∂v_i|²⟩ = 0 for g = ∂²v + F ∂v, by neighbours and mode by mode."""
    lattice = tuple(vectors.shape[2:])
    modes = _product(vectors, across).flatten(1) + squared.flatten(1).mean(1, keepdim=True)
    found = {f"⟨{symbol}(k)* ∂S/∂{symbol}(k)⟩ = 1 mode by mode": modes[:, _representatives(lattice)]}
    if axes := _long_axes(squared):
        around = sum(vectors.roll(shift, axis) for axis in axes for shift in (1, -1))
        products = (around * across).sum(1).flatten(1)
        found[f"⟨{symbol}′ ∂S/∂{symbol}⟩ = 0 with its neighbours"] = products.mean(1)
        found[f"⟨{symbol}′ ∂S/∂{symbol}⟩ = 0 with its neighbours, site by site"] = products
    return found


def _long_axes(x: Tensor) -> list[int]:
    """Axes of vectors (batch, components, *lattice) along which a neighbour is another site."""
    return [axis + 1 for axis in range(1, x.ndim) if x.shape[axis] > 1]


def _product(one: Vectors, other: Vectors) -> Field:
    """Re Σ_c ṽ_c*(k) w̃_c(k) of each momentum, with ṽ(k) = V^−1/2 Σ_x e^{−ikx} v_x."""
    axes = tuple(range(2, one.ndim))
    first, second = (torch.fft.fftn(part, dim=axes, norm="ortho") for part in (one, other))
    return (first.real * second.real + first.imag * second.imag).sum(1)


def _representatives(lattice: Lattice) -> Tensor:
    """The momenta, counted through, of which k and −k are taken once, by k̂²; the first is k = 0."""
    number = torch.arange(math.prod(lattice)).view(lattice)
    axes = tuple(range(len(lattice)))
    negative = number.flip(axes).roll([1] * len(axes), axes)
    found = number[number <= negative]
    return found[lattice_momentum_squared(lattice).flatten()[found].argsort(stable=True)]


def place(lattice: Lattice, sites: Tensor, number: int, component: int) -> str:
    """What one of many components stands for, in words.

    Args:
        lattice: side lengths.
        sites: those that were asked.
        number: how many components there are.
        component: which of them, from 0.
    """
    modes, every = _representatives(lattice), torch.arange(math.prod(lattice))
    for words, places in (("site", sites), ("site", every), ("mode", modes), ("mode", modes[1:])):
        if len(places) == number:
            return f"{words} {_coordinates(lattice, int(places[component]))}"
    if number == len(lattice):
        return f"direction {component}"
    if number % len(every) == 0:
        part, flat = divmod(component, len(every))
        return f"component {part + 1} at site {_coordinates(lattice, flat)}"
    return f"component {component + 1}"


def _coordinates(lattice: Lattice, flat: int) -> str:
    """Of a site, or a momentum in units of 2π/L, that is counted through: "(3, 5)"."""
    found: list[int] = []
    for side in reversed(lattice):
        flat, coordinate = divmod(flat, side)
        found.insert(0, coordinate)
    return f"({', '.join(map(str, found))})"
