"""What people write into configurations and files: told in one line, or taken."""

import pytest
import torch
from typer.testing import CliRunner

import latflow as lf
from latflow import cli
from latflow.config import load_config
from latflow.config.checking import built_action
from latflow.densities.files import load_density
from latflow.densities.flows import load_flow, spline_flow
from latflow.errors import CheckpointError, ConfigError
from latflow.runs import Run
from latflow.validation.known import known
from small_runs import SMALL

BODY = '[action]\ntype = "u1"\nlattice = [4, 4]\nbeta = 1.0\n[model]\ntype = "gauge"\nlayers = 1\n'
PRESETS_OF_A_THEORY = {"phi4-quick": "action.lam=4.0", "phi4-8x8": "action.lattice=[4, 4]"}


def latflow(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


# references and descriptions belong to an action


@pytest.mark.parametrize(("preset", "change"), PRESETS_OF_A_THEORY.items())
def test_a_reference_belongs_to_its_action(preset, change, caplog):
    assert "log_z" in load_config(preset).reference
    assert caplog.messages == []
    changed = load_config(preset, [change])
    assert (changed.reference, changed.description) == ({}, "")
    assert "the reference numbers of the file are of another action: they are left out" in caplog.messages
    assert "log_z" not in known(built_action(changed.action), changed.reference)


def test_a_reference_that_comes_with_the_action_stays():
    given = load_config("phi4-quick", ["action.lam=4.0", "reference.log_z='3.1(1)'", "description=mine"])
    assert (given.reference, given.description) == ({"log_z": "3.1(1)"}, "mine")
    same = load_config("phi4-quick", ["action.lam=8.0", "model.layers=2"])
    assert same.reference == load_config("phi4-quick").reference


def test_a_verdict_is_headed_by_the_theory_that_it_is_of(tmp_path):
    changes = [part for change in (*SMALL, "action.lam=4.0") for part in ("-o", change)]
    assert latflow("sample", "phi4-quick", *changes, "--out", tmp_path / "run").exit_code == 0
    printed = latflow("validate", tmp_path / "run").stdout
    assert "φ⁴ theory on 4 × 4, m² = −4, λ = 4" in " ".join(printed.split())


# names and files


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my run (1).toml", "my-run-1"),
        ("φ⁴.toml", "φ"),
        ("(.toml", "run"),
        ("-a.toml", "a"),
    ],
)
def test_a_file_may_have_any_name(tmp_path, file, name):
    source = tmp_path / file
    source.write_text(BODY)
    assert load_config(source).name == name


def test_a_byte_order_mark_is_no_letter(tmp_path):
    source = tmp_path / "a.toml"
    source.write_text(BODY, encoding="utf-8-sig")
    assert load_config(source).name == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "phi4-quik"), "did you mean phi4-quick?"),
        (("validate", "nothere"), "expected a preset, a TOML file or the folder of a run, got 'nothere'"),
        (("reproduce", "phi4-varance"), "did you mean phi4-variance?"),
        (("train", "phi4-quick", "-o", "action.type=phi"), "expected one of"),
    ],
)
def test_what_is_not_there_is_told(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = latflow(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = " + "1" * 100_000, "is no TOML"),
        ("seed = 99999999999999999999", "seed: expected less than"),
        ("a = " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("a = " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("x = 1\n" * 400_000, "expected a configuration of at most 1000000 bytes"),
        ("\n".join(f"k{i} = 1" for i in range(50_000)), "unknown key"),
        ('description = "\\u001b[31mred"', "description: expected one line without control characters"),
        ('description = "' + "x" * 5000 + '"', "description: "),
        ('name = "a/b"', "name: expected a name of letters"),
        ("\x00", "is no TOML"),
        ("[reference]\nlog_z = '1(1)e9999999'", "reference"),
        ("[training]\noptimizer_options = { betas = [1.5, 2.0] }", "training.optimizer: "),
    ],
)
def test_a_configuration_that_is_none(tmp_path, text, message):
    source = tmp_path / "a.toml"
    source.write_text(f"{text}\n{BODY}" if not text.startswith("[") else f"{BODY}{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) < 30


def test_markup_in_a_description_is_text(tmp_path):
    changes = [part for change in (*SMALL, "description=[/x] [red]hi") for part in ("-o", change)]
    assert latflow("sample", "phi4-quick", *changes, "--out", tmp_path / "run").exit_code == 0
    result = latflow("validate", tmp_path / "run")
    assert result.exit_code in (0, 1, 3), result.output
    assert "[/x] [red]hi" in result.stdout


# files say what they hold


def test_a_file_that_holds_no_density_says_what_it_holds(tmp_path):
    run = Run.create(tmp_path / "run", load_config("phi4-quick", SMALL))
    run.train()
    run.sample_beside()
    assert load_flow(run.checkpoint("best")).lattice == (4, 4)
    for load in (load_flow, load_density):
        with pytest.raises(CheckpointError, match="holds a Markov chain, and no model"):
            load(run.checkpoint("beside"))
        with pytest.raises(CheckpointError, match="no such file; there are beside, best"):
            load(tmp_path / "run/checkpoints/flow.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of latflow"):
        load_density(run.path / "config.toml")


# what a constructor takes


@pytest.mark.parametrize(
    ("preset", "change"),
    [
        ("phi4-quick", "model.layers=9223372036854775808"),
        ("phi4-quick", "model.layers=100000000"),
        ("phi4-quick", "model.hidden=[1000000000]"),
        ("phi4-quick", "action.lattice=[1000000, 1000000]"),
        ("phi4-quick", "training.batch=100000000000"),
        ("phi4-quick", "sampling.chains=100000000000"),
        ("u1", "model.bins=10000000000"),
        ("u1", "model.prior_beta=1e30"),
        ("u1", "model.prior_beta=nan"),
        ("u1", "action.beta=inf"),
        ("phi4-quick", "training.steps=99999999999999999999"),
        ("phi4-quick", "training.learning_rate=inf"),
    ],
)
def test_bounds_come_before_memory_and_time(preset, change):
    with pytest.raises(ConfigError):
        load_config(preset, [change])


@pytest.mark.parametrize("change", ["sampling.steps=1", "beside.steps=3"])
def test_too_few_steps_for_an_error_are_told_before_anything_is_computed(change):
    with pytest.raises(
        ConfigError, match=rf"{change.partition('=')[0]}: expected greater than or equal to 6"
    ):
        load_config("phi4-quick", [change])


@pytest.mark.parametrize("hidden", [(16,), (4, 4), (4, 4, 4)])
def test_the_default_kernels_fit_any_network(hidden):
    flow = spline_flow((6, 4), layers=2, hidden=hidden, generator=torch.Generator().manual_seed(1))
    x, log_q = flow.sample(3, torch.Generator().manual_seed(2))
    torch.testing.assert_close(flow.log_prob(x), log_q)


def test_names_are_imported_as_they_are_read():
    """What is written lf.actions.Phi4 is there as latflow.actions, one and the same."""
    from latflow.actions import Phi4
    from latflow.autoregressive import dense_spins
    from latflow.flows import affine_flow

    assert (lf.actions.Phi4, lf.flows.affine_flow, lf.autoregressive.dense_spins) == (
        Phi4,
        affine_flow,
        dense_spins,
    )
