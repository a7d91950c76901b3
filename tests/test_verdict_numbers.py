"""What a verdict rests on, number by number: whose it is, its sign, and what it is divided by."""

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from fake_run import HMC, MODEL, chain, evidence
from latflow.analysis import measure
from latflow.densities.flows import Bijection, Flow, Normal
from latflow.errors import UnreliableErrorWarning
from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.theories import Ising, Phi4, Schwinger, U1Gauge
from latflow.validation import Check, Evidence, Row, Validation, Way, drift_checks, sign_checks, table
from latflow.validation.comparison import _slowest
from latflow.validation.copies import copy_checks, numbered
from latflow.validation.density import _fields, _limit
from latflow.validation.doubts import _of_signs, doubts, rests_on_weights
from latflow.validation.flows import flow_checks
from latflow.validation.judgement import _rare_changes
from latflow.validation.known import known
from latflow.validation.neighbour import NeighbourDraws
from latflow.validation.networks import causality_check, normalisation_check
from latflow.validation.reweighting import at_couplings
from latflow.validation.sectors import _expected, _Visits
from latflow.validation.ways import beside_chain, chain_diagnostics, ensemble, model_chain, weighted_draws

FREE = Phi4((2, 2), m2=1.0, lam=0.0)
LINKS = U1Gauge((4, 4), 1.0)
MODEL_WAY = Way("model", "model", "model", "the model's chain", source="model")
WEIGHTS_WAY = replace(MODEL_WAY, name="weights")
BESIDE_WAY = replace(MODEL_WAY, name="beside", source="beside")
EXACT_WAY = replace(MODEL_WAY, name="exact", source="exact", sampled=False)


def of(way: Way, **numbers: Measurement) -> Way:
    return replace(way, measurements=numbers)


# whose number it is


def test_each_chain_has_its_own_acceptance_and_rate_of_tunnelling():
    """The charge of the model's chain changes at 39 of 39 steps, that of the other at every fourth."""
    moving, resting = np.arange(40.0) % 2, np.arange(40) // 4 % 2.0
    noise = np.random.default_rng(1).standard_normal(40)
    series = [
        {"accepted": half, "topological_charge": charge[:, None], "action": noise[:, None]}
        for half, charge in ((np.arange(40)[:, None] % 2, moving), (np.arange(40)[:, None] % 4 == 0, resting))
    ]
    both = Evidence(LINKS, chain(series[0], MODEL), chain(series[1], HMC))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        model, beside = model_chain(both), beside_chain(both)
    assert model is not None
    assert beside is not None
    assert model.diagnostics["tunnelling_topological_charge"] == 1.0
    assert beside.diagnostics["beside_tunnelling_topological_charge"] == pytest.approx(9 / 39)
    assert (model.diagnostics["acceptance"], beside.diagnostics["beside_acceptance"]) == (0.5, 0.25)


def test_the_average_of_exp_minus_delta_h_has_its_sign():
    delta_h = np.array([[0.0], [math.log(2.0)]] * 10)
    series = {"accepted": np.arange(20)[:, None] % 2, "delta_h": delta_h}
    assert chain_diagnostics(FREE, chain(series))["exp_minus_delta_h"] == pytest.approx(0.75)


def test_the_spread_of_weights_is_by_site():
    """s² = −ln(ESS)/V, V = 4 here."""
    draws = {"log_weight": np.log(np.array([1.0, 2.0, 3.0])), "action": np.array([1.0, 2.0, 3.0])}
    way = weighted_draws(evidence(FREE, draws=draws))
    assert way is not None
    ess = 6.0**2 / (3 * 14.0)
    assert way.diagnostics["ess"] == pytest.approx(ess)
    assert way.diagnostics["s2"] == pytest.approx(-math.log(ess) / 4)


# pulls


def test_a_pull_is_the_first_way_minus_the_second():
    one, other = Measurement(1.0, 0.3), Measurement(2.0, 0.4)
    (row,) = table(FREE, [of(MODEL_WAY, phi_squared=one), of(BESIDE_WAY, phi_squared=other)])
    assert row.pulls == {("model", "beside"): pytest.approx(-1.0 / 0.5)}


def test_ways_that_share_their_draws_are_not_compared():
    m = Measurement(1.0, 0.3)
    ways = [of(one, phi_squared=m) for one in (MODEL_WAY, WEIGHTS_WAY, BESIDE_WAY)]
    (row,) = table(FREE, ways)
    assert set(row.pulls) == {("model", "beside"), ("weights", "beside")}


def test_what_is_known_without_draws_alone_makes_no_row():
    m = Measurement(1.0, 0.0)
    ways = [of(MODEL_WAY, phi_squared=Measurement(1.0, 0.1)), of(EXACT_WAY, phi_squared=m, log_z=m)]
    assert [row.name for row in table(FREE, ways)] == ["phi_squared"]


