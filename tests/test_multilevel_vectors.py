"""Multilevel densities of states and angles: normalised, drawn as they say, exact, symmetric, and trained."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from cases import perturbed
from latflow.config import load_config
from latflow.densities import draws, load_density, log_weight, save_density
from latflow.densities.multilevel import AngleConditional, StateConditional, multilevel
from latflow.densities.multilevel.geometry import beyond
from latflow.errors import CheckpointError
from latflow.estimators import soft_labels, soft_labels_in_ranges
from latflow.lattice import checkerboard
from latflow.runs import Run
from latflow.theories import XY, Ising, Potts
from latflow.theories.potts.enumeration import potts_states
from latflow.training import Schedule, Trainer
from latflow.validation import validate
from small_runs import SMALL_CHAINS, assert_same, outcome

POTTS = Potts((4, 4), q=3, beta=0.9)
IN_FIELDS = Potts((4, 8), q=4, beta=-0.5, field=(0.3, 0.0, 0.0, -0.4))
ANGLES = XY((4, 4), beta=0.9)
IN_A_FIELD = XY((8, 4), beta=-0.7, field=0.4)
IN_SPACE = [Potts((4, 4, 4), q=3, beta=0.5), XY((4, 4, 4), beta=0.4)]
WIDE = [Potts((12, 8), q=3, beta=1.0), XY((12, 8), beta=1.0)]
ACTIONS = [POTTS, IN_FIELDS, ANGLES, IN_A_FIELD, *WIDE, *IN_SPACE]
every_theory = pytest.mark.parametrize("action", ACTIONS, ids=lambda one: f"{one.words.name} {one.lattice}")


def seeded(seed=0):
    return Generator().manual_seed(seed)


def density(action, size=None, width=6, **options):
    """One with weights far from the initial ones, float64."""
    made = multilevel(action.lattice, action=action, width=width, **options).double()
    return perturbed(made, size or (0.3 if action.kind.states else 0.1))


def fields(action, n, seed=0):
    return action.kind.start(action.lattice, n, seeded(seed), torch.float64)


def of_even_sites(q, x):
    """log q(even)."""
    odd = checkerboard(q.lattice, 1)
    return q.log_prob(x) - q.theory.site.log_prob(x, q.theory.fields(x))[:, odd].sum(1)


# --- normalisation and draws ----------------------------------------------------------------------


@pytest.mark.parametrize("field", [0.0, 0.4])
def test_probabilities_of_all_states_of_the_even_sites_add_up_to_one(field):
    q = density(Potts((4, 4), q=3, beta=0.9, field=field))
    x = torch.zeros(3**8, 4, 4, dtype=torch.int64)
    x[:, checkerboard((4, 4), 0)] = potts_states((8,), 3)
    with torch.no_grad():
        log_q = of_even_sites(q, x)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_q.std() > 0.1


def test_states_are_drawn_with_the_frequencies_that_the_density_says():
    """χ² over the 3⁸ configurations of the even sites, those that are rare taken together."""
    q, even, n = density(POTTS, size=0.2), checkerboard((4, 4), 0), 200_000
    states = torch.zeros(3**8, 4, 4, dtype=torch.int64)
    states[:, even] = potts_states((8,), 3)
    with torch.no_grad():
        p = of_even_sites(q, states).exp().numpy()
    x, _ = q.sample(n, seeded(1))
    order = states[:, even] @ 3 ** torch.arange(8)
    numbers = torch.empty(3**8, dtype=torch.int64).scatter_(0, order, torch.arange(3**8))
    found = torch.bincount(numbers[x[:, even] @ 3 ** torch.arange(8)], minlength=3**8).numpy()
    often = n * p > 10
    counted = [*found[often], n - found[often].sum()]
    expected = [*(n * p[often]), n - n * p[often].sum()]
    assert often.sum() > 500
    assert stats.chisquare(counted, expected).pvalue > 1e-3


@pytest.mark.parametrize("action", [ANGLES, IN_A_FIELD, XY((4, 4), beta=2.0)])
def test_densities_of_an_angle_integrate_to_one(action):
    """Those of random coefficients, and the exact one in fields of neighbours, by a far finer grid."""
    conditional, generator, none = AngleConditional(action.nearest_neighbours()), seeded(1), torch.empty(0)
    c = 0.2 * torch.randn(12, 40, generator=generator, dtype=torch.float64)
    turns = 2 * math.pi * torch.rand(3, 4, 40, generator=generator, dtype=torch.float64)
    s = torch.stack((turns.cos(), turns.sin()), 2).sum(0)
    fine = 2 * math.pi * (torch.arange(2000, dtype=torch.float64) / 2000 - 0.5)
    for column in range(40):
        here, there = (part[..., column : column + 1].expand(*part.shape[:-1], len(fine)) for part in (c, s))
        for log_q, precision in (
            (conditional.log_prob(fine, here, none), 1e-6),
            (conditional.log_prob_exactly(fine, there), 1e-9),
        ):
            assert log_q.exp().mean() * 2 * math.pi == pytest.approx(1, abs=precision)


def test_angles_are_drawn_from_their_densities():
    conditional, n, none = AngleConditional(ANGLES.nearest_neighbours()), 40_000, torch.empty(0)
    c = torch.tensor([-1.6, 0.5, 0.2, 0.1, 0.0, 0.1, 0.4, 0.3, 0.0, -0.2, 0.1, 0.1])[:, None].expand(-1, n)
    s = torch.tensor([[1.0, 0.3], [-0.5, 1.0], [-2.0, 0.1], [-2.9, -0.6]])[..., None].expand(-1, -1, n)
    fine = torch.linspace(-math.pi, math.pi, 8001, dtype=torch.float64)

    def kolmogorov(drawn, log_q):
        p = torch.exp(log_q).numpy()
        cumulative = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2)])
        return stats.kstest(drawn.numpy(), lambda x: np.interp(x, fine, cumulative / cumulative[-1])).pvalue

    x, log_q = conditional.draw(c, none, seeded(1))
    assert kolmogorov(x.double(), conditional.log_prob(fine, c[:, :1].expand(-1, 8001).double(), none)) > 1e-3
    torch.testing.assert_close(log_q, conditional.log_prob(x, c, none), atol=1e-5, rtol=0)
    x, log_q = conditional.draw_exactly(s, seeded(2))
    exactly = conditional.log_prob_exactly(fine, s[..., :1].expand(-1, -1, 8001).double())
    assert kolmogorov(x.double(), exactly) > 1e-3
    torch.testing.assert_close(log_q, conditional.log_prob_exactly(x, s), atol=1e-5, rtol=0)


@pytest.mark.parametrize("action", [POTTS, Potts((4, 4), q=4, beta=-0.5, field=0.4), ANGLES])
def test_the_mean_weight_is_the_partition_function(action):
    """⟨w⟩ = Z, known exactly, by draws of a density with perturbed weights."""
    q = density(action, size=0.05).float()
    log_w = draws(q, 40_000, action, seeded(3)).log_weight
    w = torch.exp(log_w - action.known()["log_z"].value)
    error = w.std().item() / math.sqrt(len(w))
    assert w.mean().item() == pytest.approx(1, abs=5 * error)
    assert 0.001 < error < 0.05


@every_theory
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 30])
def test_draws_come_with_their_log_probability(action, dtype, n):
    q = density(action).to(dtype)
    x, log_q = q.sample(n, seeded(2))
    assert x.shape == (n, *action.lattice)
    assert (x.dtype, log_q.dtype) == (torch.int64 if action.kind.states else dtype, torch.float64)
    assert x.is_contiguous()
    action.kind.check_values(x)
    rounding = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=0, atol=rounding)
    assert torch.equal(q.sample(n, seeded(2))[0], x)


# --- what is exact --------------------------------------------------------------------------------


@every_theory
def test_the_weight_is_one_of_the_even_sites(action):
    """−S − log q does not depend on the odd sites."""
    q, x = density(action), fields(action, 4)
    y = q.theory.redrawn(x, 1, seeded(5))
    assert not torch.equal(x, y)
    one, other = log_weight(action, x, q.log_prob(x)), log_weight(action, y, q.log_prob(y))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    torch.testing.assert_close(one, -q.theory.effective_action(x) - of_even_sites(q, x), rtol=0, atol=1e-9)


@every_theory
def test_the_conditional_of_a_site_is_that_of_the_effective_action(action):
    """log p(x_n | s) changes with x_n as −S_eff does, for sites of every class."""
    q, x = density(action), fields(action, 1)
    for one in q.classes:
        site, flat = one.sites[:1], x.flatten(1)
        others = q.theory.site.vector(flat[0][beyond(site, action.lattice)])
        s = others.sum(2).movedim(0, 1)
        y = flat.clone()
        y[:, site] = (flat[:, site] + 1) % action.kind.states if action.kind.states else 1.3
        changed = q.theory.effective_action(y.view_as(x)) - q.theory.effective_action(x)
        before = q.conditional.log_prob_exactly(flat[0, site], s)
        after = q.conditional.log_prob_exactly(y[0, site], s)
        torch.testing.assert_close(after - before, -changed, rtol=0, atol=1e-7)


def test_two_states_have_the_conditionals_of_spins():
    states = StateConditional(Potts((4, 4), q=2, beta=0.9, field=0.3).nearest_neighbours())
    spins = multilevel((4, 4), action=Ising((4, 4), beta=0.45, field=0.15)).conditional
    s = torch.randint(0, 4, (4, 50), generator=seeded()).double()
    log_odds = states.log_probabilities(torch.stack((s, 3 - s), 1))
    expected = 2 * spins.half_log_odds(2 * s - 3)[0]
    torch.testing.assert_close(log_odds[0] - log_odds[1], expected, rtol=0, atol=1e-12)


@every_theory
def test_symmetries_are_exact(action):
    q, x = density(action), fields(action, 20)
    assert q.symmetries == q.theory.site.symmetries
    for name in q.symmetries:
        y = action.kind.symmetries[name](x, seeded(1))
        torch.testing.assert_close(q.log_prob(x), q.log_prob(y), rtol=0, atol=1e-9)
    if action.kind.states and not q.symmetries:
        exchanged = torch.tensor([0, 2, 1, 3])[x]  # the two with one field
        torch.testing.assert_close(q.log_prob(x), q.log_prob(exchanged), rtol=0, atol=1e-9)
        others = torch.tensor([3, 1, 2, 0])[x]
        assert (q.log_prob(x) - q.log_prob(others)).abs().max() > 0.1


@pytest.mark.parametrize("action", [POTTS, IN_FIELDS, ANGLES, IN_A_FIELD])
def test_soft_labels_are_a_mean_over_the_exact_conditional(action):
    q, n = density(action), 20_000
    vectors = q.theory.site.vector(fields(action, 12).flatten()[: 4 * 3].view(4, 3))
    s = vectors.sum(2).T[..., None].expand(-1, -1, n)
    c = 0.3 * torch.randn(12 if not action.kind.states else q.theory.site.shape[0], 1, generator=seeded())
    c, none = c.double().expand(-1, n), torch.empty(0)
    x, _ = q.conditional.draw_exactly(s, seeded(4))
    log_q = q.conditional.log_prob(x, c, none)
    found = q.conditional.cross_entropy(q.conditional.labels(s[..., :1]), c[:, :1], none).item()
    assert found == pytest.approx(-log_q.mean().item(), abs=5 * log_q.std().item() / math.sqrt(n))


# --- other lattices and couplings, files ----------------------------------------------------------


@pytest.mark.parametrize("action", [Potts((8, 8), 3, 1.0), XY((8, 8), 1.0)])
def test_a_larger_lattice_begins_with_what_was_learned(action):
    q = density(action)
    larger = q.on_lattice((16, 32))
    assert larger.networks["Aa0"] is q.networks["Aa0"]
    assert torch.equal(larger.networks["oea2"].first, q.networks["oea1"].first)
    x, log_q = larger.sample(2, seeded())
    torch.testing.assert_close(log_q, larger.log_prob(x).detach(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("action", [POTTS, ANGLES])
def test_a_density_comes_back_from_its_file(action, tmp_path):
    q = density(action, width=5).float()
    save_density(q, tmp_path / "q")
    again = load_density(tmp_path / "q", action=action)
    x, log_q = again.sample(3, seeded())
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match="is the checkpoint of another model"):
        load_density(tmp_path / "q", action=Ising((4, 4), beta=0.4))


@pytest.mark.parametrize(("action", "ends"), [(POTTS, [0.7, 1.1]), (ANGLES, [0.6, 1.1])])
def test_one_density_serves_a_range_of_couplings(action, ends):
    q = density(action, size=0.02, ranges={"beta": ends})
    for beta in ends:
        there = q.at(beta=beta)
        assert there.theory == action.at(beta=beta).nearest_neighbours()
        x, log_q = there.sample(10, seeded())
        torch.testing.assert_close(log_q, there.log_prob(x).detach(), rtol=0, atol=1e-8)
    estimator = soft_labels_in_ranges(knots=3, chains=64)
    record = next(trainer(q.float(), action, 1, batch=64, estimator=estimator))
    assert record.grad_norm > 0


def test_tables_are_for_spins_alone():
    with pytest.raises(ValueError, match="expected spins for tables, got StateWeight"):
        multilevel((4, 4), action=POTTS, conditional="tables")


# --- training -------------------------------------------------------------------------------------


def trainer(q, action, steps, **options):
    given = {"batch": 128, "learning_rate": 0.01, "generator": seeded(7), "steps": steps} | options
    return Trainer(q, action, given.pop("estimator", None) or soft_labels(chains=128), **given)


@pytest.mark.parametrize(
    ("action", "steps"),
    [(Potts((8, 4), 3, 1.0), 150), pytest.param(XY((4, 8), 1.0), 100, marks=pytest.mark.slow)],
)
def test_it_is_learned_from_nothing_and_weighted_without_bias(action, steps):
    """log Z by the transfer matrix, from the mean weight."""
    q = multilevel(action.lattice, action=action, width=12)
    for _ in trainer(q, action, steps, schedule=Schedule("cosine", floor=0.01)):
        pass
    log_w = draws(q, 8000, action, seeded(1)).log_weight
    w = torch.exp(log_w - action.known()["log_z"].value)
    error = w.std().item() / math.sqrt(len(w))
    assert error < 0.0045
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


@pytest.mark.parametrize("action", [POTTS, ANGLES])
def test_low_precision_lowers_the_networks_alone(action):
    full = next(trainer(density(action, size=0.1, width=8).float(), action, steps=1))
    q = density(action, size=0.1, width=8).float()
    low = next(trainer(q, action, steps=1, precision="bfloat16"))
    assert {p.dtype for p in q.parameters()} == {torch.float32}
    assert low.loss == pytest.approx(full.loss, rel=0.02)
    assert low.loss != full.loss


# --- runs -----------------------------------------------------------------------------------------

SMALL = [*SMALL_CHAINS, "model.width=8", "training.steps=100"]


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("potts-critical-16x16", ["action.lattice=[4, 8]", "action.beta=0.9"]),
        pytest.param("xy-16x16", ["action.lattice=[4, 4]", "action.beta=0.8"], marks=pytest.mark.slow),
    ],
)
def test_a_run_passes_its_validation(preset, changes, tmp_path):
    run = Run.create(tmp_path / "run", load_config(preset, [*SMALL, *changes]))
    run.train()
    run.sample()
    run.sample_beside()
    verdict = validate(run)
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > 0.3
    claimed = {f"{name} symmetry of the density" for name in run.model("best").symmetries}
    assert claimed <= {check.name for check in verdict.checks}


@pytest.mark.parametrize("preset", ["potts-critical-16x16", "xy-16x16"])
def test_a_run_goes_on_as_if_it_had_not_stopped(preset, tmp_path):
    small = ["action.lattice=[4, 4]", "training.steps=12", "training.checkpoint_every=4", "model.width=4"]
    config = load_config(preset, [*SMALL, *small])
    whole, stopped = Run.create(tmp_path / "whole", config), Run.create(tmp_path / "stopped", config)
    whole.train()

    def stop(record):
        if record.step == 7:
            raise KeyError

    with pytest.raises(KeyError):
        stopped.train(stop)
    stopped.train()
    assert_same(outcome(whole.path, ()), outcome(stopped.path, ()))
