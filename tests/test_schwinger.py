"""The Schwinger model: its action against the test vector, its force, and HMC against reweighting."""

import math

import numpy as np
import pytest
import torch

from latflow.analysis import measure
from latflow.observables import plaquette
from latflow.samplers import HMC, thermalise
from latflow.theories import Schwinger, U1Gauge, WilsonFermions, gauge_transformed
from latflow.wilson import dense_log_abs_det

BETA, KAPPA = 2.0, 0.276


def links(lattice, batch=1, seed=0):
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (batch, 2, *lattice))
    return torch.from_numpy(angles)


def test_the_action_of_the_test_vector():
    theta = torch.from_numpy(np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 4, 4)))[None]
    assert Schwinger((4, 4), BETA, KAPPA)(theta).item() == pytest.approx(7.61695524486869, abs=1e-12)


def test_flavours_and_boundary_enter():
    theta = links((3, 5))
    log_det = dense_log_abs_det(theta, KAPPA, "periodic")[0].item()
    action = WilsonFermions((3, 5), KAPPA, flavours=3, boundary="periodic")
    assert action(theta).item() == pytest.approx(-3 * log_det, abs=1e-11)


@pytest.mark.parametrize("lattice", [(3, 3), (4, 6), (5, 4)])
def test_gauge_invariance_and_charge_conjugation(lattice):
    action, theta = Schwinger(lattice, BETA, KAPPA), links(lattice, batch=3)
    alpha = torch.from_numpy(np.random.default_rng(1).uniform(-3, 3, (3, *lattice)))
    torch.testing.assert_close(action(gauge_transformed(theta, alpha)), action(theta), rtol=0, atol=1e-10)
    assert action.z2_symmetric
    torch.testing.assert_close(action(-theta), action(theta), rtol=0, atol=1e-10)


def test_force_is_the_slope_of_the_action():
    action, theta = Schwinger((4, 3), BETA, KAPPA), links((4, 3), batch=2, seed=2)
    direction = links((4, 3), batch=2, seed=3) - math.pi
    step = 1e-5
    slope = (action(theta + step * direction) - action(theta - step * direction)) / (2 * step)
    along = -(action.force(theta) * direction).flatten(1).sum(1)
    torch.testing.assert_close(along, slope, rtol=1e-6, atol=1e-6)


def test_single_precision_is_right():
    theta = links((4, 4), batch=2)
    single = Schwinger((4, 4), BETA, KAPPA)(theta.float())
    torch.testing.assert_close(single.double(), Schwinger((4, 4), BETA, KAPPA)(theta), rtol=0, atol=1e-3)


def test_hmc_agrees_with_reweighted_quenched_configurations():
    """⟨plaquette⟩ by HMC with fermions, and by U(1) weighted with det D²; 400 independent chains each."""
    lattice, chains = (4, 4), 400

    def ends(action, seed):
        generator = torch.Generator().manual_seed(seed)
        start = 2 * math.pi * torch.rand(chains, 2, *lattice, generator=generator, dtype=torch.float64)
        hmc = HMC.of_length(action, 1.0, 8, jitter=0.2)
        return hmc.field(thermalise(hmc, hmc.init(start), 30, generator))

    quenched = ends(U1Gauge(lattice, BETA), seed=4)
    log_weight = -WilsonFermions(lattice, KAPPA)(quenched)
    reweighted = measure(plaquette(quenched).numpy(), log_weight.numpy())
    dynamical = plaquette(ends(Schwinger(lattice, BETA, KAPPA), seed=5))
    mean, error = dynamical.mean().item(), (dynamical.std() / math.sqrt(chains)).item()
    assert abs(reweighted.pull(mean, error)) < 5
    # the fermions are seen: without their weight the quenched average is many sigma away
    assert abs(measure(plaquette(quenched).numpy(), torch.zeros(chains).numpy()).pull(mean, error)) > 5


@pytest.mark.parametrize("arguments", [{"lattice": (2, 4)}, {"lattice": (4,)}, {"flavours": 0}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        WilsonFermions(**({"lattice": (4, 4), "kappa": KAPPA} | arguments))


def test_links_of_another_lattice_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 2, 4, 4\), got one of shape \(1, 2, 4, 6\)"):
        WilsonFermions((4, 4), KAPPA)(links((4, 6)))
