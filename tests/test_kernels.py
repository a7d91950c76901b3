"""Runs whose chain other kernels move than proposals alone: physics, the way back, verdict and page."""

import re
import shutil
from functools import partial

import numpy as np
import pytest
import xarray
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.densities.flows import Pullback
from latflow.report import write_report
from latflow.report.field_plates import stored_configurations
from latflow.report.material import Material
from latflow.report.plates import plates
from latflow.report.tables import verdict_tables
from latflow.runs import Run
from latflow.runs.sampling import joined
from latflow.samplers import HMC, Cycle, FourierMass, tune_step_size, tuning
from latflow.validation import validate
from latflow.validation.words import chain_words
from small_runs import assert_same, outcome

RING = [
    "name=ring", "action.lattice=[6]", "model.kernel=3", "training.steps=30", "training.batch=32",
    "training.schedule.warmup=5", "reference.correlation_length=null",
    "reference.V_magnetization_squared=null", "sampling.steps=65", "sampling.chains=48",
    "sampling.thermalisation=10", "sampling.block=30", "beside.enabled=false",
    "beside.hmc.trajectory_length=1.0", "beside.hmc.fourier_mass=null", "compute.threads=1",
]  # fmt: skip
"""Changes to the preset phi4-minimal: ⟨φ²⟩ and log Z on a ring are known by its transfer matrix."""

LINKS = [
    "name=links", "action.lattice=[4, 4]", "action.beta=0.5", "model.layers=1", "model.hidden=[2]",
    "model.dilation=1", "training.steps=2", "training.batch=16", "sampling.steps=80", "sampling.chains=32",
    "sampling.thermalisation=10", "sampling.block=40", "beside.enabled=false", "compute.threads=1",
]  # fmt: skip
"""Changes to the preset u1, so that its flow is all but untrained."""

HYBRIDS = ("hmc", "flowed_hmc")


