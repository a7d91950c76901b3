"""Spin glasses: couplings drawn at random, exact results row by row, and the multilevel density of bonds."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Generator

from latflow.config import parse_config
from latflow.config.scanning import scan_of
from latflow.densities import load_density, save_density
from latflow.densities.base import draws
from latflow.errors import ConfigError
from latflow.estimators import soft_labels
from latflow.lattice import checkerboard
from latflow.multilevel import BondedMultilevel, multilevel
from latflow.theories import Ising, RandomCouplings
from latflow.theories.ising import exact
from latflow.theories.potts import Potts
from latflow.training import Trainer

GLASS = RandomCouplings("normal", seed=3)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def glass(lattice=(4, 4), beta=0.7, field=0.0):
    return Ising(lattice, beta, field, couplings=GLASS)


def density(action, size=0.4, width=3):
    """One with weights far from the initial ones, float64."""
    q = multilevel(action.lattice, action=action, width=width).double()
    generator = seeded(1)
    with torch.no_grad():
        for weights in q.parameters():
            weights += size * torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
    return q


# --- the theory -----------------------------------------------------------------------------------


def test_random_couplings_are_those_of_their_seed():
    drawn = np.array(glass().couplings)
    # the first two numbers of the generator at this seed, as it has always given them
    assert drawn.flatten()[:2] == pytest.approx([1.78862847, 0.43650985])
    signs = Ising((4, 4), 1.0, couplings=RandomCouplings("signs", 3))
    assert np.array_equal(np.sign(drawn), signs.couplings)
    assert glass() != Ising((4, 4), 0.7, couplings=RandomCouplings("normal", 4))
    assert np.shape(Potts((4, 2), 3, 0.5, couplings=GLASS).couplings) == (2, 4, 2)


@pytest.mark.parametrize("seed", [-1, 2**32, True])
def test_random_couplings_say_what_they_need(seed):
    with pytest.raises(ValueError, match=f"a seed, a whole number from 0 to 2³² − 1, got {seed}"):
        RandomCouplings("signs", seed)


def test_a_configuration_draws_couplings_and_scans_them():
    table = {"type": "ising", "lattice": [4, 4], "beta": 0.7}
    random = {"distribution": "normal", "seed": 3}
    assert parse_config({"name": "x", "action": table | {"couplings": random}}).action.build() == glass()
    given = np.array(glass().couplings).tolist()
    assert parse_config({"name": "x", "action": table | {"couplings": given}}).action.build() == glass()
    scan = scan_of({"name": "x", "action": table | {"couplings": random | {"seed": [3, 4]}}})
    assert [point.values for point in scan.points] == [{"action.couplings.seed": seed} for seed in (3, 4)]
    assert scan_of({"name": "x", "action": table | {"couplings": given}}) is None
    with pytest.raises(ConfigError, match=r"action.couplings.*seed"):
        parse_config({"name": "x", "action": table | {"couplings": random | {"seed": -3}}})


NARROW = [((4, 4), 0.2), ((3, 5), 0.1), ((5, 3), 0.0), ((2, 7), -0.3), ((8,), 0.2), ((2, 2), 0.1)]


@pytest.mark.parametrize(("lattice", "field"), NARROW)
def test_rows_are_the_sum_over_all_configurations(lattice, field):
    model = Ising(lattice, 0.8, field, couplings=GLASS)
    summed = exact.spins_enumerated(model)
    assert exact.ising_by_rows(model) == pytest.approx(summed[:3], abs=1e-11)


def test_rows_of_equal_couplings_are_kaufmans():
    model = Ising((6, 8), 0.44068679)
    found = exact.ising_by_rows(model)
    assert found.log_z == pytest.approx(exact.ising_log_z((6, 8), 0.44068679), abs=1e-10)
    assert found.action == pytest.approx(48 * 0.44068679 * exact.ising_energy((6, 8), 0.44068679), abs=1e-9)
    with pytest.raises(ValueError, match="the shorter at most 8"):
        exact.ising_by_rows(Ising((9, 9), 0.4))


def test_frustration_is_found_on_every_plaquette():
    """Changed signs of all bonds of one site frustrate nothing; of one bond alone, the two beside it."""
    couplings = np.ones((2, 4, 6))
    couplings[0, 1, 2] = couplings[0, 0, 2] = couplings[1, 1, 2] = couplings[1, 1, 1] = -1
    model = Ising((4, 6), 1.0, couplings=couplings)
    assert not model.frustrated
    assert model.established == ("wolff",)
    for mu, y, x in itertools.product(range(2), (0, 3), (0, 5)):
        changed = couplings.copy()
        changed[mu, y, x] *= -1
        model = Ising((4, 6), 1.0, couplings=changed)
        assert model.frustrated
        assert model.established == ("heat_bath",)
    odd = np.ones((2, 3, 4))
    odd[0, 0, 0] = -1
    assert Ising((3, 4), 1.0, couplings=odd).established == ("wolff",)  # a checkerboard needs even sides


def test_a_multiple_has_multiples_of_all_bonds():
    action = glass(field=0.1)
    assert (2.0 * action).coupled_sites() == glass(beta=1.4, field=0.2).coupled_sites()
    assert action.nearest_neighbours() is None


# --- the density ----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [0.0, 0.15])
def test_probabilities_add_up_to_one_and_weights_to_z(field):
    """Σ q = 1; the weights are those of the even sites alone, so that they do not see the odd ones."""
    action = glass(field=field)
    q, x = density(action), exact.spin_states((4, 4))
    with torch.no_grad():
        log_q = q.log_prob(x)
    log_w = -action(x) - log_q
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.logsumexp(log_w + log_q, 0).item() == pytest.approx(action.known()["log_z"].value, abs=1e-11)
    assert log_w.std() > 0.3
    redrawn = action.coupled_sites().redrawn(x, 1, seeded(2))
    with torch.no_grad():
        torch.testing.assert_close(-action(redrawn) - q.log_prob(redrawn), log_w, rtol=0, atol=1e-11)
    assert bool(torch.equal(log_q, q.log_prob(-x))) == (field == 0)
    assert q.symmetries == (("z2",) if field == 0 else ())


@pytest.mark.parametrize("lattice", [(4, 8), (8, 4), (4, 4, 4)])
def test_the_last_classes_are_exact(lattice):
    """A change of one of their sites changes log q by what it changes −S, with the odd sites redrawn."""
    action = Ising(lattice, 0.7, 0.1, couplings=GLASS)
    q, x = density(action), torch.ones(5, *lattice, dtype=torch.float64)
    x = torch.where(torch.rand(x.shape, generator=seeded(4), dtype=torch.float64) < 0.5, x, -x)
    sites = action.coupled_sites()
    last = q.classes[-1].sites
    even = checkerboard(lattice, 0).flatten()
    assert bool(even[last].all())
    for site in last[:6].tolist():
        y = x.clone()
        y.view(5, -1)[:, site] *= -1

        def even_log_q(z):
            odd = sites.site.log_prob(z, sites.fields(z))[:, ~even.view(lattice)].sum(1)
            return q.log_prob(z) - odd

        with torch.no_grad():
            change = even_log_q(y) - even_log_q(x)
        torch.testing.assert_close(
            change, sites.effective_action(x) - sites.effective_action(y), rtol=0, atol=1e-11
        )


@pytest.mark.parametrize("n", [0, 1, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_come_with_their_log_probability(dtype, n):
    q = density(glass((8, 4), field=0.1)).to(dtype)
    x, log_q = q.sample(n, seeded(5))
    assert (x.shape, x.dtype, log_q.dtype) == ((n, 8, 4), dtype, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            q.log_prob(x), log_q, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-11
        )


def test_draws_have_the_frequencies_that_the_density_says():
    """χ² of 40 000 draws over the 256 patterns of the even sites of 4², at five of its widths √(2·255)."""
    action, n = glass(), 40_000
    q = density(action, size=0.2)
    even = checkerboard((4, 4), 0)
    patterns = torch.ones(256, 4, 4, dtype=torch.float64)
    patterns[:, even] = exact.spin_states((8,))
    with torch.no_grad():
        sites = action.coupled_sites()
        odd = sites.site.log_prob(patterns, sites.fields(patterns))[:, ~even].sum(1)
        expected = n * torch.exp(q.log_prob(patterns) - odd)
    x, _ = q.sample(n, seeded(6))
    number = ((x[:, even] < 0) * 2 ** torch.arange(7, -1, -1)).sum(1)
    found = torch.bincount(number, minlength=256).double()
    many = expected > 4
    rest = (found[~many].sum() - expected[~many].sum()) ** 2 / expected[~many].sum().clamp(min=1)
    chi_squared = ((found - expected)[many] ** 2 / expected[many]).sum() + rest
    degrees = int(many.sum())
    assert abs(chi_squared.item() - degrees) < 5 * math.sqrt(2 * degrees)


def test_soft_labels_are_a_mean_over_the_exact_conditional():
    """The same by the effective action: p(s_n | all other even sites), site by site, without any table."""
    action = glass(field=0.1)
    q, sites = density(action), action.coupled_sites()
    x, _ = q.sample(3, seeded(7))
    expected = 0.0
    for one in q.classes[:-1]:
        for column, site in enumerate(one.sites.tolist()):
            both = torch.stack([x, x])
            both.view(2, 3, -1)[0, :, site], both.view(2, 3, -1)[1, :, site] = 1.0, -1.0
            p = torch.softmax(-sites.effective_action(both.flatten(0, 1)).view(2, 3), 0)
            rows = torch.cat((x.flatten(1).T, torch.zeros(1, 3, dtype=x.dtype)))
            window = rows[one.window].transpose(0, 1)
            with torch.no_grad():
                c = q.networks[one.name](window)[column]
            log_q = torch.nn.functional.logsigmoid(torch.stack([2 * c, -2 * c]))
            expected -= (p * log_q).sum(0).mean().item()
    found = q.cross_entropy(x, 10_000, seeded(8))
    assert found.item() == pytest.approx(expected, abs=1e-11)
    found.backward()
    assert all(bool(weights.grad.abs().sum() > 0) for weights in q.parameters() if weights.numel())


def test_a_glass_is_learned_from_nothing_and_weighted_without_bias():
    """log Z of 8² from the mean weight against the transfer matrices, within five errors."""
    action = Ising((8, 8), 1.0, couplings=GLASS)
    q = multilevel((8, 8), action=action, width=8)
    estimator = soft_labels(chains=512, columns=8192)
    for _ in Trainer(q, action, estimator, steps=150, batch=128, learning_rate=0.02, generator=seeded(7)):
        pass
    w = torch.exp(draws(q, 20_000, action, seeded(1)).log_weight - exact.ising_by_rows(action).log_z)
    ess = (w.sum() ** 2 / (w**2).sum() / len(w)).item()
    assert ess > 0.7
    assert w.mean().item() == pytest.approx(1, abs=5 * math.sqrt((1 / ess - 1) / len(w)))


def test_it_comes_back_from_its_file(tmp_path):
    action = glass()
    q = density(action, width=5).float()
    save_density(q, tmp_path / "model")
    again = load_density(tmp_path / "model", action=action)
    assert isinstance(again, BondedMultilevel)
    x = exact.spin_states((4, 4))[::999]
    with torch.no_grad():
        assert torch.equal(again.log_prob(x), q.log_prob(x))


def test_what_it_cannot_be_made_of_is_refused():
    for wrong in ({"conditional": "tables"}, {"nodes": 9}, {"ranges": {"beta": [0.5, 0.9]}}):
        with pytest.raises(
            ValueError,
            match="expected neither tables nor nodes nor ranges nor compiled draws where",
        ):
            multilevel((4, 4), action=glass(), **wrong)
    with pytest.raises(ValueError, match=r"expected a theory on .* got Potts model"):
        multilevel((4, 4), action=Potts((4, 4), 3, 0.5, couplings=GLASS))
    with pytest.raises(ValueError, match="expected a positive width, got 0"):
        multilevel((4, 4), action=glass(), width=0)
