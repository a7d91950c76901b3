"""Properties of every bijection in the registry, then of splines, the Fourier layer, priors and presets."""

import copy
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from cases import CASES, Case, draw, perturbed
from latflow import exact
from latflow.densities.flows import (
    Affine,
    Bijection,
    ConvNet,
    Coupling,
    Flow,
    FourierLayer,
    Normal,
    SiteMap,
    Spline,
    UniformLinks,
    affine_flow,
    build_flow,
    load_flow,
    save_flow,
    spline_flow,
)
from latflow.errors import CheckpointError, ConfigError
from latflow.lattice import volume
from latflow.storage import load_tree, save_tree
from latflow.theories import Phi4

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
EVEN = [(6,), (4, 6), (2, 4, 2)]
ODD = [(5,), (3, 4), (3, 1, 2)]


def lattices(case: Case) -> list[tuple[int, ...]]:
    return EVEN + ODD if case.any_side else EVEN


def jacobian(function, x: Tensor) -> Tensor:
    """log |det ∂y/∂x| of one configuration, by automatic differentiation."""
    matrix = torch.autograd.functional.jacobian(lambda z: function(z)[0].flatten(), x)
    return torch.linalg.slogdet(matrix.reshape(x.numel(), x.numel())).logabsdet


@every_case
def test_both_directions_undo_each_other(case):
    for lattice in lattices(case):
        bijection, x = case.perturbed(len(lattice)), 1.5 * draw(5, *lattice)
        for there, back in ((bijection.forward, bijection.inverse), (bijection.inverse, bijection.forward)):
            y, log_det = there(x)
            again, opposite = back(y)
            assert case.name == "nothing" or (y - x).abs().max() > 0.01
            assert y.shape == x.shape
            assert log_det.shape == (5,)
            torch.testing.assert_close(again, x, rtol=0, atol=1e-9)
            torch.testing.assert_close(opposite, -log_det, rtol=0, atol=1e-8)


@every_case
def test_log_det_is_that_of_the_jacobian(case):
    for lattice in [(4,), (2, 4), (2, 2, 2), *(ODD if case.any_side else ())]:
        bijection, x = case.perturbed(len(lattice)), 1.5 * draw(2, *lattice, seed=3)
        for function in (bijection.forward, bijection.inverse):
            _, log_det = function(x)
            expected = torch.stack([jacobian(function, one[None]) for one in x])
            torch.testing.assert_close(log_det, expected, rtol=1e-9, atol=1e-9)


@every_case
def test_z2_symmetry_where_claimed_and_only_there(case):
    for lattice in lattices(case):
        bijection, x = case.perturbed(len(lattice)), 1.5 * draw(4, *lattice)
        for function in (bijection.forward, bijection.inverse):
            (y, log_det), (mirrored, mirrored_log_det) = function(x), function(-x)
            if case.exact_z2:
                assert torch.equal(mirrored, -y)
                assert torch.equal(mirrored_log_det, log_det)
            elif case.z2:
                torch.testing.assert_close(mirrored, -y, rtol=0, atol=1e-12)
                torch.testing.assert_close(mirrored_log_det, log_det, rtol=0, atol=1e-11)
            else:
                assert (mirrored + y).abs().max() > 1e-3


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3])
def test_dtype_is_kept_and_configurations_do_not_mix(case, dtype, batch):
    for lattice in EVEN:
        bijection, x = case.perturbed(len(lattice)).to(dtype), draw(batch, *lattice, dtype=dtype)
        for function in (bijection.forward, bijection.inverse):
            y, log_det = function(x)
            assert y.dtype == dtype
            assert log_det.dtype == torch.float64  # in which all that decides is summed
            alone, alone_log_det = function(x[-1:])
            torch.testing.assert_close(alone, y[-1:])
            torch.testing.assert_close(alone_log_det.to(dtype), log_det[-1:].to(dtype))


@every_case
def test_single_precision_agrees_with_double(case):
    x = 1.5 * draw(8, 4, 6)
    double, single = case.perturbed(2), case.perturbed(2).float()
    for name in ("forward", "inverse"):
        y, log_det = getattr(double, name)(x)
        y32, log_det32 = getattr(single, name)(x.float())
        torch.testing.assert_close(y32.double(), y, rtol=0, atol=2e-4)
        torch.testing.assert_close(log_det32.double(), log_det, rtol=0, atol=1e-3)


