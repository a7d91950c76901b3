"""Multilevel densities by tables: normalised, exact where they claim it, and learned by counting."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from latflow import exact
from latflow.densities import draws, load_density, log_weight, save_density
from latflow.densities.multilevel import CountedMultilevel, multilevel
from latflow.densities.multilevel.loglinear import LogLinear
from latflow.densities.multilevel.tables import Table
from latflow.densities.multilevel.windows import orbits, windows
from latflow.estimators import Counting, counting, reinforce, soft_labels
from latflow.exact import spin_states
from latflow.lattice import checkerboard
from latflow.theories import HoppingPhi4, Ising
from latflow.training import Curriculum, Trainer

KC = 0.44068679
ISING = Ising((4, 4), beta=0.44)
IN_A_FIELD = Ising((4, 4), beta=0.3, field=0.1)
both = pytest.mark.parametrize("action", [ISING, IN_A_FIELD], ids=["without a field", "in a field"])


def seeded(seed=0):
    return Generator().manual_seed(seed)


def made(action):
    density = multilevel(action.lattice, action=action, conditional="tables")
    assert isinstance(density, CountedMultilevel)
    return density


def density(action, dtype=torch.float64):
    """One with random tables, of the symmetry of the theory."""
    q, generator = made(action).to(dtype), seeded(3)
    for table in q.tables.values():
        assert isinstance(table, Table)
        values = torch.randn(table.values.shape, generator=generator, dtype=dtype)
        even = orbits(table.window, z2=table.z2).even
        values[even] -= values[even].flip(1)
        table.values.copy_(values)
        table.spread()
    return q


def of_even_sites(q, x):
    """log q(even)."""
    odd = checkerboard(q.lattice, 1)
    return q.log_prob(x) - q.theory.site.log_prob(x, q.theory.fields(x))[:, odd].sum(1)


def trainer(q, action, steps, **options):
    given = {"batch": 128, "generator": seeded(7), "estimator": counting(chains=128)} | options
    return Trainer(q, action, given.pop("estimator"), steps=steps, **given)


# --- what it is -----------------------------------------------------------------------------------


@both
def test_probabilities_of_all_configurations_add_up_to_one(action):
    q, x = density(action), spin_states((4, 4))
    log_q = q.log_prob(x)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert of_even_sites(q, x[:64]).std() > 0.1
    assert bool(torch.equal(log_q, q.log_prob(-x))) == (action.field == 0)
    assert q.symmetries == (("z2",) if action.field == 0 else ())


@pytest.mark.parametrize("action", [Ising((16, 16), KC), Ising((8, 16), 0.4, field=0.05)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_come_with_their_log_probability(action, dtype):
    q = density(action, dtype)
    x, log_q = q.sample(30, seeded(2))
    assert (x.dtype, log_q.dtype, x.shape) == (dtype, torch.float64, (30, *action.lattice))
    assert x.is_contiguous()
    action.kind.check_values(x)
    torch.testing.assert_close(log_q, q.log_prob(x), rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-4)
    assert torch.equal(q.sample(30, seeded(2))[0], x)
    assert bool(torch.equal(q.log_prob(x), q.log_prob(-x))) == (action.field == 0)
    none, log_none = q.sample(0, seeded())
    assert (none.shape, log_none.shape, q.log_prob(none).shape) == ((0, *action.lattice), (0,), (0,))


def test_spins_are_drawn_with_the_frequencies_that_the_density_says():
    """χ² over the configurations of the even sites that are not rare."""
    q, even, n = density(ISING), checkerboard((4, 4), 0), 100_000
    states = torch.ones(256, 4, 4, dtype=torch.float64)
    states[:, even] = spin_states((8,))
    p = of_even_sites(q, states).exp().numpy()
    x, _ = q.sample(n, seeded(1))
    numbers = ((1 - x[:, even]).long() // 2 * 2 ** torch.arange(7, -1, -1)).sum(1)
    counted = torch.bincount(numbers, minlength=256).numpy()
    large = n * p > 5
    expected, found = n * p[large], counted[large]
    rest = [n - found.sum()], [n - expected.sum()]
    assert stats.chisquare([*found, *rest[0]], [*expected, *rest[1]]).pvalue > 1e-6


@both
def test_the_weight_is_one_of_the_even_sites(action):
    """−S − log q does not depend on the odd sites."""
    q, x = density(action), spin_states((4, 4))[::997]
    y = q.theory.redrawn(x, 1, seeded(5))
    assert not torch.equal(x, y)
    one, other = log_weight(action, x, q.log_prob(x)), log_weight(action, y, q.log_prob(y))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(one, -q.theory.effective_action(x) - of_even_sites(q, x), rtol=0, atol=1e-5)


def test_all_images_of_a_window_have_one_number():
    """A table is a function of orbits: turned and reflected fields have their probabilities."""
    action = Ising((16, 16), KC)
    seen = next(seen for seen in windows((16, 16)) if seen.one.name == "Aa0")
    assert len(seen.window.images) == 8
    table = density(action)._table("Aa0")
    bits = torch.randint(0, 2, (seen.window.bits, 50), generator=seeded())
    powers = (2 ** torch.arange(seen.window.bits))[:, None]
    expected = table.half_log_odds((powers * bits).sum(0))
    for image in seen.window.images:
        assert torch.equal(table.half_log_odds((powers * bits[list(image)]).sum(0)), expected)
    most = seen.window.summed << seen.window.bits
    assert torch.equal(table.half_log_odds(most + (powers * (1 - bits)).sum(0)), -expected)


def test_orbits_cover_all_patterns():
    for seen in windows((8, 8)):
        for z2 in (True, False):
            alike = orbits(seen.window, z2=z2)
            number = len(alike.even)
            assert set((alike.orbit % number).tolist()) == set(range(number))
            assert (alike.orbit.max() >= number) == (z2 and not bool(alike.even.all()))


# --- counting -------------------------------------------------------------------------------------


@both
def test_counts_of_all_fields_are_the_exact_distribution(action):
    """On 4×4, each field as often as p has it: what the first classes see, their windows, is all there is.

    The table of a site that sees all sites drawn before holds p(+1 | these), once the model counts little.
    """
    q, x = made(action).double(), spin_states((4, 4))
    log_p = -action(x)
    p = (log_p - log_p.logsumexp(0)).exp()
    first, second = (seen for seen in q.seen[:2])
    assert second.places.shape == (1, 1)
    weights = (p * 1e9).round()
    chosen = torch.multinomial(weights, 400_000, replacement=True, generator=seeded(1))
    counts = q.count(x[chosen], seeded(2)) * 1e3
    q.fit(counts)
    a, b = first.one.sites[0], second.one.sites[0]
    for value in (1, -1):
        given = x.flatten(1)[:, a] == value
        share = (p * given * (x.flatten(1)[:, b] > 0)).sum() / (p * given).sum()
        bit = torch.tensor([(value + 1) // 2])
        found = torch.sigmoid(2 * q._table(second.one.name).half_log_odds(bit))
        assert found.item() == pytest.approx(share.item(), abs=5 * 0.5 / math.sqrt(400_000))


def test_a_log_linear_model_finds_what_is_log_linear():
    window = next(seen.window for seen in windows((8, 8)) if seen.one.name == "eob1")
    model = LogLinear(window, z2=True)
    theta = 0.3 * torch.randn(model.size, generator=seeded(1), dtype=torch.float64)
    z = model.log_odds(theta)
    n = torch.full_like(z, 1e6)
    found = model.fitted(torch.zeros_like(theta), n, n * torch.sigmoid(z))
    assert (torch.sigmoid(model.log_odds(found)) - torch.sigmoid(z)).abs().max() < 1e-3


def test_spins_are_learned_from_nothing_and_weighted_without_bias():
    """log Z on 8² at criticality against Kaufman's solution, from the mean weight."""
    action = Ising((8, 8), KC)
    q = made(action)
    records = list(trainer(q, action, steps=60))
    assert records[-1].grad_norm == 0
    log_w = draws(q, 20_000, action, seeded(1)).log_weight
    w = torch.exp(log_w - exact.ising_log_z((8, 8), KC))
    error = w.std().item() / math.sqrt(len(w))
    assert error < 0.0015
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


