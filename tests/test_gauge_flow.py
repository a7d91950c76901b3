"""Circular maps, the patterns of active links, and gauge-equivariant flows."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Generator

from cases import draw, perturbed
from latflow.densities.flows import (
    CircularSpline,
    GaugeCoupling,
    LinkPattern,
    ProjectionMixture,
    build_flow,
    gauge_flow,
    load_flow,
    save_flow,
)
from latflow.estimators import path_gradient, reinforce, reinforce_leave_one_out, reparametrization
from latflow.exact import u1_log_z
from latflow.lattice import wrapped
from latflow.theories import U1Gauge, gauge_transformed, plaquette_angles
from latflow.wilson.linear_algebra import slogdet

PATTERNS = [
    LinkPattern(masks, direction, offset)
    for masks, direction, offset in itertools.product(("diagonal", "stripes"), (0, 1), range(4))
]


def unchecked(function):
    """Without the tests' type checker, which refuses a wrong name first."""
    return getattr(function, "__wrapped__", function)


MAPS = [CircularSpline(8), CircularSpline(3, 0.0), ProjectionMixture(1), ProjectionMixture(5)]
FLOWS = {
    "spline": {"layers": 8},
    "all rectangles": {"layers": 5, "rectangles": "all", "bins": 4},
    "no rectangles": {"layers": 8, "rectangles": "none", "kernel": (3, 1), "dilation": 1, "hidden": (3,)},
    "projection on stripes": {"layers": 8, "masks": "stripes", "scalar_map": "projection", "bins": 3},
    "quenched prior": {"layers": 8, "prior_beta": 1.5, "bins": 5},
    "one scaling": {"layers": 6, "scalar_map": "projection", "bins": 1, "rectangles": "all"},
}
every_map = pytest.mark.parametrize(
    "circular_map", MAPS, ids=lambda m: f"{type(m).__name__} {m.n_parameters}"
)
every_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
every_flow = pytest.mark.parametrize("options", FLOWS.values(), ids=FLOWS.keys())


def flow_of(options, lattice=(4, 8), dtype=torch.float64, size=0.1):
    """A flow with weights far from those of the identity."""
    small = {"hidden": (4, 4)} | options
    return perturbed(gauge_flow(lattice, **small).to(dtype), size)


def angles(*shape, seed=0, dtype=torch.float64):
    return wrapped(3 * draw(*shape, seed=seed, dtype=dtype))


def assert_same_angles(one, other, atol):
    assert wrapped(one - other).abs().max() <= atol


# Maps of the circle


def test_the_spline_of_the_published_code():
    outputs = torch.from_numpy(np.random.default_rng(0).standard_normal(25))[None, :, None]
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    y, log_slope = CircularSpline(8, minimum=0.0).forward(x, outputs.expand(2, -1, -1))
    expected = torch.tensor([[2.14553452229871], [5.29050240455413]], dtype=torch.float64)
    slopes = torch.tensor([[-0.48216195928630], [0.84929371311722]], dtype=torch.float64)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(log_slope, slopes, rtol=0, atol=1e-12)


@every_map
def test_circular_maps_turn_the_circle_once(circular_map):
    """They are monotone, continuous through 0 and π, of period 2π, and ∫ f′ dx = 2π."""
    parameters = draw(1, circular_map.n_parameters, 1)
    x = torch.linspace(-math.pi, math.pi, 20001, dtype=torch.float64)[None]
    y, log_slope = circular_map.forward(x, parameters)
    steps = wrapped(y.diff(dim=1))
    assert steps.min() > 0
    assert y.min() >= 0
    assert y.max() < 2 * math.pi
    assert steps.sum().item() == pytest.approx(2 * math.pi, abs=1e-9)
    # the trapezium rule errs by dx² f″′: 1e-7 times derivatives of splines that jump at a few knots
    assert torch.trapezoid(log_slope.exp(), x).item() == pytest.approx(2 * math.pi, abs=1e-4)
    assert_same_angles(circular_map.forward(x + 2 * math.pi, parameters)[0], y, 1e-9)


