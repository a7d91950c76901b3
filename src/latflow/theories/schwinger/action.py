"""Dynamical Wilson fermions in a two-dimensional U(1) gauge field, and the Schwinger model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latflow.formulas import effective_mass
from latflow.observables.base import Observable
from latflow.observables.fermions import pion_correlator
from latflow.theories.base import Action, Evaluation, Scaled, Sum, Words, check_finite
from latflow.theories.u1 import LinkTheory, U1Gauge
from latflow.types import Count, Lattice, Links, LogProb
from latflow.wilson import Boundary, determinant_and_condensate, log_abs_det

_PION_MASSES = (1, 2, 3, 4)
"""The times t at which tables have the effective mass of the pion."""


@dataclass(frozen=True)
class WilsonFermions(LinkTheory):
    """What N_f flavours of Wilson fermions add to the action of the gauge field.

        S(θ) = −N_f log |det D(θ)|

    The fermions are integrated out. The sign of det D, which is real, is left out: an even number of flavours
    has none, and averages for an odd number are reweighted with it. The force comes from the same elimination
    as the determinant. Source: Białas, Korcyl, Stebel, Training normalizing flows with computationally
    intensive target probability distributions, section 5.

    Args:
        lattice: the two side lengths (L0, L1), each at least 3.
        kappa: the hopping parameter κ.
        flavours: N_f, at least 1.
        boundary: of the fermions in time, "antiperiodic" or "periodic".

    Raises:
        ValueError: for a lattice that is not two-dimensional or has a side below 3, a κ that is not
            finite, and for no flavour.
    """

    kappa: float
    flavours: Count = 2
    boundary: Boundary = "antiperiodic"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(kappa=self.kappa)
        if min(self.lattice) < 3:
            raise ValueError(f"expected sides of at least 3 for fermions, got {self.lattice}")
        if self.flavours < 1:
            raise ValueError(f"expected at least one flavour, got {self.flavours}")

    def __call__(self, x: Links) -> LogProb:
        self.check(x)
        return -self.flavours * log_abs_det(x, self.kappa, self.boundary)[0]

    def evaluate(self, x: Links) -> Evaluation:
        """Value and force by one elimination."""
        self.check(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return Evaluation(value.detach(), -gradient, x)

    @property
    def reweighting(self) -> str | None:
        """The sign of det D, for an odd number of flavours."""
        return "sign" if self.flavours % 2 else None

    @property
    def words(self) -> Words:
        numbers = f"κ = {self.kappa:g}, N_f = {self.flavours}, {self.boundary} in time".replace("-", "−")
        return Words("Wilson fermions", numbers, "S = −N_f log |det D|")

    def own_observables(self) -> tuple[Observable, ...]:
        """Condensate, sign of det D, and the pion: its correlator in time and effective masses."""
        last = self.lattice[0] // 2 - 1
        masses = [_pion_mass(t) for t in _PION_MASSES if t <= last]
        return (
            Observable(
                "condensate", "⟨Tr D⁻¹⟩/V (condensate)", self._from_elimination, slow=True,
                shown=("history",), symbol="the condensate", tex="condensate",
                meaning="The condensate is V⁻¹ Re Tr D⁻¹.",
            ),
            Observable(
                "sign", "⟨σ⟩, σ = sign det D", self._from_elimination, quantum=2.0, reweighted=False,
                rests_on=lambda average: 1 - abs(average), shown=("history",), symbol="σ", tex=r"$\sigma$",
                meaning="σ is the sign of det D; where it follows (−1)^Q, its changes are moves between even "
                "and odd topological sectors.",
            ),
            Observable(
                "pion", function=self._pion, axes=("time",), symbol="the pion correlator",
                meaning="The pseudoscalar correlator C(t) along direction 0, symmetric about L₀/2. "
                "Neighbouring times are strongly correlated, so several pulls of one sign are no surprise.",
            ),
            *masses,
        )  # fmt: skip

    def _from_elimination(self, links: Links) -> dict[str, Tensor]:
        _, sign, condensate = determinant_and_condensate(links, self.kappa, self.boundary)
        return {"condensate": condensate, "sign": sign}

    def _pion(self, links: Links) -> Tensor:
        return pion_correlator(links, self.kappa, self.boundary)


@dataclass(frozen=True, init=False)
class Schwinger(Sum):
    """The Schwinger model, `U1Gauge` + `WilsonFermions`: S(θ) = −β Σ cos P − N_f log |det D|.

    Args:
        lattice: the two side lengths (L0, L1), each at least 3.
        beta: the inverse gauge coupling β.
        kappa: the hopping parameter κ.
        flavours: N_f.
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
        kappa: float,
        flavours: Count = 2,
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
        numbers = f"β = {self.first.beta:g}, κ = {fermions.kappa:g}".replace("-", "−")
        times = "" if fermions.flavours == 1 else f"{fermions.flavours} "
        return Words(
            "Schwinger model",
            f"{numbers}, {flavours}, {fermions.boundary} in time",
            f"S = −β Σₓ cos P(x) − {times}log |det D|",
        )


def _pion_mass(t: int) -> Observable:
    return Observable(
        f"pion_mass_{t}",
        f"m_eff({t}) of the pion",
        of=("pion",),
        each=lambda c: c[..., t - 1 : t + 2],
        average=lambda c: effective_mass(c)[0],
        may_be_undefined=True,
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
