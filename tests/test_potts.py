"""Potts spins: the action, exact results by independent ways, heat bath and clusters, networks, runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from cases import thinned
from latflow import exact, observables
from latflow.config import load_config
from latflow.densities.autoregressive import convolutional_spins, dense_spins, hierarchical_spins
from latflow.errors import ConfigError
from latflow.estimators import reinforce_leave_one_out
from latflow.registry import load
from latflow.runs import Run
from latflow.samplers import IndependenceMetropolis, Sampler, run
from latflow.storage import load_tree, save_tree
from latflow.theories import Action, Ising, Potts, potts_of
from latflow.theories.potts.order import Order, bond_energy, majority
from latflow.theories.potts.updates import PottsHeatBath, PottsSwendsenWang, PottsWolff
from latflow.training import Trainer
from latflow.validation import ChainWords, MarkovChain, sector_checks
from latflow.workflow import complete, judged

LATTICES = [(2,), (5,), (2, 2), (3, 4), (2, 5), (2, 3, 2), (3, 2, 4)]
CRITICAL = math.log(1 + math.sqrt(3))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def states(q: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(q, shape, generator=seeded(seed))


def glass(lattice: tuple[int, ...], seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(lattice), *lattice))


def models(lattice: tuple[int, ...], q: int) -> list[Potts]:
    return [
        Potts(lattice, q, 0.9),
        Potts(lattice, q, 0.9, field=-0.3),
        Potts(lattice, q, 0.7, field=np.linspace(-0.4, 0.5, q).tolist(), couplings=glass(lattice)),
    ]


def naive(action: Potts, s: np.ndarray) -> float:
    """The sum over sites and directions, with neighbours by index arithmetic."""
    total = 0.0
    for x in np.ndindex(*s.shape):
        for mu in range(s.ndim):
            ahead = tuple(
                (c + (axis == mu)) % side for axis, (c, side) in enumerate(zip(x, s.shape, strict=True))
            )
            coupling = 1.0 if action.couplings is None else np.asarray(action.couplings)[(mu, *x)]
            total -= action.beta * coupling * (s[x] == s[ahead])
        total -= action.fields[s[x]]
    return total


def ferromagnet(lattice: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).choice([0.0, 0.4, 1.0, 1.7], (len(lattice), *lattice))


# --- the action -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("q", [2, 3, 5])
def test_action_is_the_sum_over_bonds_and_sites(lattice, q):
    x = states(q, 3, *lattice)
    for action in models(lattice, q):
        expected = torch.tensor([naive(action, one.numpy()) for one in x], dtype=torch.float64)
        torch.testing.assert_close(action(x), expected)
        assert action(x[:1]).shape == (1,)


@pytest.mark.parametrize("lattice", LATTICES)
def test_local_fields_are_what_a_change_costs(lattice):
    x = states(3, 2, *lattice)
    for action in models(lattice, 3):
        local = action.local_fields(x)
        for site in np.ndindex(*lattice):
            here = (slice(None), *site)
            for state in range(3):
                changed = x.clone()
                changed[here] = state
                gained = local[:, state][here] - local.gather(1, x[:, None])[:, 0][here]
                torch.testing.assert_close(action(x) - action(changed), gained)


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize(("field", "coupled"), [(0.0, False), (0.2, False), (-0.3, True)])
def test_two_states_are_ising_spins(lattice, field, coupled):
    """δ = (1 + s s′)/2: S_Potts(β) = S_Ising(β/2) − ½ β Σ J, with the same order and correlations."""
    couplings = glass(lattice) if coupled else None
    potts = Potts(lattice, 2, 0.8, field=(field, -field), couplings=couplings)
    ising = Ising(lattice, 0.4, field=field, couplings=couplings)
    bonds = len(lattice) * math.prod(lattice) if couplings is None else couplings.sum()
    x = states(2, 5, *lattice)
    s = (1.0 - 2.0 * x).double()
    torch.testing.assert_close(potts(x), ising(s) - 0.4 * bonds, rtol=0, atol=1e-12)
    local = potts.local_fields(x)
    torch.testing.assert_close(local[:, 0] - local[:, 1], 2 * ising.local_field(s), rtol=0, atol=1e-12)
    record, m = Order(2)(x), observables.magnetization(s)
    torch.testing.assert_close(record["order_parameter"], m.abs())
    torch.testing.assert_close(record["order_squared"], m**2)
    torch.testing.assert_close(record["two_point"], observables.two_point(s))
    torch.testing.assert_close(record["lowest_mode"], observables.lowest_mode(s))
    torch.testing.assert_close(2 * bond_energy(x) + len(lattice), observables.bond_energy(s))


def test_two_states_have_the_partition_function_of_kaufman():
    for lattice, coupling in (((3, 4), 0.3), ((6, 8), 0.44068679), ((16, 5), 0.6)):
        potts = exact.potts_torus(lattice, 2, 2 * coupling)
        volume = math.prod(lattice)
        assert potts.log_z == pytest.approx(
            exact.ising_log_z(lattice, coupling) + 2 * coupling * volume, rel=1e-13
        )
        assert 2 * potts.energy + 2 == pytest.approx(exact.ising_energy(lattice, coupling), rel=1e-11)
        assert potts.action_variance / volume == pytest.approx(
            exact.ising_specific_heat(lattice, coupling), rel=1e-9
        )


def test_models_compare_hash_and_survive_a_file():
    values = glass((2, 3))
    a = Potts((2, 3), 3, 0.4, field=[0.1, 0.2, 0.3], couplings=values)
    b = Potts((2, 3), 3, 0.4, field=(0.1, 0.2, 0.3), couplings=torch.from_numpy(values))
    assert (a, hash(a)) == (b, hash(b))
    assert a != Potts((2, 3), 3, 0.4, couplings=values)
    assert Potts((2, 3), 3, 0.4, a.field, json.loads(json.dumps(a.couplings))) == a
    assert Potts((2, 3), 3, 0.4).kind == Potts((4, 4), 3, 0.9).kind != Potts((2, 3), 4, 0.4).kind


def test_a_symmetric_model_says_so():
    assert Potts((2, 3), 3, 0.4).symmetric
    assert Potts((2, 3), 3, 0.4, field=(0.2, 0.2, 0.2)).symmetric
    assert not Potts((2, 3), 3, 0.4, field=0.2).symmetric
    assert not Potts((2, 3), 3, 0.4).z2_symmetric


@pytest.mark.parametrize("lattice", [(3, 4), (4,)])
def test_sums_and_multiples_are_potts_models(lattice):
    plain, in_field, glassy = models(lattice, 3)
    x = states(3, 5, *lattice)
    for action in (plain, 0.5 * in_field, plain + glassy, 2.0 * (in_field + 0.3 * glassy)):
        torch.testing.assert_close(potts_of(action)(x), action(x))
    with pytest.raises(ValueError, match="expected a Potts model, got Ising"):
        potts_of(Ising((4, 4), 0.5))
    with pytest.raises(ValueError, match="two actions of one field"):
        _ = plain + Potts(lattice, 4, 0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lattice": (1, 4)}, "sides of at least 2"),
        ({"lattice": (2, 2, 2, 2)}, "one to three"),
        ({"q": 1}, "at least 2 states"),
        ({"beta": math.inf}, "finite beta"),
        ({"field": math.nan}, "finite field"),
        ({"field": (0.1, 0.2)}, "one number for state 0, or 3 numbers"),
        ({"couplings": np.ones((1, 4, 4))}, "couplings of shape"),
        ({"couplings": np.full((2, 4, 4), math.nan)}, "finite couplings"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Potts(**{"lattice": (4, 4), "q": 3, "beta": 0.5} | arguments)


def test_fields_of_another_shape_or_other_numbers_are_refused():
    action = Potts((4, 4), 3, 0.5)
    with pytest.raises(ValueError, match="shape"):
        action(states(3, 2, 4, 6))
    for build in (PottsHeatBath, PottsSwendsenWang, PottsWolff):
        with pytest.raises(ValueError, match="0 … 2"):
            build(action).init(torch.full((2, 4, 4), 3))
        with pytest.raises(ValueError, match="shape"):
            build(action).init(states(3, 2, 4, 6))
    with pytest.raises(ValueError, match="reinforce"):
        action.force(states(3, 2, 4, 4).double())


# --- exact results --------------------------------------------------------------------------------


@pytest.mark.parametrize(("lattice", "q"), [((2, 3), 3), ((3, 3), 2), ((6,), 3), ((2, 2, 2), 2), ((3,), 6)])
def test_the_enumeration_sums_over_all_configurations(lattice, q):
    for action in models(lattice, q):
        x = exact.potts_states(lattice, q)
        assert len(x.flatten(1).unique(dim=0)) == q ** math.prod(lattice)
        s = action(x).numpy()
        found, p = exact.potts_enumerated(action), np.exp(-s) / np.exp(-s).sum()
        n = np.stack([(x == state).flatten(1).double().mean(1).numpy() for state in range(q)])
        m, squared = (q * n.max(0) - 1) / (q - 1), ((n - 1 / q) ** 2).sum(0) * q / (q - 1)
        expected = [
            np.log(np.exp(-s).sum()), p @ s, p @ s**2 - (p @ s) ** 2, p @ bond_energy(x).numpy(),
            p @ m, p @ m**2, p @ squared, p @ squared**2,
        ]  # fmt: skip
        numbers = [value for name, value in found._asdict().items() if name != "fractions"]
        np.testing.assert_allclose(numbers, expected, rtol=1e-11)
        np.testing.assert_allclose(found.fractions, n @ p, rtol=1e-11)


@pytest.mark.parametrize(
    ("lattice", "q", "beta", "field"),
    [
        ((2, 3), 3, 1.0, None),
        ((3, 4), 2, 0.7, None),
        ((4, 2), 3, -0.5, (0.3, 0.1, -0.2)),
        ((4, 2), 4, 0.6, (0.2, 0.0, 0.0, 0.0)),
        ((6,), 3, 0.8, (0.4, 0.0, 0.4)),
        ((5,), 4, -0.9, None),
        ((2, 2, 2), 3, 0.4, None),
        ((2, 3, 2), 2, 0.4, (0.1, -0.1)),
        ((3, 3), 3, 0.9, (0.2, 0.2, 0.2)),
    ],
)
def test_the_transfer_matrix_has_the_numbers_of_the_enumeration(lattice, q, beta, field):
    counted = exact.potts_enumerated(Potts(lattice, q, beta, field or 0.0))
    found = exact.potts_torus(lattice, q, beta, field)
    names = ["log_z", "action", "action_variance", "energy"]
    if field is None or len(set(field)) == 1:
        names.append("order_squared")
    else:
        assert found.order_squared is None
    for name in names:
        assert getattr(found, name) == pytest.approx(getattr(counted, name), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("beta", [-1.2, 0.0, 0.7, 3.0])
@pytest.mark.parametrize(("length", "q"), [(2, 3), (7, 2), (8, 5)])
def test_a_ring_has_two_eigenvalues(length, q, beta):
    ring = exact.potts_ring(length, q, beta)
    large, small = math.exp(beta) + q - 1, math.exp(beta) - 1
    assert ring.log_z == pytest.approx(math.log(large**length + (q - 1) * small**length), rel=1e-13)
    np.testing.assert_allclose(ring, exact.potts_torus((length,), q, beta), rtol=1e-10, atol=1e-12)
    action = Potts((length,), q, beta)
    if q**length < 10_000:
        x = exact.potts_states((length,), q)
        p = torch.softmax(-action(x), 0)
        counted = (p[:, None] * Order(q)(x)["two_point"]).sum(0)
        np.testing.assert_allclose(action.known_series("two_point"), counted, rtol=1e-10, atol=1e-13)


def test_long_strips_do_not_overflow():
    """1000 sites of a ring in a strong field; a strip of 4 × 300 has the free energy of one of 4 × 600."""
    assert exact.potts_torus((1000,), 3, 5.0, (7.0, 0.0, 0.0)).log_z == pytest.approx(12_000, rel=1e-5)
    assert exact.potts_torus((4, 4), 3, 300.0).log_z == pytest.approx(2 * 16 * 300 + math.log(3), rel=1e-13)
    short, long = (exact.potts_torus((4, length), 2, 0.88).log_z for length in (300, 600))
    assert 2 * short == pytest.approx(long, rel=1e-6)


def test_the_critical_point_is_self_dual():
    """(e^β − 1)(e^β* − 1) = q, and for two states it is Onsager's."""
    for q in (2, 3, 4, 10):
        assert math.expm1(exact.potts_critical_coupling(q)) ** 2 == pytest.approx(q)
    assert exact.potts_critical_coupling(2) / 2 == pytest.approx(0.44068679, abs=1e-8)
    assert exact.potts_critical_energy(2) * 2 + 2 == pytest.approx(-math.sqrt(2))


