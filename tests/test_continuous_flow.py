"""Flows by differential equations: kernels, divergences, inverses, and what discretisation leaves."""

import math

import pytest
import torch
from torch import Generator

from latflow.analysis import effective_sample_size
from latflow.densities.base import draws
from latflow.densities.flows import (
    ContinuousFlow,
    KernelField,
    Normal,
    OnPlaquettes,
    PlaquetteField,
    continuous_flow,
    continuous_gauge_flow,
)
from latflow.densities.flows.continuous.kernels import momenta_of, momentum_functions, number_of_functions
from latflow.estimators import path_gradient
from latflow.lattice import lattice_momentum_squared, wrapped
from latflow.links import gauge_transformed, plaquette_angles
from latflow.theories import Phi4, Schwinger
from latflow.training import Trainer
from latflow.validation.density import density_checks


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


LATTICES = [(5,), (4, 3), (6, 4), (3, 5), (2, 3, 4)]
PLANES = [(4, 4), (5, 3), (6, 4)]


def perturbed(module: torch.nn.Module, size: float, seed: int = 0) -> torch.nn.Module:
    """Every parameter a normal number of some size: nothing is zero, nothing is symmetric by chance."""
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.data = size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.double()


def field(lattice, n=3, seed=1, dtype=torch.float64):
    return 1.5 * torch.randn(*lattice, n, generator=seeded(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("lattice", LATTICES)
def test_kernels_convolve(lattice):
    """Against the sum over all pairs of sites, with K(r) by a Fourier sum."""
    functions = momentum_functions(lattice, 2, (0.7,), torch.float64, torch.device("cpu"))
    n, sites = number_of_functions(len(lattice), 2, (0.7,)), math.prod(lattice)
    assert functions.shape == (sites, n)
    momenta = momenta_of(lattice, torch.float64, torch.device("cpu"))
    x = field(lattice)
    found = momenta.fields(functions[:, :, None] * momenta.spectra(x[..., None, :]))
    kernel = torch.fft.ifftn(functions.T.reshape(n, *lattice), dim=tuple(range(1, len(lattice) + 1))).real
    axes = tuple(range(len(lattice)))
    expected = torch.zeros_like(found)
    for shift in torch.cartesian_prod(*(torch.arange(side) for side in lattice)).reshape(sites, -1).tolist():
        weight = kernel[(slice(None), *shift)]
        expected += weight[:, None] * x.roll(shift, axes)[..., None, :]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    here = momenta.at_distance(functions)
    torch.testing.assert_close(here.T.reshape(n, *lattice), kernel, rtol=0, atol=1e-13)


def test_massive_kernels_are_propagators():
    lattice, mass = (6, 4), 0.7
    functions = momentum_functions(lattice, 0, (mass,), torch.float64, torch.device("cpu"))
    squared = lattice_momentum_squared(lattice).flatten()
    torch.testing.assert_close(functions[1:, 2], 1 / (squared[1:] + mass**2))
    torch.testing.assert_close(functions[1:, 1], (squared[1:] / (squared[1:] + mass**2)).log())
    assert functions[0].tolist() == [1.0, 0.0, 0.0]


def slow_velocity(vector_field: PlaquetteField, stage: int, x: torch.Tensor) -> torch.Tensor:
    """The formula of `PlaquetteField` for one configuration (L0, L1), term by term over pairs of sites."""
    lattice = tuple(x.shape)
    functions = momentum_functions(lattice, vector_field.degree, (vector_field.mass,), x.dtype, x.device)
    without_zero = functions.clone()
    without_zero[0] = 0

    def convolved(basis, coefficients, numbers):
        kernel = (basis @ coefficients).reshape(lattice)
        return torch.fft.ifft2(kernel * torch.fft.fft2(numbers)).real

    def mean_over_loops(sides):
        total = torch.zeros_like(x)
        for a in range(sides[0]):
            for b in range(sides[1]):  # the loop that begins (a, b) before the site
                loop = sum(x.roll((a - i, b - j), (0, 1)) for i in range(sides[0]) for j in range(sides[1]))
                total = total + loop.sin()
        return total / math.prod(sides)

    weights = [2 * (-1) ** (n + 1) / n * math.sin(math.pi * n / 4) / (math.pi * n / 4) for n in (1, 2, 3)]
    charge = sum(s * torch.sin((n + 1) * x).sum() for n, s in enumerate(weights)) / (2 * math.pi)
    sites = x.numel()
    mean = math.sqrt(sites) * (x.cos().mean() - vector_field.mean_cosine)
    energy = mean / (1 + mean**2).sqrt()
    chi = charge**2 / (charge**2 + 0.25)
    features = [torch.sin(n * x) for n in (1, 2, 3)] + [mean_over_loops(s) for s in ((2, 1), (1, 2), (2, 2))]
    total = torch.zeros_like(x)
    for factor, kernels in zip((1, chi, chi * energy, energy), vector_field.kernels[stage], strict=True):
        for feature, kernel in zip(features, kernels, strict=True):
            total = total + factor * convolved(without_zero, kernel, feature)
    factors = (torch.sin(2 * math.pi * charge) / (2 * math.pi), charge / (1 + charge**2))
    for factor, kernels in zip(factors, vector_field.by_charge[stage], strict=True):
        for n, kernel in enumerate(kernels, start=1):
            total = total + factor * convolved(without_zero, kernel, torch.cos(n * x))
    outer, inner = vector_field.outer[stage], vector_field.inner[stage]
    for j in (1, 2):
        even = torch.sin(j * x) * convolved(functions, inner[j - 1], x.cos())
        odd = torch.cos(j * x) * convolved(functions, inner[j + 1], x.sin())
        for factor, kernels in zip((1, chi), outer, strict=True):
            total = total + factor * convolved(without_zero, kernels[j - 1], even)
            total = total + factor * convolved(without_zero, kernels[j + 1], odd)
    return total


@pytest.mark.parametrize("lattice", [*PLANES, (2, 3)])
def test_plaquettes_move_as_the_formula_says(lattice):
    vector_field = perturbed(PlaquetteField(2), 0.3)
    x = field(lattice)
    for stage, velocity in enumerate(vector_field.stages(x)):
        moved, _ = velocity(x)
        for i in range(x.shape[-1]):
            expected = slow_velocity(vector_field, stage, x[..., i])
            torch.testing.assert_close(moved[..., i], expected, rtol=1e-10, atol=1e-11)
        assert moved.sum((0, 1)).abs().max() < 1e-11


@pytest.mark.parametrize("lattice", LATTICES)
def test_divergences_are_traces(lattice):
    """Against automatic differentiation of the velocity."""
    fields = [perturbed(KernelField(len(lattice), 2, 3), 0.3)]
    if len(lattice) == 2:
        fields.append(perturbed(PlaquetteField(2), 0.3))
    x = field(lattice)
    sites = math.prod(lattice)
    for vector_field in fields:
        for velocity in vector_field.stages(x):
            _, divergence = velocity(x)
            for i in range(x.shape[-1]):
                one = x[..., i : i + 1]
                jacobian = torch.autograd.functional.jacobian(lambda y, v=velocity: v(y)[0][..., 0], one)
                trace = jacobian.reshape(sites, sites).trace()
                torch.testing.assert_close(divergence[i], trace, rtol=1e-10, atol=1e-10)


def bijections(lattice):
    yield ContinuousFlow(perturbed(KernelField(len(lattice), 2, 3), 0.1), 1)
    if len(lattice) == 2:
        yield ContinuousFlow(perturbed(PlaquetteField(2), 0.05), 1)


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_the_inverse_undoes_the_steps(lattice, n, dtype, rounding):
    for bijection in bijections(lattice):
        bijection.to(dtype)
        x = field(lattice, n, dtype=dtype).movedim(-1, 0)
        y, log_det = bijection.forward(x)
        assert (y - x).abs().max() > 0.01
        assert (y.dtype, log_det.dtype) == (dtype, torch.float64)
        assert y.shape == x.shape
        with torch.no_grad():
            back, log_det_back = bijection.inverse(y.detach())
        again, log_det_again = bijection.inverse(y.detach())  # with a graph
        for z, other in ((back, log_det_back), (again, log_det_again)):
            assert (z - x).abs().max() < rounding
            assert (log_det + other).abs().max() < 10 * rounding
        assert again.requires_grad


@pytest.mark.parametrize("lattice", [(4,), (4, 3)])
def test_the_log_determinant_is_that_of_the_steps_up_to_their_fourth_power(lattice):
    """Twice as many steps divide the difference to the Jacobian's determinant by 16, or by 10 at least."""
    for bijection in bijections(lattice):
        x = field(lattice, 1).movedim(-1, 0)
        sites, errors = math.prod(lattice), []
        while bijection.substeps <= 4:
            jacobian = torch.autograd.functional.jacobian(lambda z, f=bijection: f.forward(z)[0], x)
            exact = torch.linalg.slogdet(jacobian.reshape(sites, sites)).logabsdet
            errors.append((bijection.forward(x)[1] - exact).abs().item())
            bijection = bijection.refined()
        assert 1e-12 < errors[-1] < errors[0] / 100 < 1e-4, errors


def test_gradients_of_the_inverse_are_those_of_the_equation():
    """Against those of the way back with many steps; the difference is that of the discretisation."""
    (bijection,) = list(bijections((4,)))[:1]
    y = field((4,), 3).movedim(-1, 0)
    fine = ContinuousFlow(bijection.vector_field, 32)
    found = []
    for one in (bijection.inverse, bijection.nearly_inverse, fine.inverse, bijection.forward_and_back(y)[2]):
        leaf = y.clone().requires_grad_()
        x, log_det = one(leaf)
        (slope,) = torch.autograd.grad((x.square().sum() + log_det.sum()), leaf)
        found.append(slope)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], found[2], rtol=0, atol=1e-4)