@pytest.fixture(scope="module", autouse=True)
def _quick_tuning():
    """An eighth of the trajectories, after which steps need not be the best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "tune_step_size", partial(tune_step_size, rounds=5, trajectories=4))
        patch.setattr(tuning, "_LEAST_TRAJECTORIES", 60)
        yield


def kernels(*names):
    return f"sampling.kernels={list(names)}"


def sampled(path, preset, *changes):
    run = Run.create(path, load_config(preset, changes))
    run.train()
    run.sample()
    run.sample_beside()
    return run


@pytest.fixture(scope="module")
def cycle(tmp_path_factory):
    """Three kernels on the ring; tests read it only."""
    path = tmp_path_factory.mktemp("cycle") / "run"
    return sampled(path, "phi4-minimal", *RING, kernels("hmc", "flowed_hmc", "proposals"))


@pytest.fixture(scope="module")
def without_proposals(tmp_path_factory):
    """HMC through the flow, beside plain HMC on the ring; tests read it only."""
    beside = ["beside.enabled=true", "beside.steps=65", "beside.chains=48", "beside.thermalisation=10"]
    run = sampled(
        tmp_path_factory.mktemp("one") / "run", "phi4-minimal", *RING, *beside, kernels("flowed_hmc")
    )
    return run, validate(run)


@pytest.fixture(scope="module")
def without_flow(tmp_path_factory):
    """HMC and hops on links; tests read it only."""
    run = sampled(tmp_path_factory.mktemp("hops") / "run", "u1", *LINKS, kernels("hmc", "hops"))
    return run, validate(run)


def check_kernels(run, verdict, *names):
    """The verdict agrees with the exact solution, and everything says what each kernel did."""
    assert verdict.passed, verdict
    series, draws = run.series("model"), run.series("proposals")
    if len(names) > 1:
        assert {name for name in series if name.startswith("accepted_")} == {f"accepted_{n}" for n in names}
        for name in names:
            share = series[f"accepted_{name}"].mean()
            assert 0.01 < share <= 1
            assert verdict.diagnostics[f"acceptance_{name}"] == pytest.approx(share)
    assert bool(draws) == ("proposals" in names) == ("ess" in verdict.diagnostics)
    # weights of a poor model may leave of a loop what has no logarithm, where the chain knows more
    of_logarithms = {one.name for one in run.action.observables if one.positive}
    for row in verdict.rows:
        if row.name not in of_logarithms or "proposals" not in names:
            assert ("weights" in row.values) == ("proposals" in names), row
    tuned = run.sampling_info("model")["found"]
    assert set(tuned) == set(names) & set(HYBRIDS)
    for name, one in tuned.items():
        share = series["accepted" if len(names) == 1 else f"accepted_{name}"].mean()
        assert 0.5 < share < 0.99, (name, one)


# --- the numbers are those of the exact solution --------------------------------------------------


def test_a_cycle_samples_the_ring(cycle):
    verdict = validate(cycle)
    check_kernels(cycle, verdict, "hmc", "flowed_hmc", "proposals")
    rows = {row.name: row for row in verdict.rows}
    assert {("model", "exact"), ("weights", "exact")} <= rows["phi_squared"].pulls.keys()
    assert rows["phi_squared"].values["model"].error < 0.02 * rows["phi_squared"].values["model"].value
    assert rows["log_z"].pulls.keys() == {("weights", "exact")}


def test_each_hmc_alone_samples_the_ring(tmp_path, without_proposals):
    check_kernels(*without_proposals, "flowed_hmc")
    run = sampled(tmp_path / "run", "phi4-minimal", *RING, kernels("hmc"))
    check_kernels(run, validate(run), "hmc")
    assert chain_words(run)["model"].heading == "HMC"


def test_hops_and_hmc_sample_links(without_flow):
    run, verdict = without_flow
    check_kernels(run, verdict, "hmc", "hops")
    rows = {row.name: row for row in verdict.rows}
    for name in ("plaquette", "charge_squared", "P_charge_1"):
        assert ("model", "exact") in rows[name].pulls
    assert rows["plaquette"].values["model"].error < 0.02
    assert rows["charge_squared"].values["model"].error < 0.1 * rows["charge_squared"].values["model"].value


@pytest.mark.parametrize(
    "names", [("proposals", "hops"), ("proposals", "hmc", "flowed_hmc", "hops")], ids=", ".join
)
def test_proposals_and_other_kernels_sample_links(tmp_path, names):
    run = sampled(tmp_path / "run", "u1", *LINKS, kernels(*names))
    check_kernels(run, validate(run), *names)


def test_raw_draws_of_a_cycle_are_not_what_its_chain_holds(cycle):
    flow, draws = cycle.series("model"), cycle.series("proposals")
    expected = {"accepted"} | {f"{part}_{name}" for name in HYBRIDS for part in ("accepted", "delta_h")}
    assert set(flow) - set(draws) == expected | {"accepted_proposals", "log_weight_proposals"}
    assert set(draws) - set(flow) == {"log_weight"}
    assert {values.shape[:2] for values in draws.values()} == {(65, 48)}
    # proposals come last: what was accepted is held, all else is as HMC left it
    held = draws["magnetization"] == flow["magnetization"]
    np.testing.assert_array_equal(held, flow["accepted_proposals"] == 1)
    assert 0.05 < held.mean() < 0.95


# --- the configuration becomes samplers -----------------------------------------------------------


def test_settings_reach_the_kernels(tmp_path):
    changes = [
        kernels("hmc", "flowed_hmc"), "sampling.hmc.fourier_mass=0.7", "sampling.hmc.trajectory_length=1.5",
        "sampling.hmc.integrator=omelyan", "sampling.hmc.jitter=0.1",
        "sampling.flowed_hmc.trajectory_length=0.5", "sampling.flowed_hmc.jitter=0.0",
        "sampling.flowed_hmc.repeat=2",
    ]  # fmt: skip
    run = Run.create(tmp_path / "run", load_config("phi4-minimal", [*RING, *changes]))
    settings = {"hmc": (0.5, 3), "flowed_hmc": (0.25, 2)}
    built = run.settings("model").build(run.action, run.new_model())
    tuned = {k: built[k].adapted({"step_size": size, "n_steps": n}) for k, (size, n) in settings.items()}
    sampler = joined(tuned, run.config.sampling.repeats)
    assert isinstance(sampler, Cycle)
    assert (sampler.names, sampler.steps) == (HYBRIDS, (1, 2))
    plain, flowed = sampler.kernels
    assert (plain.action, plain.integrator, plain.jitter) == (run.action, "omelyan", 0.1)
    assert (plain.step_size, plain.n_steps, plain.mass) == (0.5, 3, FourierMass(0.7))
    assert type(plain) is type(flowed) is HMC
    assert isinstance(flowed.action, Pullback)
    assert (flowed.step_size, flowed.n_steps, flowed.integrator) == (0.25, 2, "leapfrog")
    assert (flowed.jitter, flowed.mass) == (0.0, None)


def test_the_cheapest_trajectory_length_is_taken(tmp_path):
    """A length of 0.1 moves next to nothing, so that its τ makes it the dearest by far."""
    lengths = [
        "beside.enabled=true",
        "beside.chains=48",
        "beside.thermalisation=30",
        "beside.hmc.fourier_mass=0.5",
    ]
    changes = [*lengths, "beside.hmc.trajectory_length=[0.1, 1.5]", "beside.steps=100"]
    run = Run.create(tmp_path / "run", load_config("phi4-minimal", [*RING, *changes]))
    run.sample_beside()
    info = run.sampling_info("beside")["found"]["hmc"]
    assert info["step_size"] * info["n_steps"] == pytest.approx(1.5)


# --- the way back ---------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process: nothing in the library catches it."""


def after(number):
    calls = []

    def call(*_):
        calls.append(1)
        if len(calls) == number:
            raise Killed

    return call


