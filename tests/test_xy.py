"""The XY model: its action, exact results, chains, and the flow of circular couplings."""

import math

import numpy as np
import pytest
import torch
from scipy.special import i0, iv, ive
from torch import Generator

from latflow import registry
from latflow.analysis import Sample, effective_sample_size, measure
from latflow.densities.base import draws
from latflow.densities.files import load_density, save_density
from latflow.estimators import path_gradient
from latflow.fields.angles import SITE_ANGLES, binder_cumulant_of_vectors
from latflow.lattice import wrapped
from latflow.observables import recorded
from latflow.samplers.base import run, thermalise
from latflow.samplers.hmc import HMC
from latflow.theories.base import Scaled, Sum
from latflow.theories.xy import XY, exact, xy_of
from latflow.theories.xy.action import vortex_density
from latflow.theories.xy.flow import UniformAngles, circular_flow
from latflow.theories.xy.flow.circle import GeneralizedVonMises
from latflow.theories.xy.flow.stages import levels, roles, stages
from latflow.theories.xy.updates import XYMetropolis, XYWolff, colouring

F64 = torch.float64
SHAPES = [(5,), (4, 6), (3, 5), (2, 2), (2, 3, 4)]


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def angles(shape: tuple[int, ...], n: int = 4, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    return SITE_ANGLES.start(shape, n, generator(seed), dtype)


def glass(lattice: tuple[int, ...], beta: float = 0.8, field: float = 0.3) -> XY:
    couplings = torch.randn((len(lattice), *lattice), generator=generator(5), dtype=F64)
    return XY(lattice, beta, field, couplings)


# --- the kind of field -------------------------------------------------------------------------------------


def test_start_distance_and_symmetries():
    x = angles((4, 6), 2000)
    assert bool((x > -math.pi).all())
    assert bool((x <= math.pi).all())
    assert abs(float(x.mean())) < 5 * math.pi / math.sqrt(3 * x.numel())
    near, far = torch.tensor([3.1]), torch.tensor([-3.1])
    assert float(SITE_ANGLES.distance(near, far)) == pytest.approx(2 * math.pi - 6.2, abs=1e-6)
    action = XY((4, 6), 1.3)
    for transform in SITE_ANGLES.symmetries.values():
        turned = transform(x[:8], generator(1))
        assert not torch.allclose(turned, x[:8])
        torch.testing.assert_close(action(turned), action(x[:8]))
        assert float(turned.abs().max()) <= math.pi


def test_a_field_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected a site angles field"):
        XY((4, 6), 1.0)(torch.zeros(1, 4, 4))


def test_observables_by_hand():
    x = angles((4, 6), 3)
    seen = recorded(XY((4, 6), 1.1))(x)
    vectors = torch.stack((x.cos(), x.sin()))
    m = vectors.flatten(2).mean(2)
    torch.testing.assert_close(seen["abs_magnetization"], m.norm(dim=0))
    torch.testing.assert_close(seen["magnetization_along"], m[0])
    torch.testing.assert_close(seen["magnetization_across"], m[1])
    times = torch.stack([(vectors.sum(3) * vectors.sum(3).roll(-t, 2)).sum((0, 2)) / 24 for t in range(3)], 1)
    torch.testing.assert_close(seen["two_point"][:, :3], times)
    mode = (torch.exp(1j * x).sum(1) * torch.exp(-2j * math.pi * torch.arange(6) / 6)).sum(1)
    other = (torch.exp(1j * x).sum(1) * torch.exp(2j * math.pi * torch.arange(6) / 6)).sum(1)
    torch.testing.assert_close(seen["lowest_mode"], (mode.abs() ** 2 + other.abs() ** 2) / 2 / 24)
    torch.testing.assert_close(-1.1 * seen["energy"] * -24, -seen["action"] * -1.0)


def test_binder_cumulant_is_zero_for_a_gaussian_vector():
    m = np.random.default_rng(0).normal(size=(2, 400_000))
    squared = (m**2).sum(0)
    assert abs(binder_cumulant_of_vectors(squared.mean(), (squared**2).mean())) < 0.01
    assert binder_cumulant_of_vectors(1.0, 1.0) == 0.5


# --- the action --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", SHAPES)
@pytest.mark.parametrize("make", [lambda s: XY(s, 0.9), lambda s: XY(s, 0.9, 0.4), glass])
def test_action_site_by_site_and_force(lattice, make):
    action, x = make(lattice), angles(lattice, 3)
    strengths = action.bond_strengths()
    total = torch.zeros(3, dtype=F64)
    for site in np.ndindex(*lattice):
        total -= action.field * x[(slice(None), *site)].cos()
        for mu in range(len(lattice)):
            ahead = list(site)
            ahead[mu] = (ahead[mu] + 1) % lattice[mu]
            difference = x[(slice(None), *site)] - x[(slice(None), *ahead)]
            total -= strengths[(mu, *site)] * difference.cos()
    torch.testing.assert_close(action(x), total)

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(action(leaf).sum(), leaf)
    torch.testing.assert_close(action.force(x), -gradient)
    step = 1e-5
    site = (0,) * len(lattice)
    moved = [x.clone() for _ in range(2)]
    for sign, one in zip((1, -1), moved, strict=True):
        one[(slice(None), *site)] += sign * step
    slope = (action(moved[0]) - action(moved[1])) / (2 * step)
    torch.testing.assert_close(action.force(x)[(slice(None), *site)], -slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("make", [lambda s: XY(s, 0.9), glass])
def test_the_local_field_says_how_the_action_depends_on_one_angle(make):
    action, x = make((3, 5)), angles((3, 5), 3)
    new = x.clone()
    new[:, 1, 2] = 0.7
    along, across = (part[:, 1, 2] for part in action.local_field(x))
    change = -(along * (math.cos(0.7) - x[:, 1, 2].cos()) + across * (math.sin(0.7) - x[:, 1, 2].sin()))
    torch.testing.assert_close(action(new) - action(x), change)


def test_multiples_and_sums_are_xy_models():
    x, one, other = angles((4, 4)), XY((4, 4), 0.7, 0.2), glass((4, 4))
    torch.testing.assert_close((2.0 * one)(x), 2 * one(x))
    torch.testing.assert_close((one + other)(x), one(x) + other(x))
    assert one + one == XY((4, 4), 1.4, 0.4)
    torch.testing.assert_close(xy_of(Sum(Scaled(other, 0.5), one))(x), other(x) / 2 + one(x))
    with pytest.raises(ValueError, match="expected an XY model"):
        xy_of(registry.load("theories", "phi4")((4, 4), m2=1.0, lam=0.0))
    with pytest.raises(ValueError, match="on one lattice"):
        one + XY((4, 6), 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"lattice": (1, 4)}, "at least 2"), ({"lattice": (4, 4), "couplings": np.ones((2, 4, 5))}, "shape")],
)
def test_what_is_no_xy_model_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        XY(beta=1.0, **arguments)


