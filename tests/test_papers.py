"""Experiments of the papers: each runs, keeps its parts, and writes the data of which a page is made."""

import ast
import dataclasses
import itertools
import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import latflow_papers
from latflow.analysis import Measurement
from latflow.cli import app
from latflow.config import load_config
from latflow.errors import CheckpointError, RunFolderError
from latflow.registry import load, names
from latflow_papers import publish, trivializing_study
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.documents import documents, page
from latflow_papers.results import RESULTS, Number, Results, Table, filled, number

pytestmark = pytest.mark.drawn

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "experiments.md").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class CountSettings:
    """How far a very short experiment counts."""

    last: int = 3


def counting(fail_at: int | None = None) -> tuple[Experiment[CountSettings], list[int]]:
    """An experiment of one part for each number, and the numbers whose parts it has computed."""
    computed: list[int] = []

    def part(i: int) -> dict:
        if i == fail_at:
            raise KeyboardInterrupt
        computed.append(i)
        return {"draws": torch.arange(i, dtype=torch.float64), "name": f"{i}"}

    def run(bench: Bench, settings: CountSettings) -> Findings:
        parts = [bench.part(f"part {i}", lambda i=i: part(i)) for i in range(settings.last)]
        rows = [[one["name"], number(one["draws"].sum(), ".2f"), Measurement(1.5, 0.25)] for one in parts]
        table = Table("sums", ["n", "Σ", "|M|"], rows)
        return Findings("Counted to $last.", [table], numbers={"last": settings.last})

    short = CountSettings()
    return Experiment(
        "counting", "Counting", "no paper", run, short, dataclasses.replace(short, last=2)
    ), computed


@pytest.mark.filterwarnings("ignore::latflow.errors.UnreliableErrorWarning")  # as short as they can be
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("trivializing", "topology", "schwinger-spectrum", "acceleration", "coverage", "crossing")
        else name
        for name in names("experiments")
    ],
)
def test_every_experiment_runs_and_fits_its_page(name, tmp_path):
    experiment, said = load("experiments", name), []
    assert experiment.name == name
    text = experiment.perform(tmp_path, quick=True, seed=3, say=said.append)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert experiment.title in page
    assert text.strip().partition("\n")[0] in page
    assert "| --- |" in page
    assert not re.search(r"\bnan\b", page)
    assert len(said) >= len(list((tmp_path / "parts").iterdir())) > 0
    results = Results.load(tmp_path / RESULTS)
    assert results.settings == json.loads(json.dumps(dataclasses.asdict(experiment.quick)))
    assert all((tmp_path / f"{figure}.pdf").exists() for figure in results.figures)
    assert results.figures
    # what the documentation asks of these results, results written today would have
    results.save(tmp_path / f"{name}.json")
    asked = [place for place in re.findall(r"\{\{.*?\}\}", PAGE) if place.startswith(f"{{{{ {name}.")]
    assert {place.split(".")[1].split()[0] for place in asked} >= {"text", "tables", "made"}
    assert "{{" not in filled("\n".join(asked), tmp_path)


def test_fewer_chains_pass_through_flows(tmp_path, monkeypatch):
    counts = []

    def counted(sampler, state, *_):
        counts.append(len(sampler.field(state)))
        return {}

    monkeypatch.setattr(trivializing_study, "measured", counted)
    settings = load("experiments", "trivializing-40").quick
    trivializing_study.Study(Bench(tmp_path, settings), settings).point(*settings.points[0])
    assert counts == [4, 2]


