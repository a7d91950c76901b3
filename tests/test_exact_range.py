"""Exact results over the whole range of couplings: finite, on their asymptotes, or refused in words."""

import itertools
import math

import numpy as np
import pytest

from cases import thinned
from latflow import exact
from latflow.theories import XY, Ising, Phi4, Potts

COUPLINGS = [10.0**n for n in range(-8, 7)]
LATTICES = [(2, 2), (2, 3), (4, 6), (16, 7), (64, 64)]


@pytest.mark.parametrize("lattice", thinned([*LATTICES, (2,), (5,), (64,)], 3))
def test_ising_over_all_couplings(lattice):
    """Weak coupling: log Z = V log 2 + dVK²/2. Strong: of all aligned, with the first excitation above."""
    sites, bonds = math.prod(lattice), len(lattice) * math.prod(lattice)
    paired = sum(side == 2 for side in lattice)  # there two bonds join two sites, and squares of sums count
    energies = []
    for beta in COUPLINGS:
        log_z, energy = exact.ising_log_z(lattice, beta), exact.ising_energy(lattice, beta)
        heat, entropy = exact.ising_specific_heat(lattice, beta), exact.ising_entropy(lattice, beta)
        energies.append(energy)
        assert heat >= 0
        assert entropy == pytest.approx(log_z + beta * sites * energy, abs=1e-9 * (1 + beta * sites))
        assert math.log(2) - 1e-12 <= entropy <= sites * math.log(2) * (1 + 1e-12)
        if beta <= 1e-4 and 3 not in lattice:
            slope = (len(lattice) + paired) * beta  # each pair of bonds counts four times a single one
            assert energy == pytest.approx(-slope, rel=1e-3)
            assert heat == pytest.approx(beta * slope, rel=1e-3)
        if beta >= 10:
            assert log_z == pytest.approx(beta * bonds + math.log(2), rel=1e-14)
            assert entropy == pytest.approx(math.log(2), rel=1e-12)
    assert all(one >= other for one, other in itertools.pairwise(energies))


def test_ising_known_numbers_at_strong_coupling():
    """A flipped spin costs 8K: V⁻¹ ∂² log Z/∂K² = 64 exp(−8K), and 256 exp(−12K)·… for two neighbours."""
    assert exact.ising_log_z((64, 64), 300.0) == pytest.approx(2457600.693147, abs=1e-6)
    for lattice in ((8, 8), (64, 64)):
        for beta in (6.0, 10.0, 30.0):
            expected = beta**2 * (64 * math.exp(-8 * beta) + 288 * math.exp(-12 * beta))
            assert exact.ising_specific_heat(lattice, beta) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("beta", [1e-8, 0.3, 3.0, 100.0, 1e6])
@pytest.mark.parametrize("field", [0.0, 0.5, -30.0, 1e5])
def test_magnetization_in_any_field_is_that_of_all_states(beta, field):
    found = exact.ising_magnetization((2, 4), beta, field)
    assert found.probabilities.sum() == pytest.approx(1)
    expected = exact.spins_enumerated(Ising((2, 4), beta, field))
    assert found.values @ found.probabilities == pytest.approx(expected.m, abs=1e-12)
    assert found.mean_of(np.square) == pytest.approx(expected.m_squared, abs=1e-12)


@pytest.mark.parametrize("beta", [-1e6, -50.0, 1e-8, 50.0, 1e6])
def test_mutual_information_between_none_and_one_bit(beta):
    for rows in (1, 2):
        found = exact.ising_mutual_information((4, 4), beta, rows)
        assert found == pytest.approx(math.log(2) if abs(beta) >= 50 else 0, abs=1e-9)