def test_forward_and_back_gives_the_values_of_the_way_there():
    for bijection in bijections((4, 3)):
        x = field((4, 3), 3).movedim(-1, 0)
        y, log_det, back = bijection.forward_and_back(x)
        again, log_det_back = back(y)
        torch.testing.assert_close(again, x, rtol=0, atol=1e-15)
        torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-12)
        assert again.requires_grad


@pytest.mark.parametrize("lattice", PLANES)
def test_links_move_with_their_plaquettes_alone(lattice):
    """Plaquettes as the map says, holonomies and charge as before, and the same for every gauge."""
    inner = ContinuousFlow(perturbed(PlaquetteField(2), 0.05))
    bijection = OnPlaquettes(inner)
    x = 3 * torch.randn(5, 2, *lattice, generator=seeded(2), dtype=torch.float64)
    y, log_det = bijection.forward(x)
    expected, log_det_inner = inner.forward(plaquette_angles(x))
    assert wrapped(plaquette_angles(y) - expected).abs().max() < 1e-12
    torch.testing.assert_close(log_det, log_det_inner)
    # loops around the torus keep the mean of their changes, whatever turns of plaquettes do to `holonomies`
    for direction, axis in ((0, 1), (1, 2)):
        change = wrapped(y - x)[:, direction].sum(axis).mean(1)
        assert wrapped(change * lattice[1 - direction]).abs().max() < 1e-11
    turned = gauge_transformed(x, torch.randn(5, *lattice, generator=seeded(3), dtype=torch.float64))
    moved, _ = bijection.forward(turned)
    assert wrapped(plaquette_angles(moved) - plaquette_angles(y)).abs().max() < 1e-11
    with torch.no_grad():
        back, log_det_back = bijection.inverse(y)
        fixed, _, way = bijection.forward_and_back(x)
    assert wrapped(back - x).abs().max() < 1e-12
    torch.testing.assert_close(log_det_back, -log_det.detach(), rtol=0, atol=1e-12)
    again, _ = way(fixed)
    assert wrapped(again - x).abs().max() < 1e-12


