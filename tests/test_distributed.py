"""Several processes: the gradient of the whole batch, one history, chains of each, and a common end."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Generator
from typer.testing import CliRunner

from cases import GENERAL_ESTIMATORS
from latflow.cli import app
from latflow.errors import CheckpointError, ProcessError
from latflow.observables import recorded
from latflow.runs import Run
from latflow.runs.sampling import begun
from latflow.samplers import run_blocks, thermalise
from latflow.storage import load_tree
from latflow.training import World, joined
from small_runs import SMALL, assert_same, outcome, visible_steps
from two_processes import ACTION, BATCH, SUB_BATCHES, build, configurations, work

LIMIT = 180
"""Seconds for what takes ten on an idle machine."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes did what tests/two_processes.py says."""
    path = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # as torchrun does
        patch.setenv("OMP_WAIT_POLICY", "passive")  # as the command line does
        processes = torch.multiprocessing.spawn(work, (path,), nprocs=2, join=False)
        deadline = time.monotonic() + LIMIT
        try:
            while not processes.join(timeout=1):
                assert time.monotonic() < deadline, "the processes wait for each other"
        finally:
            for process in processes.processes:
                process.kill()
    return path


@pytest.fixture(scope="module")
def both(folder):
    """What each of the two processes saw."""
    return [load_tree(folder / f"process{rank}.safetensors") for rank in (0, 1)]


def without_time(record):
    return {name: "nan" if value != value else value for name, value in record.items() if name != "seconds"}