@every_case
def test_gradients_reach_every_parameter_in_both_directions(case):
    for lattice in EVEN:
        x = draw(4, *lattice)
        for name in ("forward", "inverse"):
            bijection = case.perturbed(len(lattice))
            y, log_det = getattr(bijection, name)(x)
            loss = (y * draw(4, *lattice, seed=5)).sum() + (log_det * draw(4, seed=6)).sum()
            if case.name == "nothing":
                continue
            loss.backward()
            for parameter, p in bijection.named_parameters():
                assert p.grad is not None, parameter
                assert p.grad.isfinite().all(), parameter
                assert p.grad.abs().sum() > 0, parameter


@every_case
def test_the_way_back_has_the_gradients_of_the_inverse(case):
    """`forward_and_back` is `forward`, then `inverse`, with its gradients by the field and by the weights."""
    for lattice in lattices(case):
        bijection, x = case.perturbed(len(lattice)), 1.5 * draw(3, *lattice)
        y, log_det, back = bijection.forward_and_back(x)
        expected_y, expected_log_det = bijection.forward(x)
        torch.testing.assert_close(y, expected_y.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(log_det, expected_log_det.detach(), rtol=0, atol=1e-12)
        assert not y.requires_grad
        assert not log_det.requires_grad
        found, expected = [], []
        for inverse, gradients in ((back, found), (bijection.inverse, expected)):
            leaf = y.clone().requires_grad_()
            z, log_det_back = inverse(leaf)
            loss = (z * draw(3, *lattice, seed=5)).sum() + (log_det_back * draw(3, seed=6)).sum()
            gradients += torch.autograd.grad(loss, [leaf, *bijection.parameters()])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@every_case
def test_the_score_walks_along_with_the_field(case):
    """`forward_with_score` against the gradient of the whole inverse, and in its graph against `forward`."""
    for lattice in lattices(case):
        bijection, x = case.perturbed(len(lattice)), 1.5 * draw(1, *lattice)
        y, log_det, score = bijection.forward_with_score(x, draw(1, *lattice, seed=3))
        leaf = y.detach().requires_grad_()
        again, log_det_back = bijection.inverse(leaf)
        loss = (draw(1, *lattice, seed=3) * again).sum() + log_det_back.sum()
        torch.testing.assert_close(score, torch.autograd.grad(loss, leaf)[0], rtol=1e-8, atol=1e-8)
        assert not score.requires_grad
        expected_y, expected_log_det = bijection.forward(x)
        assert torch.equal(y, expected_y)
        assert torch.equal(log_det, expected_log_det)
        if case.name == "nothing":
            continue
        weights = list(bijection.parameters())
        losses = [
            (a * draw(1, *lattice, seed=5)).sum() + b.sum()
            for a, b in ((y, log_det), (expected_y, expected_log_det))
        ]
        for one, other in zip(*(torch.autograd.grad(loss, weights) for loss in losses), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@every_case
def test_one_network_serves_every_lattice(case):
    """A field that repeats itself goes to a field that repeats itself, whatever the lattice it lies on."""
    for small, times in (((4,), (3,)), ((2, 4), (2, 1)), ((2, 2, 4), (1, 3, 2))):
        bijection, x = case.perturbed(len(small)), draw(2, *small)
        y, _ = bijection.forward(x)
        repeated, _ = bijection.forward(x.repeat(1, *times))
        torch.testing.assert_close(repeated, y.repeat(1, *times))


@every_case
def test_odd_sides_are_refused_where_a_checkerboard_is_needed(case):
    if case.any_side:
        return
    for lattice in ODD:
        odd = next(side for side in lattice if side % 2)
        for name in ("forward", "inverse"):
            with pytest.raises(ValueError, match=rf"odd side {odd}"):
                getattr(case.build(len(lattice)), name)(torch.zeros(1, *lattice))


@every_case
def test_autocast_lowers_networks_alone(case):
    x = draw(4, 4, 6)
    single, double = case.perturbed(2).float(), case.perturbed(2)
    for name in ("forward", "inverse"):
        expected = getattr(double, name)(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, log_det = getattr(single, name)(x.float())
            unchanged = getattr(double, name)(x)
        assert (y.dtype, log_det.dtype) == (torch.float32, torch.float64)
        torch.testing.assert_close(y.double(), expected[0], rtol=0.1, atol=0.2)
        assert all(torch.equal(a, b) for a, b in zip(unchanged, expected, strict=True))


@every_case
def test_weights_save_and_load(case, tmp_path):
    bijection, other, x = case.perturbed(2), case.build(2).double(), draw(2, 4, 6)
    save_tree(tmp_path / "weights", bijection.state_dict())
    other.load_state_dict(load_tree(tmp_path / "weights"))
    assert all(torch.equal(a, b) for a, b in zip(bijection.forward(x), other.forward(x), strict=True))


@every_case
def test_weights_that_ran_in_inference_mode_train_afterwards(case):
    bijection, x = case.perturbed(2), draw(1, 8, 2)
    with torch.inference_mode():
        bijection.forward(x)
    y, log_det = bijection.forward(x.requires_grad_())
    (y.sum() + log_det.sum()).backward()
    assert x.grad is not None


@every_case
def test_density_is_normalised(case):
    """∫ q = 1 on two sites, by the trapezoid rule, which errs by some 0.005 where splines have kinks."""
    flow = Flow(Normal((2,)), case.perturbed(1)).double()
    axis = torch.linspace(-10, 10, 321, dtype=torch.float64)
    with torch.no_grad():
        q = flow.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(len(axis), -1)
    assert torch.trapezoid(torch.trapezoid(q, axis), axis).item() == pytest.approx(1, abs=0.015)


@every_case
def test_samples_come_with_their_log_prob(case):
    for lattice in EVEN:
        flow = Flow(Normal(lattice), case.perturbed(len(lattice))).double()
        x, log_q = flow.sample(6, Generator().manual_seed(1))
        torch.testing.assert_close(flow.log_prob(x), log_q, rtol=0, atol=1e-8)
        z, log_det = flow.inverse(x)
        torch.testing.assert_close(z, flow.prior.sample(6, Generator().manual_seed(1)))
        torch.testing.assert_close(flow.forward(z)[1], -log_det)


# Splines


def spline_parameters(spline: Spline, seed: int, size: float = 1.0, dtype=torch.float64) -> Tensor:
    return size * draw(1, spline.n_parameters, 1, seed=seed, dtype=dtype)


def knots(spline: Spline, parameters: Tensor) -> Tensor:
    widths = spline._knots(parameters).widths[0, :, 0]
    return torch.cat((widths.new_zeros(1), widths.cumsum(0))) - spline.bound


@given(bins=st.integers(2, 9), bound=st.floats(0.5, 10), seed=st.integers(0, 10**6), size=st.floats(0, 4))
def test_spline_rises_is_inverted_and_is_the_identity_outside(bins, bound, seed, size):
    spline = Spline(bins, bound)
    parameters = spline_parameters(spline, seed, size)
    x = torch.linspace(-1.2 * bound, 1.2 * bound, 401, dtype=torch.float64)[None]
    y, log_slope = spline.forward(x, parameters)
    assert (y.diff() > 0).all()
    assert torch.equal(y[x.abs() >= bound], x[x.abs() >= bound])
    assert not log_slope[x.abs() >= bound].any()
    assert y[x.abs() < bound].abs().max() < bound
    again, opposite = spline.inverse(y, parameters)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-9 * bound)
    torch.testing.assert_close(opposite, -log_slope, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [2, 5, 16])
def test_spline_is_smooth_at_its_knots(bins, dtype):
    """Value and slope are continuous at each knot and at both ends, seen a few roundings on either side."""
    spline, eps = Spline(bins, 3.0), torch.finfo(dtype).eps
    parameters = spline_parameters(spline, 2, dtype=dtype)
    at = knots(spline, parameters)
    steps = 8 * eps * torch.tensor([-4, -1, 0, 1, 4], dtype=dtype)
    y, log_slope = spline.forward((at[:, None] + steps).reshape(1, -1), parameters)
    y, log_slope = y.reshape(-1, 5), log_slope.reshape(-1, 5)
    assert (y.max(1).values - y.min(1).values).max() < 3000 * eps
    assert (log_slope.max(1).values - log_slope.min(1).values).max() < 1e5 * eps
    edges = torch.tensor([[-3.0, 3.0]], dtype=dtype)
    for function in (spline.forward, spline.inverse):
        value, slope = function(edges, parameters)
        assert torch.equal(value, edges)
        assert torch.equal(slope, torch.zeros_like(edges))


@given(seed=st.integers(0, 10**6), size=st.floats(0, 1.5))
def test_spline_slope_is_the_derivative(seed, size):
    spline = Spline(6, 2.0)
    parameters = spline_parameters(spline, seed, size)
    x = draw(1, 50, seed=seed).requires_grad_()
    y, log_slope = spline.forward(x, parameters)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), derivative)
    z, log_slope = spline.inverse(x, parameters)
    (derivative,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope.exp(), derivative)


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_inverse_in_single_precision(size):
    """The error of f⁻¹(f(x)) is that of rounding y, amplified by the slope of the inverse."""
    spline, eps = Spline(8, 4.0), torch.finfo(torch.float32).eps
    x = torch.linspace(-4.2, 4.2, 20001, dtype=torch.float32)[None]
    for seed in range(5):
        parameters = spline_parameters(spline, seed, size, torch.float32)
        y, log_slope = spline.forward(x, parameters)
        again, _ = spline.inverse(y, parameters)
        assert ((again - x).abs() / (1 + torch.exp(-log_slope))).max() < 60 * eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_splines_keep_finite_gradients(dtype):
    """Steep next to flat: here a discriminant b² − 4ac would round to a negative number."""
    spline = Spline(8, 4.0)
    x = torch.linspace(-4.1, 4.1, 5001, dtype=dtype)[None]
    for seed in range(10):
        parameters = spline_parameters(spline, seed, 8.0, dtype).requires_grad_()
        for function in (spline.forward, spline.inverse):
            leaf = x.clone().requires_grad_()
            y, log_slope = function(leaf, parameters)
            assert y.isfinite().all()
            assert log_slope.isfinite().all()
            for gradient in torch.autograd.grad((y + log_slope).sum(), (leaf, parameters)):
                assert gradient.isfinite().all()


