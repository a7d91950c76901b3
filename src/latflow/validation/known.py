"""What is known of a theory before it is sampled: closed forms, symmetries, and given references."""

import math
from collections.abc import Callable

from latflow import exact
from latflow.actions import Action, HoppingPhi4, Phi4, U1Gauge
from latflow.analysis import KINDS, SECTORS, Measurement
from latflow.lattice import volume

_ODD = ("magnetization", "sign_of_magnetization", "charge")
"""What changes its sign where S(−x) = S(x), a reflection of φ or charge conjugation of links."""


def known(action: Action, reference: dict[str, str]) -> dict[str, Measurement]:
    """What is known of a theory, by the names of the verdict table; `reference` overrides."""
    found: dict[str, Measurement] = {}
    if action.z2_symmetric:
        odd = (name for name in _ODD if name in KINDS[action.kind].labels)
        found |= dict.fromkeys(odd, Measurement(0.0, 0.0))
    if isinstance(action, Phi4):
        found |= _known_phi4(action)
    elif isinstance(action, HoppingPhi4) and action.beta > 0:
        found |= _known_hopping(action)
    elif isinstance(action, U1Gauge) and action.beta >= 0:
        found |= _known_u1(action)
    return found | {name: Measurement.parse(text) for name, text in reference.items()}


def _known_phi4(action: Phi4) -> dict[str, Measurement]:
    lattice, m2, lam = action.lattice, action.m2, action.lam
    if lam == 0 and m2 > 0:
        numbers = {
            "log_z": exact.free_field_log_z(lattice, m2),
            "phi_squared": exact.free_field_phi_squared(lattice, m2),
            "V_magnetization_squared": exact.free_field_zero_mode(m2),
            "action_density": 0.5,
        }
        return {name: Measurement(value, 0.0) for name, value in numbers.items()}
    if len(lattice) == 1 and lam > 0:
        return {
            "log_z": Measurement(*exact.phi4_log_z(lattice, m2, lam)),
            "phi_squared": Measurement(*exact.phi4_phi_squared(lattice, m2, lam)),
        }
    return {}


def _known_hopping(action: HoppingPhi4) -> dict[str, Measurement]:
    """The same by mass and coupling: φ = φ₁/c, and the measures differ by c^V, the actions by λV."""
    same, c = action.to_phi4()
    scales: dict[str, Callable[[float], float]] = {
        "log_z": lambda value: value - volume(action.lattice) * math.log(c) - action.constant,
        "phi_squared": lambda value: value / c**2,
        "V_magnetization_squared": lambda value: value / c**2,
        "action_density": lambda value: value + action.lam,
    }
    found = _known_phi4(same)
    return {
        name: Measurement(scales[name](m.value), m.error / (c**2 if name in ("phi_squared",) else 1.0))
        for name, m in found.items()
    }


def charge_probability(action: Action, charge: int) -> float | None:
    """P(|Q| = n) of U(1) gauge theory; None for other theories."""
    if not isinstance(action, U1Gauge) or action.beta < 0:
        return None
    single = exact.u1_charge_distribution(action.lattice, action.beta, charge)
    return float(single) * (2 if charge else 1)


def _known_u1(action: U1Gauge) -> dict[str, Measurement]:
    """From the exact solution; no loop that winds around the torus has an expectation value."""
    lattice, beta, sites = action.lattice, action.beta, volume(action.lattice)
    plaquette, squared = exact.u1_plaquette(lattice, beta), exact.u1_charge_squared(lattice, beta)
    shares = {f"P_charge_{n}": charge_probability(action, n) or 0.0 for n in SECTORS}
    numbers = {
        "log_z": exact.u1_log_z(lattice, beta) + 2 * sites * math.log(2 * math.pi),
        "plaquette": plaquette,
        "charge_squared": squared,
        "topological_susceptibility": squared / sites,
        "polyakov": 0.0,
        "action_density": -beta * plaquette,
    }
    return {name: Measurement(value, 0.0) for name, value in (numbers | shares).items()}
