"""Flows that keep no activations: the gradients and draws of the flow itself, in the memory of one layer."""

import json

import pytest
import torch
from torch import Generator, nn
from typer.testing import CliRunner

from cases import GENERAL_ESTIMATORS, perturbed
from latflow.cli import app
from latflow.densities.flows import affine_flow, gauge_flow, minimal_flow, spline_flow
from latflow.densities.flows.continuous import continuous_gauge_flow
from latflow.densities.flows.recomputed import recomputed
from latflow.estimators import ForwardPath, ScoreFunction
from latflow.theories import Phi4, U1Gauge
from latflow.training import Trainer, profile_step

SCALAR = Phi4((4, 6), m2=-0.5, lam=0.7)
LINKS = U1Gauge((4, 8), beta=1.3)
FLOWS = {
    "affine": (SCALAR, lambda: affine_flow((4, 6), layers=4, hidden=(3,))),
    "splines": (SCALAR, lambda: spline_flow((4, 6), layers=2, hidden=(3,), bins=3, site_bins=4)),
    "minimal": (SCALAR, lambda: minimal_flow((4, 6))),
    "links": (LINKS, lambda: gauge_flow((4, 8), layers=4, hidden=(3,), dilation=1, prior_beta=1.0)),
    "projections": (
        LINKS,
        lambda: gauge_flow((4, 8), layers=4, hidden=(3,), dilation=1, scalar_map="projection"),
    ),
    "continuous": (LINKS, lambda: continuous_gauge_flow((4, 8), prior_beta=1.0, holonomies="uniform")),
}


def gradients(density, flow, action, estimator, precision=None, sub_batch=6):
    """Of the parameters of a flow, with the log-weights; by a density that has the same parameters."""
    flow.zero_grad()
    weights, pieces = [], estimator.pieces(density, action, 6, Generator().manual_seed(2), sub_batch)
    while True:
        with torch.autocast("cpu", precision, enabled=precision is not None, cache_enabled=False):
            piece = next(pieces, None)
        if piece is None:
            return torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None]), weights
        piece.loss.backward()
        weights.append(piece.log_weight)


@pytest.mark.parametrize("name", ["reinforce", "reparametrization", "path_gradient", "forward_path"])
@pytest.mark.parametrize("kind", FLOWS)
def test_gradients_are_those_of_the_flow(kind, name):
    action, build = FLOWS[kind]
    flow = perturbed(build().double())
    estimator = GENERAL_ESTIMATORS[name]
    expected, weights = gradients(flow, flow, action, estimator)
    assert expected.abs().max() > 0
    found, again = gradients(recomputed(flow), flow, action, estimator)
    torch.testing.assert_close(again, weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    frozen = next(flow.bijection.parameters()).requires_grad_(False)
    assert len(gradients(recomputed(flow), flow, action, estimator)[0]) == len(expected) - frozen.numel()


@pytest.mark.parametrize("name", ["reparametrization", "path_gradient", "reinforce"])
def test_lower_networks_are_computed_again_as_they_were(name):
    flow = perturbed(affine_flow((4, 6), layers=4, hidden=(3,)))
    estimator = GENERAL_ESTIMATORS[name]
    expected, _ = gradients(flow, flow, SCALAR, estimator, torch.bfloat16)
    found, _ = gradients(recomputed(flow), flow, SCALAR, estimator, torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    whole, _ = gradients(recomputed(flow), flow, SCALAR, estimator)
    assert (whole - found).abs().max() > 1e-4 * expected.abs().max()  # the networks were lowered at all


def test_weights_are_summed_over_all_pieces():
    flow = perturbed(affine_flow((4, 6), layers=2, hidden=(3,)).double())
    expected, _ = gradients(flow, flow, SCALAR, ForwardPath(), sub_batch=2)
    found, _ = gradients(recomputed(flow), flow, SCALAR, ForwardPath(), sub_batch=2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "name",
    [
        "path_gradient",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("reparametrization", "reinforce")),
    ],
)
def test_layers_more_need_little_memory(name):
    """Of six layers more the graph holds six fields in and six out, and their log-determinants."""
    held, peak = {}, {}
    for layers in (2, 8):
        flow = perturbed(affine_flow((8, 8), layers=layers, hidden=(16,)))
        for density, how in ((flow, "kept"), (recomputed(flow), "again")):
            found = profile_step(
                density, Phi4((8, 8), m2=0.5, lam=0.3), GENERAL_ESTIMATORS[name], 64, Generator(), repeats=1
            )
            held[how, layers], peak[how, layers] = found.held, found.peak
    field, log_det = 4 * 64 * 8 * 8, 8 * 64
    assert held["again", 8] - held["again", 2] <= 6 * (2 * field + 2 * log_det)
    assert peak["again", 8] - peak["again", 2] <= 6 * (2 * field + 4 * log_det)
    assert peak["kept", 8] - peak["kept", 2] > 6 * 16 * field / 2  # sixteen hidden channels of one colour


def test_a_training_is_the_same():
    """Its networks run once more, in every step."""
    runs = []

    def trained(recompute):
        flow = affine_flow((4, 6), layers=2, hidden=(3,), generator=Generator().manual_seed(1)).double()
        options = {"steps": 3, "batch": 8, "generator": Generator().manual_seed(3), "recompute": recompute}
        for coupling in flow.bijection.bijections:
            coupling.network.register_forward_hook(lambda *_: runs.append(recompute))
        records = [record.as_dict() for record in Trainer(flow, SCALAR, ScoreFunction("mean"), **options)]
        return nn.utils.parameters_to_vector(flow.parameters()), [one["grad_norm"] for one in records]

    torch.testing.assert_close(trained(True), trained(False))
    assert (runs.count(True), runs.count(False)) == (12, 6)


def test_what_is_no_flow_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a flow, whose layers can be recomputed, got Linear"):
        recomputed(nn.Linear(2, 2))
    told = CliRunner().invoke(
        app, ["run", "phi4-8x8-multilevel", "--out", str(tmp_path), "-o", "training.recompute=true"]
    )
    assert told.exit_code == 2
    assert "training.recompute: expected a flow, whose layers can be recomputed, got" in told.stderr


def test_a_profile_is_of_what_a_training_does(tmp_path):
    """By the peak of memory that it tells."""
    peaks = {}
    for recompute in ("false", "true"):
        words = ["profile", "phi4-quick", "--estimator", "reinforce", "--repeats", "1", "--top", "0"]
        words += ["-o", f"training.recompute={recompute}", "--json", str(tmp_path / recompute)]
        told = CliRunner().invoke(app, words)
        assert told.exit_code == 0, told.output
        (peaks[recompute],) = [one["peak"] for one in json.loads((tmp_path / recompute).read_text())["steps"]]
    assert peaks["true"] < 0.7 * peaks["false"]
