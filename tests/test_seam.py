"""The seam's own test: a kind, theory, model and sampler that the library does not know go all the way."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import latflow as lf
from latflow.config import load_config
from latflow.errors import RunFolderError
from latflow.runs import Run
from latflow.samplers import HMC
from latflow.samplers import run as run_chain
from small_runs import assert_same, misled, outcome
from toy import InField, Rotations, UnitVectors, WrappedCauchy

SOURCE = Path(lf.__file__).parent

TOML = """
description = "vectors in a field"
[action]
type = "toy:InField"
lattice = [2, 3]
h = 1.2
[model]
type = "toy:WrappedCauchy"
[training]
estimator = "ESTIMATOR"
steps = 150
batch = 256
learning_rate = 0.05
[sampling]
kernels = ["proposals", "rotations", "hmc"]
steps = 300
chains = 16
thermalisation = 20
block = 110
[sampling.rotations]
type = "toy:Rotations"
width = 0.3
[beside]
kernels = "rotations"
steps = 600
chains = 16
thermalisation = 50
block = 250
[beside.rotations]
type = "toy:Rotations"
[compute]
dtype = "float64"
threads = 1
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(TOML.replace("ESTIMATOR", "reinforce"))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from its configuration to its report; tests read it only."""
    folder = tmp_path_factory.mktemp("seam")
    path = folder / "toy.toml"
    path.write_text(TOML.replace("ESTIMATOR", "path_gradient"))
    run = Run.create(folder / "run", load_config(path))
    return run, lf.complete(run)


def test_the_unknown_is_validated(whole):
    run, verdict = whole
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    assert list(rows) == ["log_z", "alignment", "transverse", "action_density"]
    ways = {"model", "weights", "beside", "exact"}
    for name in ("alignment", "action_density"):
        assert set(rows[name].values) == ways
        assert ("model", "exact") in rows[name].pulls
        assert rows[name].values["model"].error < 0.02
    assert set(rows["log_z"].values) == {"weights", "exact"}
    assert verdict.diagnostics["ess"] > 0.7
    assert set(run.series("model")) >= {
        "accepted_proposals",
        "accepted_rotations",
        "accepted_hmc",
        "delta_h_hmc",
    }


def test_the_verdict_is_no_formality(whole, tmp_path):
    run, _ = whole
    path = tmp_path / "toy.toml"
    path.write_text(TOML.replace("ESTIMATOR", "path_gradient").replace("h = 1.2", "h = 1.0"))
    wrong = misled(run, tmp_path / "run", load_config(path))
    assert not lf.validation.validate(wrong).passed


def test_the_unknown_has_a_report(whole):
    run, _ = whole
    page = re.sub(r'base64,[^"]*', "", (run.path / "report.html").read_text(encoding="utf-8"))
    for words in ("InField on 2 × 3", "h = 1.2", "rotations", "⟨n₁⟩", "Validation passed"):
        assert words in page
    for foreign in ("φ", "Wolff", "topolog", "magneti", "flow chain"):
        assert foreign not in page
    assert len(list((run.path / "figures").glob("*.png"))) >= 4


def test_the_unknown_goes_on_bit_for_bit(whole, tmp_path):
    class Killed(BaseException):
        pass

    def after(number):
        calls = []

        def call(*_):
            calls.append(1)
            if len(calls) == number:
                raise Killed

        return call

    run = Run.create(tmp_path / "run", whole[0].config)
    with pytest.raises(Killed):
        run.train(on_record=after(120))
    Run.open(run.path).train()
    for stage in ("sample", "sample_beside"):
        with pytest.raises(Killed):
            getattr(Run.open(run.path), stage)(on_block=after(3))
        getattr(Run.open(run.path), stage)()
    assert_same(outcome(run.path), outcome(whole[0].path))


def test_hmc_moves_on_the_manifold_of_the_kind():
    """⟨n₁⟩ = I₁(h)/I₀(h), from HMC that knows no vectors; the force is the gradient along the circle."""
    action = InField((2, 3), 1.5)
    generator = torch.Generator().manual_seed(4)
    x = action.kind.start((2, 3), 32, generator, torch.float64)
    # dS/dα of a rotation by α at each site: S = −h cos θ, so that −∂S/∂θ = −h sin θ
    torch.testing.assert_close(action.force(x), -1.5 * x[:, 1])
    chain = run_chain(
        HMC(action, 0.3, 5, jitter=0.2), x, 800, lf.observables.recorded(action), generator, 100
    )
    found = lf.analysis.measure(chain.series["alignment"].numpy())
    assert abs(found.pull(action.known()["alignment"].value)) < 5
    assert found.error < 0.01
    last = chain.state.x
    torch.testing.assert_close(last.norm(dim=1), torch.ones(32, 2, 3, dtype=torch.float64))


def test_a_run_of_objects_made_in_python(tmp_path):
    action, density = InField((2, 3), 1.2), WrappedCauchy((2, 3))
    options = {
        "training": {"steps": 60, "batch": 64, "learning_rate": 0.05},
        "sampling": {"steps": 200, "chains": 8, "thermalisation": 10},
        "beside": {
            "kernels": "rotations",
            "rotations": {"type": "toy:Rotations"},
            "steps": 200,
            "chains": 8,
            "thermalisation": 10,
        },
    }
    run = Run.of(action, density, tmp_path / "run", **options)
    before = density.logit.item()
    verdict = lf.complete(run)
    assert verdict.passed, verdict
    assert density.logit.item() == before  # a copy is trained
    assert (run.path / "report.html").is_file()
    again = Run.of(action, WrappedCauchy((2, 3)), tmp_path / "run", **options)
    assert lf.complete(again).passed
    with pytest.raises(RunFolderError, match=r"action\.object: .*h=1\.2.* and .*h=1\.3"):
        Run.of(InField((2, 3), 1.3), density, tmp_path / "run", **options)
    with pytest.raises(lf.errors.ConfigError, match=r"made in Python .* latflow\.Run\.of"):
        Run.open(run.path)


def test_a_theory_that_says_the_least(tmp_path):
    """Lattice, kind and action alone: log Z and ⟨S⟩/V are compared, and nothing is missing."""

    class Least(lf.actions.Action):
        lattice = (4,)
        kind = UnitVectors()

        def __call__(self, x):
            return -x[:, 0].flatten(1).sum(1)

    chain = {"steps": 100, "chains": 8, "thermalisation": 10}
    run = Run.of(
        Least(), WrappedCauchy((4,)), tmp_path / "run", training={"steps": 20, "batch": 64}, sampling=chain
    )
    verdict = lf.complete(run)
    assert verdict.verdict == "inconclusive"
    (doubt,) = verdict.doubts
    assert "No two independent ways know the same number" in doubt
    assert run.config.beside is None
    assert {"log_z", "action_density"} <= {row.name for row in verdict.rows}


# --- nothing in the library asks what a kind is called ---------------------------------------------


def test_no_comparison_with_the_name_of_a_kind():
    names = "|".join(["scalar", "gauge", "spin", "spins", "links", "states"])
    pattern = re.compile(
        rf"""(==|!=|\bin\b|\bcase\b|\bget\()\s*[(\[{{]?\s*["']({names})["']|\.kind\.name\b|\.name\s*[!=]="""
    )
    found = [
        f"{file.relative_to(SOURCE)}:{number}: {line.strip()}"
        for file in SOURCE.rglob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line) and "kind" in line
    ]
    assert found == []


@pytest.mark.parametrize(
    "part", ["report", "validation", "runs", "config", "figures", "samplers", "analysis"]
)
def test_no_theory_is_known_above_the_theories(part):
    """Beside samplers and priors that are for one theory, nothing imports one."""
    own = {"samplers/spins.py"}
    for file in (SOURCE / part).rglob("*.py"):
        if str(file.relative_to(SOURCE)) in own:
            continue
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(from|import) latflow\.theories\.(phi4|u1|ising|schwinger|potts|xy)", text, re.M
        ), file
        imports = r"^\s*(from .* )?import .*\b(Phi4|HoppingPhi4|U1Gauge|Ising|WilsonFermions|fermions_of)\b"
        assert not re.search(imports, text, re.MULTILINE), file


def test_analysis_loads_no_torch():
    code = "import latflow.analysis, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rotations_leave_exp_minus_s_as_it_is():
    action = InField((3,), 0.8)
    generator = torch.Generator().manual_seed(9)
    x = action.kind.start((3,), 64, generator, torch.float64)
    chain = run_chain(Rotations(action), x, 600, lf.observables.recorded(action), generator, 50)
    found = lf.analysis.measure(chain.series["alignment"].numpy())
    assert abs(found.pull(action.known()["alignment"].value)) < 5
    assert np.isfinite(found.error)
