"""Flows over a coarser theory, from a configuration: numbers, the way back, what is not known of log Z."""

import math
import shutil

import pytest
import torch

import latflow as lf
from latflow.config import load_config
from latflow.errors import ConfigError
from latflow.runs import Run
from latflow.samplers.coarse import coarse_to_fine
from small_runs import assert_same, outcome

FREE = """
[action]
type = "phi4"
lattice = [4, 6]
m2 = 1.5
lam = 0.0
[model]
type = "coarse_to_fine"
coarse = { type = "phi4", m2 = 3.0, lam = LAM }
chains = 64
spacing = 3
[training]
estimator = "reparametrization"
steps = 60
batch = 64
learning_rate = 0.05
checkpoint_every = 25
[sampling]
kernels = ["proposals", "flowed_hmc"]
steps = 80
chains = 32
thermalisation = 10
block = 30
[beside]
enabled = false
[compute]
threads = 1
"""


def config(tmp_path, lam=0.0, changes=()):
    path = tmp_path / "free.toml"
    path.write_text(FREE.replace("LAM", str(lam)))
    return load_config(path, changes)


@pytest.mark.slow
def test_a_free_field_over_free_fields(tmp_path):
    """log Z of the coarse theory is known, so that of the fine one follows from weights; and it resumes."""

    class Killed(BaseException):
        pass

    run = Run.create(tmp_path / "run", config(tmp_path))
    verdict = lf.complete(run)
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    assert ("weights", "exact") in rows["log_z"].pulls
    assert ("model", "exact") in rows["phi_squared"].pulls

    # the chains that draw the coarse fields go on with the run, bit for bit
    path = tmp_path / "again"
    shutil.copytree(run.path, path)
    shutil.rmtree(path / "samples.zarr")
    (path / "checkpoints" / "model.safetensors").unlink()
    calls = []

    def stop(_):
        calls.append(1)
        if len(calls) == 2:
            raise Killed

    with pytest.raises(Killed):
        Run.open(path).sample(on_block=stop)
    Run.open(path).sample()
    groups = ("model", "proposals")
    assert_same(outcome(path, groups), outcome(run.path, groups))


def test_log_z_is_left_out_where_it_is_relative(tmp_path):
    shorter = ["training.steps=10", "sampling.steps=30", "sampling.kernels=['proposals']"]
    verdict = lf.complete(Run.create(tmp_path / "run", config(tmp_path, lam=0.5, changes=shorter)))
    assert verdict.verdict != "failed", verdict
    assert "log_z" not in {row.name for row in verdict.rows}
    assert any("up to a constant" in note for note in verdict.notes)
    assert "ess" in verdict.diagnostics


@pytest.mark.parametrize("fields", ["same", "one", "all"])
def test_each_way_is_a_density(fields):
    """With kernels at zero the flow is its prior, with the variance of the coarse theory where it draws."""
    flow = coarse_to_fine(
        (4, 4), coarse={"type": "phi4", "m2": 1.0, "lam": 0.0}, fields=fields, layers=0, chains=256
    )
    generator = torch.Generator().manual_seed(3)
    x, log_q = flow.double().sample(4096, generator)
    side = 4 if fields == "same" else 2
    expected = lf.exact.free_field_phi_squared((side, side), 1.0)
    known = x[:, ::2, ::2] if fields == "one" else x
    assert known.square().mean().item() == pytest.approx(expected, rel=0.06)
    if fields == "one":
        assert x[:, 1::2].square().mean().item() == pytest.approx(1.0, rel=0.03)
    # log q is normalised: the weights towards another Gaussian average to its Z over that of nothing
    width = 0.3
    log_p = (-0.5 * (x / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))).flatten(1).sum(1)
    weight = (log_p - log_q).exp()
    assert abs(weight.mean().item() - 1) < 5 * weight.std().item() / math.sqrt(256)


def test_a_coarse_theory_that_is_wrong_is_told(tmp_path):
    path = tmp_path / "free.toml"
    for wrong, message in (
        ('coarse = { type = "phi5" }', "expected a theory out of"),
        ('coarse = { type = "phi4", m2 = 3.0 }', "lam"),
        ('coarse = { type = "phi4", m2 = 3.0, lam = 0.0 }\nfields = "half"', "model.fields: expected"),
    ):
        path.write_text(FREE.replace('coarse = { type = "phi4", m2 = 3.0, lam = LAM }', wrong))
        with pytest.raises(ConfigError, match=message):
            load_config(path)