@pytest.mark.parametrize(("q", "one_over_nu"), [(2, 1.0), (3, 1.2)])
def test_the_critical_energy_is_reached_as_the_lattice_grows(q, one_over_nu):
    """A torus lies below −(1 + 1/√q) by an amount that falls as L^(1/ν − 2)."""
    beta, infinite = exact.potts_critical_coupling(q), exact.potts_critical_energy(q)
    below = {side: infinite - exact.potts_torus((side, side), q, beta).energy for side in (3, 6)}
    assert below[6] > 0
    assert math.log(below[6] / below[3], 2) == pytest.approx(one_over_nu - 2, abs=0.06)


@pytest.mark.parametrize("enumerates", [True, False])
@pytest.mark.parametrize("lattice", [(3, 3), (8,), (2, 2, 3)])
def test_what_is_known_is_that_of_the_enumeration(lattice, enumerates, monkeypatch):
    """Also where a theory takes the transfer matrix."""
    if not enumerates:
        monkeypatch.setattr("latflow.theories.potts.action._MOST_ENUMERATED", 0)
    for action in (Potts(lattice, 2, 0.6), Potts(lattice, 2, 0.6, field=0.2)):
        counted, sites, known = exact.potts_enumerated(action), math.prod(lattice), action.known()
        expected = {
            "log_z": counted.log_z,
            "entropy": counted.log_z + counted.action,
            "specific_heat": counted.action_variance / sites,
            "energy": counted.energy,
            "V_order_squared": sites * counted.order_squared,
        }
        for name, value in expected.items():
            if enumerates or action.symmetric or name != "V_order_squared":
                assert known[name].value == pytest.approx(value, rel=1e-10)
        labels = {observable.name for observable in action.observables if observable.label}
        assert set(known) <= labels


