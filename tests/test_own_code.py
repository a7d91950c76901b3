"""Code of one's own in a run: theories, models and samplers from files and modules, and their errors."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

import latflow as lf
from latflow import cli
from latflow.config import load_config
from latflow.errors import ConfigError, RunFolderError
from latflow.registry import load
from latflow.runs import Run

QUARTIC = """
from dataclasses import dataclass
import latflow as lf
from latflow.types import Lattice, Positive

@dataclass(frozen=True)
class Quartic(lf.actions.Action):
    lattice: Lattice
    g: Positive = 1.0
    kind = lf.fields.SCALAR

    def __call__(self, x):
        return (x**2 + self.g * x**4).flatten(1).sum(1)
"""

TOML = """
[action]
type = "mine.py:Quartic"
lattice = [2, 4]
[model]
type = "affine"
layers = 2
hidden = [2]
[training]
steps = 4
batch = 16
[sampling]
steps = 30
chains = 4
thermalisation = 5
block = 20
[beside]
steps = 30
chains = 4
thermalisation = 5
block = 20
"""


@pytest.fixture
def mine(tmp_path):
    """A folder with a theory and its configuration."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(QUARTIC))
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def refused(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_theory_in_a_file_runs_and_goes_on(mine, tmp_path):
    out = tmp_path / "run"
    result = CliRunner().invoke(cli.app, ["run", str(mine), "--out", str(out)])
    assert result.exit_code in (0, 1, 3), result.output
    assert (out / "report.html").is_file()
    assert (out / "code" / "mine.py").read_text() == (tmp_path / "mine.py").read_text()
    run = Run.open(out)
    assert type(run.action).__name__ == "Quartic"
    assert {"action", "magnetization"} <= run.series("beside").keys()
    # in a process that has not read the configuration, and from another folder
    code = (
        f"from latflow.runs import Run; run = Run.open({str(out)!r}); "
        "print(run.action, len(run.series('model')['action']))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd="/")
    assert told.stdout.strip() == "Quartic(lattice=(2, 4), g=1.0) 30"


def test_code_that_changed_since_is_not_gone_on_with(mine, tmp_path):
    run = Run.create(tmp_path / "run", load_config(mine))
    run.train()
    file = tmp_path / "mine.py"
    file.write_text(file.read_text() + "\n# another thought\n")
    with pytest.raises(RunFolderError, match=r"mine\.py, which .* is made with, has changed since"):
        Run.open(run.path).sample()
    file.unlink()
    with pytest.raises((RunFolderError, ConfigError), match=r"mine\.py"):
        Run.open(run.path).sample()
    file.write_text((run.path / "code" / "mine.py").read_text())
    Run.open(run.path).sample()


def test_keys_of_a_foreign_theory_are_checked(mine):
    assert "action.h: unknown key; expected one of lattice, g" in refused(mine, "action.h=1.0")
    assert "action.g: expected greater than 0, got -1.0" in refused(mine, "action.g=-1.0")
    assert "action.lattice: expected a list" in refused(mine, "action.lattice=4")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:Quartic", "expected a Python file at "),
        ("mine.py:Sextic", "expected a theory 'Sextic' in "),
        ("no_such_module:Quartic", "expected a module 'no_such_module' for a theory, found none"),
        ("mine.py:lf", "action.type: expected a class or a function, got <module"),
        ("collections:Counter", "action.lattice: unknown key; expected one of iterable"),
    ],
)
def test_what_is_not_there_is_named(mine, name, message):
    assert message in refused(mine, f"action.type='{name}'")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Quartic(lf.actions.Action):\n    lattice = (4,)", "a `kind` of field"),
        (
            "class Quartic(lf.actions.Action):\n    kind = lf.fields.SCALAR",
            "action: Quartic: expected a lattice",
        ),
        (
            "class Quartic:\n    lattice = (4,)",
            "expected a theory, a subclass of latflow.actions.Action, got Quartic",
        ),
        (
            "class Quartic(lf.actions.Action):\n"
            "    def __init__(self):\n        raise ValueError('not today')",
            "action: not today (mine.py, line 4)",
        ),
    ],
)
def test_what_a_theory_lacks_is_named(mine, code, message):
    (mine.parent / "mine.py").write_text(
        f"import latflow as lf\n{code}\n    def __call__(self, x): return x\n"
    )
    mine.write_text(TOML.replace("lattice = [2, 4]\n", ""))
    assert message in refused(mine)


