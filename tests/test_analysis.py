"""The error analysis against processes whose autocorrelation and whose averages are known."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from latflow import exact, formulas, observables
from latflow.analysis import (
    Measurement,
    Sample,
    autocorrelation,
    derive,
    derive_vector,
    effective_masses,
    entropy,
    fitted_correlation_length,
    free_energy,
    measure,
    summary,
    thermalisation_time,
)
from latflow.errors import UnreliableErrorWarning
from latflow.fields.angles import binder_cumulant_of_vectors
from latflow.lattice import lattice_momentum_squared
from latflow.observables.base import Observable
from latflow.theories import XY, Ising, Phi4, Potts, U1Gauge
from latflow.theories.potts.order import order_cumulant

ONE_SIGMA = math.erf(math.sqrt(0.5))


def autoregressive(rho, steps, chains, seed):
    """Stationary AR(1) chains of unit variance, (steps, chains): ρ(t) = ρ^t, τ = ½ (1+ρ)/(1−ρ)."""
    noise = np.random.default_rng(seed).standard_normal((steps, chains))
    noise[1:] *= math.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=0)


def free_fields(lattice, m2, batch, seed=4):
    """Independent draws of exp(−φKφ): white noise, multiplied by (2K)^{−1/2} in momentum space."""
    noise = torch.randn(batch, *lattice, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    axes = tuple(range(1, noise.ndim))
    scale = (2 * (lattice_momentum_squared(lattice) + m2)).sqrt()
    return torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) / scale, dim=axes).real


def assert_covers(pulls, slack=0.0):
    """One sigma holds 68% of standard normal pulls, up to five binomial deviations and a known bias."""
    inside = np.mean(np.abs(pulls) < 1)
    spread = math.sqrt(ONE_SIGMA * (1 - ONE_SIGMA) / len(pulls))
    assert abs(inside - ONE_SIGMA) < 5 * spread + slack, f"{inside:.3f} within one sigma, spread {spread:.3f}"


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_errors_of_one_chain_cover(rho):
    repetitions = 500
    found = [measure(series) for series in autoregressive(rho, 4000, repetitions, seed=1).T]
    assert_covers([m.pull(0.0) for m in found], slack=0.02)  # τ is known to a few per cent
    tau = 0.5 * (1 + rho) / (1 - rho)
    taus = np.array([m.tau_int for m in found])
    # the window cuts a tail exp(−W/τ) off the sum, about 1% of it, and where ρ = 0 only τ > ½ is seen
    assert abs(taus.mean() - tau) < 5 * taus.std() / math.sqrt(repetitions) + 0.02 * tau
    assert np.mean([m.tau_int_error for m in found]) == pytest.approx(
        taus.std(), rel=0.6 if rho == 0 else 0.25
    )


def test_errors_of_replicas_cover():
    repetitions, chains = 300, 20
    data = autoregressive(0.8, 200, chains * repetitions, seed=2).reshape(200, repetitions, chains)
    found = [measure(data[:, i]) for i in range(repetitions)]
    assert_covers([m.pull(0.0) for m in found], slack=0.02)
    assert np.mean([m.tau_int for m in found]) == pytest.approx(4.5, rel=0.05)


def test_replicas_have_the_error_of_one_chain():
    data = autoregressive(0.9, 2000, 50, seed=3)
    replicas, one = measure(data), measure(data.T.reshape(-1))
    assert replicas.value == pytest.approx(one.value, abs=1e-13)
    assert replicas.error == pytest.approx(one.error, rel=0.05)
    assert replicas.n == one.n == 100_000


def test_chains_that_stand_for_long_are_as_many_draws_as_there_are_chains():
    values = np.random.default_rng(4).standard_normal((2, 400))
    stuck = measure(np.concatenate([np.tile(values[0], (49, 1)), values[1:]]))  # all move, in the last step
    # about the mean of each chain it would be near 0
    assert stuck.error == pytest.approx(values.std() / 20, rel=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.3, 0.9, -0.9])
def test_errors_of_any_autocorrelation_are_right(rho):
    """The error against the spread of 400 averages, known to 1/√800 = 3.5%; the bias is some per cent."""
    repetitions, steps = 400, 4000
    data = autoregressive(rho, steps, repetitions, seed=21)
    found = [measure(series) for series in data.T]
    errors, tau = np.array([m.error for m in found]), 0.5 * (1 + rho) / (1 - rho)
    assert_covers([m.pull(0.0) for m in found], slack=0.02)
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(data.mean(0).std(), rel=5 * 0.035)
    # errors scatter by at most 12% for τ = 9.5, so that their mean is known to 0.6%
    assert errors.mean() == pytest.approx(math.sqrt(2 * tau / steps), rel=0.03 + 0.02)
    assert np.mean([m.tau_int for m in found]) == pytest.approx(tau, rel=0.05)
    assert not any(m.warning for m in found)


def test_white_noise_is_not_taken_for_antithetic():
    """ρ(2) − ρ(1) of noise has the spread √(2/N), so that one in 740 is; no error is then far too small."""
    found = [measure(series).error * math.sqrt(300) for series in autoregressive(0.0, 300, 4000, seed=22).T]
    # of 4000 the smallest lies 3.6 deviations √(1/600) = 4% below one; an alternating one up to 8% further
    assert min(found) > 0.7
    assert np.mean(found) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("slow", "share"), [(0.98, 0.5), (0.0, 0.5), (0.9, 0.1)])
def test_a_mode_that_alternates_hides_no_other(slow, share):
    """ρ(t) = c aᵗ + (1 − c)(−0.98)ᵗ begins near or below zero, where the window would end at once."""
    repetitions, steps = 100, 20_000
    modes = [autoregressive(rho, steps, repetitions, seed) for rho, seed in ((slow, 23), (-0.98, 24))]
    data = math.sqrt(share) * modes[0] + math.sqrt(1 - share) * modes[1]
    tau = sum(c * 0.5 * (1 + a) / (1 - a) for c, a in ((share, slow), (1 - share, -0.98)))
    errors = [measure(series).error for series in data.T]
    # an error scatters by √((W + ½)/N) = 10% for τ = 25, their mean by 1%
    assert np.mean(errors) == pytest.approx(math.sqrt(2 * tau / steps), rel=0.05 + 0.05)


def test_a_chain_that_alternates_without_fail_has_an_error():
    """Its average depends on where it ends, by one step of so many."""
    for steps in (1000, 1001):
        found = measure(np.cos(np.pi * np.arange(steps)))
        assert found.error == pytest.approx(1 / steps, rel=1e-6)
        assert found.tau_int == pytest.approx(0.5 / steps)
        assert abs(found.value) <= 1.001 * found.error


def test_short_series_say_so_and_replicas_add_up():
    data = autoregressive(0.9, 50, 40, seed=25)
    with pytest.warns(
        UnreliableErrorWarning, match=r"error of Q is not .* 50 numbers, fewer than 50 τ: at least"
    ):
        one = measure(data[:, 0], name="Q")
    assert one.warning.startswith("50 numbers")
    assert not measure(data).warning
    with pytest.warns(UnreliableErrorWarning, match="a function of the series"):
        derive(lambda a: a**2, data[:, 0])
    with pytest.warns(UnreliableErrorWarning, match="fewer than 50 τ"):  # independent, and yet too few
        measure(autoregressive(0.0, 20, 1, seed=26))
    assert not measure(data[:20, 0], log_weight=np.zeros(20)).warning


def test_most_short_series_are_told():
    """Of 100 chains of five τ numbers: without a warning the errors would be half of the truth unseen."""
    data = autoregressive(0.9, 50, 100, seed=27)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        assert np.mean([bool(measure(series).warning) for series in data.T]) > 0.95


def test_the_tail_of_a_slow_mode():
    """A slow mode under noise, ρ(t) = 0.05 · 0.98ᵗ, of which the window sees little and the tail makes up."""
    repetitions, steps = 200, 4000
    noise, mode = autoregressive(0.0, steps, repetitions, 28), autoregressive(0.98, steps, repetitions, 29)
    data = math.sqrt(0.95) * noise + math.sqrt(0.05) * mode
    tau, tau_exp = 0.95 * 0.5 + 0.05 * 0.5 * 1.98 / 0.02, -1 / math.log(0.98)
    plain = np.array([measure(series).error for series in data.T])
    tailed = np.array([measure(series, tau_exp=tau_exp).error for series in data.T])
    true = math.sqrt(2 * tau / steps)
    assert (tailed >= plain).all()
    assert plain.mean() < 0.9 * true
    assert 0.95 * true < tailed.mean() < 1.4 * true  # it bounds the rest of the sum, from noisy ρ(W + 1)
    white = [measure(series, tau_exp=0.5).error for series in noise.T]
    assert np.mean(white) == pytest.approx(math.sqrt(1 / steps), rel=0.03)


@pytest.mark.parametrize("steps", [5, 6, 7, 8, 9, 12, 40])
@pytest.mark.parametrize("rho", [-0.95, 0.0, 0.99])
def test_the_tail_is_never_none_and_never_less(steps, rho):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        for chains in (1, 30):
            data = autoregressive(rho, steps, chains, seed=30)
            plain, tailed = measure(data), measure(data, tau_exp=1e3)
            assert math.isfinite(tailed.error)
            assert tailed.error >= plain.error > 0
            assert tailed.tau_int >= plain.tau_int


@pytest.mark.parametrize("tau_exp", [-1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(tau_exp):
    with pytest.raises(ValueError, match="expected tau_exp of zero or more steps"):
        measure(np.arange(10.0), tau_exp=tau_exp)


def test_weighted_errors_cover():
    # q = N(0, 1), target N(μ, 1): log w = μ x up to a constant, ⟨x⟩ = μ.
    shift, repetitions, draws = 0.8, 2000, 500
    x = np.random.default_rng(5).standard_normal((repetitions, draws))
    found = [measure(row, log_weight=shift * row) for row in x]
    assert_covers([m.pull(shift) for m in found], slack=0.02)
    derived = [derive(lambda a, b: b - a**2, row, row**2, log_weight=shift * row) for row in x[:500]]
    assert_covers([m.pull(1.0) for m in derived], slack=0.05)


def test_weights_may_be_huge_and_only_their_ratios_count():
    x = np.random.default_rng(6).standard_normal((100, 3))
    plain = measure(x, log_weight=np.zeros_like(x))
    assert plain.value == pytest.approx(x.mean())
    assert plain.error == pytest.approx(x.std(ddof=1) / math.sqrt(x.size))
    near, far = measure(x, log_weight=x), measure(x, log_weight=x - 1e4)
    assert far.value == pytest.approx(near.value, rel=1e-10)
    assert far.error == pytest.approx(near.error, rel=1e-10)
    assert measure(x.ravel(), log_weight=x.ravel()) == near


def test_derived_errors_are_those_of_pyerrors():
    from latflow.analysis.autocorrelation import load_pyerrors

    pe = load_pyerrors()
    x = autoregressive(0.7, 5000, 1, seed=7)[:, 0] + 0.3

    def obs(series):
        return pe.Obs([series], ["chain"])

    expected = formulas.binder_cumulant(obs(x**2), obs(x**4))
    expected.gamma_method(S=2.0)
    found = derive(formulas.binder_cumulant, x**2, x**4)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error == pytest.approx(expected.dvalue, rel=1e-3)
    assert found.tau_int == pytest.approx(expected.e_tauint["chain"], rel=1e-3)

    series = np.stack([2 + 0.01 * x, 1 + 0.02 * np.roll(x, 3), 0.7 + 0.01 * x**2, 0.6 - 0.01 * x], axis=-1)
    masses = formulas.effective_mass(np.array([obs(column) for column in series.T]))
    for found, expected in zip(effective_masses(series), masses, strict=True):
        expected.gamma_method(S=2.0)
        assert found.value == pytest.approx(expected.value, rel=1e-9)
        assert found.error == pytest.approx(expected.dvalue, rel=1e-3)


def test_derived_quantities_know_the_correlation_of_their_arguments():
    x = autoregressive(0.5, 1000, 2, seed=8)
    assert derive(lambda a, b: a - b, x, x + 3).error < 1e-12
    assert derive(lambda a: 2 * a, x).error == pytest.approx(2 * measure(x).error, rel=1e-6)
    low, high = derive_vector(lambda a, c: a * c, np.ones_like(x), np.stack([x, x + 1], axis=-1))
    assert low.error == pytest.approx(measure(x).error, rel=1e-6)
    assert high.value == pytest.approx(low.value + 1)


def test_autocorrelation_function_of_a_known_process():
    rho, repetitions = 0.8, 200
    data = autoregressive(rho, 2000, repetitions, seed=9)
    found = [autocorrelation(series, max_lag=20) for series in data.T]
    estimates = np.array([f.rho for f in found])
    spread, errors = estimates.std(0), np.mean([f.rho_error for f in found], axis=0)
    assert estimates.shape == (repetitions, 21)
    # the estimate about the estimated mean is low by 2τ/N = 0.0045 at every lag
    assert (abs(estimates.mean(0) - rho ** np.arange(21)) < 5 * spread / math.sqrt(repetitions) + 0.01).all()
    assert errors[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(errors[1:], spread[1:], rtol=0.3)
    assert autocorrelation(data).rho[1] == pytest.approx(rho, abs=0.01)


def test_constant_series_have_no_error():
    found = measure(np.full((10, 3), 0.1))
    assert (found.value, found.n, found.warning, found.tau_int) == (0.1, 30, "constant", None)
    assert str(found) == "0.1(nan)"
    for constant in (
        measure(np.full(10, 0.7), log_weight=np.arange(10.0)),
        measure(np.full(10, 0.7), factor=np.r_[np.ones(7), -np.ones(3)]),
        derive(lambda a, b: a * b, np.full(10, 0.7), np.ones(10)),
    ):
        assert constant.value == pytest.approx(0.7)
        assert math.isnan(constant.error)
        assert constant.warning == "constant"
    assert autocorrelation(np.full(10, 0.1)).window == 0
    tiny = 1e-200 * autoregressive(0.0, 100, 1, seed=10)
    assert measure(tiny).error == pytest.approx(1e-200 * measure(1e200 * tiny).error, rel=1e-9)


def test_what_does_not_depend_on_what_moves_is_exact():
    x = autoregressive(0.0, 100, 2, seed=31)
    assert derive(lambda c: c[0] / c[0], np.stack([x, x], axis=-1)).error == 0


def test_chains_that_never_moved_have_no_error():
    starts = np.random.default_rng(32).standard_normal(400)
    frozen = np.tile(starts, (50, 1))
    for found in (
        measure(frozen),
        derive(lambda a: a**2, frozen),
        measure(frozen, factor=np.ones_like(frozen)),
    ):
        assert math.isnan(found.error)
        assert found.warning == "no chain moved"
        assert found.tau_int == pytest.approx(25, rel=0.1)  # no less than half the steps


def test_single_chains_that_never_moved_are_told():
    data = autoregressive(0.5, 500, 8, seed=33)
    data[:, 2:4] = [1.5, -0.1]
    with pytest.warns(UnreliableErrorWarning, match="2 of 8 chains never moved"):
        assert math.isfinite(measure(data).error)
    with pytest.warns(UnreliableErrorWarning, match="2 of 8 chains never moved"):
        derive(lambda a: a**2, data)
    correlator = np.stack([data, data**2], axis=-1)
    with pytest.warns(UnreliableErrorWarning, match="2 of 8 chains never moved"):
        derive(lambda c: c[0], correlator)


def test_a_rare_event_that_a_chain_never_saw_is_no_frozen_chain():
    rare = (np.random.default_rng(34).random((500, 8)) < 0.001).astype(float)
    assert (rare == 0).all(0).any()
    assert measure(rare).warning == ""


def test_ratios_of_nothing_are_not_numbers():
    """Zeros under a fraction are nan, in every function of averages, and not a traceback."""
    zeros, noise = np.zeros((40, 2)), autoregressive(0.0, 40, 2, seed=35)
    for found in (
        derive(formulas.binder_cumulant, zeros, zeros),
        derive(lambda a, b: a / b, noise, zeros),
        derive(lambda a, b: formulas.correlation_length(a, b, 8), zeros, zeros),
        fitted_correlation_length(np.zeros((40, 2, 5)), 8),
        fitted_correlation_length(np.ones((40, 2, 5)), 8),
        *effective_masses(np.zeros((40, 2, 5))),
        *effective_masses(-1 - 0.1 * np.stack([noise, noise**2, noise, noise + 3], axis=-1)),
    ):
        assert not math.isfinite(found.value) or found.error >= 0
    for plain in (
        formulas.binder_cumulant(0.0, 0.0),
        formulas.binder_cumulant(0, 0),
        formulas.correlation_length(0.0, 0.0, 8),
        binder_cumulant_of_vectors(0.0, 0.0),
        order_cumulant(0.0, 0.0, 3),
    ):
        assert math.isnan(plain)
    assert formulas.correlation_length(1.0, 0.0, 8) == math.inf
    assert np.isnan(formulas.effective_mass(np.zeros(4))).all()
    assert formulas.specific_heat(2.0, 4.0, 10) == 0


@pytest.mark.parametrize(
    "action",
    [
        Phi4((4, 4), 1.0, 1.0),
        Ising((4, 4), 0.4),
        XY((4, 4), 1.0),
        Potts((4, 4), 3, 0.5),
        U1Gauge((4, 4), 1.0),
    ],
)
@pytest.mark.parametrize("number", [0.0, 1.0])
def test_the_table_of_a_constant_record_is_a_table(action, number):
    field = action.kind.start(action.lattice, 1, torch.Generator().manual_seed(1), torch.float64)
    record = observables.recorded(action)(field)
    series = {name: np.full((20, 2, *values.shape[1:]), number) for name, values in record.items()}
    for log_weight in (None, np.zeros((20, 2))):
        for name, found in summary(series, action.observables, log_weight).items():
            of_counts = next(one for one in action.observables if one.name == name).quantum is not None
            of_weights = name in ("log_z", "free_energy_density", "entropy")
            assert math.isnan(found.error) or of_counts or of_weights, name
            assert found.error != 0 or of_weights, name


def test_series_that_cannot_be_analysed_are_refused():
    with pytest.raises(ValueError, match=r"expected plaquette to have at least 5 steps .* got 4"):
        measure(np.zeros((4, 100)), name="plaquette")
    with pytest.raises(ValueError, match="at least 2 draws"):
        measure([1.0], log_weight=[0.0])
    with pytest.raises(ValueError, match="expected the series of shape"):
        measure(np.zeros((10, 2, 2)))
    with pytest.raises(ValueError, match="log-weights of shape"):
        measure(np.zeros((10, 2)), log_weight=np.zeros((2, 10)))
    with pytest.raises(ValueError, match="one history"):
        derive(lambda a, b: a + b, np.zeros(10), np.zeros(11))


def test_numbers_that_are_none_stay_visible():
    series = np.ones(10)
    series[3] = math.nan
    assert math.isnan(measure(series).error)
    with pytest.raises(ValueError, match="finite numbers"):
        autocorrelation(series)
    noise = autoregressive(0.0, 100, 1, seed=11)
    assert math.isnan(derive(lambda a: np.sqrt(a - 9), noise).value)


def test_importing_pyerrors_leaves_the_printing_of_numpy_alone():
    before = np.get_printoptions()
    measure(np.zeros(10))
    measure(np.random.default_rng(1).random(100))
    assert np.get_printoptions() == before


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.31498, 0.00072, "0.31498(72)"),
        (-0.31498, 0.00072, "-0.31498(72)"),
        (9.29135, 0.00001, "9.291350(10)"),
        (0.1, 0.0996, "0.10(10)"),
        (0.1, 0.00996, "0.100(10)"),
        (1.5, 0.996, "1.5(1.0)"),
        (74.0, 4.0, "74.0(4.0)"),
        (570.4, 21.3, "570(21)"),
        (57.03, 9.96, "57(10)"),
        (2518.0, 130.0, "2518(130)"),
        (0.003, 0.15, "0.00(15)"),
        (0.5, 0.0, "0.5(0)"),
        (2.0, 0.0, "2(0)"),
        (0.0, 0.0, "0(0)"),
        (1e-12, 0.0, "1(0)e-12"),
        (1.5e9, 2e7, "1.500(20)e+09"),
        (3.2e-9, 1e-10, "3.20(10)e-09"),
        (12.0, 3e8, "0.0(3.0)e+08"),
        (math.nan, math.nan, "nan(nan)"),
        (0.25, math.nan, "0.25(nan)"),
        (math.inf, math.nan, "inf(nan)"),
        (math.nan, 0.1, "nan(0.1)"),
        (-math.inf, 0.1, "-inf(0.1)"),
        (0.25, math.inf, "0.25(inf)"),
        (1e-12, math.nan, "1(nan)e-12"),
        (-0.0, 0.1, "0.00(10)"),
        (-0.001, 0.1, "0.00(10)"),
        (-0.0, 0.0, "0(0)"),
        (1.5, 1e300, "0.0(1.0)e+300"),
        (1e308, 1e306, "1.000(10)e+308"),
        (5e-324, 5e-324, "4.9(4.9)e-324"),
    ],
)
def test_measurements_print_as_the_field_does(value, error, text):
    assert str(Measurement(value, error)) == text
    again = Measurement.parse(text)
    assert again.value == pytest.approx(value, abs=0 if error == 0 else max(error, 0.0), nan_ok=True)
    assert again.error == pytest.approx(error, rel=0.05, nan_ok=True)
    assert str(again) == text


def test_numbers_of_any_type_print_alike():
    """In a process of its own: the types of arguments are checked in this one."""
    code = """if True:
        import numpy as np, torch
        from decimal import Decimal
        from fractions import Fraction
        from latflow.analysis import Measurement
        for value, error in (
            (np.float32(0.1), np.float32(0.01)), (np.int64(3), np.int32(1)), (3, 1),
            (np.array(0.5), np.array(0.02)), (Decimal("0.1"), Decimal("0.01")),
            (Fraction(1, 2), Fraction(1, 50)), (torch.tensor(0.5), 0.02),
        ):
            print(Measurement(value, error), type(Measurement(value, error).value).__name__)
    """
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed = ["0.100(10)", "3.0(1.0)", "3.0(1.0)", "0.500(20)", "0.100(10)", "0.500(20)", "0.500(20)"]
    assert shown.stdout.splitlines() == [f"{text} float" for text in printed]


def test_digits_that_the_error_leaves_are_all_printed():
    text = str(Measurement(1e308, 1e-300))
    assert Measurement.parse(text) == Measurement(1e308, 1e-300)


@given(
    st.floats(-1e12, 1e12),
    st.one_of(st.just(0.0), st.floats(1e-12, 1e12)),
)
def test_what_is_printed_is_read_back(value, error):
    again = Measurement.parse(str(Measurement(value, error)))
    assert again.error == pytest.approx(error, rel=0.051)
    assert abs(again.value - value) <= 0.0501 * error + 1e-9 * abs(value)


@pytest.mark.parametrize(
    ("text", "value", "error"),
    [
        ("9.29135(1)", 9.29135, 1e-5),
        ("164.5(5.0)", 164.5, 5.0),
        ("788(128)", 788.0, 128.0),
        ("-2(1)e-3", -2e-3, 1e-3),
    ],
)
def test_published_numbers_are_read(text, value, error):
    assert Measurement.parse(text) == Measurement(value, error)


@pytest.mark.parametrize(
    "text",
    ["", "1.5", "1.5(", "a(1)", "1.5(-1)", "1.5(1) 2", "1,5(1)", "1(1)e9999999", "1(1)e", "٣(1)", "9" * 5000],
)
def test_what_is_no_measurement_is_refused(text):
    with pytest.raises(ValueError, match="expected a number with its error"):
        Measurement.parse(text)


@pytest.mark.parametrize("text", ["1(1)e9999", "1(1)e-9999", "1(9)e308", f"{0:.400f}1(1)"])
def test_numbers_beyond_double_precision_are_refused(text):
    with pytest.raises(ValueError, match="expected a number between"):
        Measurement.parse(text)


def test_an_error_below_zero_is_refused():
    with pytest.raises(ValueError, match="expected an error of zero or more, got -1"):
        Measurement(1.0, -1.0)


def test_pulls():
    assert Measurement(1.0, 0.3).pull(2.0, 0.4) == pytest.approx(-2)
    assert Measurement(1.0, 0.0).pull(1.0) == 0
    assert Measurement(1.0, 0.0).pull(2.0) == -math.inf


def test_fitted_correlation_length_of_the_free_field():
    lattice, m2 = (16, 4), 0.25
    x = free_fields(lattice, m2, 20_000)
    series = observables.two_point(x).numpy()[:, None]
    xi = 1 / (2 * math.asinh(math.sqrt(m2) / 2))
    for log_weight in (None, np.zeros((20_000, 1))):
        fitted = fitted_correlation_length(series, lattice[0], log_weight=log_weight)
        assert abs(fitted.pull(xi)) < 5
        assert fitted.error < 0.02 * xi
    assert all(abs(m.pull(1 / xi)) < 5 for m in effective_masses(series)[:4])
    exact_series = (
        np.tile(exact.free_field_two_point(lattice, m2), (10, 1)) * (1 + 1e-6 * np.arange(10))[:, None]
    )
    with pytest.warns(UnreliableErrorWarning, match="10 numbers, fewer than 50 τ"):
        assert fitted_correlation_length(exact_series, lattice[0]).value == pytest.approx(xi, rel=1e-8)


def test_fits_refuse_correlators_that_are_too_short():
    with pytest.raises(ValueError, match="three times or more"):
        effective_masses(np.zeros((10, 2)))
    with pytest.raises(ValueError, match="at least three"):
        fitted_correlation_length(np.zeros((10, 5)), 8, first=3)
    with pytest.raises(ValueError, match="expected C"):
        fitted_correlation_length(np.zeros((10, 5)), 16)


@pytest.mark.parametrize("source", [0.5, 0.7])
def test_summary_of_a_free_field_meets_its_exact_values(source):
    # Independent draws at one mass, as chains at that mass and as importance samples of another.
    lattice, m2, steps, chains = (8, 6), 0.5, 2000, 8
    x = free_fields(lattice, source, steps * chains)
    action = Phi4(lattice, m2=m2, lam=0.0)
    series = {
        name: values.reshape(steps, chains, *values.shape[1:]).numpy()
        for name, values in observables.recorded(action)(x).items()
    }
    log_weight = (Phi4(lattice, m2=source, lam=0.0)(x) - action(x)).reshape(steps, chains).numpy()
    found = summary(series, action.observables, log_weight if source != m2 else None)
    zero_mode = exact.free_field_zero_mode(m2)
    m_abs = math.sqrt(2 / math.pi * zero_mode / 48)
    expected = {
        "phi_squared": exact.free_field_phi_squared(lattice, m2),
        "abs_magnetization": m_abs,
        "magnetization": 0.0,
        "sign_of_magnetization": 0.0,
        "V_magnetization_squared": zero_mode,
        "susceptibility": zero_mode - 48 * m_abs**2,
        "binder_cumulant": 0.0,
        "action_density": 0.5,
        "correlation_length": 1 / math.sqrt(m2),
        "effective_mass_1": 2 * math.asinh(math.sqrt(m2) / 2),
    }
    weighted = {"log_z"} if source != m2 else set()
    assert found.keys() == expected.keys() | weighted
    for name, value in expected.items():
        assert abs(found[name].pull(value)) < 5, name
        assert 0 < found[name].error < 0.05, name
        assert found[name].n == steps * chains


def test_what_was_not_recorded_has_no_row():
    observables, rng = Phi4((4,), 1.0, 1.0).observables, np.random.default_rng(1)
    series = {"action": rng.random(100), "magnetization": rng.random(100)}
    found = summary(series, observables)
    assert {"action_density", "binder_cumulant"} <= found.keys()
    assert not {"log_z", "phi_squared", "correlation_length", "effective_mass_1"} & found.keys()
    assert summary({}, observables) == {}


def test_a_row_is_made_as_its_record_says():
    """Names, labels and functions of one's own; arrays of one chain are those of several with one."""
    rng = np.random.default_rng(2)
    x, pair = rng.random(200), rng.random((200, 3))
    records = [
        Observable("x", "⟨x⟩"),
        Observable("shifted", "⟨x⟩ + 1", of=("x",), each=lambda values: values + 1),
        Observable("ratio", "⟨p₁⟩/⟨x⟩", of=("pair", "x"), average=lambda p, mean: p[1] / mean),
        Observable("pair", axes=("component",)),
        Observable("n", "N", estimate=lambda sample: Measurement(float(sample.size), 0.0)),
        Observable("unknown", "?", of=("x",), estimate=lambda sample: sample.log_z()),
    ]
    found = summary({"x": x, "pair": pair}, records)
    assert list(found) == ["x", "shifted", "ratio", "n"]
    assert found["x"] == measure(x)
    assert found["shifted"].value == pytest.approx(1 + x.mean())
    assert found["ratio"] == derive(lambda p, mean: p[1] / mean, pair[:, None], x)
    assert found["n"].value == 200
    with pytest.raises(ValueError, match="expected one number of each configuration for the observable two"):
        summary({"x": x}, [Observable("two", "2", of=("x",), each=lambda values: (values, values))])


