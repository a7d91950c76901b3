"""The report: figures that show what they must, tables that mark what is wrong, a page browsers like."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from latflow.actions import Action, HoppingPhi4, Phi4
from latflow.analysis import Measurement, autocorrelation, derive_vector, effective_masses, measure
from latflow.config import load_config
from latflow.exact import free_field_two_point
from latflow.report import (
    autocorrelation_function,
    chain_history,
    charge_distribution,
    charge_history,
    configurations,
    log_weight_histogram,
    magnetization_histogram,
    plaquette_angles_images,
    plaquette_histogram,
    rejection_runs,
    sector_weights,
    training_history,
    two_point_function,
    write_report,
)
from latflow.report.circumstances import theory, timing_table
from latflow.report.diagnostics import diagnostics_table
from latflow.report.material import Material
from latflow.report.plates import plates
from latflow.report.style import envelope, running_mean
from latflow.report.tables import banner, verdict_tables
from latflow.runs import Run
from latflow.storage import save_tree
from latflow.validation import validate
from small_gauge_runs import SCHWINGER, sampled

FIGURES = [
    "training", "log_weights", "history", "autocorrelation", "two_point", "magnetization", "configurations",
]  # fmt: skip
STEPS, CHAINS = 400, 3


class FakeFlow(torch.nn.Module):
    def __init__(self, lattice: tuple[int, ...]) -> None:
        super().__init__()
        self.lattice, self.unused = lattice, torch.nn.Parameter(torch.zeros(1))

    def sample(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(n, *self.lattice, generator=generator), torch.zeros(n)


class FakeRun:
    """A run in which every stage was made up."""

    def __init__(self, path: Path, action: Action, groups: tuple[str, ...] = (), trained: int = 0) -> None:
        self.path, self.action, self.groups, self.trained = path, action, groups, trained
        self.info = {
            "latflow": "9.9",
            "command": "latflow run <fake> & co",
            "seed": 5,
            "versions": {"x": "1"},
        }
        self.config = SimpleNamespace(
            name="fake", description="a <b>made up</b> run", reference={"log_z": "9.29135(1)"},
            training=SimpleNamespace(batch=8), sampling=SimpleNamespace(kernels=("proposals",)),
        )  # fmt: skip
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.toml").write_text('name = "fake"\n[training]\nclip = 0.125\n', encoding="utf-8")

    def history(self) -> list[dict]:
        return [
            {
                "step": t,
                "seconds": 0.5 * t,
                "ess": 0.8 * (1 - np.exp(-t / 20)),
                "f_q": -9.2 + 5 * np.exp(-t / 9),
            }
            | {"skipped": t == 3}
            for t in range(1, self.trained + 1)
        ]

    def series(self, group: str) -> dict[str, np.ndarray]:
        if group not in self.groups:
            return {}
        rng = np.random.default_rng(len(group))
        accepted = rng.random((STEPS, CHAINS)) < 0.7
        accepted[100:250, 1] = False
        times = self.action.lattice[0] // 2 + 1
        noise = 1 + 0.1 * rng.standard_normal((STEPS, CHAINS, times))
        return {
            "accepted": accepted,
            "magnetization": 0.1 * rng.standard_normal((STEPS, CHAINS)),
            "log_weight": 9.2 + 0.4 * rng.standard_normal((STEPS, CHAINS)),
            "two_point": 0.3 * np.exp(-0.8 * np.arange(times)) * noise,
        }

    def flow(self) -> FakeFlow:
        return FakeFlow(self.action.lattice)

    def checkpoint(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"

    def sampling_info(self, name: str) -> dict:
        return {"steps": STEPS} | (
            {"seconds": 90.0, "step_size": 0.125, "n_steps": 8} if name == "hmc" else {}
        )


ALL = ("flow", "proposals", "hmc")


def fake_results(passed: bool = True) -> dict:
    entry = {"value": 0.1434, "error": 0.0004, "tau_int": 1.3, "tau_int_error": 0.1, "window": 4, "n": 100}
    pulls = {"flow-hmc": 0.3 if passed else -7.25, "flow-exact": 3.5, "nis-hmc": float("nan")}
    return {
        "rows": [
            {"name": "log_z", "label": "log Z", "flow": None, "nis": {"value": 9.2931, "error": 0.0021}}
            | {"hmc": None, "exact": {"value": 9.29135, "error": 1e-5}, "pulls": {"nis-exact": 0.8}},
            {"name": "phi_squared", "label": "⟨φ²⟩", "flow": entry, "nis": entry, "hmc": entry, "exact": None}
            | {"pulls": pulls},
            {"name": "abs_magnetization", "label": "⟨|M|⟩", "flow": entry, "nis": None, "hmc": None}
            | {"exact": None, "pulls": {}},
        ],
        "checks": [
            {"name": "inverse undoes forward", "passed": True, "detail": "1e-6"},
            {"name": "signs of M balance", "passed": passed, "detail": "one sign & is missing"},
        ],
        "diagnostics": {"ess": 0.8125, "acceptance": 0.7321, "pareto_k": 0.2 if passed else 0.9}
        | {"f_q": -9.2, "f_q_error": 0.01, "new_number": 2.0},
        "warnings": [] if passed else ["The Pareto tail index of the weights is 0.90, above 0.7"],
        "passed": passed,
    }


class Page(HTMLParser):
    """Collects what the tests ask of a page, and fails where tags do not nest."""

    VOID = ("meta", "link", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full_report(tmp_path_factory) -> Path:
    run = FakeRun(tmp_path_factory.mktemp("run"), Phi4((8, 8), m2=-4.0, lam=8.0), ALL, trained=120)
    for name in ("flow", "hmc"):
        save_tree(run.checkpoint(name), {"state": {"x": torch.randn(4, 8, 8)}, "steps": STEPS})
    settings = dict(mpl.rcParams), mpl.get_backend()
    page = write_report(run, fake_results())
    assert (dict(mpl.rcParams), mpl.get_backend()) == settings, "the report changed matplotlib globally"
    return page


def test_every_figure_is_written_and_shows_something(full_report):
    for name in FIGURES:
        pixels = imread(full_report.parent / "figures" / f"{name}.png")[..., :3]
        assert pixels.shape[1] >= 1200
        assert len(np.unique(pixels @ np.array([1.0, 300.0, 90_000.0]))) > 50
        assert 0.01 < np.mean(pixels.min(-1) < 0.95) < 0.9
        assert (full_report.parent / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not [file for file in full_report.parent.rglob("*") if "tmp" in file.suffix]


def test_page_holds_everything_itself(full_report):
    text = full_report.read_text(encoding="utf-8")
    page = Page(text)
    assert not re.search(r"https?:|//\w|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    assert not page.all("script")
    assert all(link["href"].startswith("data:") for link in page.all("link"))
    anchors = {a["href"] for a in page.all("a")}
    assert anchors
    assert anchors <= {f"#{attributes.get('id')}" for _, attributes in page.tags}
    images = page.all("img")
    assert len(images) == len(FIGURES)
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"]) > 30
        assert int(image["width"]) > int(image["height"]) > 0
    assert [name for name, _ in page.tags if re.fullmatch("h[1-6]", name)][:2] == ["h1", "h2"]
    assert all(attributes.get("scope") for attributes in page.all("th"))


def test_page_has_the_numbers_and_how_to_repeat_them(full_report):
    page = Page(full_report.read_text(encoding="utf-8"))
    for expected in (
        "Validation passed", "2 of 2 checks hold", "9.2931(21)", "0.812", "0.732", "τ = 1.3", "+3.5",
        "φ⁴ theory on 8 × 8, m² = −4, λ = 8", "clip = 0.125", "latflow run <fake> & co", "versions.x",
        "a <b>made up</b> run", "new number", "−9.200(10)", "longest run of rejections: 15",
        "1.5 min", "8 × 0.125",
    ):  # fmt: skip
        assert expected.lower() in page.text.lower(), expected
    assert "F_q" not in page.text  # but with a subscript


def test_failed_validation_stands_above_everything_else(tmp_path):
    run = FakeRun(tmp_path, Phi4((8, 8), m2=-4.0, lam=8.0))
    page = Page(write_report(run, fake_results(passed=False)).read_text(encoding="utf-8"))
    top = page.text[: page.text.index("Contents" if "Contents" in page.text else "Results")]
    assert "Validation failed" in top
    assert "one sign & is missing" in top
    assert "flow − HMC is -7.2 standard deviations" in top.replace("−7", "-7")
    assert "Pareto tail index" in top
    assert "Validation passed" not in page.text


def test_report_without_validation_says_so(tmp_path):
    page = Page(write_report(FakeRun(tmp_path, Phi4((4,), m2=1.0, lam=1.0))).read_text(encoding="utf-8"))
    assert "Not validated yet" in page.text
    assert "No observables yet" in page.text


STAGES = {
    "nothing": ((), 0, {"configurations"}),  # a fake flow can always be drawn from
    "training": ((), 30, {"training", "configurations"}),
    "flow": (("flow", "proposals"), 30, set(FIGURES)),
    "hmc": (("hmc",), 0, {"autocorrelation", "two_point", "magnetization", "configurations"}),
}


@pytest.mark.parametrize("stage", STAGES)
def test_missing_stages_leave_a_sentence(tmp_path, stage):
    groups, trained, expected = STAGES[stage]
    run = FakeRun(tmp_path, HoppingPhi4((6, 4), beta=0.5, lam=0.5), groups, trained)
    made = {plate.name: plate for plate in plates(Material(run))}
    assert list(made) == FIGURES
    assert {name for name, plate in made.items() if plate.figure is not None} == expected
    for plate in made.values():
        assert plate.caption.endswith(".")
        assert plate.figure is not None or re.search(
            "has been sampled yet|has not been sampled yet|has not begun", plate.caption
        )


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    run = FakeRun(tmp_path, Phi4((4, 4), m2=1.0, lam=1.0), trained=5)
    write_report(run)
    assert (tmp_path / "figures" / "training.png").exists()
    run.trained = 0
    write_report(run)
    assert not list((tmp_path / "figures").glob("training.*"))


@pytest.mark.parametrize("lattice", [(2,), (16,), (8, 3), (3, 8), (1, 1), (4, 6, 2), (1, 5, 5)])
def test_every_lattice_has_its_pictures(tmp_path, lattice):
    run = FakeRun(tmp_path, Phi4(lattice, m2=0.5, lam=0.0), ("flow", "hmc"))
    made = {plate.name: plate for plate in plates(Material(run))}
    for name in ("two_point", "configurations"):
        assert made[name].figure is not None, made[name].caption


def test_the_known_free_energy_and_correlator_are_drawn(tmp_path):
    free = FakeRun(tmp_path, Phi4((8, 8), m2=0.5, lam=0.0), ALL, trained=30)
    made = {plate.name: plate for plate in plates(Material(free, exact_free_energy=-9.25))}
    f_q_panel = made["training"].figure.axes[2]
    assert any(np.allclose(line.get_ydata(), -9.25) for line in f_q_panel.lines)
    assert f_q_panel.get_ylim()[0] < -9.25
    correlator = made["two_point"].figure.axes[0]
    exact = free_field_two_point((8, 8), 0.5)
    assert any(
        len(line.get_ydata()) == len(exact) and np.allclose(line.get_ydata(), exact)
        for line in correlator.lines
    )
    hopping, scale = Phi4((8, 8), m2=0.5, lam=0.0).to_hopping()
    same = {p.name: p for p in plates(Material(FakeRun(tmp_path, hopping, ALL)))}["two_point"].figure.axes[0]
    drawn = [np.asarray(line.get_ydata()) for line in same.lines if len(line.get_ydata()) == len(exact)]
    assert any(np.allclose(y, exact * scale**2) for y in drawn)


def figures_of_links(rng: np.random.Generator) -> dict:
    charge, angles = rng.integers(-2, 3, (900, 2)), np.pi * rng.uniform(-1, 1, (3, 4, 6))
    few, none = Measurement(0.001, 0.001), Measurement(0.0, 0.001)
    chains, rates = (
        {"flow chain": charge[:, 0], "HMC": charge[:40, 0]},
        dict.fromkeys(("flow chain", "HMC"), few),
    )
    return {
        "charge history": charge_history(chains, rates),
        "short charge history": charge_history({"HMC": charge[:40, 0]}, rates),
        "charges": charge_distribution(
            {"HMC": {-1: few, 0: Measurement(0.9, 0.1), 1: none}}, {0: 0.8, 1: 0.1}
        ),
        "charges, unknown": charge_distribution({"HMC": {0: Measurement(1.0, 0.0)}}),
        "sectors": sector_weights(rng.standard_normal((900, 2)), charge),
        "constant sectors": sector_weights(np.ones(30), np.zeros(30)),
        "plaquettes": plaquette_histogram({"HMC": angles, "flow chain": angles}, rates, 0.4),
        "angles": plaquette_angles_images(
            {"HMC": angles, "flow chain": angles[:2]}, {"HMC": [0, 1, -2]} | {"flow chain": [0, 1]}
        ),
    }


def some_figures() -> dict:
    nan = float("nan")
    unknown = Measurement(nan, nan)
    rng = np.random.default_rng(1)
    m = 0.1 * rng.standard_normal((5000, 2))
    c = np.array([1.0, 0.5, 0.3, 0.2]) * (1 + 0.01 * rng.standard_normal((200, 1, 4)))
    accepted = rng.random(5000) < 0.5
    records = [{"step": t, "seconds": 9000 * t, "ess": 0.5, "f_q": nan} for t in range(1, 9)]
    function, tau = {"HMC": autocorrelation(m)}, {"HMC": measure(m)}
    return {
        "training": training_history(records),
        "weights": log_weight_histogram(rng.standard_normal(1000)),
        "constant weights": log_weight_histogram(np.ones(10)),
        "history": chain_history({"$M$": m[:, 0]}, accepted),
        "all accepted": chain_history({"$M$": m[:100, 0]}, np.ones(100, dtype=bool)),
        "autocorrelation": autocorrelation_function(function, tau),
        "two-point": two_point_function({"HMC": derive_vector(lambda x: x, c)}, {"HMC": effective_masses(c)}),
        "noise": two_point_function({"HMC": [Measurement(-0.1, 0.2)] * 4}, {"HMC": [unknown] * 2}),
        "magnetisation": magnetization_histogram({"flow chain": m, "HMC": m}),
        "1d": configurations({"HMC": rng.standard_normal((3, 8))}),
        **figures_of_links(rng),
        "3d": configurations({"HMC": rng.standard_normal((2, 3, 4, 5)), "flow chain": np.ones((1, 3, 4, 5))}),
    }  # fmt: skip


def test_no_panel_is_without_words():
    for name, figure in some_figures().items():
        shown = [axes for axes in figure.axes if axes.get_visible()]
        left = [
            axes for axes in shown if axes.get_subplotspec() is None or axes.get_subplotspec().is_first_col()
        ]
        assert all(axes.get_ylabel() for axes in left), name
        lowest = [axes for axes in shown if axes.get_subplotspec() and axes.get_subplotspec().is_last_row()]
        assert all(axes.get_xlabel() for axes in lowest), name
        assert any(axes.get_title(loc="left") for axes in shown), name
        titled = [
            axes for axes in shown if axes.get_title(loc="left") or axes.get_xlabel() or axes.get_ylabel()
        ]
        assert len(titled) == len(shown) or name in ("1d", "3d", "angles", "sectors"), name


def test_long_runs_of_rejections_are_shaded():
    accepted = np.ones(2000, dtype=bool)
    accepted[300:401] = False  # 101
    accepted[1000:1100] = False  # 100, not remarkable yet
    whole, zoom = chain_history({"$M$": np.arange(2000.0)}, accepted).axes
    shaded = [patch.get_extents().transformed(whole.transData.inverted()) for patch in whole.patches]
    assert [(round(box.x0, 1), round(box.x1, 1)) for box in shaded] == [(299.5, 400.5)]
    assert zoom.get_xlim()[0] < 300 < 400 < zoom.get_xlim()[1]
    assert "101" in zoom.get_title(loc="left")


def test_every_charge_has_its_place_and_the_exact_line():
    shares = {
        "flow chain": {q: Measurement(0.5 * 0.2 ** abs(q), 0.01) for q in (-1, 0, 1)},
        "HMC": {q: Measurement(0.4 if q == 0 else 0.0, 0.01) for q in (-1, 0, 1)},
    }
    (axes,) = charge_distribution(shares, {-1: 0.11, 0: 0.6, 1: 0.11, 2: 0.0}).axes
    points = {c.get_label(): c.lines[0].get_xydata() for c in axes.containers}
    np.testing.assert_allclose(points["flow chain"], [[-1.175, 0.1], [-0.175, 0.5], [0.825, 0.1]])
    np.testing.assert_allclose(points["HMC"], [[0.175, 0.4]])  # what was never seen has no logarithm
    (exact,) = (lines for lines in axes.collections if lines.get_label() == "exact")
    assert [segment[0][1] for segment in exact.get_segments()] == [0.11, 0.6, 0.11]
    assert axes.get_yscale() == "log"


def test_weights_are_told_apart_by_sector():
    """Two sectors, of which the second has twice the weight: ESS 1 within each, shares 1/2 and 2/3."""
    log_weight, charge = (
        np.log(np.r_[np.ones(50), np.full(50, 2.0), 1.0]),
        np.r_[np.zeros(50), np.full(50, -1), 2],
    )
    panels = sector_weights(log_weight, charge).axes
    assert [axes.get_ylabel() for axes in panels] == ["$|Q| = 0$", "$|Q| = 1$"]  # one draw is no histogram
    texts = [axes.texts[0].get_text() for axes in panels]
    assert "49.50% of draws\n33.11% of weight" in texts[0]
    assert "66.23% of weight" in texts[1]
    assert all("1.000" in text for text in texts)
    with pytest.raises(ValueError, match="at least 10 draws"):
        sector_weights(np.ones(3), np.zeros(3))


def test_a_sign_keeps_its_two_values_in_view():
    (axes,) = chain_history({"sign": np.ones(50)}, np.ones(50, dtype=bool)).axes
    assert axes.get_ylim() == (-1.3, 1.3)


def test_many_columns_are_two_tables():
    m = Measurement(1.0, 0.1)
    ways = dict.fromkeys(("flow", "nis", "hmc", "quenched", "exact"), m)
    pulls = dict.fromkeys(("flow-hmc", "nis-hmc", "flow-quenched", "hmc-quenched", "flow-exact"), 0.5)
    results = {"rows": [{"name": "x", "label": "x", **ways, "pulls": pulls}], "notes": ["A word."]}
    values, between = verdict_tables(results)
    assert values.caption.endswith("A word.")
    assert values.head[1:] == [
        "flow + Metropolis", "reweighted (NIS)", "HMC", "quenched, reweighted", "exact or reference"
    ]  # fmt: skip
    assert between.head[1:4] == ["flow − HMC", "NIS − HMC", "flow − quenched"]
    assert [len(row) for row in (*values.rows, *between.rows)] == [6, 6]


def test_collapse_into_one_sign_shows_in_the_histogram():
    rng = np.random.default_rng(3)
    hmc = rng.choice([-1.0, 1.0], 4000) + 0.1 * rng.standard_normal(4000)
    labels = [
        text.get_text()
        for text in magnetization_histogram({"flow chain": abs(hmc), "HMC": hmc})
        .axes[0]
        .get_legend()
        .get_texts()
    ]
    assert labels[0].startswith("flow chain: 100.0%")
    assert re.match(r"HMC: (4[7-9]|5[0-2])\.", labels[1])


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 5))
def test_rejection_runs_are_those_of_a_plain_search(accepted, longer_than):
    text = "".join("a" if a else "r" for a in accepted)
    expected = [
        (m.start(), m.end() - 1) for m in re.finditer("r+", text) if m.end() - m.start() > longer_than
    ]
    assert rejection_runs(accepted, longer_than) == expected


def test_envelope_keeps_the_extremes_and_running_mean_the_mean():
    y = np.random.default_rng(0).standard_normal(50_000)
    x_drawn, y_drawn = envelope(np.arange(50_000), y, bins=100)
    assert len(x_drawn) == len(y_drawn) == 200
    assert (y_drawn.max(), y_drawn.min()) == (y.max(), y.min())
    assert np.all(np.diff(x_drawn) >= 0)
    assert np.array_equal(y_drawn, y[x_drawn.astype(int)])
    with_gap = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    assert np.allclose(running_mean(with_gap, 3), [1.0, 2.0, 3.0, 4.0, 5.0])
    assert np.isnan(running_mean([np.nan, 1.0], 1)[0])


@pytest.mark.parametrize(
    ("pull", "mark"), [(0.0, ""), (-3.0, ""), (3.1, "warn"), (-5.0, "warn"), (5.01, "bad"), (-80.0, "bad")]
)
def test_pulls_are_marked(pull, mark):
    results = {
        "rows": [{"name": "x", "label": "x", "flow": Measurement(1.0, 0.1), "pulls": {"flow-hmc": pull}}]
    }
    (table,) = verdict_tables(results)
    assert table.rows[0][-1].mark == mark
    assert ("standard deviations" in str(banner(results | {"passed": False}))) == (mark == "bad")


def test_a_doubtful_pareto_index_carries_a_warning():
    for k, doubtful in ((0.7, False), (0.71, True), (-np.inf, False)):
        table = diagnostics_table({"diagnostics": {"pareto_k": k}})
        assert table is not None
        assert bool(table.rows[0][1].note) == doubtful


def test_empty_results_give_no_tables():
    assert verdict_tables({}) == []
    assert diagnostics_table({}) is None
    assert timing_table([], None, {}) is None
    assert banner({}).status == "unknown"


def test_unknown_theories_have_a_name():
    action = 2.0 * Phi4((4,), m2=1.0, lam=1.0)
    assert theory(action) == ("Scaled on 4", "")


@pytest.fixture(scope="module")
def real_report(tmp_path_factory) -> Path:
    small = [
        "training.steps=20",
        "sampling.steps=60",
        "hmc.steps=60",
        "hmc.thermalisation=20",
        "compute.threads=1",
    ]
    run = Run.create(tmp_path_factory.mktemp("real") / "run", load_config("phi4-quick", small))
    run.train()
    run.sample()
    run.sample_hmc()
    return write_report(run, json.loads(json.dumps(validate(run).as_dict())))


def test_a_real_run_has_a_whole_report(real_report):
    page = Page(real_report.read_text(encoding="utf-8"))
    assert len(page.all("img")) == len(FIGURES)
    assert "No figure" not in page.text
    assert "Validation" in page.text
    assert "φ of the flow chain and HMC" in page.text


@pytest.fixture(scope="module")
def gauge_report(tmp_path_factory) -> Path:
    run = sampled(tmp_path_factory.mktemp("gauge") / "run", "schwinger-8x8", *SCHWINGER)
    return write_report(run, json.loads(json.dumps(validate(run).as_dict())))


WRAPPER = """<!DOCTYPE html><title>wrapper</title><iframe width="{width}" height="900" src="{page}"></iframe>
<pre id="found"></pre><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const images = [...page.images];
  document.getElementById("found").textContent = JSON.stringify({{
    images: images.length,
    sound: images.filter(image => image.complete && image.naturalWidth > 0).length,
    title: page.title,
    verdict: page.defaultView.getComputedStyle(page.querySelector(".banner h2")).color,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    requests: page.defaultView.performance.getEntriesByType("resource")
      .filter(entry => !entry.name.startsWith("data:")).length,
  }});
  console.error("the end of the probe");
}});
</script>"""


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize(
    ("which", "figures"), [("full_report", len(FIGURES)), ("real_report", len(FIGURES)), ("gauge_report", 10)]
)
def test_browser_shows_every_figure_without_an_error(request, tmp_path, which, figures, width):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here to look at the page")
    page = request.getfixturevalue(which)
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER.format(page=page.as_uri(), width=width), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --allow-file-access-from-files "
        "--enable-logging=stderr --v=0"
    )
    command = [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    shown = subprocess.run(
        [*command, "--dump-dom", wrapper.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert len(console) == 1, console  # the probe's own, which proves that errors would be seen
    assert "the end of the probe" in console[0]
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', shown.stdout, re.DOTALL)
    found = json.loads(html.unescape(text))
    assert found["images"] == found["sound"] == figures
    assert found["title"].endswith("latflow report")
    assert found["verdict"] != "rgb(31, 35, 40)"  # the style sheet is in force
    assert found["overflow"] <= 0
    assert found["requests"] == 0