def test_an_experiment_goes_on_from_its_parts(tmp_path):
    stopped, computed = counting(fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        stopped.perform(tmp_path)
    assert computed == [0, 1]
    assert not (tmp_path / RESULTS).exists()
    experiment, computed = counting()
    first = experiment.perform(tmp_path)
    assert computed == [2]
    assert "| 2 | 1.00 | 1.50(25) |" in first
    assert experiment.perform(tmp_path) == first
    assert computed == [2]


def test_parts_of_other_settings_are_refused(tmp_path):
    experiment, _ = counting()
    experiment.perform(tmp_path, seed=1)
    for quick, seed in ((False, 2), (True, 1)):
        with pytest.raises(RunFolderError, match="other settings or of another seed"):
            experiment.perform(tmp_path, quick=quick, seed=seed)


def test_damage_is_told_with_its_remedy(tmp_path):
    experiment, computed = counting()
    experiment.perform(tmp_path)
    part = tmp_path / "parts" / "part 1.safetensors"
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"part 1.*remove it, and this part is computed anew"):
        experiment.perform(tmp_path)
    part.unlink()
    experiment.perform(tmp_path)
    assert computed == [0, 1, 2, 1]
    (tmp_path / RESULTS).write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="do the experiment again"):
        Results.load(tmp_path / RESULTS)
    (tmp_path / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"settings\.json is damaged"):
        experiment.perform(tmp_path)


def test_generators_differ_by_purpose_and_seed(tmp_path):
    benches = [Bench(tmp_path / str(seed), CountSettings(), seed) for seed in (1, 2)]
    seeds = {bench.generator(purpose).initial_seed() for bench in benches for purpose in ("x", "y")}
    assert len(seeds) == 4


def test_results_survive_their_file(tmp_path):
    rows = [
        ["HMC", 9, number(2.4, "#.3g"), Measurement(22.18, 0.29)],
        ["a|b", 0, Number(218.0, "> 218(35)", 35.0), number(float("inf"), ".1f")],
    ]
    table = Table("costs", ["kind", "forces", "⟨|M|⟩", "τ"], rows, caption="Costs:")
    assert str(table).splitlines() == [
        "Costs:",
        "",
        r"| kind | forces | ⟨\|M\|⟩ | τ |",
        "| --- | --- | --- | --- |",
        "| HMC | 9 | 2.40 | 22.18(29) |",
        r"| a\|b | 0 | > 218(35) | inf |",
    ]
    settings = {"sides": [8, 16], "points": [[8, 0.5]]}
    results = Results(
        "x",
        "X",
        "Y",
        settings,
        1,
        False,
        {"date": "today"},
        "At $beta.",
        {"beta": Measurement(1.0, 0.1)},
        [table],
    )
    path = tmp_path / "x.json"
    results.save(path)
    again = Results.load(path)
    assert again.page() == results.page()
    assert again.prose == "At 1.00(10)."
    bound = again.tables[0].rows[1][2]
    assert isinstance(bound, Number)
    assert (bound.value, bound.error) == (218.0, 35.0)
    asked = "{{ x.text }} {{ x.settings.sides }} {{ x.numbers.beta }} {{ x.made }}"
    assert filled(asked, tmp_path) == "At 1.00(10). [8, 16] 1.00(10) date: today."
    assert filled("{{ x.tables.costs }}", tmp_path) == filled("{{ x.tables }}", tmp_path) == str(table)
    for place in ("{{ x.nothing }}", "{{ x.tables.other }}", "{{ y.text }}"):
        with pytest.raises(CheckpointError, match="expected"):
            filled(place, tmp_path)
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table("t", ["a", "b"], [["1"]])


def test_the_documentation_types_no_numbers():
    """Its digits are those of names, papers and kinds of field."""
    shown = set(re.findall(r"\{\{ *([a-z0-9-]+)\.", PAGE))
    assert shown == set(names("experiments")) == {path.stem for path in DOCS.glob("experiments/*.json")}
    page = filled(PAGE, DOCS / "experiments")
    assert "{{" not in page
    for name in shown:
        results = Results.load(DOCS / "experiments" / f"{name}.json")
        assert (results.experiment, results.quick) == (name, False)
        assert results.tables
        assert all(str(table) in page for table in results.tables)
        assert results.prose in page
    assert not re.search(r"^\|", PAGE, re.MULTILINE)
    typed = re.sub(r"\{\{.*?\}\}|`[^`]*`|\(.*?\)|\[.*?\]|arXiv:[\d.]+|equation \d+|U\(1\)", "", PAGE)
    assert re.findall(r"\d", typed) == []


