"""What leaves a run is opened by the readers of others, which find the same values, errors and τ."""

import errno
import json
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import xarray
from typer.testing import CliRunner

import latflow as lf
from cases import thinned
from latflow import cli, storage
from latflow.analysis.autocorrelation import load_pyerrors
from latflow.config import load_config
from latflow.observables import Observable
from latflow.runs import Run
from latflow.workflow import judged
from small_runs import SMALL
from small_spin_runs import sampled_spins

LONGER = [
    "training.steps=150",
    "sampling.steps=300",
    "sampling.block=100",
    "beside.steps=300",
    "beside.block=100",
]
OF_WAY = {"model": "model", "weights": "draws", "beside": "beside"}
"""What the file for pyerrors calls the ways to know a number."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a model and of HMC beside it, four chains each, and a name with letters of all kinds."""
    changes = [*SMALL, *LONGER, "name=φ4.a+b-1"]
    path = tmp_path_factory.mktemp("exports") / "a run | of φ"
    opened = Run.create(path, load_config("phi4-quick", changes))
    opened.train()
    opened.sample()
    opened.sample_beside()
    return opened


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of HMC without a model, of one chain."""
    changes = ["model=null", "beside.chains=1", "beside.steps=600", "beside.block=200"]
    path = tmp_path_factory.mktemp("exports") / "alone"
    opened = Run.create(path, load_config("phi4-quick", changes))
    opened.sample_beside()
    return opened


@dataclass(frozen=True)
class Signed(lf.actions.Phi4):
    """φ⁴ whose averages are reweighted with a sign, that of φ at one site or nearly so."""

    @property
    def reweighting(self):
        return "sigma"

    def own_observables(self):
        def sigma(x):
            return torch.where(x[:, 0, 0] > -0.3, 1.0, -1.0)

        return (Observable("sigma", "⟨σ⟩", sigma, reweighted=False, symbol="σ"),)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A run of a theory with a sign, beside and by weighted draws."""
    path = tmp_path_factory.mktemp("exports") / "signed"
    chain = {"steps": 300, "chains": 4, "thermalisation": 20}
    action = Signed((4, 4), m2=1.0, lam=0.5)
    flow = lf.flows.affine_flow((4, 4), layers=2, hidden=(4,))
    training = {"steps": 100, "batch": 64, "learning_rate": 0.01, "estimator": "path_gradient"}
    opened = Run.of(action, flow, path, training=training, sampling=chain, beside=chain)
    opened.train()
    opened.sample()
    opened.sample_beside()
    return opened


def loaded(file):
    """The dictionary of a file, and its list."""
    reader = load_pyerrors().input.json
    return reader.load_json_dict(str(file), verbose=False), reader.load_json(str(file), verbose=False)


def analysed(obs):
    """An `Obs` after the Γ-method as its tag says."""
    obs.gamma_method(**obs.tag["gamma_method"])
    return obs


def tau(obs):
    """τ of the only ensemble."""
    (name,) = obs.e_names
    return obs.e_tauint[name]


# pyerrors


@pytest.fixture(scope="module")
def spins(tmp_path_factory):
    """A run of spins, whose table has F/V and the entropy."""
    return sampled_spins(tmp_path_factory.mktemp("exports") / "spins")


@pytest.mark.parametrize(
    "which", ["alone", "spins", *(pytest.param(one, marks=pytest.mark.slow) for one in ("run", "signed"))]
)
def test_pyerrors_finds_the_results_of_the_table(which, tmp_path, request):
    run = request.getfixturevalue(which)
    lf.export(run, tmp_path / "chains.json.gz")
    found, listed = loaded(tmp_path / "chains.json.gz")
    counted, verdict = 0, judged(run)
    for name, group in OF_WAY.items():
        way = verdict.way(name)
        assert (way is None) == (group not in found)
        for key, expected in way.measurements.items() if way is not None else ():
            obs = analysed(found[group]["results"][key])
            counted += 1
            assert obs.value == pytest.approx(expected.value, rel=1e-12, abs=1e-14)
            assert obs.dvalue == pytest.approx(expected.error, rel=1e-10)
            assert obs.tag["value"] == expected.value
            assert obs.tag["error"] == expected.error
            if expected.tau_int is None or expected.tau_int < 0.5:
                continue  # pyerrors knows no chain that alternates: its error alone is met
            if which == "alone":
                assert tau(obs) == pytest.approx(expected.tau_int, rel=1e-9)
                assert obs.tag["scale"] == pytest.approx(1.0, rel=1e-9)
            else:  # about the mean of each chain, to which it is closer than to that of all
                assert tau(obs) == pytest.approx(expected.tau_int, abs=3 * expected.tau_int_error)
                assert 1.0 - 1e-9 < obs.tag["scale"] < 1.3
    assert counted >= 8
    assert len(listed) > counted