def test_a_failure_is_one_whatever_the_doubts():
    wrong = Row("x", "x", {}, {("model", "beside"): 6.0})
    assert Validation([], [wrong], [], doubts=["short"]).verdict == "failed"
    assert Validation([], [], [Check("a", False, "")], doubts=["short"]).verdict == "failed"
    assert Validation([], [], [], doubts=["short"]).verdict == "inconclusive"


# doubts


@pytest.mark.parametrize(
    ("n", "tau", "share", "told"),
    [
        (1000, 5.0, 0.5, None),  # 1000 · 0.5/(2 · 5) = 50
        (1000, 5.0, 0.4, "count as 40 independent ones, expected at least 50: beside.steps = 125 would do"),
        (900, 10.0, 1.0, "count as 45 independent ones, expected at least 50: beside.steps = 112 would do"),
        (40, 0.1, 1.0, "count as 40 independent ones"),  # antithetic ones count no more than they are
    ],
)
def test_what_a_chain_is_worth(n, tau, share, told):
    series = {"action": np.random.default_rng(1).standard_normal((100, 10))}
    action = Measurement(0.5, 0.1, tau_int=tau, n=n)
    way = replace(of(BESIDE_WAY, action_density=action), diagnostics={"beside_reweighted_share": share})
    row = Row("x", "x", {}, {("beside", "exact"): 0.0})
    found = list(doubts(Evidence(FREE, beside=chain(series)), [way], [row]))
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_numbers_rest_on_weights_where_proposals_alone_move_the_chain():
    series = {"action": np.zeros((10, 1))}
    assert rests_on_weights(Evidence(FREE, model=chain(series, MODEL)))
    assert not rests_on_weights(Evidence(FREE, model=chain(series, MODEL._replace(alone=False))))


@pytest.mark.parametrize(
    ("n", "ess", "k", "trusted"), [(400, 0.5, 0.7, True), (398, 0.5, 0.2, False), (4000, 0.5, 0.71, False)]
)
def test_a_neighbour_is_trusted_by_the_number_and_the_tail_of_its_weights(n, ess, k, trusted):
    assert NeighbourDraws("quenched", "fermions", n, ess, k).trusted is trusted


def test_visits_are_counted_by_their_autocorrelation():
    """Charges that are held for 25 steps have τ = 12.5, and 4000 of them are 160 independent ones."""
    sectors = next(one.sectors for one in LINKS.observables if one.name == "topological_charge")
    assert sectors is not None
    charge = np.repeat(np.random.default_rng(2).integers(-1, 2, (40, 4)), 25, 0).astype(float)
    visits = _Visits.of(sectors, charge, "charge")
    tau = measure(sectors.alike(charge)).tau_int
    assert tau == pytest.approx(12.5, rel=0.4)
    assert visits.independent == pytest.approx(charge.size / (2 * (tau or 0.0)))
    few = _Visits(np.array([[0], [0], [1], [1]]), independent=40.0)
    assert (few.share(0), few.share(2)) == (0.0, 0.0)  # 20 of 25 counts speak for it


# checks


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_drift_is_the_difference_of_the_ends_by_its_formula(sign):
    """pull = (⟨S⟩_first − ⟨S⟩_last)/(σ √((N_first + N_last)/N_first)), N_first = 50 and N_last = 100."""
    noise = np.random.default_rng(3).standard_normal(200)
    history = noise + sign * np.where(np.arange(200) < 50, 0.8, 0.0)
    (check,) = drift_checks([chain({"action": history[:, None]})])
    first, last = history[:50].mean(), measure(history[100:])
    error = max(last.error, history.std() / 10)
    pull = (first - last.value) / (error * math.sqrt(150 / 50))
    assert f"lies {pull:+.1f} σ" in check.detail
    far = noise + sign * np.where(np.arange(200) < 50, 8.0, 0.0)
    (check,) = drift_checks([chain({"action": far[:, None]})])
    assert not check.passed


@pytest.mark.parametrize("times", [2, 3])
def test_configurations_that_stand_several_times_in_a_row_are_copies(times):
    x = torch.randn(20, 1, 2, 2, generator=Generator().manual_seed(1)).repeat_interleave(times, 0)
    checks = {one.name: one for one in copy_checks(FREE, x, numbered(x))}
    check = checks["equal neighbours are rejections"]
    assert not check.passed
    assert f"every configuration stands there {times} times in a row" in check.detail
    assert f"{math.sqrt(times):.2f} times too small" in check.detail


