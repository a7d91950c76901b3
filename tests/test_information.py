"""The information that two parts of a lattice share: by enumeration, by the transfer matrix, by networks."""

import itertools
import math

import numpy as np
import pytest
import torch

from latflow import analysis, exact
from latflow.densities.autoregressive import SpinNetwork, cut_weights, dense_spins, hierarchical_spins
from latflow.estimators import reinforce_leave_one_out
from latflow.theories import Action, Ising
from latflow.training import Schedule, train
from test_autoregressive import network, seeded

CRITICAL = 0.44068679


def joint(action: Action, rows: int) -> np.ndarray:
    """p(a, b) for the first rows a and the others b, from all configurations."""
    states = exact.spin_states(action.lattice)
    p = torch.softmax(-action(states), 0).numpy()
    return p.reshape(2 ** (rows * math.prod(action.lattice[1:])), -1)


def counted_information(action: Action, rows: int) -> float:
    p = joint(action, rows)
    return float((p * np.log(p / p.sum(1, keepdims=True) / p.sum(0))).sum())


def counted_entropy(action: Action, rows: int) -> float:
    p = joint(action, rows).sum(1)
    return float(-(p * np.log(p)).sum())


def glass(lattice: tuple[int, ...]) -> Ising:
    """A different coupling on every bond, and a field: nothing is the same when rows are turned."""
    couplings = torch.randn((len(lattice), *lattice), generator=seeded(1))
    return Ising(lattice, 0.2, field=0.15, couplings=couplings)


# --- the transfer matrix --------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [(4, 4), (3, 4), (4, 3), (2, 2), (2, 3), (5,), (2, 2, 3), (3, 2, 2)])
@pytest.mark.parametrize("beta", [-0.4, 0.2, CRITICAL, 0.9])
def test_strips_are_those_of_the_enumeration(lattice, beta):
    """Also antiferromagnets, rings, rectangles and bricks, and cuts into unequal parts."""
    action = Ising(lattice, beta)
    for rows in range(1, lattice[0]):
        information = exact.ising_mutual_information(lattice, beta, rows)
        assert information == pytest.approx(counted_information(action, rows), abs=1e-12)
        entropy = exact.ising_strip_entropy(lattice, beta, rows)
        assert entropy == pytest.approx(counted_entropy(action, rows), abs=1e-12)


def test_limits_of_the_information():
    """0 without coupling; log 2, the common sign, for strong ones; the entropy of all rows is Kaufman's."""
    for lattice, rows in itertools.product(((6, 5), (8, 4)), (1, 3)):
        assert exact.ising_mutual_information(lattice, 0.0, rows) == pytest.approx(0, abs=1e-12)
        for beta in (5.0, 100.0, 1000.0):
            assert exact.ising_mutual_information(lattice, beta, rows) == pytest.approx(math.log(2), abs=1e-8)
    for lattice, beta in itertools.product(((8, 8), (9, 4), (4, 7)), (0.3, CRITICAL, 0.6)):
        expected = exact.ising_entropy(lattice, beta)
        assert exact.ising_strip_entropy(lattice, beta, lattice[0]) == pytest.approx(expected, abs=1e-10)


