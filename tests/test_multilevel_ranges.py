"""Multilevel densities for ranges of couplings: at each coupling one density, whose exact parts are right."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from cases import perturbed
from latflow import exact
from latflow.analysis import crossing, pooled
from latflow.config import load_config
from latflow.densities import draws, load_density, log_weight, save_density
from latflow.densities.multilevel import Span, multilevel
from latflow.errors import CheckpointError, ConfigError
from latflow.estimators import SoftLabelsInRanges, soft_labels, soft_labels_in_ranges
from latflow.exact import spin_states
from latflow.lattice import checkerboard
from latflow.observables import binder_cumulant, magnetization
from latflow.runs import Run
from latflow.theories import HoppingPhi4, Ising, U1Gauge
from latflow.training import Curriculum, Schedule, Trainer
from small_runs import assert_same, outcome

ISING = Ising((4, 4), beta=0.42)
PHI4 = HoppingPhi4((8, 8), beta=0.6, lam=0.5)
IN_BETA = {"beta": [0.36, 0.5]}
OF_PHI4 = {"beta": (0.55, 0.7), "lam": (0.4, 0.8)}
CASES = [
    pytest.param(ISING, IN_BETA, {"beta": 0.36}, id="ising at an end"),
    pytest.param(ISING, IN_BETA, {"beta": 0.47}, id="ising inside"),
    pytest.param(PHI4, OF_PHI4, {"beta": 0.69}, id="φ⁴ in one of two"),
    pytest.param(PHI4, OF_PHI4, {"beta": 0.55, "lam": 0.77}, id="φ⁴ in both"),
]
at_couplings = pytest.mark.parametrize(("action", "ranges", "couplings"), CASES)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def density(action, ranges, width=5):
    """One with weights far from the initial ones, all terms of the polynomials among them."""
    size = 0.3 if action.kind.states else 0.02
    return perturbed(multilevel(action.lattice, action=action, ranges=ranges, width=width).double(), size)


# --- exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.36, 0.47])
def test_probabilities_of_all_configurations_add_up_to_one(beta):
    q, x = density(ISING, IN_BETA), spin_states((4, 4))
    there = q.at(beta=beta)
    with torch.no_grad():
        log_q = there.log_prob(x)
        assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
        assert (log_q - q.log_prob(x)).std() > 0.1
        assert torch.equal(log_q, there.log_prob(-x))
    assert there.symmetries == ("z2",)


@at_couplings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_come_with_their_log_probability(action, ranges, couplings, dtype):
    q = density(action, ranges).to(dtype).at(**couplings)
    x, log_q = q.sample(20, seeded(2))
    assert (x.dtype, log_q.dtype) == (dtype, torch.float64)
    action.kind.check_values(x)
    rounding = 1e-9 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=0, atol=rounding)


@at_couplings
def test_exact_parts_are_those_of_the_theory_there(action, ranges, couplings):
    """−S − log q does not depend on the odd sites, at these couplings and at no others."""
    q, there = density(action, ranges).at(**couplings), action.at(**couplings)
    assert q.theory == there.nearest_neighbours()
    x, _ = q.sample(4, seeded(1))
    y = q.theory.redrawn(x, 1, seeded(5))
    assert not torch.equal(x[:, checkerboard(action.lattice, 1)], y[:, checkerboard(action.lattice, 1)])
    one, other = log_weight(there, x, q.log_prob(x)), log_weight(there, y, q.log_prob(y))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    wrong = log_weight(action, x, q.log_prob(x)) - log_weight(action, y, q.log_prob(y))
    assert wrong.abs().max() > 1e-3


def test_the_symmetry_is_exact_in_every_network():
    q = density(PHI4, OF_PHI4).float().at(beta=0.68, lam=0.5)
    for one in q.classes[:-1]:
        network = q.networks[one.name]
        window = torch.randn(len(one.window), 50, generator=seeded())
        there, back = network(window), network(-window)
        assert torch.equal(there[: q.conditional.odd], -back[: q.conditional.odd])
        assert torch.equal(there[q.conditional.odd :], back[q.conditional.odd :])


# --- one density for all couplings ------------------------------------------------------------------


def test_all_couplings_share_their_weights():
    q = density(ISING, IN_BETA)
    there = q.at(beta=0.4).at(beta=0.5)
    assert {id(p) for p in there.parameters()} == {id(p) for p in q.parameters()}
    x = ISING.kind.start((4, 4), 6, seeded(1), torch.float64)
    assert torch.equal(there.at(beta=ISING.beta).log_prob(x), q.log_prob(x))
    there.log_prob(x).sum().backward()
    terms = torch.stack([network.numbers.grad.flatten(1).norm(dim=1) for network in q.networks.values()])
    assert terms.shape[1] == 4
    assert bool((terms[1:] > 0).all())  # the first site has no window, and its spin is fair


def test_at_first_the_networks_are_the_same_in_the_whole_range():
    q = multilevel((8, 8), action=PHI4, ranges=OF_PHI4, width=4)
    window = torch.randn(len(q.classes[1].window), 9, generator=seeded())
    networks = [one.networks[q.classes[1].name](window) for one in (q, q.at(beta=0.55), q.at(lam=0.8))]
    assert torch.equal(networks[0], networks[1])
    assert torch.equal(networks[0], networks[2])
    assert torch.equal(networks[0], multilevel((8, 8), action=PHI4, width=4).networks["Aa2"](window))


def test_numbers_of_networks_are_polynomials_of_the_coupling():
    """Of degree 3, which values at four couplings determine."""
    q = density(ISING, IN_BETA)

    def numbers(beta):
        return torch.cat([weight.flatten() for weight in q.at(beta=beta).networks["Aa0"].weights])

    betas = [0.36, 0.4, 0.45, 0.49]
    weights = [math.prod((0.47 - b) / (a - b) for b in betas if b != a) for a in betas]
    expected = sum(w * numbers(b) for w, b in zip(weights, betas, strict=True))
    torch.testing.assert_close(numbers(0.47), expected, rtol=0, atol=1e-10)


def test_a_larger_lattice_has_the_same_couplings():
    q = density(HoppingPhi4((8, 8), 0.6, 0.5), OF_PHI4)
    large = q.on_lattice((16, 16))
    assert large.networks["Aa0"].numbers is q.networks["Aa0"].numbers
    x, log_q = large.at(beta=0.66).sample(3, seeded())
    torch.testing.assert_close(log_q, large.at(beta=0.66).log_prob(x).detach(), rtol=0, atol=1e-9)
    assert large.at(beta=0.66).theory == HoppingPhi4((16, 16), 0.66, 0.5).nearest_neighbours()


def test_knots_are_zeros_of_chebyshev_polynomials_and_fill_a_square():
    span = Span(ISING, IN_BETA, 3)
    t = [span.at(**knot).position[0] for knot in span.knots(5)]
    assert t == pytest.approx([-math.cos(math.pi * (i + 0.5) / 5) for i in range(5)])
    square = Span(PHI4, OF_PHI4, 2)
    assert len(square.terms) == 6
    places = torch.tensor([square.at(**knot).position for knot in square.knots(64)])
    uniform = torch.arccos(-places) / math.pi
    quarters = (uniform > 0.5).long() @ torch.tensor([1, 2])
    assert bool(((torch.bincount(quarters) - 16).abs() <= 2).all())


def test_a_file_serves_every_coupling(tmp_path):
    q = density(ISING, IN_BETA).float()
    save_density(q, tmp_path / "q.safetensors")
    found = load_density(tmp_path / "q.safetensors", action=ISING.at(beta=0.49))
    x = ISING.kind.start((4, 4), 6, seeded(1), torch.float32)
    assert torch.equal(found.log_prob(x), q.at(beta=0.49).log_prob(x))
    with pytest.raises(CheckpointError, match=r"expected beta in its range from 0\.36 to 0\.5, got 0.6"):
        load_density(tmp_path / "q.safetensors", action=ISING.at(beta=0.6))


def test_what_is_wrong_with_a_coupling_is_said():
    q = density(ISING, IN_BETA)
    with pytest.raises(ValueError, match=r"expected beta in its range from 0\.36 to 0\.5, got 0.35"):
        q.at(beta=0.35)
    with pytest.raises(ValueError, match="expected couplings that have a range, beta, got field"):
        q.at(field=0.1)
    with pytest.raises(ValueError, match="expected a density built with ranges of beta, got none"):
        multilevel((4, 4), action=ISING).at(beta=0.4)
    for ranges, message in [
        ({"beta": [0.45, 0.5]}, "expected beta in its range from 0.45 to 0.5, got 0.42"),
        ({"beta": [0.5, 0.3]}, r"expected two numbers a < b as the range of beta, got \[0.5, 0.3\]"),
        ({"beta": [0.4]}, "expected two numbers a < b as the range of beta"),
        (
            {"kappa": [0.1, 0.2]},
            "expected ranges of couplings of Ising model out of beta, field, got one of kappa",
        ),
        ({}, "expected the range of at least one coupling, got none"),
    ]:
        with pytest.raises(ValueError, match=message):
            multilevel((4, 4), action=ISING, ranges=ranges)


def test_every_theory_says_what_its_coupling_constants_are():
    assert ISING.coupling_constants == {"beta": 0.42, "field": 0.0}
    assert U1Gauge((4, 4), beta=2.0).at(beta=3.0) == U1Gauge((4, 4), beta=3.0)
    twice = 2.0 * ISING
    assert twice.at(factor=0.5)(torch.ones(1, 4, 4)).item() == pytest.approx(-0.5 * 32 * 0.42)
    with pytest.raises(
        ValueError, match="expected coupling constants of Ising model out of beta, field, got"
    ):
        ISING.at(lam=0.1)


# --- training -------------------------------------------------------------------------------------


def trainer(q, action, steps, **options):
    given = {"batch": 64, "learning_rate": 0.01, "generator": seeded(7), "steps": steps} | options
    estimator = given.pop("estimator", None) or soft_labels_in_ranges(knots=4, chains=128)
    return Trainer(q, action, estimator, **given)


@pytest.mark.slow
def test_one_training_weights_spins_without_bias_at_every_coupling():
    """log Z on 8² against Kaufman's solution, from the mean weight: at an end, critical, and between."""
    action = Ising((8, 8), beta=0.42)
    q = multilevel((8, 8), action=action, ranges=IN_BETA, width=12)
    for _ in trainer(
        q, action, steps=80, batch=64, learning_rate=0.02, schedule=Schedule("cosine", floor=0.01)
    ):
        pass
    for beta in (0.36, 0.44068679, 0.48):
        log_w = draws(q.at(beta=beta), 8000, action.at(beta=beta), seeded(1)).log_weight
        w = torch.exp(log_w - exact.ising_log_z((8, 8), beta))
        error = w.std().item() / math.sqrt(len(w))
        assert error < 0.02, beta
        assert w.mean().item() == pytest.approx(1, abs=5 * error), beta