def test_spins_in_a_field_are_learned():
    """log Z on 4×4 against the sum over all configurations."""
    action = Ising((4, 4), beta=0.4, field=0.05)
    q = made(action)
    for _ in trainer(q, action, steps=60):
        pass
    log_w = draws(q, 20_000, action, seeded(1)).log_weight
    w = torch.exp(log_w - action.known()["log_z"].value)
    error = w.std().item() / math.sqrt(len(w))
    assert error < 0.001
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


def test_a_training_goes_on_as_if_it_had_not_stopped():
    def pair():
        curriculum = Curriculum(((4, 4),), (7,))
        return (q := made(Ising((8, 8), KC))), trainer(q, Ising((8, 8), KC), steps=20, curriculum=curriculum)

    whole, training = pair()
    records = list(training)
    for stop in (6, 7, 15):
        first, begun = pair()
        for _ in range(stop):
            next(begun)
        weights = {name: value.clone() for name, value in first.state_dict().items()}
        kept = begun.state_dict()
        second, again = pair()
        second.load_state_dict(weights)
        again.load_state_dict(kept)
        assert [record.f_q for record in again] == [record.f_q for record in records[stop:]]
        for name, values in whole.state_dict().items():
            assert torch.equal(values, second.state_dict()[name])


def test_a_larger_lattice_begins_with_what_was_learned():
    action = Ising((32, 32), KC)
    q = made(action)
    smaller = q.on_lattice((16, 16))
    assert smaller.tables["Aa0"] is q.tables["Aa0"]
    assert smaller.recipe == (q.recipe or {}) | {"lattice": [16, 16]}
    small = Ising((16, 16), KC)
    before = draws(q, 500, action, seeded(1)).log_weight.mean()
    estimator = counting(chains=128)
    for _ in trainer(smaller, small, steps=13, estimator=estimator):
        pass
    q.inherit(smaller)
    assert draws(q, 500, action, seeded(1)).log_weight.mean() > before + 5
    kept = estimator.state_dict()["counts"][0]
    carried = q.carried(kept, (16, 16))
    assert carried.shape == (2, q.slots)
    mine = dict(zip(q.tables, q._parts(carried), strict=True))
    theirs = dict(zip(smaller.tables, smaller._parts(kept), strict=True))
    for name, source, weight in (
        ("Aa0", "Aa0", 1),
        ("top0", "top0", 1),
        ("eoa2", "eoa1", 1),
        ("eoa1", "eoa1", 0.1),  # a middle level that the smaller lattice does not have
    ):
        assert torch.equal(mine[name], weight * theirs[source])