def test_the_information_lives_on_the_boundaries():
    """It grows with the length of a boundary, not with the strips; two boundaries far apart add up."""
    per_site = [exact.ising_mutual_information((8, side), 0.25, 4) / (2 * side) for side in (7, 8)]
    assert per_site[0] == pytest.approx(per_site[1], rel=2e-3)
    thick = [exact.ising_mutual_information((length, 4), 0.4, length // 2) for length in (100, 3000)]
    assert thick[0] == pytest.approx(thick[1], rel=1e-9)
    assert exact.ising_mutual_information((9, 4), 0.4, 2) == exact.ising_mutual_information((9, 4), 0.4, 7)


def test_wrong_cuts_and_long_rows_are_refused():
    for rows in (0, 4, -1):
        with pytest.raises(ValueError, match=f"from 1 to 3 rows of the 4, got {rows}"):
            exact.ising_mutual_information((4, 5), 0.3, rows)
    with pytest.raises(ValueError, match="from 1 to 4 rows of the 4, got 5"):
        exact.ising_strip_entropy((4, 5), 0.3, 5)
    for lattice in ((4, 12), (8, 4, 4), (4, 1)):
        with pytest.raises(ValueError, match="rows of at most 11 sites"):
            exact.ising_mutual_information(lattice, 0.3, 2)
    with pytest.raises(ValueError, match="finite beta"):
        exact.ising_mutual_information((4, 4), math.inf, 2)


# --- statistics -----------------------------------------------------------------------------------


def every_outcome(m: int, values: tuple[float, float]) -> np.ndarray:
    """Logs of m weights, each of two values with probability one half, in all 2^m equally likely ways."""
    return np.log(np.array(list(itertools.product(values, repeat=m))))


@pytest.mark.parametrize("values", [(1.0, 0.6), (0.4, 1.0)])
def test_the_bias_of_first_order_cancels(values):
    """A part with a single state has no entropy: what comes out, summed over all outcomes, is the bias.

    That of one logarithm is κ₂/(2m), κ_i the relative central moments; of both it is (κ₂²/4 − κ₃/12)/m², and
    κ₃ is zero here.
    """
    kappa = ((values[0] - values[1]) / (values[0] + values[1])) ** 2
    for m in (6, 14):
        logs = every_outcome(m, values)
        found = analysis.part_entropy(logs[:, 0], logs)
        assert found.value * m**2 == pytest.approx(kappa**2 / 4, rel=4 / m)
        assert found.value < kappa / (2 * m) / 3
        # by hand: weights of the outcomes are those of their first member
        w = np.exp(logs)
        high, low = np.log(w.mean(1)), np.log(w[:, 1:].mean(1))
        brackets = [math.log(w.mean()) - w[:, 0] @ x / w[:, 0].sum() for x in (high, low)]
        assert brackets[0] < 0 < brackets[1]
        assert found.value == pytest.approx((m * brackets[0] + (m - 1) * brackets[1]) / (2 * m - 1))


def test_the_bracket_covers_inner_weights_that_are_too_few():
    """One weight in 2^m is all of the sum: half the bracket is in the error, and covers."""
    values = 4.0 * np.random.default_rng(0).standard_normal((100_000, 12))
    for m in (2, 4, 12):
        # draws of p have the weight of q(b) exp(4 b), that is b ∼ N(16, 16) in place of N(0, 16)
        logs = np.concatenate((values[:, :1] + 16, values[:, 1:m]), 1)
        found = analysis.part_entropy(np.zeros(len(logs)) + 8, logs)
        assert abs(found.value) > 1
        assert abs(found.pull(0.0)) < 1
    for wrong in (np.zeros((5, 1)), np.zeros(5), np.zeros((4, 2))):
        with pytest.raises(ValueError, match=r"expected inner log-weights \(5, m ≥ 2\), got shape"):
            analysis.part_entropy(np.zeros(5), wrong)


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dense", "linear", "convolutional"])
@pytest.mark.parametrize(
    ("lattice", "rows"), [((3, 3), 1), ((3, 4), 2), ((4, 3), 3), ((5,), 2), ((2, 3, 2), 1)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_after_given_ones_have_their_conditional_probability(name, lattice, rows, dtype):
    q = network(name, lattice, z2=False).to(dtype)
    first = q.sample(1, seeded(1))[0][:, :rows].repeat(3, *[1] * len(lattice))
    first[1:, 0] = -first[1:, 0]
    for given in (first[:1], first):
        x, log_q = q.sample(4, seeded(2), given=given)
        assert (x.dtype, log_q.dtype) == (dtype, torch.float64)
        assert x.shape == (4 * len(given), *lattice)
        assert torch.equal(x[:, :rows], given.repeat_interleave(4, 0))
        # log q(a) from all continuations of each a
        rest = exact.spin_states((math.prod(lattice) - rows * math.prod(lattice[1:]),)).to(dtype)
        whole = torch.cat((given.flatten(1).repeat_interleave(len(rest), 0), rest.repeat(len(given), 1)), 1)
        every = q.log_prob(whole.unflatten(1, lattice)).detach().view(len(given), -1)
        log_q_first = torch.logsumexp(every, 1).repeat_interleave(4)
        rounding = 1e-12 if dtype == torch.float64 else 2e-5
        expected = q.log_prob(x).detach() - log_q_first
        torch.testing.assert_close(q.log_prob(x, given=rows).detach(), log_q, rtol=rounding, atol=rounding)
        torch.testing.assert_close(log_q, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", ["dense", "convolutional"])
def test_continuations_have_the_frequencies_of_the_conditional_density(name):
    """χ² over the 8 rows that can follow two given ones: ν = 7, standard deviation √14."""
    q, n = network(name, (3, 3), z2=False, size=0.3), 20_000
    given = torch.tensor([[[1.0, -1.0, -1.0], [1.0, 1.0, -1.0]], [[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0]]])
    x, log_q = q.sample(n, seeded(3), given=given)
    numbers = ((1 - x[:, 2]).long() // 2 * torch.tensor([4, 2, 1])).sum(1).view(2, n)
    for row, log_p in zip(numbers, log_q.view(2, n), strict=True):
        counted = torch.bincount(row, minlength=8)
        p = torch.zeros(8, dtype=log_p.dtype).scatter_(0, row, log_p.exp())
        assert p.sum().item() == pytest.approx(1)
        assert abs(((counted - n * p) ** 2 / (n * p)).sum().item() - 7) < 5 * math.sqrt(14)


@pytest.mark.parametrize("alone", [False, True])
def test_inner_weights_average_to_the_partition_sums(alone):
    """Z(a) and Z(b) of a spin glass in a field, for 20 draws: z-scores of the means of 300 weights each."""
    action, rows = glass((3, 4)), 2
    q = network("dense", (3, 4), z2=False, size=0.05)
    turned = q if alone else network("convolutional", (3, 4), z2=False, size=0.05)
    weights = cut_weights(q, action, rows, n=25, inner=300, generator=seeded(4), turned=turned, batch=6200)
    x, log_q = q.sample(20, seeded(4))  # the first of two blocks
    own = {"first": q.log_prob(x, given=2), "rest": turned.log_prob(x.roll(-2, 1), given=1)}
    for name, log_p in own.items():
        np.testing.assert_allclose(getattr(weights, name)[:20, 0], (-action(x) - log_p).detach(), rtol=1e-12)
    np.testing.assert_allclose(weights.action[:20], action(x), rtol=1e-12)
    np.testing.assert_allclose(weights.log_weight[:20], -action(x) - log_q, rtol=1e-12)
    log_p, log_z = np.log(joint(action, rows)), exact.spins_enumerated(action).log_z
    numbers = ((1 - x.flatten(1)).long() // 2 * 2 ** torch.arange(11, -1, -1)).sum(1).numpy()
    for logs, axis, fixed in ((weights.first, 1, numbers // 16), (weights.rest, 0, numbers % 16)):
        assert logs.shape == (25, 300)
        ratio = np.exp(logs[:20, 1:] - log_z - np.logaddexp.reduce(log_p, axis)[fixed, None])
        z = (ratio.mean(1) - 1) / (ratio.std(1) / math.sqrt(299))
        assert 0.2 < ratio.std() < 1.5
        assert abs(z).max() < 5
        assert 0.4 < z.std() < 1.8


@pytest.mark.parametrize(
    ("name", "lattice", "rows"), [("dense", (3, 3), 1), ("convolutional", (3, 4), 2), ("linear", (4, 4), 3)]
)
def test_networks_that_know_nothing_give_the_information_within_its_error(name, lattice, rows):
    """Pulls of 25 estimates, whose mean and root mean square should be 0 ± 0.2 and 1 ± 0.14."""
    action, q = Ising(lattice, 0.15), network(name, lattice, z2=False, size=0.03)
    information, entropy = counted_information(action, rows), counted_entropy(action, rows)
    pulls = []
    for seed in range(25):
        weights = cut_weights(q, action, rows, n=800, inner=10, generator=seeded(seed))
        found = (
            analysis.mutual_information(*weights).pull(information),
            analysis.part_entropy(weights.log_weight, weights.first).pull(entropy),
        )
        pulls.append(found)
    assert analysis.effective_sample_size(weights.log_weight) < 0.7
    assert np.abs(np.mean(pulls, 0)).max() < 1
    assert np.abs(np.std(pulls, 0) - 1).max() < 0.7


def trained(action: Ising) -> SpinNetwork:
    q = dense_spins(action.lattice, hidden=(6,), z2=action.z2_symmetric)
    options = {"learning_rate": 1e-2, "schedule": Schedule("cosine"), "clip": 1.0}
    for _ in train(q, action, reinforce_leave_one_out, steps=150, batch=256, generator=seeded(1), **options):
        pass
    return q


@pytest.mark.parametrize(("lattice", "rows"), [((4, 4), 2), ((3, 4), 1)])
def test_trained_networks_give_the_information_at_the_critical_point(lattice, rows):
    """Within five errors, which are a few percent."""
    action = Ising(lattice, CRITICAL)
    weights = cut_weights(trained(action), action, rows, n=3000, inner=16, generator=seeded(2))
    found, expected = analysis.mutual_information(*weights), counted_information(action, rows)
    assert abs(found.pull(expected)) < 5
    assert found.error < 0.05 * expected


def test_a_glass_needs_a_network_for_the_other_part():
    """With it the error is small; with a poor one the bias is measured, and its size is in the error."""
    couplings = 4 * torch.tensor(glass((4, 3)).couplings)
    action, rows = Ising((4, 3), 0.2, field=0.15, couplings=couplings), 3
    turned = Ising((4, 3), 0.2, field=0.15, couplings=couplings.roll(-rows, 1))
    x = exact.spin_states((4, 3))[:50]
    torch.testing.assert_close(turned(x), action(x.roll(rows, 1)))
    q, other, options = trained(action), trained(turned), {"n": 2000, "generator": seeded(2)}
    with pytest.raises(ValueError, match="network `turned` to draw the first 3 rows"):
        cut_weights(q, action, rows, inner=16, **options)
    expected = counted_information(action, rows)
    found = analysis.mutual_information(*cut_weights(q, action, rows, inner=16, turned=other, **options))
    assert abs(found.pull(expected)) < 5
    assert found.error < 0.1 * expected
    poor = analysis.mutual_information(*cut_weights(q, action, rows, inner=16, turned=q, **options))
    assert poor.error > expected
    assert abs(poor.pull(expected)) < 2


def test_wrong_networks_and_cuts_are_refused():
    action = Ising((4, 4), 0.3)
    with pytest.raises(ValueError, match=r"from dense_spins or convolutional_spins.* blocks in 3 levels"):
        cut_weights(hierarchical_spins((4, 4)), action, 2, n=4, inner=4, generator=seeded(0))
    q = dense_spins((4, 4))
    for rows in (0, 4):
        with pytest.raises(ValueError, match=r"after 1 to 3 rows of \(4, 4\)"):
            cut_weights(q, action, rows, n=4, inner=4, generator=seeded(0))
    for wrong in ({"n": 0}, {"inner": 1}, {"batch": 0}):
        with pytest.raises(ValueError, match="positive numbers, and inner of at least 2"):
            cut_weights(q, action, 2, **({"n": 4, "inner": 4, "generator": seeded(0)} | wrong))

    for given, expected in (
        (torch.ones(2, 4, 4), "1 to 3 rows"),
        (torch.ones(2, 0, 4), "1 to 3 rows"),
        (torch.ones(2, 2, 3), "rows of the lattice"),
        (torch.ones(2, 2), "rows of the lattice"),
    ):
        with pytest.raises(ValueError, match=expected):
            q.sample(1, seeded(0), given=given)
    with pytest.raises(ValueError, match="1 to 3 rows"):
        q.log_prob(torch.ones(2, 4, 4), given=4)
