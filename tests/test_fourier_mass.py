"""Fourier acceleration: the mass matrix, Hamilton's equations with it, and what it does to slow modes."""

import math

import pytest
import torch
from torch import Tensor

from cases import perturbed
from latflow import exact
from latflow.densities.flows import minimal_flow
from latflow.lattice import lattice_momentum_squared
from latflow.samplers import HMC, LEAPFROG, OMELYAN, FourierMass, Integrator, flowed_hmc, integrate, run
from latflow.theories import Phi4, U1Gauge

LATTICES = [(7,), (6, 5), (4, 3, 2)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def minus_laplacian(x: Tensor) -> Tensor:
    axes = range(1, x.ndim)
    return sum((2 * x - x.roll(1, axis) - x.roll(-1, axis) for axis in axes), torch.zeros_like(x))


def deviation(series: Tensor, expected: float) -> float:
    """In sigma, of the mean of (step, chain); the spread is that of the means of independent chains."""
    means = series.double().mean(0)
    return abs(float(means.mean()) - expected) / (float(means.std()) / math.sqrt(len(means)))


def moments(x: Tensor) -> dict[str, Tensor]:
    sites = x.flatten(1).double()
    m = sites.mean(1)
    return {"phi_squared": (sites**2).mean(1), "m": m, "V_m_squared": sites.shape[1] * m**2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_the_mass_is_a_scaled_lattice_operator(lattice: tuple[int, ...], dtype: torch.dtype) -> None:
    """M = scale (−Δ + m²) with the Laplacian of neighbours, its inverse, and its square root."""
    mass, x = FourierMass(0.3, 1.7), normal(3, *lattice, dtype=dtype)
    heavy = 1.7 * (minus_laplacian(x) + 0.3 * x)
    torch.testing.assert_close(mass.velocity(heavy), x)
    torch.testing.assert_close(mass.momentum(mass.momentum(x)), heavy)
    assert mass.momentum(x).dtype == mass.velocity(x).dtype == dtype
    torch.testing.assert_close(mass.spectrum(lattice), 1.7 * (lattice_momentum_squared(lattice) + 0.3))


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_all_modes_of_the_free_field_share_one_frequency(lattice: tuple[int, ...]) -> None:
    """With M = K = 2(k̂² + m²): x(τ) = x cos τ + M⁻¹π sin τ, at every site."""
    action, mass = Phi4(lattice, m2=0.2, lam=0.0), FourierMass(0.2)
    x, momentum = normal(4, *lattice, seed=1), mass.momentum(normal(4, *lattice, seed=2))
    start = (action.force, x, momentum, action.force(x))
    end, *_ = integrate(OMELYAN, *start, 1.3 / 400, 400, mass.velocity)
    expected = x * math.cos(1.3) + mass.velocity(momentum) * math.sin(1.3)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-5)


def energy(action: Phi4, mass: FourierMass, x: Tensor, momentum: Tensor) -> Tensor:
    return action(x) + 0.5 * (momentum * mass.velocity(momentum)).flatten(1).sum(1)


@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_the_energy_is_violated_in_second_order_and_trajectories_turn_back(scheme: Integrator) -> None:
    action, mass = Phi4((6, 4), m2=-1.0, lam=1.0), FourierMass(0.5)
    x, momentum = 0.4 * normal(60, 6, 4, seed=3), mass.momentum(normal(60, 6, 4, seed=4))
    rms = []
    for n in (20, 80):
        end = integrate(scheme, action.force, x, momentum, action.force(x), 1 / n, n, mass.velocity)
        delta = energy(action, mass, *end[:2]) - energy(action, mass, x, momentum)
        rms.append(float(delta.square().mean().sqrt()))
    assert math.log(rms[0] / rms[1]) / math.log(4) == pytest.approx(2, abs=0.1)
    back = integrate(scheme, action.force, end[0], -end[1], end[2], 1 / 80, 80, mass.velocity)
    torch.testing.assert_close(back[0], x, rtol=0, atol=1e-11)
    torch.testing.assert_close(back[1], -momentum, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_it_samples_the_same_theory(dtype: torch.dtype) -> None:
    action = Phi4((4, 4), m2=-1.0, lam=1.0)
    sampler = HMC(action, 0.4, 3, jitter=0.2, mass=FourierMass(0.5))
    start = 0.4 * normal(300, 4, 4, seed=5, dtype=dtype)
    chain = run(sampler, start, 50, moments, seeded(6), thermalisation=15)
    assert chain.state.x.dtype == dtype
    assert 0.05 < float(chain.series["delta_h"].std()) < 1
    assert deviation(torch.exp(-chain.series["delta_h"].double()), 1.0) < 5
    assert deviation(chain.series["phi_squared"], exact.phi4_phi_squared((4, 4), -1.0, 1.0).value) < 5


def test_a_quarter_period_makes_all_modes_of_the_free_field_independent() -> None:
    """m² = 0.01, ξ = 10: M after one trajectory of length π/2 knows nothing of M before."""
    action, mass = Phi4((8, 6), m2=0.01, lam=0.0), FourierMass(0.01)
    correlations = {}
    for name, sampler in (
        ("unit", HMC.of_length(action, math.pi / 2, 12)),
        ("fourier", HMC.of_length(action, math.pi / 2, 12, mass=mass)),
    ):
        start = normal(400, 8, 6, seed=7)
        chain = run(sampler, start, 30, moments, seeded(8), thermalisation=30)
        m = chain.series["m"]
        correlations[name] = float((m[1:] * m[:-1]).mean() / (m * m).mean())
        if name == "fourier":
            assert deviation(chain.series["V_m_squared"], exact.free_field_zero_mode(0.01)) < 5
            phi_squared = exact.free_field_phi_squared((8, 6), 0.01)
            assert deviation(chain.series["phi_squared"], phi_squared) < 5
    assert correlations["unit"] > 0.9
    assert abs(correlations["fourier"]) < 0.1


def test_it_works_in_latent_variables() -> None:
    flow = perturbed(minimal_flow((4, 4)).double(), 0.1)
    sampler = flowed_hmc(flow, Phi4((4, 4), m2=-1.0, lam=1.0), 0.2, 4, jitter=0.2, mass=FourierMass(1.0))
    chain = run(sampler, 0.4 * normal(200, 4, 4, seed=9), 50, moments, seeded(10), thermalisation=15)
    assert deviation(torch.exp(-chain.series["delta_h"]), 1.0) < 5
    assert deviation(chain.series["phi_squared"], exact.phi4_phi_squared((4, 4), -1.0, 1.0).value) < 5


def test_impossible_masses_are_refused() -> None:
    for options in ({"m2": 0.0}, {"m2": -1.0}, {"m2": math.inf}, {"m2": 1.0, "scale": 0.0}):
        with pytest.raises(ValueError, match="expected a positive, finite"):
            FourierMass(**options)
    with pytest.raises(ValueError, match="expected real numbers, one a site, for a Fourier mass, got links"):
        HMC(U1Gauge((4, 4), 1.0), 0.1, 5, mass=FourierMass(1.0))