@pytest.mark.parametrize("scalar_map", [Affine(), Spline(2), Spline(7, 1.5)])
def test_zero_parameters_are_the_identity(scalar_map):
    x, zeros = 2 * draw(3, 40), torch.zeros(1, scalar_map.n_parameters, 1, dtype=torch.float64)
    for function in (scalar_map.forward, scalar_map.inverse):
        y, log_slope = function(x, zeros)
        torch.testing.assert_close(y, x, rtol=0, atol=1e-13)
        torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scalar_map", [Affine(), Spline(2), Spline(5), Spline(6)])
def test_symmetrized_parameters_mirror_the_map(scalar_map):
    even, odd = draw(3, scalar_map.n_even, 7), draw(3, scalar_map.n_odd, 7, seed=1)
    x = 2 * draw(3, 7, seed=2)
    y, log_slope = scalar_map.forward(x, scalar_map.symmetrized(even, odd))
    mirrored, mirrored_slope = scalar_map.forward(-x, scalar_map.symmetrized(even, -odd))
    torch.testing.assert_close(mirrored, -y)
    torch.testing.assert_close(mirrored_slope, log_slope)


@pytest.mark.parametrize(("bins", "bound"), [(1, 4.0), (1000, 4.0), (8, 0.0), (8, -1.0), (8, math.nan)])
def test_impossible_splines_are_refused(bins, bound):
    with pytest.raises(ValueError, match="expected 2 to 999 bins and a positive bound, got"):
        Spline(bins, bound)


