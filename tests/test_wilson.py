"""The Wilson operator and its determinant: closed forms, symmetries, and two ways that must agree."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from latflow import wilson
from latflow.errors import NearSingularWarning
from latflow.wilson.linear_algebra import inverse, inverse_and_determinant, slogdet

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


def free_log_det(lattice: tuple[int, int], boundary: str, kappa: float = KAPPA) -> float:
    """Σ_p log d(p), d = W² + 4κ² Σ_μ sin² p_μ, W = 1 − 2κ Σ_μ cos p_μ."""
    half = 0.5 if boundary == "antiperiodic" else 0.0
    p0 = 2 * np.pi * (np.arange(lattice[0]) + half)[:, None] / lattice[0]
    p1 = 2 * np.pi * np.arange(lattice[1]) / lattice[1]
    mass = 1 - 2 * kappa * (np.cos(p0) + np.cos(p1))
    return float(np.log(mass**2 + 4 * kappa**2 * (np.sin(p0) ** 2 + np.sin(p1) ** 2)).sum())


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
    trace = inverse(wilson.dense(links, KAPPA, boundary)).diagonal(dim1=-2, dim2=-1).sum() / 16
    assert trace.real.item() == pytest.approx(condensate, abs=1e-13)


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
    assert value.item() == pytest.approx(free_log_det(lattice, boundary), abs=1e-11)
    assert sign.item() == 1


@pytest.mark.parametrize("charge", range(4))
def test_constant_flux_has_the_sign_of_its_charge(charge):
    _, sign = wilson.log_abs_det(constant_flux((8, 8), charge), KAPPA)
    assert sign.item() == (-1) ** charge


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
    links = random_links((3, 3), 1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: wilson.log_abs_det(x, KAPPA)[0], links)


def test_single_precision():
    links = random_links((8, 12), dtype=torch.float32)
    assert wilson.dense(links, KAPPA).dtype == torch.complex64
    value, sign = wilson.log_abs_det(links, KAPPA)
    exact, exact_sign = wilson.log_abs_det(links.double(), KAPPA)
    assert value.dtype == sign.dtype == torch.float32
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


def test_links_that_are_not_finite_warn():
    links = random_links((4, 4))
    links[1, 0, 0, 0] = math.nan
    with pytest.warns(NearSingularWarning):
        value, _ = wilson.log_abs_det(links, KAPPA)
    assert value.isfinite().tolist() == [True, False, True]


def test_a_singular_time_slice_is_no_singular_operator():
    # at κ = 1/2 a slice of the free field has a zero mode, D has none with antiperiodic time
    links = torch.cat((random_links((4, 4), 1), torch.zeros(1, 2, 4, 4), random_links((4, 4), 2)[1:]))
    links.requires_grad_()
    value, _ = wilson.log_abs_det(links, 0.5)
    assert value[1].item() == pytest.approx(free_log_det((4, 4), "antiperiodic", 0.5), abs=1e-12)
    expected = wilson.dense_log_abs_det(links, 0.5)[0]
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    gradients = (torch.autograd.grad(v.sum(), links)[0] for v in (value, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


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


def test_large_matrices_on_two_threads():
    """A plain batched factorisation never returns here: hence a process of its own, and a time limit."""
    code = """
import torch
from latflow import wilson
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(1)
for side, batch, dtype, tolerance in ((12, 3, torch.float64, 1e-10), (24, 2, torch.float64, 1e-10),
                                      (48, 1, torch.float32, 2e-2), (48, 2, torch.float32, None),
                                      (80, 2, torch.float32, None)):
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
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["12", "24", "48", "48", "80"]