@pytest.mark.slow
def test_a_count_that_never_varied_keeps_its_error(tmp_path):
    """Of U(1) links so stiff that no charge but zero occurs: one count of 2τ/N, in what is made of it."""
    action = lf.actions.U1Gauge((4, 4), beta=40.0)
    opened = Run.of(action, None, tmp_path / "frozen", beside={"steps": 50, "chains": 2, "kernels": "hmc"})
    opened.sample_beside()
    assert not opened.series("beside")["topological_charge"].any()
    lf.export(opened, tmp_path / "chains.json.gz")
    results = loaded(tmp_path / "chains.json.gz")[0]["beside"]["results"]
    charge, squared = analysed(results["charge"]), analysed(results["charge_squared"])
    error = charge.tag["error"]
    assert error >= 1 / 100
    assert (charge.value, charge.dvalue) == (0.0, pytest.approx(error, rel=1e-12))
    twice = 2 * charge + squared  # two inputs, whose errors are independent
    twice.gamma_method()
    assert twice.dvalue == pytest.approx(math.hypot(2 * error, squared.tag["error"]), rel=1e-12)


def test_pyerrors_finds_the_series_of_one_chain(alone, tmp_path):
    lf.export(alone, tmp_path / "chains.json.gz")
    found, _ = loaded(tmp_path / "chains.json.gz")
    recorded = alone.series("beside")
    for name in ("phi_squared", "magnetization", "action"):
        expected, obs = lf.analysis.measure(recorded[name]), analysed(found["beside"]["series"][name])
        assert obs.value == pytest.approx(expected.value, rel=1e-12)
        assert obs.dvalue == pytest.approx(expected.error, rel=1e-10)
        assert tau(obs) == pytest.approx(expected.tau_int, rel=1e-10)
        (replica,) = obs.names
        np.testing.assert_allclose(obs.deltas[replica] + obs.value, recorded[name][:, 0], rtol=1e-6)


def test_names_numbers_and_origin(run, tmp_path):
    lf.export(run, tmp_path / "chains.json.gz")
    found, _ = loaded(tmp_path / "chains.json.gz")
    for group, replica in (("model", 4), ("beside", 4), ("draws", 1)):
        obs = found[group]["series"]["phi_squared"]
        ((ensemble, names),) = obs.e_content.items()
        assert ensemble.startswith(f"φ4.a+b-1-{group}-")
        assert names == [f"{ensemble}|r{i}" for i in range(replica)]
        assert {tuple(numbers) for numbers in obs.idl.values()} == {
            tuple(range(1, 1 + (300 if replica > 1 else run.series("proposals")["action"].size)))
        }
    reader = load_pyerrors().input.json
    full = reader.load_json(str(tmp_path / "chains.json.gz"), verbose=False, full_output=True)
    origin = full["description"]["description"]
    assert origin["couplings"] == {"m2": run.action.m2, "lam": run.action.lam}
    assert origin["seed"] == 1
    assert origin["versions"]["latflow"] == lf.__version__
    assert "[action]" in origin["configuration"]
    assert origin["versions"].get("commit") == run.info.get("commit")


def test_a_chain_keeps_its_name_as_it_grows_and_another_has_another(tmp_path):
    def ensemble(path, *changes):
        opened = Run.create_or_resume(path, load_config("phi4-quick", ["model=null", *SMALL_HMC, *changes]))
        opened.sample_beside()
        lf.export(opened, tmp_path / "c.json.gz", overwrite=True)
        return loaded(tmp_path / "c.json.gz")[0]["beside"]["series"]["action"].e_names

    first = ensemble(tmp_path / "one")
    assert ensemble(tmp_path / "one", "beside.steps=60") == first
    assert ensemble(tmp_path / "two", "seed=2") != first


