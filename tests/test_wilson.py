"""The Wilson operator and its determinant: closed forms, symmetries, and two ways that must agree."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from latflow import wilson
from latflow.densities.flows import gauge_flow
from latflow.errors import NearSingularWarning
from latflow.estimators import reinforce, reparametrization
from latflow.exact import free_fermion_condensate, free_fermion_log_det, free_fermion_pion_correlator
from latflow.observables import pion_correlator, topological_charge
from latflow.theories import Schwinger
from latflow.wilson import escalation
from latflow.wilson.elimination import eliminate, turned_determinants
from latflow.wilson.linear_algebra import inverse, inverse_and_determinant, slogdet
from latflow.wilson.restoration import from_first_slice, neighbours

KAPPA = 0.276
BOUNDARIES = ("antiperiodic", "periodic")
LATTICES = ((3, 3), (4, 4), (8, 8), (4, 6), (6, 4), (5, 5), (7, 4), (3, 8), (6, 3))


def random_links(lattice: tuple[int, int], batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(17)
    angles = torch.rand(batch, 2, *lattice, generator=generator, dtype=torch.float64) - 0.5
    return (2 * math.pi * angles).to(dtype)


def constant_flux(lattice: tuple[int, int], charge: int) -> Tensor:
    """Every plaquette is 2πQ/V, up to 2π."""
    flux = 2 * math.pi * charge / math.prod(lattice)
    time = torch.arange(lattice[0], dtype=torch.float64)
    space = torch.arange(lattice[1], dtype=torch.float64)
    links = torch.zeros(1, 2, *lattice, dtype=torch.float64)
    links[0, 0] = -flux * space
    links[0, 1, :, -1] = flux * lattice[1] * time
    return links


def node_count(result: Tensor) -> int:
    """The number of nodes of the graph behind a tensor."""
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return len(seen)


def dense_condensate(links: Tensor, kappa: float, boundary: str = "antiperiodic") -> Tensor:
    diagonal = inverse(wilson.dense(links, kappa, boundary)).diagonal(dim1=-2, dim2=-1)
    return diagonal.sum(-1).real / links[0, 0].numel()


def gamma5(volume: int) -> Tensor:
    return torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(volume)


@pytest.mark.parametrize(
    ("boundary", "log_det", "condensate"),
    [
        ("antiperiodic", 0.271181163543764, 1.93698965152478),
        ("periodic", -0.678251992331926, 2.19880644253165),
    ],
)
def test_known_configuration(boundary, log_det, condensate):
    links = torch.from_numpy(np.random.default_rng(0).uniform(0, 2 * np.pi, (1, 2, 4, 4)))
    for determinant in (wilson.log_abs_det, wilson.dense_log_abs_det):
        value, sign = determinant(links, KAPPA, boundary)
        assert value.item() == pytest.approx(log_det, abs=1e-13)
        assert sign.item() == 1
    assert dense_condensate(links, KAPPA, boundary).item() == pytest.approx(condensate, abs=1e-13)
    both = wilson.determinant_and_condensate(links, KAPPA, boundary)
    assert both.log_abs.item() == pytest.approx(log_det, abs=1e-13)
    assert both.condensate.item() == pytest.approx(condensate, abs=1e-13)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_reduced_equals_dense(lattice, boundary):
    smooth = torch.cat([constant_flux(lattice, charge) for charge in (0, 1, 2)])
    links = torch.cat((random_links(lattice), smooth))
    reduced, dense = (f(links, KAPPA, boundary) for f in (wilson.log_abs_det, wilson.dense_log_abs_det))
    torch.testing.assert_close(reduced[0], dense[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(reduced[1], dense[1], rtol=0, atol=0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_free_field(lattice, boundary):
    value, sign = wilson.log_abs_det(constant_flux(lattice, 0), KAPPA, boundary)
    # with periodic time the mode p = 0 has W = 1 − 4κ < 0, but d = W² > 0
    assert value.item() == pytest.approx(free_fermion_log_det(lattice, KAPPA, boundary), abs=1e-11)
    assert sign.item() == 1


@pytest.mark.parametrize("charge", range(4))
@pytest.mark.parametrize("side", [8, 12])
def test_constant_flux_has_the_sign_of_its_charge(side, charge):
    links = constant_flux((side, side), charge)
    assert topological_charge(links).item() == charge
    _, sign = wilson.log_abs_det(links, KAPPA)
    assert sign.item() == (-1) ** charge


@pytest.mark.parametrize("kappa", [-0.3, 0.0, 0.1, 0.45, 0.5, 0.8])
def test_other_hopping_parameters(kappa):
    links = torch.cat((random_links((5, 4)), constant_flux((5, 4), 0)))
    torch.testing.assert_close(
        wilson.log_abs_det(links, kappa), wilson.dense_log_abs_det(links, kappa), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_gamma5_hermiticity(boundary):
    operator = wilson.dense(random_links((4, 5)), KAPPA, boundary)
    sign = gamma5(20)
    torch.testing.assert_close(sign[:, None] * operator * sign, operator.mH, rtol=0, atol=1e-15)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_gauge_invariance(boundary):
    links = random_links((5, 6))
    angles = random_links((5, 6))[:, 0].flip(0)
    turned = links + torch.stack([angles - angles.roll(-1, axis) for axis in (1, 2)], 1)
    before, after = (wilson.log_abs_det(x, KAPPA, boundary) for x in (links, turned))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", [(3, 4), (6, 5)])
def test_matrix_free_equals_dense(lattice, boundary, adjoint):
    links = random_links(lattice)
    generator = torch.Generator().manual_seed(3)
    psi = torch.randn(3, *lattice, 2, generator=generator, dtype=torch.complex128)
    operator = wilson.dense(links, KAPPA, boundary)
    operator = operator.mH if adjoint else operator
    expected = (operator @ psi.flatten(1)[..., None]).view(psi.shape)
    torch.testing.assert_close(wilson.apply(links, psi, KAPPA, boundary, adjoint=adjoint), expected)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", [(4, 4), (5, 3), (3, 6)])
def test_gradient(lattice, boundary):
    links = random_links(lattice, 2).requires_grad_()
    reduced, dense = (
        torch.autograd.grad(f(links, KAPPA, boundary)[0].sum(), links)[0]
        for f in (wilson.log_abs_det, wilson.dense_log_abs_det)
    )
    torch.testing.assert_close(reduced, dense, rtol=1e-10, atol=1e-10)
    direction = random_links(lattice, 2).flip(0)
    step = 1e-5 * direction
    with torch.no_grad():
        up, down = (wilson.log_abs_det(links + s, KAPPA, boundary)[0] for s in (step, -step))
    slope = (reduced * direction).flatten(1).sum(1)
    torch.testing.assert_close(slope, (up - down) / 2e-5, rtol=1e-6, atol=1e-6)


def test_second_derivatives():
    links = (random_links((3, 3), 1) + 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: wilson.log_abs_det(x, KAPPA)[0], links)
    # along its own output too, and through what comes before the links
    root = links.detach().sqrt().requires_grad_()
    for weight in (1.0, 3.0):
        value = weight * wilson.log_abs_det(root**2, KAPPA)[0] ** 2
        dense = weight * wilson.dense_log_abs_det(root**2, KAPPA)[0] ** 2
        slopes = [torch.autograd.grad(v.sum(), root, create_graph=True)[0] for v in (value, dense)]
        curvatures = [torch.autograd.grad(slope.square().sum(), root)[0] for slope in slopes]
        torch.testing.assert_close(*curvatures, rtol=1e-9, atol=1e-9)


def test_single_precision():
    links = random_links((8, 12), dtype=torch.float32)
    assert wilson.dense(links, KAPPA).dtype == torch.complex64
    value, sign = wilson.log_abs_det(links, KAPPA)
    exact, exact_sign = wilson.log_abs_det(links.double(), KAPPA)
    assert (value.dtype, sign.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(value.double(), exact, rtol=0, atol=2e-4)
    torch.testing.assert_close(sign.double(), exact_sign)


def test_a_batch_of_one_is_a_row_of_the_batch():
    links = random_links((5, 4), 4)
    value, sign = wilson.log_abs_det(links, KAPPA)
    for i in range(4):
        torch.testing.assert_close(wilson.log_abs_det(links[i : i + 1], KAPPA), (value[[i]], sign[[i]]))


def test_an_unknown_boundary():
    # the checks of types in tests come first
    with pytest.raises((ValueError, TypeError), match="boundary"):
        wilson.log_abs_det(random_links((3, 3)), KAPPA, "twisted")


def test_a_singular_operator_warns():
    # κ = 1/4 is the critical point of the free field: D has a zero mode with periodic boundaries
    links = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    for determinant in (wilson.log_abs_det, wilson.dense_log_abs_det):
        with pytest.warns(NearSingularWarning, match=r"kappa = 0\.25"):
            value, _ = determinant(links, 0.25, "periodic")
        assert value.item() < -30
    for function in (wilson.determinant_and_condensate, wilson.slice_norms):
        with pytest.warns(NearSingularWarning):
            function(links, 0.25, "periodic")
    with pytest.warns(NearSingularWarning):
        wilson.log_abs_det(links.requires_grad_(), 0.25, "periodic")


def test_links_that_are_not_finite_warn():
    links = random_links((4, 4))
    links[1, 0, 0, 0] = math.nan
    with pytest.warns(NearSingularWarning):
        value, _ = wilson.log_abs_det(links, KAPPA)
    assert value.isfinite().tolist() == [True, False, True]


def test_a_singular_part_is_no_singular_operator():
    """Where three slices with open ends have a zero mode elimination fails, but D has none."""
    kappa, rough = 0.4, random_links((4, 4), 64)

    def negative(links: Tensor) -> Tensor:
        return slogdet(wilson.dense(links, kappa)[:, 8:, 8:]).phase.real < 0

    ends = rough[negative(rough)][:1]
    regular, singular = 0.0, 1.0
    for _ in range(60):
        middle = (regular + singular) / 2
        regular, singular = (regular, middle) if bool(negative(middle * ends)) else (middle, singular)
    # close to it derivatives lose four digits for each one of the pivot ratio
    cases = ((1e-6, 1e-9, torch.float64), (1e-4, 1e-4, torch.float64), (2e-3, 1e-3, torch.float32))
    for away, tolerance, dtype in cases:
        near = (singular * (1 + away) * ends).to(dtype)
        ratio = eliminate(wilson.hops(near), kappa).pivot_ratio
        assert torch.finfo(dtype).eps ** 0.5 < ratio < 10 * away
        leaf = near.double().requires_grad_()
        value = wilson.log_abs_det(near.requires_grad_(), kappa)[0]
        exact = wilson.dense_log_abs_det(leaf, kappa)[0]
        slopes = [torch.autograd.grad(v, x)[0].double() for v, x in ((value, near), (exact, leaf))]
        torch.testing.assert_close(*slopes, rtol=0, atol=tolerance)
        condensate = wilson.determinant_and_condensate(near.detach(), kappa).condensate.double()
        expected = dense_condensate(leaf.detach(), kappa)
        torch.testing.assert_close(condensate, expected, rtol=0, atol=tolerance)
    others = random_links((4, 4), 2)
    links = torch.cat((others[:1], singular * ends, others[1:])).requires_grad_()
    ratio = eliminate(wilson.hops(links), kappa).pivot_ratio
    assert ratio[1] < 1e-10
    assert ratio[[0, 2]].amin() > 1e-4
    value, sign = wilson.log_abs_det(links, kappa)
    expected, expected_sign = wilson.dense_log_abs_det(links, kappa)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    assert torch.equal(sign, expected_sign)
    gradients = [torch.autograd.grad(v.sum(), links, create_graph=True)[0] for v in (value, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    both = wilson.determinant_and_condensate(links.detach(), kappa)
    torch.testing.assert_close(both.condensate, dense_condensate(links.detach(), kappa), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("lattice", "dtype"), [((64, 4), torch.float32), ((8, 64), torch.float64)])
def test_beyond_the_critical_hopping_parameter(lattice, dtype):
    """Hops grow by (2κ/(1 − 2κ))⁶⁴, about 10¹¹, which plain elimination does not survive; D is regular."""
    links, kappa = constant_flux(lattice, 0).to(dtype), 0.3
    long = links if lattice[0] == 64 else links.flip(1).transpose(2, 3)
    assert eliminate(wilson.hops(long, "periodic"), kappa).pivot_ratio < torch.finfo(dtype).eps ** 0.5
    accuracy = 1e-5 if dtype == torch.float32 else 1e-9
    log_abs, _, condensate = wilson.determinant_and_condensate(links, kappa, "periodic")
    assert (log_abs.dtype, condensate.dtype) == (torch.float64, dtype)
    assert log_abs.item() == pytest.approx(free_fermion_log_det(lattice, kappa, "periodic"), rel=accuracy)
    exact_condensate = free_fermion_condensate(lattice, kappa, "periodic")
    assert condensate.item() == pytest.approx(exact_condensate, rel=accuracy)
    exact_pion = free_fermion_pion_correlator(lattice, kappa, "periodic")
    np.testing.assert_allclose(pion_correlator(links, kappa, "periodic")[0], exact_pion, rtol=accuracy)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("sides", "span"), [((9, 4), 8), ((16, 3), 8), ((17, 4), 8), ((40, 3), 16)])
def test_elimination_may_stop_early(sides, span, boundary):
    phases = wilson.hops(random_links(sides), boundary)
    plain, early = (eliminate(phases, KAPPA, limit) for limit in (None, span))
    assert early.last.shape[-1] > plain.last.shape[-1]
    torch.testing.assert_close(early.log_abs, plain.log_abs, rtol=0, atol=1e-11)
    assert torch.equal(early.sign, plain.sign)
    torch.testing.assert_close(neighbours(early), neighbours(plain), rtol=0, atol=1e-11)
    torch.testing.assert_close(from_first_slice(early), from_first_slice(plain), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lattice", LATTICES)
def test_the_second_output_of_one_elimination(lattice, dtype):
    links = torch.cat((random_links(lattice), *(constant_flux(lattice, charge) for charge in (0, 2))))
    both = wilson.determinant_and_condensate(links.to(dtype), KAPPA, "periodic")
    value, sign = wilson.dense_log_abs_det(links, KAPPA, "periodic")
    expected = (value, sign, dense_condensate(links, KAPPA, "periodic"))
    for result, reference in zip(both, expected, strict=True):
        assert result.dtype == (torch.float64 if reference is value else dtype)
        tolerance = 1e-10 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(result.double(), reference, rtol=0, atol=tolerance)


def test_the_condensate_is_the_slope_in_kappa():
    """Tr D⁻¹ = 2V − κ ∂ log|det D|/∂κ, from D = 1 − κH."""
    links, step = random_links((6, 5)), 1e-5
    up, down = (wilson.log_abs_det(links, KAPPA + s)[0] for s in (step, -step))
    slope = (up - down) / (2 * step)
    condensate = wilson.determinant_and_condensate(links, KAPPA).condensate
    torch.testing.assert_close(condensate, 2 - KAPPA * slope / 30, rtol=0, atol=1e-8)


def test_a_batch_in_parts(monkeypatch):
    links = random_links((4, 5), 5)
    whole = [
        *wilson.determinant_and_condensate(links, KAPPA),
        torch.autograd.functional.jacobian(lambda x: wilson.log_abs_det(x, KAPPA)[0].sum(), links),
    ]
    monkeypatch.setattr(escalation, "_CACHED", 200)  # two configurations of 80
    in_parts = [
        *wilson.determinant_and_condensate(links, KAPPA),
        torch.autograd.functional.jacobian(lambda x: wilson.log_abs_det(x, KAPPA)[0].sum(), links),
    ]
    for one, other in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_no_links():
    value, sign = wilson.log_abs_det(torch.zeros(0, 2, 4, 4), KAPPA)
    assert value.shape == sign.shape == (0,)


def test_the_graph_does_not_grow_with_the_lattice():
    counts = [
        node_count(wilson.log_abs_det(random_links((side, side), 2).requires_grad_(), KAPPA)[0])
        for side in (4, 8, 12, 16)
    ]
    assert counts == [2] * 4  # the determinant, and the links


@pytest.mark.parametrize("estimator", [reinforce, reparametrization])
def test_the_graph_of_a_loss_does_not_grow_with_the_lattice(estimator):
    counts = []
    for side in (4, 8, 12, 16):
        flow = gauge_flow((side, side), layers=2, hidden=(4,), dilation=1)
        action = Schwinger((side, side), 2.0, KAPPA)
        counts.append(node_count(estimator(flow, action, 2, torch.Generator().manual_seed(0)).loss))
    assert counts == counts[:1] * 4
    assert counts[0] > 20


@pytest.mark.parametrize("size", [5, 130])
def test_linear_algebra_one_at_a_time_and_together(size):
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(2, 2, size, size, generator=generator, dtype=torch.complex128)
    inverse_, determinant = inverse_and_determinant(matrix)
    torch.testing.assert_close(inverse_ @ matrix, torch.eye(size, dtype=matrix.dtype).expand_as(matrix))
    torch.testing.assert_close(slogdet(matrix), determinant)
    for i in range(2):
        for j in range(2):
            phase, log_abs = torch.linalg.slogdet(matrix[i, j])
            torch.testing.assert_close(determinant.log_abs[i, j], log_abs)
            torch.testing.assert_close(determinant.phase[i, j], phase)


def test_gradients_of_the_linear_algebra():
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(2, 3, 3, generator=generator, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: inverse_and_determinant(a)[0], matrix)
    assert torch.autograd.gradcheck(lambda a: slogdet(a).log_abs, matrix)


def test_a_singular_matrix_raises_nothing():
    matrix = torch.zeros(2, 3, 3, dtype=torch.complex128)
    matrix[1] = torch.eye(3)
    inverse_, determinant = inverse_and_determinant(matrix)
    assert determinant.log_abs.tolist() == [-math.inf, 0]
    assert determinant.phase.tolist() == [0, 1]
    assert not determinant.pivot_ratio[0] > 0
    assert not inverse_[0].isfinite().all()
    torch.testing.assert_close(inverse_[1], matrix[1])


@pytest.mark.slow
def test_large_matrices_on_two_threads():
    """A plain batched factorisation never returns here: hence a process of its own, and a time limit."""
    code = """
