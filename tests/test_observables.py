"""Observables against loops over sites, and against the free field drawn exactly in momentum space."""

import math

import numpy as np
import pytest
import torch

from latflow import exact, observables
from latflow.lattice import lattice_momentum_squared, volume
from latflow.observables.base import Observable, observing
from latflow.theories import Ising, Phi4

LATTICES = [(1,), (2,), (7,), (8,), (4, 6), (5, 3), (1, 4), (3, 4, 2), (4, 4, 6)]


def field(lattice, batch=3, dtype=torch.float64):
    return torch.randn(batch, *lattice, dtype=dtype, generator=torch.Generator().manual_seed(3))


def free_fields(lattice, m2, batch):
    """Independent draws of exp(−φKφ): white noise, multiplied by (2K)^{−1/2} in momentum space."""
    noise = field(lattice, batch)
    axes = tuple(range(1, noise.ndim))
    scale = (2 * (lattice_momentum_squared(lattice) + m2)).sqrt()
    return torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) / scale, dim=axes).real


def loop_two_point(x):
    length, spatial = x.shape[0], x[0].size
    slices = [x[t].mean() for t in range(length)]
    return [
        spatial / length * sum(slices[t0] * slices[(t0 + t) % length] for t0 in range(length))
        for t in range(length // 2 + 1)
    ]


def loop_lowest_mode(x):
    longest, modes = max(x.shape), []
    for axis in range(x.ndim):
        if x.shape[axis] == longest:
            phases = [np.exp(-2j * math.pi * site[axis] / longest) * x[site] for site in np.ndindex(x.shape)]
            modes.append(abs(sum(phases)) ** 2 / x.size)
    return sum(modes) / len(modes)


@pytest.mark.parametrize("lattice", LATTICES)
def test_observables_are_those_of_a_loop_over_sites(lattice):
    x = field(lattice)
    for i, configuration in enumerate(x.numpy()):
        sites = [configuration[site] for site in np.ndindex(lattice)]
        assert observables.magnetization(x)[i].item() == pytest.approx(sum(sites) / len(sites))
        assert observables.phi_squared(x)[i].item() == pytest.approx(sum(s * s for s in sites) / len(sites))
        np.testing.assert_allclose(observables.two_point(x)[i], loop_two_point(configuration), atol=1e-13)
        assert observables.lowest_mode(x)[i].item() == pytest.approx(loop_lowest_mode(configuration))


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recorded_observables_keep_dtype_and_batch(lattice, dtype):
    x = field(lattice, dtype=dtype)
    action = Phi4(lattice, m2=1.0, lam=0.5)
    record = observables.recorded(action)(x)
    assert set(record) == {"action", "magnetization", "phi_squared", "two_point", "lowest_mode"}
    assert torch.equal(record["action"], action(x))
    for name, values in record.items():
        assert values.dtype == (torch.float64 if name == "action" else dtype), name
        assert values.shape == ((3, lattice[0] // 2 + 1) if name == "two_point" else (3,)), name


def test_correlator_sums_to_the_squared_magnetization():
    x = field((6, 5))
    c = observables.two_point(x)
    period = c.sum(1) + c[:, 1:3].sum(1)  # t = 4, 5 repeat t = 2, 1
    torch.testing.assert_close(period, 30 * observables.magnetization(x) ** 2)


@pytest.mark.parametrize("lattice", [(8,), (8, 4), (4, 8), (4, 4, 6)])
def test_free_field_draws_meet_the_exact_expectation_values(lattice):
    # Pulls of averages of independent draws: standard normal, so five sigma each.
    m2, batch = 0.4, 40_000
    x = free_fields(lattice, m2, batch)

    def pulls(draws, expected):
        error = draws.std(0) / math.sqrt(batch)
        return (draws.mean(0) - torch.as_tensor(expected, dtype=draws.dtype)) / error

    assert abs(pulls(observables.phi_squared(x), exact.free_field_phi_squared(lattice, m2))) < 5
    assert abs(pulls(observables.lowest_mode(x), exact.free_field_lowest_mode(lattice, m2))) < 5
    zero_mode = volume(lattice) * observables.magnetization(x) ** 2
    assert abs(pulls(zero_mode, exact.free_field_zero_mode(m2))) < 5
    assert (pulls(observables.two_point(x), exact.free_field_two_point(lattice, m2)).abs() < 5).all()
    assert abs(pulls(Phi4(lattice, m2=m2, lam=0.0)(x), exact.free_field_action(lattice))) < 5


def test_formulas_on_a_free_field_and_deep_in_the_broken_phase():
    lattice, m2 = (8, 8), 0.3
    xi = observables.correlation_length(
        exact.free_field_zero_mode(m2), exact.free_field_lowest_mode(lattice, m2), max(lattice)
    )
    assert xi == pytest.approx(1 / math.sqrt(m2))
    masses = observables.effective_mass(exact.free_field_two_point(lattice, m2))
    np.testing.assert_allclose(masses, 2 * math.asinh(math.sqrt(m2) / 2), rtol=1e-9)
    assert observables.binder_cumulant(2.0, 3 * 2.0**2) == 0
    assert observables.binder_cumulant(4.0, 16.0) == pytest.approx(2 / 3)
    assert observables.susceptibility(0.5, 0.6, 64) == pytest.approx(64 * 0.14)


def test_formulas_take_observables_of_pyerrors():
    from latflow.analysis.autocorrelation import load_pyerrors

    rng = np.random.default_rng(2)
    zero_mode, lowest = (
        load_pyerrors().Obs([level + rng.standard_normal(100)], ["chain"]) for level in (9.0, 5.0)
    )
    xi = observables.correlation_length(zero_mode, lowest, 8)
    xi.gamma_method()
    assert xi.value == pytest.approx(observables.correlation_length(zero_mode.value, lowest.value, 8))
    assert xi.dvalue > 0


def test_formulas_are_nan_outside_their_domain():
    assert math.isnan(observables.correlation_length(1.0, 2.0, 8))
    assert np.isnan(observables.effective_mass(np.array([1.0, 2.0, 1.0]))).all()


def test_what_is_recorded_is_what_the_records_say():
    """A function that observables share is called once; rows that are made of series record nothing."""
    calls = []

    def both(x):
        calls.append(len(x))
        return {"largest": x.amax(1), "smallest": x.amin(1)}

    records = [
        Observable("largest", "max", both),
        Observable("smallest", function=both),
        Observable("spread", "max − min", of=("largest", "smallest"), each=lambda a, b: a - b),
        Observable("first", "x₀", lambda x: x[:, 0]),
    ]
    x = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    found = observing(records)(x)
    assert {name: values.tolist() for name, values in found.items()} == {
        "largest": [3.0, 2.0], "smallest": [1.0, -1.0], "first": [1.0, 2.0],
    }  # fmt: skip
    assert calls == [2]


def test_of_a_theory_its_action_and_the_observables_of_its_kind_are_recorded():
    x = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for action, names in (
        (Phi4((4, 6), m2=1.0, lam=1.0), {"phi_squared", "magnetization", "lowest_mode", "two_point"}),
        (Ising((4, 6), 0.4), {"energy", "magnetization", "lowest_mode", "two_point"}),
    ):
        found = observables.recorded(action)(x)
        assert found.keys() == {"action"} | names
        assert torch.equal(found["action"], action(x))
        assert torch.equal(found["magnetization"], x.mean((1, 2)))
