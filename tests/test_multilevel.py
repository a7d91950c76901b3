"""Multilevel densities: normalised, drawn as they say, exact where they claim it, and trained."""

import math
import statistics
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from cases import perturbed
from latflow import exact
from latflow.densities import build_density, draws, load_density, log_weight, save_density
from latflow.densities.multilevel import LineConditional, Multilevel, SpinConditional, multilevel
from latflow.densities.multilevel.geometry import beyond, classes, images
from latflow.errors import CheckpointError
from latflow.estimators import SoftLabels, reinforce_leave_one_out, soft_labels
from latflow.exact import spin_states
from latflow.fields import SCALAR
from latflow.lattice import checkerboard
from latflow.theories import Action, HoppingPhi4, Ising, LineWeight, NearestNeighbours, Phi4
from latflow.theories.potts import Potts
from latflow.training import Anneal, Curriculum, Trainer


@dataclass(frozen=True)
class Phi6(Action):
    """A theory that the library does not know, S = Σ [1.5 φ² + 0.2 φ⁶ − 0.6 Σ_μ φ φ(x+μ)]."""

    lattice: tuple[int, ...]
    kind = SCALAR

    def __call__(self, x):
        hops = sum(x * x.roll(1, axis) for axis in (1, 2))
        return (1.5 * x**2 + 0.2 * x**6 - 0.6 * hops).flatten(1).sum(1, dtype=torch.float64)

    def nearest_neighbours(self):
        return NearestNeighbours(self.lattice, LineWeight.of({2: 1.5, 6: 0.2}, neighbours=2.4), 0.6)


PHI4 = HoppingPhi4((8, 8), beta=0.576, lam=0.5)
FREE = Phi4((4, 8), m2=1.0, lam=0.0)
ISING = Ising((4, 4), beta=0.44)
IN_A_FIELD = Ising((4, 8), beta=0.3, field=0.1)
IN_SPACE = HoppingPhi4((4, 8, 4), beta=0.38, lam=0.5)
ACTIONS = [PHI4, FREE, ISING, IN_A_FIELD, HoppingPhi4((12, 8), beta=0.6, lam=0.3), Phi6((4, 8))]
ACTIONS += [IN_SPACE, Ising((4, 4, 8), beta=0.2, field=0.1)]
every_theory = pytest.mark.parametrize("action", ACTIONS, ids=lambda one: f"{one.words.name} {one.lattice}")


def seeded(seed=0):
    return Generator().manual_seed(seed)


def density(action, size=None, width=6):
    """One with weights far from the initial ones, float64; real numbers have a density that nodes resolve."""
    size = size or (0.3 if action.kind.states else 0.03)
    return perturbed(multilevel(action.lattice, action=action, width=width).double(), size)


def fields(action, n, seed=0):
    """Fields that are not far from those of the theory."""
    x = torch.randn(n, *action.lattice, generator=seeded(seed), dtype=torch.float64)
    return x.sign() if action.kind.states else 0.7 * action.nearest_neighbours().site.typical * x


def of_even_sites(q, x):
    """log q(even)."""
    odd = checkerboard(q.lattice, 1)
    return q.log_prob(x) - q.theory.site.log_prob(x, q.theory.fields(x))[:, odd].sum(1)


# --- normalisation --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [0.0, 0.15])
def test_probabilities_of_all_configurations_add_up_to_one(field):
    q, x = density(Ising((4, 4), beta=0.44, field=field)), spin_states((4, 4))
    with torch.no_grad():
        log_q = q.log_prob(x)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert of_even_sites(q, x[:64]).std() > 0.1
    assert bool(torch.equal(log_q, q.log_prob(-x))) == (field == 0)
    assert q.symmetries == (("z2",) if field == 0 else ())


def test_probabilities_of_the_even_sites_add_up_to_one_on_a_rectangle():
    q, even = density(IN_A_FIELD), checkerboard((4, 8), 0)
    x = torch.ones(2**16, 4, 8, dtype=torch.float64)
    x[:, even] = spin_states((16,))
    with torch.no_grad():
        total = of_even_sites(q, x).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("action", [PHI4, FREE, Phi4((4, 4), m2=-4.0, lam=8.0), IN_SPACE])