def test_a_training_goes_on_as_if_it_had_not_stopped():
    def pair():
        return (q := density(ISING, IN_BETA).float()), trainer(q, ISING, steps=9)

    whole, training = pair()
    records = list(training)
    first, begun = pair()
    for _ in range(5):
        next(begun)
    weights = {name: value.clone() for name, value in first.state_dict().items()}
    kept = begun.state_dict()
    second, again = pair()
    second.load_state_dict(weights)
    again.load_state_dict(kept)
    assert [record.f_q for record in again] == [record.f_q for record in records[5:]]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_curriculum_teaches_all_couplings():
    action = Ising((8, 8), beta=0.42)
    q = multilevel((8, 8), action=action, ranges=IN_BETA, width=4)
    for _ in trainer(q, action, steps=36, curriculum=Curriculum(((4, 4),), (24,)), learning_rate=0.04):
        pass
    start = multilevel((8, 8), action=action, ranges=IN_BETA, width=4)
    for beta in (0.36, 0.48):
        before, after = (
            draws(one.at(beta=beta), 500, action.at(beta=beta), seeded()).log_weight.std()
            for one in (start, q)
        )
        assert after < 0.75 * before


def test_the_estimator_says_what_it_needs():
    plain = multilevel((4, 4), action=ISING, width=4)
    with pytest.raises(ValueError, match="expected a density with ranges of couplings, such as multilevel"):
        trainer(plain, ISING, steps=1)
    with pytest.raises(ValueError, match="expected a density that draws single sites"):
        SoftLabelsInRanges().check(torch.nn.Linear(1, 1), ISING)
    with pytest.raises(ValueError, match="expected at least one knot, got 0"):
        soft_labels_in_ranges(knots=0)
    with pytest.raises(ValueError, match="expected at least two chains to move, got 1"):
        soft_labels_in_ranges()(density(ISING, IN_BETA), ISING, 1, seeded())
    record = next(trainer(density(ISING, IN_BETA).float(), ISING, 1, estimator=soft_labels(chains=64)))
    assert record.grad_norm > 0