def test_spline_refuses_a_wrong_number_of_parameters():
    network = ConvNet((1, 7), 3, generator=Generator().manual_seed(0))
    with pytest.raises(ValueError, match="expected 23 spline parameters a site, got 7"):
        Coupling(0, Spline(8), network).forward(torch.zeros(1, 4, 4))


def test_coupling_changes_one_colour_only():
    x = draw(3, 4, 6)
    coupling = next(case for case in CASES if case.name == "affine coupling").perturbed(2)
    y, _ = coupling.forward(x)
    moved = (y != x).all(0)
    assert torch.equal(moved, (torch.arange(4)[:, None] + torch.arange(6)) % 2 == 0)
    assert torch.equal(moved, (y != x).any(0))


# The Fourier layer


@pytest.mark.parametrize("lattice", [(1,), (8,), (7,), (4, 6), (5, 3), (1, 4), (2, 3, 4)])
@pytest.mark.parametrize("m2", [0.3, 1.25])
def test_fourier_layer_makes_the_free_field(lattice, m2):
    flow = Flow(Normal(lattice), FourierLayer(math.sqrt(m2))).double()
    with torch.no_grad():  # set in double precision what was initialised in single
        flow.bijection.log_mass_squared.fill_(math.log(m2))
        flow.bijection.log_scale.fill_(-0.5 * math.log(2))
    x, log_q = flow.sample(7, Generator().manual_seed(0))
    log_p = -Phi4(lattice, m2=m2, lam=0.0)(x) - exact.free_field_log_z(lattice, m2)
    torch.testing.assert_close(log_q, log_p, rtol=0, atol=1e-10)
    y = draw(7, *lattice, seed=1)
    log_p = -Phi4(lattice, m2=m2, lam=0.0)(y) - exact.free_field_log_z(lattice, m2)
    torch.testing.assert_close(flow.log_prob(y), log_p, rtol=0, atol=1e-10)


