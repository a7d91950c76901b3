"""The Schwinger model: its action against the test vector, its force, and HMC against reweighting."""

import importlib
import math

import numpy as np
import pytest
import torch

from latflow.analysis import measure
from latflow.config import load_config
from latflow.errors import ConfigError
from latflow.observables import observing, plaquette, recorded
from latflow.samplers import HMC, Cycle, SectorHop, run, thermalise
from latflow.theories import Schwinger, U1Gauge, WilsonFermions, gauge_transformed
from latflow.wilson import dense, dense_log_abs_det, log_abs_det

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


# --- a hopping parameter for each flavour --------------------------------------------------------------

KAPPAS = (0.31, 0.2, 0.31)


def dense_of(theta: torch.Tensor, kappa: float) -> torch.Tensor:
    return torch.linalg.det(dense(theta, kappa)).real


@pytest.mark.parametrize("lattice", [(4, 4), (3, 5)])
def test_flavours_of_their_own_masses_multiply_their_determinants(lattice):
    theta = links(lattice, batch=4, seed=6)
    action = WilsonFermions(lattice, KAPPAS)
    assert (action.flavours, action.kappa, action.shares) == (3, KAPPAS, {0.31: 2, 0.2: 1})
    product = torch.stack([dense_of(theta, kappa) for kappa in KAPPAS]).prod(0)
    torch.testing.assert_close(action(theta), -product.abs().log(), rtol=0, atol=1e-10)
    leaf = theta.clone().requires_grad_()
    slope = torch.stack([dense_of(leaf, kappa).abs().log() for kappa in KAPPAS]).sum()
    (expected,) = torch.autograd.grad(slope, leaf)
    torch.testing.assert_close(action.evaluate(theta).force, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(action.force(theta), expected, rtol=0, atol=1e-9)


def test_equal_flavours_are_one_theory_and_computed_once(monkeypatch):
    assert Schwinger((4, 4), BETA, [0.25, 0.25]) == Schwinger((4, 4), BETA, 0.25)
    assert Schwinger((4, 4), BETA, (0.25,)) == Schwinger((4, 4), BETA, 0.25, flavours=1)
    assert WilsonFermions((4, 4), (0.25,) * 3, flavours=3) == WilsonFermions((4, 4), 0.25, 3)
    calls: list[float] = []
    module = importlib.import_module("latflow.theories.schwinger.action")
    monkeypatch.setattr(module, "log_abs_det", lambda x, k, b: calls.append(k) or log_abs_det(x, k, b))
    WilsonFermions((4, 4), KAPPAS)(links((4, 4)))
    assert calls == [0.31, 0.2]


def test_what_is_recorded_together_is_computed_once(monkeypatch):
    calls: list[float] = []
    module = importlib.import_module("latflow.theories.schwinger.action")
    counted = module.determinant_and_condensate
    monkeypatch.setattr(
        module, "determinant_and_condensate", lambda x, k, b: calls.append(k) or counted(x, k, b)
    )
    recorded(Schwinger((4, 4), BETA, (0.3, 0.2)))(links((4, 4)))
    assert calls == [0.3, 0.2]


@pytest.mark.parametrize(
    ("kappas", "of_sign"),
    [((0.45, 0.4, 0.45), [0.4]), ((0.45, 0.4), [0.45, 0.4]), ((0.45, 0.4, 0.4, 0.45), None)],
)
def test_each_flavour_has_its_condensate_and_the_sign_is_that_of_the_product(kappas, of_sign):
    theta = links((4, 5), batch=64, seed=17)
    action = Schwinger((4, 5), BETA, kappas)
    record = recorded(action)(theta)
    for i, kappa in enumerate(dict.fromkeys(kappas)):
        trace = torch.linalg.inv(dense(theta, kappa)).diagonal(dim1=1, dim2=2).sum(1).real
        torch.testing.assert_close(record[f"condensate_{i + 1}"], trace / 20, rtol=1e-7, atol=1e-9)
    expected = torch.stack([dense_of(theta, kappa).sign() for kappa in of_sign or kappas[:1]]).prod(0)
    assert torch.equal(record["sign"], expected)
    assert set(expected.tolist()) == {1.0, -1.0}
    assert action.reweighting == (None if of_sign is None else "sign")
    labels = {one.name: one.label for one in action.observables}
    assert labels["condensate_2"] == "⟨Tr D⁻¹⟩/V (condensate, κ = 0.4)"


def test_pions_of_two_masses_are_those_of_the_dense_inverses():
    theta, kappas = links((4, 5), batch=3, seed=8), (0.28, 0.2)
    s = [torch.linalg.inv(dense(theta, k)).view(3, 4, 10, 4, 10)[:, :, :, 0] for k in kappas]
    record = recorded(Schwinger((4, 5), BETA, kappas))(theta)
    for name, one, other in (("pion_1", 0, 0), ("pion_12", 0, 1), ("pion_2", 1, 1)):
        c = (s[one] * s[other].conj()).real.sum((2, 3)) / 5
        expected = torch.stack((c[:, 0], (c[:, 1] + c[:, 3]) / 2, c[:, 2]), 1)
        torch.testing.assert_close(record[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_chain_with_two_masses_agrees_with_reweighted_quenched_configurations():
    """HMC with hops, reweighted with the sign, and exact draws of U(1) weighted with the determinants."""
    lattice, beta, kappas = (4, 4), 1.0, (0.42, 0.25)
    action, generator = Schwinger(lattice, beta, kappas), torch.Generator().manual_seed(9)
    names = ("plaquette", "condensate_1", "condensate_2", "sign")
    record = observing([one for one in action.observables if one.name in names])
    x, _ = U1Gauge(lattice, beta).exact_sampler().sample(3000, generator)
    quenched = {name: values.numpy() for name, values in record(x).items()}
    log_weight = -action.second(x).numpy()
    cycle = Cycle([HMC.of_length(action, 1.0, 6, jitter=0.2), SectorHop(action)])
    start = action.kind.start(lattice, 48, generator, torch.float64)
    chain = run(cycle, cycle.init(start), 25, record, generator, thermalisation=12)
    seen = {name: values.numpy() for name, values in chain.series.items()}
    for name in names:
        factors = (None, None) if name == "sign" else (quenched["sign"], seen["sign"])
        weighted = measure(quenched[name], log_weight, factor=factors[0])
        found = measure(seen[name], factor=factors[1])
        assert abs(found.pull(weighted.value, weighted.error)) < 5, name
    assert measure(seen["sign"]).value < 0.95  # the sign is seen


def test_a_configuration_gives_several_kappas():
    loaded = load_config("schwinger-8x8", ["action.kappa=[0.27, 0.25]"])
    action = loaded.action.build()
    assert action == Schwinger((8, 8), 2.0, (0.27, 0.25))
    assert "κ = 0.27, 0.25, 2 flavours" in action.words.parameters
    with pytest.raises(ConfigError, match="expected a kappa for each of 3 flavours, got 2"):
        load_config("schwinger-8x8", ["action.kappa=[0.27, 0.25]", "action.flavours=3"]).action.build()


@pytest.mark.parametrize(
    "arguments",
    [
        {"lattice": (2, 4)},
        {"lattice": (4,)},
        {"flavours": 0},
        {"kappa": ()},
        {"kappa": (0.2, math.nan)},
        {"kappa": (0.2, 0.3), "flavours": 3},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        WilsonFermions(**({"lattice": (4, 4), "kappa": KAPPA} | arguments))


def test_links_of_another_lattice_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 2, 4, 4\), got one of shape \(1, 2, 4, 6\)"):
        WilsonFermions((4, 4), KAPPA)(links((4, 6)))
