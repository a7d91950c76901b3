"""What the README promises of the presets, by running them whole."""

import pytest

from latflow.config import load_config
from latflow.runs import Run
from latflow.validation import Validation, validate

pytestmark = pytest.mark.slow


def judged(tmp_path, preset: str) -> Validation:
    run = Run.create(tmp_path / preset, load_config(preset, ["compute.threads=1"]))
    run.train()
    run.sample()
    run.sample_beside()
    return validate(run)


@pytest.mark.parametrize(("preset", "least"), [("phi4-8x8", 0.8), ("phi4-8x8-multilevel", 0.98)])
def test_the_demo_reaches_what_it_promises(tmp_path, preset, least):
    """ESS, F to 0.005, and V⟨M²⟩ and ⟨φ²⟩ in agreement by every way."""
    verdict = judged(tmp_path, preset)
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > least
    rows = {row.name: row for row in verdict.rows}
    assert "weights" in rows["log_z"].values
    assert rows["log_z"].values["weights"].error < 0.005
    assert abs(rows["log_z"].values["weights"].value - 9.29135) < 0.005
    for name in ("V_magnetization_squared", "phi_squared"):
        assert {("model", "beside"), ("weights", "beside"), ("model", "exact"), ("beside", "exact")} <= set(
            rows[name].pulls
        )


def test_a_collapsed_flow_is_reported_and_never_passed(tmp_path):
    """In the broken phase the affine flow loses one sign of M, with a fine ESS for the other."""
    verdict = judged(tmp_path, "phi4-broken")
    assert verdict.diagnostics["ess"] > 0.3
    failed = {check.name for check in verdict.checks if not check.passed}
    assert "signs of M balance in the model's chain" in failed
    assert not verdict.passed


def test_u1_reaches_what_it_promises(tmp_path):
    """ESS of at least 0.3, with log Z, plaquette, ⟨Q²⟩ and P(Q) at their exact values."""
    verdict = judged(tmp_path, "u1")
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > 0.3
    rows = {row.name: row for row in verdict.rows}
    assert ("weights", "exact") in rows["log_z"].pulls
    for name in ("plaquette", "charge_squared", "P_charge_0", "P_charge_1", "P_charge_2"):
        assert {("model", "exact"), ("weights", "exact"), ("beside", "exact")} <= set(rows[name].pulls)


def test_the_schwinger_model_reaches_what_it_promises(tmp_path):
    """Condensate, plaquette and ⟨Q²⟩ of the flow's chain agree with HMC and with quenched configurations."""
    verdict = judged(tmp_path, "schwinger-8x8")
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > 0.7
    rows = {row.name: row for row in verdict.rows}
    for name in ("condensate", "plaquette", "charge_squared"):
        assert {("model", "beside"), ("model", "neighbour"), ("beside", "neighbour")} <= set(rows[name].pulls)