def test_vortices_of_a_pair_and_of_a_winding_field():
    lattice = (8, 8)
    i, j = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    # angles around a point between sites, minus those around another: a vortex and an antivortex
    pair = torch.atan2(i - 1.5, j - 1.5) - torch.atan2(i - 5.5, j - 1.5)
    assert float(vortex_density(wrapped(pair)[None])) * 64 >= 2
    winding = (2 * math.pi * i / 8)[None]
    assert float(vortex_density(wrapped(winding))) == 0
    action = XY(lattice, 1.0)
    # a field that winds once carries the current V sin(2π/L): its stiffness is far below zero
    assert float(action.helicity_modulus(0)(winding)) == pytest.approx(
        math.cos(math.pi / 4) - 64 * math.sin(math.pi / 4) ** 2, rel=1e-5
    )
    assert float(action.helicity_modulus(1)(winding)) == pytest.approx(1.0)


# --- exact results -----------------------------------------------------------------------------------------


def test_the_ring_by_its_definition():
    beta, length = 1.3, 5
    n = np.arange(-60, 61)
    terms = iv(n, beta)
    assert exact.xy_ring_log_z(length, beta) == pytest.approx(
        length * math.log(2 * math.pi) + math.log(np.sum(terms**length)), abs=1e-12
    )
    # two bonds join the two sites of the shortest ring
    assert exact.xy_ring_log_z(2, beta) == pytest.approx(math.log(4 * math.pi**2 * i0(2 * beta)), abs=1e-12)
    step = 1e-5
    slope = (exact.xy_ring_log_z(length, beta + step) - exact.xy_ring_log_z(length, beta - step)) / (2 * step)
    assert exact.xy_ring_energy(length, beta) == pytest.approx(-slope / length, abs=1e-9)


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_the_ring_by_quadrature(length):
    action = XY((length,), 0.9)
    averages = exact.xy_averages(action, points=14 if length > 4 else 24)
    known = action.known()
    assert known["log_z"].value == pytest.approx(averages.log_z, abs=1e-9)
    assert known["action_density"].value == pytest.approx(averages.action / length, abs=1e-9)
    assert known["V_magnetization_squared"].value == pytest.approx(length * averages.m_squared, abs=1e-9)
    correlator = exact.xy_ring_correlator(length, 0.9)
    assert correlator[0] == pytest.approx(1.0)
    np.testing.assert_allclose(correlator[1:], correlator[:0:-1])
    series = action.known_series("two_point")
    np.testing.assert_allclose(series, correlator[: length // 2 + 1])


@pytest.mark.parametrize("beta", [0.3, 1.0, 1.8])
def test_a_torus_of_two_by_two_by_quadrature(beta):
    averages = exact.xy_averages(XY((2, 2), beta), points=32)
    torus = exact.xy_torus((2, 2), beta)
    assert torus.log_z == pytest.approx(averages.log_z, abs=1e-7)
    assert beta * torus.energy * 4 == pytest.approx(averages.action, abs=1e-6)


@pytest.mark.slow
def test_a_torus_of_two_by_three_by_quadrature():
    averages = exact.xy_averages(XY((2, 3), 1.0), points=16)
    torus = exact.xy_torus((2, 3), 1.0)
    assert torus.log_z == pytest.approx(averages.log_z, abs=1e-8)
    assert torus.energy * 6 == pytest.approx(averages.action, abs=1e-7)


def test_quadrature_knows_couplings_and_fields():
    free = XY((2, 2), 0.0, field=0.8)
    averages = exact.xy_averages(free)
    assert averages.log_z == pytest.approx(4 * math.log(2 * math.pi * i0(0.8)), abs=1e-12)
    assert averages.m_along == pytest.approx(iv(1, 0.8) / i0(0.8), abs=1e-12)
    with pytest.raises(ValueError, match="at most 2"):
        exact.xy_averages(XY((4, 4), 1.0))


def test_the_torus_is_the_derivative_of_its_log_z_and_converges():
    step, lattice = 1e-3, (3, 4)
    above, below = (exact.xy_torus(lattice, 1.0 + sign * step, tolerance=1e-9) for sign in (1, -1))
    torus = exact.xy_torus(lattice, 1.0, tolerance=1e-9)
    assert torus.energy == pytest.approx(-(above.log_z - below.log_z) / (2 * step) / 12, abs=1e-6)
    coarse = exact.xy_torus(lattice, 1.0, tolerance=1e-3)
    assert 0 <= torus.log_z - coarse.log_z <= coarse.error
    assert exact.xy_torus((4, 3), 1.0) == exact.xy_torus((3, 4), 1.0)
    with pytest.raises(ValueError, match="too wide"):
        exact.xy_torus((8, 8), 1.0)
    with pytest.raises(ValueError, match="positive"):
        exact.xy_torus((3, 4), -1.0)


def test_high_temperatures():
    # plaquettes and loops around the side of 4, in two orientations, then loops around that of 5; then u⁶
    beta, lattice = 0.1, (4, 5)
    u = float(ive(1, beta) / ive(0, beta))
    loops = 2 * 20 * u**4 + 2 * 5 * u**4 + 2 * 4 * u**5
    first = 20 * (math.log(2 * math.pi) + 2 * math.log(i0(beta)))
    torus = exact.xy_torus(lattice, beta, tolerance=1e-13)
    assert torus.log_z == pytest.approx(first + loops, abs=300 * u**6)


def test_what_is_not_known_is_not_claimed():
    assert set(XY((8, 8), 1.0).known()) == {"magnetization_along"}
    assert XY((8, 8), 1.0, field=0.1).known() == {}
    assert "log_z" not in glass((3, 4)).known()
    assert XY((4, 4), -1.0).known_series("two_point") is None


# --- chains ------------------------------------------------------------------------------------------------


def agree(action: XY, series: dict[str, torch.Tensor], names: set[str], largest_pull: float = 5.0) -> None:
    """The averages of a chain are those that are known, for all of the names."""
    known = action.known()
    records = {observable.name: observable for observable in action.observables}
    arrays = {name: values.double().numpy() for name, values in series.items()}
    sample = Sample(arrays)
    for name in names:
        record = records[name]
        values = [arrays[needed] for needed in record.needs]
        numbers = record.each(*values) if record.each else values[0]
        found = (
            sample.derive(record.average, *(numbers if isinstance(numbers, tuple) else (numbers,)))
            if record.average
            else measure(numbers)
        )
        assert found.error < 0.05
        pull = found.pull(known[name].value, known[name].error)
        assert abs(pull) < largest_pull, (name, found, known[name])


CHAINS = {
    "metropolis": lambda action: XYMetropolis(action),
    "metropolis_alone": lambda action: XYMetropolis(action, overrelaxation=0),
    "wolff": lambda action: XYWolff(action),
    "hmc": lambda action: HMC(action, step_size=0.35, n_steps=4, jitter=0.2),
}


def chain(make, action: XY, steps: int, chains: int = 160, dtype: torch.dtype = F64, seed: int = 1):
    source = generator(seed)
    sampler = make(action)
    state = sampler.init(action.kind.start(action.lattice, chains, source, dtype))
    state = thermalise(sampler, state, 60, source)
    sampler, state = sampler.adapt(state, source, 60)
    return run(sampler, state, steps, recorded(action), source)


@pytest.mark.parametrize("make", CHAINS.values(), ids=list(CHAINS))
def test_chains_of_a_narrow_torus(make):
    action = XY((3, 4), 1.0)
    found = chain(make, action, 150)
    agree(action, found.series, {"energy", "action_density", "magnetization_along", "helicity_modulus_1"})


@pytest.mark.parametrize("make", CHAINS.values(), ids=list(CHAINS))
def test_chains_of_couplings_in_a_field(make):
    action = glass((2, 2), field=0.5)
    found = chain(make, action, 150)
    names = {"action_density", "magnetization_along", "V_magnetization_squared", "binder_cumulant"}
    agree(action, found.series, names)


@pytest.mark.parametrize("make", [CHAINS["metropolis"], CHAINS["wolff"]], ids=["metropolis", "wolff"])
def test_chains_of_an_odd_ring(make):
    action = XY((5,), 1.5)
    found = chain(make, action, 150)
    agree(action, found.series, {"energy", "V_magnetization_squared", "helicity_modulus_0"})


@pytest.mark.slow
@pytest.mark.parametrize("make", CHAINS.values(), ids=list(CHAINS))
@pytest.mark.parametrize("lattice", [(4, 6), (5, 3)])
def test_chains_of_narrow_tori_with_small_errors(make, lattice):
    action = XY(lattice, 1.05)
    found = chain(make, action, 4000)
    stiffness = f"helicity_modulus_{int(lattice[1] > lattice[0])}"
    agree(action, found.series, {"energy", "magnetization_along", stiffness})


@pytest.mark.parametrize("make", CHAINS.values(), ids=list(CHAINS))
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_angles_stay_wrapped_and_steps_repeat(make, dtype):
    action = XY((4, 3), 1.0, 0.2)
    sampler = make(action)
    state = sampler.init(angles((4, 3), 1, dtype=dtype) + 40)
    source, again = generator(3), generator(3)
    tree = sampler.state_dict(state)
    for _ in range(5):
        state, info = sampler.step(state, source)
        assert info.accepted.shape == (1,)
    other = sampler.state_from_dict(tree)
    for _ in range(5):
        other, _ = sampler.step(other, again)
    x = sampler.field(state)
    assert x.dtype == dtype
    assert torch.equal(x, sampler.field(other))
    assert float(x.abs().max()) <= math.pi + 1e-6


def test_overrelaxation_keeps_the_action():
    action = glass((3, 4))
    reflecting = XYMetropolis(action, overrelaxation=3, width=1e-12)
    x = angles((3, 4), 50)
    after = reflecting.field(reflecting.step(reflecting.init(x), generator())[0])
    assert not torch.allclose(after, x, atol=0.1)
    torch.testing.assert_close(action(after), action(x), rtol=1e-9, atol=1e-9)


def test_the_width_is_tuned_and_remembered():
    action = XY((4, 4), 2.0)
    first = XYMetropolis(action)
    state = first.init(action.kind.start((4, 4), 64, generator(), F64))
    tuned, state = first.adapt(thermalise(first, state, 50, generator()), generator(), 50)
    _, info = tuned.step(state, generator(7))
    assert float(info.accepted.mean()) == pytest.approx(0.5, abs=0.06)
    assert first.adapted(tuned.found()) == tuned


def test_no_two_neighbours_have_one_colour():
    for lattice in [(4, 6), (3, 4), (5, 5), (2,), (3,), (3, 2, 5)]:
        masks = torch.stack(colouring(lattice))
        assert bool((masks.sum(0) == 1).all())
        for axis in range(1, masks.ndim):
            assert not bool((masks & masks.roll(1, axis)).any()), lattice


@pytest.mark.parametrize("make", [XYMetropolis, XYWolff])
def test_chains_of_other_theories_are_refused(make):
    with pytest.raises(ValueError, match="expected an XY model"):
        make(registry.load("theories", "phi4")((4, 4), m2=1.0, lam=0.0))


def test_chains_by_name():
    assert registry.load("samplers", "xy_metropolis") is XYMetropolis
    assert registry.load("samplers", "xy_wolff") is XYWolff
    assert XY((4, 4), 1.0).established == ("xy_wolff",)
    assert SITE_ANGLES.established == ("hmc",)


# --- the map of the circle ---------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 1e-4), (F64, 1e-11)])
@pytest.mark.parametrize("size", [0.3, 2.0])
def test_the_circular_map_there_and_back(dtype, precision, size):
    circular_map = GeneralizedVonMises(3)
    parameters = size * torch.randn((40, 7, 5), generator=generator(), dtype=dtype)
    parameters[:, 0] = parameters[:, 0].abs() * 2
    x = angles((5,), 40, seed=2, dtype=dtype)
    y, log_slope = circular_map.forward(x, parameters)
    back, back_slope = circular_map.inverse(y, parameters)
    # where the density is next to nothing, an angle is known to the rounding of Φ over the density
    assert float((wrapped(back - x).abs() * (-log_slope).exp().clamp(max=1)).max()) < precision
    torch.testing.assert_close(log_slope, -back_slope, rtol=1e-4, atol=20 * precision)
    assert y.dtype == dtype
    assert float(y.abs().max()) <= math.pi + 1e-6


def test_the_slope_of_the_circular_map():
    circular_map = GeneralizedVonMises(2)
    parameters = torch.randn((30, 5, 1), generator=generator(), dtype=F64)
    x = angles((1,), 30, seed=2).requires_grad_()
    y, log_slope = circular_map.forward(x, parameters)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient[:, 0].log(), log_slope[:, 0])
    y = y.detach().requires_grad_()
    back, log_slope = circular_map.inverse(y, parameters)
    (gradient,) = torch.autograd.grad(back.sum(), y)
    torch.testing.assert_close(gradient.log(), log_slope)


def test_gradients_of_the_circular_map_by_its_parameters():
    circular_map = GeneralizedVonMises(2)
    parameters = torch.randn((4, 5, 2), generator=generator(), dtype=F64).requires_grad_()
    x = angles((2,), 4, seed=3)
    assert torch.autograd.gradcheck(lambda p: circular_map.forward(x, p), parameters, atol=1e-5)
    assert torch.autograd.gradcheck(lambda p: circular_map.inverse(x, p), parameters, atol=1e-5)


def test_one_harmonic_is_von_mises():
    kappa, shift = 2.5, 1.2
    parameters = torch.tensor([kappa, 0.0, shift], dtype=F64).view(1, 3, 1)
    x = angles((1,), 40_000)
    y, log_slope = GeneralizedVonMises(1).forward(x, parameters)
    torch.testing.assert_close(-log_slope, kappa * torch.cos(y - shift) - math.log(i0(kappa)))
    mean = torch.cos(y - shift).mean()
    assert float(mean) == pytest.approx(float(iv(1, kappa) / i0(kappa)), abs=1e-2)


# --- the flow ----------------------------------------------------------------------------------------------


def perturbed(lattice: tuple[int, ...], dtype: torch.dtype = F64, **options):
    action = options.pop("action", None) or XY(lattice, 1.1)
    sizes = {"channels": 3, "hidden": 6, "reach": 2} | options
    flow = circular_flow(lattice, action=action, **sizes).to(dtype)
    source = generator(9)
    with torch.no_grad():
        for weights in flow.parameters():
            weights += 0.3 * torch.randn(weights.shape, generator=source, dtype=dtype)
    return flow


@torch.no_grad()
@pytest.mark.parametrize("lattice", [(8,), (6,), (4, 4), (4, 6), (8, 2), (2, 4, 2)])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 2e-3), (F64, 1e-10)])
def test_the_flow_there_and_back(lattice, dtype, precision):
    flow = perturbed(lattice, dtype)
    z = flow.prior.sample(6, generator(1))
    x, log_det = flow.forward(z)
    back, log_det_back = flow.inverse(x)
    assert (x.dtype, log_det.dtype) == (dtype, torch.float64)
    assert float((x - z).abs().max()) > 0.1
    torch.testing.assert_close(log_det, -log_det_back, rtol=precision, atol=10 * precision)
    assert float((wrapped(back - z).abs()).mean()) < precision
    assert float(x.abs().max()) <= math.pi + 1e-6


