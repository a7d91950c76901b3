"""What samplers record of each configuration, for each kind of field."""

from collections.abc import Callable

from torch import Tensor

from latflow.actions import Action, WilsonFermions, fermions_of
from latflow.observables.fermions import pion_correlator
from latflow.observables.gauge import plaquette, polyakov_loop, topological_charge
from latflow.observables.scalar import lowest_mode, magnetization, phi_squared, two_point
from latflow.observables.spins import bond_energy
from latflow.wilson import determinant_and_condensate

RECORDED: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "scalar": {
        "magnetization": magnetization,
        "phi_squared": phi_squared,
        "two_point": two_point,
        "lowest_mode": lowest_mode,
    },
    "gauge": {
        "plaquette": plaquette,
        "topological_charge": topological_charge,
        "polyakov": lambda links: polyakov_loop(links).real,
    },
    "spin": {
        "magnetization": magnetization,
        "energy": bond_energy,
        "two_point": two_point,
        "lowest_mode": lowest_mode,
    },
}
"""For each kind of field the observables that samplers record."""


def recorded(action: Action) -> Callable[[Tensor], dict[str, Tensor]]:
    """The function of the field that samplers record: the action, and the observables of its kind.

    With fermions these are also their "condensate" V⁻¹ Re Tr D⁻¹, the "sign" of det D, and the "pion"
    correlator.

    Raises:
        ValueError: when no observables are known for the kind of field.
    """
    if action.kind not in RECORDED:
        raise ValueError(f"expected a field of kind {' or '.join(RECORDED)}, got {action.kind!r}")
    functions = RECORDED[action.kind]
    fermions = fermions_of(action)

    def observe(x: Tensor) -> dict[str, Tensor]:
        record = {"action": action(x)} | {name: function(x) for name, function in functions.items()}
        return record if fermions is None else record | _of_fermions(fermions, x)

    return observe


def _of_fermions(fermions: WilsonFermions, links: Tensor) -> dict[str, Tensor]:
    """Condensate and sign by one elimination, the correlator by another one, always in time."""
    kappa, boundary = fermions.kappa, fermions.boundary
    _, sign, condensate = determinant_and_condensate(links, kappa, boundary)
    return {"condensate": condensate, "sign": sign, "pion": pion_correlator(links, kappa, boundary)}
