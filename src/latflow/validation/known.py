"""What is known of a theory before it is sampled: closed forms, symmetries, and given references."""

import math
from collections.abc import Callable

from latflow import exact
from latflow.actions import Action, HoppingPhi4, Phi4
from latflow.analysis import Measurement
from latflow.lattice import volume


def known(action: Action, reference: dict[str, str]) -> dict[str, Measurement]:
    """What is known of a theory, by the names of the verdict table; `reference` overrides."""
    found: dict[str, Measurement] = {}
    if action.z2_symmetric:
        found["magnetization"] = found["sign_of_magnetization"] = Measurement(0.0, 0.0)
    if isinstance(action, Phi4):
        found |= _known_phi4(action)
    elif isinstance(action, HoppingPhi4) and action.beta > 0:
        found |= _known_hopping(action)
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