def test_fourier_layer_multiplies_each_plane_wave():
    """log σ(p) = a − (ν/2) log(k̂² + M²) + c₁t + c₂t² + c₃u, term by term."""
    layer, lattice = perturbed(FourierLayer(0.7, exponent=0.8, log_scale=0.1).double()), (4, 6)
    a, nu, mass2 = layer.log_scale, layer.exponent, layer.log_mass_squared.exp()
    for n in ((0, 0), (1, 0), (1, 2), (2, 3)):
        p = [2 * math.pi * k / side for k, side in zip(n, lattice, strict=True)]
        site = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in lattice), indexing="ij")
        wave = torch.cos(p[0] * site[0] + p[1] * site[1])[None]
        k2 = sum(4 * math.sin(q / 2) ** 2 for q in p)
        t, u = k2 / 8, sum(16 * math.sin(q / 2) ** 4 for q in p) / 32
        bends = layer.bend[0] * t + layer.bend[1] * t**2 + layer.bend[2] * u
        width = torch.exp(a - nu / 2 * torch.log(k2 + mass2) + bends)
        torch.testing.assert_close(layer.forward(wave)[0], width * wave)


def test_fourier_layer_commutes_with_translations_and_reflections():
    layer, x = perturbed(FourierLayer().double()), draw(2, 4, 4)
    y = layer.forward(x)[0]
    torch.testing.assert_close(layer.forward(x.roll((1, 3), (1, 2)))[0], y.roll((1, 3), (1, 2)))
    torch.testing.assert_close(layer.forward(x.flip(1))[0], y.flip(1))
    torch.testing.assert_close(layer.forward(x.mT)[0], y.mT)


def test_fourier_layer_needs_a_mass():
    for mass in (0.0, -1.0):
        with pytest.raises(ValueError, match="expected a positive mass"):
            FourierLayer(mass)


# Priors


