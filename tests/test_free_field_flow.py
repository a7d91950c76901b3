"""The free field, where the answer is known, learnt by a flow with a Fourier layer."""

import math

import pytest
import torch
from torch import Generator

from latflow import exact
from latflow.densities.flows import affine_flow
from latflow.estimators import path_gradient, reinforce
from latflow.theories import Phi4
from latflow.training import Schedule, train


@pytest.mark.parametrize(
    ("estimator", "layers"),
    [(path_gradient, 0), (reinforce, 0), pytest.param(path_gradient, 2, marks=pytest.mark.slow)],
)
def test_free_field_is_learnt(estimator, layers):
    """λ = 0 on 16×16: ESS > 0.99, and Z within five sigma, from a wrong mass and a wrong exponent."""
    lattice, m2 = (16, 16), 1.25
    action = Phi4(lattice, m2=m2, lam=0.0)
    flow = affine_flow(lattice, layers=layers, hidden=(4,), kernel=(3, 1), z2=True, fourier=True)
    # a short memory of the squared gradients, which fall by orders of magnitude on the way to q = p
    options = {"steps": 600, "batch": 32, "learning_rate": 0.05, "optimizer_options": {"betas": (0.9, 0.95)}}
    schedule, generator = Schedule("cosine", warmup=10), Generator().manual_seed(1)
    records = list(train(flow, action, estimator, generator=generator, schedule=schedule, **options))
    assert records[0].ess < 0.1
    with torch.no_grad():
        x, log_q = flow.sample(2000, Generator().manual_seed(2))
        weight = torch.exp((-action(x) - log_q).double() - exact.free_field_log_z(lattice, m2))
    assert weight.sum() ** 2 / weight.square().sum() / 2000 > 0.99
    assert abs(weight.mean() - 1) < 5 * weight.std() / math.sqrt(2000)
