"""Runs of theories of links, from the configuration to the report."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.measurement import Measurement
from latflow.report import write_report
from latflow.report.circumstances import theory
from latflow.report.diagnostics import diagnostics_table
from latflow.report.material import Material
from latflow.report.plates import builders, plates
from latflow.runs import Run
from latflow.theories import Schwinger
from latflow.validation import neighbour, validate
from small_gauge_runs import SCHWINGER, SMALL_LINKS, U1, sampled
from small_runs import misled

pytestmark = pytest.mark.drawn

OF_LINKS = [
    "training", "log_weights", "topological_charge_weights", "history", "topological_charge_history",
    "plaquette", "topological_charge", "autocorrelation", "configurations",
]  # fmt: skip
OF_FERMIONS = [*OF_LINKS[:-1], "autocorrelation_condensate", "pion", "singlet", "configurations"]


@pytest.fixture(scope="module", autouse=True)
def _few_draws():
    """The third opinion rests on 2048 draws, an eighth of those outside of tests: each takes a propagator."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(neighbour, "_MOST_DRAWS", 2**11)
        yield


@pytest.fixture(scope="module")
def u1(tmp_path_factory):
    run = sampled(tmp_path_factory.mktemp("u1") / "run", "u1", *U1)
    return run, validate(run)


@pytest.fixture(scope="module")
def schwinger(tmp_path_factory):
    run = sampled(tmp_path_factory.mktemp("schwinger") / "run", "schwinger-16x16-published", *SCHWINGER)
    return run, validate(run)


@pytest.fixture(scope="module")
def one_flavour(tmp_path_factory):
    """One flavour at a large κ, where many determinants are negative."""
    changes = ["action.lattice=[4, 4]", "action.beta=0.5", "action.kappa=0.4", "action.flavours=1"]
    changes += ["sampling.steps=80", "beside.steps=60"]
    run = sampled(tmp_path_factory.mktemp("one") / "run", "schwinger-16x16-published", *changes)
    return run, validate(run)


def plate(run, name):
    """One plate of a run alone: its figure, the same in words, and its caption."""
    _, build = builders(run.action)[name]
    return build(Material(run))


def test_a_run_of_links_agrees_with_the_exact_solution(u1, tmp_path):
    run, verdict = u1
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    assert {("model", "exact"), ("weights", "exact"), ("beside", "exact"), ("model", "beside")} <= rows[
        "charge_squared"
    ].pulls.keys()
    assert rows["log_z"].pulls.keys() == {("weights", "exact")}
    assert "neighbour" not in rows["plaquette"].values
    names = [check.name for check in verdict.checks]
    assert "gauge equivariance of the flow" in names
    assert any(name.startswith("topological sectors of the model's chain, by exact") for name in names)
    assert verdict.diagnostics["ess"] > 0.1
    assert 0 < verdict.diagnostics["tunnelling_topological_charge"] < 1
    assert 0 < verdict.diagnostics["beside_tunnelling_topological_charge"] < 1
    assert not verdict.notes
    # the check is no formality: another β has another ⟨cos P⟩
    shifted = load_config("u1", [*SMALL_LINKS, *U1, "action.beta=0.6"])
    assert not validate(misled(run, tmp_path / "run", shifted)).passed


def test_fermions_have_three_independent_opinions(schwinger):
    _, verdict = schwinger
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    assert {
        ("model", "neighbour"),
        ("weights", "neighbour"),
        ("beside", "neighbour"),
        ("model", "beside"),
    } <= rows["condensate"].pulls.keys()
    assert rows["log_z"].pulls.keys() == {("weights", "neighbour")}
    assert "exact" in rows["charge"].values
    assert "exact" not in rows["charge_squared"].values
    assert "pion_mass_1" in rows
    assert verdict.diagnostics["neighbour_ess"] > 0.3
    assert len(verdict.notes) == 1
    assert "exact draws of the theory without Wilson fermions" in verdict.notes[0]


@pytest.mark.slow
def test_an_odd_number_of_flavours_is_reweighted(one_flavour):
    run, verdict = one_flavour
    rows = {row.name: row for row in verdict.rows}
    sign = run.series("beside")["sign"]
    assert -0.9 < sign.mean() < 0.9  # the sign matters
    plaquette = run.series("beside")["plaquette"]
    assert rows["plaquette"].values["beside"].value == pytest.approx(
        (plaquette * sign).mean() / sign.mean(), rel=1e-4
    )
    assert rows["sign"].values["beside"].value == pytest.approx(sign.mean(), rel=1e-6)
    # quenched draws know the sign as well: the three opinions meet on reweighted averages
    assert {("beside", "neighbour"), ("weights", "neighbour")} <= rows["plaquette"].pulls.keys()
    assert all(row.passed for row in verdict.rows), verdict.rows
    # what it costs is told of every way
    share = sign.mean() ** 2
    assert verdict.diagnostics["beside_reweighted_share"] == pytest.approx(share, rel=1e-6)
    assert {f"{way}reweighted_share" for way in ("", "weights_", "neighbour_")} <= verdict.diagnostics.keys()
    note = next(note for note in verdict.notes if "the HMC + sector hops chain are reweighted" in note)
    said = re.search(r"⟨σ⟩ = (0\.\d+)", note)
    assert said is not None
    assert float(said[1]) == pytest.approx(sign.mean(), abs=0.01)
    assert f"{sign.size} configurations count as {share * sign.size:.0f}" in note
    told = diagnostics_table(verdict)
    assert told is not None
    shares = [
        row[1].text for row in told.rows if row[0].text.startswith("Share that the sign leaves of the HMC")
    ]
    assert shares == [f"{share:.3f}"]
    _, _, caption = plate(run, "topological_charge")
    assert "Signs are not counted here" in caption


