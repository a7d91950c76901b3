"""What is known of a theory before it is sampled: closed forms, symmetries, and given references."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from latflow import exact
from latflow.actions import Action, HoppingPhi4, Ising, Phi4, U1Gauge
from latflow.analysis import KINDS, SECTORS, Measurement
from latflow.lattice import volume
from latflow.observables import binder_cumulant, susceptibility

_ODD = ("magnetization", "sign_of_magnetization", "charge")
"""What changes its sign where S(−x) = S(x), a reflection of φ or of spins, or charge conjugation of links."""

_MOST_SITES_ENUMERATED = 16
_LONGEST_ROW = 8
"""The transfer matrix has 2 to this power states: about a second."""


def known(action: Action, reference: dict[str, str]) -> dict[str, Measurement]:
    """What is known of a theory, by the names of the verdict table; `reference` overrides."""
    found: dict[str, Measurement] = {}
    if isinstance(action, Phi4):
        found |= _known_phi4(action)
    elif isinstance(action, HoppingPhi4) and action.beta > 0:
        found |= _known_hopping(action)
    elif isinstance(action, U1Gauge) and action.beta >= 0:
        found |= _known_u1(action)
    elif isinstance(action, Ising):
        found |= _known_ising(action)
    if action.z2_symmetric:
        odd = (name for name in _ODD if name in KINDS[action.kind].labels)
        found |= dict.fromkeys(odd, Measurement(0.0, 0.0))
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


@cache
def magnetization_distribution(action: Action) -> tuple[np.ndarray, np.ndarray] | None:
    """The magnetisations of a uniform Ising model on a ring or a small torus, and their probabilities."""
    if not isinstance(action, Ising) or action.couplings is not None or action.beta <= 0:
        return None
    if len(action.lattice) > 2 or (len(action.lattice) == 2 and min(action.lattice) > _LONGEST_ROW):
        return None
    found = exact.ising_magnetization(action.lattice, action.beta, action.field)
    return found.values, found.probabilities


def _known_ising(action: Ising) -> dict[str, Measurement]:
    """From Kaufman's solution and the transfer matrix; small lattices by the sum over all configurations."""
    sites = volume(action.lattice)
    uniform = action.couplings is None and action.beta > 0 and len(action.lattice) <= 2
    numbers: dict[str, float] = {}
    if sites <= _MOST_SITES_ENUMERATED:
        numbers = _enumerated(action)
    elif uniform and action.field == 0:
        log_z, energy = (f(action.lattice, action.beta) for f in (exact.ising_log_z, exact.ising_energy))
        numbers = {
            "log_z": log_z,
            "free_energy_density": -log_z / sites,
            "entropy": exact.ising_entropy(action.lattice, action.beta),
            "action_density": action.beta * energy,
            "specific_heat": exact.ising_specific_heat(action.lattice, action.beta),
        }
    if uniform and action.field == 0:
        numbers["energy"] = exact.ising_energy(action.lattice, action.beta)
    if sites > _MOST_SITES_ENUMERATED and (distribution := magnetization_distribution(action)) is not None:
        m, p = distribution
        numbers |= _of_moments(sites, *(float(values @ p) for values in (m, abs(m), m**2, m**4)))
    return {name: Measurement(value, 0.0) for name, value in numbers.items()}


def _enumerated(action: Ising) -> dict[str, float]:
    found, sites = exact.spins_enumerated(action), volume(action.lattice)
    return {
        "log_z": found.log_z,
        "free_energy_density": -found.log_z / sites,
        "entropy": found.log_z + found.action,
        "action_density": found.action / sites,
        "specific_heat": found.action_variance / sites,
        **_of_moments(sites, found.m, found.m_abs, found.m_squared, found.m_fourth),
    }


def _of_moments(sites: int, *moments: float) -> dict[str, float]:
    """What follows from ⟨M⟩, ⟨|M|⟩, ⟨M²⟩ and ⟨M⁴⟩."""
    m, m_abs, m_squared, m_fourth = moments
    return {
        "magnetization": m,
        "abs_magnetization": m_abs,
        "V_magnetization_squared": sites * m_squared,
        "susceptibility": susceptibility(m_squared, m_abs, sites),
        "binder_cumulant": binder_cumulant(m_squared, m_fourth),
    }
