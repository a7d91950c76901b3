"""Configurations of a file in a run: a training on them, chains from there on, and a run's own in a file."""

import numpy as np
import pytest
import torch

from latflow.config import load_config
from latflow.ensembles import read_ensemble, side_car_of, write_ensemble
from latflow.errors import ConfigError, EnsembleError, RunFolderError
from latflow.estimators import estimator_of
from latflow.exports import export
from latflow.runs import Run
from latflow.runs.ensembles import export_configurations, starting_fields
from small_runs import SMALL, assert_same, outcome

TABLE = {"type": "phi4", "lattice": [4, 4], "m2": -4.0, "lam": 8.0}
FIELDS = 0.4 * np.random.default_rng(2).normal(size=(30, 5, 4, 4))


@pytest.fixture
def file(tmp_path):
    write_ensemble(tmp_path / "given.npz", FIELDS, TABLE)
    return tmp_path / "given.npz"


def trained_on(file, *more):
    """A small run that learns from a file."""
    options = f'training.estimator_options={{configurations = "{file}"}}'
    lattice = "action.lattice=[4, 4]"
    return load_config("phi4-quick", [*SMALL, lattice, "training.estimator=forward_kl", options, *more])


class StopError(Exception):
    """In the middle of a training."""


def stop_at(step):
    def watch(record):
        if record.step == step:
            raise StopError

    return watch


def test_a_training_on_a_file_resumes_bit_for_bit(file, tmp_path):
    config = trained_on(file)
    straight, stopped = (Run.create(tmp_path / name, config) for name in ("straight", "stopped"))
    straight.train()
    with pytest.raises(StopError):
        stopped.train(stop_at(9))
    Run.open(stopped.path).train()
    assert_same(outcome(straight.path, ()), outcome(stopped.path, ()))
    assert straight.history()[0]["loss"] != straight.history()[-1]["loss"]


def test_the_best_weights_are_those_of_the_highest_average_over_the_target(file, tmp_path):
    run = Run.create(tmp_path / "run", trained_on(file, "training.learning_rate=0.02"))
    run.train()
    f_q = [record["f_q"] for record in run.history()]
    windows = {step: np.mean(f_q[max(0, step - 6) : step]) for step in (6, 12, 18, 20)}
    best = run.load("best", "step")
    assert best["step"] == max(windows, key=windows.__getitem__)
    assert best["f_q"] == pytest.approx(max(windows.values()))


def test_a_changed_file_is_refused_when_a_training_goes_on(file, tmp_path):
    run = Run.create(tmp_path / "run", trained_on(file))
    assert run.info["ensembles"] == {str(file): read_ensemble(file, run.action).digest}
    with pytest.raises(StopError):
        run.train(stop_at(9))
    write_ensemble(file, FIELDS[::-1], TABLE)
    with pytest.raises(EnsembleError, match="has changed since the training began"):
        Run.open(run.path).train()
    write_ensemble(file, FIELDS, TABLE)
    Run.open(run.path).train()
    file.unlink()
    Run.open(run.path).sample()  # what is trained needs the file no more


def test_a_training_without_a_fitting_file_is_refused_before_there_is_a_folder(file, tmp_path):
    with pytest.raises(
        ConfigError, match=r"training.estimator: expected estimator_options = \{ configurations"
    ):
        load_config("phi4-quick", [*SMALL, "training.estimator=forward_kl"])
    for config, expected in (
        (trained_on(tmp_path / "none.npz"), "expected a file of configurations"),
        (trained_on(file, "action.lattice=[6, 6]"), r"\(number, 6, 6\)"),
    ):
        with pytest.raises(ConfigError, match=f"training.estimator_options: .*{expected}"):
            Run.create(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_file_is_named_relative_to_the_configuration(file):
    text = (
        '[action]\ntype = "phi4"\nlattice = [4, 4]\nm2 = -4.0\nlam = 8.0\n[model]\ntype = "affine"\n'
        '[training]\nestimator = "forward_kl"\nestimator_options = { configurations = "given.npz" }\n'
        '[beside]\nstart = "given.npz"\n'
    )
    (file.parent / "mine.toml").write_text(text)
    config = load_config(file.parent / "mine.toml")
    assert config.training.estimator_options["configurations"] == str(file.resolve())
    assert config.beside.start == str(file.resolve())
    assert config.table()["beside"]["start"] == str(file.resolve())


def test_batches_are_drawn_by_the_generator_in_the_precision_of_the_model(file):
    config = trained_on(file)
    estimator = estimator_of("forward_kl", config.training.estimator_options)
    action, model = config.action.build(), config.model.build(lattice=(4, 4))
    generator = torch.Generator().manual_seed(1)
    first = estimator(model, action, 7, generator)
    assert estimator.configurations.dtype == torch.float32
    again = estimator(model, action, 7, torch.Generator().manual_seed(1))
    assert torch.equal(first.log_weight, again.log_weight)


def test_chains_start_at_the_last_configurations(file, tmp_path):
    changes = [*SMALL, "action.lattice=[4, 4]", f"beside.start={file}", "beside.chains=8", "training.steps=1"]
    config = load_config("phi4-quick", changes)
    fields, known = starting_fields(config.beside, config.action.build())
    np.testing.assert_array_equal(fields[:5].numpy(), FIELDS[29])
    np.testing.assert_array_equal(fields[5:].numpy(), FIELDS[14, :3])
    assert list(known) == [str(file)]
    run = Run.create(tmp_path / "run", config)
    run.sample_beside()
    assert run.series("beside")["phi_squared"].shape == (25, 8)
    usual = load_config("phi4-quick", [change for change in changes if "start" not in change])
    elsewhere = Run.create(tmp_path / "other", usual)
    elsewhere.sample_beside()
    one, other = (each.series("beside")["phi_squared"] for each in (run, elsewhere))
    assert not np.array_equal(one, other)
    with pytest.raises(ConfigError, match=r"beside\.start: .*at least 200 configurations"):
        Run.create(tmp_path / "many", load_config("phi4-quick", [*changes, "beside.chains=200"]))


def test_the_configurations_of_a_run_are_written_and_read(tmp_path):
    alone = [one for one in SMALL if one.startswith(("name", "beside", "compute"))]
    changes = [*alone, "model=null", "sampling.save_fields=true"]
    run = Run.create(tmp_path / "run", load_config("phi4-quick", changes))
    run.sample_beside()
    export(run, tmp_path / "out.npz", "configurations")
    side_car = side_car_of(tmp_path / "out.npz")
    assert dict(side_car.action) == run.config.action.table()
    found = read_ensemble(tmp_path / "out.npz", run.action)
    np.testing.assert_array_equal(found.fields.numpy(), run.series("beside")["field"])
    run.export(tmp_path / "out.nc")
    for other in (run.path, tmp_path / "out.nc"):  # the folder itself, as it grows, and all of its chains
        assert torch.equal(read_ensemble(other, run.action).fields, found.fields)
    with pytest.raises(RunFolderError, match="holds no chain 'model'"):
        export_configurations(run, tmp_path / "model.npz", "model")
