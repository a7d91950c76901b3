"""Links of a U(1) gauge field in two dimensions: an angle for each direction at each site."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.fields.base import FieldKind, Manifold, Picture
from latflow.fields.identities import Identities, Theory, Vectors, of_links
from latflow.lattice import wrapped
from latflow.links import gauge_transformed, plaquette_angles
from latflow.observables.base import Observable, Sectors
from latflow.observables.gauge import charge_of, loops_of, polyakov_loop
from latflow.types import Lattice, Links

SECTORS = (0, 1, 2, 3)
"""The |Q| whose probabilities a table has."""

TOPOLOGY = Sectors(
    title="topological sectors",
    number=np.abs,
    name=lambda n: f"|Q| = {n}" if n else "Q = 0",
    alike=np.square,
    values=lambda n: (n, -n) if n else (0,),
)
"""Sectors of the topological charge; charge conjugation relates Q and −Q."""


class Angles(Manifold):
    """Angles, which move as real numbers do and are written in (−π, π]."""

    flat = False

    def canonical(self, x: Tensor) -> Tensor:
        """The same angles in (−π, π], by fewer passes over the memory than `lattice.wrapped`.

        What rounding leaves at −π or below becomes the next number above it, which is the same angle.
        """
        turns = (x * (0.5 / math.pi)).round()
        return x.sub(turns, alpha=2 * math.pi).clamp(_above_minus_pi(x.dtype), math.pi)


@cache
def _above_minus_pi(dtype: torch.dtype) -> float:
    return torch.tensor(-math.pi, dtype=dtype).nextafter(torch.zeros((), dtype=dtype)).item()


@dataclass(frozen=True)
class LinkAngles(FieldKind):
    """An angle in (−π, π] for each of two directions at each site, (batch, 2, L0, L1), direction 0 time."""

    name = "links"
    manifold = Angles()
    established = ("hmc",)
    picture = Picture(
        numbers=lambda links: wrapped(plaquette_angles(links)),
        symbol=r"$P$",
        words="the plaquette angles P(x), whose sum is 2πQ",
        cyclic=True,
    )

    @property
    def symmetries(self) -> MappingProxyType:  # pyright: ignore[reportIncompatibleVariableOverride]
        return MappingProxyType({"gauge": _random_gauge, "z2": lambda x, _: wrapped(-x)})

    def shape(self, lattice: Lattice) -> tuple[int, ...]:
        return (2, *lattice)

    def start(self, lattice: Lattice, n: int, generator: Generator, dtype: torch.dtype) -> Links:
        """Angles near zero: from random ones, heavy quarks and strong couplings would push hard."""
        shape = (n, *self.shape(lattice))
        return 0.1 * torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """The shorter way around."""
        return wrapped(one - other).abs()

    def vectors(self, x: Tensor, lattice: Lattice) -> Vectors:  # noqa: ARG002
        """(cos P, sin P) of the plaquettes, which no gauge transformation changes."""
        angles = plaquette_angles(x)
        return torch.stack((angles.cos(), angles.sin()), 1).double()

    def identities(self, theory: Theory, x: Tensor, generator: Generator, sites: Tensor) -> Identities:  # noqa: ARG002
        """Those of derivatives."""
        return of_links(theory, x)

    def observables(self, lattice: Lattice) -> tuple[Observable, ...]:
        volume, of = math.prod(lattice), ("topological_charge",)
        from_plaquettes = partial(_of_plaquettes, *loops_of_potential(lattice))
        return (
            Observable(
                "plaquette", "⟨cos P⟩", from_plaquettes, shown=("histogram",), symbol="cos P",
                tex=r"$\cos P$", meaning="V⁻¹ Σ cos P(x) of each configuration.",
            ),
            Observable(
                "topological_charge",
                function=from_plaquettes,
                sectors=TOPOLOGY,
                spacing=1.0,
                shown=("history",),
                symbol="Q",
                tex="$Q$",
                meaning="Charge conjugation makes Q and −Q equally probable.",
            ),
            Observable("charge", "⟨Q⟩", of=of, odd=True, quantum=1.0),
            Observable(
                "charge_squared", "⟨Q²⟩", of=of, each=np.square, slow=True, quantum=1.0, rests_on=abs,
                symbol="Q²", tex="$Q^2$",
            ),
            Observable(
                "topological_susceptibility", "⟨Q²⟩/V", of=of, each=lambda q: q**2 / volume,
                quantum=1 / volume, rests_on=abs,
            ),
            *(_share(n) for n in SECTORS),
            Observable("sine_charge", function=from_plaquettes, symbol="Q_s", tex="$Q_s$"),
            Observable(
                "sine_susceptibility", "⟨Q_s²⟩/V, Q_s = Σ sin P/2π", of=("sine_charge",),
                each=lambda q: q**2 / volume,
            ),
            Observable("polyakov", "Re⟨L⟩ (Polyakov loop)", _real_polyakov),
            *_potential(lattice, from_plaquettes),
        )  # fmt: skip


def loops_of_potential(lattice: Lattice) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents in time t, t + 1 and distances r of the Wilson loops of which the static potential is made.

    None on lattices that have no room for two of them, t + 1 ≤ L0/2 and r ≤ L1/2.
    """
    last = min(3, lattice[0] // 2)
    return ((last - 1, last), tuple(range(1, min(3, lattice[1] // 2) + 1))) if last > 1 else ((), ())


def _of_plaquettes(extents: tuple[int, ...], distances: tuple[int, ...], links: Links) -> dict[str, Tensor]:
    """What follows from the plaquettes alone, by one pass over the links."""
    angles = plaquette_angles(links)
    found = {
        "plaquette": torch.cos(angles).flatten(1).mean(1),
        "topological_charge": charge_of(angles),
        "sine_charge": torch.sin(angles).flatten(1).sum(1) / (2 * math.pi),
    }
    return {**found, "wilson_loops": loops_of(angles, extents, distances)} if extents else found


def _potential(
    lattice: Lattice, from_plaquettes: Callable[[Links], dict[str, Tensor]]
) -> Iterator[Observable]:
    """V(r) = log W(r, t)/W(r, t+1), and the string tension V(r+1) − V(r), the Creutz ratio."""
    extents, distances = loops_of_potential(lattice)
    if not extents:
        return
    yield Observable(
        "wilson_loops", function=from_plaquettes, axes=("extent", "distance"), symbol="Wilson loops"
    )
    for r in distances:
        yield Observable(
            f"potential_{r}", f"V({r}) (static potential)", of=("wilson_loops",),
            each=partial(_loops_from, r, r), average=_static_potential, positive=True,
        )  # fmt: skip
    for r in distances[:-1]:
        yield Observable(
            f"string_tension_{r}", f"V({r + 1}) − V({r}) (string tension)", of=("wilson_loops",),
            each=partial(_loops_from, r, r + 1), average=_string_tension, positive=True,
        )  # fmt: skip


def _loops_from(first: int, last: int, loops: np.ndarray) -> np.ndarray:
    """Those of the distances from first to last, at t and then at t + 1, as the components of one axis."""
    chosen = loops[..., first - 1 : last]
    return chosen.reshape(*chosen.shape[:-2], -1)


def _static_potential(loops: np.ndarray) -> float:
    """V(r) = log [W(r, t) / W(r, t+1)]."""
    now, later = loops
    return np.log(now / later)


def _string_tension(loops: np.ndarray) -> float:
    """V(r+1) − V(r) = log [W(r+1, t) W(r, t+1) / (W(r, t) W(r+1, t+1))]."""
    near, far, near_later, far_later = loops
    return np.log(far * near_later / (near * far_later))


def _share(n: int) -> Observable:
    """P(|Q| = n), which rests on the rarer of those that count and those that do not."""
    return Observable(
        f"P_charge_{n}",
        f"P(|Q| = {n})" if n else "P(Q = 0)",
        of=("topological_charge",),
        each=lambda q: (np.abs(q) == n).astype(np.float64),
        quantum=1.0,
        rests_on=lambda share: min(abs(share), abs(1 - share)),
    )


def _real_polyakov(links: Links) -> Tensor:
    return polyakov_loop(links).real


def _random_gauge(links: Links, generator: Generator) -> Links:
    shape = (len(links), *links.shape[2:])
    angles = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return gauge_transformed(links, angles.to(links))


LINKS = LinkAngles()
"""The kind of theories of U(1) links."""