@pytest.mark.parametrize("lattice", thinned(LATTICES, 2))
def test_u1_over_all_couplings(lattice):
    """⟨cos P⟩ → β/2 and → 1 − (V − 1)/(2Vβ); ⟨Q²⟩ → V/12 of free plaquettes and → 0."""
    sites = math.prod(lattice)
    plaquettes = [exact.u1_plaquette(lattice, beta) for beta in COUPLINGS]
    charges = [exact.u1_charge_squared(lattice, beta) for beta in COUPLINGS]
    assert all(one < other for one, other in itertools.pairwise(plaquettes))
    assert all(one >= other - 1e-14 * sites for one, other in itertools.pairwise(charges))
    assert min(charges) >= 0
    assert plaquettes[0] == pytest.approx(0.5e-8, rel=1e-6)
    assert charges[0] == pytest.approx(sites / 12, rel=1e-6)
    for beta, plaquette in zip(COUPLINGS[-3:], plaquettes[-3:], strict=True):
        assert 1 - plaquette == pytest.approx((sites - 1) / (2 * sites * beta), rel=1e-3)
    most = min(sites, 150)  # eight standard deviations
    for beta in (0.0, 1e-8, 1.0, 1e3, 1e6):
        shares = exact.u1_charge_distribution(lattice, beta, np.arange(-most, most + 1))
        assert shares.sum() == pytest.approx(1, abs=1e-8)
        assert math.isfinite(exact.u1_log_z(lattice, beta))


@pytest.mark.parametrize("length", [2, 5, 64])
def test_xy_ring_over_all_couplings(length):
    """Strong coupling: spin waves, ⟨E⟩/V = −1 + (L − 1)/(2Lβ) and Υ → 1."""
    energies = [exact.xy_ring_energy(length, beta) for beta in COUPLINGS]
    assert all(one > other for one, other in itertools.pairwise(energies))
    for beta, energy in zip(COUPLINGS, energies, strict=True):
        assert math.isfinite(exact.xy_ring_log_z(length, beta))
        assert np.isfinite(exact.xy_ring_correlator(length, beta)).all()
        assert 0 <= exact.xy_ring_helicity(length, beta) <= 1
        if beta >= 1e4:
            assert energy + 1 == pytest.approx((length - 1) / (2 * length * beta), rel=1e-3)
            assert exact.xy_ring_helicity(length, beta) == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="β > 0"):
        exact.xy_ring_helicity(length, 0.0)


@pytest.mark.parametrize("beta", COUPLINGS)
def test_xy_quadrature_and_torus_are_right_or_refused(beta):
    """On 2×2 the spin waves give ⟨E⟩/V = −2 + 3/(8β) at strong coupling."""
    try:
        torus = exact.xy_torus((2, 2), beta)
    except ValueError as error:
        assert beta >= 100 and "too wide" in str(error)  # noqa: PT017, PT018
    else:
        assert torus.error < 1e-6
        assert -2 <= torus.energy <= 0
    try:
        averages = exact.xy_averages(XY((2, 2), beta))
    except ValueError as error:
        assert beta >= 10 and "do not resolve" in str(error)  # noqa: PT017, PT018
    else:
        assert averages.log_z == pytest.approx(exact.xy_torus((2, 2), beta).log_z, abs=1e-7)