def slow_gradient(name, states):
    """The estimate from the draws that each process made, with their log-weights: draw by draw, by hand."""
    flow, fixed = build(seed=0), build(seed=0).requires_grad_(False)
    generators = [Generator(), Generator()]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    z = torch.cat([flow.prior.sample(BATCH // 2, generator) for generator in generators])
    x, log_det = flow.forward(z)
    log_q = flow.prior.log_prob(z) - log_det
    s = log_q + ACTION(x)
    n = len(s)
    if name == "reparametrization":
        loss = s.sum() / n
    elif name == "path_gradient":
        loss = (fixed.log_prob(x) + ACTION(x)).sum() / n
    elif name == "forward_path":
        leaf = x.detach().requires_grad_()
        (along,) = torch.autograd.grad(-(fixed.log_prob(leaf) + ACTION(leaf)).sum(), leaf)
        w = (n * torch.softmax(-s.detach(), 0)).clamp(max=20.0)
        shorter = (2.0 * along[0].numel() ** 0.5 / along.flatten(1).norm(dim=1)).clamp(max=1.0)
        loss = -((w + 0.3 * shorter) * (along * x).flatten(1).sum(1)).sum() / n
    else:
        loss, signal_of = torch.zeros((), dtype=torch.float64), s.detach()
        for i in range(n):
            others = (signal_of.sum() - signal_of[i]) / (n - 1)
            baseline = {"score": 0.0, "reinforce": signal_of.mean(), "reinforce_leave_one_out": others}[name]
            loss = loss + flow.log_prob(x[i : i + 1].detach())[0] * (signal_of[i] - baseline) / n
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
    return gradient, -s.detach()


@pytest.mark.parametrize("sub_batch", SUB_BATCHES)
@pytest.mark.parametrize("name", GENERAL_ESTIMATORS)
def test_the_gradient_is_that_of_all_draws(both, name, sub_batch):
    found = [one["gradients"][f"{name} {sub_batch}"] for one in both]
    gradient, log_weight = slow_gradient(name, [one["generator"] for one in found])
    scale = gradient.abs().max().item()
    assert scale > 1e-3
    for one in found:
        torch.testing.assert_close(one["gradient"], gradient, rtol=0, atol=1e-11 * scale)
    assert torch.equal(found[0]["gradient"], found[1]["gradient"])
    weight = log_weight.exp()
    for record in (one["record"] for one in found):
        assert record["f_q"] == pytest.approx(-log_weight.mean().item(), rel=1e-11)
        assert record["f_q_std"] == pytest.approx(log_weight.std(correction=0).item(), rel=1e-11)
        ess = weight.sum() ** 2 / weight.square().sum() / BATCH
        assert record["ess"] == pytest.approx(ess.item(), rel=1e-11)
        assert record["grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-11)
    if name == "reparametrization":
        assert found[0]["record"]["loss"] == pytest.approx(-log_weight.mean().item(), rel=1e-11)


def test_no_two_processes_draw_the_same(both):
    first, second = (one["gradients"][f"score {BATCH}"]["generator"] for one in both)
    assert torch.equal(first, Generator().manual_seed(5).get_state())
    generators = [Generator(), Generator()]
    for generator, state in zip(generators, (first, second), strict=True):
        generator.set_state(state)
    draws = [torch.randn(1000, generator=generator) for generator in generators]
    # the correlation of a thousand independent pairs is 0 ± 0.032
    assert abs(torch.corrcoef(torch.stack(draws))[0, 1]) < 5 / 1000**0.5


def test_weights_stay_equal_to_the_last_bit(both):
    for name, first in both[0]["steps"].items():
        second = both[1]["steps"][name]
        assert torch.equal(first["weights"], second["weights"]), name
        assert first["weights"].isfinite().all(), name
        assert [without_time(one) for one in first["records"]] == [
            without_time(one) for one in second["records"]
        ], name


def test_a_step_that_is_not_finite_in_one_process_is_skipped_by_all(both):
    skipped = [record["skipped"] for record in both[0]["steps"]["faulty"]["records"]]
    assert skipped == [False, True, False, True, False]


def test_state_goes_on_to_the_last_bit(both):
    for one in both:
        assert torch.equal(one["states"]["resumed"], one["states"]["whole"])
        assert one["states"]["refused"] == (
            "CheckpointError: expected a training state of world size 2, got one of world size 1"
        )


def test_configurations_of_a_file_are_those_that_both_draw(both):
    """Each process draws its share of the whole file by its own random numbers, in pieces of 6 and 2 here."""
    found = [one["of file"] for one in both]
    chosen = []
    for one in found:
        generator = Generator()
        generator.set_state(one["generator"])
        chosen += [torch.randint(40, (piece,), generator=generator) for piece in (6, 2)]
    assert not torch.equal(torch.cat(chosen[:2]), torch.cat(chosen[2:]))
    x = torch.from_numpy(configurations())[torch.cat(chosen)]
    flow = build(seed=0)
    log_q = flow.log_prob(x)
    (-log_q.mean()).backward()
    gradient = torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
    atol = 1e-11 * gradient.abs().max().item()
    f_q = (ACTION(x) + log_q.detach()).mean().item()
    for one in found:
        torch.testing.assert_close(one["gradient"], gradient, rtol=0, atol=atol)
        assert one["record"]["f_q"] == pytest.approx(f_q, rel=1e-11)
        assert one["record"]["loss"] == pytest.approx(-log_q.mean().item(), rel=1e-11)
        assert torch.equal(one["whole"], found[0]["whole"])
        assert torch.equal(one["resumed"], one["whole"])
        assert "has changed since the training began" in one["refused"]


def test_a_batch_that_does_not_divide_is_refused(both, folder):
    for one in both:
        assert one["batch"] == "ValueError: expected a batch that 2 processes share out evenly, got 15"
        assert one["runs"]["batch"] == one["batch"].replace("ValueError", "ConfigError")
        assert not one["runs"]["odd exists"]


def test_a_stopped_run_goes_on_to_the_last_bit(both, folder):
    """The signal reached the second process alone, while the record of step 8 was shown."""
    for one in both:
        assert one["runs"]["signum"] == signal.SIGTERM
        assert one["runs"]["steps"] == 9
    whole = outcome(folder / "whole", groups=())
    assert len(whole["history/f_q"]) == 20
    assert_same(outcome(folder / "stopped", groups=()), whole)


def test_each_process_moves_chains_of_its_own(folder):
    """Two of the four chains each, with the random numbers of its rank: once more by hand, one by one."""
    run = Run.open(folder / "whole")
    plan, model = run.settings("model"), run.model()
    columns = []
    for rank in (0, 1):
        generator = run.generator("model")
        World(2, rank).separate(generator)
        half = dataclasses.replace(plan, chains=2)
        sampler, state, _ = begun(half, run.action, model, generator, torch.float32)
        state = thermalise(sampler, state, plan.thermalisation, generator, plan.block)
        blocks = run_blocks(sampler, state, plan.steps, recorded(run.action), generator, block=plan.block)
        columns.append([part for _, part in blocks])
    for group, part in (("model", "series"), ("proposals", "proposals")):
        for name, values in run.series(group).items():
            halves = [torch.cat([getattr(one, part)[name] for one in half]).numpy() for half in columns]
            np.testing.assert_array_equal(values, np.concatenate(halves, 1), err_msg=name)
            assert len(values) == 25
    # of HMC the first process has tuned the trajectories of both
    assert run.series("beside")["action"].shape == (25, 4)
    assert len(np.unique(run.series("beside")["action"][-1])) == 4


def test_stopped_chains_go_on_to_the_last_bit(both, folder):
    for one in both:
        assert one["runs"]["halted"] == [10, 10]
    assert_same(outcome(folder / "halted"), outcome(folder / "whole"))


def test_chains_that_do_not_divide_are_refused(both):
    for one in both:
        assert one["runs"]["chains"] == (
            "ConfigError: expected a number of chains that 2 processes share out evenly, got 3"
        )


def test_chains_of_another_number_of_processes_are_refused(folder):
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors: expected chains of 1 processes, got those of 2: go on with as many",
    ):
        Run.open(folder / "half").sample()
    trained = Run.open(folder / "trained")
    trained.sample()  # any number may sample what several have trained
    assert visible_steps(folder / "trained", "model") == 25


def test_threads_are_those_of_the_configuration(both):
    for one in both:
        assert one["runs"]["threads"] == [2]


def test_what_the_first_process_meets_all_are_told(both, folder):
    for one in both:
        assert "last.safetensors is truncated" in one["runs"]["truncated"]
        assert one["runs"]["locked"].endswith("is in use by another process: wait until it has ended")
    assert {file.name for file in (folder / "stopped").iterdir()} == {
        ".lock",
        "config.toml",
        "run.json",
        "history.jsonl",
        "checkpoints",
    }


def test_another_number_of_processes_is_refused(both, folder):
    with pytest.raises(
        CheckpointError,
        match=r"last\.safetensors: expected a training state of world size 1, got one of world size 2: "
        "go on with as many processes as before, or remove last.safetensors",
    ):
        Run.open(folder / "left").train()
    result = CliRunner().invoke(app, ["sample", str(folder / "left")])
    assert result.exit_code == 2
    assert "expected a training state of world size 1, got one of world size 2" in result.stderr
    Run.open(folder / "whole").train()  # there is nothing left to do


# a world of one


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world, tensor = World.here(), torch.arange(3.0)
    generator = Generator().manual_seed(5)
    world.separate(generator)
    assert torch.equal(generator.get_state(), Generator().manual_seed(5).get_state())
    world.sum([tensor])
    world.broadcast([tensor])
    assert world.gather(tensor) is tensor
    assert (world.largest(7), world.from_first(lambda: "made"), world.share(15)) == (7, "made", 15)
    with joined() as found:
        assert found == World() == world


def test_devices_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    three, cuda = World(3, 0), torch.device("cuda")
    World().require_device(torch.device("cuda:1"))
    three.require_device(torch.device("cpu"))
    with pytest.raises(ValueError, match="expected a GPU for each of 3 processes on a node, found 2"):
        three.require_device(cuda)
    with pytest.raises(ValueError, match="expected 'auto', 'cpu' or 'cuda' for 3 processes, got 'cuda:1'"):
        three.require_device(torch.device("cuda:1"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    three.require_device(cuda)


def test_an_environment_that_lacks_something(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ProcessError, match=r"process 1 of 2 cannot reach the others.*MASTER_ADDR"), joined():
        pass


# torchrun


def torchrun(path, *changes, command="train", restarts=0):
    options = [part for change in (*SMALL, *changes) for part in ("-o", change)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--max-restarts", str(restarts)]
    # as the documentation has it: those who are started again must not meet where the dead ones did
    fresh = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if restarts else {}
    return subprocess.Popen(
        [*launch, "-m", "latflow", command, "phi4-quick", *options, "--out", str(path)],
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | fresh,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process):
    """The processes that torchrun started, by rank."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return sorted(int(pid) for pid in found.stdout.split())


def lines(path):
    history = path / "history.jsonl"
    return len(history.read_bytes().splitlines()) if history.exists() else 0


def hit(path, changes, strike):
    """Start a training, strike after some steps, and return its exit code and what it said."""
    deadline, before = time.monotonic() + LIMIT, lines(path)
    with torchrun(path, *changes) as process:
        try:
            while lines(path) < before + 10:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "the training came to nothing"
                time.sleep(0.02)
            workers = children(process)
            strike(process, workers)
            _, said = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert len(workers) == 2
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    return process.returncode, said


LONG = ("training.steps=100000", "training.checkpoint_every=5")


@pytest.mark.slow
def test_ctrl_c_stops_all(tmp_path):
    path = tmp_path / "run"
    code, said = hit(path, LONG, lambda process, _: process.send_signal(signal.SIGINT))
    assert code != 0
    assert said.count("latflow: stopped; everything is saved, and the same command goes on from here") == 1
    assert said.count("stopping at the next point") == 1
    assert 10 <= Run.open(path).trained_steps == lines(path) < 100000
    assert Run.open(path).info["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_all_and_the_run_goes_on(tmp_path, both, folder, rank):
    path = tmp_path / "run"
    code, said = hit(path, LONG, lambda _, workers: os.kill(workers[rank], signal.SIGKILL))
    assert code != 0
    assert f"latflow: process {1 - rank} of 2 cannot reach the others" in said
    done = Run.open(path).trained_steps
    assert done % 5 == 0
    assert 5 <= done <= lines(path)
    code, said = hit(path, LONG, lambda process, _: process.send_signal(signal.SIGTERM))
    assert "everything is saved" in said
    assert Run.open(path).trained_steps == lines(path) > done


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_killed_is_started_again_and_ends_the_same(tmp_path, folder, rank):
    """Once while it trains and once while it samples: torchrun starts all of them again."""
    path, deadline = tmp_path / "run", time.monotonic() + LIMIT
    with torchrun(path, command="sample", restarts=2) as process:
        try:
            for sign in (lambda: lines(path) >= 7, lambda: (path / "samples.zarr" / "model").exists()):
                while not sign():
                    assert process.poll() is None, process.communicate()[1]
                    assert time.monotonic() < deadline, "nothing came of it"
                    time.sleep(0.01)
                os.kill(children(process)[rank], signal.SIGKILL)
            _, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert_same(outcome(path), outcome(folder / "whole"))


@pytest.mark.slow
def test_the_command_line_gives_the_same_run(tmp_path, both, folder):
    path = tmp_path / "run"
    with torchrun(path, command="sample") as process:
        said, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert said == f"{path}\n"
    assert errors.count("train  20/20") == 1
    assert errors.count("sample  25/25") == 1
    assert_same(outcome(path), outcome(folder / "whole"))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_train_one_run(tmp_path):
    with torchrun(tmp_path / "run", "compute.device=cuda") as process:
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    run = Run.open(tmp_path / "run")
    assert run.trained_steps == len(run.history()) == 20
    assert run.history()[-1]["f_q"] < run.history()[0]["f_q"]


@pytest.mark.slow
def test_wrong_input_is_one_message_of_the_first_process(tmp_path):
    with torchrun(tmp_path / "run", "training.batch=15") as process:
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert errors.count("latflow: ") == 1
    assert "latflow: expected a batch that 2 processes share out evenly, got 15" in errors
    assert not (tmp_path / "run").exists()