def test_densities_of_a_real_number_integrate_to_one(action):
    """Those of random coefficients, and the exact one in fields of neighbours, by a far finer grid."""
    conditional = LineConditional(action.nearest_neighbours())
    cut, generator = conditional.grid.cut, seeded(1)
    c = 0.07 * torch.randn(6, 40, generator=generator, dtype=torch.float64)
    free = 0.03 * torch.randn(8, generator=generator, dtype=torch.float64)
    neighbours = 2 * len(action.lattice)
    s = 1.5 * conditional.unit * torch.randn(neighbours, 40, generator=generator, dtype=torch.float64)
    fine = torch.linspace(-cut, cut, 4001, dtype=torch.float64)
    step = float(fine[1] - fine[0])
    for column in range(40):
        x = fine, *(part[:, column : column + 1].expand(-1, len(fine)) for part in (c, s))
        assert conditional.log_prob(x[0], x[1], free).exp().sum() * step == pytest.approx(1, abs=1e-4)
        assert conditional.log_prob_exactly(x[0], x[2]).exp().sum() * step == pytest.approx(1, abs=1e-6)


def test_the_mean_weight_is_the_partition_function_of_the_free_field():
    """⟨w⟩ = Z, of the closed form, by draws of a density with perturbed weights."""
    q = density(FREE, size=0.015).float()
    log_w = draws(q, 40_000, FREE, seeded(3)).log_weight
    w = torch.exp(log_w - FREE.known()["log_z"].value)
    error = w.std().item() / math.sqrt(len(w))
    assert w.mean().item() == pytest.approx(1, abs=4 * error)
    assert 0.001 < error < 0.04


# --- draws ----------------------------------------------------------------------------------------


@every_theory
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 30])
def test_draws_come_with_their_log_probability(action, dtype, n):
    q = density(action).to(dtype)
    x, log_q = q.sample(n, seeded(2))
    assert x.shape == (n, *action.lattice)
    assert (x.dtype, log_q.dtype) == (dtype, torch.float64)
    assert x.is_contiguous()
    assert not log_q.requires_grad
    action.kind.check_values(x)
    rounding = 1e-9 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=0, atol=rounding)
    again, _ = q.sample(n, seeded(2))
    assert torch.equal(again, x)


def test_spins_are_drawn_with_the_frequencies_that_the_density_says():
    """χ² over the 2⁸ configurations of the even sites."""
    q, even, n = density(ISING, size=0.3), checkerboard((4, 4), 0), 100_000
    states = torch.ones(256, 4, 4, dtype=torch.float64)
    states[:, even] = spin_states((8,))
    with torch.no_grad():
        p = of_even_sites(q, states).exp().numpy()
    x, _ = q.sample(n, seeded(1))
    numbers = ((1 - x[:, even]).long() // 2 * 2 ** torch.arange(7, -1, -1)).sum(1)
    counted = torch.bincount(numbers, minlength=256).numpy()
    large = n * p > 5
    expected, found = n * p[large], counted[large]
    rest = n - expected.sum(), n - found.sum()
    test = (
        stats.chisquare([*found, rest[1]], [*expected, rest[0]])
        if rest[0] > 5
        else stats.chisquare(found, expected * found.sum() / expected.sum())
    )
    assert test.pvalue > 1e-3


def test_real_numbers_are_drawn_from_their_densities():
    conditional, n = LineConditional(PHI4.nearest_neighbours()), 40_000
    c = torch.tensor([0.6, -0.3, 0.1, 0.4, -0.1, 0.05])[:, None].expand(-1, n)
    s = torch.tensor([1.0, -0.5, 2.0, 0.3])[:, None].expand(-1, n)
    free, fine = torch.full((8,), 0.02), torch.linspace(-3.19, 3.19, 8001, dtype=torch.float64)

    def kolmogorov(drawn, log_q):
        p = torch.exp(log_q).numpy()
        cumulative = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2)])
        return stats.kstest(drawn.numpy(), lambda x: np.interp(x, fine, cumulative / cumulative[-1])).pvalue

    x, log_q = conditional.draw(c, free, seeded(1))
    wide = c[:, :1].expand(-1, len(fine)).double(), free.double()
    assert kolmogorov(x.double(), conditional.log_prob(fine, *wide)) > 1e-3
    torch.testing.assert_close(log_q, conditional.log_prob(x, c, free), atol=1e-5, rtol=0)
    x, log_q = conditional.draw_exactly(s, seeded(2))
    assert (
        kolmogorov(x.double(), conditional.log_prob_exactly(fine, s[:, :1].expand(-1, 8001).double())) > 1e-3
    )
    torch.testing.assert_close(log_q, conditional.log_prob_exactly(x, s), atol=1e-5, rtol=0)


