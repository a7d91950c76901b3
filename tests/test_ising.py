"""The Ising model: the action against a naive sum, exact results against enumeration and known numbers."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latflow import exact
from latflow.fields import SPINS
from latflow.observables import bond_energy, entropy, specific_heat
from latflow.theories import HoppingPhi4, Ising, Phi4, ising_of

CRITICAL = 0.44068679
LATTICES = [(2,), (5,), (2, 2), (3, 4), (2, 5), (2, 3, 2), (3, 2, 4)]


def spins(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    unit = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.where(unit < 0.5, 1.0, -1.0).to(dtype)


def glass(lattice: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((len(lattice), *lattice))


def models(lattice: tuple[int, ...]) -> list[Ising]:
    return [
        Ising(lattice, 0.4),
        Ising(lattice, 0.4, field=-0.3),
        Ising(lattice, 0.7, field=0.2, couplings=glass(lattice)),
    ]


def naive(action: Ising, s: np.ndarray) -> float:
    """The sum over sites and directions, with neighbours by index arithmetic."""
    total = 0.0
    for x in np.ndindex(*s.shape):
        for mu in range(s.ndim):
            ahead = tuple(
                (c + (axis == mu)) % side for axis, (c, side) in enumerate(zip(x, s.shape, strict=True))
            )
            coupling = 1.0 if action.couplings is None else np.asarray(action.couplings)[(mu, *x)]
            total -= action.beta * coupling * s[x] * s[ahead]
        total -= action.field * s[x]
    return total


# --- the action -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", LATTICES)
def test_action_is_the_sum_over_bonds_and_sites(lattice):
    x = spins(3, *lattice)
    for action in models(lattice):
        expected = torch.tensor([naive(action, one.numpy()) for one in x], dtype=torch.float64)
        torch.testing.assert_close(action(x), expected)


def test_a_side_of_two_has_two_bonds_between_the_same_sites():
    assert Ising((2,), 1.0)(torch.tensor([[1.0, -1.0]])).item() == 2
    assert Ising((2, 2), 1.0)(torch.ones(1, 2, 2)).item() == -8


@pytest.mark.parametrize("lattice", LATTICES)
def test_local_field_is_what_a_flip_costs(lattice):
    x = spins(2, *lattice)
    for action in models(lattice):
        cost = 2 * x * action.local_field(x)
        for site in np.ndindex(*lattice):
            flipped = x.clone()
            flipped[(slice(None), *site)] *= -1
            torch.testing.assert_close(action(flipped) - action(x), cost[(slice(None), *site)])


@pytest.mark.parametrize("lattice", LATTICES)
def test_symmetries(lattice):
    x, (plain, in_field, _) = spins(3, *lattice), models(lattice)
    assert (plain.kind, plain.field_shape) == (SPINS, lattice)
    assert plain.z2_symmetric
    assert not in_field.z2_symmetric
    assert torch.equal(plain(-x), plain(x))
    assert not torch.equal(in_field(-x), in_field(x))
    assert Ising(lattice, 0.4, couplings=glass(lattice)).z2_symmetric


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 4])
def test_dtype_and_batch_are_kept(dtype, batch):
    x = spins(batch, 4, 6, dtype=dtype)
    for action in models((4, 6)):
        assert action(x).dtype == torch.float64
        assert action.local_field(x).dtype == dtype
        assert action(x).shape == (batch,)


def test_couplings_compare_hash_and_survive_a_file():
    values = glass((2, 3))
    a, b = Ising((2, 3), 0.4, couplings=values), Ising((2, 3), 0.4, couplings=torch.from_numpy(values))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Ising((2, 3), 0.4)
    assert Ising((2, 3), 0.4, couplings=json.loads(json.dumps(a.couplings))) == a
    assert Ising((2, 3), 0.4, couplings=np.ones((2, 2, 3)))(spins(2, 2, 3)).tolist() == pytest.approx(
        Ising((2, 3), 0.4)(spins(2, 2, 3)).tolist()
    )


@pytest.mark.parametrize("lattice", [(3, 4), (4,)])
def test_sums_and_multiples_are_ising_models(lattice):
    plain, in_field, glassy = models(lattice)
    x = spins(5, *lattice)
    for action in (plain, 0.5 * in_field, plain + glassy, 2.0 * (in_field + 0.3 * glassy)):
        torch.testing.assert_close(ising_of(action)(x), action(x))
    with pytest.raises(ValueError, match="expected an Ising model, got Phi4"):
        ising_of(Phi4((4, 4), 1.0, 0.5))


def test_wrong_arguments_are_refused():
    for lattice in ((1,), (4, 1)):
        with pytest.raises(ValueError, match="sides of at least 2"):
            Ising(lattice, 0.4)
    for couplings in (np.ones((1, 2, 3)), np.full((2, 2, 3), math.nan)):
        with pytest.raises(ValueError, match=r"finite couplings of shape \(2, 2, 3\)"):
            Ising((2, 3), 0.4, couplings=couplings)
    with pytest.raises(ValueError, match=r"lattice \(4, 6\), .* got one of shape \(2, 6, 4\)"):
        Ising((4, 6), 0.4)(torch.ones(2, 6, 4))


def test_spins_have_no_force():
    for action in (Ising((2, 2), 0.4), 2.0 * Ising((2, 2), 0.4)):
        with pytest.raises(ValueError, match=r"no force: .*reinforce_leave_one_out.* a sampler of its own"):
            action.force(torch.ones(1, 2, 2))


def test_strong_coupling_is_phi4_between_its_minima():
    """Independent of the code above: φ⁴ by hopping parameter at φ = ±1 is the Ising action plus V."""
    x = spins(4, 4, 6)
    torch.testing.assert_close(HoppingPhi4((4, 6), beta=0.4, lam=0.5)(x), Ising((4, 6), 0.4)(x) + 24)


# --- exact results --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "beta", "log_z"),
    [
        (4, 0.3, 12.78552332571),
        (8, 0.3, 50.60933049818),
        (4, CRITICAL, 15.52191537084),
        (8, CRITICAL, 60.14178045402),
    ],
)
def test_known_numbers(side, beta, log_z):
    assert exact.ising_log_z((side, side), beta) == pytest.approx(log_z, abs=1e-11)


@pytest.mark.parametrize(
    "lattice", [(2,), (3,), (8,), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (2, 5), (3, 5), (4, 4)]
)
@pytest.mark.parametrize("beta", [0.01, 0.3, CRITICAL, math.log(1 + math.sqrt(2)) / 2, 0.5, 1.5])
def test_closed_forms_are_the_enumeration(lattice, beta):
    """Odd sides, rectangles and the side of two bonds too."""
    counted, volume = exact.spins_enumerated(Ising(lattice, beta)), math.prod(lattice)
    assert exact.ising_log_z(lattice, beta) == pytest.approx(counted.log_z, rel=1e-13)
    assert exact.ising_energy(lattice, beta) * beta * volume == pytest.approx(counted.action, rel=1e-11)
    assert exact.ising_specific_heat(lattice, beta) * volume == pytest.approx(
        counted.action_variance, rel=1e-9
    )
    assert exact.ising_entropy(lattice, beta) == pytest.approx(counted.log_z + counted.action, rel=1e-11)
    distribution = exact.ising_magnetization(lattice, beta)
    assert distribution.probabilities.sum() == pytest.approx(1)
    assert distribution.mean_of(np.abs) == pytest.approx(counted.m_abs, rel=1e-12)
    assert distribution.mean_of(np.square) == pytest.approx(counted.m_squared, rel=1e-12)
    assert counted.m == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("lattice", [(5,), (3, 4)])
@pytest.mark.parametrize("field", [0.1, -0.7])
def test_magnetisation_in_a_field(lattice, field):
    counted = exact.spins_enumerated(Ising(lattice, 0.3, field))
    distribution = exact.ising_magnetization(lattice, 0.3, field)
    assert distribution.mean_of(np.positive) == pytest.approx(counted.m, rel=1e-12)
    assert float(distribution.values**4 @ distribution.probabilities) == pytest.approx(counted.m_fourth)


def test_enumeration_is_the_naive_sum():
    action = models((2, 3))[2]
    states = exact.spin_states((2, 3))
    assert len({tuple(one.flatten().tolist()) for one in states}) == 64
    assert torch.equal(states.flip(0), -states)
    s = np.array([naive(action, one.numpy()) for one in states])
    m = states.flatten(1).mean(1).numpy()
    p = np.exp(-s) / np.exp(-s).sum()
    counted = exact.spins_enumerated(action)
    expected = [
        np.log(np.exp(-s).sum()),
        p @ s,
        p @ s**2 - (p @ s) ** 2,
        p @ m,
        p @ abs(m),
        p @ m**2,
        p @ m**4,
    ]
    np.testing.assert_allclose(counted, expected, rtol=1e-12)


@pytest.mark.parametrize("lattice", [(6, 8), (16, 5), (64, 64), (10,)])
@pytest.mark.parametrize("beta", [0.2, CRITICAL, 0.8])
def test_energy_and_specific_heat_are_derivatives(lattice, beta):
    """Central differences: of log Z with an error of order step², of the energy likewise."""
    step, volume = 1e-4, math.prod(lattice)
    slope = (exact.ising_log_z(lattice, beta + step) - exact.ising_log_z(lattice, beta - step)) / (2 * step)
    assert -slope / volume == pytest.approx(exact.ising_energy(lattice, beta), abs=1e-5)
    bend = (exact.ising_energy(lattice, beta + step) - exact.ising_energy(lattice, beta - step)) / (2 * step)
    assert -bend * beta**2 == pytest.approx(exact.ising_specific_heat(lattice, beta), abs=1e-4)


def test_large_lattices_do_not_overflow_and_reach_the_infinite_one():
    critical = math.log(1 + math.sqrt(2)) / 2
    catalan = 0.915965594177219015
    per_site = exact.ising_log_z((300, 300), critical) / 300**2
    # Onsager's value; the torus adds a constant of order 1 to log Z, here 0.64
    assert per_site == pytest.approx(math.log(2) / 2 + 2 * catalan / math.pi, abs=1e-5)
    assert exact.ising_energy((300, 300), critical) == pytest.approx(-math.sqrt(2), abs=3e-3)
    assert exact.ising_log_z((300, 300), 4.0) == pytest.approx(2 * 300**2 * 4.0 + math.log(2), rel=1e-12)
    # log Z = V log 2 + V K² + O(K⁴)
    assert exact.ising_log_z((300, 300), 1e-5) == pytest.approx(300**2 * (math.log(2) + 1e-10), rel=1e-13)


def test_only_known_lattices_and_couplings_are_solved():
    for lattice in ((2, 2, 2), (1, 4)):
        with pytest.raises(ValueError, match="one or two sides of at least 2"):
            exact.ising_log_z(lattice, 0.3)
    for beta in (0.0, -0.1, math.inf):
        with pytest.raises(ValueError, match="positive, finite beta"):
            exact.ising_energy((4, 4), beta)
    with pytest.raises(ValueError, match="shorter side of at most 10"):
        exact.ising_magnetization((11, 12), 0.3)
    with pytest.raises(ValueError, match="at most 24 sites"):
        exact.spins_enumerated(Ising((5, 5), 0.3))


# --- observables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [(4,), (2, 3), (2, 2, 2)])
def test_observables_follow_from_the_action(lattice):
    action, volume = Ising(lattice, 0.35), math.prod(lattice)
    states = exact.spin_states(lattice)
    counted = exact.spins_enumerated(action)
    torch.testing.assert_close(action.beta * volume * bond_energy(states), action(states))
    p = torch.exp(-action(states) - counted.log_z)
    second = float((p * action(states) ** 2).sum())
    found = specific_heat(counted.action, second, volume)
    assert found == pytest.approx(counted.action_variance / volume)
    assert entropy(counted.log_z, counted.action) == pytest.approx(float(-(p * p.log()).sum()))
    if len(lattice) < 3:
        assert found == pytest.approx(exact.ising_specific_heat(lattice, 0.35))
        assert exact.ising_energy(lattice, 0.35) == pytest.approx(float((p * bond_energy(states)).sum()))
    assert bond_energy(states.float()).dtype == torch.float32