SMALL_HMC = ["beside.steps=30", "beside.chains=3", "beside.thermalisation=15", "beside.block=10"]


@pytest.mark.parametrize("which", thinned(["run", "signed"], 2))
def test_pyerrors_reweights_draws_and_signs_to_the_results(which, tmp_path, request):
    """⟨wO⟩/⟨w⟩ by pyerrors from the series is the row of the table, and log⟨w⟩ is log Z."""
    run, pyerrors = request.getfixturevalue(which), load_pyerrors()
    lf.export(run, tmp_path / "chains.json.gz")
    found, _ = loaded(tmp_path / "chains.json.gz")
    draws = found["draws"]
    weight = draws["series"]["weight"]
    log_z = weight.tag["log_scale"] + np.log(weight)
    log_z.gamma_method(S=0)
    expected = analysed(draws["results"]["log_z"])
    assert log_z.value == pytest.approx(expected.value, rel=1e-12)
    assert log_z.dvalue == pytest.approx(expected.dvalue, rel=1e-10)
    if which == "signed":
        chain = found["beside"]
        reweighted = pyerrors.reweight(chain["series"]["sigma"], [chain["series"]["phi_squared"]])[0]
        expected = analysed(chain["results"]["phi_squared"])
        assert expected.reweighted
        assert not chain["results"]["sigma"].reweighted
        reweighted.gamma_method(**expected.tag["gamma_method"])
        # of four chains, without the factor for the means of each
        assert reweighted.value == pytest.approx(expected.value, rel=1e-12)
        assert reweighted.dvalue * expected.tag["scale"] == pytest.approx(expected.dvalue, rel=1e-6)
        return
    reweighted = pyerrors.reweight(weight, [draws["series"]["phi_squared"]])[0]
    reweighted.gamma_method(S=0)
    expected = analysed(draws["results"]["phi_squared"])
    assert reweighted.value == pytest.approx(expected.value, rel=1e-12)
    assert reweighted.dvalue == pytest.approx(expected.dvalue, rel=1e-10)


def test_a_correlator_gives_the_effective_mass(run, tmp_path):
    lf.export(run, tmp_path / "chains.json.gz", chain="beside")
    found, _ = loaded(tmp_path / "chains.json.gz")
    assert list(found) == ["beside"]
    correlator = found["beside"]["series"]["two_point"]
    assert correlator.shape == (3,)
    mass = np.arccosh((correlator[0] + correlator[2]) / (2 * correlator[1]))
    expected = analysed(found["beside"]["results"]["effective_mass_1"])
    mass.gamma_method(**expected.tag["gamma_method"])
    assert mass.value == pytest.approx(expected.value, rel=1e-12)
    # the gradient of one is exact, that of the other a difference over a tenth of the error
    assert mass.dvalue * expected.tag["scale"] == pytest.approx(expected.dvalue, rel=1e-2)


# ArviZ, xarray, NumPy


@pytest.mark.parametrize("chain", [None, "model", "beside"])
def test_the_file_for_arviz_has_its_groups(run, tmp_path, chain):
    lf.export(run, tmp_path / "chain.nc", "arviz", chain)
    recorded = run.series(chain or "model")
    with xarray.open_dataset(tmp_path / "chain.nc", group="posterior") as posterior:
        assert posterior["phi_squared"].dims == ("chain", "draw")
        assert posterior["two_point"].dims == ("chain", "draw", "time")
        np.testing.assert_array_equal(posterior["phi_squared"], recorded["phi_squared"].T)
        assert list(posterior["draw"].to_numpy()) == list(range(300))
        assert json.loads(posterior.attrs["origin"])["seed"] == 1
        assert "accepted" not in posterior
    with xarray.open_dataset(tmp_path / "chain.nc", group="sample_stats") as stats:
        np.testing.assert_array_equal(stats["lp"], -recorded["action"].T)
        np.testing.assert_array_equal(stats["accepted"], recorded["accepted"].T)