def test_a_count_is_no_finer_than_one_of_its_own_time():
    """τ is that of the first slow observable, and of the count itself where none is slow."""
    never, slow = np.zeros((400, 2)), autoregressive(0.9, 400, 2, seed=12)
    count = Observable("count", "N", quantum=2.0)
    alone = summary({"count": never}, [count])
    assert alone["count"].error == pytest.approx(2 / 800)
    beside = summary({"count": never, "slow": slow}, [count, Observable("slow", "s", slow=True)])
    assert beside["slow"].tau_int is not None
    assert beside["count"].warning == ""
    swinging = summary(
        {"count": never, "slow": autoregressive(-0.9, 400, 2, 38)},
        [count, Observable("slow", "s", slow=True)],
    )
    assert swinging["slow"].tau_int < 0.1
    assert swinging["count"].error == pytest.approx(2 / 800)
    assert beside["count"].error == pytest.approx(2 * 2 * beside["slow"].tau_int / 800)


def test_what_a_slow_series_is_made_of_has_its_tail():
    """Q, Q² and their function have the tail of the slowest mode of Q² and the rest in their errors."""
    q, other = autoregressive(0.95, 4000, 2, seed=36), autoregressive(0.5, 4000, 2, seed=37)
    records = [
        Observable("q", "Q"),
        Observable("q_squared", "Q²", of=("q",), each=np.square, slow=True),
        Observable("twice", "2Q", of=("q",), average=lambda mean: 2 * mean),
        Observable("other", "o"),
    ]
    found, tau = summary({"q": q, "other": other}, records), measure(q**2).tau_int
    assert found["q"] == measure(q, tau_exp=tau)
    assert found["q_squared"] == measure(q**2, tau_exp=tau)
    assert found["q_squared"].error > measure(q**2).error
    assert found["twice"].error == pytest.approx(2 * found["q"].error)
    assert found["other"] == measure(other)
    weighted = summary({"q": q, "other": other}, records, np.zeros((4000, 2)))
    assert weighted["q"] == measure(q, np.zeros((4000, 2)))


