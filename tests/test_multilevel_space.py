"""Multilevel densities in three dimensions: normalised, exact against closed forms, trained, and moved."""

import math
from functools import lru_cache

import pytest
import torch
from torch import Generator

from cases import perturbed
from latflow.config import load_config
from latflow.densities import draws, load_density, save_density
from latflow.densities.multilevel import Multilevel, multilevel
from latflow.estimators import labels, soft_labels
from latflow.runs import Run
from latflow.theories import HoppingPhi4, Ising, Phi4
from latflow.training import Curriculum, Trainer
from latflow.validation import validate
from small_runs import SMALL_CHAINS

PHI4 = HoppingPhi4((8, 8, 8), beta=0.36, lam=0.5)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def signs(sites):
    """All states of so many spins, bit k of a state's number that of site k."""
    return 2.0 * (torch.arange(2**sites)[:, None] >> torch.arange(sites) & 1).double() - 1


@lru_cache
def cube_log_z(beta):
    """log Z of the Ising model on 4×4×4, log tr T⁴ with T = D K D from one layer of 2¹⁶ states to the next.

    tr T⁴ = Σ_s |T² e_s|², the same for all s that the symmetries of the layer exchange.
    """
    s, half = signs(16).view(-1, 4, 4), signs(8)
    d = torch.exp(beta / 2 * (s * s.roll(1, 1) + s * s.roll(1, 2)).sum((1, 2)))
    k = torch.exp(beta * half @ half.T)

    def squared(number):
        """T² e_s, with T e_s an outer product."""
        upper, lower = k[number // 256], k[number % 256]
        once = (upper[:, :, None] * lower[:, None]).flatten(1) * d * d * d[number, None]
        return (k @ once.view(-1, 256, 256) @ k).flatten(1) * d

    turned = [image for one in (s, s.transpose(1, 2)) for image in (one, one.flip(1), one.flip(2))]
    turned += [one.flip(1, 2) for one in turned[::3]]
    lowest = torch.full((2**16,), 2.0**16, dtype=torch.float64)
    for image in turned:
        for shift in range(16):
            bits = image.roll(divmod(shift, 4), (1, 2)).flatten(1) / 2 + 0.5
            number = bits @ 2.0 ** torch.arange(16, dtype=torch.float64)
            lowest = torch.minimum(lowest, torch.minimum(number, 2**16 - 1 - number))
    states, alike = torch.unique(lowest.long(), return_counts=True)
    parts = zip(states.split(64), alike.split(64), strict=True)
    return math.log(sum(float(squared(some).square().sum(1) @ count.double()) for some, count in parts))


def test_the_transfer_matrix_knows_free_spins_and_the_high_temperature_series():
    """log Z = V log 2 + N log cosh β + log(1 + 48 t⁴ + …), t = tanh β: 192 plaquettes, and 48 windings."""
    beta = 0.02
    series = (
        64 * math.log(2) + 192 * math.log(math.cosh(beta)) + math.log1p((192 + 48) * math.tanh(beta) ** 4)
    )
    assert cube_log_z(beta) == pytest.approx(series, abs=2e-7)


@pytest.mark.parametrize("field", [0.0, 0.15])
def test_probabilities_add_up_to_one(field):
    """Those of the 32 even sites in four groups of eight, each given some values of those before."""
    action = Ising((4, 4, 4), beta=0.22, field=field)
    q = perturbed(multilevel(action.lattice, action=action, width=6).double(), 0.3)
    sites = torch.cat([one.sites for one in q.classes])
    groups = sites.view(4, 8)
    for given in range(0, 256, 51):
        x = signs(8)[given].repeat(256, 8)
        for group in groups:
            x[:, group] = signs(8)
            own = [one for one in q.classes if one.sites[0] in group]
            assert torch.equal(torch.cat([one.sites for one in own]), group)
            with torch.no_grad():
                log_q = sum(log_q_of(q, one, x.view(-1, 4, 4, 4)) for one in own)
            assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
            assert log_q.std() > 0.1
            x[:, group] = signs(8)[given].flip(0)
    with torch.no_grad():
        x = fields(action, 50)
        odd = q.theory.site.log_prob(x, q.theory.fields(x)).flatten(1)[:, q.get_buffer("odd")].sum(1)
        even = sum(log_q_of(q, one, x) for one in q.classes)
        torch.testing.assert_close(q.log_prob(x), even + odd, rtol=0, atol=1e-10)
        assert torch.equal(q.log_prob(x), q.log_prob(-x)) == (field == 0)


def fields(action, n):
    """Random spins."""
    return torch.randn(n, *action.lattice, generator=seeded(), dtype=torch.float64).sign()


def log_q_of(q, one, x):
    """log q of one class given those before."""
    rows = q._rows(x)
    values = rows[one.sites].flatten()
    if one.last:
        each = q.conditional.log_prob_exactly(values, q._beyond(one, rows))
    else:
        each = q.conditional.log_prob(values, *q._coefficients(one, rows))
    return each.view(-1, len(x)).sum(0)


def test_the_mean_weight_is_the_partition_function_of_the_free_field():
    """⟨w⟩ = Z, of the closed form, by draws of a density with perturbed weights on a rectangular box."""
    action = Phi4((4, 4, 8), m2=3.0, lam=0.0)
    q = perturbed(multilevel(action.lattice, action=action, width=8), 0.004)
    log_w = draws(q, 8000, action, seeded(3)).log_weight
    w = torch.exp(log_w - action.known()["log_z"].value)
    error = w.std().item() / math.sqrt(len(w))
    assert w.mean().item() == pytest.approx(1, abs=5 * error)
    assert 0.001 < error < 0.04


def trainer(q, action, steps, **options):
    given = {"batch": 64, "learning_rate": 0.01, "generator": seeded(7), "steps": steps} | options
    return Trainer(q, action, soft_labels(chains=128), **given)


@pytest.mark.slow
def test_spins_are_learned_from_nothing_and_weighted_without_bias():
    """log Z on 4³ near criticality against the transfer matrix, from the mean weight."""
    action = Ising((4, 4, 4), beta=0.2216546)
    q = multilevel(action.lattice, action=action, width=8)
    for _ in trainer(q, action, 100):
        pass
    log_w = draws(q, 20_000, action, seeded(1)).log_weight
    w = torch.exp(log_w - cube_log_z(0.2216546))
    error = w.std().item() / math.sqrt(len(w))
    assert error < 0.004
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


@pytest.mark.slow
def test_a_curriculum_of_real_numbers_goes_through_all_sizes():
    action = PHI4.on_lattice((4, 8, 8))
    q = multilevel(action.lattice, action=action, width=6)
    training = trainer(q, action, 40, batch=32, curriculum=Curriculum(((4, 4, 4),), (30,)))
    records = list(training)
    assert records[29].ess > 0.5
    assert records[39].ess > 0.05


def test_a_larger_box_begins_with_what_was_learned():
    q = multilevel((8, 8, 8), action=PHI4, width=4)
    larger = q.on_lattice((16, 16, 16))
    shared = {"top0": "top0", "eooa0": "eooa0", "eood2": "eood1", "oeea2": "oeea1", "oooa3": "oooa2"}
    assert all(larger.networks[name] is q.networks[source] for name, source in shared.items())
    assert larger.networks["ooeb1"] is not q.networks["ooeb1"]
    assert torch.equal(larger.networks["ooeb1"].gate, q.networks["ooeb1"].gate)
    assert larger.recipe["lattice"] == [16, 16, 16]
    with torch.no_grad():
        q.networks["oeeb1"].gate += 1
    larger.inherit(q)
    assert torch.equal(larger.networks["oeeb1"].gate, q.networks["oeeb1"].gate)
    x, log_q = larger.sample(1, seeded())
    torch.testing.assert_close(log_q, larger.log_prob(x).detach(), rtol=0, atol=1e-3)


def test_a_density_comes_back_from_its_file(tmp_path):
    q = perturbed(multilevel((8, 8, 8), action=PHI4, width=5), 0.01)
    save_density(q, tmp_path / "q")
    again = load_density(tmp_path / "q", action=PHI4)
    assert isinstance(again, Multilevel)
    x, log_q = again.sample(3, seeded())
    torch.testing.assert_close(log_q, q.log_prob(x).detach())


def test_tables_serve_planes():
    with pytest.raises(
        ValueError, match=r"two sides for a density by tables, got \(4, 4, 4\): networks serve"
    ):
        multilevel((4, 4, 4), action=Ising((4, 4, 4), beta=0.2), conditional="tables")


def test_fields_are_seen_in_all_positions():
    """Where two neighbours of a site are found beside it, in a box with two equal sides."""
    x = torch.zeros(1, 4, 4, 8)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[0, 0, 0, 1] = 3, 2, 1
    generator, met = seeded(1), set()
    for _ in range(400):
        y = labels._turned(x, generator)
        assert y.shape == x.shape
        one, two, three = ((y == value).nonzero()[0, 1:] for value in (1, 2, 3))
        far, near = (((at - three + 1) % torch.tensor([4, 4, 8]) - 1).tolist() for at in (one, two))
        met.add((tuple(far), tuple(near)))
    expected = {
        (far, near)
        for far in ((0, 0, 1), (0, 0, -1))
        for near in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
    }
    assert met == expected


SMALL = [
    *SMALL_CHAINS,
    "action.lattice=[4, 4, 8]",
    "action.beta=0.36",
    "model.width=6",
    "reference={}",
    "training.steps=60",
    "training.curriculum={lattices=[[4, 4, 4]], steps=[30]}",
]


@pytest.mark.slow
def test_a_run_passes_its_validation(tmp_path):
    run = Run.create(tmp_path / "run", load_config("phi4-critical-16x16x16", SMALL))
    run.train()
    run.sample()
    run.sample_beside()
    assert validate(run).passed
