"""Actions: known numbers, forces, symmetries, conversions and algebra, on every kind of lattice."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from latflow.densities.flows import Pullback, Scale, TheoryPrior, affine_flow
from latflow.fields import SCALAR
from latflow.samplers import HMC, IndependenceMetropolis
from latflow.samplers.coarse import coarse_to_fine
from latflow.theories import (
    XY,
    Action,
    Exponential,
    HoppingPhi4,
    Ising,
    Phi4,
    Potts,
    Scaled,
    Schwinger,
    Sum,
    U1Gauge,
    WilsonFermions,
)
from latflow.training import Trainer

LATTICES = [(1,), (2,), (5,), (4, 6), (1, 3), (2, 3), (3, 4, 5), (2, 1, 3)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def theories(lattice: tuple[int, ...]) -> list[Action]:
    phi4, hopping = Phi4(lattice, m2=-4.0, lam=8.0), HoppingPhi4(lattice, beta=0.645, lam=0.5)
    return [phi4, hopping, phi4 + hopping, 0.3 * phi4, 2.0 * (phi4 + hopping) * 0.5]


def naive(action: Action, x: np.ndarray) -> float:
    """The sum over sites, term by term as the issue writes it, with neighbours by index arithmetic."""
    total = 0.0
    for n in np.ndindex(*x.shape):
        forward = [
            x[tuple((c + (a == mu)) % s for a, (c, s) in enumerate(zip(n, x.shape, strict=True)))]
            for mu in range(x.ndim)
        ]
        backward = [
            x[tuple((c - (a == mu)) % s for a, (c, s) in enumerate(zip(n, x.shape, strict=True)))]
            for mu in range(x.ndim)
        ]
        phi = x[n]
        if isinstance(action, Phi4):
            minus_laplacian = sum(2 * phi - f - b for f, b in zip(forward, backward, strict=True))
            total += phi * minus_laplacian + action.m2 * phi**2 + action.lam * phi**4
        if isinstance(action, HoppingPhi4):
            total += -action.beta * sum(forward) * phi + phi**2 + action.lam * (phi**2 - 1) ** 2
    return total


def test_known_numbers():
    phi = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8, 8)))
    assert Phi4((8, 8), m2=-4.0, lam=8.0)(phi).item() == pytest.approx(907.0289174720557, rel=1e-13)
    assert HoppingPhi4((8, 8), beta=0.645, lam=0.5)(phi).item() == pytest.approx(84.94086181790, abs=1e-10)


@pytest.mark.parametrize("lattice", LATTICES)
def test_action_is_the_sum_over_sites(lattice):
    x = draw(2, *lattice)
    for action in theories(lattice)[:2]:
        expected = torch.tensor([naive(action, one.numpy()) for one in x], dtype=torch.float64)
        torch.testing.assert_close(action(x), expected)


@pytest.mark.parametrize("lattice", LATTICES)
def test_force_is_minus_the_gradient(lattice):
    x, direction = draw(3, *lattice), draw(3, *lattice, seed=1)
    for action in theories(lattice):
        force = action.force(x)
        assert force.shape == x.shape
        torch.testing.assert_close(force, Action.force(action, x), rtol=1e-12, atol=1e-12)
        slope = (action(x + 1e-5 * direction) - action(x - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close((force * direction).flatten(1).sum(1), -slope, rtol=1e-7, atol=1e-7)


def test_force_by_automatic_differentiation_serves_without_gradients_and_leaves_no_graph():
    @dataclass(frozen=True)
    class Quartic(Action):
        lattice = (4,)
        kind = SCALAR

        def __call__(self, x: Tensor) -> Tensor:
            return (x**4).sum(1)

    x = draw(2, 4).requires_grad_()
    with torch.no_grad():
        force = Quartic().force(x)
    torch.testing.assert_close(force, -4 * x.detach() ** 3)
    assert not force.requires_grad
    assert x.grad is None
    assert not Quartic().z2_symmetric


@pytest.mark.parametrize("lattice", LATTICES)
def test_symmetries(lattice):
    x, axes = draw(3, *lattice), tuple(range(1, 1 + len(lattice)))
    for action in theories(lattice):
        assert action.z2_symmetric
        assert action.kind == SCALAR
        assert action.lattice == lattice
        assert torch.equal(action(-x), action(x))
        torch.testing.assert_close(action(x.roll((1, 2, 1)[: len(lattice)], axes)), action(x))
        torch.testing.assert_close(action(x.flip(axes[-1])), action(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 4])
def test_dtype_and_batch_are_kept(dtype, batch):
    x = draw(batch, 4, 6, dtype=dtype)
    for action in theories((4, 6)):
        assert action(x).dtype == torch.float64  # in which all that decides is summed
        assert action.force(x).dtype == dtype
        assert action(x).shape == (batch,)


couplings = st.floats(0.05, 2.0)


@given(beta=couplings, lam=st.floats(0.0, 4.0), dimensions=st.integers(1, 3))
def test_hopping_to_phi4_and_back(beta, lam, dimensions):
    lattice = (3, 4, 2)[:dimensions]
    hopping = HoppingPhi4(lattice, beta=beta, lam=lam)
    phi4, factor = hopping.to_phi4()
    x = draw(2, *lattice)
    torch.testing.assert_close(hopping(x), phi4(factor * x) + hopping.constant, rtol=1e-11, atol=1e-10)
    back, inverse_factor = phi4.to_hopping()
    assert (back.beta, back.lam) == (pytest.approx(beta, rel=1e-6), pytest.approx(lam, rel=1e-6, abs=1e-9))
    assert inverse_factor * factor == pytest.approx(1, rel=1e-6)


@given(m2=st.floats(-8, 4), lam=st.floats(0.1, 10.0), dimensions=st.integers(1, 3))
def test_phi4_to_hopping_and_back(m2, lam, dimensions):
    lattice = (3, 4, 2)[:dimensions]
    phi4 = Phi4(lattice, m2=m2, lam=lam)
    hopping, factor = phi4.to_hopping()
    x = draw(2, *lattice)
    torch.testing.assert_close(phi4(x), hopping(factor * x) - hopping.constant, rtol=1e-9, atol=1e-8)
    back, _ = hopping.to_phi4()
    assert (back.m2, back.lam) == (pytest.approx(m2, rel=1e-9, abs=1e-8), pytest.approx(lam, rel=1e-9))


def test_conversion_in_two_dimensions_is_the_published_one():
    phi4, factor = HoppingPhi4((8, 8), beta=0.645, lam=0.5).to_phi4()
    assert factor == math.sqrt(0.645 / 2)
    assert phi4.m2 == pytest.approx(-4)
    assert phi4.lam == pytest.approx(4 * 0.5 / 0.645**2)


def test_free_field_by_hopping_parameter():
    hopping, factor = Phi4((4, 4), m2=1.25, lam=0.0).to_hopping()
    assert (hopping.lam, hopping.beta) == (0.0, pytest.approx(2 / 5.25))
    assert factor == pytest.approx(math.sqrt(5.25))


def test_no_hopping_parameter():
    for m2, lam in ((-4.0, 0.0), (-5.0, 0.0), (-3.0, -1.0)):
        with pytest.raises(ValueError, match=rf"hopping parameter to exist, got m2 = {m2}, lam = {lam}"):
            Phi4((4, 4), m2=m2, lam=lam).to_hopping()
    for beta in (0.0, -0.1):
        with pytest.raises(ValueError, match=f"expected beta > 0, got {beta}"):
            HoppingPhi4((4, 4), beta=beta, lam=0.5).to_phi4()


def test_actions_add_and_scale():
    x = draw(3, 4, 4)
    a, b = Phi4((4, 4), m2=1.0, lam=0.5), HoppingPhi4((4, 4), beta=0.3, lam=0.2)
    assert isinstance(a + b, Sum)
    assert isinstance(2.0 * a, Scaled)
    torch.testing.assert_close((a + b)(x), a(x) + b(x))
    torch.testing.assert_close((2.0 * a)(x), 2 * a(x))
    torch.testing.assert_close((a * 0.5 + 3.0 * b).force(x), 0.5 * a.force(x) + 3 * b.force(x))
    assert a + b == Sum(a, b)
    for wrong in (lambda: a + 1, lambda: 1 + a, lambda: a * "2", lambda: a * b):
        with pytest.raises(TypeError):
            wrong()


def test_symmetry_of_a_sum_needs_both():
    lone = Exponential(1.0)
    assert not (2.0 * lone).z2_symmetric
    assert not (lone + Phi4((1,), m2=1.0, lam=0.0)).z2_symmetric
    assert not (Phi4((1,), m2=1.0, lam=0.0) + lone).z2_symmetric


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="one to three positive side lengths, got"):
        Phi4((), m2=1.0, lam=0.0)
    with pytest.raises(ValueError, match="one to three positive side lengths, got"):
        HoppingPhi4((4, 0), beta=1.0, lam=0.0)
    with pytest.raises(ValueError, match=r"one field on one lattice, got .*\(4, 4\).*\(4, 6\)"):
        Phi4((4, 4), m2=1.0, lam=0.0) + Phi4((4, 6), m2=1.0, lam=0.0)
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected rate > 0"):
            Exponential(rate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_distribution(dtype):
    action = Exponential(1.7)
    x = torch.tensor([[0.0], [0.5], [2.0], [-0.1]], dtype=dtype)
    expected = torch.tensor(
        [-math.log(1.7), 0.85 - math.log(1.7), 3.4 - math.log(1.7), math.inf], dtype=dtype
    )
    torch.testing.assert_close(action(x), expected.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(action.force(x[:3]), torch.full((3, 1), -1.7, dtype=dtype))
    grid = torch.linspace(0, 30, 30001, dtype=torch.float64)
    z = torch.trapezoid(torch.exp(-action(grid[:, None])), grid)
    assert z.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("action", [Phi4((4, 6), 1.0, 0.5), HoppingPhi4((4, 6), 0.5, 0.5)])
def test_fields_of_another_lattice_are_refused(action):
    with pytest.raises(ValueError, match=r"lattice \(4, 6\), .* got one of shape \(2, 6, 4\)"):
        action(torch.zeros(2, 6, 4))


def quadratic_form(action: Action) -> Tensor:
    """The matrix A of an action that is φAφ plus a constant, by its force: F = −2Aφ."""
    sites = math.prod(action.lattice)
    unit = torch.eye(sites, dtype=torch.float64).unflatten(1, action.lattice)
    return -action.force(unit).flatten(1) / 2


@given(
    st.sampled_from([(1,), (2,), (5,), (4, 6), (3, 4), (3, 5), (2, 1, 3)]),
    st.floats(-6, 6),
    st.floats(-2, 2),
    st.floats(-3, 3),
)
def test_without_quartic_term_a_target_is_proper_where_the_quadratic_form_is_positive(lattice, m2, beta, c):
    action = c * Phi4(lattice, m2=m2, lam=0.0) + HoppingPhi4(lattice, beta=beta, lam=0.0)
    lowest = float(torch.linalg.eigvalsh(quadratic_form(action))[0])
    if abs(lowest) > 1e-10:
        assert proper(action) == (lowest > 0)


def proper(action: Action) -> bool:
    try:
        action.check_proper()
    except ValueError:
        return False
    return True


FREE, QUARTIC = Phi4((4, 6), m2=1.0, lam=0.0), Phi4((4, 6), m2=-4.0, lam=1.0)


@pytest.mark.parametrize(
    "action",
    [
        FREE,
        QUARTIC,
        Phi4((4, 6), m2=1e-20, lam=0.0),
        HoppingPhi4((4, 6), beta=0.49, lam=0.0),
        HoppingPhi4((4, 6), beta=-0.49, lam=0.0),
        HoppingPhi4((3, 5), beta=-0.6, lam=0.0),
        HoppingPhi4((4, 6), beta=9.0, lam=0.1),
        2.0 * QUARTIC + Phi4((4, 6), m2=0.0, lam=-1.5),
        2.0 * FREE + Phi4((4, 6), m2=-1.5, lam=0.0),
        -1.0 * Phi4((4, 6), m2=0.0, lam=-1.0),
        Scaled(Scaled(QUARTIC, -2.0), -1.0),
        0.5 * Exponential(2.0),
        Exponential(2.0) + Exponential(1.0),
        -1.0 * Ising((4, 4), 0.3),
        0.0 * XY((4, 4), 0.3),
        Scaled(U1Gauge((4, 4), 1.0), -2.0),
    ],
    ids=str,
)
def test_targets_that_exist(action):
    action.check_proper()


@pytest.mark.parametrize(
    "action",
    [
        Phi4((4, 6), m2=-1.0, lam=0.0),
        Phi4((4, 6), m2=-4.0, lam=0.0),
        Phi4((4, 6), m2=0.0, lam=0.0),
        Phi4((4, 6), m2=1.0, lam=-1.0),
        HoppingPhi4((4, 6), beta=0.5, lam=0.0),
        HoppingPhi4((4, 6), beta=-0.5, lam=0.0),
        HoppingPhi4((3, 5), beta=-0.8, lam=0.0),
        HoppingPhi4((4, 6), beta=0.1, lam=-0.1),
        QUARTIC + Phi4((4, 6), m2=0.0, lam=-1.5),
        FREE + Phi4((4, 6), m2=-1.5, lam=0.0),
        0.0 * QUARTIC,
        -1.0 * QUARTIC,
        -1.0 * Exponential(2.0),
        0.0 * Exponential(2.0),
    ],
    ids=str,
)
def test_targets_that_do_not_exist_are_refused(action):
    with pytest.raises(ValueError, match=r"cannot be normalised: expected .*, got "):
        action.check_proper()
    flow = affine_flow(action.lattice, layers=1) if action.lattice == (4, 6) else None
    for build in (
        lambda: HMC(action, 0.1, 2),
        lambda: HMC(Pullback(action, Scale(2.0)), 0.1, 2),
        lambda: TheoryPrior(action, lambda n, _: torch.zeros(n, *action.lattice)),
        *([] if flow is None else [lambda: IndependenceMetropolis(flow, action)]),
        *([] if flow is None else [lambda: Trainer(flow, action, steps=1, batch=2, generator=Generator())]),
    ):
        with pytest.raises(ValueError, match="cannot be normalised"):
            build()


@pytest.mark.parametrize("coarse", [{"m2": -1.0, "lam": 0.0}, {"m2": 1.0, "lam": -1.0}])
def test_a_coarse_theory_that_does_not_exist_is_refused(coarse):
    with pytest.raises(ValueError, match="cannot be normalised"):
        coarse_to_fine((4, 4), coarse={"type": "phi4", **coarse})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "build",
    [
        lambda bad: Phi4((4, 4), m2=bad, lam=1.0),
        lambda bad: Phi4((4, 4), m2=1.0, lam=bad),
        lambda bad: HoppingPhi4((4, 4), beta=bad, lam=1.0),
        lambda bad: HoppingPhi4((4, 4), beta=0.1, lam=bad),
        lambda bad: Scaled(FREE, bad),
        lambda bad: bad * FREE,
        lambda bad: Exponential(bad),
        lambda bad: Ising((4, 4), beta=bad),
        lambda bad: Ising((4, 4), beta=1.0, field=bad),
        lambda bad: Ising((2,), beta=1.0, couplings=[[bad, 1.0]]),
        lambda bad: bad * XY((4, 4), beta=1.0),
        lambda bad: XY((4, 4), beta=1.0, field=bad),
        lambda bad: XY((2,), beta=1.0, couplings=[[bad, 1.0]]),
        lambda bad: Potts((4, 4), q=3, beta=bad),
        lambda bad: Potts((4, 4), q=3, beta=1.0, field=bad),
        lambda bad: Potts((4, 4), q=3, beta=1.0, field=(0.0, bad, 0.0)),
        lambda bad: Potts((2,), q=3, beta=1.0, couplings=[[bad, 1.0]]),
        lambda bad: U1Gauge((4, 4), beta=bad),
        lambda bad: WilsonFermions((4, 4), kappa=bad),
        lambda bad: Schwinger((4, 4), beta=bad, kappa=0.2),
        lambda bad: Schwinger((4, 4), beta=1.0, kappa=bad),
    ],
)
def test_every_number_of_a_theory_is_finite(build, bad):
    with pytest.raises(ValueError, match=r"expected .*finite"):
        build(bad)


def test_couplings_that_overflow_the_action_are_refused_where_chains_start():
    huge = Phi4((4, 4), m2=1.0, lam=1e300)
    huge.check_proper()
    with pytest.raises(ValueError, match="finite action"):
        HMC(huge, 0.1, 2).init(torch.ones(2, 4, 4))
