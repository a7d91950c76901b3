"""The verdict on configurations that were made elsewhere: right ones pass, and every known fault is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latflow as lf
from ensembles import HOPPING, ISING, OWN, THEORIES, chain, drawn, enumerated, phi4
from latflow.cli import app
from latflow.ensembles import Ensemble
from latflow.errors import ConfigError, EnsembleError
from latflow.validation.copies import copy_checks, numbered
from latflow.validation.judgement import judge


def judged(action, fields, **options):
    return judge(Ensemble(Path("given.npy"), fields, ""), action, **options)


def failures(found):
    """The names of what does not hold."""
    parts = (*found.validation.checks, *found.validation.rows)
    return [part.name for part in parts if not part.passed]


def test_right_configurations_of_phi4_pass():
    found = judged(HOPPING, phi4()[:, None])
    assert found.validation.verdict == "passed", failures(found)
    assert found.validation.way("ensemble").measurements["phi_squared"].value == pytest.approx(0.67, abs=0.02)


@pytest.mark.parametrize("beta", [0.585, 0.615])
def test_a_coupling_that_is_off_by_some_percent_fails(beta):
    found = judged(HOPPING.at(beta=beta), phi4()[:, None])
    assert found.validation.verdict == "failed"
    assert "Schwinger–Dyson identities fit beta" in failures(found)


def test_half_of_each_lattice_flipped_fails():
    fields = phi4().clone()
    fields[:, :, :4] *= -1
    found = judged(HOPPING, fields[:, None])
    assert found.validation.verdict == "failed"
    assert "symmetry ⟨e·e′⟩ alike on all bonds" in failures(found)
    assert any("Schwinger–Dyson" in name for name in failures(found))


def test_half_of_the_configurations_flipped_is_sound_where_the_action_is_even_and_else_not():
    fields = phi4().clone()
    fields[::2] *= -1
    assert judged(HOPPING, fields[:, None]).validation.verdict == "passed"
    ising = lf.actions.Ising((4, 4), beta=0.3, field=0.2)
    x = enumerated((4, 4))
    generator = torch.Generator().manual_seed(3)
    x = x[torch.multinomial(torch.softmax(-ising(x), 0), 3000, True, generator=generator)]
    assert judged(ising, x[:, None]).validation.verdict == "passed"
    x[::2] *= -1
    assert judged(ising, x[:, None]).validation.verdict == "failed"


def test_a_flip_of_all_but_one_sign_is_told():
    fields = phi4()
    signs = fields.flatten(1).mean(1).sign().view(-1, 1, 1)
    found = judged(HOPPING, (fields * signs)[:, None])
    assert found.validation.verdict == "failed"
    assert "signs of M balance in the ensemble" in failures(found)


@pytest.mark.parametrize("name", THEORIES)
def test_every_kind_of_field_is_judged(name):
    action, fields = THEORIES[name], drawn(name)
    found = judged(action, fields)
    assert found.validation.verdict == "passed", failures(found)
    assert any("Schwinger–Dyson" in check.name for check in found.validation.checks)


@pytest.mark.parametrize("name", THEORIES)
def test_copies_are_told_of_every_kind_with_what_they_do_to_errors(name):
    action, fields = THEORIES[name], drawn(name)
    for copied in (torch.cat((fields, fields)), fields.repeat_interleave(2, 0)):
        wrong = [one for one in copy_checks(action, copied, numbered(copied)) if not one.passed]
        assert len(wrong) == 1, name
        assert "1.4" in wrong[0].detail
    assert all(one.passed for one in copy_checks(action, fields, numbered(fields)))


def test_chains_that_are_copies_of_each_other_are_told():
    fields = phi4()[:500, None]
    copied = torch.cat((fields, fields), 1)
    assert not all(one.passed for one in copy_checks(HOPPING, copied, numbered(copied)))


def test_rejections_are_no_copies():
    fields = phi4()[:1000]
    index = torch.arange(1000)
    stays = torch.rand(1000, generator=torch.Generator().manual_seed(1)) < 0.5
    index = torch.where(stays, 0, index).cummax(0).values
    assert all(one.passed for one in copy_checks(HOPPING, fields[index, None], numbered(fields[index, None])))


def test_an_end_that_was_never_written_is_told():
    fields = phi4().clone()
    fields[3500:] = 0
    found = judged(HOPPING, fields[:, None])
    assert "every configuration was written" in failures(found)


def test_too_few_configurations_are_inconclusive():
    for few in (7, 40):
        assert judged(HOPPING, phi4()[:few, None]).validation.verdict == "inconclusive"
    with pytest.raises(EnsembleError, match="at least 6 configurations a chain, got 3"):
        judged(HOPPING, phi4()[:3, None])


def test_a_broken_phase_that_was_entered_once_is_inconclusive():
    broken = lf.actions.HoppingPhi4((8, 8), beta=0.8, lam=0.5)
    kernel = lf.samplers.HMC(broken, step_size=0.12, n_steps=8)
    fields = chain(kernel, broken, 100, 10, 1, 100)
    fields = fields.transpose(0, 1).reshape(-1, 8, 8)
    fields = fields * fields.flatten(1).mean(1).sign().view(-1, 1, 1)
    half = len(fields) // 2
    once = torch.cat((fields[:half], -fields[half:]))
    found = judged(broken, once[:, None])
    assert any("sign of M changes 1 times" in doubt for doubt in found.validation.doubts)


def test_reweighting_tells_where_there_is_no_overlap():
    fields, near = phi4()[:, None], 0.61
    found = judged(HOPPING, fields, couplings=[{"beta": near}, {"beta": 0.9}])
    close, far = found.reweighted
    assert not close.warnings
    assert close.ess > 0.9
    assert far.ess < 0.05
    assert any("Pareto" in warning or "ESS" in warning for warning in far.warnings)
    own = found.validation.way("ensemble").measurements["phi_squared"]
    assert close.numbers["phi_squared"].value > own.value


def test_reweighted_averages_are_those_of_the_other_coupling():
    there = lf.actions.Ising((4, 4), beta=0.42)
    (found,) = judged(ISING, drawn("ising"), couplings=[{"beta": 0.42}]).reweighted
    exact = there.known()
    for name in ("energy", "abs_magnetization", "V_magnetization_squared", "specific_heat"):
        assert abs(found.numbers[name].pull(exact[name].value)) < 5, name


def test_sectors_that_were_never_visited_are_told():
    links = drawn("links")
    frozen = links[lf.observables.topological_charge(links[:, 0]) == 0]
    found = judged(THEORIES["links"], frozen)
    assert found.validation.verdict == "failed"
    assert any("topological sectors of the ensemble" in name for name in failures(found))


def test_a_reference_is_held_against():
    found = judged(OWN, drawn("own"), reference={"alignment": "0.9(1)"})
    assert found.validation.verdict == "passed"
    found = judged(OWN, drawn("own"), reference={"alignment": "0.900(1)"})
    assert failures(found) == ["alignment"]


@pytest.fixture
def published(tmp_path):
    """The file of a published ensemble: an array (N, L, L)."""
    path = tmp_path / "published.npy"
    np.save(path, phi4().numpy())
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)])


def test_the_command_judges_a_published_file(published, tmp_path):
    said = ["--action", "hopping_phi4", "-o", "action.beta=0.6", "-o", "action.lam=0.5"]
    out = tmp_path / "judged"
    result = command(published, *said, "--out", out, "--at", "beta=0.605")
    assert result.exit_code == 0, result.output
    assert "φ⁴ theory on 8 × 8" in result.output
    assert "beta = 0.605" in result.output
    results = json.loads((out / "results.json").read_text())
    assert results["verdict"] == "passed"
    assert results["ensemble"]["steps"] == 4000
    assert results["reweighted"][0]["couplings"] == {"beta": 0.605}
    page = (out / "report.html").read_text()
    assert "Validation passed" in page
    assert "Averages at other couplings" in page
    assert "Repeat this run" not in page
    assert page.count("<figure>") == 5


def test_the_command_fails_by_the_verdict_and_by_wrong_words(published, tmp_path):
    result = command(published, "-a", "hopping_phi4", "-o", "action.beta=0.63", "-o", "action.lam=0.5",
                     "--out", tmp_path / "x")  # fmt: skip
    assert result.exit_code == 1, result.output
    for arguments, expected in {
        (): "expected --action",
        ("-a", "hoping"): "expected a preset",
        ("-a", "hopping_phi4"): "action.beta",
        ("-a", "hopping-16x16"): "(number, 16, 16)",
        ("-a", "phi4-8x8", "--at", "mass=1"): "coupling constants",
        ("-a", "phi4-8x8", "--at", "m2"): "NAME=VALUE",
        ("-a", "u1"): "(number, 2, 8, 8)",
    }.items():
        result = command(published, *arguments, "--out", tmp_path / "y")
        assert result.exit_code == 2, (arguments, result.output)
        assert expected in result.output.replace("\n", " "), (arguments, result.output)
    missing = command(tmp_path / "nothing.npy")  # the file is at fault before the theory is
    assert missing.exit_code == 2
    assert "expected a file of configurations" in missing.output


def test_the_folder_of_a_run_is_left_alone(published, tmp_path):
    (tmp_path / "config.toml").write_text("")
    said = ["-a", "hopping_phi4", "-o", "action.beta=0.6", "-o", "action.lam=0.5"]
    result = command(published, *said, "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds a run" in result.output


def test_python_has_the_same(published):
    with pytest.raises(ConfigError, match="coupling constants"):
        lf.judge(published, HOPPING, couplings=[{"gamma": 1.0}])
    assert lf.judge(published, HOPPING).validation.passed