def test_every_command_of_the_documents_can_be_typed():
    """Experiments and presets are there, options too, and no table or figure of a document is there twice."""
    for document in documents():
        assert len({part.name for part in document.parts}) == len(document.parts) > 1
        for command in filter(None, (part.command for part in document.parts)):
            program, verb, name, *options = shlex.split(command)
            assert program == "latflow"
            if verb == "reproduce":
                assert (name in names("experiments"), options) == (True, [])
                continue
            changes = [value for key, value in itertools.pairwise(options) if key == "-o"]
            config = load_config(name, changes)
            assert verb == "run" or config.model is not None
    listed = CliRunner().invoke(app, ["reproduce", "--list"])
    assert listed.exit_code == 0
    written = re.sub(r"\s+", " ", listed.stdout)
    for part in (part for one in documents() for part in one.parts):
        assert f"{part.name}: {part.what}" in written
        assert part.command in written
        assert f"| {part.name} | {part.what} |" in page()
    both = CliRunner().invoke(app, ["reproduce", names("experiments")[0], "--list"])
    assert both.exit_code == 2
    assert "expected an experiment or --list, got" in both.stderr


def test_results_are_published(tmp_path):
    experiment, _ = counting()
    experiment.perform(tmp_path / "quick", quick=True)
    experiment.perform(tmp_path / "done")
    docs = tmp_path / "docs"
    with pytest.raises(RunFolderError, match="expected a folder of documentation"):
        publish.publish(tmp_path / "done", docs)
    (docs / "experiments").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="quick settings"):
        publish.publish(tmp_path / "quick", docs)
    with pytest.raises(CheckpointError, match="is it finished"):
        publish.publish(tmp_path, docs)
    assert publish.publish(tmp_path / "done", docs) == [docs / "experiments" / "counting.json"]
    assert filled("{{ counting.text }}", docs / "experiments") == "Counted to 3."


def _public(module: str, name: str) -> bool:
    """Whether it is in `__all__`, in the `__dir__` of what loads lazily, or in a module that has neither."""
    found = import_module(module)
    offered = set(getattr(found, "__all__", ())) | (set(dir(found)) if "__dir__" in vars(found) else set())
    return name in (offered or {one for one in vars(found) if not one.startswith("_")})


PACKAGES = ("latflow.densities.flows", "latflow.densities.autoregressive")
"""The public packages that are not directly under latflow."""


@pytest.mark.parametrize("path", sorted(Path(latflow_papers.__path__[0]).glob("*.py")), ids=lambda p: p.stem)
def test_experiments_use_public_names_alone(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("latflow.") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latflow":
            module = node.module or ""
            assert module.count(".") < 2 or module in PACKAGES, module
            assert not any(part.startswith("_") for part in module.split("."))
            for alias in node.names:
                assert _public(module, alias.name), f"{module}.{alias.name}"
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert isinstance(node.value, ast.Name), ast.unparse(node)
            assert node.value.id == "self", ast.unparse(node)


def test_the_variances_of_the_toy_model_are_the_exact_ones(tmp_path):
    """Mean square deviations of sample variances, in units of their spread: 1 each, within five sigma."""
    experiment = load("experiments", "toy")
    settings = dataclasses.replace(experiment.settings, steps=200, every=50, batches=300)
    rows = experiment.run(Bench(tmp_path, settings), settings).tables[0].rows
    assert [row[0] for row in rows] == ["score", "reinforce", "reparametrization", "path_gradient"]
    for _, theta, largest, _ in rows:
        assert largest.value < 5
        assert 0.5 < theta.value < 1.6
    assert np.mean([row[3].value for row in rows]) < 1 + 5 * np.sqrt(2 / 16)


def test_the_command_lists_and_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(app, ["reproduce"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in names("experiments"))
    refused = CliRunner().invoke(app, ["reproduce", "nothing"])
    assert refused.exit_code == 2
    assert "experiment out of acceleration" in refused.output
    done = CliRunner().invoke(app, ["reproduce", "phi4-variance", "--quick"])
    assert done.exit_code == 0
    assert (tmp_path / "reproduced" / "phi4-variance-quick" / "variance.pdf").exists()
