"""What theories know of themselves, number by number."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from latflow import exact
from latflow.fields.gauge import loops_of_potential
from latflow.links import holonomies
from latflow.observables import topological_charge
from latflow.theories import XY, HoppingPhi4, Ising, Potts, Schwinger, U1Gauge
from latflow.theories.phi4.free_field import free_field_lowest_mode
from latflow.theories.phi4.solution import _converged
from latflow.theories.sites import SpinWeight
from latflow.theories.u1.draws import PureGauge
from latflow.theories.xy.updates import XYWolff


def test_errors_follow_the_parametrisation():
    """φ = c φ′: averages of squares, their errors and correlators are divided by c²; log Z is shifted."""
    hopping = HoppingPhi4((4,), beta=0.6, lam=0.3)
    same, c = hopping.to_phi4()
    one, other = hopping.known(), same.known()
    assert other["phi_squared"].error > 0
    assert one["phi_squared"].value == pytest.approx(other["phi_squared"].value / c**2)
    assert one["phi_squared"].error == pytest.approx(other["phi_squared"].error / c**2)
    assert one["log_z"].value == pytest.approx(other["log_z"].value - 4 * math.log(c) - 4 * 0.3)
    free = HoppingPhi4((4, 4), beta=0.4, lam=0.0)
    flat, c = free.to_phi4()
    mine, its = free.known_series("two_point"), flat.known_series("two_point")
    assert mine is not None
    assert its is not None
    np.testing.assert_allclose(mine, its / c**2)


def test_the_lowest_mode_is_that_of_the_longest_side():
    """½/(k̂² + m²) at k = 2π/8, the smallest momentum of 4 × 8."""
    expected = 0.5 / (4 * math.sin(math.pi / 8) ** 2 + 1.5)
    assert (
        free_field_lowest_mode((4, 8), 1.5) == free_field_lowest_mode((8, 4), 1.5) == pytest.approx(expected)
    )


def test_the_error_of_a_quadrature_has_its_tail():
    """The last change, or a fifth of it where it has become a hundred times smaller, and what is missing."""
    assert _converged([1.0, 2.0], 0.0).error == math.inf
    assert _converged([0.0, 1.0, 1.5], 0.25).error == pytest.approx(0.75)
    assert _converged([0.0, 1.0, 1.001], 0.25).error == pytest.approx(0.2502)


def test_potentials_and_tensions_are_logarithms_of_loops():
    """V(r) = log W(r, t)/W(r, t + 1), and V(r + 1) − V(r)."""
    action = U1Gauge((8, 8), 2.0)
    known = action.known()
    (short, long), distances = loops_of_potential((8, 8))
    potential = {
        r: math.log(
            exact.u1_wilson_loop((8, 8), 2.0, r * short) / exact.u1_wilson_loop((8, 8), 2.0, r * long)
        )
        for r in distances
    }
    for r, value in potential.items():
        assert known[f"potential_{r}"].value == pytest.approx(value)
        assert value > 0
        if r + 1 in potential:
            assert known[f"string_tension_{r}"].value == pytest.approx(potential[r + 1] - value)


def test_exact_draws_wind_by_any_angle():
    """The holonomies of 400 draws fill the circle: the mean of exp(iθ) has an error of 1/√400 a component."""
    links, _ = PureGauge((2, 2), 1.0).sample(400, Generator().manual_seed(1))
    around = holonomies(links)
    for angles in around.unbind(1):
        assert abs(float(angles.cos().mean())) < 5 / math.sqrt(800)
        assert abs(float(angles.sin().mean())) < 5 / math.sqrt(800)
    assert topological_charge(links).shape == (400,)


@pytest.mark.parametrize(
    ("kappa", "sign"), [((0.1, 0.1), False), ((0.1, 0.2), True), ((0.1, 0.1, 0.2), True)]
)
def test_an_odd_number_of_any_flavour_has_a_sign(kappa, sign):
    assert Schwinger((4, 4), 1.0, kappa).reweighting == ("sign" if sign else None)


def test_magnetisations_have_their_own_probability():
    """In a field h all spins up are by exp(2 h V) more probable than all down."""
    action = Ising((6, 4), 0.2, field=0.3)
    found = action.probability("magnetization", np.array([1.0, -1.0]))
    assert found is not None
    up, down = found
    assert up / down == pytest.approx(math.exp(2 * 0.3 * 24))


def test_clusters_of_angles_are_reflected():
    """Each angle that moves goes to π + 2α − θ, α the axis of its chain: the first numbers that are drawn."""
    x = torch.full((200, 2, 2), 0.5, dtype=torch.float64)
    sampler = XYWolff(XY((2, 2), 5.0))
    state, _ = sampler.step(sampler.init(x), Generator().manual_seed(1))
    axis = 2 * math.pi * torch.rand((2, 200, 1), generator=Generator().manual_seed(1), dtype=torch.float64)[0]
    expected = (math.pi + 2 * axis - 0.5)[:, :, None].expand_as(x)
    moved = (state.x - x).abs() > 1e-9
    assert moved.flatten(1).any(1).double().mean() > 0.9  # a cluster has one site at least
    assert torch.allclose(torch.cos(state.x - expected)[moved], torch.ones(()).double())


@pytest.mark.parametrize("field", [0.0, 0.4])
def test_log_z_of_a_spin(field):
    """log 2 cosh(h + field)."""
    h = torch.tensor([-0.7, 0.0, 1.3], dtype=torch.float64)
    assert torch.allclose(SpinWeight(field).log_partition(h), torch.log(2 * torch.cosh(h + field)))


def test_the_helicity_modulus_of_one_configuration():
    """V⁻¹ [Σ cos ∂θ − β (Σ sin ∂θ)²] along each direction, site by site."""
    x = torch.rand(1, 2, 3, generator=Generator().manual_seed(1), dtype=torch.float64)
    action = XY((2, 3), 0.7)
    for direction in (0, 1):
        cosine = sine = 0.0
        for i in range(2):
            for j in range(3):
                to = ((i + 1) % 2, j) if direction == 0 else (i, (j + 1) % 3)
                step = float(x[0, i, j] - x[0, to[0], to[1]])
                cosine, sine = cosine + math.cos(step), sine + math.sin(step)
        found = float(action.helicity_modulus(direction)(x))
        assert found == pytest.approx((cosine - 0.7 * sine**2) / 6)
    twisted = torch.tensor([[0.0, 0.3, 1.1]], dtype=torch.float64)
    steps = twisted - twisted.roll(-1, 1)
    expected = (steps.cos().sum() - 0.7 * (steps.sin().sum()) ** 2) / 3
    assert float(XY((3,), 0.7).helicity_modulus(0)(twisted)) == pytest.approx(float(expected))


def test_the_helicity_of_a_ring_of_three():
    """The average of the modulus over two angles, the third being held: 48 nodes each are exact here."""
    beta, nodes = 0.7, 2 * math.pi * torch.arange(48, dtype=torch.float64) / 48
    x = torch.cartesian_prod(torch.zeros(1, dtype=torch.float64), nodes, nodes)
    action = XY((3,), beta)
    weight = torch.exp(-action(x))
    expected = float((weight * action.helicity_modulus(0)(x)).sum() / weight.sum())
    assert exact.xy_ring_helicity(3, beta) == pytest.approx(expected)


def test_fluctuations_of_four_spins_and_states():
    """Var S/V, and V (⟨m²⟩ − ⟨m⟩²) with m = (q max n − 1)/(q − 1), summed over all configurations."""
    ising = Ising((2, 2), 0.4, field=0.1)
    states = exact.spin_states((2, 2))
    s = ising(states)
    p = torch.softmax(-s, 0)
    variance = float((p * s**2).sum() - (p * s).sum() ** 2)
    assert ising.known()["specific_heat"].value == pytest.approx(variance / 4)
    potts = Potts((2, 2), 3, 0.6)
    states = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    p = torch.softmax(-potts(states), 0)
    largest = torch.nn.functional.one_hot(states.flatten(1), 3).double().mean(1).amax(1)
    m = (3 * largest - 1) / 2
    expected = 4 * float((p * m**2).sum() - (p * m).sum() ** 2)
    assert potts.known()["susceptibility"].value == pytest.approx(expected)
