"""The profile of a training step: its graph against one that is counted by hand, and the command."""

import json

import pytest
import torch
from torch import Generator, nn
from typer.testing import CliRunner

from latflow.cli import app
from latflow.densities.flows import affine_flow
from latflow.estimators import SoftLabels, path_gradient, reparametrization
from latflow.estimators.base import Estimate, Estimator
from latflow.theories import Phi4
from latflow.training import profile_step
from latflow.training.profiling import graph_nodes

N, SITES = 30, 16
ACTION = Phi4((4, 4), m2=0.5, lam=0.3)


def seeded():
    return Generator().manual_seed(1)


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(SITES))


class Products(Estimator):
    """exp(a z)², by hand: of each step it is known what the graph holds."""

    def __call__(self, density, action, n, generator):  # noqa: ARG002 (it has no theory)
        z = torch.randn(n, SITES, generator=generator)
        with torch.enable_grad():
            gone = (density.scale * z).exp().sum()  # a graph that is gone before the end
        torch.autograd.grad(gone, density.scale)
        del gone
        y = (density.scale * z).exp()
        return Estimate((y * y).sum(), torch.zeros(n))


def test_a_graph_that_is_known():
    """Mul by z (holds z), exp (holds y), y·y (holds y again), sum, and the parameter: two tensors in all."""
    found = profile_step(Scale(), ACTION, Products(), N, seeded(), repeats=1)
    assert {one.name: one.count for one in found.nodes} == {
        "MulBackward0": 2,
        "ExpBackward0": 1,
        "SumBackward0": 1,
        "AccumulateGrad": 1,
    }
    size = 4 * N * SITES
    assert (found.tensors, found.held) == (2, 2 * size)
    # forwards z, a z, y and y² at most, backwards the gradients of y·y beside z and y
    assert 3 * size <= found.peak <= 6 * size
    assert [one.seconds for one in found.nodes] == sorted((one.seconds for one in found.nodes), reverse=True)
    assert found.loss > 0 < found.backward


def test_a_step_leaves_no_gradient_and_counts_its_graph():
    flow = affine_flow((4, 4), layers=2, hidden=(3,), generator=seeded())
    found = profile_step(flow, ACTION, reparametrization, 8, seeded(), repeats=1)
    assert all(p.grad is None for p in flow.parameters())
    loss = reparametrization(flow, ACTION, 8, seeded()).loss
    assert sum(one.count for one in found.nodes) == len(graph_nodes(loss))
    twice = profile_step(flow, ACTION, reparametrization, 16, seeded(), repeats=1)
    assert twice.tensors == found.tensors
    assert found.held < twice.held < 2.1 * found.held
    lower = profile_step(flow, ACTION, reparametrization, 16, seeded(), "bfloat16", repeats=1)
    assert lower.held < twice.held


def test_what_cannot_be_measured_is_refused():
    flow = affine_flow((4, 4), layers=2, hidden=(3,), generator=seeded())
    with pytest.raises(ValueError, match="at least one repeat, got 0"):
        profile_step(flow, ACTION, path_gradient, 8, seeded(), repeats=0)
    with pytest.raises(ValueError, match=r"expected precision full, .* got 'half'"):
        profile_step(flow, ACTION, path_gradient, 8, seeded(), "half")
    with pytest.raises(ValueError, match="such as multilevel"):
        profile_step(flow, ACTION, SoftLabels(), 8, seeded())


def test_the_command(tmp_path):
    target = tmp_path / "profile.json"
    options = ["--batch", "8", "--repeats", "1", "--top", "3", "--json", str(target)]
    result = CliRunner().invoke(app, ["profile", "phi4-quick", *options])
    assert result.exit_code == 0, result.stderr
    written = json.loads(target.read_text())
    steps = {step["estimator"]: step for step in written["steps"]}
    assert set(steps) == {"path_gradient", "reinforce", "reparametrization"}
    assert written["batch"] == 8
    for name, step in steps.items():
        assert f" {sum(node['count'] for node in step['nodes'])} " in result.stdout
        for node in step["nodes"][:3]:
            assert node["name"] in result.stdout.partition(f"{name}, full")[2]
    refused = CliRunner().invoke(app, ["profile", "phi4-quick", "--estimator", "counting"])
    assert refused.exit_code == 2
    assert "latflow: counting: expected an estimator with a gradient, got Counting" in refused.stderr
    alone = CliRunner().invoke(app, ["profile", "phi4-quick", "-o", "model=null"])
    assert "expected a [model] whose training step is measured, got none" in alone.stderr