import torch
from latflow import wilson
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(1)
for side, batch, dtype, tolerance in ((12, 3, torch.float64, 1e-10), (24, 2, torch.float64, 1e-10),
                                      (48, 2, torch.float32, None)):
    links = (6.3 * torch.rand(batch, 2, side, side, generator=generator)).to(dtype).requires_grad_(side == 12)
    value, sign = wilson.log_abs_det(links, 0.276)
    assert value.isfinite().all()
    if tolerance:
        dense_value, dense_sign = wilson.dense_log_abs_det(links, 0.276)
        torch.testing.assert_close(value, dense_value, rtol=0, atol=tolerance)
        assert torch.equal(sign, dense_sign)
    if side == 12:
        (value - dense_value).sum().backward()
        assert links.grad.abs().max() < 1e-9
    print(side, flush=True)
links = 6.3 * torch.rand(2, 2, 9, 9, generator=generator, dtype=torch.float64)
value = wilson.log_abs_det(links, 0.276)[0]
for spectrum in (wilson.spectrum, wilson.hermitian_spectrum):
    torch.testing.assert_close(spectrum(links, 0.276).abs().log().sum(1), value)
print("spectra", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["12", "24", "48", "spectra"]


def turned(links: Tensor, in_time: float, in_space: float) -> Tensor:
    """Every loop around the lattice turned by an angle; where on the lattice makes no difference."""
    other = links.clone()
    other[:, 0, 1] += in_time
    other[:, 1, :, 0] += in_space
    return other


@pytest.mark.parametrize("kappa", [KAPPA, 0.55])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("lattice", LATTICES)
def test_determinants_of_turned_fields(lattice, boundary, kappa):
    links, points = random_links(lattice), 3
    angles = [2 * math.pi * i / points for i in range(points)]
    one_by_one = [
        wilson.dense_log_abs_det(turned(links, one, other), kappa, boundary)
        for one in angles
        for other in angles
    ]
    log_abs, sign = (torch.stack(found, 1) for found in zip(*one_by_one, strict=True))
    expected = (sign * torch.exp(log_abs - log_abs.amax(1, keepdim=True))).view(-1, points, points)
    found = wilson.holonomy_determinants(links, kappa, boundary, points)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("span", [None, 2, 4])
def test_turned_determinants_with_slices_left(span):
    links, turns = random_links((7, 3)), torch.tensor([0.0, 0.4, 2.0], dtype=torch.float64)
    log_abs, sign, _ = turned_determinants(wilson.hops(links), KAPPA, turns, span)
    for column, turn in enumerate(turns.tolist()):
        value, own_sign = wilson.dense_log_abs_det(turned(links, turn, 0.0), KAPPA)
        torch.testing.assert_close(log_abs[:, column], value, rtol=0, atol=1e-10)
        assert torch.equal(sign[:, column], own_sign)


def test_a_determinant_is_a_polynomial_in_both_turns():
    """Of order L1 in time and L0 in space at most: so many points give all others."""
    links, generator = random_links((4, 3)), torch.Generator().manual_seed(2)
    angles = 6 * torch.rand(4, generator=generator, dtype=torch.float64)
    found = wilson.interpolated(wilson.holonomy_determinants(links, KAPPA, points=9), angles)
    one_by_one = [
        wilson.dense_log_abs_det(turned(links, one, other), KAPPA)
        for one in angles.tolist()
        for other in angles.tolist()
    ]
    log_abs, sign = (torch.stack(every, 1) for every in zip(*one_by_one, strict=True))
    scale = wilson.holonomy_determinants(links, KAPPA, points=9)[:, 0, 0] / (
        torch.exp(wilson.log_abs_det(links, KAPPA)[0]) * wilson.log_abs_det(links, KAPPA)[1]
    )
    expected = sign * log_abs.exp() * scale[:, None]
    torch.testing.assert_close(found.flatten(1), expected, rtol=0, atol=1e-10)
