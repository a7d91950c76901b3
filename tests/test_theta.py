"""The vacuum angle: exact results of U(1), reweighting with the sectors, and what it costs."""

import math

import numpy as np
import pytest
import torch

from latflow import exact
from latflow.analysis import at_theta, reweighted_share
from latflow.measurement import Measurement
from latflow.observables import effective_mass, recorded
from latflow.theories import Schwinger, U1Gauge

CASES = [((2, 2), 0.0), ((2, 2), 1.0), ((3, 4), 1.0), ((8, 8), 2.0)]
ANGLES = (0.5, 2.0, math.pi, 7.0, -1.0)


# --- the exact solution -----------------------------------------------------------------------------


@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize(("lattice", "beta"), CASES)
def test_sums_over_characters_are_sums_over_sectors(lattice, beta, theta):
    charges = np.arange(-40, 41)
    weight = exact.u1_charge_distribution(lattice, beta, charges)
    z = float(weight @ np.cos(theta * charges))
    assert exact.u1_theta_ratio(lattice, beta, theta) == pytest.approx(z, abs=1e-10)
    odd, squared = (
        weight @ (charges * np.sin(theta * charges)),
        weight @ (charges**2 * np.cos(theta * charges)),
    )
    assert exact.u1_charge_at_theta(lattice, beta, theta) == pytest.approx(odd / z, abs=1e-8)
    assert exact.u1_charge_squared(lattice, beta, theta) == pytest.approx(squared / z, abs=1e-8)


@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize(("lattice", "beta"), CASES[1:])
def test_the_plaquette_is_the_slope_of_the_free_energy_at_every_angle(lattice, beta, theta):
    def log_z(b: float) -> float:
        return exact.u1_log_z(lattice, b) + math.log(exact.u1_theta_ratio(lattice, b, theta))

    slope = (log_z(beta + 1e-4) - log_z(beta - 1e-4)) / (2e-4 * math.prod(lattice))
    assert exact.u1_plaquette(lattice, beta, theta) == pytest.approx(slope, abs=1e-7)


def test_angles_are_angles_and_zero_is_the_theory_without():
    lattice, beta = (8, 8), 2.0
    assert exact.u1_theta_ratio(lattice, beta, 0.0) == pytest.approx(1)
    assert exact.u1_charge_at_theta(lattice, beta, 0.0) == pytest.approx(0, abs=1e-14)
    for function in (exact.u1_plaquette, exact.u1_charge_squared):
        assert function(lattice, beta, 1e-12) == pytest.approx(function(lattice, beta))
        assert function(lattice, beta, 1.0 + 2 * math.pi) == pytest.approx(function(lattice, beta, 1.0))
    # ⟨Q⟩/i = θ⟨Q²⟩ to first order
    assert exact.u1_charge_at_theta(lattice, beta, 1e-4) == pytest.approx(
        1e-4 * exact.u1_charge_squared(lattice, beta), rel=1e-6
    )
    # in a large volume one ν is left: Z(θ)/Z(0) is a power, and nothing under- or overflows
    small, large = (math.log(exact.u1_theta_ratio((side, side), beta, 2.0)) for side in (32, 64))
    assert large == pytest.approx(4 * small, rel=1e-6)
    assert exact.u1_plaquette((512, 512), beta, 2.0) == pytest.approx(
        exact.u1_plaquette((64, 64), beta, 2.0), rel=1e-10
    )
    with pytest.raises(ValueError, match="finite theta"):
        exact.u1_plaquette(lattice, beta, math.inf)


# --- reweighting ------------------------------------------------------------------------------------


def drawn(action: U1Gauge, steps: int, chains: int, seed: int) -> dict[str, np.ndarray]:
    """What is recorded of independent draws, as that of chains."""
    x, _ = action.exact_sampler().sample(steps * chains, torch.Generator().manual_seed(seed))
    record = recorded(action)(x)
    return {name: values.numpy().reshape(steps, chains, *values.shape[1:]) for name, values in record.items()}


@pytest.mark.parametrize("theta", [0.4, 1.5, math.pi])
def test_draws_of_one_angle_tell_of_all(theta):
    action = U1Gauge((4, 4), 1.0)
    series = drawn(action, 1000, 20, seed=1)
    found, known = at_theta(theta, series, action.observables), action.known_at_theta(theta)
    assert not found.drowned
    assert abs(found.ratio.pull(known["theta_ratio"].value)) < 5
    assert found.share == pytest.approx(reweighted_share(np.cos(theta * series["topological_charge"])))
    assert set(found.numbers) == known.keys() - {"theta_ratio"}
    for name, measured in found.numbers.items():
        if theta == math.pi and name == "charge":
            assert measured == Measurement(0.0, 0.0)  # sin πQ, up to rounding
            assert known[name].value == pytest.approx(0, abs=1e-12)
            continue
        assert abs(measured.pull(known[name].value)) < 5, name
        # and not what they are at θ = 0
    assert abs(found.numbers["charge_squared"].pull(action.known()["charge_squared"].value)) > 5