@every_map
def test_log_slope_is_the_derivative(circular_map):
    x, parameters = angles(4, 9), draw(4, circular_map.n_parameters, 9)
    for function in (circular_map.forward, circular_map.inverse):
        leaf = x.clone().requires_grad_()
        y, log_slope = function(leaf, parameters)
        (slope,) = torch.autograd.grad(y.sum(), leaf)
        torch.testing.assert_close(slope.log(), log_slope.detach(), rtol=0, atol=1e-9)


@every_map
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-2)])
def test_the_inverse_of_circular_maps(circular_map, dtype, atol):
    x = angles(500, 7, dtype=dtype)
    parameters = draw(500, circular_map.n_parameters, 7, seed=1, dtype=dtype)
    y, log_slope = circular_map.forward(x, parameters)
    back, opposite = circular_map.inverse(y, parameters)
    assert back.dtype == opposite.dtype == dtype
    assert_same_angles(back, x, atol)
    assert (log_slope + opposite).abs().max() <= atol


@every_map
def test_gradients_of_the_inverse_are_those_of_the_implicit_function(circular_map):
    """What REINFORCE differentiates: log f⁻¹′ and f⁻¹ by their parameters, against finite differences."""
    y, parameters = angles(3, 4), draw(3, circular_map.n_parameters, 4, seed=2).requires_grad_()
    weights, direction = draw(2, 3, 4, seed=3), draw(3, circular_map.n_parameters, 4, seed=4)

    def value(p):
        x, log_slope = circular_map.inverse(y, p)
        return (weights[0] * x + weights[1] * log_slope).sum()

    (gradient,) = torch.autograd.grad(value(parameters), parameters)
    step = 1e-6
    with torch.no_grad():
        slope = (value(parameters + step * direction) - value(parameters - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-6)


@every_map
def test_circular_maps_know_their_identity(circular_map):
    parameters = torch.tensor(circular_map.identity(), dtype=torch.float64)[None, :, None]
    x = angles(5, 6)
    y, log_slope = circular_map.forward(x, parameters)
    assert_same_angles(y, x, 1e-12)
    assert log_slope.abs().max() < 1e-12


def test_circular_maps_refuse_what_they_cannot_be():
    with pytest.raises(ValueError, match="expected at least 2 bins"):
        CircularSpline(1)
    with pytest.raises(ValueError, match="minimum"):
        CircularSpline(8, 0.2)
    with pytest.raises(ValueError, match="expected at least one component"):
        ProjectionMixture(0)
    for circular_map in MAPS:
        with pytest.raises(ValueError, match=f"expected {circular_map.n_parameters} parameters"):
            circular_map.forward(angles(1, 2), draw(1, circular_map.n_parameters + 1, 2))


# Patterns


def loop_edges(x, directions):
    """The links (μ, site) of the loop that goes from x once around a rectangle, by walking it."""
    lattice, edges = (8, 8), []
    for mu, length in directions:
        for _ in range(abs(length)):
            step = [0, 0]
            step[mu] = 1 if length > 0 else -1
            there = tuple((c + s) % side for c, s, side in zip(x, step, lattice, strict=True))
            edges.append((mu, x if length > 0 else there))
            x = there
    return edges


@every_pattern
def test_a_quarter_of_the_links_is_active_and_no_visible_loop_holds_one(pattern):
    lattice, mu, nu = (8, 8), pattern.direction, pattern.transverse
    active = pattern.active(lattice)
    assert active.sum() == 16
    held = {(mu, tuple(site)) for site in active.nonzero().tolist()}
    shapes = [
        [(mu, 1), (nu, 1), (mu, -1), (nu, -1)],
        [(nu, 2), (mu, 1), (nu, -2), (mu, -1)],
        [(mu, 2), (nu, 1), (mu, -2), (nu, -1)],
    ]
    for rectangles in ("frozen", "all"):
        for loop, directions in zip(pattern.visible(lattice, rectangles), shapes, strict=True):
            for site in loop.nonzero().tolist():
                assert held.isdisjoint(loop_edges(tuple(site), directions))
    # active and passive plaquettes hold exactly one each, the frozen half none
    counts = {
        site: len(held.intersection(loop_edges(site, shapes[0])))
        for site in itertools.product(range(8), repeat=2)
    }
    assert all(counts[tuple(site)] == 1 for site in active.nonzero().tolist())
    assert sorted(counts.values()) == [0] * 32 + [1] * 32
    assert pattern.frozen(lattice).sum() == 32


@every_pattern
def test_all_loops_that_are_free_of_active_links_are_visible(pattern):
    lattice, mu, nu = (8, 8), pattern.direction, pattern.transverse
    held = {(mu, tuple(site)) for site in pattern.active(lattice).nonzero().tolist()}
    shapes = {
        1: [(nu, 2), (mu, 1), (nu, -2), (mu, -1)],
        2: [(mu, 2), (nu, 1), (mu, -2), (nu, -1)],
    }
    visible = pattern.visible(lattice, "all")
    for number, directions in shapes.items():
        for site in itertools.product(range(8), repeat=2):
            free = held.isdisjoint(loop_edges(site, directions))
            assert bool(visible[number][site]) == free


@pytest.mark.parametrize("masks", ["diagonal", "stripes"])
def test_eight_layers_update_every_link_exactly_once(masks):
    updates = torch.zeros(2, 8, 12, dtype=torch.int64)
    for layer in range(8):
        pattern = LinkPattern.of_layer(layer, masks)
        updates[pattern.direction] += pattern.active((8, 12))
    assert torch.equal(updates, torch.ones_like(updates))
    assert LinkPattern.of_layer(8, masks) == LinkPattern.of_layer(0, masks)


def test_patterns_refuse_what_they_cannot_tile():
    for lattice, legal in (((6, 8), (8, 8)), ((4, 9), (4, 8)), ((3, 3), (4, 4))):
        with pytest.raises(ValueError, match=rf"multiples of 4, such as \({legal[0]}, {legal[1]}\), got"):
            gauge_flow(lattice)
        with pytest.raises(ValueError, match="multiples of 4"):
            flow_of({"layers": 1}).bijection.forward(angles(1, 2, *lattice))
    with pytest.raises(ValueError, match="masks"):
        unchecked(gauge_flow)((4, 4), masks="checkers")
    with pytest.raises(ValueError, match="offset"):
        LinkPattern("stripes", 0, 4)


# Flows


def test_the_default_flow_has_the_size_of_the_published_one():
    flow = gauge_flow((8, 8))
    assert sum(p.numel() for p in flow.parameters()) == 2_633_904
    assert sum(p.numel() for p in flow.bijection.bijections[0].parameters()) == 54_873


@every_flow
@pytest.mark.parametrize("lattice", [(4, 4), (8, 4), (4, 12)])
def test_gauge_flows_are_undone(options, lattice):
    flow, z = flow_of(options, lattice), angles(3, 2, *lattice)
    for there, back in ((flow.forward, flow.inverse), (flow.inverse, flow.forward)):
        x, log_det = there(z)
        again, opposite = back(x)
        assert wrapped(x - z).abs().max() > 0.1
        assert_same_angles(again, z, 1e-7)
        torch.testing.assert_close(opposite, -log_det, rtol=0, atol=1e-6)


@every_flow
def test_every_link_is_moved_by_eight_layers(options):
    flow, z = flow_of(options | {"layers": 8}), angles(2, 2, 4, 8)
    moved = wrapped(flow.forward(z)[0] - z).abs()
    assert moved.min() > 1e-6


def first(function, x):
    return function(x)[0]


@every_flow
def test_log_det_is_that_of_the_jacobian(options):
    flow, z = flow_of(options, (4, 4)), angles(2, 2, 4, 4, seed=5)
    for function in (flow.forward, flow.inverse):
        _, log_det = function(z)
        for one, found in zip(z.split(1), log_det, strict=True):
            jacobian = torch.autograd.functional.jacobian(partial(first, function), one)
            assert found.item() == pytest.approx(slogdet(jacobian.view(32, 32)).log_abs.item(), abs=1e-8)


@every_flow
def test_gauge_equivariance(options):
    flow, z, alpha = flow_of(options), angles(3, 2, 4, 8), 4 * draw(3, 4, 8, seed=1)
    for function in (flow.forward, flow.inverse):
        (x, log_det), (turned, turned_log_det) = function(z), function(gauge_transformed(z, alpha))
        assert_same_angles(turned, gauge_transformed(x, alpha), 1e-8)
        torch.testing.assert_close(turned_log_det, log_det, rtol=0, atol=1e-8)


@every_flow
def test_angles_count_modulo_a_turn(options):
    flow, z = flow_of(options), angles(3, 2, 4, 8)
    turns = 2 * math.pi * torch.randint(-2, 3, z.shape, generator=Generator().manual_seed(0)).double()
    (x, log_det), (other, other_log_det) = flow.forward(z), flow.forward(z + turns)
    assert_same_angles(other, x, 1e-8)
    torch.testing.assert_close(other_log_det, log_det, rtol=0, atol=1e-8)


@every_flow
def test_one_network_serves_every_lattice(options):
    flow, z = flow_of(options, (4, 4)), angles(2, 2, 4, 4)
    x, log_det = flow.forward(z)
    repeated, repeated_log_det = flow.on_lattice((8, 12)).forward(z.repeat(1, 1, 2, 3))
    assert_same_angles(repeated, x.repeat(1, 1, 2, 3), 1e-8)
    torch.testing.assert_close(repeated_log_det, 6 * log_det, rtol=0, atol=1e-7)


@every_flow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_keep_their_precision_and_carry_their_density(options, dtype):
    flow = flow_of(options, dtype=dtype)
    for n in (1, 5):
        x, log_q = flow.sample(n, Generator().manual_seed(2))
        assert x.shape == (n, 2, 4, 8)
        assert (x.dtype, log_q.dtype) == (dtype, torch.float64)
        assert x.abs().max() <= torch.tensor(math.pi, dtype=dtype)
        atol = 1e-9 if dtype == torch.float64 else 1e-2
        torch.testing.assert_close(flow.log_prob(x), log_q, rtol=0, atol=atol)


def test_a_layer_changes_active_and_passive_plaquettes_alone():
    for layer in range(8):
        flow = flow_of({"layers": 8}, (8, 8))
        coupling = flow.bijection.bijections[layer]
        z = angles(2, 2, 8, 8)
        changed = wrapped(plaquette_angles(coupling.forward(z)[0]) - plaquette_angles(z)).abs() > 1e-9
        assert torch.equal(changed.any(0), ~coupling.pattern.frozen((8, 8)))


@every_flow
def test_fixed_draws_have_the_gradient_of_log_prob(options):
    flow = flow_of(options)
    x, log_q = flow.sample_fixed(3, Generator().manual_seed(1))
    same, expected_log_q = flow.sample(3, Generator().manual_seed(1))
    torch.testing.assert_close(x, same.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_q.detach(), expected_log_q.detach(), rtol=0, atol=1e-10)
    weights, signal = list(flow.parameters()), draw(3, seed=3)
    found = torch.autograd.grad((signal * log_q).sum(), weights)
    expected = torch.autograd.grad((signal * flow.log_prob(x)).sum(), weights)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@every_flow
def test_the_score_of_draws_is_that_of_their_density(options):
    flow = flow_of(options)
    drawn = flow.sample_with_score(1, Generator().manual_seed(1))
    leaf = drawn.x.detach().requires_grad_()
    log_q = flow.log_prob(leaf)
    (score,) = torch.autograd.grad(log_q.sum(), leaf)
    assert float(score.abs().max()) > 1e-2
    torch.testing.assert_close(drawn.log_q, log_q.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(drawn.score, score, rtol=1e-6, atol=1e-7)


@every_flow
@pytest.mark.parametrize("estimator", [reinforce, reparametrization, path_gradient])
def test_every_estimator_trains_every_gauge_flow(options, estimator):
    flow = flow_of(options, (4, 4))
    estimate = estimator(flow, U1Gauge((4, 4), beta=1.0), 4, Generator().manual_seed(0))
    estimate.loss.backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert sum(float(parameter.grad.abs().sum()) for parameter in flow.parameters()) > 0


def test_estimators_agree_on_links():
    """The mean gradient of REINFORCE is that of the path gradient: pulls of unit size, none above five."""
    options = {"layers": 4, "hidden": (3,), "kernel": (3, 1), "dilation": 1, "bins": 3}
    flow, action = flow_of(options, (4, 4), size=0.05), U1Gauge((4, 4), beta=1.0)

    def estimates(estimator, batch, seed):
        generator, found = Generator().manual_seed(seed), []
        for _ in range(80):
            loss = estimator(flow, action, batch, generator).loss
            gradients = torch.autograd.grad(loss, list(flow.parameters()))
            found.append(torch.cat([gradient.flatten() for gradient in gradients]))
        return torch.stack(found)

    path, score = estimates(path_gradient, 64, 1), estimates(reinforce_leave_one_out, 256, 2)
    error = ((path.var(0) + score.var(0)) / 80).sqrt()
    reached = error > 0  # channels of loops that are never visible are constant, and some taps see nothing
    pulls = ((path.mean(0) - score.mean(0)) / error)[reached]
    assert reached.sum() > 500
    assert (path.mean(0).abs() > 5 * path.std(0) / math.sqrt(80))[reached].float().mean() > 0.2
    assert pulls.abs().max() < 5
    # neighbouring weights are correlated: a hundred independent ones would scatter the mean square by 0.14
    assert 0.5 < pulls.square().mean() < 1.7


def test_the_density_of_a_gauge_flow_is_normalised():
    """⟨exp(−S)/q⟩ over draws of q is Z, exactly known, whatever the weights."""
    action, n = U1Gauge((4, 4), beta=0.5), 20000
    flow = flow_of({"layers": 8, "rectangles": "all"}, (4, 4), dtype=torch.float32, size=0.03)
    with torch.no_grad():
        x, log_q = flow.sample(n, Generator().manual_seed(4))
    log_z = u1_log_z((4, 4), 0.5) + 32 * math.log(2 * math.pi)
    ratio = ((-action(x) - log_q).double() - log_z).exp()
    error = (ratio.std() / math.sqrt(n)).item()
    assert error < 0.05
    assert abs(ratio.mean().item() - 1) < 5 * error


def test_a_quenched_flow_begins_as_pure_gauge_theory():
    """Without layers it is that theory: all log-weights are log Z, on any lattice."""
    flow = gauge_flow((4, 8), layers=0, prior_beta=2.0).double()
    for lattice in ((4, 8), (8, 4)):
        x, log_q = flow.on_lattice(lattice).sample(50, Generator().manual_seed(0))
        expected = u1_log_z(lattice, 2.0) + 64 * math.log(2 * math.pi)
        weight = -U1Gauge(lattice, beta=2.0)(x) - log_q
        torch.testing.assert_close(weight, torch.full_like(weight, expected), rtol=0, atol=1e-10)


def test_gauge_flows_are_stored_and_read(tmp_path):
    flow = flow_of(FLOWS["projection on stripes"])
    save_flow(flow, tmp_path / "flow.safetensors")
    again = load_flow(tmp_path / "flow.safetensors")
    z = angles(2, 2, 4, 8)
    assert torch.equal(again.forward(z)[0], flow.forward(z)[0])
    assert build_flow({"type": "gauge", "lattice": [4, 4], "layers": 1}).lattice == (4, 4)


def test_names_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="scalar_map"):
        unchecked(gauge_flow)((4, 4), scalar_map="affine")
    with pytest.raises(ValueError, match="rectangles"):
        unchecked(gauge_flow)((4, 4), rectangles="some")
    network = gauge_flow((4, 4), layers=1).bijection.bijections[0].network
    with pytest.raises(ValueError, match="rectangles"):
        GaugeCoupling(PATTERNS[0], CircularSpline(), network, "some")
