"""Runs whose chain other kernels move than proposals alone: physics, the way back, verdict and page."""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import xarray
from typer.testing import CliRunner

from latflow import cli
from latflow.config import load_config
from latflow.report import write_report
from latflow.report.common_plates import stored_configurations
from latflow.report.diagnostics import diagnostics_table
from latflow.report.material import Material
from latflow.report.plates import plates
from latflow.report.tables import headline, verdict_tables
from latflow.runs import Run
from latflow.runs import kernels as running
from latflow.samplers import HMC, Cycle, FlowedHMC, FourierMass, tune_step_size
from latflow.validation import names_of, validate
from small_runs import assert_same, outcome

RING = [
    "name=ring", "action.lattice=[6]", "flow.kernel=3", "training.steps=30", "training.batch=32",
    "training.schedule.warmup=5", "reference.correlation_length=null",
    "reference.V_magnetization_squared=null", "sampling.steps=65", "sampling.chains=48",
    "sampling.thermalisation=10", "sampling.block=30", "hmc.enabled=false", "hmc.trajectory_length=1.0",
    "compute.threads=1",
]  # fmt: skip
"""Changes to the preset phi4-minimal: ⟨φ²⟩ and log Z on a ring are known by its transfer matrix."""

LINKS = [
    "name=links", "action.lattice=[4, 4]", "action.beta=0.5", "flow.layers=1", "flow.hidden=[2]",
    "flow.dilation=1", "training.steps=2", "training.batch=16", "sampling.steps=80", "sampling.chains=32",
    "sampling.thermalisation=10", "sampling.block=40", "hmc.enabled=false", "compute.threads=1",
]  # fmt: skip
"""Changes to the preset u1, so that its flow is all but untrained."""

HYBRIDS = ("hmc", "flowed_hmc")