@pytest.mark.slow
def test_binder_cumulants_cross_where_the_exact_ones_do():
    """Of 4² and 8², from draws at five couplings, against the transfer matrix between two of them."""
    couplings, own = torch.linspace(0.4, 0.5, 9).tolist(), [0, 2, 4, 6, 8]
    curves, start = [], multilevel((4, 4), action=Ising((4, 4), 0.45), ranges={"beta": [0.4, 0.5]}, width=8)
    for side, steps in ((4, 50), (8, 90)):
        action = Ising((side, side), 0.45)
        q = start.on_lattice(action.lattice)
        for _ in trainer(q, action, steps, learning_rate=0.02, schedule=Schedule("cosine", floor=0.01)):
            pass
        log_w, moments = [], []
        for number in own:
            here = action.at(beta=couplings[number])
            x, log_weight_here = draws(q.at(beta=couplings[number]), 8000, here, seeded(number))
            log_w.append([(log_weight_here + here(x) - action.at(beta=b)(x)).numpy() for b in couplings])
            moments.append([magnetization(x).double().numpy() ** power for power in (2, 4)])
        curves.append(pooled(np.swapaxes(log_w, 0, 1), np.swapaxes(moments, 0, 1), own, binder_cumulant))
        start = q
    found, value = crossing(couplings, *curves)
    near = [0.4465, 0.448]
    exact_curves = [
        [Ising((side, side), beta).known()["binder_cumulant"].value for beta in near] for side in (4, 8)
    ]
    apart = [large - small for small, large in zip(*exact_curves, strict=True)]
    share = apart[0] / (apart[0] - apart[1])
    assert found.error < 0.004
    assert found.value == pytest.approx(near[0] + share * (near[1] - near[0]), abs=5 * found.error)
    assert value.error < 0.003
    assert value.value == pytest.approx(
        exact_curves[0][0] + share * (exact_curves[0][1] - exact_curves[0][0]), abs=5 * value.error
    )


