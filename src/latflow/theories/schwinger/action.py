"""Dynamical Wilson fermions in a two-dimensional U(1) gauge field, and the Schwinger model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from latflow.formulas import effective_mass
from latflow.observables.base import Observable
from latflow.observables.fermions import pion_correlators, singlet_of
from latflow.theories.base import Action, Evaluation, Scaled, Sum, Words, check_finite
from latflow.theories.schwinger.exact import free_fermion_condensate
from latflow.theories.u1 import LinkTheory, U1Gauge
from latflow.types import Count, Lattice, Links, LogProb
from latflow.wilson import (
    Boundary,
    determinant_and_condensate,
    holonomy_determinants,
    interpolated,
    log_abs_det,
)

_POINTS, _LARGE = 3, 8
"""Fermions that go around twice change det D by some thousandths from this side on."""
_MASSES = (1, 2, 3, 4)
"""The times t at which tables have the effective mass of a meson."""


@dataclass(frozen=True, init=False)
class WilsonFermions(LinkTheory):
    """What N_f flavours of Wilson fermions add to the action of the gauge field.

        S(θ) = −Σ_f log |det D(κ_f; θ)|

    The fermions are integrated out. The sign of Π_f det D(κ_f), which is real, is left out: where every κ
    belongs to an even number of flavours there is none, and elsewhere averages are reweighted with it. The
    force comes from the same elimination as the determinant; flavours of one κ share it. Source: Białas,
    Korcyl, Stebel, Training normalizing flows with computationally intensive target probability
    distributions, section 5.

    Args:
        lattice: the two side lengths (L0, L1), each at least 3.
        kappa: the hopping parameter κ of all flavours, or one for each of them.
        flavours: N_f, at least 1; as many as there are κ, and 2 for a single number, if None.
        boundary: of the fermions in time, "antiperiodic" or "periodic".

    Attributes:
        kappa: one number where all flavours have the same.
        flavours: N_f.

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 3, a κ that is not
            finite, no flavour, and for another number of flavours than of κ.

    Example:
        >>> WilsonFermions((4, 4), kappa=(0.276, 0.25)).flavours
        2
        >>> WilsonFermions((4, 4), kappa=(0.25, 0.25)) == WilsonFermions((4, 4), 0.25, flavours=2)
        True
    """

    kappa: float | tuple[float, ...]
    flavours: int
    boundary: Boundary

    def __init__(
        self,
        lattice: Lattice,
        kappa: float | Sequence[float],
        flavours: Count | None = None,
        boundary: Boundary = "antiperiodic",
    ) -> None:
        number = flavours if flavours is not None else (len(kappa) if isinstance(kappa, Sequence) else 2)
        if number < 1:
            raise ValueError(f"expected at least one flavour, got {number}")
        kappas = tuple(kappa) if isinstance(kappa, Sequence) else (kappa,) * number
        if len(kappas) != number:
            raise ValueError(f"expected a kappa for each of {number} flavours, got {len(kappas)}: {kappas}")
        for one in kappas:
            check_finite(kappa=one)
        object.__setattr__(self, "lattice", lattice)
        object.__setattr__(self, "kappa", kappas if len(set(kappas)) > 1 else kappas[0])
        object.__setattr__(self, "flavours", number)
        object.__setattr__(self, "boundary", boundary)
        super().__post_init__()
        if min(self.lattice) < 3:
            raise ValueError(f"expected sides of at least 3 for fermions, got {self.lattice}")

    @property
    def shares(self) -> dict[float, int]:
        """How many flavours have each κ, in the order of the flavours."""
        return dict(Counter(self.kappa)) if isinstance(self.kappa, tuple) else {self.kappa: self.flavours}

    def __call__(self, x: Links) -> LogProb:
        self.check(x)
        terms = [-n * log_abs_det(x, kappa, self.boundary)[0] for kappa, n in self.shares.items()]
        return torch.stack(terms).sum(0)

    def evaluate(self, x: Links) -> Evaluation:
        """Value and force by one elimination for each κ."""
        self.check(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return Evaluation(value.detach(), -gradient, x)

    def holonomy_density(self, links: Links, angles: Tensor) -> Tensor:
        """Π_f |det D(κ_f)|, interpolated from the determinants of a few turned fields."""
        points = _POINTS if min(links.shape[2:]) >= _LARGE else _POINTS + 2
        parts = [
            interpolated(holonomy_determinants(links, kappa, self.boundary, points), angles).abs() ** n
            for kappa, n in self.shares.items()
        ]
        return torch.stack(parts).prod(0)

    @property
    def costly(self) -> bool:
        """True: the force takes an elimination."""
        return True

    @property
    def reweighting(self) -> str | None:
        """The sign of Π_f det D(κ_f), where a κ belongs to an odd number of flavours."""
        return "sign" if any(n % 2 for n in self.shares.values()) else None

    @property
    def words(self) -> Words:
        numbers = f"{_kappas(self)}, N_f = {self.flavours}, {self.boundary} in time"
        return Words("Wilson fermions", numbers, f"S = −{_determinants(self)}")

    def own_observables(self) -> tuple[Observable, ...]:
        """Condensate of each κ, sign, pions and singlet: their correlators in time and effective masses."""
        eliminated = self._from_elimination  # one object: what shares a function is computed by one call
        sign = self._sign_words
        return (
            *(self._condensate(i, eliminated) for i in range(len(self.shares))),
            *self._subtracted(),
            Observable(
                "sign", f"⟨σ⟩, σ = {sign}", eliminated, quantum=2.0, reweighted=False,
                rests_on=lambda average: 1 - abs(average), shown=("history",), symbol="σ", tex=r"$\sigma$",
                meaning=f"σ is {sign.replace('sign', 'the sign of')}; where the sign of one det D follows "
                "(−1)^Q, its changes are moves between even and odd topological sectors.",
            ),
            *self._mesons(),
        )  # fmt: skip

    def _suffix(self, *flavours: int) -> str:
        """Of a name, where there are several κ to tell apart, counted from 1."""
        return f"_{''.join(str(i + 1) for i in flavours)}" if len(self.shares) > 1 else ""

    def _condensate(self, i: int, eliminated: Callable[[Links], dict[str, Tensor]]) -> Observable:
        which = f", {_kappa(list(self.shares)[i])}" if len(self.shares) > 1 else ""
        return Observable(
            f"condensate{self._suffix(i)}", f"⟨Tr D⁻¹⟩/V (condensate{which})", eliminated, slow=True,
            shown=("history",), symbol=f"the condensate{which}", tex=f"condensate{which}",
            meaning=f"The condensate is V⁻¹ Re Tr D⁻¹{which.replace(',', ' at')}.",
        )  # fmt: skip

    def _subtracted(self) -> Iterator[Observable]:
        """The condensates less those of free fermions of the same κ, where these have no zero mode.

        That takes away what Wilson's term makes of the vacuum, all of it in the free theory and to leading
        order near it; κ is not renormalised, and no constant multiplied.
        """
        for i, kappa in enumerate(self.shares):
            try:
                free = free_fermion_condensate(self.lattice, kappa, self.boundary)
            except ValueError:
                continue
            which = f", {_kappa(kappa)}" if len(self.shares) > 1 else ""
            yield Observable(
                f"condensate_subtracted{self._suffix(i)}",
                f"⟨Tr D⁻¹⟩/V − free (condensate{which})",
                of=(f"condensate{self._suffix(i)}",),
                each=partial(_less, free),
            )

    @property
    def _signs(self) -> list[float]:
        """The κ whose signs make the sign: those of an odd number of flavours, or the first one."""
        return [kappa for kappa, n in self.shares.items() if n % 2] or list(self.shares)[:1]

    @property
    def _sign_words(self) -> str:
        if len(self.shares) == 1:
            return "sign det D"
        return "sign " + " ".join(f"det D({kappa:g})".replace("-", "−") for kappa in self._signs)

    def _from_elimination(self, links: Links) -> dict[str, Tensor]:
        # in single precision a nearly singular block costs a condensate all its digits, once in 10⁴ fields
        exact = links.double()
        found = {kappa: determinant_and_condensate(exact, kappa, self.boundary) for kappa in self.shares}
        sign = torch.stack([found[kappa].sign for kappa in self._signs]).prod(0)
        condensates = {f"condensate{self._suffix(i)}": one.condensate for i, one in enumerate(found.values())}
        return {name: series.to(links.dtype) for name, series in {**condensates, "sign": sign}.items()}

    def _mesons(self) -> Iterator[Observable]:
        """The singlet, and the pion of each pair of κ: of two flavours, though there may be but one."""
        last, correlators = self.lattice[0] // 2 - 1, self._correlators
        for suffix, kappas in self._pairs().items():
            of = " of " + " and ".join(map(_kappa, dict.fromkeys(kappas))) if suffix else ""
            yield Observable(
                f"pion{suffix}", function=correlators, axes=("time",), symbol=f"the pion correlator{of}",
                meaning="The pseudoscalar correlator C(t) along direction 0, symmetric about L₀/2. "
                "Neighbouring times are strongly correlated, so several pulls of one sign are no surprise.",
            )  # fmt: skip
            yield from (_mass(f"pion{suffix}", t, f"the pion{of}") for t in _MASSES if t <= last)
        yield Observable(
            "singlet", function=correlators, axes=("time",), symbol="the singlet correlator",
            meaning="The correlator of the flavour singlet Σ_f ψ̄_f γ5 ψ_f, connected less disconnected quark "
            "lines: its particle, the η′, is heavier than the pion by the anomaly.",
        )  # fmt: skip
        yield from (_mass("singlet", t, "the singlet (η′)") for t in _MASSES if t <= last)

    def _pairs(self) -> dict[str, tuple[float, float]]:
        """The pairs of κ of which there are pions, by what their names have behind."""
        kappas = list(self.shares)
        places = combinations_with_replacement(range(len(kappas)), 2)
        return {self._suffix(*sorted({i, j})): (kappas[i], kappas[j]) for i, j in places}

    def _correlators(self, links: Links) -> dict[str, Tensor]:
        pairs, exact = self._pairs(), links.double()
        found = pion_correlators(exact, list(pairs.values()), self.boundary)
        equal = {one: pion for (one, other), pion in zip(pairs.values(), found, strict=True) if one == other}
        singlet = singlet_of(exact, equal, self.shares, self.boundary)
        pions = {f"pion{suffix}": pion for suffix, pion in zip(pairs, found, strict=True)}
        return {name: series.to(links.dtype) for name, series in {**pions, "singlet": singlet}.items()}


@dataclass(frozen=True, init=False)
class Schwinger(Sum):
    """The Schwinger model, `U1Gauge` + `WilsonFermions`: S(θ) = −β Σ cos P − Σ_f log |det D(κ_f)|.

    Args:
        lattice: the two side lengths (L0, L1), each at least 3.
        beta: the inverse gauge coupling β.
        kappa: the hopping parameter κ of all flavours, or one for each of them.
        flavours: N_f; as many as there are κ, and 2 for a single number, if None.
        boundary: of the fermions in time.

    Raises:
        ValueError: as `U1Gauge` and `WilsonFermions`.
    """

    first: U1Gauge
    second: WilsonFermions

    def __init__(
        self,
        lattice: Lattice,
        beta: float,
        kappa: float | Sequence[float],
        flavours: Count | None = None,
        boundary: Boundary = "antiperiodic",
    ) -> None:
        super().__init__(U1Gauge(lattice, beta), WilsonFermions(lattice, kappa, flavours, boundary))

    @property
    def established(self) -> tuple[str, ...]:
        """HMC and hops between topological sectors.

        Where det D = 0 the force is infinite: HMC alone keeps the sign of det D with which it began, which is
        (−1)^Q for fields of constant flux.
        """
        return ("hmc", "hops")

    @property
    def words(self) -> Words:
        fermions = self.second
        flavours = f"{fermions.flavours} flavour{'' if fermions.flavours == 1 else 's'}"
        beta = f"β = {self.first.beta:g}".replace("-", "−")
        return Words(
            "Schwinger model",
            f"{beta}, {_kappas(fermions)}, {flavours}, {fermions.boundary} in time",
            f"S = −β Σₓ cos P(x) − {_determinants(fermions)}",
        )


def _less(constant: float, values: np.ndarray) -> np.ndarray:
    return values - constant


def _kappa(kappa: float) -> str:
    return f"κ = {kappa:g}".replace("-", "−")


def _kappas(fermions: WilsonFermions) -> str:
    """One κ for all, or that of each flavour."""
    kappas = fermions.kappa if isinstance(fermions.kappa, tuple) else (fermions.kappa,)
    return "κ = " + ", ".join(f"{kappa:g}" for kappa in kappas).replace("-", "−")


def _determinants(fermions: WilsonFermions) -> str:
    """What the formula of the action has of the fermions: "2 log |det D|"."""
    if len(fermions.shares) > 1:
        return "Σ_f log |det D(κ_f)|"
    return f"{'' if fermions.flavours == 1 else f'{fermions.flavours} '}log |det D|"


def _mass(correlator: str, t: int, of: str) -> Observable:
    """The effective mass at t of the meson of a correlator."""
    meson, _, suffix = correlator.partition("_")
    return Observable(
        f"{meson}_mass{suffix and f'_{suffix}'}_{t}",
        f"m_eff({t}) of {of}",
        of=(correlator,),
        each=lambda c: c[..., t - 1 : t + 2],
        average=lambda c: effective_mass(c)[0],
        may_be_undefined=True,
        positive=True,
    )


def fermions_of(action: Action) -> WilsonFermions | None:
    """The fermions of a theory, whose observables need the operator D; None where it has none."""
    if isinstance(action, WilsonFermions):
        return action
    if isinstance(action, Scaled):
        return fermions_of(action.inner)
    if isinstance(action, Sum):
        return fermions_of(action.first) or fermions_of(action.second)
    return None
