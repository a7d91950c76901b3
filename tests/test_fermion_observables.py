"""Observables of Wilson fermions: the dense inverse, the free closed forms, and symmetries."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latflow import exact, observables, wilson
from latflow.densities.flows import SectorLinks
from latflow.errors import ConvergenceError
from latflow.samplers import HMC, constant_flux, run
from latflow.theories import Schwinger, U1Gauge, WilsonFermions, gauge_transformed
from latflow.wilson import escalation, propagator
from latflow.wilson.linear_algebra import inverse

KAPPA = 0.276
BOUNDARIES = ("antiperiodic", "periodic")
LATTICES = ((3, 3), (4, 4), (4, 6), (6, 4), (5, 5), (7, 4), (3, 8), (8, 3))


def random_links(lattice: tuple[int, int], batch: int = 3, seed: int = 17) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * math.pi * (torch.rand(batch, 2, *lattice, generator=generator, dtype=torch.float64) - 0.5)


def dense_norms(links: Tensor, kappa: float, boundary: str) -> Tensor:
    """Σ |D⁻¹(t', x, s'; t, y, s)|² over x, y and spins, (batch, t', t), by the whole inverse."""
    l0, l1 = links.shape[2:]
    propagator = inverse(wilson.dense(links, kappa, boundary))
    return propagator.abs().square().view(len(links), l0, 2 * l1, l0, 2 * l1).sum((2, 4))


def dense_correlator(links: Tensor, kappa: float, boundary: str, sources: list[int]) -> Tensor:
    """The correlator one time difference at a time, t and L0 − t together."""
    l0, l1 = links.shape[2:]
    norms = dense_norms(links, kappa, boundary)
    both = [[norms[:, (t0 + s) % l0, t0] for t0 in sources for s in (t, l0 - t)] for t in range(l0 // 2 + 1)]
    return torch.stack([torch.stack(one).mean(0) for one in both], 1) / l1


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_the_correlator_is_that_of_the_dense_inverse(lattice, boundary):
    links = random_links(lattice)
    for sources, slices in ((1, [0]), (2, [0, lattice[0] // 2]), (lattice[0], list(range(lattice[0])))):
        correlator = observables.pion_correlator(links, KAPPA, boundary, sources)
        expected = dense_correlator(links, KAPPA, boundary, slices)
        torch.testing.assert_close(correlator, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("source", [0, 3, 4])
def test_every_slice_is_a_source(source):
    links = random_links((5, 4))
    norms = wilson.slice_norms(links, KAPPA, source=source)
    expected = dense_norms(links, KAPPA, "antiperiodic")[:, :, source].roll(-source, 1)
    torch.testing.assert_close(norms, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kappa", [0.1, 0.276, 0.6])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", [(3, 3), (4, 6), (7, 4), (3, 8)])
def test_propagators_from_a_slice_are_columns_of_the_dense_inverse(lattice, boundary, kappa):
    links = random_links(lattice)
    whole = inverse(wilson.dense(links, kappa, boundary)).view(3, *lattice, 2, *lattice, 2)
    for source in (0, lattice[0] - 1):
        columns = wilson.slice_propagator(links, kappa, boundary, source)
        expected = whole[:, :, :, :, source].roll(-source, 1)
        torch.testing.assert_close(columns, expected, rtol=0, atol=1e-11)


def test_the_pion_of_one_mass_is_a_mixed_one():
    links = random_links((6, 4))
    mixed = observables.pion_correlator(links, (KAPPA, KAPPA * (1 + 1e-13)), sources=2)
    torch.testing.assert_close(mixed, observables.pion_correlator(links, KAPPA, sources=2))
    one, other = observables.pion_correlators(links, [(0.2, KAPPA), (KAPPA, 0.2)], sources=3)
    torch.testing.assert_close(one, other)


# --- the flavour singlet ----------------------------------------------------------------------------


def dense_loops(links: Tensor, kappa: float, boundary: str) -> Tensor:
    """Σ_x tr γ5 D⁻¹(t, x; t, x), complex."""
    propagator = inverse(wilson.dense(links, kappa, boundary))
    diagonal = propagator.diagonal(dim1=1, dim2=2).unflatten(1, (*links.shape[2:], 2))
    return (diagonal[..., 0] - diagonal[..., 1]).sum(2)


@pytest.mark.parametrize("kappa", [0.1, KAPPA, 0.6])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_traces_of_slices_are_those_of_the_dense_inverse(lattice, boundary, kappa):
    links = random_links(lattice)
    found, expected = wilson.slice_traces(links, kappa, boundary), dense_loops(links, kappa, boundary)
    torch.testing.assert_close(found, expected.real, rtol=1e-10, atol=1e-10)
    assert expected.imag.abs().max() < 1e-9


def test_results_have_the_precision_of_the_links_where_some_took_more(monkeypatch):
    links, asked = random_links((4, 4)).float(), []

    def with_escalation(*arguments, **ways):
        results, singular = escalation.with_escalation(*arguments, **ways)
        asked.append(arguments)
        more = {torch.float32: torch.float64, torch.complex64: torch.complex128}
        return tuple(result.to(more[result.dtype]) for result in results), singular

    monkeypatch.setattr(propagator, "with_escalation", with_escalation)
    for function, dtype in (
        (wilson.slice_traces, torch.float32),
        (wilson.slice_norms, torch.float32),
        (propagator.slice_propagator, torch.complex64),
    ):
        assert function(links, KAPPA).dtype == dtype
    assert len(asked) == 3


@pytest.mark.parametrize("kappas", [(KAPPA, KAPPA), (0.2,), (0.2, KAPPA, 0.2)])
def test_the_singlet_is_what_wicks_theorem_says(kappas):
    """Term by term: −tr γ5 S(x,y) γ5 S(y,x) and tr γ5 S(x,x) tr γ5 S(y,y), times the sign of P† = −P."""
    lattice, links = (5, 4), random_links((5, 4), 2)
    gamma = torch.tensor([1.0, -1.0], dtype=torch.complex128)
    total = torch.zeros(2, 5, dtype=torch.complex128)
    s = [inverse(wilson.dense(links, k)).view(2, *lattice, 2, *lattice, 2) for k in kappas]
    for i, one in enumerate(s):
        for j, other in enumerate(s):
            for t0 in range(5):
                for t in range(5):
                    t1 = (t0 + t) % 5
                    if i == j:
                        there, back = one[:, t1, :, :, t0], one[:, t0, :, :, t1]
                        total[:, t] += torch.einsum("a,bxayc,c,bycxa->b", gamma, there, gamma, back)
                    ends = [
                        torch.einsum("a,bxaxa->b", gamma, which[:, at, :, :, at])
                        for which, at in ((one, t1), (other, t0))
                    ]
                    total[:, t] -= ends[0] * ends[1]
    expected = total.real / (5 * 4 * len(kappas))
    found = observables.singlet_correlator(links, kappas, sources=5)
    torch.testing.assert_close(found, expected[:, :3], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(expected[:, 1], expected[:, 4])


def test_free_quarks_have_no_loops_and_their_singlet_is_a_pion():
    links = torch.zeros(1, 2, 8, 5, dtype=torch.float64)
    assert wilson.slice_traces(links, KAPPA).abs().max() < 1e-12
    singlet = observables.singlet_correlator(links, (KAPPA, KAPPA))[0].numpy()
    np.testing.assert_allclose(singlet, exact.free_fermion_pion_correlator((8, 5), KAPPA), rtol=1e-11)


def test_the_loops_of_one_instanton_know_its_charge():
    """Parity turns the sign of Q and of the loops, and a chirality belongs to a charge."""
    links = constant_flux((6, 6), 1)[None]
    loops = wilson.slice_traces(links, 0.25).sum(1)
    torch.testing.assert_close(wilson.slice_traces(-links, 0.25).sum(1), -loops)
    assert abs(loops.item()) > 1


@pytest.mark.parametrize("kappa", [0.1, 0.45, 0.6])
def test_slices_at_other_hopping_parameters(kappa):
    links = random_links((5, 4))
    expected = dense_norms(links, kappa, "periodic")[:, :, 2].roll(-2, 1)
    torch.testing.assert_close(wilson.slice_norms(links, kappa, "periodic", 2), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_free_fermions(lattice, boundary):
    links = torch.zeros(1, 2, *lattice, dtype=torch.float64)
    log_det, sign, condensate = wilson.determinant_and_condensate(links, KAPPA, boundary)
    assert sign.item() == 1
    assert log_det.item() == pytest.approx(exact.free_fermion_log_det(lattice, KAPPA, boundary), abs=1e-11)
    assert condensate.item() == pytest.approx(
        exact.free_fermion_condensate(lattice, KAPPA, boundary), abs=1e-11
    )
    correlator = observables.pion_correlator(links, KAPPA, boundary)[0].numpy()
    expected = exact.free_fermion_pion_correlator(lattice, KAPPA, boundary)
    np.testing.assert_allclose(correlator, expected, rtol=1e-11)


def test_the_known_free_numbers():
    assert exact.free_fermion_log_det((4, 4), KAPPA) == pytest.approx(2.2491731772390, abs=1e-12)
    assert exact.free_fermion_log_det((8, 8), KAPPA) == pytest.approx(8.3782649360373, abs=1e-12)
    assert exact.free_fermion_condensate((4, 4), KAPPA) == pytest.approx(1.313476862141, abs=1e-12)


def test_free_fermions_refuse_a_zero_mode_and_a_boundary():
    with pytest.raises(ValueError, match="zero mode"):
        exact.free_fermion_log_det((4, 4), 0.25, "periodic")
    with pytest.raises((ValueError, TypeError), match="boundary"):
        exact.free_fermion_condensate((4, 4), KAPPA, "twisted")


def test_free_quarks_make_a_pion_of_twice_their_energy():
    """On a long lattice C(t) falls as exp(−2Et) where exp(E) = 1 + m, m = 1/(2κ) − 2."""
    kappa = 0.2
    correlator = exact.free_fermion_pion_correlator((64, 3), kappa)
    mass = observables.effective_mass(correlator)[-2]
    energy = math.log1p(1 / (2 * kappa) - 2)
    assert mass == pytest.approx(2 * energy, rel=1e-3)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_observables_are_gauge_invariant_and_charge_conjugation_changes_nothing(boundary):
    links, angles = random_links((5, 6)), random_links((5, 6), seed=3)[:, 0]
    functions = (
        observables.chiral_condensate,
        observables.determinant_sign,
        observables.pion_correlator,
        lambda x, kappa, boundary: observables.singlet_correlator(x, (kappa, kappa), boundary),
    )
    for function in functions:
        before = function(links, KAPPA, boundary)
        for after in (gauge_transformed(links, angles), -links):
            torch.testing.assert_close(function(after, KAPPA, boundary), before, rtol=1e-11, atol=0)


def test_translations_change_neither_condensate_nor_the_mean_over_all_sources():
    links = random_links((6, 5))
    moved = links.roll((2, 1), (2, 3))
    correlator, other = (observables.pion_correlator(x, KAPPA, "periodic", 6) for x in (links, moved))
    torch.testing.assert_close(correlator, other, rtol=1e-11, atol=0)
    condensates = [observables.chiral_condensate(x, KAPPA, "periodic") for x in (links, moved)]
    torch.testing.assert_close(*condensates, rtol=1e-11, atol=0)


def test_single_precision():
    links = random_links((8, 6))
    for function in (observables.chiral_condensate, observables.pion_correlator):
        single = function(links.float(), KAPPA)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), function(links, KAPPA), rtol=2e-4, atol=0)


def test_no_graph_is_kept():
    links = random_links((4, 4)).requires_grad_()
    for function in (
        observables.chiral_condensate,
        observables.determinant_sign,
        observables.pion_correlator,
    ):
        assert not function(links, KAPPA).requires_grad


@pytest.mark.parametrize("sources", [0, 5])
def test_a_wrong_number_of_sources(sources):
    with pytest.raises(ValueError, match="expected 1 to 4 sources"):
        observables.pion_correlator(random_links((4, 4)), KAPPA, sources=sources)


def test_a_source_beyond_the_lattice():
    with pytest.raises(ValueError, match="expected a source from 0 to 3, got 4"):
        wilson.slice_norms(random_links((4, 4)), KAPPA, source=4)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_fermions_are_recorded(boundary):
    links, kappa = random_links((6, 4)), 0.26
    action = 2.0 * (U1Gauge((6, 4), 2.0) + 0.5 * WilsonFermions((6, 4), kappa, boundary=boundary))
    record = observables.recorded(action)(links)
    names = {"action", "plaquette", "topological_charge", "sine_charge", "polyakov", "wilson_loops"}
    names |= {"condensate", "sign", "pion", "singlet"}
    assert set(record) == names
    torch.testing.assert_close(record["condensate"], observables.chiral_condensate(links, kappa, boundary))
    torch.testing.assert_close(record["sign"], observables.determinant_sign(links, kappa, boundary))
    torch.testing.assert_close(record["pion"], observables.pion_correlator(links, kappa, boundary))
    singlet = observables.singlet_correlator(links, (kappa, kappa), boundary)
    torch.testing.assert_close(record["singlet"], singlet)
    assert "pion" not in observables.recorded(U1Gauge((6, 4), 2.0))(links)


def test_a_chain_of_the_schwinger_model_records_fermions():
    lattice, steps, chains = (6, 4), 3, 2
    hmc = HMC.of_length(Schwinger(lattice, 2.0, KAPPA), 1.0, 5)
    generator = torch.Generator().manual_seed(1)
    record = observables.recorded(hmc.action)
    chain = run(hmc, hmc.init(random_links(lattice, chains)), steps, record, generator)
    assert chain.series["condensate"].shape == chain.series["sign"].shape == (steps, chains)
    assert chain.series["pion"].shape == (steps, chains, 4)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", [(4, 4), (5, 3)])
def test_the_spectrum(lattice, boundary):
    links = random_links(lattice)
    volume = math.prod(lattice)
    values = wilson.spectrum(links, KAPPA, boundary)
    log_det, _, condensate = wilson.determinant_and_condensate(links, KAPPA, boundary)
    torch.testing.assert_close(values.abs().log().sum(1), log_det, rtol=0, atol=1e-11)
    torch.testing.assert_close((1 / values).sum(1).real / volume, condensate, rtol=1e-11, atol=0)
    assert values.shape == (3, 2 * volume)
    for one in values:
        # pairs λ, λ*, and with even sides λ, 2 − λ
        for image in (one.conj(), 2 - one) if lattice == (4, 4) else (one.conj(),):
            assert (one[:, None] - image).abs().amin(0).max() < 1e-10


def test_negative_real_eigenvalues_decide_the_sign():
    # random links at κ = 0.45 have both signs
    links = random_links((4, 5), 16)
    values = wilson.spectrum(links, 0.45)
    negative = ((values.imag.abs() < 1e-9) & (values.real < 0)).sum(1)
    sign = observables.determinant_sign(links, 0.45)
    assert set(sign.tolist()) == {1.0, -1.0}
    assert torch.equal(sign, 1.0 - 2.0 * (negative % 2))


def test_the_hermitian_spectrum():
    links = random_links((5, 4))
    values = wilson.hermitian_spectrum(links, KAPPA)
    assert values.dtype == torch.float64
    assert torch.equal(values, values.sort(1).values)
    singular = torch.linalg.svdvals(wilson.dense(links, KAPPA)).sort(1).values
    torch.testing.assert_close(values.abs().sort(1).values, singular, rtol=1e-10, atol=0)
    log_det, sign = wilson.log_abs_det(links, KAPPA)
    torch.testing.assert_close(values.abs().log().sum(1), log_det, rtol=0, atol=1e-11)
    assert torch.equal(torch.sgn(values).prod(1), sign)  # det γ5 = (−1)^V = 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conjugate_gradients_invert_the_operator(dtype):
    links = random_links((5, 6))
    generator = torch.Generator().manual_seed(2)
    eta = torch.randn(3, 5, 6, 2, dtype=torch.complex128, generator=generator)
    eta[1] *= 1e-3  # each system has its own scale
    expected = inverse(wilson.dense(links, KAPPA)) @ eta.flatten(1)[..., None]
    solution = wilson.solve(links.to(dtype), eta.to(dtype.to_complex()), KAPPA).to(torch.complex128)
    for one, reference in zip(solution.flatten(1), expected[..., 0], strict=True):
        assert (one - reference).norm() < 1e-4 * reference.norm()


def test_the_stochastic_condensate_and_its_error():
    """With noise from {1, −1} the variance of one estimate is 2 Σ_{i≠j} S_ij² / V², S symmetrised Re D⁻¹."""
    links, sources = random_links((4, 6), 40), 50
    generator = torch.Generator().manual_seed(8)
    value, error = wilson.stochastic_condensate(links, KAPPA, sources=sources, generator=generator)
    pull = (value - observables.chiral_condensate(links, KAPPA)) / error
    # each is Student's t with 49 degrees of freedom, of variance 49/47
    assert pull.abs().max() < 5
    assert pull.square().mean() == pytest.approx(1.04, abs=5 * math.sqrt(2.3 / 40))
    assert abs(pull.mean()) < 5 * math.sqrt(1.04 / 40)
    real = inverse(wilson.dense(links, KAPPA)).real
    symmetric = 0.5 * (real + real.mT)
    off_diagonal = symmetric - torch.diag_embed(symmetric.diagonal(dim1=1, dim2=2))
    variance = 2 * off_diagonal.square().sum((1, 2)) / 24**2
    ratio = error.square() * sources / variance
    assert ratio.mean() == pytest.approx(1, abs=5 * math.sqrt(3 / 49 / 40))


def test_an_iteration_that_does_not_converge():
    links, eta = random_links((4, 4)), torch.ones(3, 4, 4, 2, dtype=torch.complex128)
    with pytest.raises(ConvergenceError, match="within 3 iterations"):
        wilson.solve(links, eta, KAPPA, max_iterations=3)
    with pytest.raises(ConvergenceError, match=r"torch\.float32"):
        wilson.solve(links.float(), eta.to(torch.complex64), KAPPA, tolerance=1e-12)
    with pytest.raises(ConvergenceError, match=r"kappa = 0\.25"):
        wilson.solve(torch.zeros_like(links), eta, 0.25, "periodic")


def test_one_source_has_no_error():
    with pytest.raises(ValueError, match="at least 2 sources, got 1"):
        wilson.stochastic_condensate(random_links((4, 4)), KAPPA, sources=1, generator=torch.Generator())


def test_what_a_run_records_of_single_precision_links_is_right_in_double_precision():
    """Close to a zero of det D a block of the elimination leaves no digits of four to a condensate."""
    links = SectorLinks((8, 8), 2.5).double().sample(100, torch.Generator().manual_seed(3))

    def turned(angle: Tensor) -> Tensor:
        other = links.clone()
        other[:, 0, -1] += angle[:, None]
        return other

    def sign(angle: Tensor) -> Tensor:
        return wilson.log_abs_det(turned(angle), KAPPA)[1]

    steps = torch.linspace(0, 2 * math.pi, 33, dtype=torch.float64)
    signs = torch.stack([sign(step.expand(100)) for step in steps])
    changes = signs[1:] != signs[:-1]
    first = changes.int().argmax(0)
    low, high = steps[first], steps[first + 1]
    for _ in range(10):
        middle = (low + high) / 2
        same = sign(middle) == sign(low)
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    near = torch.cat([turned(high + off)[changes.any(0)].float() for off in (0.1, 0.03, 0.01)])
    assert len(near) > 15
    recorded = {one.name: one for one in Schwinger((8, 8), 2.5, KAPPA).observables}["condensate"]
    assert recorded.function is not None
    values = recorded.function(near)["condensate"]
    expected = wilson.determinant_and_condensate(near.double(), KAPPA).condensate
    assert values.dtype == torch.float32
    assert expected.abs().max() > 100
    torch.testing.assert_close(values, expected.float(), rtol=1e-6, atol=1e-6)
