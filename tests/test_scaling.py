"""Crossings and finite-size fits: coverage on curves whose critical point is known."""

import numpy as np
import pytest
import torch

from latflow.analysis import Measurement, derive
from latflow.analysis.averaging import Fit, told
from latflow.analysis.collapse import collapse
from latflow.analysis.scaling import Curve, crossings
from latflow.formulas import binder_cumulant
from latflow.observables import magnetization
from latflow.samplers import Wolff, run
from latflow.theories import Ising

BETA, NU = 0.6805, 0.8
COUPLINGS = np.linspace(0.64, 0.72, 9)
SETS = 60


def exact(size, beta, correction=0.0):
    """A cumulant that scales without fail, but for b L^-2."""
    x = (beta - BETA) * size ** (1 / NU)
    return 0.4 + 0.15 * np.tanh(0.5 * x + 0.2) + correction * size**-2.0


def curves(seed, sizes=(8.0, 16.0, 32.0), error=0.004, correction=0.0, betas=COUPLINGS):
    rng = np.random.default_rng(seed)
    return [
        Curve(
            size,
            betas,
            exact(size, betas, correction) + error * rng.standard_normal(len(betas)),
            np.full(len(betas), error),
        )
        for size in sizes
    ]


def pulls(found, truth):
    return np.array([(one.value - truth) / one.error for one in found])


def assert_covers(values):
    """Pulls of n sets: their mean is 0 ± 1/√n, and a fit may be biased by a third of its error. Their spread
    is 1 ± 1/√(2n) where errors are right; averages over fits are given somewhat too large ones."""
    n = len(values)
    assert abs(values.mean()) < 0.35 + 5 / np.sqrt(n)
    assert 0.6 < values.std() < 1 + 5 / np.sqrt(2 * n)


def test_crossings_cover_the_point_where_curves_cross():
    found = [one for seed in range(SETS) for one in crossings(curves(seed))]
    told = [one for one in found if one.coupling is not None]
    assert len(told) > 0.9 * len(found)
    assert_covers(pulls([one.coupling for one in told], BETA))
    assert_covers(pulls([one.value for one in told], exact(1, BETA)))


