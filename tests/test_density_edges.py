"""What every density does at the edges: no draws, one draw, fields in another precision."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from latflow.densities.autoregressive import convolutional_spins, dense_spins, hierarchical_spins
from latflow.densities.base import draws
from latflow.densities.flows import affine_flow, gauge_flow, minimal_flow, spline_flow
from latflow.fields.states import States
from latflow.samplers import HMC, flowed_hmc
from latflow.samplers.coarse import coarse_to_fine
from latflow.theories import XY, Action, Ising, Phi4, Potts, Schwinger, U1Gauge
from latflow.theories.xy.flow.coarse_to_fine import circular_flow

PHI4, LINKS, ANGLES = Phi4((4, 4), m2=-4.0, lam=8.0), U1Gauge((4, 4), 1.0), XY((4, 4), 0.5)
SPINS, STATES = Ising((4, 4), 0.3), Potts((4, 4), q=3, beta=0.3)


def coarse(fields: str) -> Any:
    theory = {"type": "phi4", "m2": -4.0, "lam": 8.0}
    return coarse_to_fine((4, 4), coarse=theory, fields=fields, chains=8, thermalisation=1)  # pyright: ignore[reportArgumentType]


DENSITIES: dict[str, tuple[Callable[[], Any], Action]] = {
    "affine": (lambda: affine_flow((4, 4), layers=2, hidden=(4,)), PHI4),
    "affine, deep, Fourier": (lambda: affine_flow((4, 4), layers=2, z2=True, fourier=True), PHI4),
    "spline": (lambda: spline_flow((4, 4), layers=2), PHI4),
    "minimal": (lambda: minimal_flow((4, 4)), PHI4),
    "gauge": (lambda: gauge_flow((4, 4), layers=2), LINKS),
    "gauge, projections": (lambda: gauge_flow((4, 4), layers=2, scalar_map="projection"), LINKS),
    "gauge, quenched": (lambda: gauge_flow((4, 4), layers=2, masks="stripes", prior_beta=1.0), LINKS),
    "coarse, all": (lambda: coarse("all"), PHI4),
    "coarse, one": (lambda: coarse("one"), PHI4),
    "coarse, same": (lambda: coarse("same"), PHI4),
    "circular": (lambda: circular_flow((4, 4), action=ANGLES), ANGLES),
    "dense": (lambda: dense_spins((4, 4)), SPINS),
    "dense states": (lambda: dense_spins((4, 4), kind=States(3)), STATES),
    "convolutional": (lambda: convolutional_spins((4, 4)), SPINS),
    "convolutional states": (lambda: convolutional_spins((4, 4), kind=States(3)), STATES),
    "hierarchical": (lambda: hierarchical_spins((4, 4)), SPINS),
    "hierarchical states": (lambda: hierarchical_spins((4, 4), kind=States(3)), STATES),
}
FLOWS = [name for name, (_, action) in DENSITIES.items() if action.kind.manifold is not None]


def seeded() -> Generator:
    return Generator().manual_seed(0)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("name", DENSITIES)
def test_no_draw_and_one_draw(name, n):
    build, action = DENSITIES[name]
    density, shape = build(), (n, *action.field_shape)
    x, log_q = density.sample(n, seeded())
    assert (x.shape, log_q.shape) == (shape, (n,))
    assert density.log_prob(x.detach()).shape == (n,)
    drawn = draws(density, n, action, seeded())
    assert (drawn.x.shape, drawn.log_weight.shape) == (shape, (n,))
    if name in FLOWS:
        x, log_q = density.sample_fixed(n, seeded())
        assert (x.shape, log_q.shape) == (shape, (n,))
        log_q.sum().backward()
        z, log_det = density.inverse(x.detach())
        assert (z.shape, log_det.shape) == (shape, (n,))
        assert density.forward(z)[0].shape == shape


@pytest.mark.parametrize("action", [PHI4, LINKS, ANGLES, SPINS, STATES, Schwinger((4, 4), 1.0, 0.2)], ids=str)
def test_no_configuration_has_no_numbers(action):
    x = action.kind.start(action.lattice, 0, seeded(), torch.float32)
    assert action(x).shape == (0,)
    if action.kind.manifold is not None:
        assert action.evaluate(x).force.shape == x.shape


@pytest.mark.parametrize("name", FLOWS)
def test_fields_in_another_precision_than_the_weights_are_refused(name):
    build, action = DENSITIES[name]
    flow = build()
    x = flow.sample(1, seeded())[0].detach().double()
    for use in (flow.log_prob, flow.inverse, flow.forward, flowed_hmc(flow, action, 0.1, 2).init):
        with pytest.raises(ValueError, match=r"expected fields in torch.float32.*, got torch.float64"):
            use(x)
    flow.double().log_prob(x)


@pytest.mark.parametrize("name", ["affine", "gauge", "circular"])
def test_fields_on_another_lattice_are_refused(name):
    flow = DENSITIES[name][0]()
    x = flow.sample(1, seeded())[0].detach()
    for use in (flow.log_prob, flow.inverse, flow.forward):
        with pytest.raises(ValueError, match=r"expected a .* field on the lattice"):
            use(x[..., :2])


@pytest.mark.parametrize("name", [name for name in DENSITIES if name not in FLOWS])
def test_values_of_spins_are_the_same_in_any_precision(name):
    density = DENSITIES[name][0]()
    x, log_q = density.sample(3, seeded())
    other = x.double() if x.dtype.is_floating_point else x.int()
    torch.testing.assert_close(density.log_prob(other), log_q)
    wrong = x.long() if x.dtype.is_floating_point else x.float()
    with pytest.raises(ValueError, match=r"expected .* in torch\.\w+, got torch\.\w+"):
        density.log_prob(wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", DENSITIES)
def test_half_precisions_work_or_say_why_not(name, dtype):
    density = DENSITIES[name][0]()
    expected = density.sample(4, seeded())[0].dtype
    half = copy.deepcopy(density).to(dtype)

    def log_q() -> Tensor:
        return half.log_prob(half.sample(4, seeded())[0])

    if name == "circular":
        with pytest.raises(ValueError, match=r"expected angles in float32 or float64, .*, got torch"):
            log_q()
        return
    assert half.sample(4, seeded())[0].dtype == (dtype if expected.is_floating_point else expected)
    assert log_q().isfinite().all()


def test_no_chain_is_started_from_fields_of_another_lattice():
    with pytest.raises(ValueError, match="expected a scalar field on the lattice"):
        HMC(PHI4, 0.1, 2).init(torch.zeros(2, 4, 6))