def test_arviz_opens_it_and_knows_a_chain_of_known_tau(run, tmp_path, monkeypatch):
    """AR(1): x′ = ρ x + √(1−ρ²) ξ has τ = (1+ρ)/(2(1−ρ)), ESS = N/2τ, and R̂ = 1 + O(τ/steps)."""
    arviz = arviz_or_skip()
    rho, recorded = 0.6, run.series("beside")
    noise = np.random.default_rng(1).standard_normal(recorded["phi_squared"].shape)
    x = noise.copy()
    for i in range(1, len(x)):
        x[i] = rho * x[i - 1] + math.sqrt(1 - rho**2) * noise[i]
    monkeypatch.setattr(run, "series", lambda _: recorded | {"phi_squared": x}, raising=False)
    lf.export(run, tmp_path / "chain.nc", "arviz", "beside")
    opened = arviz.from_netcdf(tmp_path / "chain.nc")
    exact = x.size * (1 - rho) / (1 + rho)
    found = arviz.ess(opened, var_names=["phi_squared"], method="mean")["phi_squared"].item()
    # τ of N = 1200 numbers is known to √(4 W/N), with windows of up to 12 a fifth: here half of five such
    assert found == pytest.approx(exact, rel=0.5)
    measured = lf.analysis.measure(x)
    error = arviz.mcse(opened, var_names=["phi_squared"])["phi_squared"].item()
    assert error == pytest.approx(measured.error, rel=0.3)
    assert arviz.rhat(opened, var_names=["phi_squared"])["phi_squared"].item() < 1.05


def arviz_or_skip():
    """ArviZ, which announces changes of its own when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz", reason="ArviZ is not installed: pip install 'latflow[arviz]'")


def test_arviz_reads_a_run_without_a_model(alone, tmp_path):
    arviz = arviz_or_skip()
    lf.export(alone, tmp_path / "chain.nc", "arviz")
    mean = arviz.from_netcdf(tmp_path / "chain.nc").posterior["action"].mean().item()
    assert mean == pytest.approx(lf.analysis.measure(alone.series("beside")["action"]).value)


@pytest.mark.parametrize("where", ["zarr", "nc", "h5"])
def test_xarray_finds_the_same(run, tmp_path, where):
    if where == "zarr":
        opened = xarray.open_zarr(run.path / "samples.zarr", group="beside", chunks=None)
    else:
        lf.export(run, tmp_path / f"chains.{where}")
        opened = xarray.open_dataset(tmp_path / f"chains.{where}", group="beside", engine="h5netcdf")
    with opened:
        assert opened["action"].dims == ("step", "chain")
        found = lf.analysis.measure(opened["action"].to_numpy())
    assert found == lf.analysis.measure(run.series("beside")["action"])


def test_numpy_reads_series_without_pickles(run, tmp_path):
    lf.export(run, tmp_path / "series.npz")
    with np.load(tmp_path / "series.npz", allow_pickle=False) as opened:
        for group in run.written():
            for name, values in run.series(group).items():
                np.testing.assert_array_equal(opened[f"{group}/{name}"], values)
        assert json.loads(str(opened["origin"]))["run"] == "φ4.a+b-1"


# whole or not at all


@pytest.mark.parametrize(
    ("file", "options"),
    [("c.nc", []), ("c.npz", []), ("c.json.gz", []), ("a.nc", ["--to", "arviz"]), ("r.zip", [])],
)
def test_a_full_disk_leaves_what_was_there(run, tmp_path, monkeypatch, file, options):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def latflow(*more):
        return CliRunner().invoke(cli.app, ["export", str(run.path), str(tmp_path / file), *options, *more])

    monkeypatch.setattr(storage, "reach_disk", full)
    assert latflow().exit_code == 74
    assert list(tmp_path.iterdir()) == []
    (tmp_path / file).write_text("precious")
    assert latflow("--overwrite").exit_code == 74
    assert latflow().exit_code == 2
    assert (tmp_path / file).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("c.csv", [], r"ends in \.nc, \.h5, \.hdf5, \.npz, \.json\.gz"),
        ("c.h5", ["--to", "arviz"], r"ends in \.nc, got 'c\.h5'"),
        ("c.nc", ["--to", "matlab"], "expected a format out of netcdf, .*arviz.*, got 'matlab'"),
        ("c.nc", ["--chain", "model"], "expected a chain out of beside in .*, got 'model'"),
    ],
)
def test_what_is_refused(alone, tmp_path, file, options, message):
    result = CliRunner().invoke(cli.app, ["export", str(alone.path), str(tmp_path / file), *options])
    assert result.exit_code == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(result.stderr)
    assert list(tmp_path.iterdir()) == []
