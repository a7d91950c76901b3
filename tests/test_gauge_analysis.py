"""The analysis of links: averages reweighted with a sign, and how fast a chain changes its sector."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from latflow import observables
from latflow.analysis import (
    charge_displacement,
    derive,
    effective_masses,
    measure,
    summary,
    tunnelling_rate,
)
from latflow.theories import Schwinger, U1Gauge

MINUS, SLOPE, NOISE = 0.2, 0.7, 0.5
"""O = SLOPE σ + NOISE x with P(σ = −1) = MINUS: ⟨Oσ⟩/⟨σ⟩ = SLOPE/⟨σ⟩."""
MEAN_SIGN = 1 - 2 * MINUS
RATIO = SLOPE / MEAN_SIGN


def signed(steps, chains, seed, rho=0.0):
    """(O, σ): independent signs, and the noise an AR(1) process."""
    rng = np.random.default_rng(seed)
    sign = np.where(rng.random((steps, chains)) < MINUS, -1.0, 1.0)
    noise = rng.standard_normal((steps, chains))
    noise[1:] *= math.sqrt(1 - rho**2)
    return SLOPE * sign + NOISE * lfilter([1.0], [1.0, -rho], noise, axis=0), sign


def ratio_error(n):
    """σ(O − R)/⟨σ⟩ = [SLOPE − Rσ + NOISE σx]/⟨σ⟩ has variance [R²(1 − ⟨σ⟩²) + NOISE²]/⟨σ⟩², x independent."""
    return math.sqrt((RATIO**2 * (1 - MEAN_SIGN**2) + NOISE**2) / n) / MEAN_SIGN


@pytest.mark.parametrize("weighted", [False, True])
def test_a_ratio_with_signs_has_its_value_and_error(weighted):
    # 300 repetitions: 68.3(2.7)% of the pulls lie within one sigma, five of these deviations are 13%
    pulls, errors = [], []
    for seed in range(300):
        observable, sign = signed(400, 1, seed)
        found = measure(observable, np.zeros_like(sign) if weighted else None, factor=sign)
        pulls.append(found.pull(RATIO))
        errors.append(found.error)
    assert abs(np.mean(np.abs(pulls) < 1) - 0.683) < 0.14
    assert abs(np.mean(pulls)) < 5 / math.sqrt(300) + 0.05  # the ratio is biased by O(1/N)
    assert np.mean(errors) == pytest.approx(ratio_error(400), rel=0.05)
    # without the sign the average is another one, 57 sigma away
    assert abs(measure(observable).pull(RATIO)) > 10


@pytest.mark.filterwarnings("ignore::latflow.errors.UnreliableErrorWarning")  # of a walk
def test_the_error_of_a_ratio_knows_numerator_and_denominator_together():
    _, sign = signed(400, 2, seed=1)
    constant = measure(np.full_like(sign, 3.0), factor=sign)
    assert (constant.value, constant.warning) == (3.0, "constant")
    assert math.isnan(constant.error)
    same = measure(np.cumsum(sign, 0), factor=np.ones_like(sign))
    assert same == measure(np.cumsum(sign, 0))


def test_a_ratio_with_signs_of_weighted_draws_is_the_sum_over_all():
    rng = np.random.default_rng(2)
    observable, sign, log_weight = rng.random(50), rng.choice([-1.0, 1.0, 1.0], 50), rng.standard_normal(50)
    weight = np.exp(log_weight) * sign
    expected = np.sum(weight * observable) / np.sum(weight)
    error = np.sqrt(np.sum((weight * (observable - expected)) ** 2) * 50 / 49) / abs(np.sum(weight))
    found = measure(observable, log_weight, factor=sign)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.error == pytest.approx(error, rel=1e-12)


def test_derived_quantities_are_reweighted_too():
    observable, sign = signed(2000, 4, seed=3, rho=0.5)
    twice = derive(lambda x: 2 * x, observable, factor=sign)
    once = measure(observable, factor=sign)
    assert twice.value == pytest.approx(2 * once.value)
    assert twice.error == pytest.approx(2 * once.error, rel=1e-3)
    assert abs(once.pull(RATIO)) < 5
    # C(t) = cosh(m(t − 4)) + 0.3 (σ − 1/⟨σ⟩): the second term averages to zero with the sign, and only so
    t = np.arange(5)
    correlator = np.cosh(0.4 * (t - 4)) + 0.3 * (sign - 1 / MEAN_SIGN)[..., None]
    masses = effective_masses(correlator, factor=sign)
    assert all(abs(m.pull(0.4)) < 5 and m.error < 0.05 for m in masses), masses
    assert effective_masses(correlator)[-1].value > 0.45  # cosh less 0.32 has another curvature


def test_factors_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match="average is not zero"):
        measure(np.arange(6.0), factor=np.array([1.0, -1.0] * 3))
    with pytest.raises(ValueError, match=r"expected factors of shape \(6, 1\)"):
        measure(np.arange(6.0), factor=np.ones(5))


def two_states(rate, steps, chains, seed):
    """Q ∈ {0, 1}, which changes at each step with a probability."""
    changes = np.random.default_rng(seed).random((steps, chains)) < rate
    return np.cumsum(changes, 0) % 2


def test_tunnelling_is_counted():
    charge = two_states(0.15, 4000, 5, seed=4)
    rate = tunnelling_rate(charge)
    assert abs(rate.pull(0.15)) < 5
    assert rate.error == pytest.approx(math.sqrt(0.15 * 0.85 / (3999 * 5)), rel=0.1)
    for lag in (1, 3, 10):
        # of two states the chain is in the other one with probability (1 − (1 − 2r)^t)/2
        displacement = charge_displacement(charge, lag)
        assert abs(displacement.pull((1 - 0.7**lag) / 2)) < 5
        assert displacement.error < 0.01
    frozen = tunnelling_rate(np.full((100, 2), 3))
    assert (frozen.value, frozen.warning) == (0.0, "constant")
    assert math.isnan(frozen.error)
    with pytest.raises(ValueError, match="lag of at least 1"):
        charge_displacement(charge, 0)


def series_of_links(charge, seed=5):
    """Records with the given charges and made-up numbers beside them."""
    rng = np.random.default_rng(seed)
    shape = np.shape(charge)
    return {
        "action": -20 + rng.standard_normal(shape),
        "plaquette": 0.5 + 0.1 * rng.standard_normal(shape),
        "topological_charge": np.asarray(charge, dtype=float),
        "polyakov": rng.standard_normal(shape),
    }


def test_links_have_their_own_names():
    charge = np.random.default_rng(6).choice([-2, -1, 0, 1, 2], (3000, 2), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    series = series_of_links(charge)
    found = summary(series, U1Gauge((4, 6), 2.0).observables)
    expected = {
        "plaquette": 0.5, "charge": 0.0, "charge_squared": 1.2, "topological_susceptibility": 1.2 / 24,
        "P_charge_0": 0.4, "P_charge_1": 0.4, "P_charge_2": 0.2, "P_charge_3": 0.0, "polyakov": 0.0,
        "action_density": -20 / 24,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    assert all(abs(found[name].pull(value)) < 5 for name, value in expected.items()), found
    assert found["charge_squared"].error == pytest.approx(math.sqrt((3.6 - 1.2**2) / 6000), rel=0.1)

    fermions = {
        "condensate": charge + 1.0,
        "sign": 1.0 - 2 * (abs(charge) == 2),
        "pion": np.ones((3000, 2, 4)),
    }
    with_fermions = summary(series | fermions, Schwinger((6, 4), 2.0, 0.2).observables)
    assert with_fermions.keys() - found.keys() == {
        "condensate", "condensate_subtracted", "sign", "pion_mass_1", "pion_mass_2",
    }  # fmt: skip
    assert abs(with_fermions["sign"].pull(0.6)) < 5
    # reweighted with the sign: P(|Q| = 2) = −0.2/0.6, ⟨Q²⟩ = (0.4 − 0.8)/0.6; the sign itself is not
    one = Schwinger((6, 4), 2.0, 0.2, flavours=1)
    odd = summary(series | fermions, one.observables, factor=fermions["sign"])
    assert abs(odd["P_charge_2"].pull(-1 / 3)) < 5
    assert abs(odd["charge_squared"].pull(-2 / 3)) < 5
    assert odd["sign"] == with_fermions["sign"]


def test_what_was_never_seen_is_not_known_to_be_zero():
    never = summary(series_of_links(np.zeros((200, 3))), U1Gauge((4, 4), 2.0).observables)
    for name, error in (("P_charge_0", 1.0), ("P_charge_1", 1.0), ("charge", 1.0), ("charge_squared", 1.0)):
        assert never[name].error == pytest.approx(error / 600)
    assert never["topological_susceptibility"].error == pytest.approx(1 / 600 / 16)
    # weighted draws count as their effective number
    log_weight = np.random.default_rng(7).standard_normal(500)
    weight = np.exp(log_weight)
    drawn = summary(series_of_links(np.zeros(500)), U1Gauge((4, 4), 2.0).observables, log_weight)
    assert drawn["P_charge_3"].error == pytest.approx(np.sum(weight**2) / np.sum(weight) ** 2)


def test_what_noise_may_have_made_has_no_logarithm():
    """Loops of W = exp(−A/2), A = r t: known ones make V(r) = r/2, and those below the noise make no row."""
    rng, areas = np.random.default_rng(11), np.outer((2, 3), (1, 2, 3))
    action = U1Gauge((8, 8), 2.0)
    drowned = {"potential_2", "potential_3", "string_tension_1", "string_tension_2"}
    for noise, missing in ((0.05, set()), (1.0, drowned)):
        loops = np.exp(-areas / 2) + noise * rng.standard_normal((2000, 2, 2, 3))
        found = summary(series_of_links(np.ones((2000, 2))) | {"wilson_loops": loops}, action.observables)
        made = {name: m for name, m in found.items() if name.startswith(("potential", "string"))}
        expected = {f"potential_{r}": r / 2 for r in (1, 2, 3)} | {f"string_tension_{r}": 0.5 for r in (1, 2)}
        assert made.keys() == expected.keys() - missing
        assert all(abs(m.pull(expected[name])) < 5 for name, m in made.items())


def test_the_condensate_less_that_of_free_fermions():
    for boundary, kappa in (("antiperiodic", 0.25), ("periodic", 0.25), ("periodic", 0.2)):
        action = Schwinger((4, 4), 2.0, kappa, boundary=boundary)
        rows = [one for one in action.observables if one.name == "condensate_subtracted"]
        if (boundary, kappa) == ("periodic", 0.25):
            assert not rows  # free fermions have a zero mode there
            continue
        free = observables.chiral_condensate(torch.zeros(1, 2, 4, 4, dtype=torch.float64), kappa, boundary)
        assert rows[0].each(np.array([free.item()])) == pytest.approx([0], abs=1e-12)