def test_without_a_field_all_states_are_equally_frequent():
    large = Potts((20, 20), 3, 1.0)
    assert {name: m.value for name, m in large.known().items()} == {f"fraction_{a}": 1 / 3 for a in range(3)}
    assert Potts((20, 20), 3, 1.0, field=0.1).known() == {}
    assert "log_z" not in Potts((20, 20), 3, 1.0, couplings=np.ones((2, 20, 20))).known()
    assert Potts((20, 20), 3, 1.0).known_series("two_point") is None


def test_only_what_fits_is_solved():
    with pytest.raises(ValueError, match="at most 2²⁴ configurations"):
        exact.potts_enumerated(Potts((4, 4), 3, 0.5))
    with pytest.raises(ValueError, match="at most 2¹⁷ states"):
        exact.potts_torus((12, 12), 3, 0.5)
    for arguments in (((1, 4), 3, 0.5), ((4, 4), 3, math.nan), ((4, 4), 3, 0.5, (0.1, 0.2))):
        with pytest.raises(ValueError, match="sides of at least 2"):
            exact.potts_torus(*arguments)
    for q in (0, 1):
        with pytest.raises(ValueError, match="at least 2 states"):
            exact.potts_critical_coupling(q)
    with pytest.raises(ValueError, match="at least 2 sites"):
        exact.potts_ring(1, 3, 0.5)


