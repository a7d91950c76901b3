"""The report: figures that show what they must, tables that mark what is wrong, a page browsers like."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from latflow.analysis import autocorrelation, derive_vector, effective_masses, longest_rejection_run, measure
from latflow.fields import FieldKind
from latflow.fields.gauge import TOPOLOGY
from latflow.figures import (
    LOOKS,
    Source,
    autocorrelation_function,
    chain_history,
    configurations,
    envelope,
    histogram,
    log_weight_histogram,
    look_of,
    probabilities,
    rejection_runs,
    running_mean,
    save,
    sector_history,
    sector_weights,
    training_history,
    two_point_function,
)
from latflow.measurement import Measurement
from latflow.observables import Observable, Sectors
from latflow.report import write_report
from latflow.report.circumstances import theory, timing_table
from latflow.report.diagnostics import diagnostics_table
from latflow.report.distribution_plates import distribution
from latflow.report.material import Material
from latflow.report.plates import builders, plates
from latflow.report.tables import banner, check_table, headline, verdict_tables
from latflow.runs import Run
from latflow.runs.place import write_info
from latflow.theories import Action, HoppingPhi4, Phi4
from latflow.theories.phi4.free_field import free_field_two_point
from latflow.validation import Check, Row, Validation, Way, validate
from report_runs import PHI4, STUCK_SPINS, copied, finished, gaussian_run
from small_gauge_runs import SCHWINGER, SMALL_LINKS

pytestmark = pytest.mark.drawn

FIGURES = [
    "training", "log_weights", "history", "magnetization", "autocorrelation", "two_point", "configurations",
]  # fmt: skip
OF_FERMIONS = [
    "training", "log_weights", "topological_charge_weights", "history", "topological_charge_history",
    "plaquette", "topological_charge", "autocorrelation", "autocorrelation_condensate", "pion", "singlet",
    "configurations",
]  # fmt: skip

MODEL = Way("model", "model + Metropolis", "model", "the model's chain", source="model")
WEIGHTS = Way("weights", "NIS", "NIS", "the model's weighted draws", source="model")
BESIDE = Way("beside", "HMC", "HMC", "the HMC chain", source="beside")
QUENCHED = Way("neighbour", "quenched", "quenched", "weighted quenched draws", source="neighbour")
EXACT = Way("exact", "exact", "exact", "the exact result", source="exact", sampled=False)


def verdict(passed: bool = True) -> Validation:
    """A verdict that was made up, with numbers to be found again on the page."""
    entry = Measurement(0.1434, 0.0004, tau_int=1.3, tau_int_error=0.1, window=4, n=100)
    pulls = {("model", "beside"): 0.3 if passed else -7.25, ("model", "exact"): 3.5}
    log_z = {"weights": Measurement(9.2931, 0.0021), "exact": Measurement(9.29135, 1e-5)}
    return Validation(
        [MODEL, WEIGHTS, BESIDE, EXACT],
        [
            Row("log_z", "log Z", log_z, {("weights", "exact"): 0.8}),
            Row("phi_squared", "⟨φ²⟩", {"model": entry, "weights": entry, "beside": entry}, pulls),
            Row("abs_magnetization", "⟨|M|⟩", {"model": entry}),
        ],
        [
            Check("inverse undoes forward", True, "1e-6"),
            Check("signs of M balance", passed, "one sign & is missing"),
        ],
        {"ess": 0.8125, "acceptance": 0.7321, "pareto_k": 0.2 if passed else 0.9}
        | {"f_q": -9.2, "f_q_error": 0.01, "new_number": 2.0},
        [] if passed else ["The Pareto tail index of the weights is 0.90, above 0.7"],
    )


def made(run: Run) -> dict:
    """The plates of a run by name."""
    return {plate.name: plate for plate in plates(Material(run))}


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


def phi4(*changes: str) -> Run:
    return finished("phi4-quick", *PHI4, *changes)


@pytest.fixture(scope="module")
def full_report(tmp_path_factory) -> Path:
    """The page of a run whose every word must come through, with a verdict that was made up."""
    named = phi4("name=made-up", "description=a <b>made up</b> run", "training.clip=0.125")
    run = copied(named, tmp_path_factory.mktemp("run"))
    write_info(run.path, run.info | {"command": "latflow run <made-up> & co", "versions": {"x": "1"}})
    settings = dict(mpl.rcParams), mpl.get_backend()
    page = write_report(run, verdict())
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
    run = Run.open(full_report.parent)
    longest = longest_rejection_run(run.series("model")["accepted"])
    (found,) = run.sampling_info("beside")["found"].values()
    for expected in (
        "Validation passed", "2 of 2 checks hold", "9.2931(21)", "0.812", "0.732", "τ = 1.3", "+3.5",
        "φ⁴ theory on 4 × 4, m² = −4, λ = 8", "clip = 0.125", "latflow run <made-up> & co", "versions.x",
        "a <b>made up</b> run", "new number", "−9.200(10)", f"longest run of rejections: {longest}",
        f"trajectories of {found['n_steps']:.0f} × {found['step_size']:.3g}", "30 steps of 128 draws",
        "60 steps of 16 chains", "τ of |M|, the model's chain", "1.30(10)",
    ):  # fmt: skip
        assert expected.lower() in page.text.lower(), expected
    assert "F_q" not in page.text  # but with a subscript


def test_failed_validation_stands_above_everything_else(tmp_path):
    run = gaussian_run(tmp_path, Phi4((8, 8), m2=-4.0, lam=8.0))
    page = Page(write_report(run, verdict(passed=False)).read_text(encoding="utf-8"))
    top = page.text[: page.text.index("Contents" if "Contents" in page.text else "Results")]
    assert "Validation failed" in top
    assert "one sign & is missing" in top
    assert "model − HMC is -7.2 standard deviations" in top.replace("−7", "-7")
    assert "Pareto tail index" in top
    assert "Validation passed" not in page.text


def test_a_long_list_of_failures_is_folded(tmp_path):
    run = gaussian_run(tmp_path, Phi4((8, 8), m2=-4.0, lam=8.0))
    failed = [Check(f"statement {i}", passed=False, detail="it does not hold") for i in range(12)]
    text = write_report(run, replace(verdict(passed=False), checks=failed)).read_text(encoding="utf-8")
    shown, _, folded = text.partition("<details>")
    folded = folded.partition("</details>")[0]
    assert re.findall(r"statement \d+: it", shown) == [f"statement {i}: it" for i in range(5)]
    assert re.findall(r"statement \d+: it", folded) == [f"statement {i}: it" for i in range(5, 12)]
    assert f"<summary>and {folded.count('<li>')} more</summary>" in folded
    few = write_report(run, verdict(passed=False)).read_text(encoding="utf-8")
    assert "<details>" not in few


def test_report_without_validation_says_so(tmp_path):
    run = gaussian_run(tmp_path, Phi4((4,), m2=1.0, lam=1.0))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Not validated yet" in page.text
    assert "No observables yet" in page.text


STAGES = {
    "nothing": set(),
    "training": {"training", "configurations"},
    "model": set(FIGURES),
    "beside": {"autocorrelation", "two_point", "magnetization", "configurations"},
}


@pytest.mark.parametrize("stage", STAGES)
def test_missing_stages_leave_a_sentence(tmp_path, stage):
    run = gaussian_run(tmp_path, HoppingPhi4((6, 4), beta=0.5, lam=0.5))
    if stage in ("training", "model"):
        run.train()
    if stage == "model":
        run.sample()
    if stage == "beside":
        run.sample_beside()
    found = made(run)
    assert list(found) == FIGURES
    assert {name for name, plate in found.items() if plate.figure is not None} == STAGES[stage]
    for plate in found.values():
        assert plate.caption.endswith(".")
        assert plate.figure is not None or re.search(
            "been sampled yet|has not been sampled yet|has not begun", plate.caption
        )
    if stage == "model":
        assert "The HMC chain has not been sampled, so there is no comparison." in found["two_point"].caption
    if stage == "beside":
        assert "The model has not been sampled, so there is no comparison." in found["two_point"].caption
    if stage == "training":
        assert "Proposals are fresh draws of the trained model" in found["configurations"].caption


def test_nothing_is_compared_where_nothing_runs_beside(tmp_path):
    run = gaussian_run(tmp_path, Phi4((4, 4), m2=1.0, lam=1.0), beside={"enabled": False})
    assert "the model has not been sampled yet" in made(run)["autocorrelation"].caption
    run.train()
    run.sample()
    found = made(run)
    assert all(plate.figure is not None for plate in found.values())
    assert not re.search("HMC|comparison", str([plate.caption for plate in found.values()]))
    assert found["autocorrelation"].caption.endswith(" A step is one proposal of the model.")


@pytest.mark.slow
def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    run = copied(phi4(), tmp_path)
    write_report(run)
    assert (tmp_path / "figures" / "training.png").exists()
    for file in (run.history_file, run.checkpoint("last")):
        file.unlink()
    write_report(run)
    assert not list((tmp_path / "figures").glob("training.*"))


@pytest.mark.parametrize(
    "lattice",
    [(2,), (3, 8), (4, 6, 2)]
    + [pytest.param(one, marks=pytest.mark.slow) for one in [(16,), (8, 3), (1, 1), (1, 5, 5)]],
)
def test_every_lattice_has_its_pictures(tmp_path, lattice):
    run = gaussian_run(tmp_path, Phi4(lattice, m2=0.5, lam=0.0), training={"steps": 2})
    run.train()
    run.sample()
    run.sample_beside()
    found = made(run)
    for name in ("two_point", "configurations"):
        assert found[name].figure is not None, found[name].caption
    assert re.search({1: "lines", 2: "images", 3: "slices x₀ = 0"}[len(lattice)], found["configurations"].alt)


def test_the_known_free_energy_and_correlator_are_drawn(tmp_path):
    action = Phi4((8, 8), m2=0.5, lam=0.0)
    run = gaussian_run(tmp_path / "free", action)
    run.train()
    run.sample_beside()
    found, free_energy = made(run), -action.known()["log_z"].value
    f_q_panel = found["training"].figure.axes[2]
    assert any(np.allclose(line.get_ydata(), free_energy) for line in f_q_panel.lines)
    assert f_q_panel.get_ylim()[0] < free_energy
    exact = free_field_two_point((8, 8), 0.5)

    def drawn(figure) -> list[np.ndarray]:
        lines = [np.asarray(line.get_ydata()) for line in figure.axes[0].lines]
        return [y for y in lines if len(y) == len(exact)]

    assert any(np.allclose(y, exact) for y in drawn(found["two_point"].figure))
    hopping, scale = action.to_hopping()
    same = gaussian_run(tmp_path / "hopping", hopping)
    same.sample_beside()
    assert any(np.allclose(y, exact * scale**2) for y in drawn(made(same)["two_point"].figure))


def test_a_chain_that_stands_still_is_marked():
    run = finished("ising-8x8", *STUCK_SPINS)
    accepted = run.series("model")["accepted"].astype(bool)
    longest = [longest_rejection_run(chain) for chain in accepted.T]
    remarkable = sum(len(rejection_runs(chain, 100)) for chain in accepted.T)
    assert max(longest) > 100, "the example has lost its point"
    plate = made(run)["history"]
    assert plate.caption.startswith(f"Chain {int(np.argmax(longest)) + 1} of 3, the one that stood still")
    assert f"Longest run of rejections: {max(longest)}." in plate.caption
    assert f"all chains together have {remarkable}." in plate.caption
    assert "proposes far too rarely" in plate.caption
    whole = plate.figure.axes[0]
    assert len(whole.patches) == len(rejection_runs(accepted[:, int(np.argmax(longest))], 100)) > 0


def test_both_signs_of_spins_are_counted():
    run = finished("ising-8x8", *STUCK_SPINS)
    plate, parts = made(run)["magnetization"], []
    series = {"model's chain": run.series("model"), "Wolff chain": run.series("beside")}
    for source, m in {source: of_chain["magnetization"] for source, of_chain in series.items()}.items():
        assert f"{np.mean(m > 0):.1%} of the {source}" in plate.caption
        both = int(((m > 0).any(0) & (m < 0).any(0)).sum())
        parts.append(f"{both} of {m.shape[1]} in the {source}")
    assert f"Chains that have been in all phases (M > 0 and M < 0): {', '.join(parts)}." in plate.caption
    assert "The black line is the exact distribution" in plate.caption
    assert "both signs are equally probable" in plate.caption
    assert [text.get_text() for text in plate.figure.legends[0].get_texts()][-1] == "exact"


def fermions(*changes: str) -> Run:
    short = ["training.steps=4", "sampling.steps=60", "beside.steps=30", "beside.chains=4"]
    return finished("schwinger-16x16-published", *SMALL_LINKS, *SCHWINGER, *short, *changes)


@pytest.mark.slow
def test_a_run_with_fermions_shows_its_topology():
    run = fermions()
    found = made(run)
    assert list(found) == OF_FERMIONS
    for plate in found.values():
        assert plate.figure is not None, plate.caption
        assert len(plate.alt) > 40
        assert plate.caption.endswith(".")
        assert not re.search("magneti|φ", plate.caption + plate.alt + plate.title)
    panels = [axes.get_ylabel() for axes in found["history"].figure.axes]
    assert panels == ["$Q$", "condensate", r"$\sigma$", r"$\log w$"]
    assert "even and odd topological sectors" in found["history"].caption
    assert "Proposals count without their weights. A sector that they lack is lost" in (
        found["topological_charge"].caption
    )
    assert "Signs are not counted" not in str(found)
    corner = found["configurations"].figure.axes[0].texts[0].get_text()
    assert re.fullmatch(r"\$Q\$ = ([+−]\d|0)", corner)


@pytest.mark.slow
def test_signs_that_averages_are_reweighted_with_are_not_counted_in_distributions():
    material = Material(fermions("action.flavours=1"))
    drawn = builders(material.action)
    for name in ("topological_charge", "plaquette"):
        _, build = drawn[name]
        _, _, caption = build(material)
        assert "Signs are not counted here (⟨σ⟩, σ = sign det D)" in caption


class Bits(FieldKind):
    """A kind of field that says nothing of itself but how a chain starts."""

    name = "bits"

    def start(self, lattice, n, generator, dtype):
        return torch.randn((n, *self.shape(lattice)), generator=generator, dtype=dtype)


@dataclass(frozen=True)
class Least(Action):
    """A theory that says nothing of itself but its action."""

    lattice: tuple[int, ...]
    kind = Bits()

    def __call__(self, x):
        return x.square().flatten(1).sum(1)


def test_a_theory_that_says_the_least_has_its_plates(tmp_path):
    run = gaussian_run(tmp_path, Least((3, 2)), beside={"enabled": False})
    run.train()
    run.sample()
    found = made(run)
    assert list(found) == ["training", "log_weights", "history", "autocorrelation", "configurations"]
    assert all(plate.figure is not None for plate in found.values())
    assert [axes.get_ylabel() for axes in found["history"].figure.axes] == ["$S$", r"$\log w$"]
    assert "autocorrelation of S" in found["autocorrelation"].caption
    page = Page(write_report(run, validate(run)).read_text(encoding="utf-8"))
    assert "Least on 3 × 2" in page.text
    assert len(page.all("img")) == 5


class Pairs(Bits):
    """A kind with two numbers a site, of which there is no picture."""

    name = "pairs"

    def shape(self, lattice):
        return (2, *lattice)


@dataclass(frozen=True)
class Paired(Least):
    kind = Pairs()


def test_a_kind_without_a_picture_says_so(tmp_path):
    run = gaussian_run(tmp_path, Paired((3, 2)), beside={"enabled": False}, training={"steps": 1})
    run.train()
    with pytest.MonkeyPatch.context() as patch:
        drawn = torch.zeros(6, 2, 3, 2)
        patch.setattr("latflow.report.field_plates.stored_configurations", lambda _: {"chain": drawn})
        plate = made(run)["configurations"]
    assert plate.figure is None
    assert plate.caption == "No figure: fields of the kind pairs have no picture with one number a site."


THIRDS = Sectors("states", lambda x: x.astype(int), "state {}".format, equal=3)


@dataclass(frozen=True)
class Three(Least):
    """A theory whose sites agree in one of three states, by an observable with sectors."""

    def own_observables(self):
        return (
            Observable(
                "state", function=lambda x: (3 * x[:, 0, 0].sigmoid()).floor().clamp(0, 2), sectors=THIRDS,
                spacing=1.0, symbol="n", meaning="States.",
            ),
        )  # fmt: skip

    def probability(self, name, values):
        return np.where((values >= 0) & (values <= 2), 1 / 3, 0.0) if name == "state" else None


def test_sectors_of_any_theory_have_their_plates(tmp_path):
    run = gaussian_run(tmp_path, Three((3, 2)), beside={"enabled": False})
    run.train()
    run.sample()
    found = made(run)
    assert list(found)[2:6] == ["state_weights", "history", "state_history", "state"]
    assert all(plate.figure is not None for plate in found.values())
    labels = [axes.get_ylabel() for axes in found["state_weights"].figure.axes]
    assert labels == ["state 0", "state 1", "state 2"]
    caption = found["state"].caption
    assert "and exact (black)" in caption
    assert "Chains that have been in all states (state 0, state 1 and state 2):" in caption
    assert caption.endswith(" States.")
    (exact,) = (c for c in found["state"].figure.axes[0].collections if c.get_label() == "exact")
    assert [round(segment[0][1], 6) for segment in exact.get_segments()] == [0.333333] * 3


@dataclass(frozen=True)
class Between(Least):
    """The same, by an observable whose values tell more than the sector."""

    def own_observables(self):
        return (Observable("state", function=lambda x: 3 * x[:, 0, 0].sigmoid(), sectors=THIRDS, symbol="n"),)


def test_sectors_without_a_distribution_say_which_were_visited(tmp_path):
    run = gaussian_run(tmp_path, Between((3, 2)), beside={"enabled": False})
    run.train()
    run.sample()
    found = made(run)
    assert list(found)[2:5] == ["state_weights", "history", "state_history"]
    plate = found["state_history"]
    assert plate.caption.startswith("The states in which one chain of each is.")
    assert "Chains that have been in all states (state 0, state 1 and state 2):" in plate.caption
    ticks = [text.get_text() for text in plate.figure.axes[0].get_yticklabels()]
    assert ticks == ["state 0", "state 1", "state 2"]


def test_plates_follow_the_records():
    assert "magnetization_weights" not in builders(finished("ising-8x8", *STUCK_SPINS).action)
    assert list(builders(Phi4((4, 4), m2=1.0, lam=0.0))) == FIGURES


@pytest.mark.filterwarnings("ignore::latflow.errors.UnreliableErrorWarning")
def test_many_values_are_a_histogram(tmp_path):
    run = gaussian_run(tmp_path, Phi4((4, 4), m2=1.0, lam=1.0))
    run.sample_beside()
    material = Material(run)
    material.beside["count"] = np.arange(40 * 8).reshape(40, 8)
    figure, alt, _ = distribution(material, Observable("count", symbol="n", spacing=1.0))
    assert alt.startswith("Histogram of n")
    assert len(figure.axes) == 1


def figures_of_links(rng: np.random.Generator) -> dict:
    charge, angles = rng.integers(-2, 3, (900, 2)), np.pi * rng.uniform(-1, 1, (3, 4, 6))
    few, none = Measurement(0.001, 0.001), Measurement(0.0, 0.001)
    chains, rates = (
        {"model": charge[:, 0], "HMC": charge[:40, 0]},
        dict.fromkeys(("model", "HMC"), few),
    )
    notes = {"HMC": ["Q = 0", "Q = 1", "Q = 2"], "model": ["Q = 0", "Q = 1"]}
    return {
        "charge history": sector_history(chains, rates),
        "short charge history": sector_history({"HMC": charge[:40, 0]}, rates),
        "charges": probabilities({"HMC": {-1: few, 0: Measurement(0.9, 0.1), 1: none}}, {0: 0.8, 1: 0.1}),
        "charges, unknown": probabilities({"HMC": {0: Measurement(1.0, 0.0)}}),
        "sectors": sector_weights(rng.standard_normal((900, 2)), abs(charge)),
        "constant sectors": sector_weights(np.ones(30), np.zeros(30, dtype=int)),
        "plaquettes": histogram({"HMC": angles, "model": angles}, r"$\cos P$", average=0.4),
        "angles": configurations(
            {"HMC": angles, "model": angles[:2]}, symbol="$P$", cyclic=True, notes=notes
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
        "autocorrelation": autocorrelation_function(function, tau, "$M$"),
        "two-point": two_point_function({"HMC": derive_vector(lambda x: x, c)}, {"HMC": effective_masses(c)}),
        "noise": two_point_function({"HMC": [Measurement(-0.1, 0.2)] * 4}, {"HMC": [unknown] * 2}),
        "magnetisation": histogram({"model": m, "HMC": m}, odd=True),
        "1d": configurations({"HMC": rng.standard_normal((3, 8))}),
        **figures_of_links(rng),
        "3d": configurations({"HMC": rng.standard_normal((2, 3, 4, 5)), "model": np.ones((1, 3, 4, 5))}),
        "states": configurations({"chain": rng.integers(0, 3, (2, 4, 4))}, values=(0, 1, 2)),
        "4d": configurations({"chain": rng.standard_normal((2, 2, 3, 4, 5))}),
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
        assert len(titled) == len(shown) or name in ("1d", "3d", "4d", "states", "angles", "sectors"), name


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
        "model": {q: Measurement(0.5 * 0.2 ** abs(q), 0.01) for q in (-1, 0, 1)},
        "HMC": {q: Measurement(0.4 if q == 0 else 0.0, 0.01) for q in (-1, 0, 1)},
    }
    (axes,) = probabilities(shares, {-1: 0.11, 0: 0.6, 1: 0.11, 2: 0.0}).axes
    points = {c.get_label(): c.lines[0].get_xydata() for c in axes.containers}
    np.testing.assert_allclose(points["model"], [[-1.175, 0.1], [-0.175, 0.5], [0.825, 0.1]])
    np.testing.assert_allclose(points["HMC"], [[0.175, 0.4]])  # what was never seen has no logarithm
    (exact,) = (lines for lines in axes.collections if lines.get_label() == "exact")
    assert [segment[0][1] for segment in exact.get_segments()] == [0.11, 0.6, 0.11]
    assert axes.get_yscale() == "log"


def test_weights_are_told_apart_by_sector():
    """Two sectors, of which the second has twice the weight: ESS 1 within each, shares 1/2 and 2/3."""
    log_weight, charge = (
        np.log(np.r_[np.ones(50), np.full(50, 2.0), 1.0]),
        np.r_[np.zeros(50), np.full(50, 1), 2],
    )
    panels = sector_weights(log_weight, charge, TOPOLOGY.name).axes
    assert [axes.get_ylabel() for axes in panels] == ["Q = 0", "|Q| = 1"]  # one draw is no histogram
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
    ways = [MODEL, WEIGHTS, BESIDE, QUENCHED, EXACT]
    values = dict.fromkeys((way.name for way in ways), Measurement(1.0, 0.1))
    pairs = [
        ("model", "beside"), ("model", "neighbour"), ("model", "exact"), ("weights", "beside"),
        ("beside", "neighbour"),
    ]  # fmt: skip
    row = Row("x", "x", values, dict.fromkeys(pairs, 0.5))
    measured, between = verdict_tables(Validation(ways, [row], [], notes=["A word."]))
    assert measured.caption.endswith("A word.")
    assert measured.head[1:] == ["model + Metropolis", "NIS", "HMC", "quenched", "exact"]
    assert between.head[1:4] == ["model − HMC", "model − quenched", "model − exact"]
    assert "Model and NIS share their draws and are not compared" in between.caption
    assert [len(line) for line in (*measured.rows, *between.rows)] == [6, 6]


def test_collapse_into_one_sign_shows_in_the_histogram(tmp_path):
    run = gaussian_run(tmp_path, Phi4((4, 4), m2=1.0, lam=1.0))
    run.train()
    run.sample()
    run.sample_beside()
    material, rng = Material(run), np.random.default_rng(3)
    m = rng.choice([-1.0, 1.0], (500, 8)) + 0.1 * rng.standard_normal((500, 8))
    material.model["magnetization"], material.beside["magnetization"] = abs(m), m
    plate = next(plate for plate in plates(material) if plate.name == "magnetization")
    labels = [text.get_text() for text in plate.figure.legends[0].get_texts()]
    assert labels[0] == "model's chain: 100.0% with $M$ > 0"
    assert re.match(r"HMC chain: (4[7-9]|5[0-2])\.", labels[1])
    assert "M is positive in 100.0% of the model's chain" in plate.caption
    assert "a model that has collapsed into one of them shows half" in plate.caption


def test_each_source_keeps_its_look():
    beside, model = Source("HMC", LOOKS[1]), Source("model", LOOKS[0])
    assert look_of([beside])["HMC"] == LOOKS[1]
    assert look_of(["other", beside, model, "last"]) == {
        "other": LOOKS[2], "HMC": LOOKS[1], "model": LOOKS[0], "last": LOOKS[3]
    }  # fmt: skip
    assert [look.marker for look in look_of("abcdefg").values()] == [*(one.marker for one in LOOKS), "o"]


def test_symbols_without_tex_are_drawn(tmp_path):
    """Warnings are errors here: no glyph of a label such as ⟨n₁⟩ may be missing."""
    figure = histogram({"⟨n₁⟩ of φ⁴, Σₓ": np.arange(20.0)}, "⟨n₁⟩")
    for suffix in ("png", "pdf", "svg"):
        save(figure, tmp_path / f"symbols.{suffix}")


def test_states_have_their_colours_and_angles_close():
    images = configurations({"chain": [[[0, 1], [2, 2]]]}, values=(0, 1, 2)).axes[0].images
    assert len(images[0].cmap.colors) == 3
    assert [int(images[0].norm(n)) for n in (0, 1, 2)] == [0, 1, 2]
    (angles,) = configurations({"chain": [[[0.0, 3.0], [-3.0, 1.0]]]}, cyclic=True).axes[0].images
    assert angles.get_clim() == (-np.pi, np.pi)
    np.testing.assert_allclose(angles.cmap(0.0), angles.cmap(1.0), atol=0.05)
    assert not np.allclose(angles.cmap(0.0), angles.cmap(0.5), atol=0.3)
    many = configurations({"chain": [[[0, 11]]]}, values=tuple(range(12))).axes[0].images[0]
    assert many.cmap.N == 12
    with pytest.raises(ValueError, match="one dimension or more"):
        configurations({"chain": np.ones(3)})


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
    row = Row("x", "x", {"model": Measurement(1.0, 0.1)}, {("model", "beside"): pull})
    found = Validation([MODEL, BESIDE], [row], [])
    (table,) = verdict_tables(found)
    assert table.rows[0][-1].mark == mark
    assert ("standard deviations" in str(banner(found))) == (mark == "bad")


def test_a_pull_that_is_no_number_fails_and_is_named():
    row = Row("x", "x", {"model": Measurement(1.0, 0.1)}, {("model", "beside"): float("nan")})
    found = Validation([MODEL, BESIDE], [row], [])
    assert banner(found).status == "failed"
    assert banner(found).lines == ["x: model − HMC is not a number"]
    assert verdict_tables(found)[0].rows[0][-1].mark == "bad"


def diagnosed(**diagnostics: float) -> Validation:
    return Validation([], [], [], diagnostics)


def test_a_doubtful_pareto_index_carries_a_warning():
    for k, doubtful in ((0.7, False), (0.71, True), (-np.inf, False)):
        table = diagnostics_table(diagnosed(pareto_k=k))
        assert table is not None
        assert bool(table.rows[0][1].note) == doubtful


def test_numbers_of_kernels_and_sectors_are_named():
    numbers = {"acceptance_hops": 0.5, "exp_minus_delta_h_hmc": 1.0, "tunnelling_q": 0.25}
    numbers |= {"beside_acceptance_hmc": 0.75, "beside_tunnelling_q": 0.5, "tunnelling_q_error": 0.01}
    kernels = {"hops": "sector hops", "hmc": "HMC"}
    table = diagnostics_table(Validation([BESIDE], [], [], numbers), kernels, {"q": "Q"})
    assert table is not None
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        ("Acceptance of sector hops", "0.500"),
        ("⟨exp(−ΔH)⟩ of HMC", "1.000"),
        ("Tunnelling of the model's chain", "0.250(10)"),
        ("Acceptance of HMC", "0.750"),
        ("Tunnelling of the HMC chain", "0.5"),
    ]
    assert table.rows[2][2].text == "share of steps at which the sector of Q changes"
    cells = headline(diagnosed(acceptance=0.4, acceptance_hmc=0.9), kernels={"hmc": "HMC"})
    assert [(cell.text, cell.note) for cell in cells] == [("0.900", "acceptance of HMC")]


def test_empty_results_give_no_tables():
    assert verdict_tables(None) == headline(None) == []
    assert diagnostics_table(None) is None
    assert check_table(None) is None
    assert verdict_tables(diagnosed()) == []
    assert timing_table([], None, {}) is None
    assert banner(None).status == "unknown"


def test_what_any_kernel_found_is_told():
    chain = {"steps": 5, "chains": 1, "found": {"a": {"width": 0.25}, "b": {}}}
    table = timing_table([], None, {"mine": chain})
    assert table is not None
    assert table.rows[0][1].text == "5 steps of 1 chain, width 0.25"


def test_theories_have_a_name():
    assert theory(Phi4((8, 8), m2=-4.0, lam=8.0)) == (
        "φ⁴ theory on 8 × 8, m² = −4, λ = 8",
        "S = Σₓ [ φ(−Δ)φ + m²φ² + λφ⁴ ]",
    )
    assert theory(2.0 * Phi4((4,), m2=1.0, lam=1.0)) == ("2 × φ⁴ theory on 4, m² = 1, λ = 1", "")
    assert theory(Least((3, 2))) == ("Least on 3 × 2", "")


@pytest.fixture(scope="module")
def real_report(tmp_path_factory) -> Path:
    run = copied(phi4(), tmp_path_factory.mktemp("real"))
    return write_report(run, validate(run))


def test_a_real_run_has_a_whole_report(real_report):
    page = Page(real_report.read_text(encoding="utf-8"))
    assert len(page.all("img")) == len(FIGURES)
    assert "No figure" not in page.text
    assert "Validation" in page.text
    assert "The field φ, of the model's chain and the HMC chain" in page.text


@pytest.fixture(scope="module")
def gauge_report(tmp_path_factory) -> Path:
    run = copied(fermions(), tmp_path_factory.mktemp("gauge"))
    return write_report(run, validate(run))


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


@pytest.mark.parametrize("width", [360, pytest.param(1200, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("which", "figures"),
    [
        ("full_report", len(FIGURES)),
        ("real_report", len(FIGURES)),
        pytest.param("gauge_report", len(OF_FERMIONS), marks=pytest.mark.slow),
    ],
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