def test_errors_are_those_of_a_jackknife():
    """Over 100 blocks a jackknife knows an error to 7 %: five of these."""
    action, theta = U1Gauge((4, 4), 1.0), 2.0
    series = {name: values[:, 0] for name, values in drawn(action, 4000, 1, seed=2).items()}
    found = at_theta(theta, series, action.observables)
    q = series["topological_charge"].reshape(100, 40)
    for name, above in (
        ("plaquette", series["plaquette"].reshape(q.shape) * np.cos(theta * q)),
        ("charge", q * np.sin(theta * q)),
        ("charge_squared", q**2 * np.cos(theta * q)),
    ):
        sums = [part.sum() - part.sum(1) for part in (above, np.cos(theta * q))]
        left_out = sums[0] / sums[1]
        error = math.sqrt(99 * np.var(left_out))
        assert found.numbers[name].error == pytest.approx(error, rel=0.35), name
        assert found.numbers[name].value == pytest.approx(left_out.mean(), abs=error), name


def test_weights_and_signs_enter_as_a_complex_sum_says():
    rng, action, theta = np.random.default_rng(3), Schwinger((4, 4), 2.0, 0.3, flavours=1), 0.7
    shape = (400,)
    charge, log_weight = rng.integers(-2, 3, shape).astype(float), rng.standard_normal(shape)
    sign = rng.choice([-1.0, 1.0, 1.0, 1.0], shape)
    series = {
        "topological_charge": charge,
        "plaquette": rng.random(shape),
        "sign": sign,
        "action": rng.random(shape),
    }
    # charge conjugation of every configuration, so that the complex sum has its symmetry
    both = {
        name: np.concatenate((values, -values if name == "topological_charge" else values))
        for name, values in series.items()
    }
    twice = np.concatenate((log_weight, log_weight))
    found = at_theta(theta, both, action.observables, twice, both["sign"])
    weight = np.exp(twice) * both["sign"] * np.exp(1j * theta * both["topological_charge"])
    z = weight.sum() / (np.exp(twice) * both["sign"]).sum()
    assert found.ratio.value == pytest.approx(z.real)
    assert found.numbers["plaquette"].value == pytest.approx(
        ((weight * both["plaquette"]).sum() / weight.sum()).real
    )
    charge_over_i = (weight * both["topological_charge"]).sum() / weight.sum() / 1j
    assert found.numbers["charge"].value == pytest.approx(charge_over_i.real)
    assert "sign" not in found.numbers


def test_masses_are_those_of_correlators_at_the_angle():
    """Of a correlator that falls faster in each sector than in the one below."""
    rng, action, theta = np.random.default_rng(5), Schwinger((8, 4), 2.0, 0.25), 0.9
    charge = rng.integers(-2, 3, (500, 4)).astype(float)
    pion = np.exp(-(0.5 + 0.2 * charge[..., None] ** 2) * np.arange(5))
    series = {"topological_charge": charge, "pion": pion, "singlet": -pion}
    found = at_theta(theta, series, action.observables).numbers
    weight = np.cos(theta * charge)[..., None]
    expected = effective_mass((weight * pion).sum((0, 1)) / weight.sum())
    assert [found[f"pion_mass_{t}"].value for t in (1, 2, 3)] == pytest.approx(expected)
    # and what is below zero has none
    assert not {name for name in found if name.startswith("singlet")}


def test_noise_is_told_from_numbers():
    """On 12 × 12 at β = 1 Z(π) is less than 10⁻⁵ of Z(0), and 2000 draws know ⟨cos πQ⟩ to 1/√2000."""
    action = U1Gauge((12, 12), 1.0)
    series = drawn(action, 500, 4, seed=4)
    assert exact.u1_theta_ratio((12, 12), 1.0, math.pi) < 1e-5
    found = at_theta(math.pi, series, action.observables)
    assert found.drowned
    assert not found.numbers
    assert found.ratio.error == pytest.approx(1 / math.sqrt(2000), rel=0.3)
    near = at_theta(0.5, series, action.observables)
    assert not near.drowned
    assert abs(near.ratio.pull(exact.u1_theta_ratio((12, 12), 1.0, 0.5))) < 5
