"""What a verdict on spins rests on: known numbers, checks of a network, phases, the entropy, annealing."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Generator

from cases import perturbed
from fake_run import HMC, chain, evidence, rows_of
from latflow import exact
from latflow.analysis import entropy, summary
from latflow.densities.autoregressive import convolutional_spins, dense_spins, hierarchical_spins
from latflow.estimators import reinforce_leave_one_out
from latflow.observables import recorded
from latflow.theories import Ising, Phi4
from latflow.training import Anneal, Schedule, Trainer
from latflow.validation import density_checks, known, sector_checks

CRITICAL = 0.44068679


# --- what is known --------------------------------------------------------------------------------


def labels(action):
    """How a table writes the observables of a theory, by name."""
    return {observable.name: observable.label for observable in action.observables if observable.label}


def test_kaufman_and_the_transfer_matrix_are_known_by_name():
    """8×8 at the critical coupling; the numbers of log Z and ⟨|M|⟩ stand in the tests of `exact`, too."""
    found = {name: m.value for name, m in known(Ising((8, 8), CRITICAL), {}).items()}
    assert found.keys() == labels(Ising((8, 8), CRITICAL)).keys() - {"correlation_length"}
    assert found["log_z"] == pytest.approx(60.14178045, abs=1e-7)
    assert found["energy"] == exact.ising_energy((8, 8), CRITICAL)
    assert found["free_energy_density"] == pytest.approx(-60.14178045 / 64, abs=1e-9)
    assert found["action_density"] == pytest.approx(CRITICAL * found["energy"])
    assert found["entropy"] == pytest.approx(found["log_z"] + 64 * found["action_density"])
    # C = −K² ∂⟨E⟩/V/∂K
    step = 1e-4
    above, below = (exact.ising_energy((8, 8), CRITICAL + h) for h in (step, -step))
    assert found["specific_heat"] == pytest.approx(-(CRITICAL**2) * (above - below) / (2 * step), rel=1e-5)
    m_squared = found["V_magnetization_squared"] / 64
    assert found["susceptibility"] == pytest.approx(64 * (m_squared - found["abs_magnetization"] ** 2))
    assert (found["magnetization"], found["sign_of_magnetization"]) == (0.0, 0.0)


@pytest.mark.parametrize("lattice", [(4, 4), (3, 5), (2, 6), (7,)])
def test_enumeration_and_closed_forms_agree(lattice):
    action = Ising(lattice, 0.37)
    found, sites = known(action, {}), math.prod(lattice)
    assert found["log_z"].value == pytest.approx(exact.ising_log_z(lattice, 0.37))
    assert found["specific_heat"].value == pytest.approx(exact.ising_specific_heat(lattice, 0.37))
    assert found["entropy"].value == pytest.approx(exact.ising_entropy(lattice, 0.37))
    m = 1 - 2 * np.arange(sites + 1) / sites
    p = action.probability("magnetization", m)
    assert p is not None
    assert p.sum() == pytest.approx(1)
    assert found["V_magnetization_squared"].value == pytest.approx(sites * (m**2 @ p))
    assert found["binder_cumulant"].value == pytest.approx(1 - (m**4 @ p) / (3 * (m**2 @ p) ** 2))


def test_nothing_is_claimed_where_nothing_is_known():
    assert known(Ising((3, 3, 3), 0.2), {}).keys() == {"magnetization", "sign_of_magnetization"}
    assert known(Ising((12, 12), 0.3, field=0.1), {}) == {}
    assert known(Ising((12, 12), -0.3), {}).keys() == {"magnetization", "sign_of_magnetization"}
    glass = Ising((10, 12), 0.5, couplings=np.random.default_rng(1).standard_normal((2, 10, 12)))
    assert known(glass, {}).keys() == {"magnetization", "sign_of_magnetization"}
    # ∂ log Z/∂h = V⟨M⟩: of two transfer matrices one counts the magnetisation
    lower, in_field, higher = (known(Ising((6, 6), 0.3, field=h), {}) for h in (0.0999, 0.1, 0.1001))
    slope = (higher["log_z"].value - lower["log_z"].value) / (0.0002 * 36)
    assert in_field["magnetization"].value == pytest.approx(slope, rel=1e-5)
    assert slope > 0.1
    # beyond rows of eight Kaufman's solution is left
    large = known(Ising((16, 16), CRITICAL), {})
    assert "log_z" in large
    assert "abs_magnetization" not in large


# --- averages -------------------------------------------------------------------------------------


def test_independent_draws_from_the_exact_distribution_pass_every_row():
    """All 2⁹ configurations, drawn with their probabilities: τ = ½, and every pull below five."""
    action, steps, chains = Ising((3, 3), 0.35), 2000, 3
    states = exact.spin_states((3, 3))
    log_p = -action(states) - exact.ising_log_z((3, 3), 0.35)
    picked = torch.multinomial(log_p.exp(), steps * chains, True, generator=Generator().manual_seed(5))
    x = states[picked]
    series = {name: v.reshape(steps, chains, *v.shape[1:]).numpy() for name, v in recorded(action)(x).items()}
    # draws from the uniform distribution, with their weights
    uniform = torch.randint(len(states), (20_000,), generator=Generator().manual_seed(6))
    draws = {name: v.numpy() for name, v in recorded(action)(states[uniform]).items()}
    draws["log_weight"] = (-action(states[uniform]) + 9 * math.log(2)).numpy()
    rows = rows_of(evidence(action, series, draws, series))
    assert rows.keys() == labels(action).keys()
    assert all(row.passed for row in rows.values()), rows
    assert rows["energy"].values["beside"] == rows["energy"].values["model"]
    assert {(way, "exact") for way in ("model", "weights", "beside")} <= rows["specific_heat"].pulls.keys()
    assert rows["entropy"].pulls.keys() == {("weights", "exact")}
    of_scalars = labels(Phi4((3, 3), 1.0, 1.0))
    for name in labels(action).keys() & of_scalars.keys():
        assert labels(action)[name] == of_scalars[name]


def test_the_entropy_has_its_value_and_error():
    """From 400 sets of draws at a higher temperature: the mean within five errors, the spread to 15%."""
    action, n = Ising((2, 3), 0.4), 500
    states = exact.spin_states((2, 3))
    hotter, s = Ising((2, 3), 0.3), action(states)
    log_q = -hotter(states) - exact.spins_enumerated(hotter).log_z
    expected = float(exact.spins_enumerated(action).log_z + exact.spins_enumerated(action).action)
    found = []
    for seed in range(400):
        i = torch.multinomial(log_q.exp(), n, True, generator=Generator().manual_seed(seed))
        found.append(entropy((-s - log_q)[i].numpy(), s[i].numpy()))
    values = np.array([m.value for m in found])
    assert abs(values.mean() - expected) < 5 * values.std() / 20 + 5 / n  # log of a mean is biased by 1/n
    assert np.mean([m.error for m in found]) == pytest.approx(values.std(), rel=0.15)
    # at q = p the weights are all Z, and what is left is the mean of −log p
    log_p = -s - exact.ising_log_z((2, 3), 0.4)
    i = torch.multinomial(log_p.exp(), n, True, generator=Generator().manual_seed(1))
    perfect = entropy((-s - log_p)[i].numpy(), s[i].numpy())
    assert perfect.value == pytest.approx(-log_p[i].mean().item())
    assert perfect.error == pytest.approx(log_p[i].std().item() / math.sqrt(n))


def test_the_specific_heat_keeps_its_digits():
    """Var(S)/V of numbers near 10⁸, whose squares differ in the last digits of float64 alone."""
    rng = np.random.default_rng(2)
    fluctuation = rng.standard_normal((500, 4))
    series = {"action": 1e8 + fluctuation} | dict.fromkeys(
        ("magnetization", "energy", "lowest_mode"), 0.1 + rng.random((500, 4))
    )
    found = summary(series, Ising((2, 2), 0.4).observables)["specific_heat"]
    assert found.value == pytest.approx(fluctuation.var() / 4, rel=1e-5)


# --- checks ---------------------------------------------------------------------------------------

NETWORKS = {
    "dense": lambda lattice, **z2: dense_spins(lattice, hidden=(3,), **z2),
    "convolutional": lambda lattice, **z2: convolutional_spins(lattice, channels=2, kernels=(3, 3), **z2),
    "hierarchical": lambda lattice, **z2: hierarchical_spins(lattice, hidden=(3,), **z2),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("lattice", "n_checks"), [((4, 4), 6), ((4, 6), 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("z2", [True, False])
def test_sound_networks_pass_their_checks(name, lattice, n_checks, dtype, z2):
    network = perturbed(NETWORKS[name](lattice, z2=z2), 0.4).to(dtype)
    checks = list(density_checks(network, Ising(lattice, 0.5)))
    assert all(check.passed for check in checks), checks
    assert len(checks) == n_checks - (not z2)


def failed(network):
    return {check.name for check in density_checks(network, Ising(network.lattice, 0.5)) if not check.passed}


@pytest.mark.parametrize("lattice", [(4, 4), (4, 6)])
def test_a_mask_with_a_hole_is_found(lattice):
    network = perturbed(dense_spins(lattice, hidden=(3,)), 0.4)
    layer = network.levels[0].conditional.direct
    layer.mask[5, 9] = True
    with torch.no_grad():
        layer.weight[5, 9] = 0.7
    assert "each site depends on earlier ones alone" in failed(network)
    assert ("probabilities add up to 1" in failed(network)) == (lattice == (4, 4))
    # the first spin, which has no cut before it but its own
    network = perturbed(dense_spins(lattice), 0.4)
    layer = network.levels[0].conditional.direct
    layer.mask[0, 1] = True
    with torch.no_grad():
        layer.weight[0, 1] = 0.7
    assert "each site depends on earlier ones alone" in failed(network)


def test_a_context_that_is_not_drawn_yet_is_found():
    network = perturbed(hierarchical_spins((8, 8), hidden=(2,)), 0.4)
    network.levels[1].contexts[0, 0] = network.levels[-1].blocks[0, 0]
    assert "each site depends on earlier ones alone" in failed(network)


def test_draws_with_another_probability_are_found():
    network = perturbed(dense_spins((4, 6)), 0.4)
    conditional = network.levels[0].conditional
    right = conditional.advance
    conditional.advance = lambda cache, i: 0.9 * right(cache, i)
    assert "draws come with their probability" in failed(network)
    biased = perturbed(dense_spins((4, 6), z2=False), 0.4)
    biased.symmetries = ("z2",)
    assert failed(copy.deepcopy(biased)) == {"z2 symmetry of the density"}
    biased.symmetries = ("gauge",)
    assert failed(copy.deepcopy(biased)) == {"gauge symmetry of the density"}


def two_phases(rate, steps, chains, seed=1):
    """M = ±0.8 and noise; the sign changes at each step with a probability."""
    rng = np.random.default_rng(seed)
    start = rng.choice([0, 1], (1, chains))
    sign = (-1.0) ** (start + np.cumsum(rng.random((steps, chains)) < rate, 0))
    return sign * (0.8 + 0.1 * rng.standard_normal((steps, chains)).clip(-3, 3))


def phases_of(action, m):
    """The checks of one sampler, the Wolff chain, with these magnetisations."""
    words = HMC._replace(sentence="the Wolff chain")
    return list(sector_checks(action, [chain({"magnetization": m}, words)]))


def test_phases_that_are_missing_are_found():
    action = Ising((8, 8), 0.5)
    (sound,) = phases_of(action, two_phases(0.5, 400, 6))
    assert sound.passed
    assert sound.name == "phases of the Wolff chain, by symmetry"
    assert "M > 0, M < 0 visited, M > 0, M < 0 by each of 6 chains" in sound.detail
    (lost,) = phases_of(action, abs(two_phases(0.5, 400, 6)))
    assert not lost.passed
    assert "M < 0 never visited" in lost.detail
    (other,) = phases_of(action, -abs(two_phases(0.5, 400, 6)))
    assert not other.passed
    assert "M > 0 never visited" in other.detail
    # half of the chains up, half down, and none ever turns: ⟨M⟩ alone would pass
    (frozen,) = phases_of(action, two_phases(0.0, 400, 6))
    assert not frozen.passed
    assert "6 of 6 chains miss one of M > 0, M < 0" in frozen.detail
    (short,) = phases_of(action, abs(two_phases(0.5, 10, 3)))
    assert short.passed
    assert "in so short a chain" in short.detail
    # chains too short to be asked one by one are asked together
    (few,) = phases_of(action, two_phases(0.0, 20, 40))
    assert few.passed
    assert phases_of(Ising((8, 8), 0.5, field=0.1), two_phases(0.0, 400, 6)) == []


# --- annealing ------------------------------------------------------------------------------------


def test_the_action_rises_to_itself():
    anneal, action = Anneal(0.25, 4), Ising((4, 4), 0.6)
    assert [anneal.factor(step) for step in range(6)] == [0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0]
    x = torch.ones(1, 4, 4)
    assert anneal.action(action, 1)(x) == 0.4375 * action(x)
    assert anneal.action(action, 4) is action
    assert [anneal.done(step) for step in (3, 4)] == [False, True]
    for arguments in ((1.0, 4), (-0.1, 4), (0.5, 0)):
        with pytest.raises(ValueError, match="expected 0 ≤ start < 1 and steps ≥ 1"):
            Anneal(*arguments)


def untrained():
    return hierarchical_spins((4, 4), hidden=(2,), coupling=0.3, generator=Generator().manual_seed(1))


def trainer(anneal):
    options = {"steps": 8, "batch": 256, "generator": Generator().manual_seed(2), "learning_rate": 1e-9}
    schedule, action = Schedule("plateau", patience=2), Ising((4, 4), 0.6)
    return Trainer(untrained(), action, reinforce_leave_one_out, schedule=schedule, anneal=anneal, **options)


def test_a_record_belongs_to_the_action_of_its_step():
    """With hardly any learning the draws are those of the network at the start: F_q = ⟨log q⟩ + f ⟨S⟩."""
    anneal, network, generator = Anneal(0.2, 5), untrained(), Generator().manual_seed(2)
    for step, record in enumerate(trainer(anneal)):
        x, log_q = network.sample(256, generator)
        expected = log_q.mean() + anneal.factor(step) * Ising((4, 4), 0.6)(x).mean()
        assert record.f_q == pytest.approx(expected.item(), rel=1e-4)


def test_plateaus_are_looked_for_after_the_ramp():
    counted = []
    ramp = trainer(Anneal(0.0, 5))
    ramp.plateau.update = counted.append
    records = list(ramp)
    assert counted == [record.f_q for record in records[5:]]