def test_a_density_between_the_nodes_is_that_at_the_nodes():
    conditional = LineConditional(PHI4.nearest_neighbours())
    x, generator = conditional.grid.x, seeded(1)
    c = torch.randn(6, len(x), generator=generator, dtype=torch.float64)
    free = torch.randn(8, generator=generator, dtype=torch.float64)
    at_nodes = conditional._at_nodes(c, free).diagonal()
    torch.testing.assert_close(conditional._at(x, c, free), at_nodes, rtol=0, atol=1e-10)


# --- what is exact --------------------------------------------------------------------------------


@every_theory
def test_the_weight_is_one_of_the_even_sites(action):
    """−S − log q does not depend on the odd sites."""
    q, x = density(action), fields(action, 4)
    y = q.theory.redrawn(x, 1, seeded(5))
    odd = checkerboard(action.lattice, 1)
    assert not torch.equal(x[:, odd], y[:, odd])
    one, other = log_weight(action, x, q.log_prob(x)), log_weight(action, y, q.log_prob(y))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    expected = -q.theory.effective_action(x) - of_even_sites(q, x)
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)


@every_theory
def test_the_conditional_of_a_site_is_that_of_the_effective_action(action):
    """log p(x_n | s) changes with x_n as −S_eff does, for sites of every class."""
    q, x = density(action), fields(action, 1)
    for one in q.classes:
        site = one.sites[:1]
        s = x.flatten(1)[0][beyond(site, action.lattice)].sum(1)
        y = x.clone().flatten(1)
        y[:, site] = -x.flatten(1)[:, site] * (1 if action.kind.states else 0.7)
        changed = q.theory.effective_action(y.view_as(x)) - q.theory.effective_action(x)
        before = q.conditional.log_prob_exactly(x.flatten(1)[0, site], s)
        after = q.conditional.log_prob_exactly(y[0, site], s)
        torch.testing.assert_close(after - before, -changed, rtol=0, atol=2e-7)


@pytest.mark.parametrize("action", [PHI4, FREE, ISING, IN_SPACE])
def test_the_symmetry_is_exact(action):
    q, x = density(action).float(), fields(action, 20).float()
    assert torch.equal(q.log_prob(x), q.log_prob(-x)) or torch.allclose(
        q.log_prob(x), q.log_prob(-x), atol=1e-5
    )
    for one in q.classes[:-1]:
        network = q.networks[one.name]
        window = torch.randn(len(one.window), 50, generator=seeded(), dtype=torch.float32)
        there, back = network(window), network(-window)
        assert torch.equal(there[: network.odd], -back[: network.odd])
        assert torch.equal(there[network.odd :], back[network.odd :])