def test_a_theory_without_its_method_is_told(mine):
    (mine.parent / "mine.py").write_text(
        "import latflow as lf\nclass Quartic(lf.actions.Action):\n    pass\n"
    )
    mine.write_text(TOML.replace("lattice = [2, 4]\n", ""))
    assert "action: Can't instantiate abstract class Quartic" in refused(mine)


def test_an_error_in_foreign_code_is_told_with_its_line(mine, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("self.g * x**4", "self.gg * x**4"))
    result = CliRunner().invoke(cli.app, ["train", str(mine), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "self.gg" in text)
    assert f"mine.py, line {line}, in __call__: AttributeError" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_syntax_error_in_foreign_code_is_told(mine, tmp_path):
    (tmp_path / "mine.py").write_text("import latflow\nclass Quartic(:\n    pass\n")
    result = CliRunner().invoke(cli.app, ["train", str(mine), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert "mine.py, line 2" in result.stderr
    assert "Traceback" not in result.stderr


def test_modules_and_files_name_one_class_each(tmp_path, mine):
    name = f"{tmp_path / 'mine.py'}:Quartic"
    assert load("theories", name) is load("theories", name)
    assert load("theories", "latflow.theories.phi4:Phi4") is load("theories", "phi4")


def test_a_sampler_and_a_model_of_ones_own(mine, tmp_path):
    (tmp_path / "parts.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            from latflow.samplers import HMC
            from latflow.types import Positive

            class Site(nn.Module):
                def __init__(self, lattice, width: Positive = 0.5):
                    super().__init__()
                    self.lattice = tuple(lattice)
                    self.log_width = nn.Parameter(torch.tensor(float(width)).log())

                def sample(self, n, generator):
                    noise = torch.randn(n, *self.lattice, generator=generator, dtype=self.log_width.dtype)
                    x = noise * self.log_width.exp()
                    return x, self.log_prob(x)

                def log_prob(self, x):
                    width = self.log_width.exp()
                    normal = torch.distributions.Normal(torch.zeros_like(width), width)
                    return normal.log_prob(x).flatten(1).sum(1)

            def short(action, step: Positive = 0.1):
                return HMC(action, step, 3)
            """
        )
    )
    changes = [
        "model={type='parts.py:Site', width=0.4}", "beside.kernels=mine", "beside.mine.type='parts.py:short'",
        "beside.mine.step=0.2",
        "sampling.kernels=['proposals', 'mine']", "sampling.mine.type='parts.py:short'",
        "training.estimator=reinforce",
    ]  # fmt: skip
    run = Run.create(tmp_path / "run", load_config(mine, changes))
    run.train()
    run.sample()
    run.sample_beside()
    assert {"accepted_proposals", "accepted_mine"} <= run.series("model").keys()
    assert sorted(file.name for file in (run.path / "code").iterdir()) == ["mine.py", "parts.py"]
    told = "beside.mine.stepp: unknown key; did you mean step?"
    assert told in refused(mine, *changes, "beside.mine.stepp=1")


@pytest.mark.slow
def test_the_example_has_a_run(tmp_path):
    example = Path(__file__).parents[1] / "examples" / "phi6.toml"
    short = [
        "training.steps=60",
        "sampling.steps=200",
        "beside.steps=200",
        "beside.chains=16",
        "sampling.chains=16",
    ]
    options = [part for change in short for part in ("-o", change)]
    result = CliRunner().invoke(cli.app, ["run", str(example), *options, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "φ⁶ theory on 6 × 6" in page


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("(x**2 + self.g * x**4).sum()", "expected the action as a tensor with an entry for each"),
        ("float('nan') * (x**2).flatten(1).sum(1)", "expected the action to be finite where chains start"),
        ("(x**2).flatten(2).sum(2)", "expected one number for each configuration, got shape (3, 2)"),
        ("(x**2).flatten(1).sum(1) / 0 * x.nowhere", "mine.py, line"),
    ],
)
def test_a_theory_is_tried_before_there_is_a_folder(mine, tmp_path, code, message):
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().replace("(x**2 + self.g * x**4).flatten(1).sum(1)", code))
    result = CliRunner().invoke(cli.app, ["run", str(mine), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_observable_is_tried_before_there_is_a_folder(mine, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        file.read_text()
        + "\n    def own_observables(self):\n"
        + "        return (lf.observables.Observable('fourth', 'fourth', lambda x: (x**4).mean()),)\n"
    )
    result = CliRunner().invoke(cli.app, ["run", str(mine), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert "the observable fourth as a tensor with an entry for each configuration" in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_samplers_beside_are_a_tuple(mine, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(file.read_text() + "\n    established = 'hmc'\n")
    assert "expected `established` of the theory as a tuple, got 'hmc'" in refused(mine)


def test_names_that_a_section_has_already_are_told(mine, tmp_path):
    (tmp_path / "parts.py").write_text(
        "from latflow.samplers import HMC\n"
        "def again(action, *, repeat: int = 3):\n    return HMC(action, 0.1, repeat)\n"
        "def typed(action, *, type: str = 'a'):\n    return HMC(action, 0.1, 3)\n"
    )
    for changes, message in (
        (["sampling.kernels=['mine']", "sampling.mine.type='parts.py:again'"], "has an argument 'repeat'"),
        (["beside.hmc.type='parts.py:typed'"], "beside.hmc: .*typed has an argument 'type'"),
        (["beside.kernels=proposals"], "(?s)beside.proposals: .*NoneType|density.*None"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(mine, changes)


def test_names_for_a_type_checker_alone_lose_no_key(mine, tmp_path):
    (tmp_path / "parts.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "import torch\n"
        "from latflow.samplers import HMC\n"
        "if TYPE_CHECKING:\n    from latflow.theories import Action\n"
        "def short(action: Action, *, n: int = 3, activation=torch.tanh):\n    return HMC(action, 0.1, n)\n"
    )
    config = load_config(mine, ["beside.hmc.type='parts.py:short'", "beside.hmc.n=5"])
    (kernel,) = config.beside.kernels.values()
    assert kernel.arguments.model_dump() == {"n": 5}
    told = "beside.hmc.n: expected a valid integer"
    assert told in refused(mine, "beside.hmc.type='parts.py:short'", "beside.hmc.n=x")


def test_a_description_may_speak_of_files(mine, tmp_path):
    run = Run.create(tmp_path / "run", load_config(mine, ["description='see phi6.py: mine'"]))
    assert sorted(file.name for file in (run.path / "code").iterdir()) == ["mine.py"]


def test_files_of_one_name_keep_both_copies(mine, tmp_path):
    kernel = "from latflow.samplers import HMC\ndef short(action):\n    return HMC(action, {}, 3)\n"
    for folder, step in (("x", 0.1), ("y", 0.2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(kernel.format(step))
    changes = [
        "sampling.kernels=['a', 'b']",
        "sampling.a.type='x/own.py:short'",
        "sampling.b.type='y/own.py:short'",
    ]
    run = Run.create(tmp_path / "run", load_config(mine, changes))
    copies = {file.read_text() for file in (run.path / "code").iterdir()}
    assert {kernel.format(0.1), kernel.format(0.2)} <= copies


def test_objects_made_in_python_are_told_apart():
    from latflow.runs.run import described

    class Mine:
        def __init__(self, numbers):
            self.numbers = numbers

    assert described(Mine([1.0, 0.0])) == described(Mine([1.0, 0.0]))
    assert described(Mine([1.0, 0.0])) != described(Mine([5.0, 3.0]))
    flows = [lf.flows.affine_flow((4, 4), layers=1, hidden=(2,), dilation=d) for d in (1, 2, 1)]
    assert described(flows[0]) == described(flows[2].eval()) != described(flows[1])
    ising = lf.actions.Ising((4, 4), 0.3)
    before = described(ising)
    ising.known()  # what it keeps of that does not change what it is
    assert described(ising) == before != described(lf.actions.Ising((4, 4), 0.31))
