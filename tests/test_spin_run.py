"""Runs of spins, from the configuration to the report."""

import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from latflow import cli, exact
from latflow.config import load_config
from latflow.densities import build_density, load_density, save_density
from latflow.densities.autoregressive import SpinNetwork
from latflow.errors import CheckpointError, ConfigError
from latflow.registry import names
from latflow.report.circumstances import theory
from latflow.report.material import Material
from latflow.report.plates import plates
from latflow.runs import Run
from latflow.samplers import SingleSpin
from latflow.storage import load_tree, save_tree
from latflow.theories import Ising
from latflow.validation import validate
from latflow.validation.words import chain_words
from small_runs import assert_same, misled, outcome
from small_spin_runs import SMALL_SPINS, new_spin_run, sampled_spins

OF_SPINS = [
    "training", "log_weights", "history", "magnetization", "autocorrelation", "two_point", "configurations",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never stopped, its training annealed; tests read it only."""
    anneal = ("training.anneal.start=0.25", "training.anneal.steps=20")
    run = sampled_spins(tmp_path_factory.mktemp("spins") / "run", *anneal)
    return run, validate(run)


def test_a_run_of_spins_agrees_with_the_sum_over_all_configurations(finished, tmp_path):
    run, verdict = finished
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    for name in ("energy", "action_density", "specific_heat", "abs_magnetization", "binder_cumulant"):
        assert {("model", "exact"), ("weights", "exact"), ("beside", "exact"), ("model", "beside")} <= rows[
            name
        ].pulls.keys()
    for name in ("log_z", "entropy", "free_energy_density"):
        assert rows[name].pulls.keys() == {("weights", "exact")}
    assert rows["entropy"].values["exact"].value == pytest.approx(exact.ising_entropy((4, 4), 0.4))
    assert verdict.diagnostics["ess"] > 0.5
    assert 0.1 < verdict.diagnostics["beside_acceptance"] < 0.9
    names = [check.name for check in verdict.checks]
    for expected in (
        "each site depends on earlier ones alone", "probabilities add up to 1", "z2 symmetry of the density",
        "signs of M balance in the Wolff chain", "phases of the model's chain, by symmetry",
        "phases of the Wolff chain, by symmetry",
    ):  # fmt: skip
        assert expected in names
    # the verdict is no formality: another K has another energy
    hotter = load_config("ising-8x8", [*SMALL_SPINS, "action.beta=0.37"])
    wrong = validate(misled(run, tmp_path / "run", hotter))
    assert not wrong.passed
    assert not next(row for row in wrong.rows if row.name == "energy").passed


def test_a_network_that_lost_a_phase_fails(tmp_path):
    """β = 0.8, where few configurations lie between the phases, and a network that knows M > 0 alone."""
    run = new_spin_run(
        tmp_path / "run", "action.beta=0.8", "model.z2=false", "model.hidden=[]", "training.steps=1"
    )
    run.train()
    for name in ("best", "last"):
        network = run.model(name)
        boundary = network.levels[0].conditional
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            boundary.direct.bias.fill_(4.0)
            for level in network.levels[1:]:
                for key, parameter in level.named_parameters():
                    parameter.fill_(0.8 if key.endswith(("direct.weight", "coupling")) else 0.0)
        save_tree(run.checkpoint(name), load_tree(run.checkpoint(name)) | {"weights": network.state_dict()})
    run.sample()
    run.sample_beside()
    verdict = validate(run)
    assert not verdict.passed
    failed = {check.name: check.detail for check in verdict.checks if not check.passed}
    assert "never visited" in failed["phases of the model's chain, by symmetry"]
    assert any(name.startswith("signs of M balance in the model's") for name in failed)
    assert "phases of the Wolff chain, by symmetry" not in failed
    rows = {row.name: row for row in verdict.rows}
    # half of Z is missing, and the weights cannot know it: the exact result does
    assert rows["log_z"].values["weights"].value - rows["log_z"].values["exact"].value == pytest.approx(
        -np.log(2), abs=0.05
    )
    # no difference of weights with so heavy a tail fails a run, however large, and none passes
    assert rows["log_z"].pulls["weights", "exact"] < -5
    assert any("log Z, NIS − exact: -" in doubt for doubt in verdict.doubts)


@pytest.mark.parametrize("algorithm", ["swendsen_wang", "heat_bath", "metropolis"])
def test_every_algorithm_runs_beside_a_network(finished, tmp_path, algorithm):
    run = new_spin_run(tmp_path / "run", f"beside.kernels={algorithm}", "action.beta=0.3")
    run.sample_beside()
    series = run.series("beside")
    assert set(series) == {"action", "magnetization", "energy", "two_point", "lowest_mode", "accepted"}
    assert {values.shape[:2] for values in series.values()} == {(205, 16)}
    mean = series["energy"].mean(1)
    # 16 independent chains: five sigma of their spread
    spread = series["energy"].mean(0).std(ddof=1) / 4
    assert abs(mean.mean() - exact.ising_energy((4, 4), 0.3)) < 5 * spread
    assert chain_words(run)["beside"].heading in {"Swendsen–Wang", "heat bath", "local Metropolis"}


def test_the_chain_beside_is_the_sampler_of_its_name(tmp_path):
    run = new_spin_run(tmp_path / "run", "beside.kernels=metropolis")
    assert run.samplers("beside") == {"metropolis": SingleSpin(run.action, "metropolis")}


def test_stages_go_on_bit_for_bit(finished, tmp_path):
    """Stopped by a signal in the ramp, after it, and between blocks of either chain."""

    class Killed(BaseException):
        pass

    def after(number):
        def call(_):
            call.left -= 1
            if call.left == 0:
                raise Killed

        call.left = number
        return call

    run = Run.create(tmp_path / "run", finished[0].config)
    for steps in (18, 30):  # checkpoints at 17 and 34: the first one lies in the ramp
        with pytest.raises(Killed):
            run.train(on_record=after(steps))
        run = Run.open(run.path)
    run.train()
    for stage in ("sample", "sample_beside"):
        with pytest.raises(Killed):
            getattr(run, stage)(on_block=after(3))
        run = Run.open(run.path)
        getattr(run, stage)()
    assert_same(outcome(run.path), outcome(finished[0].path))


def test_the_best_weights_come_after_the_ramp(tmp_path):
    """Nearly untrained, q ∝ Π exp(0.3 …) makes F_q(f) = ⟨log q⟩ + f ⟨S⟩ rise with the factor f for K < 0."""
    run = new_spin_run(
        tmp_path / "run", "training.anneal.start=0.0", "training.anneal.steps=40", "training.steps=50",
        "training.checkpoint_every=10", "training.learning_rate=1e-9", "action.beta=-0.4",
        "model.coupling=0.3",
    )  # fmt: skip
    run.train()
    history = run.history()
    f_q = np.array([record["f_q"] for record in history])
    assert f_q[:10].mean() < f_q[40:].mean() - 1
    best = load_tree(run.checkpoint("best"))
    assert best["step"] == 50
    assert best["f_q"] == pytest.approx(np.mean([record["f_q"] for record in history[40:]]))


def test_a_run_holds_a_network(finished):
    run, _ = finished
    network = run.model()
    assert isinstance(network, SpinNetwork)
    alone = load_density(run.checkpoint("best"))
    assert isinstance(alone, SpinNetwork)
    x, _ = network.sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(alone.log_prob(x), network.log_prob(x))


def test_every_density_has_its_file(tmp_path):
    for name in names("densities"):
        try:
            density = build_density({"type": name}, lattice=(4, 8))
        except (TypeError, ValueError):  # one that must be told more
            continue
        save_density(density, tmp_path / name)
        again = load_density(tmp_path / name)
        assert type(again) is type(density)
        assert again.recipe == density.recipe == json.loads(json.dumps(density.recipe))
    with pytest.raises(
        ConfigError, match=r"expected a density out of affine, .*, hierarchical, .* got 'glow'"
    ):
        build_density({"type": "glow"})
    contents = (tmp_path / "dense").read_bytes()
    (tmp_path / "cut").write_bytes(contents[:-4])
    with pytest.raises(CheckpointError, match="cut"):
        load_density(tmp_path / "cut")


@pytest.fixture(scope="module")
def drawn(finished):
    return plates(Material(finished[0]))


def test_every_plate_is_drawn(drawn):
    made = drawn
    assert [plate.name for plate in made] == OF_SPINS
    for plate in made:
        assert plate.figure is not None, plate.caption
        assert len(plate.alt) > 40
        assert plate.caption.endswith(".")
        assert not re.search("flow|HMC|φ|traject", plate.caption + plate.alt + plate.title)
    by_name = {plate.name: plate for plate in made}
    assert "first 20 steps (shaded) the action was weaker" in by_name["training"].caption
    assert "16 of 16" in by_name["magnetization"].caption
    assert "one cluster turned over" in by_name["autocorrelation"].caption
    labels = [text.get_text() for text in by_name["magnetization"].figure.legends[0].get_texts()]
    assert labels[-1] == "exact"
    shown = by_name["configurations"].figure.axes[0].images[0].get_array()
    assert set(np.unique(shown)) <= {-1.0, 1.0}


def test_the_histogram_of_m_has_the_exact_probabilities(drawn):
    """The bins hold equally many values of M, so that a bin's density is its probability over its width."""
    made = {plate.name: plate for plate in drawn}
    (line,) = [one for one in made["magnetization"].figure.axes[0].lines if one.get_label() == "exact"]
    centre, density = (np.asarray(values) for values in line.get_data())
    values, probabilities = exact.ising_magnetization((4, 4), 0.4)
    width = centre[1] - centre[0]
    assert np.sum(density) * width == pytest.approx(1)
    for c, d in zip(centre, density, strict=True):
        assert d * width == pytest.approx(probabilities[abs(values - c) < width / 2].sum())


def test_the_theory_is_named():
    heading, formula = theory(Ising((8, 8), 0.44068679))
    assert heading == "Ising model on 8 × 8, β = 0.44068679"
    assert formula == "S = −β Σₓ Σ_μ s(x)s(x+μ)"
    heading, formula = theory(Ising((2, 2), 0.5, field=-0.1, couplings=np.ones((2, 2, 2))))
    assert heading == "Ising model on 2 × 2, β = 0.5, h = −0.1"
    assert formula == "S = −β Σₓ Σ_μ J_μ(x)s(x)s(x+μ) − h Σₓ s(x)"


def test_a_spin_glass_in_a_field_is_known_on_a_small_lattice(tmp_path):
    rng = np.random.default_rng(4)
    couplings = rng.choice([-1.0, 1.0], (2, 2, 3)).tolist()
    run = sampled_spins(
        tmp_path / "run", f"action.couplings={couplings}", "action.field=0.2", "action.lattice=[2, 3]",
        "model.type=dense", "model.hidden=[2]", "model.z2=false",
    )  # fmt: skip
    verdict = validate(run)
    assert verdict.passed, verdict
    rows = {row.name: row for row in verdict.rows}
    expected = exact.spins_enumerated(run.action)
    assert rows["log_z"].values["exact"].value == pytest.approx(expected.log_z)
    assert rows["magnetization"].values["exact"].value == pytest.approx(expected.m)
    assert abs(expected.m) > 0.01
    assert "exact" not in rows["energy"].values  # of the bonds without their couplings
    assert not any("signs of M" in check.name or "by symmetry" in check.name for check in verdict.checks)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """A run by one command, and what was printed."""
    path = tmp_path_factory.mktemp("commanded") / "run"
    changes = [part for change in SMALL_SPINS for part in ("-o", change)]
    return path, CliRunner().invoke(cli.app, ["run", "ising-8x8", *changes, "--out", str(path)])


def test_the_command_line_runs_spins(commanded):
    path, result = commanded
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "model + Metropolis NIS Wolff exact" in words
    assert "phases of the Wolff chain, by symmetry" in words
    assert "model-exact" in words or "NIS-" in words
    assert "HMC" not in result.output
    assert any(line.startswith("Wolff  205/205  acceptance 0.") for line in result.stderr.splitlines())
    assert result.stdout.splitlines()[-1] == str(path / "report.html")


def test_the_page_speaks_of_spins(commanded):
    text = (commanded[0] / "report.html").read_text(encoding="utf-8")
    hidden = '<style>.*?</style>|base64,[^"]*|<pre>.*?</pre>|<pre .*?</pre>'
    shown = re.sub(hidden, "", text, flags=re.DOTALL)
    assert not re.search(r"HMC|φ|[^o]flow[^.]|No figure|trajector|links", shown.replace("latflow", ""))
    for expected in (
        "model + Metropolis", "Wolff", "model − Wolff", "specific heat", "Ising model on 4 × 4, β = 0.4",
        "entropy", "τ of |M|",
    ):  # fmt: skip
        assert expected in shown


def test_stages_that_are_missing_leave_a_sentence(tmp_path):
    run = new_spin_run(tmp_path / "run")
    made = {plate.name: plate for plate in plates(Material(run))}
    assert made["autocorrelation"].figure is None
    run.sample_beside()
    made = {plate.name: plate for plate in plates(Material(run))}
    assert "model has not been sampled" in made["two_point"].caption
