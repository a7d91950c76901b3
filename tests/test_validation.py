"""The verdict must pass what is right and fail what is wrong."""

import math

import numpy as np
import pytest
import torch

from latflow import exact
from latflow.actions import HoppingPhi4, Phi4
from latflow.analysis import LABELS, Measurement
from latflow.flows import affine_flow, spline_flow
from latflow.flows.fourier import FourierLayer
from latflow.observables import recorded
from latflow.samplers import IndependenceMetropolis, run
from latflow.validation import flow_checks, known, table
from latflow.validation.verdict import Validation, _finite_draws, _sign_checks, _warnings

FREE = Phi4((4, 6), m2=0.8, lam=0.0)


def free_flow():
    """The exact flow of the free field: one Fourier layer of its mass."""
    flow = spline_flow((4, 6), layers=0, site_bins=0, scale=1.0)
    layer = next(module for module in flow.modules() if isinstance(module, FourierLayer))
    with torch.no_grad():
        layer.log_mass_squared.fill_(math.log(FREE.m2))
        layer.exponent.fill_(1.0)
        layer.log_scale.fill_(-0.5 * math.log(2))
    return flow.double()


def series_of(flow, action, steps=400, chains=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sampler = IndependenceMetropolis(flow, action)
    chain = run(sampler, sampler.init_from_draws(chains, generator), steps, recorded(action), generator)
    assert chain.proposals is not None
    draws = {name: values.flatten(0, 1).numpy() for name, values in chain.proposals.items()}
    return {name: values.numpy() for name, values in chain.series.items()}, draws


def test_an_exact_flow_passes_every_row():
    series, draws = series_of(free_flow(), FREE)
    rows = {row.name: row for row in table(FREE, series, draws, {}, known(FREE, {}))}
    assert set(rows) == set(LABELS)
    assert all(row.passed for row in rows.values()), rows
    assert rows["log_z"].exact is not None
    assert rows["log_z"].exact.value == pytest.approx(exact.free_field_log_z((4, 6), 0.8))
    assert {"flow-exact", "nis-exact"} <= set(rows["phi_squared"].pulls)


def test_a_shifted_chain_fails():
    series, draws = series_of(free_flow(), FREE)
    broken = series | {"phi_squared": series["phi_squared"] * 1.1}
    rows = {row.name: row for row in table(FREE, broken, draws, {}, known(FREE, {}))}
    assert not rows["phi_squared"].passed
    assert rows["action_density"].passed
    verdict = Validation(list(rows.values()), [], {}, [])
    assert not verdict.passed
    assert verdict.as_dict()["passed"] is False


def test_one_sign_of_the_magnetization_is_never_passed():
    series, draws = series_of(free_flow(), FREE)
    collapsed = [part | {"magnetization": np.abs(part["magnetization"])} for part in (series, draws)]
    checks = _sign_checks(table(FREE, *collapsed, {}, known(FREE, {})))
    assert [check.passed for check in checks] == [False, False]
    assert "100.0%" in checks[0].detail
    assert all(check.passed for check in _sign_checks(table(FREE, series, draws, {}, known(FREE, {}))))


def test_references_are_read_and_held_against():
    series, draws = series_of(free_flow(), FREE)
    rows = {row.name: row for row in table(FREE, series, draws, {}, known(FREE, {"log_z": "0.0(1)"}))}
    assert rows["log_z"].exact == Measurement(0.0, 0.1)
    assert not rows["log_z"].passed


@pytest.mark.parametrize("build", [affine_flow, spline_flow])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sound_flows_pass_their_checks(build, dtype):
    flow = build((6, 4), layers=2, hidden=(4, 4)).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    checks = list(flow_checks(flow, Phi4((6, 4), m2=1.0, lam=1.0)))
    assert all(check.passed for check in checks), checks
    assert len(checks) == (5 if build is spline_flow else 4)


def test_a_wrong_log_determinant_is_found():
    flow = free_flow()
    layer = next(module for module in flow.modules() if isinstance(module, FourierLayer))
    right = layer.forward
    layer.forward = lambda x: (right(x)[0], 0.9 * right(x)[1])
    failed = {check.name for check in flow_checks(flow, FREE) if not check.passed}
    assert "log-determinant is the Jacobian's" in failed
    assert "log-determinants cancel" in failed


def test_known_numbers_follow_the_parametrisation():
    """S₄(φ₄) = S₁(cφ₄) + λV: log Z of the hopping form, from the other form and by brute force."""
    hopping = HoppingPhi4((6,), beta=0.7, lam=0.4)
    same, c = hopping.to_phi4()
    direct = exact.phi4_log_z((6,), same.m2, same.lam)
    found = known(hopping, {})
    assert found["log_z"].value == pytest.approx(direct.value - 6 * math.log(c) - 0.4 * 6)
    # a brute-force integral over two sites, S = Σ[−2β φ₀φ₁ …], fixes the constant independently
    tiny = HoppingPhi4((2,), beta=0.7, lam=0.4)
    axis = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_z = torch.logsumexp(-tiny(grid), 0).item() + 2 * math.log(0.01)
    assert known(tiny, {})["log_z"].value == pytest.approx(log_z, abs=1e-6)


def test_nan_is_never_passed_but_where_noise_may_cause_it():
    series, draws = series_of(free_flow(), FREE)
    spoilt = series | {"phi_squared": np.where(np.arange(400)[:, None] == 7, np.nan, series["phi_squared"])}
    rows = {row.name: row for row in table(FREE, spoilt, draws, series, known(FREE, {}))}
    assert not rows["phi_squared"].passed
    # a lowest mode above the zero mode has no correlation length: nothing to compare, on either side
    noisy = series | {"lowest_mode": 100 * series["lowest_mode"]}
    for one, other in ((noisy, series), (series, noisy)):
        row = next(r for r in table(FREE, one, {}, other, {}) if r.name == "correlation_length")
        assert row.passed
        assert not row.pulls


def test_draws_without_a_finite_weight_are_left_out_and_counted():
    log_weight = np.array([[0.0, np.nan], [np.inf, -np.inf], [1.0, 2.0]])
    finite, bad = _finite_draws({"log_weight": log_weight, "two_point": np.zeros((3, 2, 4))})
    assert bad == 2
    assert finite["log_weight"].tolist() == [0.0, -np.inf, 1.0, 2.0]
    assert finite["two_point"].shape == (4, 4)
    assert _finite_draws({}) == ({}, 0)


def test_missing_overlap_is_warned_of():
    assert not _warnings({"pareto_k": 0.3, "largest_weight_share": 0.01})
    heavy, single = _warnings({"pareto_k": 0.9, "largest_weight_share": 0.4})
    assert "0.90, above 0.7" in heavy
    assert "40%" in single