def test_soft_labels_are_a_mean_over_the_exact_conditional():
    """Each spin in turn: −Σ_s p(s | others) log q(s | window), over all sites but those of the last class.

    Of the window as it is, and in the mean over all images where there are columns for them.
    """
    q, x = density(ISING), fields(ISING, 3)
    rows, expected = q._rows(x), 0.0
    for one in q.classes[:-1]:
        s, every = q._beyond(one, rows), images(one, q.lattice)
        for turned in every:
            c, free = q._coefficients(one, rows, None, turned[None])
            for value in (torch.ones_like(s[0]), -torch.ones_like(s[0])):
                p = q.conditional.log_prob_exactly(value, s).exp()
                each = -(p * q.conditional.log_prob(value, c, free)).view(-1, 3).sum(0).mean().item()
                expected += each / len(every)
    assert q.cross_entropy(x, 10_000, seeded()).item() == pytest.approx(expected, abs=1e-10)
    # two images out of eight, drawn at random
    found = [q.cross_entropy(x, 2 * len(x), seeded(seed)).item() for seed in range(20)]
    assert statistics.stdev(found) > 1e-6
    assert abs(statistics.mean(found) - expected) < 5 * statistics.stdev(found) / math.sqrt(20)


def test_soft_labels_of_real_numbers_are_a_mean_over_the_exact_conditional():
    q, n = LineConditional(PHI4.nearest_neighbours()), 20_000
    s = torch.tensor([0.5, -0.2, 1.0, 0.7], dtype=torch.float64)[:, None].expand(-1, n)
    c = torch.full((6, n), 0.1, dtype=torch.float64)
    free = torch.zeros(8, dtype=torch.float64)
    x, _ = q.draw_exactly(s, seeded(4))
    log_q = q.log_prob(x, c, free)
    found = q.cross_entropy(q.labels(s[:, :1]), c[:, :1], free).item()
    assert found == pytest.approx(-log_q.mean().item(), abs=4 * log_q.std().item() / math.sqrt(n))


# --- other lattices, files ------------------------------------------------------------------------


def test_a_larger_lattice_begins_with_what_was_learned():
    q = density(PHI4)
    larger = q.on_lattice((32, 32))
    assert [one.level for one in larger.classes if one.role == "Ba"] == [3, 2, 1]
    shared = {"top0": "top0", "Aa0": "Aa0", "Aa3": "Aa1", "oea4": "oea2", "oeb3": "oeb1"}
    assert all(larger.networks[name] is q.networks[source] for name, source in shared.items())
    copies = {"Aa1": "Aa1", "oea1": "oea1", "eob2": "eob1"}
    for name, source in copies.items():
        assert larger.networks[name] is not q.networks[source]
        assert torch.equal(larger.networks[name].gate, q.networks[source].gate)
    assert larger.recipe == q.recipe | {"lattice": [32, 32]}
    x, log_q = larger.sample(2, seeded())
    torch.testing.assert_close(log_q, larger.log_prob(x).detach(), rtol=0, atol=1e-8)


def test_what_is_learned_on_a_smaller_lattice_is_handed_over():
    q = density(HoppingPhi4((32, 32), beta=0.6, lam=0.5))
    smaller = q.on_lattice((8, 8))
    assert {
        name: next(key for key in q.networks if q.networks[key] is smaller.networks[name])
        for name in ("Aa0", "oea1", "oea2")
    } == {"Aa0": "Aa0", "oea1": "oea3", "oea2": "oea4"}
    before = q.networks["oea3"].gate.clone()
    with torch.no_grad():
        smaller.networks["oea1"].gate += 1
    q.inherit(smaller)
    assert torch.equal(q.networks["oea3"].gate, before + 1)
    assert torch.equal(q.networks["oea2"].gate, before + 1)
    assert torch.equal(q.networks["oea1"].gate, before + 1)
    assert torch.equal(q.networks["Ab1"].gate, q.networks["Ab2"].gate) or "Ab1" not in smaller.networks


def test_a_density_comes_back_from_its_file(tmp_path):
    q = density(PHI4, width=5).float()
    save_density(q, tmp_path / "q")
    again = load_density(tmp_path / "q", action=PHI4)
    assert isinstance(again, Multilevel)
    x, log_q = again.sample(3, seeded())
    torch.testing.assert_close(log_q, q.log_prob(x).detach())
    with pytest.raises(CheckpointError, match="cannot be built here"):
        load_density(tmp_path / "q", action=ISING)
    built = build_density({"type": "multilevel", "width": 4}, lattice=(4, 8), action=FREE, kind=FREE.kind)
    assert built.recipe["width"] == 4