@pytest.mark.parametrize("q", [2, 3, 7])
@pytest.mark.parametrize("beta", [-1e6, -50.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 50.0, 1e6])
def test_potts_rings_and_tori_are_the_sum_over_states_at_any_coupling(q, beta):
    for lattice in ((3,), (4,), (2, 2), (2, 3)) if q < 7 else ((3,), (4,)):
        summed = exact.potts_enumerated(Potts(lattice, q=q, beta=beta))
        found = [exact.potts_ring(lattice[0], q, beta)] if len(lattice) == 1 else []
        try:
            found.append(exact.potts_torus(lattice, q, beta))
        except ValueError as error:
            assert beta < -40 and "smaller |β|" in str(error)  # noqa: PT017, PT018
        for one in found:
            assert one.log_z == pytest.approx(summed.log_z, rel=1e-13)
            assert one.action == pytest.approx(summed.action, rel=1e-12, abs=1e-15)
            assert one.action_variance >= 0
            assert one.action_variance == pytest.approx(summed.action_variance, rel=1e-9, abs=1e-10)
            assert one.energy == pytest.approx(summed.energy, rel=1e-12, abs=1e-15)
            assert one.order_squared == pytest.approx(summed.order_squared, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("lattice", [(1,), (6,), (4, 6), (64, 64), (2, 3, 4)])
@pytest.mark.parametrize("m2", COUPLINGS)
def test_free_field_over_all_masses(lattice, m2):
    correlator = exact.free_field_two_point(lattice, m2)
    assert (correlator > 0).all() or correlator.min() == 0  # no number below 10⁻³⁰⁸
    assert (np.diff(correlator) <= 0).all()
    whole = 2 * correlator[1 : (lattice[0] + 1) // 2].sum() + correlator[0]
    whole += correlator[-1] if lattice[0] % 2 == 0 else 0
    assert whole == pytest.approx(exact.free_field_zero_mode(m2), rel=1e-12)
    assert exact.free_field_phi_squared(lattice, m2) > 0
    assert math.isfinite(exact.free_field_log_z(lattice, m2))


@pytest.mark.parametrize("lattice", [(1,), (6,), (2, 3)])
def test_phi4_by_transfer_matrix_holds_its_error_or_refuses(lattice):
    """Known: the free field; and deep wells, ±√(−m²/2λ), in which the field is free with the mass −2m²."""
    for m2 in COUPLINGS:
        try:
            (log_z, error), (squared, error_squared) = (
                function(lattice, m2, 0.0) for function in (exact.phi4_log_z, exact.phi4_phi_squared)
            )
        except ValueError as refused:
            assert m2 <= 0.1 and "expected" in str(refused)  # noqa: PT017, PT018
            continue
        assert abs(log_z - exact.free_field_log_z(lattice, m2)) <= error + 1e-11
        assert abs(squared - exact.free_field_phi_squared(lattice, m2)) <= error_squared + 1e-13
    for m2, lam in ((-1e4, 1.0), (-1e6, 1.0), (-1.0, 1e-8), (-1e4, 1e-3), (-1e6, 1e3)):
        depth, sites = m2**2 / (4 * lam), math.prod(lattice)
        log_z, error = exact.phi4_log_z(lattice, m2, lam)
        expected = math.log(2) + sites * depth + exact.free_field_log_z(lattice, -2 * m2)
        # the first correction is of the order of the inverse depth
        assert abs(log_z - expected) < error + sites / depth + 1e-15 * sites * depth
        squared = exact.phi4_phi_squared(lattice, m2, lam).value
        fluctuation = exact.free_field_phi_squared(lattice, -2 * m2)
        assert squared == pytest.approx(-m2 / (2 * lam) - 2 * fluctuation, rel=1e-6 + 10 / depth)
    for lam in (1e-2, 1.0, 1e6, 1e300):
        z, _ = exact.phi4_log_z((1,), 0.0, lam)
        assert z == pytest.approx(math.log(2 * math.gamma(1.25)) - math.log(lam) / 4, abs=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    for use in (
        lambda: exact.phi4_log_z((4,), bad, 1.0),
        lambda: exact.phi4_log_z((4,), 1.0, bad),
        lambda: exact.phi4_log_z((4,), -1e200, 1e-200),
        lambda: exact.free_field_log_z((4,), bad),
        lambda: exact.free_field_zero_mode(bad),
        lambda: exact.ising_log_z((4,), bad),
        lambda: exact.ising_magnetization((4,), 1.0, bad),
        lambda: exact.ising_mutual_information((4, 4), bad, 1),
        lambda: exact.u1_log_z((4, 4), bad),
        lambda: exact.xy_ring_log_z(4, bad),
        lambda: exact.xy_torus((2, 2), bad),
        lambda: exact.potts_ring(4, 3, bad),
        lambda: exact.potts_torus((2, 2), 3, bad),
        lambda: exact.free_fermion_log_det((4, 4), bad),
        lambda: exact.toy_kl(bad, 1.0),
        lambda: exact.toy_variance(1.0, bad, 5),
    ):
        with pytest.raises(ValueError, match=r"expected|needs"):
            use()


def test_kl_of_the_toy_model_keeps_its_digits():
    """r²/2 + r³/3 for small r = (θ − λ)/θ, and log θ/λ − 1 for θ ≫ λ."""
    assert exact.toy_kl(1.0, 1.0 - 2.0**-30) == pytest.approx(2.0**-61, rel=1e-8)
    assert exact.toy_kl(1e300, 1e-3) == pytest.approx(303 * math.log(10) - 1, rel=1e-14)


def test_what_is_refused_is_no_known_number():
    for theory in (Phi4((6,), m2=0.0, lam=1e-8), XY((2, 2), 1.0, field=1e3), Potts((3, 3), q=2, beta=-1e3)):
        assert all(math.isfinite(number.value) for number in theory.known().values())