def test_the_determinant_of_links_is_that_of_plaquettes():
    """2V numbers against V: gauge and holonomies stay."""
    lattice = (4, 3)
    bijection = OnPlaquettes(ContinuousFlow(perturbed(PlaquetteField(2), 0.05), 8))
    x = torch.randn(1, 2, *lattice, generator=seeded(4), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: bijection.forward(z)[0], x)
    exact = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet
    torch.testing.assert_close(bijection.forward(x)[1][0].detach(), exact, rtol=0, atol=1e-6)


def test_a_scalar_flow_is_exactly_linear_without_sines():
    """With K * φ alone φ(k) grows by exp K(k), up to h⁴, and log det = Σ_k K(k)."""
    lattice = (4, 6)
    flow = continuous_flow(lattice, stages=1, frequencies=0, substeps=8).double()
    kernel = 0.3 * torch.randn(flow.bijection.vector_field.kernels.shape, generator=seeded(0)).double()
    flow.bijection.vector_field.kernels.data = kernel
    x = flow.prior.sample(3, seeded(1))
    y, log_det = flow.forward(x)
    functions = momentum_functions(lattice, 3, (0.5,), torch.float64, torch.device("cpu"))
    growth = (functions @ kernel[0, 0]).reshape(lattice)
    expected = torch.fft.ifft2(torch.fft.fft2(x) * growth.exp()).real
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_det, growth.sum().expand(3), rtol=1e-10, atol=1e-10)
    assert isinstance(flow.prior, Normal)