def test_tables_made_in_inference_mode_serve_gradients():
    with torch.inference_mode():
        q = density(PHI4)
        x, _ = q.sample(2, seeded())
    again = density(PHI4)
    with torch.inference_mode():
        again.sample(2, seeded())
    again.log_prob(x.clone()).sum().backward()
    assert again.networks["Ba1"].gate.grad is not None
    assert q.lattice == (8, 8)


def test_what_it_cannot_be_made_of_is_refused():
    with pytest.raises(ValueError, match=r"expected even sides of at least 4 .* got \(6, 5\)"):
        multilevel((6, 5), action=HoppingPhi4((6, 5), 0.5, 0.5))
    glass = Potts((4, 4), 3, beta=1.0, couplings=np.ones((2, 4, 4)).tolist())
    with pytest.raises(ValueError, match=r"coupled to nearest neighbours.*got Potts model on \(4, 4\)"):
        multilevel((4, 4), action=glass)
    with pytest.raises(ValueError, match=r"on \(8, 8\).* got Ising model on \(4, 4\)"):
        multilevel((8, 8), action=ISING)
    with pytest.raises(ValueError, match="expected a positive width, got 0"):
        multilevel((4, 4), action=ISING, width=0)
    with pytest.raises(ValueError, match="expected a spins field on the lattice"):
        density(ISING).log_prob(torch.ones(2, 8, 8))
    assert isinstance(density(ISING).conditional, SpinConditional)


# --- training -------------------------------------------------------------------------------------


def trainer(q, action, steps=40, **options):
    given = {"batch": 64, "learning_rate": 0.01, "generator": seeded(7), "steps": steps} | options
    return Trainer(q, action, given.pop("estimator", None) or soft_labels(chains=128), **given)


def test_spins_are_learned_from_nothing_and_weighted_without_bias():
    """log Z on 8² at criticality against Kaufman's solution, from the mean weight."""
    action = Ising((8, 8), beta=0.44068679)
    q = multilevel((8, 8), action=action, width=16)
    for _ in trainer(q, action, steps=150, batch=128):
        pass
    log_w = draws(q, 8000, action, seeded(1)).log_weight
    w = torch.exp(log_w - exact.ising_log_z((8, 8), 0.44068679))
    error = w.std().item() / math.sqrt(len(w))
    assert error < 0.004
    assert w.mean().item() == pytest.approx(1, abs=4 * error)


@pytest.mark.slow
def test_real_numbers_are_learned_from_nothing():
    q = multilevel((8, 8), action=PHI4, width=8)
    before = draws(q, 500, PHI4, seeded(1)).log_weight
    for _ in trainer(q, PHI4, steps=60):
        pass
    after = draws(q, 500, PHI4, seeded(1)).log_weight
    assert after.mean() > before.mean() + 0.5
    assert after.std() < 0.5 < before.std()


def test_a_training_goes_on_as_if_it_had_not_stopped():
    def pair():
        return (q := perturbed(multilevel((4, 4), action=ISING, width=4))), trainer(q, ISING, steps=8)

    whole, training = pair()
    records = list(training)
    first, begun = pair()
    for _ in range(3):
        next(begun)
    weights = {name: value.clone() for name, value in first.state_dict().items()}
    kept = begun.state_dict()
    second, again = pair()
    second.load_state_dict(weights)
    again.load_state_dict(kept)
    assert [record.f_q for record in again] == [record.f_q for record in records[3:]]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


