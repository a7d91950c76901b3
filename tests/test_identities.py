"""Schwinger–Dyson identities: exactly zero where averages are exact, and off for another action."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Generator

import latflow as lf
from ensembles import ANGLES, HOPPING, ISING, LINKS, OWN, drawn, enumerated, phi4, states
from latflow.fields.identities import of_changes, place
from latflow.theories.potts import Potts
from latflow.theories.xy import XY
from latflow.validation.couplings import fitted_couplings
from latflow.validation.identities import identities, in_words, significance


def averages(action, x, sites=None):
    """The averages of all identities over exp(−S) on a grid of configurations, all of equal measure."""
    weight = torch.softmax(-action(x), 0)
    sites = torch.arange(torch.Size(action.lattice).numel()) if sites is None else sites
    found = action.kind.identities(action, x, Generator().manual_seed(1), sites)
    return {title: (weight @ values.reshape(len(x), -1).double()) for title, values in found.items()}


def grid(points, sites, low, high):
    """A regular grid over a box: exponentially exact for what is smooth and ends in zero, or is periodic."""
    line = low + (high - low) * torch.arange(points, dtype=torch.float64) / points
    return torch.cartesian_prod(*[line] * sites)


@dataclasses.dataclass(frozen=True)
class Tilted(lf.actions.HoppingPhi4):
    """φ⁴ in a field, which is not even."""

    tilt: float = 0.3

    def __call__(self, x):
        return super().__call__(x) - self.tilt * x.flatten(1).sum(1)

    def force(self, x):
        return super().force(x) + self.tilt


GRIDS = {
    "phi4": (lf.actions.Phi4((2,), m2=-1.0, lam=0.7), grid(160, 2, -4.0, 4.0)),
    "tilted": (Tilted((3,), beta=0.5, lam=0.4), grid(48, 3, -3.6, 3.6)),
    "angles": (XY((3,), beta=0.8, field=0.3), grid(24, 3, -np.pi, np.pi)),
    "ising": (lf.actions.Ising((3, 3), beta=0.3, field=0.2), enumerated((3, 3))),
    "two states": (Potts((2, 3), q=2, beta=0.6, field=0.3), states(2, (2, 3))),
}


@pytest.mark.parametrize("name", GRIDS)
def test_identities_are_exact(name):
    action, x = GRIDS[name]
    for title, values in averages(action, x).items():
        assert values.abs().max() < 1e-9, title


@pytest.mark.parametrize("name", GRIDS)
def test_identities_of_another_coupling_are_off(name):
    action, x = GRIDS[name]
    weight = torch.softmax(-action(x), 0)
    other = action.at(**{key: value + 0.05 for key, value in action.coupling_constants.items()})
    sites = torch.arange(torch.Size(action.lattice).numel())
    found = other.kind.identities(other, x, Generator().manual_seed(1), sites)
    assert max(float((weight @ v.reshape(len(x), -1)).abs().max()) for v in found.values()) > 1e-3


def test_identities_of_three_states_are_exact_over_both_changes():
    action = Potts((2, 2), q=3, beta=0.5, field=(0.1, 0.3, 0.0))
    x = states(3, (2, 2))
    weight, sites = torch.softmax(-action(x), 0), torch.arange(4)
    one, two = (of_changes(action.kind, action, x, (x + shift) % 3, sites) for shift in (1, 2))
    for title, values in one.items():
        together = weight @ (values + two[title]).reshape(len(x), -1)
        assert together.abs().max() < 1e-12, title


def test_identities_of_links_and_of_ones_own_kind_hold_in_exact_draws():
    for action, name in ((LINKS, "links"), (OWN, "own")):
        found = identities(action, drawn(name))
        assert found
        assert all(one.passed for one in found), [(one.title, one.significance) for one in found]


def test_significance_is_that_of_the_largest_of_so_many():
    generator = np.random.default_rng(1)
    largest = np.abs(generator.standard_normal((4000, 200))).max(1)
    # the median of the largest of 200 is as significant as the median of one normal number
    assert significance(float(np.median(largest)), 200, np.inf) == pytest.approx(0.674, abs=0.06)
    assert significance(5.0, 1, np.inf) == pytest.approx(5.0)
    assert significance(6.0, 1, 10.0) < 4.0  # an error from ten numbers is hardly one
    assert significance(60.0, 100, np.inf) == 60.0


def test_words_say_why_a_large_pull_is_no_failure():
    assert in_words(-3.0, 2.5) == "-3.0 σ"
    assert in_words(-5.9, 4.9) == "-5.9 σ, which of so few configurations counts as 4.9 σ"
    assert in_words(6.0, 5.5) == "+6.0 σ"


@pytest.mark.parametrize(("action", "name"), [(ISING, "ising"), (ANGLES, "angles"), (LINKS, "links")])
def test_couplings_are_found_where_another_one_is_said(action, name):
    said = action.at(beta=1.03 * action.beta)
    value, found, deviation = fitted_couplings(said, drawn(name))["beta"]
    assert value == said.beta
    assert abs(found.pull(action.beta)) < 5
    assert deviation > 2


def test_both_couplings_of_phi4_are_found():
    found = fitted_couplings(HOPPING, phi4()[:, None])
    assert set(found) == {"beta", "lam"}
    for name, (value, fitted, deviation) in found.items():
        assert deviation < 5, name
        assert 0 < fitted.error < 0.05 * value


def test_places_are_told_by_coordinates():
    every = torch.arange(12)
    assert place((3, 4), every, 12, 7) == "site (1, 3)"
    assert place((3, 4), torch.tensor([2, 9]), 2, 1) == "site (2, 1)"
    assert place((4, 4), every, 10, 0) == "mode (0, 0)"
    assert place((3, 4), every, 24, 13) == "component 2 at site (0, 1)"


@pytest.mark.filterwarnings("ignore::latflow.errors.UnreliableErrorWarning")
def test_numbers_that_overflow_obey_no_identity():
    huge = phi4()[:100, None] * 1e150
    assert not all(one.passed for one in identities(HOPPING, huge))


def test_errors_of_fitted_couplings_cover():
    """Of 128 ensembles the pulls have mean 0 and spread 1 within five errors, 1/√128 and 1/√256 each.

    Combinations that are fitted to the configurations that they judge fail, by their mean.
    """
    generator = torch.Generator().manual_seed(7)
    hmc = lf.samplers.HMC(HOPPING, step_size=0.2, n_steps=6)
    start = torch.randn(128 * 4, *HOPPING.lattice, generator=generator, dtype=torch.float64)
    chain = lf.samplers.run(hmc, start, 60, lambda x: {"field": x}, generator, thermalisation=60)
    pulls = []
    for fields in chain.series["field"].split(4, 1):
        value, found, _ = fitted_couplings(HOPPING, fields)["beta"]
        pulls.append((found.value - value) / found.error)
    assert abs(np.mean(pulls)) < 5 / np.sqrt(128)
    assert abs(np.std(pulls, ddof=1) - 1) < 5 / np.sqrt(256)
