"""Single numbers of flows and of what they are made of, each by its formula."""

import math

import pytest
import torch
from torch import Generator

from cases import perturbed
from latflow.densities.autoregressive import dense_spins
from latflow.densities.autoregressive.values import Categories
from latflow.densities.flows import (
    Compose,
    Flow,
    FourierLayer,
    Normal,
    Scale,
    SectorLinks,
    UniformLinks,
    affine_flow,
)
from latflow.densities.flows.circular_maps import _positive
from latflow.densities.flows.continuous import HolonomyMap, continuous_flow
from latflow.densities.flows.continuous.kernels import momentum_functions, number_of_functions
from latflow.lattice import momenta
from latflow.theories import U1Gauge


def test_a_flow_elsewhere_claims_the_same():
    flow = affine_flow((4, 4), layers=2, hidden=(2,), z2=True)
    assert flow.symmetries
    moved = flow.on_lattice((6, 4))
    assert (moved.symmetries, moved.lattice) == (flow.symmetries, (6, 4))
    assert moved.recipe is not None
    assert moved.recipe["lattice"] == [6, 4]


def test_what_has_no_steps_stays_in_a_finer_composition():
    """f ∘ (1.5 x) with twice the steps of f is nearly the same map, and not that of f alone."""
    continuous = continuous_flow((4, 4)).double()
    whole = Flow(Normal((4, 4)), Compose(Scale(math.log(1.5)), continuous.bijection)).double()
    finer = whole.refined()
    assert finer is not None
    z = torch.randn(3, 4, 4, generator=Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(whole.forward(z)[0], finer.forward(z)[0], atol=1e-3)
        assert not torch.allclose(whole.forward(z)[0], continuous.forward(z)[0], atol=1e-1)
    assert Scale().refined() is None
    assert Compose(Scale(), Scale()).refined() is None


def test_widths_of_modes_bend_by_their_powers():
    """log σ(p) = s − ½ η log(k̂² + m²) + b₀ t + b₁ t² + b₂ u, t = k̂²/(4 d), u = Σ k̂_μ⁴/(16 d)."""
    layer = FourierLayer(mass=1.5, exponent=0.8, log_scale=0.3).double()
    with torch.no_grad():
        layer.bend.copy_(torch.tensor([0.1, 0.2, 0.4]))
    parts = (2 * torch.sin(momenta((4, 6)) / 2)).square()
    k2, k4 = parts.sum(0), parts.square().sum(0)
    t, u = k2 / 8, k4 / 32
    expected = 0.3 - 0.4 * torch.log(k2 + 2.25) + 0.1 * t + 0.2 * t * t + 0.4 * u
    assert torch.allclose(layer.log_width((4, 6)), expected.double(), atol=1e-6)


def test_no_angle_is_a_whole_turn():
    """Of a small negative angle rounding makes 2π, which is outside of [0, 2π)."""
    for dtype in (torch.float32, torch.float64):
        angles = _positive(torch.tensor([[-1e-30, 0.0, -math.pi, 7.0]], dtype=dtype))
        assert bool(((angles >= 0) & (angles < 2 * math.pi)).all())
        assert angles[0, 0] == 0.0


def test_every_sector_keeps_a_share_of_pure_gauge_theory():
    """A hundredth of its probability there, however far the trained one has gone."""
    prior = SectorLinks((4, 4), 1.0, terms=2, harmonics=2)
    start = prior._log_probabilities().detach()
    with torch.no_grad():
        prior.weights.fill_(-50.0)
    moved = prior._log_probabilities().detach()
    assert moved[0] > start[0]
    assert torch.allclose(moved[1:], start[1:] + math.log(0.01), atol=1e-3)


@pytest.mark.parametrize("masses", [(), (0.5,), (0.5, 1.0)])
def test_functions_of_momenta_have_their_number(masses):
    """Chebyshev polynomials of total degree up to 3 in two dimensions are 10; each mass adds 2."""
    functions = momentum_functions((4, 6), 3, masses, torch.float64, torch.device("cpu"))
    assert functions.shape == (24, 10 + 2 * len(masses))
    assert number_of_functions(2, 3, masses) == functions.shape[1]


class Vanishing(U1Gauge):
    """A theory whose holonomies are never in one half of their range."""

    def holonomy_density(self, links, angles):
        return (angles > 0).double().expand(len(links), len(angles), -1)


def test_holonomies_that_vanish_keep_a_density():
    """0.003 of the mean, so that a map to the uniform distribution has an inverse there."""
    density = HolonomyMap(Vanishing((4, 4), 1.0), grid=8)._density(
        UniformLinks((4, 4)).sample(2, Generator())
    )
    half = (torch.arange(8) * (2 * math.pi / 8) - math.pi > 0).double().mean()
    assert density.min() == pytest.approx(0.003 * float(half))
    assert density.max() == pytest.approx(1 + 0.003 * float(half))


def test_features_of_states_have_mean_zero():
    """δ(s, a) − 1/q: their sum over the states a of a site is zero."""
    x = torch.tensor([[0, 1], [2, 2]])
    found = Categories(3).encoded(x, torch.zeros(0, dtype=torch.float64)).view(2, 3, 2)
    assert torch.allclose(found.sum(1), torch.zeros(2, 2, dtype=torch.float64))
    assert found[1, :, 0].tolist() == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


def test_rows_are_drawn_given_those_before():
    """With the probability that the network gives them, which depends on the known rows."""
    network = perturbed(dense_spins((3, 2), hidden=(4,)), 1.0).double()
    known = torch.tensor([[[1.0, -1.0]], [[-1.0, -1.0]]], dtype=torch.float64)
    x, log_q = network.sample(3, Generator().manual_seed(1), given=known)
    assert torch.equal(x[:, :1], known.repeat_interleave(3, 0))
    assert torch.allclose(log_q, network.log_prob(x, given=1))


def test_the_way_back_of_steps_is_nearly_the_inverse():
    """Steps backwards through the stages in their turn: off by the error of the steps alone."""
    flow = continuous_flow((4, 4), stages=3).double()
    with torch.no_grad():
        for number, weight in enumerate(flow.parameters()):
            weight += 0.2 * torch.randn(weight.shape, generator=Generator().manual_seed(number)).double()
        z = torch.randn(4, 4, 4, generator=Generator().manual_seed(9), dtype=torch.float64)
        x, log_det = flow.forward(z)
        assert (x - z).abs().max() > 0.1
        back, log_det_back = flow.bijection.nearly_inverse(x)
    assert (back - z).abs().max() < 1e-2 * (x - z).abs().max()
    assert (log_det + log_det_back).abs().max() < 1e-2 * log_det.abs().max()