# --- runs -----------------------------------------------------------------------------------------

SMALL = [
    "name=small",
    "action.lattice=[4, 8]",
    "action.beta=0.4",
    "model.conditional=networks",
    "model.width=4",
    "training.learning_rate=1e-2",
    "model.ranges={beta=[0.36, 0.5]}",
    "training.curriculum=null",
    "training.estimator=soft_labels_in_ranges",
    "training.estimator_options={knots=3, chains=96}",
    "training.steps=20",
    "training.batch=32",
    "training.checkpoint_every=10",
    "compute.threads=1",
]


def test_a_run_goes_on_and_its_model_serves_other_couplings(tmp_path):
    config = load_config("ising-32x32", SMALL)
    whole, stopped = Run.create(tmp_path / "whole", config), Run.create(tmp_path / "stopped", config)
    whole.train()

    def stop(record):
        if record.step == 13:
            raise KeyError

    with pytest.raises(KeyError):
        stopped.train(stop)
    stopped.train()
    assert_same(outcome(whole.path, ()), outcome(stopped.path, ()))
    there = whole.model("best").at(beta=0.49)
    x, log_q = there.sample(5, seeded())
    torch.testing.assert_close(log_q, there.log_prob(x).detach(), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("action.beta=0.6", "model: expected beta in its range from 0.36 to 0.5, got 0.6"),
        ("model.ranges={beta=[0.3]}", "model: expected two numbers a < b as the range of beta, got"),
        ("model.ranges=null", "training.estimator: expected a density with ranges of couplings"),
        ("training.estimator_options={knots=0}", "training.estimator_options: expected at least one knot"),
    ],
)
def test_a_configuration_names_what_is_wrong(change, message):
    with pytest.raises(ConfigError) as caught:
        load_config("ising-32x32", [*SMALL, change])
    assert message in str(caught.value)
