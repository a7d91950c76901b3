"""Single numbers of multilevel densities and of what they learn by, each by its formula."""

import math

import pytest
import torch
from torch import Generator

from latflow.densities.files import build_density
from latflow.densities.flows import SectorLinks
from latflow.densities.multilevel.geometry import Placed, counterpart, images
from latflow.densities.multilevel.loglinear import LogLinear
from latflow.densities.multilevel.spans import Span
from latflow.densities.multilevel.symmetric import StateNetwork, of_states
from latflow.densities.multilevel.windows import windows
from latflow.observables import topological_charge
from latflow.theories import Ising


def test_cross_entropies_are_summed_over_all_sites_that_are_drawn():
    """Of each class the mean over its sites, times their number."""
    action = Ising((8, 8), 0.4)
    recipe = {"type": "multilevel", "width": 4}
    density = build_density(recipe, lattice=(8, 8), kind=action.kind, action=action).double()
    x = action.kind.start((8, 8), 3, Generator().manual_seed(1), torch.float64)
    rows, expected = density._rows(x), 0.0
    for one in density.classes[:-1]:
        turned = images(one, density.lattice)
        labels = density.conditional.labels(density._beyond(one, rows)).repeat(1, len(turned))
        each = density.conditional.cross_entropy(labels, *density._coefficients(one, rows, None, turned))
        assert len(each) == 3 * len(one.sites) * len(turned)
        expected += float(each.detach().sum()) / 3 / len(turned)
    assert max(len(one.sites) for one in density.classes[:-1]) > 1
    assert density.cross_entropy(x, 10_000, Generator()).item() == pytest.approx(expected)


def log_linear() -> LogLinear:
    """With numbers that are summed: its features come with several powers of these."""
    window = min(
        (seen.window for seen in windows((8, 8))), key=lambda one: (one.summed == 0, one.bits < 4, one.bits)
    )
    return LogLinear(window, z2=True)


def test_what_nothing_was_counted_of_is_fitted_to_nothing():
    """The ridge draws all coefficients to zero where there are no counts against it."""
    model = log_linear()
    none = torch.zeros_like(model.log_odds(torch.zeros(model.size, dtype=torch.float64)))
    found = model.fitted(torch.ones(model.size, dtype=torch.float64), none, none)
    assert found.abs().max() < 1e-9


def test_the_curvature_of_a_fit_is_symmetric():
    """Σ w x xᵀ + 3: a form that no vector finds negative."""
    model = log_linear()
    shape = model.log_odds(torch.zeros(model.size, dtype=torch.float64)).shape
    curvature = model._curvature(torch.rand(shape, generator=Generator().manual_seed(1), dtype=torch.float64))
    assert torch.allclose(curvature, curvature.T)
    assert torch.linalg.eigvalsh(curvature).min() >= 3 - 1e-9


def test_positions_in_a_range_go_from_minus_one_to_one():
    for beta, position in ((0.2, -1.0), (0.3, -0.5), (0.6, 1.0)):
        span = Span(Ising((4, 4), beta), {"beta": (0.2, 0.6)}, 2)
        assert span.position == (pytest.approx(position),)
        assert span.terms == pytest.approx((1.0, position / 2, (2 * position**2 - 1) / 4))


def test_charges_of_both_signs_are_drawn_alike():
    """Of n charges apart from zero half are positive, within five times √n/2."""
    charges = topological_charge(SectorLinks((4, 4), 0.5).sample(400, Generator().manual_seed(1)))
    apart = charges[charges != 0]
    assert len(apart) > 50
    assert abs(int((apart > 0).sum()) - len(apart) / 2) < 5 * math.sqrt(len(apart)) / 2


def test_networks_of_states_see_differences_alone():
    """What is added to all states of one known site changes nothing."""
    network = StateNetwork(3, 4, Generator().manual_seed(1)).double()
    with torch.no_grad():
        network.linear.normal_(generator=Generator().manual_seed(2))
        seen = torch.rand(3, 5, 7, generator=Generator().manual_seed(3), dtype=torch.float64)
        shift = torch.rand(3, 1, 7, generator=Generator().manual_seed(4), dtype=torch.float64)
        found = of_states(network.weights, seen)
        assert torch.allclose(of_states(network.weights, seen + shift), found)
        assert not torch.allclose(of_states(network.weights, seen + shift * seen), found)


def test_a_level_is_taught_by_the_nearest_that_there_is():
    """Level 5 of 7 is as far from the top as level 4 of 6: where that is missing the nearest serves."""
    one = Placed(5, "edge", torch.zeros(1, dtype=torch.int64))
    assert counterpart(one, 7, 6, {"edge1", "edge3", "edge4"}) == "edge4"
    assert counterpart(one, 7, 6, {"edge1", "edge3"}) == "edge3"
    assert counterpart(one, 7, 6, {"edge1"}) == "edge1"
    assert counterpart(one, 7, 6, {"corner4"}) is None