@pytest.mark.parametrize(
    "make", [continuous_flow, lambda n: continuous_gauge_flow(n, prior_beta=1.0, holonomies="uniform")]
)
def test_the_same_parameters_on_every_lattice(make):
    flow = make((4, 4))
    other = flow.on_lattice((6, 5))
    assert other.lattice == (6, 5)
    mine, theirs = dict(flow.named_parameters()), dict(other.named_parameters())
    assert all(mine[name] is theirs[name] for name in mine)
    x, log_q = other.sample(3, Generator().manual_seed(1))
    assert (x.shape[0], x.shape[-2:], log_q.dtype) == (3, (6, 5), torch.float64)
    assert flow.refined() is not None


THEORY = Schwinger((4, 8), 1.0, 0.25)


def test_couplings_come_on_top():
    """Alone they would be another test's; here: both directions, every gauge, and what is claimed."""
    flow = perturbed(
        continuous_gauge_flow((4, 8), prior_beta=1.0, stages=1, couplings=8, hidden=(5,), action=THEORY), 0.05
    )
    x, log_q = flow.sample(4, seeded(1))
    torch.testing.assert_close(flow.log_prob(x), log_q, rtol=1e-8, atol=1e-8)
    angles = 3 * torch.randn(4, 4, 8, generator=seeded(2), dtype=torch.float64)
    turned = wrapped(gauge_transformed(x, angles))
    torch.testing.assert_close(flow.log_prob(turned), log_q, rtol=1e-8, atol=1e-8)
    assert flow.symmetries == ("gauge",)
    assert (flow.log_prob(-x) - log_q).abs().min() > 1e-4
    without = perturbed(continuous_gauge_flow((4, 8), prior_beta=1.0, stages=1, action=THEORY), 0.05)
    assert without.symmetries == ("gauge", "z2")
    torch.testing.assert_close(without.log_prob(-x), without.log_prob(x))


def test_numbers_out_of_range_are_refused():
    for make in (
        lambda: ContinuousFlow(KernelField(1), 0),
        lambda: KernelField(0),
        lambda: PlaquetteField(0),
        lambda: PlaquetteField(mass=0.0),
        lambda: continuous_gauge_flow((2, 4), prior_beta=1.0),
        lambda: continuous_gauge_flow((4, 4), prior_beta=1.0, grid=1, action=THEORY),
        lambda: continuous_gauge_flow((4, 6), prior_beta=1.0, couplings=8, action=THEORY),
        lambda: continuous_gauge_flow((4, 4), prior_beta=1.0, couplings=-1, action=THEORY),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_a_flow_learns_a_free_field():
    """Its map is linear, which the flow can follow: far above the ESS of normal numbers."""
    action = Phi4((4, 4), m2=1.0, lam=0.0)
    flow = continuous_flow((4, 4), substeps=1)
    found = []
    for steps in (0, 60):  # the flow begins as the identity
        if steps:
            options = {"steps": steps, "batch": 128, "generator": seeded(1), "learning_rate": 0.02}
            list(Trainer(flow, action, path_gradient, **options))
        found.append(effective_sample_size(draws(flow, 20_000, action, seeded(2)).log_weight))
    assert found[0] < 0.5 < 0.8 < found[1], found


def failed(flow, action):
    return {check.name for check in density_checks(flow, action) if not check.passed}


class Wrong(PlaquetteField):
    """Divergences that are off by one part in a thousand."""

    def stages(self, x):
        def of(velocity):
            def wrong(y):
                moved, divergence = velocity(y)
                return moved, 1.001 * divergence

            return wrong

        return [of(velocity) for velocity in super().stages(x)]


@pytest.mark.slow
def test_validation_of_a_flow_in_steps():
    """Sound as it is; wrong divergences fail by the Jacobian, long steps by what halved ones change."""
    action = Schwinger((4, 6), 1.0, 0.2)
    flow = perturbed(
        continuous_gauge_flow((4, 6), prior_beta=1.0, stages=1, substeps=1, holonomies="uniform"), 0.03
    ).float()
    assert failed(flow, action) == set()
    flow.bijection.bijections[0].bijection.vector_field.__class__ = Wrong
    assert "log-determinant is the Jacobian's" in failed(flow, action)
    flow = perturbed(
        continuous_gauge_flow((4, 6), prior_beta=1.0, stages=1, substeps=1, holonomies="uniform"), 0.2
    )
    assert "log-weights with halved steps" in failed(flow, action)