@pytest.mark.parametrize("which", ["cycle", "without_proposals"])
def test_a_chain_goes_on_bit_for_bit_in_the_middle(request, tmp_path, which):
    found = request.getfixturevalue(which)
    whole = found[0] if isinstance(found, tuple) else found
    groups = ("model", "proposals") if whole.series("proposals") else ("model",)
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    shutil.rmtree(path / "samples.zarr")
    (path / "checkpoints" / "model.safetensors").unlink()
    for number, steps in ((2, 30), (1, 60)):  # the first report is that of the thermalisation
        with pytest.raises(Killed):
            Run.open(path).sample(on_block=after(number))
        assert Run.open(path).sampling_info("model")["steps"] == steps
    Run.open(path).sample()
    assert_same(outcome(path, groups), outcome(whole.path, groups))


# --- the verdict and the page ---------------------------------------------------------------------


def page_of(run, verdict):
    text = write_report(run, verdict).read_text(encoding="utf-8")
    return re.sub(r'base64,[^"]*', "", text)


def test_a_run_without_proposals_is_judged(without_proposals):
    _, verdict = without_proposals
    assert "z2 equivariance of the flow" in {check.name for check in verdict.checks}
    assert verdict.notes == [
        "A step of the model's chain is one trajectory of HMC through the model.",
        "No kernel of the model's chain (HMC through the model) proposes draws of the model, so there are no "
        "weights: the column NIS, log Z and the ESS are left out.",
    ]
    rows = {row.name: row for row in verdict.rows}
    assert "log_z" not in rows
    assert rows["phi_squared"].pulls.keys() == {("model", "beside"), ("model", "exact"), ("beside", "exact")}
    assert verdict.diagnostics["exp_minus_delta_h"] == pytest.approx(1, abs=0.05)
    assert not {"ess", "draws", "pareto_k", "f_q"} & verdict.diagnostics.keys()


def test_a_run_without_proposals_has_its_page(without_proposals):
    run, verdict = without_proposals
    text = page_of(run, verdict)
    assert text.count("No figure") == 1
    assert "HMC through the model) proposes draws" in text
    (table,) = verdict_tables(verdict)
    assert table.head[1] == "HMC through the model"
    assert "reweighted (NIS)" not in table.head
    assert "share their draws" not in table.caption
    assert "model + Metropolis" not in text
    assert "effective sample size" not in text
    assert "one trajectory of HMC through the model" in text
    # what the page draws is the field, whose magnetisation is recorded, and not the latent variables
    drawn = next(iter(stored_configurations(Material(run)).values())).numpy()
    np.testing.assert_allclose(
        drawn.mean(1), run.series("model")["magnetization"][-1, : len(drawn)], rtol=1e-5, atol=1e-6
    )


def test_a_run_without_proposals_is_exported_and_printed(without_proposals, tmp_path):
    run, _ = without_proposals
    assert run.written() == {"model": 65, "beside": 65}
    run.export(tmp_path / "chains.nc")
    with xarray.open_datatree(tmp_path / "chains.nc", engine="h5netcdf") as tree:
        assert set(tree.children) == {"model", "beside"}
    result = CliRunner().invoke(cli.app, ["validate", str(run.path)])
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "HMC through the model HMC exact" in words
    assert "note: No kernel of the model's chain" in words


def test_a_cycle_without_the_model_says_what_moves_it(without_flow):
    run, verdict = without_flow
    assert chain_words(run)["model"].heading == "HMC + sector hops"
    assert "the model's chain has lost its start" in {check.name for check in verdict.checks}
    captions = {plate.name: plate.caption for plate in plates(Material(run))}
    assert "one trajectory of HMC and one hop between sectors" in captions["history"]
    assert captions["topological_charge_weights"].startswith("No figure: ")
    page = page_of(run, verdict)
    for name, label in (("hmc", "cceptance of HMC"), ("hops", "cceptance of sector hops")):
        assert f"{run.series('model')[f'accepted_{name}'].mean():.3f}" in page
        assert label in page
    assert "⟨exp(−ΔH)⟩ of HMC" in page


def test_several_proposals_a_step_are_all_kept(tmp_path):
    """Three draws of each chain a step, side by side; a chain that stops between blocks goes on with them."""
    changes = [*RING, "sampling.proposals.repeat=3", kernels("proposals", "hmc"), "sampling.steps=30"]
    run = sampled(tmp_path / "run", "phi4-minimal", *changes, "sampling.block=10")
    draws = run.series("proposals")
    assert {values.shape[:2] for values in draws.values()} == {(30, 3 * 48)}
    assert validate(run).diagnostics["draws"] == 30 * 3 * 48
    path = tmp_path / "again"
    shutil.copytree(run.path, path)
    shutil.rmtree(path / "samples.zarr")
    (path / "checkpoints" / "model.safetensors").unlink()
    with pytest.raises(Killed):
        Run.open(path).sample(on_block=after(2))
    Run.open(path).sample()
    assert_same(outcome(path, ("model", "proposals")), outcome(run.path, ("model", "proposals")))