@pytest.mark.slow
@pytest.mark.parametrize(("correction", "omega"), [(0.0, None), (2.0, 2.0)])
def test_fits_cover_the_critical_point_and_nu(correction, omega):
    sizes = (8.0, 16.0, 32.0, 64.0)
    found = [collapse(curves(seed, sizes, correction=correction), omega) for seed in range(SETS // 3)]
    told = [one for one in found if one.coupling is not None]
    assert len(told) > 0.9 * len(found)
    assert_covers(pulls([one.coupling for one in told], BETA))
    assert_covers(pulls([one.nu for one in told], NU))
    assert np.mean([one.p_value for one in told]) > 0.3  # of χ² that are what they should be, 0.5


def test_errors_of_a_crossing_are_those_of_repeated_measurements():
    found = [crossings(curves(seed, (8.0, 16.0)))[0].coupling for seed in range(2 * SETS)]
    values = np.array([one.value for one in found if one])
    errors = np.array([one.error for one in found if one])
    assert len(values) > 1.8 * SETS
    # the spread of n values is known to 1/√(2n), a fifteenth; averages over fits are careful
    assert 0.7 < values.std() / np.median(errors) < 1.3


def test_points_lie_in_any_order_and_couplings_need_not_be_the_same():
    rng = np.random.default_rng(3)
    order = rng.permutation(9)
    points = [Measurement(exact(8, beta), 0.004) for beta in COUPLINGS]
    shuffled = Curve.of(8.0, COUPLINGS[order], [points[i] for i in order])
    other = COUPLINGS + 0.003
    (found,) = crossings([shuffled, Curve(16.0, other, exact(16, other), np.full(9, 0.004))])
    assert abs(found.coupling.value - BETA) < 0.002


def test_curves_that_do_not_cross_tell_so():
    apart = [Curve(size, COUPLINGS, COUPLINGS + size, np.full(9, 0.01)) for size in (8.0, 16.0)]
    (found,) = crossings(apart)
    assert found.coupling is None
    assert "do not cross once from 0.64 to 0.72" in found.why
    assert collapse(apart).coupling is None


def test_noise_tells_nothing():
    noise = [
        Curve(size, COUPLINGS, np.random.default_rng(int(size)).standard_normal(9), np.ones(9))
        for size in (8.0, 16.0, 32.0)
    ]
    assert all(one.coupling is None for one in crossings(noise))
    assert collapse(noise).coupling is None


def test_curves_of_a_first_order_in_l_fall_onto_no_common_one():
    jumps = [
        Curve(size, COUPLINGS, exact(size, COUPLINGS) + 0.1 / np.log(size), np.full(9, 1e-4))
        for size in (8.0, 16.0, 32.0)
    ]
    found = collapse(jumps)
    assert found.coupling is None
    assert "fall onto no common one" in found.why


def test_too_little_is_told():
    one = curves(0)[:1]
    assert collapse(one).why == "expected lattices of at least 2 sizes, got 1"
    assert collapse(curves(0)[:2], omega=2.0).why == "expected lattices of at least 3 sizes, got 2"
    single = curves(0, betas=np.array([0.68]))
    assert collapse(single).why == "expected several couplings, got one"
    assert "at least two couplings" in crossings(single)[0].why
    few = curves(0, sizes=(8.0, 16.0), betas=np.array([0.66, 0.7]))
    assert "more than 4 points" in collapse(few).why


def test_wrong_curves_are_refused():
    with pytest.raises(ValueError, match="errors above zero"):
        Curve(8.0, COUPLINGS, COUPLINGS, np.zeros(9))
    with pytest.raises(ValueError, match="as many couplings"):
        Curve(8.0, COUPLINGS, COUPLINGS[1:], np.ones(8))
    with pytest.raises(ValueError, match="different sizes"):
        crossings([curves(0)[0], curves(1)[0]])


def test_an_average_over_fits_has_their_spread():
    fits = [
        Fit(1.0, 3, 2, 0, (Measurement(1.0, 0.3),)),
        Fit(1.0, 3, 2, 0, (Measurement(2.0, 0.3),)),
        Fit(1.0, 3, 2, 400, (Measurement(50.0, 0.3),)),  # left out nearly everything
    ]
    best, (found,) = told(fits)
    assert best is fits[0]
    assert found.value == pytest.approx(1.5)
    assert found.error == pytest.approx(np.hypot(0.3, 0.5))
    assert told([*fits, Fit(0.0, 3, 1, 0)])[1] == []  # the best one cannot tell


@pytest.mark.slow
def test_clusters_find_the_critical_point_of_the_ising_model():
    """β_c = ln(1 + √2)/2 and ν = 1; what lattices of 8×8 lack is less than a few of these errors."""
    betas, measured = np.array([0.42, 0.43, 0.44, 0.45, 0.46]), []
    for size in (8, 16, 24):
        points = []
        for number, beta in enumerate(betas):
            theory, generator = Ising((size, size), beta=float(beta)), torch.Generator()
            generator.manual_seed(100 * size + number)
            start = theory.kind.start(theory.lattice, 32, generator, torch.float32)
            chain = run(Wolff(theory), start, 300, lambda x: {"m": magnetization(x)}, generator, 100)
            m = chain.series["m"].double().numpy()
            points.append(derive(binder_cumulant, m**2, m**4))
        measured.append(Curve.of(float(size), betas, points))
    found, critical = collapse(measured), np.log(1 + np.sqrt(2)) / 2
    assert found.coupling.error < 0.003
    assert abs(found.coupling.pull(critical)) < 5
    assert found.nu.error < 0.3
    assert abs(found.nu.pull(1.0)) < 5
    assert all(abs(one.coupling.pull(critical)) < 5 for one in crossings(measured) if one.coupling)
