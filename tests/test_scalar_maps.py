"""Maps of one number at the edges: knots, extreme parameters, low precision, gradients."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from latflow.densities.flows.circular_maps import CircularSpline, ProjectionMixture
from latflow.densities.flows.rational_quadratic import partition
from latflow.densities.flows.scalar_maps import ScalarMap, Spline
from latflow.theories.xy.flow.circle import GeneralizedVonMises

MAPS: dict[str, ScalarMap] = {
    "spline": Spline(8, 4.0),
    "two bins": Spline(2, 1.0),
    "many bins": Spline(40, 10.0),
    "circular": CircularSpline(8),
    "circular, no minimum": CircularSpline(8, minimum=0.0),
    "projection": ProjectionMixture(1),
    "projections": ProjectionMixture(6),
}
SITES = 400


def drawn(scalar_map: ScalarMap, strength: float, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """x (1, sites) all over, at the knots and next to them, and parameters of one site for all."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, scalar_map.n_parameters, 1)
    sign = torch.randn(shape, generator=generator, dtype=torch.float64)
    parameters = (strength * (sign.sign() if strength > 10 else sign)).to(dtype)
    reach = scalar_map.bound if isinstance(scalar_map, Spline) else math.pi
    unit = torch.rand((1, SITES), generator=generator, dtype=torch.float64)
    x = 2.2 * reach * (unit - 0.5)
    edges = [-reach, 0.0, reach]
    if isinstance(scalar_map, Spline | CircularSpline):
        minimum = scalar_map.minimum if isinstance(scalar_map, CircularSpline) else 1e-3
        widths = partition(parameters[:, : scalar_map.bins].double(), 2 * reach, minimum).cumsum(1)
        start = -reach if isinstance(scalar_map, Spline) else 0.0
        edges += (start + widths).flatten().tolist()
    at = torch.tensor(edges, dtype=torch.float64).to(dtype)
    near = torch.cat((at, at.nextafter(at + 1), at.nextafter(at - 1)))[None].double()
    return torch.cat((x, near), 1).to(dtype), parameters


def exactly(scalar_map: ScalarMap, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    return scalar_map.forward(x.double(), parameters.double())


def apart(scalar_map: ScalarMap, one: Tensor, other: Tensor) -> Tensor:
    difference = one.double() - other.double()
    if isinstance(scalar_map, Spline):
        return difference.abs()
    return (difference - 2 * math.pi * (difference / (2 * math.pi)).round()).abs()


def around(x: Tensor, distance: float) -> Tensor:
    """Points within a distance of each x, (81, sites), denser near it."""
    steps = torch.linspace(-1, 1, 81, dtype=torch.float64) ** 3
    return x.double() + distance * steps[:, None]


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("strength", [1.0, 10.0, 50.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_finite_for_any_parameters(name, dtype, strength):
    for seed in range(3):
        x, parameters = drawn(MAPS[name], strength, dtype, seed)
        y, log_slope = MAPS[name].forward(x, parameters)
        for numbers in (y, log_slope, *MAPS[name].inverse(y, parameters)):
            assert numbers.dtype == dtype
            assert numbers.isfinite().all()


@pytest.mark.parametrize("strength", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in MAPS if name != "circular, no minimum"])
def test_maps_are_right(name, dtype, strength):
    """They are those of float64 up to rounding of x and y by some last digits of a whole interval.

    Where the log-slope changes within that rounding, it lies within twice its range there.
    """
    scalar_map, eps = MAPS[name], torch.finfo(dtype).eps
    reach = 2 * (scalar_map.bound if isinstance(scalar_map, Spline) else math.pi)
    rounding = 8 * eps * reach
    for seed in range(3):
        x, parameters = drawn(scalar_map, strength, dtype, seed)
        y, log_slope = scalar_map.forward(x, parameters)
        back, log_back = scalar_map.inverse(y, parameters)
        assert within(scalar_map, x, y, parameters, rounding)
        assert within(scalar_map, back, y, parameters, rounding)
        for at, found in ((x, log_slope), (back, -log_back)):
            there = exactly(scalar_map, around(at, 2 * rounding), parameters)[1]
            lost = 0.02 + 8 * eps * there.abs().amax(0) + there.amax(0) - there.amin(0)
            assert (found.double() >= there.amin(0) - lost).all()
            assert (found.double() <= there.amax(0) + lost).all()
        if strength == 1.0:
            least = float(log_slope.double().exp().min())
            assert apart(scalar_map, back, x).max() < rounding * (2 + 1 / least)


def within(scalar_map: ScalarMap, x: Tensor, y: Tensor, parameters: Tensor, rounding: float) -> bool:
    """Whether y is the image of a point near x, up to rounding."""
    images = exactly(scalar_map, around(x, rounding), parameters)[0]
    low, high = images[:1], images[-1:]
    length = apart_forward(scalar_map, low, high)
    return bool((apart_forward(scalar_map, low - rounding, y.double()) <= length + 2 * rounding).all())


def apart_forward(scalar_map: ScalarMap, first: Tensor, last: Tensor) -> Tensor:
    """How far it is from first up to last; on the circle less than a turn."""
    difference = last - first
    if isinstance(scalar_map, Spline):
        return torch.where(difference < 0, math.inf, difference)
    return difference.remainder(2 * math.pi)


@pytest.mark.parametrize("strength", [1.0, 50.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", [*MAPS, "von Mises"])
def test_gradients_are_finite(name, direction, dtype, strength):
    scalar_map = MAPS.get(name) or GeneralizedVonMises(3)
    if name == "von Mises" and dtype == torch.bfloat16:
        pytest.skip("complex numbers have no half precision")
    for seed in range(3):
        x, parameters = (t.requires_grad_() for t in drawn(scalar_map, strength, dtype, seed))
        y, log_slope = getattr(scalar_map, direction)(x, parameters)
        assert y.isfinite().all()
        assert log_slope.isfinite().all()
        for total in (y.sum(), log_slope.sum()):
            for gradient in torch.autograd.grad(total, (x, parameters), retain_graph=True, allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_knot_that_rounding_moved_gives_no_nan(dtype):
    """At x = 0.32795…, ξ is above 1 in float32; the right log-slope is −5.250800."""
    parameters = torch.zeros(1, 23, 1, dtype=dtype)
    for index, value in ((0, 1.0), (3, -6.0), (11, 6.0), (18, -6.0), (19, -6.0)):
        parameters[0, index] = value
    x = torch.tensor([[0.32795092463493347]], dtype=dtype)
    _, log_slope = MAPS["spline"].forward(x, parameters)
    assert log_slope.item() == pytest.approx(-5.250800, abs=5e-5)


@pytest.mark.parametrize("name", ["spline", "many bins", "circular"])
def test_second_derivatives_are_finite_at_and_around_the_knots(name):
    for seed, strength in itertools.product(range(3), (1.0, 10.0)):
        x, parameters = drawn(MAPS[name], strength, torch.float32, seed)
        x.requires_grad_()
        _, log_slope = MAPS[name].forward(x, parameters)
        (first,) = torch.autograd.grad(log_slope.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert first.isfinite().all()
        assert second.isfinite().all()