@pytest.mark.parametrize("lattice", [(6,), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_what_they_say(lattice, dtype):
    n, normal = 4000, Normal(lattice).to(dtype)
    z = normal.sample(n, Generator().manual_seed(3))
    assert z.shape == (n, *lattice)
    assert (z.dtype, normal.log_prob(z).dtype) == (dtype, torch.float64)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z.double()).flatten(1).sum(1)
    torch.testing.assert_close(normal.log_prob(z), expected, rtol=1e-6, atol=0)
    # of N numbers: ⟨z⟩ has error 1/√N, ⟨z²⟩ √(2/N)
    count = n * volume(lattice)
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_links_are_what_they_say(dtype):
    n, lattice = 4000, (3, 4)
    links = UniformLinks(lattice).to(dtype)
    theta = links.sample(n, Generator().manual_seed(3))
    assert theta.shape == (n, 2, *lattice)
    assert (theta.dtype, links.log_prob(theta).dtype) == (dtype, torch.float64)
    count = 2 * volume(lattice)
    assert torch.equal(
        links.log_prob(theta), torch.full((n,), -count * math.log(2 * math.pi), dtype=torch.float64)
    )
    assert theta.abs().max() <= torch.tensor(math.pi, dtype=dtype)
    # of N numbers: ⟨cos θ⟩ has error √(1/2N), ⟨θ²⟩ = π²/3 has π² √(4/45N)
    assert abs(theta.cos().mean()) < 5 * math.sqrt(0.5 / (n * count))
    assert abs(theta.square().mean() - math.pi**2 / 3) < 5 * math.pi**2 * math.sqrt(4 / 45 / (n * count))


def test_priors_move_to_other_lattices_with_their_dtype():
    for prior, shape in ((Normal((4, 4)).double(), (3, 5)), (UniformLinks((4, 4)).double(), (2, 3, 5))):
        other = prior.on_lattice((3, 5))
        assert type(other) is type(prior)
        assert other.sample(2, Generator().manual_seed(0)).shape == (2, *shape)
        assert other.sample(2, Generator().manual_seed(0)).dtype == torch.float64


# Flows and presets

FLOWS = {
    "affine": lambda lattice, **options: affine_flow(lattice, layers=3, hidden=(4, 3), **options),
    "affine z2": lambda lattice, **options: affine_flow(
        lattice,
        layers=2,
        hidden=(4, 3),
        kernel=(3, 3, 1),
        dilation=(1, 2, 1),
        z2=True,
        fourier=True,
        activation="silu",
        **options,
    ),
    "spline": lambda lattice, **options: spline_flow(lattice, layers=2, hidden=(4, 3), scale=0.5, **options),
    "spline plain": lambda lattice, **options: spline_flow(
        lattice, layers=1, bins=3, hidden=(4,), kernel=(3, 3), z2=False, fourier=False, site_bins=0, **options
    ),
}


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lattice", EVEN)
def test_presets_save_and_load(name, dtype, lattice, tmp_path):
    flow = perturbed(FLOWS[name](lattice).to(dtype))
    save_flow(flow, tmp_path / "flow.safetensors")
    loaded = load_flow(str(tmp_path / "flow.safetensors"))
    assert loaded.recipe == flow.recipe == json.loads(json.dumps(flow.recipe))
    assert loaded.lattice == lattice
    (x, log_q), (again, log_q_again) = (f.sample(3, Generator().manual_seed(0)) for f in (flow, loaded))
    assert again.dtype == dtype
    assert torch.equal(x, again)
    assert torch.equal(log_q, log_q_again)
    assert torch.equal(flow.log_prob(x), loaded.log_prob(x))


@pytest.mark.parametrize("name", FLOWS)
def test_on_lattice_shares_the_parameters(name, tmp_path):
    flow = perturbed(FLOWS[name]((4, 4)).double())
    larger = flow.on_lattice([8, 6])
    assert larger.lattice == (8, 6)
    assert all(a is b for a, b in zip(flow.parameters(), larger.parameters(), strict=True))
    x, log_q = larger.sample(2, Generator().manual_seed(0))
    assert x.shape == (2, 8, 6)
    torch.testing.assert_close(larger.log_prob(x), log_q)
    assert flow.recipe is not None
    assert flow.recipe["lattice"] == [4, 4]
    save_flow(larger, tmp_path / "flow")
    loaded = load_flow(tmp_path / "flow")
    assert loaded.lattice == (8, 6)
    assert torch.equal(loaded.log_prob(x), larger.log_prob(x))
    with pytest.raises(ValueError, match=r"expected 2 side lengths as in \(4, 4\), got \(8,\)"):
        flow.on_lattice((8,))
    with pytest.raises(ValueError, match="odd side 5"):
        flow.on_lattice((4, 5)).sample(1, Generator())


@pytest.mark.parametrize("name", FLOWS)
def test_presets_start_near_the_identity_and_follow_their_generator(name):
    flow = FLOWS[name]((4, 4))
    first, second = (FLOWS[name]((4, 4), generator=Generator().manual_seed(2)) for _ in range(2))
    weights = [torch.cat([p.flatten() for p in f.parameters()]) for f in (flow, first, second)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    x, _ = flow.sample(2000, Generator().manual_seed(0))
    assert 0.4 < x.std() < 1.2
    assert copy.deepcopy(flow).double().sample(2, Generator())[1].dtype == torch.float64


def test_defaults_of_the_affine_flow_are_those_of_the_paper():
    flow = affine_flow((16, 16))
    couplings = list(flow.bijection.bijections)
    assert len(couplings) == 16
    assert [coupling.sites.parity for coupling in couplings] == [0, 1] * 8
    sizes = [tuple(p.shape) for p in couplings[0].parameters() if p.ndim > 1]
    assert sizes == [(16, 1, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (2, 16, 3, 3)]
    assert sum(p.numel() for p in flow.parameters()) == 16 * (160 + 2320 + 2320 + 290)


def test_initial_fourier_layer_has_unit_variance_at_each_site():
    for lattice in ((8,), (4, 6), (4, 2, 4)):
        layer = spline_flow(lattice, layers=0, site_bins=0).bijection.bijections[0]
        assert isinstance(layer, FourierLayer)
        assert torch.exp(2 * layer.log_width(lattice)).mean().item() == pytest.approx(1, abs=1e-6)


def test_trained_site_map_follows_its_scale():
    """Site spline and scale act in this order: the spline's bound counts standard deviations."""
    flow = spline_flow((2,), layers=0, fourier=False, site_bins=4, bound=3.0, scale=0.5)
    assert isinstance(flow.bijection.bijections[0], SiteMap)
    perturbed(flow.bijection.bijections[0])
    z = torch.tensor([[-3.0, 3.0]])
    torch.testing.assert_close(flow.forward(z)[0], 0.5 * z)


@pytest.mark.parametrize("build", [affine_flow, spline_flow])
def test_presets_refuse_lattices_without_checkerboard(build):
    with pytest.raises(ValueError, match=r"got lattice \(4, 7\) with the odd side 7"):
        build((4, 7))
    with pytest.raises(ValueError, match="one to three positive side lengths"):
        build((2, 2, 2, 2))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"type": "real_nvp", "lattice": [4, 4]}, "density out of affine, .*got 'real_nvp'"),
        ({"lattice": [4, 4]}, "recipe of a density with a type, got .'lattice'"),
        ({"type": "affine"}, "expected the arguments lattice too"),
        ({"type": "affine", "lattice": [4, 4], "depth": 3}, "arguments out of .*layers.*, got depth"),
        ({"type": "affine", "lattice": [4, 4], "generator": 3}, "arguments out of .*, got generator"),
        ({"type": "affine", "lattice": [4, 4], "layers": -1}, "layers ≥ 0, got -1"),
        ({"type": "spline", "lattice": [4, 4], "layers": -2}, "layers ≥ 0, got -2"),
        ({"type": "spline", "lattice": [4, 4], "kernel": [3, 3, 3]}, "Z2 network have kernel 1, got 3"),
        ({"type": "spline", "lattice": [4, 4], "kernel": [3, 1]}, "one kernel or 2"),
        ({"type": "spline", "lattice": [4, 4], "scale": 0.0}, "scale > 0, got 0.0"),
        ({"type": "spline", "lattice": [4, 4], "bins": 1}, "2 to 999 bins"),
        ({"type": "affine", "lattice": [4, 4], "activation": "sine"}, "activation to be one of"),
    ],
)
def test_recipes_that_cannot_be_built(recipe, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        build_flow(recipe)


def test_files_of_other_things_are_refused(tmp_path):
    flow = FLOWS["spline"]((4, 4))
    save_flow(flow, tmp_path / "flow")
    tree = load_tree(tmp_path / "flow")
    wrong = {
        "no flow": {"x": torch.ones(1)},
        "unknown type": tree | {"model": tree["model"] | {"type": "glow"}},
        "other sizes": tree | {"model": tree["model"] | {"bins": 5}},
        "more layers": tree | {"model": tree["model"] | {"layers": 3}},
        "no recipe": tree | {"model": 3},
    }
    for name, contents in wrong.items():
        save_tree(tmp_path / name, contents)
        with pytest.raises(CheckpointError, match=name):
            load_flow(tmp_path / name)
    with pytest.raises(CheckpointError, match="missing"):
        load_flow(tmp_path / "missing")
    (tmp_path / "cut").write_bytes((tmp_path / "flow").read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="cut"):
        load_flow(tmp_path / "cut")


def test_flows_composed_by_hand_have_no_recipe(tmp_path):
    bijection: Bijection = FourierLayer()
    flow = Flow(Normal((3, 5)), bijection)
    assert flow.on_lattice((7, 1)).sample(2, Generator())[0].shape == (2, 7, 1)
    with pytest.raises(ValueError, match="store the state_dict"):
        save_flow(flow, tmp_path / "flow")