@pytest.mark.slow
def test_a_curriculum_hands_over_what_larger_lattices_have_in_addition():
    action = HoppingPhi4((16, 16), beta=0.62, lam=0.5)
    q = multilevel((16, 16), action=action, width=8)
    training = trainer(q, action, steps=42, curriculum=Curriculum(((8, 8),), (40,)))
    for _ in range(40):
        next(training)
    assert not torch.equal(q.networks["oea1"].gate, q.networks["oea2"].gate)
    taught = q.networks["oea2"].gate.clone()
    record = next(training)
    assert (q.networks["oea1"].gate - taught).abs().max() < 0.05
    assert record.ess > 0.02


@pytest.mark.parametrize("action", [PHI4, ISING])
def test_low_precision_lowers_the_networks_alone(action):
    full = next(trainer(density(action, width=8).float(), action, steps=1))
    q = density(action, width=8).float()
    low = next(trainer(q, action, steps=1, precision="bfloat16"))
    assert {p.dtype for p in q.parameters()} == {torch.float32}
    assert low.loss == pytest.approx(full.loss, rel=0.01)
    assert low.loss != full.loss


def test_other_estimators_train_it_too():
    q = perturbed(multilevel((4, 4), action=ISING, width=4))
    record = next(trainer(q, ISING, steps=1, estimator=reinforce_leave_one_out))
    assert record.grad_norm > 0


def test_soft_labels_say_what_they_need():
    q = multilevel((4, 4), action=ISING, width=4)
    with pytest.raises(ValueError, match=r"proposals=0.0.*chains=512"):
        SoftLabels(proposals=0.0)
    with pytest.raises(ValueError, match="such as multilevel, for the estimator soft_labels, got Linear"):
        SoftLabels().check(torch.nn.Linear(1, 1), ISING)
    with pytest.raises(ValueError, match="expected the theory for which the density was built"):
        trainer(q, Ising((4, 4), beta=0.3))
    estimator = soft_labels(chains=8)
    estimator(q, ISING, 16, seeded())
    with pytest.raises(ValueError, match="move at most all 16 chains, got 64"):
        estimator(q, ISING, 64, seeded())
    with pytest.raises(ValueError, match="it cannot be annealed either"):
        trainer(q, ISING, anneal=Anneal(steps=10, start=0.5))


def test_the_population_has_the_energy_of_the_theory():
    """Moves of a fixed, bad density and the heat bath keep p: ⟨S⟩ against Kaufman's solution."""
    action = Ising((4, 4), beta=0.4)
    q, estimator = density(action, size=0.1).float(), soft_labels(chains=1000, proposals=0.5, columns=16)
    generator, energies = seeded(3), []
    for step in range(120):
        estimator(q, action, 1000, generator)
        if step >= 40:
            energies.append(action(estimator.state_dict()["4x4"]).mean().item())
    expected = action.known()["action_density"].value * 16
    assert np.mean(energies) == pytest.approx(expected, abs=0.12)


@pytest.mark.slow
def test_every_chain_is_proposed_to():
    """In the ordered phase proposals alone change the sign of M: half of all chains must end with each."""
    action = Ising((4, 4), beta=0.8)
    q, generator = multilevel((4, 4), action=action, width=8), seeded(3)
    for _ in trainer(q, action, steps=80):
        pass
    estimator = soft_labels(chains=64, columns=16)
    estimator.load_state_dict({"calls": torch.zeros(1), "4x4": torch.ones(64, 4, 4)})
    for _ in range(200):
        estimator(q, action, 16, generator)
    turned = estimator.state_dict()["4x4"].mean((1, 2)) < 0
    assert 0.25 < turned.float().mean().item() < 0.75


def test_classes_cover_what_networks_there_are():
    q = multilevel((16, 16), action=HoppingPhi4((16, 16), 0.6, 0.5), width=4)
    assert set(q.networks) == {one.name for one in classes((16, 16))[:-1]}


@pytest.mark.parametrize("action", [Ising((8, 8), 0.44), HoppingPhi4((8, 4), 0.58, 0.5)])
def test_no_draws(action):
    density = multilevel(action.lattice, action=action)
    x, log_q = density.sample(0, Generator().manual_seed(1))
    assert (x.shape, log_q.shape, density.log_prob(x).shape) == ((0, *action.lattice), (0,), (0,))