# --- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [(5,), (4, 3), (2, 3, 4)])
def test_the_correlator_is_that_of_vectors_to_the_corners_of_a_simplex(lattice):
    q, x = 4, states(4, 3, *lattice)
    corners = (q * np.eye(q) - 1) / (q - 1)  # e_a · e_b
    record, length = Order(q)(x), lattice[0]
    for i, one in enumerate(x.numpy()):
        rows = one.reshape(length, -1)
        expected = [
            np.mean([corners[np.ix_(rows[t0], rows[(t0 + t) % length])].sum() for t0 in range(length)])
            / rows.shape[1]
            for t in range(length // 2 + 1)
        ]
        np.testing.assert_allclose(record["two_point"][i], expected, atol=1e-12)
        flat = one.reshape(-1)
        np.testing.assert_allclose(record["order_squared"][i], corners[np.ix_(flat, flat)].mean(), atol=1e-12)
        longest = [axis for axis in range(one.ndim) if one.shape[axis] == max(lattice)]
        wave = [
            np.exp(-2j * np.pi * np.indices(lattice)[axis].reshape(-1) / max(lattice)) for axis in longest
        ]
        mode = np.mean([(w.conj() @ corners[np.ix_(flat, flat)] @ w).real for w in wave]) / flat.size
        np.testing.assert_allclose(record["lowest_mode"][i], mode, atol=1e-12)


def test_order_and_phase_of_known_configurations():
    x = torch.stack(
        [torch.full((2, 3), 2), torch.tensor([[0, 0, 1], [1, 2, 2]]), torch.tensor([[1, 1, 1], [1, 0, 2]])]
    )
    record = Order(3)(x)
    assert record["order_parameter"].tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert record["order_squared"].tolist() == pytest.approx([1.0, 0.0, 0.25])
    assert record["phase"].tolist() == pytest.approx([2.5, -1.0, 1.25])
    (phase,) = (one for one in Potts((2, 3), 3, 0.5).own_observables() if one.name == "phase")
    sectors = phase.sectors
    assert sectors is not None
    assert sectors.equal == 3
    values = record["phase"].numpy()
    assert sectors.number(values).tolist() == [2, -1, 1]
    assert sectors.alike(values) == pytest.approx([0.5, 0.0, 0.25])
    assert majority(torch.tensor([[0.4, 0.4, 0.2]])).tolist() == [-1]
    (phase,) = (one for one in Potts((2, 3), 3, 0.5, field=0.1).own_observables() if one.name == "phase")
    assert phase.sectors is not None
    assert phase.sectors.equal is None


def test_a_chain_that_has_lost_phases_is_found():
    """Of one that moves and one whose states are pushed into the first, 200 steps of 16 chains each."""
    action = Potts((4, 4), 3, 1.3)
    sampler, observe = PottsSwendsenWang(action), Order(3)
    moving = run(sampler, states(3, 16, 4, 4), 200, observe, seeded(1), thermalisation=20).series
    frozen = run(
        PottsHeatBath(Potts((4, 4), 3, 1.3, field=3.0)), states(3, 16, 4, 4), 200, observe, seeded(2)
    )
    chains = [
        MarkovChain(ChainWords(name, name, "one step"), {"phase": series["phase"].numpy()})
        for name, series in (("moving", moving), ("frozen", frozen.series))
    ]
    found = {check.name.split(",")[0]: check for check in sector_checks(action, chains)}
    assert found["phases of moving"].passed
    assert not found["phases of frozen"].passed
    assert "state 1 never visited" in found["phases of frozen"].detail


def test_the_cumulant_is_zero_for_gaussian_vectors_and_that_of_binder_for_two_states():
    assert exact.order_cumulant(1.0, (4 + 1) / (4 - 1), 4) == pytest.approx(
        0
    )  # (n+2)/n of n = q−1 components
    assert exact.order_cumulant(0.5, 0.3, 2) == pytest.approx(observables.binder_cumulant(0.5, 0.3))
    assert exact.order_cumulant(1.0, 1.0, 3) == pytest.approx(1 / 2)


# --- Markov chains --------------------------------------------------------------------------------

SAMPLERS: dict[str, Callable[[Action], Sampler]] = {
    "potts_heat_bath": PottsHeatBath,
    "potts_swendsen_wang": PottsSwendsenWang,
    "potts_wolff": PottsWolff,
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)
clusters = pytest.mark.parametrize("name", ["potts_swendsen_wang", "potts_wolff"])


def assert_within_five_sigma(series: Tensor, expected: float) -> None:
    """The mean of (step, chain) against `expected`, the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    value, error = float(means.mean()), float(means.std()) / math.sqrt(len(means))
    assert abs(value - expected) < 5 * error, f"{value} ± {error} against {expected}"


def assert_means_of_the_enumeration(sampler: Sampler, action: Potts, seed: int = 1) -> None:
    model = potts_of(action)
    known, order = exact.potts_enumerated(model), Order(model.q)

    def observe(x: Tensor) -> dict[str, Tensor]:
        s, record = action(x), order(x)
        return {"s": s, "variance": (s - known.action) ** 2, "m": record["order_parameter"]} | {
            name: values for name, values in record.items() if name.startswith("fraction")
        }

    start = states(model.q, 200, *action.lattice, seed=7)
    series = run(sampler, start, 150, observe, seeded(seed), thermalisation=30).series
    assert_within_five_sigma(series["s"], known.action)
    assert_within_five_sigma(series["variance"], known.action_variance)
    assert_within_five_sigma(series["m"], known.order)
    for state, share in enumerate(known.fractions):
        assert_within_five_sigma(series[f"fraction_{state}"], share)


MODELS = {
    "critical": Potts((2, 4), 3, CRITICAL),
    "field": Potts((4, 2), 3, 0.6, field=0.2),
    "fields of four states": Potts((2, 2), 4, 0.5, field=(0.3, -0.2, 0.0, 0.1)),
    "random bonds": Potts((2, 4), 3, 0.8, field=-0.1, couplings=ferromagnet((2, 4))),
    "ring": Potts((6,), 3, 1.1),
    "cube": Potts((2, 2, 2), 3, 0.3, field=(0.0, 0.1, -0.1)),
    "two states": Potts((4, 2), 2, 0.7, field=0.1),
    "a sum": 0.5 * Potts((4, 2), 3, 0.6) + Potts((4, 2), 3, 0.3, field=0.2),
}


@every_sampler
@pytest.mark.parametrize("model", thinned(MODELS, 2))
def test_means_are_those_of_the_enumeration(name, model):
    """200 independent chains give the spread; of the energy, its fluctuations, the order, and each state."""
    assert_means_of_the_enumeration(SAMPLERS[name](MODELS[model]), MODELS[model])


@pytest.mark.parametrize(
    "action",
    [
        Potts((2, 4), 3, -0.9, field=0.2),
        Potts((4, 2), 3, 0.8, field=(0.1, 0.0, -0.2), couplings=glass((4, 2))),
    ],
)
def test_the_heat_bath_takes_antiferromagnets_and_glasses(action):
    assert_means_of_the_enumeration(PottsHeatBath(action), action)


@clusters
@pytest.mark.parametrize("lattice", [(3, 3), (5,), (2, 3)])
def test_clusters_need_no_checkerboard(name, lattice):
    action = Potts(lattice, 3, 0.8, field=0.05)
    assert_means_of_the_enumeration(SAMPLERS[name](action), action)


@every_sampler
def test_one_step_leaves_the_exact_distribution(name):
    """χ² of 81 states after one step from exact draws: 80 degrees of freedom, below 80 + 5·√160."""
    action = Potts((2, 2), 3, 0.6, field=(0.2, -0.1, 0.0), couplings=ferromagnet((2, 2)))
    x = exact.potts_states((2, 2), 3)
    p = torch.softmax(-action(x), 0)
    chains = 40_000
    start = x[torch.multinomial(p, chains, replacement=True, generator=seeded(4))]
    sampler = SAMPLERS[name](action)
    state, _ = sampler.step(sampler.init(start), seeded(5))
    numbers = state.x.flatten(1) @ (3 ** torch.arange(3, -1, -1))
    counted = torch.bincount(numbers, minlength=81).double()
    chi2 = float(((counted - chains * p) ** 2 / (chains * p)).sum())
    assert chi2 < 80 + 5 * math.sqrt(160), chi2


@clusters
def test_steps_are_in_detailed_balance(name):
    """p(x) P(x → y) = p(y) P(y → x): ⟨f(x) g(y)⟩ = ⟨f(y) g(x)⟩ over one step from exact draws."""
    action = Potts((2, 2), 3, 0.5, field=0.3)
    x = exact.potts_states((2, 2), 3)
    p = torch.softmax(-action(x), 0)
    chains = 60_000
    start = x[torch.multinomial(p, chains, replacement=True, generator=seeded(6))]
    sampler = SAMPLERS[name](action)
    moved, _ = sampler.step(sampler.init(start), seeded(7))
    f, g = (lambda x: (x[:, 0, 0] == 0).double(), lambda x: action(x) ** 2 * (x[:, 1, 1] == 1))
    difference = f(start) * g(moved.x) - f(moved.x) * g(start)
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / math.sqrt(chains)


@pytest.mark.parametrize("name", ["potts_heat_bath", "potts_swendsen_wang"])
def test_without_coupling_one_step_is_a_fresh_draw(name):
    action = Potts((4, 4), 3, 0.0, field=(0.4, 0.0, -0.7))
    sampler = SAMPLERS[name](action)
    state, _ = sampler.step(sampler.init(torch.zeros(4000, 4, 4, dtype=torch.int64)), seeded(6))
    share = torch.softmax(torch.tensor(action.fields, dtype=torch.float64), 0)
    counted = torch.bincount(state.x.flatten(), minlength=3) / state.x.numel()
    error = (share * (1 - share) / state.x.numel()).sqrt()
    assert bool(((counted - share).abs() < 5 * error).all())


def test_a_rectangle_has_the_energy_and_the_order_of_the_transfer_matrix():
    action = Potts((8, 4), 3, CRITICAL)
    known, order = exact.potts_torus((8, 4), 3, CRITICAL), Order(3)
    observe = lambda x: {"e": bond_energy(x), "m": order(x)["order_squared"]}  # noqa: E731
    for build in (PottsSwendsenWang, PottsWolff):
        series = run(build(action), states(3, 150, 8, 4), 200, observe, seeded(2), thermalisation=40).series
        assert_within_five_sigma(series["e"], known.energy)
        assert_within_five_sigma(series["m"], known.order_squared)


@every_sampler
def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path, name):
    sampler, observe = SAMPLERS[name](Potts((4, 6), 3, 0.9)), lambda x: {"field": x}
    start = states(3, 3, 4, 6)
    whole = run(sampler, start, 8, observe, seeded(1))
    generator = seeded(1)
    first = run(sampler, start, 4, observe, generator)
    tree = {"state": sampler.state_dict(first.state), "generator": generator.get_state()}
    save_tree(tmp_path / "chain", tree)
    tree, resumed = load_tree(tmp_path / "chain"), Generator()
    resumed.set_state(tree["generator"])
    second = run(sampler, sampler.state_from_dict(tree["state"]), 4, observe, resumed)
    assert whole.series["field"].dtype == torch.int64
    for key in ("field", "accepted"):
        assert torch.equal(whole.series[key], torch.cat([first.series[key], second.series[key]]))


@every_sampler
def test_the_share_of_changed_sites_is_reported_and_the_start_is_kept(name):
    x = states(3, 5, 4, 4)
    sampler, before = SAMPLERS[name](Potts((4, 4), 3, 0.5)), x.clone()
    state = sampler.init(x)
    moved, info = sampler.step(state, seeded(8))
    assert torch.equal(x, before)
    assert torch.equal(state.x, before)
    torch.testing.assert_close(info.accepted, (moved.x != x).flatten(1).double().mean(1))
    assert float(info.accepted.sum()) > 0
    single, _ = sampler.step(sampler.init(x[:1]), seeded(8))
    assert single.x.shape == (1, 4, 4)


def test_samplers_refuse_what_they_cannot_move():
    with pytest.raises(ValueError, match="even sides"):
        PottsHeatBath(Potts((3, 4), 3, 0.5))
    for build in (PottsSwendsenWang, PottsWolff):
        with pytest.raises(ValueError, match=r"at least 0 for clusters.*got -0\.5.*potts_heat_bath"):
            build(Potts((4, 4), 3, -0.5))
    for build in SAMPLERS.values():
        with pytest.raises(ValueError, match="expected a Potts model"):
            build(Ising((4, 4), 0.5))


def test_the_established_sampler_is_one_that_can_move_it():
    for action in (
        Potts((4, 4), 3, 0.9),
        Potts((3, 5), 3, 0.9, field=0.1),
        Potts((4, 4), 3, -0.9),
        Potts((4, 4), 3, 0.9, couplings=glass((4, 4))),
    ):
        (established,) = action.established
        load("samplers", established)(action)
    assert load("samplers", "potts_swendsen_wang") is PottsSwendsenWang
    assert load("samplers", "potts_wolff") is PottsWolff
    assert Potts((3, 4), 3, -0.9).established == ()


@pytest.mark.gpu
@every_sampler
def test_a_gpu_has_the_same_means(name):
    action = Potts((2, 4), 3, 0.9, field=0.1, couplings=ferromagnet((2, 4)))
    known = exact.potts_enumerated(action)
    generator = Generator("cuda").manual_seed(1)
    chain = run(
        SAMPLERS[name](action), states(3, 200, 2, 4).cuda(), 150, lambda x: {"s": action(x)}, generator, 30
    )
    assert_within_five_sigma(chain.series["s"], known.action)


# --- networks -------------------------------------------------------------------------------------

NETWORKS = {
    "dense": lambda action: dense_spins(action.lattice, kind=action.kind, hidden=(4,)),
    "convolutional": lambda action: convolutional_spins(
        action.lattice, kind=action.kind, channels=4, kernels=(5, 3)
    ),
    "hierarchical": lambda action: hierarchical_spins(action.lattice, kind=action.kind, hidden=(4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_three_states_are_normalised_learn_and_are_made_exact(name):
    action = Potts((2, 4), 3, 0.8, field=(0.2, 0.0, -0.1))
    network, known = NETWORKS[name](action), exact.potts_enumerated(action)
    records = list(
        Trainer(
            network, action, reinforce_leave_one_out,
            steps=60, batch=256, generator=seeded(1), learning_rate=3e-2, clip=1.0,
        )
    )  # fmt: skip
    x = exact.potts_states((2, 4), 3)
    with torch.no_grad():
        log_q = network.log_prob(x).double()
        drawn, log_q_drawn = network.sample(20_000, seeded(2))
        torch.testing.assert_close(network.log_prob(drawn), log_q_drawn, rtol=1e-5, atol=1e-5)
    assert drawn.dtype == torch.int64
    assert float(log_q.exp().sum()) == pytest.approx(1, abs=1e-5)
    # drawn as log q says: the mean of S over draws is that over all configurations
    s, q = action(drawn), log_q.exp()
    assert abs(float(s.mean()) - float((q * action(x)).sum())) < 5 * float(s.std()) / math.sqrt(len(s))
    f_q = float((q * (log_q + action(x))).sum())
    assert -known.log_z < f_q < records[0].f_q - 0.5
    sampler = IndependenceMetropolis(network, action, batch=4000)
    start, _ = network.sample(200, seeded(3))
    order = Order(3)
    observe = lambda x: {"s": action(x), "m": order(x)["order_parameter"], "n": order(x)["fraction_0"]}  # noqa: E731
    series = run(sampler, start, 150, observe, seeded(4), thermalisation=30).series
    assert_within_five_sigma(series["s"], known.action)
    assert_within_five_sigma(series["m"], known.order)
    assert_within_five_sigma(series["n"], known.fractions[0])


# --- a run, from a configuration to the report ----------------------------------------------------

SMALL = [
    "name=small", "action.lattice=[4, 2]", "model.hidden=[4]", "training.steps=60", "training.batch=256",
    "training.learning_rate=0.03", "sampling.steps=200", "sampling.chains=16", "sampling.thermalisation=20",
    "sampling.proposals.batch=400", "sampling.block=150", "beside.steps=200", "beside.chains=16",
    "beside.thermalisation=20", "beside.block=150", "compute.threads=1",
]  # fmt: skip
"""Changes to the preset potts-8x8."""


def test_a_run_is_trained_sampled_validated_and_reported(tmp_path: Path):
    run = Run.create(tmp_path / "run", load_config("potts-8x8", SMALL))
    validation = complete(run)
    assert validation.passed, (validation.checks, [(row.name, row.pulls) for row in validation.rows])
    rows = {row.name: row for row in validation.rows}
    assert {"log_z", "energy", "fraction_2", "binder_cumulant", "correlation_length"} <= set(rows)
    known = exact.potts_enumerated(run.action)
    assert rows["order_parameter"].values["exact"].value == pytest.approx(known.order)
    assert {"model", "weights", "beside", "exact"} <= set(rows["order_parameter"].values)
    assert [check.passed for check in validation.checks if check.name.startswith("phases")] == [True, True]
    text = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Potts model" in text
    assert "q = 3, β = 1.005" in text
    assert "No figure" not in text


def test_a_run_of_an_antiferromagnet_in_a_field_moves_by_the_heat_bath(tmp_path: Path):
    changes = [
        "action.beta=-0.6",
        "action.field=[0.3, 0.0, -0.2]",
        "model.type=dense",
        "sampling.kernels=['proposals', 'potts_heat_bath']",
    ]
    run = Run.create(tmp_path / "run", load_config("potts-8x8", [*SMALL, *changes]))
    run.train()
    run.sample()
    run.sample_beside()
    assert [sampler.title for sampler in run.samplers("beside").values()] == ["heat bath"]
    validation = judged(run)
    assert validation.passed, (validation.checks, [(row.name, row.pulls) for row in validation.rows])


def test_what_the_theory_refuses_is_told_with_its_section():
    for change, message in (
        ("action.q=1", "action.q"),
        ("action.field=[0.1, 0.2]", "action: expected a finite field: one number for state 0, or 3 numbers"),
        ("beside.kernels=wolff", "beside.wolff: expected an Ising model"),
        ("model.z2=true", "model: expected z2 = false"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config("potts-8x8", [*SMALL, change])
    with pytest.raises(
        ConfigError, match=r"beside\.potts_swendsen_wang: expected couplings β J of at least 0"
    ):
        load_config("potts-8x8", [*SMALL, "action.beta=-0.5", "beside.kernels=potts_swendsen_wang"])


@pytest.mark.slow
def test_three_states_at_criticality_are_learnt_and_validated(tmp_path: Path):
    """The preset: 8×8 at ln(1 + √3), an ESS of 0.98 after half a minute of training on one core."""
    run = Run.create(tmp_path / "run", load_config("potts-8x8", ["compute.threads=1"]))
    validation = complete(run)
    assert validation.passed
    assert validation.diagnostics["ess"] > 0.95
    assert validation.diagnostics["largest_weight_share"] < 1e-3
