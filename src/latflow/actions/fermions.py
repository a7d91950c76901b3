"""Dynamical Wilson fermions in a two-dimensional U(1) gauge field, and the Schwinger model."""

from dataclasses import dataclass

from latflow.actions.base import Action, Scaled, Sum
from latflow.actions.u1 import LinkTheory, U1Gauge
from latflow.types import Lattice, Links, LogProb
from latflow.wilson import Boundary, log_abs_det


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
        ValueError: for a lattice that is not two-dimensional or has a side below 3, and for no flavour.
    """

    kappa: float
    flavours: int = 2
    boundary: Boundary = "antiperiodic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.lattice) < 3:
            raise ValueError(f"expected sides of at least 3 for fermions, got {self.lattice}")
        if self.flavours < 1:
            raise ValueError(f"expected at least one flavour, got {self.flavours}")

    def __call__(self, x: Links) -> LogProb:
        self._check(x)
        return -self.flavours * log_abs_det(x, self.kappa, self.boundary)[0]


def Schwinger(  # noqa: N802 (a theory, though it is only a sum of two)
    lattice: Lattice, beta: float, kappa: float, flavours: int = 2, boundary: Boundary = "antiperiodic"
) -> Sum:
    """The Schwinger model, `U1Gauge` + `WilsonFermions`: S(θ) = −β Σ cos P − N_f log |det D|.

    Args:
        lattice: the two side lengths (L0, L1), each at least 3.
        beta: the inverse gauge coupling β.
        kappa: the hopping parameter κ.
        flavours: N_f.
        boundary: of the fermions in time.

    Raises:
        ValueError: as `WilsonFermions`.
    """
    return Sum(U1Gauge(lattice, beta), WilsonFermions(lattice, kappa, flavours, boundary))


def fermions_of(action: Action) -> WilsonFermions | None:
    """The fermions of a theory, whose observables need the operator D; None where it has none."""
    if isinstance(action, WilsonFermions):
        return action
    if isinstance(action, Scaled):
        return fermions_of(action.inner)
    if isinstance(action, Sum):
        return fermions_of(action.first) or fermions_of(action.second)
    return None