def test_an_infinite_weight_is_no_draw_of_a_theory():
    x, weights = torch.zeros(3, 2, 2), torch.tensor([0.0, math.inf, math.nan], dtype=torch.float64)
    check = _fields(FREE, x, weights)
    assert not check.passed
    assert check.detail.startswith("2 of 3 draws")
    assert _fields(FREE, x, torch.tensor([0.0, -math.inf, 1.0], dtype=torch.float64)).passed


class Even:
    """The same probability for every configuration of spins."""

    def __init__(self, p: float) -> None:
        self.p = p

    def sample(self, *_):
        raise AssertionError("it is not drawn from")

    def log_prob(self, x):
        return torch.full((len(x),), math.log(self.p), dtype=torch.float64)


@pytest.mark.parametrize(("p", "passed"), [(1 / 16, True), (1 / 32, False), (1 / 8, False)])
def test_probabilities_that_add_up_to_less_or_more_than_one_are_wrong(p, passed):
    spins = Ising((2, 2), 0.4)
    (check,) = normalisation_check(Even(p), spins, torch.ones(1, 2, 2, dtype=torch.float64))
    assert check.passed is passed


def test_discrete_fields_are_rounded_on_no_way():
    spins, fields = Ising((2, 2), 0.4), Even(1.0)
    double, single = torch.ones(1, 2, 2, dtype=torch.float64), torch.ones(1, 2, 2)
    assert (_limit(fields, spins, double), _limit(fields, spins, single)) == (1e-9, 1e-3)
    assert (_limit(fields, FREE, double), _limit(fields, FREE, single)) == (1e-6, 0.05)


@pytest.mark.parametrize(
    ("sign", "share", "passed"), [(0.5, "75.0%", False), (-1.0, "0.0%", False), (0.0, "50.0%", True)]
)
def test_the_share_of_positive_signs(sign, share, passed):
    (name,) = (one.name for one in FREE.observables if one.balanced)
    number = Measurement(sign, 0.05)
    exact = Measurement(0.9, 0.0)  # which rests on no draws
    (check,) = sign_checks(FREE, [of(MODEL_WAY, **{name: number}), of(EXACT_WAY, **{name: exact})])
    assert check.passed is passed
    assert check.detail.startswith(share)


# what is known


def test_a_reference_overrides_what_is_exact():
    assert known(FREE)["phi_squared"].error == 0.0
    assert known(FREE, {"phi_squared": "1.5(1)"})["phi_squared"] == Measurement.parse("1.5(1)")


def test_odd_averages_vanish_by_the_symmetry_alone():
    odd = {one.name for one in Ising((6, 6), 0.4).observables if one.odd}
    assert odd
    assert all(known(Ising((6, 6), 0.4))[name].value == 0.0 for name in odd)
    assert all(known(Ising((2, 2), 0.4, field=0.3))[name].value > 0.0 for name in odd & {"magnetization"})


def test_rare_configurations_are_compared_from_some_counts_on():
    """With an error of a fifth of what its counts say it rests on 25 of them; with a larger one on fewer."""
    rare = next(one for one in LINKS.observables if one.rests_on is not None)
    assert isinstance(rare, Observable)
    for error, compared in ((0.2 * rare.rests_on(0.1), True), (0.21 * rare.rests_on(0.1), False)):
        ways = [
            of(MODEL_WAY, **{rare.name: Measurement(0.1, error)}),
            of(EXACT_WAY, **{rare.name: Measurement(0.1, 0.0)}),
        ]
        (row,) = table(LINKS, ways)
        assert bool(row.pulls) is compared


def test_chains_that_start_with_both_signs_are_draws_of_them():
    """24 changes and two starts with both signs are 26, of 25 that are asked; with one sign alone 24."""
    for start, doubted in ((1.0, True), (-1.0, False)):
        m = np.ones((25, 2))
        m[:, 0] = (-1.0) ** np.arange(25)
        m[:, 1] = start
        series = {"magnetization": m}
        assert bool(list(_rare_changes(Evidence(FREE, ensemble=chain(series))))) is doubted


def test_signs_are_sectors_alike_by_the_symmetry_alone():
    """In a field both signs of M need not be there, and nothing is asked of a single chain."""
    even, odd = Ising((4, 4), 0.3), Ising((4, 4), 0.3, field=0.1)
    one = next(one for one in even.observables if one.odd and one.sectors is not None)
    assert one.sectors is not None
    share, source = _expected(replace(even, couplings=2 * even.bond_strengths()), one, one.sectors)
    assert source == "symmetry"
    assert share is not None
    assert share(0) == 0.5
    assert _expected(replace(odd, couplings=2 * odd.bond_strengths()), one, one.sectors) == (None, "")


class Mirrored(Bijection):
    """Twice the field, whose way back has the determinant of the way there."""

    def forward(self, x):
        return 2 * x, torch.full((len(x),), 4 * math.log(2.0), dtype=torch.float64)

    def inverse(self, y):
        return y / 2, torch.full((len(y),), 4 * math.log(2.0), dtype=torch.float64)