@pytest.mark.parametrize("lattice", [(6,), (4, 2), (2, 2, 2)])
def test_the_log_determinant_is_that_of_the_jacobian(lattice):
    flow = perturbed(lattice)
    sites = math.prod(lattice)
    for z in flow.prior.sample(2, generator(2)):
        jacobian = torch.autograd.functional.jacobian(lambda one: flow.forward(one[None])[0], z)
        log_det = flow.forward(z[None])[1].detach()
        torch.testing.assert_close(jacobian.view(sites, sites).slogdet()[1], log_det[0])


@torch.no_grad()
@pytest.mark.parametrize("lattice", [(8,), (4, 6), (2, 4, 2)])
def test_the_flow_commutes_with_its_symmetries(lattice):
    flow = perturbed(lattice)
    assert flow.symmetries == ("u1", "z2")
    z = flow.prior.sample(8, generator(3))
    x, log_det = flow.forward(z)
    for name in flow.symmetries:
        transform = flow.kind.symmetries[name]
        turned, log_det_turned = flow.forward(transform(z, generator(4)))
        expected = transform(x, generator(4))
        assert float(SITE_ANGLES.distance(turned, expected).max()) < 1e-9
        torch.testing.assert_close(log_det_turned, log_det, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(flow.log_prob(turned), flow.log_prob(x), rtol=1e-9, atol=1e-9)
    in_field = perturbed(lattice, action=XY(lattice, 1.1, field=0.4))
    assert in_field.symmetries == ("z2",)


@torch.no_grad()
def test_the_density_is_normalised():
    flow = perturbed((2, 2))
    zero = XY((2, 2), 0.0)

    class Negative(XY):
        def __call__(self, x):
            return -flow.log_prob(x).detach()

    averages = exact.xy_averages(Negative((2, 2), 0.0), points=18, tolerance=1e-3)
    assert averages.log_z == pytest.approx(0.0, abs=1e-4)
    assert exact.xy_averages(zero, points=8).log_z == pytest.approx(4 * math.log(2 * math.pi))


@torch.no_grad()
@pytest.mark.parametrize("make", [lambda s: XY(s, 1.2), lambda s: XY(s, 1.2, 0.4), glass])
@pytest.mark.parametrize(
    ("lattice", "role", "precision"),
    [((4, 6), "last", 1e-10), ((4, 8), "before", 1e-5), ((4, 4, 8), "before", 1e-4), ((6,), "last", 1e-10)],
)
def test_the_last_stages_are_exact(make, lattice, role, precision):
    # then log q + S depends neither on the sites of the stage nor on those after it
    action = make(lattice)
    flow = perturbed(lattice, action=action)
    x, log_q = flow.sample(5, generator(6))
    other = x.flatten(1).clone()
    new = [stage.active for stage in stages(lattice, 2, x.device) if stage.role in (role, "last")]
    for active in new:
        other[:, active] = angles((len(active),), 5, seed=8)
    other = other.view_as(x)
    torch.testing.assert_close(
        log_q + action(x), flow.log_prob(other) + action(other), rtol=0, atol=precision
    )


@torch.no_grad()
def test_weights_serve_other_lattices():
    flow = perturbed((8, 8))
    for lattice in [(4, 8), (8, 16), (4, 4), (6, 10)]:
        other = flow.on_lattice(lattice)
        x, log_q = other.sample(2, generator())
        assert x.shape == (2, *lattice)
        torch.testing.assert_close(other.log_prob(x), log_q)
    with pytest.raises(ValueError, match="side lengths"):
        flow.on_lattice((8,))


def test_every_site_is_drawn_once_and_sees_only_what_is_known():
    for lattice in [(8, 8), (6, 4), (12,), (4, 8, 4)]:
        drawn = torch.zeros(math.prod(lattice), dtype=torch.bool)
        drawn[0] = True
        for stage in stages(lattice, 2, torch.device("cpu")):
            assert not bool(drawn[stage.active].any())
            assert bool(drawn[stage.window[stage.known.bool()]].all())
            drawn[stage.active] = True
        assert bool(drawn.all())
    assert levels((8, 12)) == 2
    assert roles(2) == ["11a", "11b", "10a", "10b", "01a", "01b"]


def test_what_the_flow_cannot_be_is_refused():
    with pytest.raises(ValueError, match="even sides"):
        circular_flow((4, 5), action=XY((4, 5), 1.0))
    with pytest.raises(ValueError, match="positive numbers"):
        circular_flow((4, 4), action=XY((4, 4), 1.0), channels=0)
    with pytest.raises(ValueError, match="harmonic"):
        circular_flow((4, 4), action=XY((4, 4), 1.0), harmonics=0)


def test_the_prior_is_normalised():
    prior = UniformAngles((4, 2))
    z = prior.sample(3, generator())
    torch.testing.assert_close(prior.log_prob(z), torch.full((3,), -8 * math.log(2 * math.pi), dtype=F64))
    assert prior.on_lattice((2, 2)).lattice == (2, 2)


@torch.no_grad()
def test_the_flow_in_a_file(tmp_path):
    action = XY((4, 4), 1.1)
    flow = perturbed((4, 4), torch.float32, action=action)
    save_density(flow, tmp_path / "flow")
    again = load_density(tmp_path / "flow", action=action)
    x, log_q = flow.sample(3, generator())
    assert torch.equal(again.log_prob(x), flow.log_prob(x))
    torch.testing.assert_close(log_q, flow.log_prob(x), rtol=1e-4, atol=1e-3)
    assert again.recipe == flow.recipe


def trained(lattice: tuple[int, ...], beta: float, steps: int, batch: int):
    action = XY(lattice, beta)
    flow = circular_flow(lattice, action=action, generator=generator())
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    source = generator(1)
    for _ in range(steps):
        optimizer.zero_grad()
        path_gradient(flow, action, batch, source).loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        rate.step()
    return action, flow


def test_a_trained_flow_gives_the_exact_log_z():
    action, flow = trained((2, 4), 1.0, steps=40, batch=64)
    log_weight = draws(flow.double(), 20_000, action, generator(2)).log_weight
    assert effective_sample_size(log_weight) > 0.93
    found = Sample({}, log_weight=log_weight.numpy()).log_z()
    assert found is not None
    assert abs(found.pull(action.known()["log_z"].value)) < 5
    assert found.error < 2e-3


@pytest.mark.slow
def test_a_flow_trained_on_a_narrow_torus_serves_the_square():
    action, flow = trained((4, 8), 1.0, steps=150, batch=256)
    log_weight = draws(flow.double(), 20_000, action, generator(2)).log_weight
    assert effective_sample_size(log_weight) > 0.9
    found = Sample({}, log_weight=log_weight.numpy()).log_z()
    assert found is not None
    assert abs(found.pull(action.known()["log_z"].value)) < 5
    square = draws(flow.on_lattice((8, 8)), 5000, XY((8, 8), 1.0), generator(3)).log_weight
    assert effective_sample_size(square) > 0.1  # its coarsest level has never seen a square