@pytest.fixture(scope="module", autouse=True)
def _quick_tuning():
    """An eighth of the trajectories, after which steps need not be the best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "tune_step_size", partial(tune_step_size, rounds=5, trajectories=4))
        patch.setattr(running, "_LEAST_TRAJECTORIES", 60)
        yield


def kernels(*names):
    return f"sampling.kernels={list(names)}"


def sampled(path, preset, *changes):
    run = Run.create(path, load_config(preset, changes))
    run.train()
    run.sample()
    run.sample_hmc()
    return run


@pytest.fixture(scope="module")
def cycle(tmp_path_factory):
    """Three kernels on the ring; tests read it only."""
    path = tmp_path_factory.mktemp("cycle") / "run"
    return sampled(path, "phi4-minimal", *RING, kernels("hmc", "flowed_hmc", "proposals"))


@pytest.fixture(scope="module")
def without_proposals(tmp_path_factory):
    """HMC through the flow, beside plain HMC on the ring; tests read it only."""
    beside = ["hmc.enabled=true", "hmc.steps=65", "hmc.chains=48", "hmc.thermalisation=10"]
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
    series, draws = run.series("flow"), run.series("proposals")
    if len(names) > 1:
        assert {name for name in series if name.startswith("accepted_")} == {f"accepted_{n}" for n in names}
        for name in names:
            share = series[f"accepted_{name}"].mean()
            assert 0.01 < share <= 1
            assert verdict.diagnostics[f"acceptance_{name}"] == pytest.approx(share)
    assert bool(draws) == ("proposals" in names) == ("ess" in verdict.diagnostics)
    for row in verdict.rows:
        assert (row.nis is not None) == ("proposals" in names), row
    tuned = run.sampling_info("flow").get("trajectories", {})
    assert set(tuned) == set(names) & set(HYBRIDS)
    for name, one in tuned.items():
        share = series["accepted" if len(names) == 1 else f"accepted_{name}"].mean()
        assert 0.5 < share < 0.99, (name, one)


# --- the numbers are those of the exact solution --------------------------------------------------


def test_a_cycle_samples_the_ring(cycle):
    verdict = validate(cycle)
    check_kernels(cycle, verdict, "hmc", "flowed_hmc", "proposals")
    rows = {row.name: row for row in verdict.rows}
    assert {"flow-exact", "nis-exact"} <= rows["phi_squared"].pulls.keys()
    assert rows["phi_squared"].flow.error < 0.02 * rows["phi_squared"].flow.value
    assert rows["log_z"].pulls.keys() == {"nis-exact"}


def test_each_hmc_alone_samples_the_ring(tmp_path, without_proposals):
    check_kernels(*without_proposals, "flowed_hmc")
    run = sampled(tmp_path / "run", "phi4-minimal", *RING, kernels("hmc"))
    check_kernels(run, validate(run), "hmc")
    assert names_of(run.action, run.config).heading == "HMC (kernel chain)"  # another column than HMC's


def test_hops_and_hmc_sample_links(without_flow):
    run, verdict = without_flow
    check_kernels(run, verdict, "hmc", "hops")
    rows = {row.name: row for row in verdict.rows}
    for name in ("plaquette", "charge_squared", "P_charge_1"):
        assert "flow-exact" in rows[name].pulls
    assert rows["plaquette"].flow.error < 0.02
    assert rows["charge_squared"].flow.error < 0.1 * rows["charge_squared"].flow.value


@pytest.mark.parametrize(
    "names", [("proposals", "hops"), ("proposals", "hmc", "flowed_hmc", "hops")], ids=", ".join
)
def test_proposals_and_other_kernels_sample_links(tmp_path, names):
    run = sampled(tmp_path / "run", "u1", *LINKS, kernels(*names))
    check_kernels(run, validate(run), *names)


def test_raw_draws_of_a_cycle_are_not_what_its_chain_holds(cycle):
    flow, draws = cycle.series("flow"), cycle.series("proposals")
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
        kernels("hmc", "flowed_hmc"), "hmc.fourier_mass=0.7", "hmc.trajectory_length=1.5",
        "hmc.integrator=omelyan", "hmc.jitter=0.1", "sampling.flowed_hmc.trajectory_length=0.5",
        "sampling.flowed_hmc.jitter=0.0",
    ]  # fmt: skip
    run = Run.create(tmp_path / "run", load_config("phi4-minimal", [*RING, *changes]))
    settings = {"hmc": (0.5, 3), "flowed_hmc": (0.25, 2)}
    tuned = {name: {"step_size": size, "n_steps": n} for name, (size, n) in settings.items()}
    sampler = running.assembled(run.config, run.new_flow(), tuned)
    assert isinstance(sampler, Cycle)
    assert sampler.names == HYBRIDS
    plain, flowed = sampler.kernels
    assert type(plain) is HMC
    assert type(flowed) is FlowedHMC
    assert plain == HMC(run.action, 0.5, 3, "omelyan", 0.1, FourierMass(0.7))
    assert (flowed.step_size, flowed.n_steps, flowed.integrator) == (0.25, 2, "leapfrog")
    assert (flowed.jitter, flowed.mass) == (0.0, None)


def test_the_cheapest_trajectory_length_is_taken(tmp_path):
    """A length of 0.1 moves next to nothing, so that its τ makes it the dearest by far."""
    lengths = ["hmc.enabled=true", "hmc.chains=48", "hmc.thermalisation=30", "hmc.fourier_mass=0.5"]
    changes = [*lengths, "hmc.trajectory_length=[0.1, 1.5]", "hmc.steps=100"]
    run = Run.create(tmp_path / "run", load_config("phi4-minimal", [*RING, *changes]))
    run.sample_hmc()
    info = run.sampling_info("hmc")
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
    groups = ("flow", "proposals") if whole.config.sampling.proposes else ("flow",)
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    shutil.rmtree(path / "samples.zarr")
    (path / "checkpoints" / "flow.safetensors").unlink()
    for number, steps in ((2, 30), (1, 60)):  # the first report is that of the thermalisation
        with pytest.raises(Killed):
            Run.open(path).sample(on_block=after(number))
        assert Run.open(path).sampling_info("flow")["steps"] == steps
    Run.open(path).sample()
    assert_same(outcome(path, groups), outcome(whole.path, groups))


# --- the verdict and the page ---------------------------------------------------------------------


def page_of(run, verdict):
    results = json.loads(json.dumps(verdict.as_dict()))
    text = write_report(run, results).read_text(encoding="utf-8")
    return results, re.sub(r'base64,[^"]*', "", text)


def test_a_run_without_proposals_is_judged(without_proposals):
    _, verdict = without_proposals
    assert "Z₂ of the flow" in {check.name for check in verdict.checks}
    assert verdict.notes == [
        "A step of the flow chain is one trajectory of HMC through the flow.",
        "No kernel of the chain (HMC through the flow) proposes draws of the flow, so there are no weights: "
        "the column NIS, log Z and the ESS are left out.",
    ]
    rows = {row.name: row for row in verdict.rows}
    assert "log_z" not in rows
    assert rows["phi_squared"].pulls.keys() == {"flow-hmc", "flow-exact", "hmc-exact"}
    assert verdict.diagnostics["exp_minus_delta_h"] == pytest.approx(1, abs=0.05)
    assert not {"ess", "draws", "pareto_k", "f_q"} & verdict.diagnostics.keys()


def test_a_run_without_proposals_has_its_page(without_proposals):
    run, verdict = without_proposals
    results, text = page_of(run, verdict)
    assert text.count("No figure") == 1
    assert "No figure: no kernel of the chain (HMC through the flow) proposes draws" in text
    (table,) = verdict_tables(results)
    assert table.head[1] == "HMC through the flow"
    assert "reweighted (NIS)" not in table.head
    assert "share their draws" not in table.caption
    assert "flow + Metropolis" not in text
    assert "effective sample size" not in text
    assert "A step is one trajectory of HMC through the flow, or one trajectory of HMC." in text
    # what the page draws is the field, whose magnetisation is recorded, and not the latent variables
    drawn = stored_configurations(Material(run))["flow chain"]
    np.testing.assert_allclose(
        drawn.mean(1), run.series("flow")["magnetization"][-1, : len(drawn)], rtol=1e-5, atol=1e-6
    )


def test_a_run_without_proposals_is_exported_and_printed(without_proposals, tmp_path):
    run, _ = without_proposals
    assert run.written() == {"flow": 65, "hmc": 65}
    run.export(tmp_path / "chains.nc")
    with xarray.open_datatree(tmp_path / "chains.nc", engine="h5netcdf") as tree:
        assert set(tree.children) == {"flow", "hmc"}
    result = CliRunner().invoke(cli.app, ["validate", str(run.path)])
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "flow-MCMC HMC exact" in words
    assert "note: No kernel of the chain" in words


def test_a_cycle_without_the_flow_is_not_called_its_chain(without_flow):
    run, verdict = without_flow
    names = names_of(run.action, run.config)
    assert (names.chain, names.heading) == ("kernel chain", "HMC + sector hops")
    assert "the kernel's chain has lost its start" in {check.name for check in verdict.checks}
    results = json.loads(json.dumps(verdict.as_dict()))
    captions = {plate.name: plate.caption for plate in plates(Material(run))}
    assert "flow chain" not in str(captions)
    assert "A step is a cycle of one trajectory of HMC and one hop between sectors" in captions["history"]
    assert captions["sectors"].startswith("No figure: no kernel of the chain (HMC + sector hops) proposes")
    found = [(cell.text, cell.note) for cell in headline(results)]
    for name, label in (("hmc", "acceptance of HMC"), ("hops", "acceptance of sector hops")):
        assert (f"{run.series('flow')[f'accepted_{name}'].mean():.3f}", label) in found
    table = diagnostics_table(results)
    assert table is not None
    labels = [row[0].text for row in table.rows]
    assert {"Acceptance of HMC", "Acceptance of sector hops", "⟨exp(−ΔH)⟩ of HMC"} <= set(labels)
    assert "Tunnelling of the kernel chain" in labels