def test_log_determinants_cancel_by_their_signs():
    flow = Flow(Normal((2, 2)), Mirrored()).double()
    checks = {one.name: one.passed for one in flow_checks(flow, flow, FREE, 4, 1)}
    assert checks["inverse undoes forward"]
    assert not checks["log-determinants cancel"]


def test_the_longest_run_counts_the_configuration_that_is_repeated():
    """Two in a row that equal the one before are a run of three."""
    accepted = np.array([1, 1, 0, 0, 1, 0, 1, 1])[:, None]
    series = {"accepted": accepted, "action": np.random.default_rng(1).standard_normal((8, 1))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        way = ensemble(Evidence(FREE, ensemble=chain(series)))
    assert way is not None
    assert way.diagnostics["ensemble_longest_run"] == 3


def test_averages_over_chains_are_ratios_with_the_sign():
    """⟨O σ⟩/⟨σ⟩ of an odd number of flavours."""
    rng = np.random.default_rng(2)
    plaquette, sign = rng.standard_normal((200, 2)), np.where(rng.random((200, 2)) < 0.2, -1.0, 1.0)
    series = {
        "accepted": sign > 0,
        "action": rng.standard_normal((200, 2)),
        "plaquette": plaquette,
        "sign": sign,
    }
    found = Evidence(Schwinger((4, 4), 1.0, 0.2, flavours=1), chain(series, MODEL), chain(series, HMC))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        ways = model_chain(found), beside_chain(found)
    for way in ways:
        assert way is not None
        expected = (plaquette * sign).mean() / sign.mean()
        assert way.measurements["plaquette"].value == pytest.approx(expected)


def test_the_slowest_observable_sets_the_price():
    """Of those that the theory calls slow."""
    action = Schwinger((4, 4), 1.0, 0.2)
    slow = [one for one in action.observables if one.slow and one.label]
    assert len(slow) > 1
    fast = next(one for one in action.observables if one.label and not one.slow)
    numbers = {
        one.name: Measurement(0.0, 0.1, tau_int=3.0 + i, tau_int_error=0.5) for i, one in enumerate(slow)
    }
    numbers[fast.name] = Measurement(0.0, 0.1, tau_int=99.0)
    told: Any = SimpleNamespace(action=action)
    found = _slowest(told, of(BESIDE_WAY, **numbers))
    assert found is not None
    assert (found[0], found[1].value) == (slow[-1].label, 2.0 + len(slow))


@pytest.mark.parametrize(("own", "passed"), [(0.0, True), (1.0, False)])
def test_no_logit_may_know_its_own_site(own, passed):
    """Of four sites in a row each knows the one before it, and all but the first themselves by a weight."""

    def logits(_, spins):
        return torch.cat((torch.zeros_like(spins[:1]), spins[:-1] + own * spins[1:]))

    values = SimpleNamespace(encoded=lambda x, like: x.to(like.dtype))
    conditional = SimpleNamespace(values=values, logits=logits)
    level = SimpleNamespace(
        contexts=torch.zeros(0, 1, dtype=torch.int64),
        blocks=torch.arange(4)[:, None],
        conditional=conditional,
    )
    spins = Ising((4,), 0.4).kind.start((4,), 3, Generator().manual_seed(1), torch.float64)
    check = causality_check(SimpleNamespace(levels=[level]), spins, Ising((4,), 0.4).kind)
    assert check.passed is passed


def test_configurations_count_by_their_autocorrelation_at_other_couplings():
    """ESS · N/2τ: each is held for ten steps here."""
    x = torch.randn(20, 4, 2, 2, generator=Generator().manual_seed(1), dtype=torch.float64)
    x = x.repeat_interleave(10, 0)
    series = {"action": FREE(x.flatten(0, 1)).view(200, 4).numpy()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        found = at_couplings(FREE, x, series, {"m2": 1.05})
        tau = measure(series["action"]).tau_int
    assert tau is not None
    assert tau > 2.5
    assert found.independent == pytest.approx(found.ess * 800 / (2 * tau))


@pytest.mark.parametrize(("sign", "doubted"), [(0.3, True), (0.5, True), (0.6, False), (-0.6, False)])
def test_a_sign_is_known_from_five_errors_on(sign, doubted):
    found = Evidence(Schwinger((4, 4), 1.0, 0.2, flavours=1))
    way = of(BESIDE_WAY, sign=Measurement(sign, 0.1))
    assert bool(list(_of_signs(found, [way]))) is doubted
    assert not list(_of_signs(found, [of(EXACT_WAY, sign=Measurement(0.0, 0.1))]))