def test_samples_know_log_z_by_their_weights_alone():
    rng = np.random.default_rng(3)
    action, log_weight = rng.random(50), rng.standard_normal(50)
    chain, drawn = Sample({"action": action}), Sample({"action": action}, log_weight)
    assert (chain.log_z(), chain.free_energy_density(4), chain.entropy()) == (None, None, None)
    f = free_energy(log_weight)
    assert drawn.log_z() == Measurement(-f.value, f.error, n=50)
    assert drawn.free_energy_density(4) == Measurement(f.value / 4, f.error / 4, n=50)
    assert drawn.entropy() == entropy(log_weight, action)
    assert drawn.average(action) == measure(action, log_weight)
    assert drawn.derive(lambda s: 2 * s, action).value == pytest.approx(2 * measure(action, log_weight).value)


def test_analysis_sees_arrays_only():
    code = "import sys, latflow.analysis as a; a.summary({}, ()); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("chains", [(), (8,)])
def test_thermalisation_time_is_where_a_drift_ends(chains):
    rng, steps = np.random.default_rng(5), np.arange(400)
    noise = rng.standard_normal((400, *chains))
    drift = (20 * np.exp(-steps / 20)).reshape(-1, *[1] * len(chains))
    assert 20 < thermalisation_time(noise + drift) < 200
    assert thermalisation_time(noise) < 20
    assert thermalisation_time(np.arange(100)) == 50