@pytest.mark.parametrize(("which", "expected"), [("u1", OF_LINKS), ("schwinger", OF_FERMIONS)])
def test_every_plate_is_drawn(request, which, expected):
    made = plates(Material(request.getfixturevalue(which)[0]))
    assert [plate.name for plate in made] == expected
    for plate in made:
        assert plate.figure is not None, plate.caption
        assert len(plate.alt) > 40
        assert plate.caption.endswith(".")
        assert not re.search("magneti|φ", plate.caption + plate.alt + plate.title)


@pytest.mark.slow
def test_the_page_speaks_of_links(schwinger):
    run, verdict = schwinger
    text = write_report(run, verdict).read_text(encoding="utf-8")
    assert not re.search("agneti[sz]|⟨M⟩|No figure", re.sub('base64,[^"]*', "", text))
    for expected in ("P(|Q| = 1)", "opological", "figures/topological_charge_weights.pdf"):
        assert expected in text
    assert "quenched" in text
    assert "Signs are not counted here" not in text
    assert text.count("pulls [σ]") == 1  # with the quenched column in a table of their own


def test_the_theory_is_named(u1, schwinger):
    heading, formula = theory(u1[0].action)
    assert heading == "U(1) gauge theory on 4 × 8, β = 0.5"
    assert formula == "S = −β Σₓ cos P(x)"
    heading, formula = theory(schwinger[0].action)
    assert heading == "Schwinger model on 4 × 4, β = 0.5, κ = 0.2, 2 flavours, antiperiodic in time"
    assert formula.endswith("− 2 log |det D|")
    heading, formula = theory(Schwinger((4, 4), 2.0, 0.2, flavours=1, boundary="periodic"))
    assert heading.endswith("1 flavour, periodic in time")
    assert formula.endswith("− log |det D|")


def test_links_are_kept_on_request(tmp_path):
    run = sampled(tmp_path / "run", "u1", *U1, "sampling.save_fields=true", "training.steps=2")
    assert run.series("model")["field"].shape == (150, 16, 2, 4, 8)
    assert plate(run, "configurations")[0] is not None


def test_stages_that_are_missing_leave_a_sentence(schwinger, tmp_path):
    shutil.copytree(schwinger[0].path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    for name in ("last", "best", "model"):
        run.checkpoint(name).unlink()
    run.history_file.unlink()
    for group in ("model", "proposals"):
        shutil.rmtree(run.path / "samples.zarr" / group)
    made = {plate.name: plate for plate in plates(Material(run))}
    assert list(made) == OF_FERMIONS
    drawn = {name for name, plate in made.items() if plate.figure is not None}
    assert drawn == set(OF_FERMIONS) - {"training", "log_weights", "topological_charge_weights", "history"}
    assert "The model has not been sampled" in made["pion"].caption


def test_the_command_line_shows_the_third_opinion(schwinger):
    result = CliRunner().invoke(cli.app, ["validate", str(schwinger[0].path)])
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "NIS HMC + sector hops quenched exact" in words
    assert "note: The column “quenched”" in words
    assert "condensate" in words


@pytest.mark.slow
def test_the_command_line_reweights_to_other_angles(u1, one_flavour, tmp_path):
    run, _ = u1
    result = CliRunner().invoke(cli.app, ["theta", str(run.path), "--angles", "4"])
    assert result.exit_code == 0, result.output
    assert "Z(θ)/Z(0)" in result.stdout
    tree = json.loads((run.path / "theta.json").read_text(encoding="utf-8"))
    assert tree["angles"] == pytest.approx([math.pi * k / 4 for k in (1, 2, 3, 4)])
    assert [way["name"] for way in tree["ways"]] == ["model", "weights", "beside"]
    for way in tree["ways"]:
        for one, known in zip(way["at"], tree["exact"], strict=True):
            ratio = Measurement(**one["ratio"])
            assert abs(ratio.pull(known["theta_ratio"])) < 5
            assert one["drowned"] == (not one["numbers"])
            for name in one["numbers"].keys() & {"plaquette", "charge_squared"}:
                assert abs(Measurement(**one["numbers"][name]).pull(known[name])) < 5, (way, name)
    page = (run.path / "theta.md").read_text(encoding="utf-8")
    assert "## θ = 0.25 π" in page
    assert "| ⟨Q⟩/i |" in page
    # a sign is in the averages at θ = 0 already
    path = one_flavour[0].path
    assert CliRunner().invoke(cli.app, ["theta", str(path), "--angles", "1"]).exit_code == 0
    tree = json.loads((path / "theta.json").read_text(encoding="utf-8"))
    series = one_flavour[0].series("beside")
    even = series["sign"] * np.cos(math.pi * series["topological_charge"])
    (beside,) = (way["at"][0] for way in tree["ways"] if way["name"] == "beside")
    assert beside["ratio"]["value"] == pytest.approx(even.mean() / series["sign"].mean(), rel=1e-6)
    assert not tree["exact"]


def test_a_theory_without_a_charge_has_no_angle(tmp_path):
    run = Run.create(tmp_path / "run", load_config("phi4-quick", ["sampling.steps=20", "compute.threads=1"]))
    run.sample_beside()
    result = CliRunner().invoke(cli.app, ["theta", str(run.path)])
    assert result.exit_code == 2
    assert "expected a theory with a topological charge" in result.stderr