@both
def test_a_density_comes_back_from_its_file(action, tmp_path):
    q = density(action, torch.float32)
    save_density(q, tmp_path / "q")
    again = load_density(tmp_path / "q", action=action)
    assert isinstance(again, CountedMultilevel)
    x, log_q = again.sample(3, seeded())
    assert torch.equal(log_q, q.log_prob(x))


def test_what_it_cannot_do_is_refused():
    q = made(ISING)
    with pytest.raises(ValueError, match="expected spins for tables, got LineWeight"):
        multilevel((4, 4), action=HoppingPhi4((4, 4), 0.5, 0.5), conditional="tables")
    with pytest.raises(
        ValueError, match="neither width nor nodes nor ranges nor compiled draws beside tables"
    ):
        multilevel((4, 4), action=ISING, conditional="tables", width=8)
    with pytest.raises(ValueError, match=r"draws single sites, .* soft_labels, got CountedMultilevel"):
        trainer(q, ISING, 1, estimator=soft_labels())
    with pytest.raises(ValueError, match=r"with parameters, .* got CountedMultilevel, which has none"):
        trainer(q, ISING, 1, estimator=reinforce)
    with pytest.raises(ValueError, match=r"made of counts, .* counting, got Multilevel"):
        trainer(multilevel((4, 4), action=ISING), ISING, 1)
    with pytest.raises(ValueError, match=r"growth > 1 .* growth=1.0"):
        Counting(growth=1.0)
    with pytest.raises(ValueError, match="expected a spins field on the lattice"):
        q.log_prob(torch.ones(2, 8, 8))


def test_a_density_is_made_anew_as_its_counts_grow():
    estimator, made_at = counting(first=2, growth=1.5), []
    for call in range(1, 20):
        estimator._since = call
        if estimator._due():
            made_at.append(call)
    assert np.all(np.diff(made_at) > 0)
    assert made_at == [2, 3, 4, 6, 9, 14]
