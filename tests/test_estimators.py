"""Gradient estimators: exact on the toy model, in agreement on φ⁴, and without what they must not need."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor, nn

from cases import GENERAL_ESTIMATORS, draw, perturbed
from latflow import exact
from latflow.analysis import effective_sample_size
from latflow.densities.flows import (
    Affine,
    Compose,
    Flow,
    FourierLayer,
    Normal,
    Prior,
    Scale,
    SiteMap,
    affine_flow,
    convolution,
    minimal_flow,
    spline_flow,
)
from latflow.estimators import (
    Estimator,
    ForwardPath,
    ScoreFunction,
    estimator_of,
    forward_kl,
    path_gradient,
    reinforce,
    reinforce_leave_one_out,
    reparametrization,
    score,
)
from latflow.fields import SCALAR, Manifold, Scalar
from latflow.theories import Action, Exponential, Phi4
from latflow_papers.toy import ExponentialDensity

every_estimator = pytest.mark.parametrize("name", GENERAL_ESTIMATORS)


class Replayed(nn.Module):
    """A flow whose draws are fixed in advance, so that they do not depend on how they are divided."""

    def __init__(self, flow: Flow, n: int) -> None:
        super().__init__()
        self.flow = flow
        self.z = flow.prior.sample(n, Generator().manual_seed(9))
        self.used = 0

    def sample(self, n: int, _: Generator) -> tuple[Tensor, Tensor]:
        z = self.z[self.used : self.used + n]
        self.used = (self.used + n) % len(self.z)  # who goes through all of them begins again
        x, log_det = self.flow.forward(z)
        return x, self.flow.prior.log_prob(z) - log_det

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)


class NoDerivative(torch.autograd.Function):
    """Σ x², which cannot be differentiated."""

    @staticmethod
    def forward(_, x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1)

    @staticmethod
    def backward(*_) -> Tensor:
        raise RuntimeError("this action has no derivative")


@dataclass(frozen=True)
class BlackBox(Action):
    lattice = (4, 4)
    kind = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        return NoDerivative.apply(x)


def unchecked(function):
    """Without the tests' type checker, which refuses a wrong name first."""
    return getattr(function, "__wrapped__", function)


def small_flow() -> Flow:
    return perturbed(affine_flow((2, 2), layers=2, hidden=(2,)).double())


def gradient(density: nn.Module, loss: Tensor) -> Tensor:
    """The gradient that `backward` leaves, of all parameters in one vector."""
    density.zero_grad()
    loss.backward()
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in density.parameters()]
    )


def many(estimator: Estimator, density, action: Action, n: int, batches: int, seed: int = 0) -> Tensor:
    """The estimates of `batches` independent batches, (batches, parameters)."""
    generator = Generator().manual_seed(seed)
    return torch.stack(
        [gradient(density, estimator(density, action, n, generator).loss) for _ in range(batches)]
    )


OF_THE_REVERSE_DIVERGENCE = [name for name in GENERAL_ESTIMATORS if name != "forward_path"]


@pytest.mark.parametrize("name", OF_THE_REVERSE_DIVERGENCE)
def test_toy_model_has_the_exact_mean_and_variance(name):
    """Five sigma each; the spread of the variance is √((m₄ − m₂²)/B), m₄ from the sample: tails are heavy."""
    theta, rate, n, batches = 1.3, 0.8, 6, 2000
    exact_variance = exact.toy_variance(theta, rate, n)
    unbiased, shrunk = exact.toy_gradient(theta, rate), (n - 1) / n
    mean, variance = {
        "score": (unbiased, exact_variance.g1),
        "reinforce": (shrunk * unbiased, exact_variance.g2),
        "reinforce_leave_one_out": (unbiased, exact_variance.g2 / shrunk**2),
        "reparametrization": (unbiased, exact_variance.g3),
        "path_gradient": (unbiased, exact_variance.g_path),
    }[name]
    estimates = many(GENERAL_ESTIMATORS[name], ExponentialDensity(theta), Exponential(rate), n, batches)[:, 0]
    deviations = estimates - mean
    fourth = deviations.pow(4).mean()
    assert abs(estimates.mean() - mean) < 5 * math.sqrt(variance / batches)
    assert abs(deviations.square().mean() - variance) < 5 * math.sqrt((fourth - variance**2) / batches)


def test_estimators_agree_on_phi4():
    """Each component of the mean gradient within five sigma of that of the path gradient."""
    flow, action, n, batches = small_flow(), Phi4((2, 2), m2=-1.0, lam=1.0), 64, 60
    reference = many(path_gradient, flow, action, n, batches, seed=1)
    assert (reference.mean(0).abs() > 10 * reference.std(0) / math.sqrt(batches)).float().mean() > 0.3
    for name in OF_THE_REVERSE_DIVERGENCE:
        estimates = many(GENERAL_ESTIMATORS[name], flow, action, n, batches, seed=2)
        if name == "reinforce":
            estimates = estimates * (n / (n - 1))
        spread = torch.sqrt((estimates.var(0) + reference.var(0)) / batches)
        assert ((estimates.mean(0) - reference.mean(0)).abs() < 5 * spread + 1e-12).all(), name


class _Wide(Prior):
    """Normal numbers of a width that is trained."""

    kind = SCALAR

    def __init__(self, lattice, log_width=0.0):
        super().__init__(lattice)
        self.log_width = torch.nn.Parameter(torch.tensor(log_width, dtype=torch.float64))

    def sample(self, n, generator):
        return self.log_width.exp().detach() * torch.randn(n, *self.lattice, generator=generator).double()

    def log_prob(self, z):
        width = self.log_width.exp()
        each = -0.5 * (z / width) ** 2 - self.log_width - 0.5 * math.log(2 * math.pi)
        return each.flatten(1).sum(1)


@pytest.mark.parametrize("of_the_prior", [pytest.param(False, marks=pytest.mark.slow), True])
def test_path_gradients_of_both_divergences(of_the_prior):
    """q and p are normal, of widths e^s and 1: ∂D(q|p)/∂s = V (e^2s − 1), ∂D_1(p|q)/∂s = V (1 − e^−2s), and

        ∂D_α(p|q)/∂s = (V/α) [1 − e^−2s / (α + (1 − α) e^−2s)],

    from ⟨(p/q)^α⟩_q = e^(α−1)s / √(α + (1 − α) e^−2s) a site.

    Through the draws (by `Scale`) and by the score of the prior. Weights are normalised, which shifts the
    mean by 1/n of its size at most: with n = 2000 far below five sigma.
    """
    s, sites, n, batches = 0.2, 3, 2000, 200
    scale = Scale(0.0 if of_the_prior else s).double()
    flow = Flow(_Wide((sites,), s if of_the_prior else 0.0), scale)
    wanted = flow.prior.log_width if of_the_prior else next(scale.parameters())
    unit = _Unit((sites,))
    for order, reverse in ((1.0, 0.0), (1.0, 0.5), (1.75, 0.0), (2.0, 0.5)):
        estimator = ForwardPath(largest=1e9, reverse=reverse, longest=1e9, order=order, effective=0.0)
        generator, found = Generator().manual_seed(1), []
        for _ in range(batches):
            flow.zero_grad()
            estimator(flow, unit, n, generator).loss.backward()
            found.append(wanted.grad.item())
        found = torch.tensor(found)
        narrow = math.exp(-2 * s)
        forward = (1 - narrow / (order + (1 - order) * narrow)) / order
        expected = sites * forward + reverse * sites * (math.exp(2 * s) - 1)
        assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(batches) + 2 * expected / n

    generator, found = Generator().manual_seed(2), []
    for _ in range(batches):
        flow.zero_grad()
        path_gradient(flow, unit, n, generator).loss.backward()
        found.append(wanted.grad.item())
    found, reverse = torch.tensor(found), sites * (math.exp(2 * s) - 1)
    assert abs(found.mean() - reverse) < 5 * found.std() / math.sqrt(batches) + 2 * reverse / n


@dataclass(frozen=True)
class _Unit(Action):
    """S = ½ Σ x²."""

    lattice: tuple[int, ...]
    kind = SCALAR

    def __call__(self, x):
        return 0.5 * x.square().flatten(1).sum(1)


def test_forward_path_cuts_what_its_settings_say():
    flow, action = Flow(_Wide((3,), -1.0), Scale(0.0).double()), _Unit((3,))
    whole, cut, short = (
        ForwardPath(**options)(flow, action, 500, Generator().manual_seed(2)).loss.item()
        for options in ({}, {"largest": 1.5}, {"longest": 0.01})
    )
    assert len({whole, cut, short}) == 3
    refused = ({"largest": 1.0}, {"reverse": -0.1}, {"longest": 0.0}, {"order": 0.9}, {"effective": 1.1})
    for options in refused:
        with pytest.raises(ValueError, match="expected largest="):
            ForwardPath(**options)


def test_the_order_is_as_large_as_the_draws_bear():
    log_w = torch.randn(1000, generator=Generator().manual_seed(3), dtype=torch.float64)

    def share(order: float) -> float:
        return effective_sample_size(order * log_w)

    for scale, effective in ((0.2, 0.4), (0.6, 0.4), (0.6, 0.6), (2.0, 0.4)):
        log_w = scale * log_w / log_w.std()
        order = ForwardPath(effective=effective)._order(log_w + 300.0).item()
        step = 1 / 16
        assert order == 1 or share(order) >= effective
        assert order == 2 or share(order + step) < effective
    assert ForwardPath(order=1.0)._order(log_w).item() == 1


def test_estimators_with_settings():
    assert estimator_of("path_gradient", {}) is path_gradient
    assert estimator_of("forward_path", {"largest": 7.0}).largest == 7.0
    for name, options in (("forward_path", {"big": 1}), ("reinforce", {"baseline": 1}), ("nothing", {})):
        with pytest.raises(ValueError, match="expected"):
            estimator_of(name, options)


@pytest.mark.parametrize("build", [affine_flow, spline_flow, minimal_flow])
@pytest.mark.parametrize("n", [1, 5])
def test_the_path_gradient_in_one_walk_is_that_in_two(build, n):
    """Against draws whose density is differentiated at them afterwards."""
    lattice = (4, 6)
    flow = perturbed(build(lattice, layers=3, **({} if build is minimal_flow else {"hidden": (3,)})).double())
    action = Phi4(lattice, m2=-1.0, lam=1.0)
    estimate = path_gradient(flow, action, n, Generator().manual_seed(4))
    found = gradient(flow, estimate.loss)
    x, log_q = flow.sample(n, Generator().manual_seed(4))
    leaf = x.detach().requires_grad_()
    (force,) = torch.autograd.grad((action(leaf) + flow.log_prob(leaf)).sum(), leaf)
    expected = gradient(flow, (force * x).flatten(1).sum(1).mean())
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(estimate.log_weight, (-action(x) - log_q).detach())


def test_the_score_asks_no_network_for_the_gradient_of_its_weights(monkeypatch):
    asked = []

    def recording(gradient, padded, weight, wanted, dilation):
        asked.append(wanted)
        return plain(gradient, padded, weight, wanted, dilation)

    plain = convolution._convolution_gradients
    monkeypatch.setattr(convolution, "_convolution_gradients", recording)
    flow = affine_flow((4, 4), layers=3, hidden=(3,))
    drawn = flow.sample_with_score(2, Generator().manual_seed(0))
    assert asked
    assert all(wanted == [True, False, False] for wanted in asked)
    asked.clear()
    drawn.x.sum().backward()
    assert [False, True, True] in asked


def test_path_gradient_vanishes_at_the_target():
    lattice, m2 = (4, 6), 0.8
    flow = Flow(Normal(lattice), FourierLayer(1.0)).double()
    with torch.no_grad():
        flow.bijection.log_mass_squared.fill_(math.log(m2))
        flow.bijection.log_scale.fill_(-0.5 * math.log(2))
    action = Phi4(lattice, m2=m2, lam=0.0)
    for estimator in (path_gradient, reinforce, reinforce_leave_one_out):
        estimate = many(estimator, flow, action, 16, 1)
        assert estimate.abs().max() < 1e-11
    for estimator in (score, reparametrization):
        assert many(estimator, flow, action, 16, 1).abs().max() > 1e-3


class Weighted(Manifold):
    """Real numbers whose tangents have the inner product ⟨v, w⟩ = 2 Σ v w."""

    def project(self, x: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002 (it is flat)
        return gradient / 2

    def pairing(self, x: Tensor, tangent: Tensor) -> Tensor:
        return 2 * (tangent * x).flatten(1).sum(1)


@dataclass(frozen=True)
class Stretched(Scalar):
    manifold = Weighted()


def test_path_gradient_asks_the_manifold():
    """The gradient of a function does not depend on the inner product; tangents and pairings do."""
    flat = Phi4((2, 2), m2=-1.0, lam=1.0)

    class Curved(Action):
        lattice, kind = (2, 2), Stretched()

        def __call__(self, x: Tensor) -> Tensor:
            return flat(x)

    one, other = (many(path_gradient, small_flow(), action, 16, 1) for action in (flat, Curved()))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@every_estimator
def test_log_weights_are_those_of_the_draws_and_hold_no_graph(name):
    flow, action = small_flow(), Phi4((2, 2), m2=-1.0, lam=1.0)
    loss, log_weight = GENERAL_ESTIMATORS[name](flow, action, 8, Generator().manual_seed(3))
    x, log_q = flow.sample(8, Generator().manual_seed(3))
    torch.testing.assert_close(log_weight, -action(x) - log_q)
    assert not log_weight.requires_grad
    assert loss.shape == ()
    assert loss.requires_grad
    if name == "reparametrization":
        torch.testing.assert_close(loss, -log_weight.mean())


@every_estimator
@pytest.mark.parametrize(("n", "sub_batch"), [(12, 4), (10, 4), (10, 1), (5, 8)])
def test_pieces_add_up_to_the_whole(name, n, sub_batch):
    density, action = Replayed(small_flow(), n), Phi4((2, 2), m2=-1.0, lam=1.0)
    estimator, generator = GENERAL_ESTIMATORS[name], Generator()
    whole = estimator(density, action, n, generator)
    expected = gradient(density, whole.loss)
    density.used = 0
    density.zero_grad()
    losses, log_weights = [], []
    for loss, log_weight in estimator.pieces(density, action, n, generator, sub_batch):
        loss.backward()
        losses.append(loss.detach())
        log_weights.append(log_weight)
    found = torch.cat([p.grad.flatten() for p in density.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat(log_weights), whole.log_weight)
    torch.testing.assert_close(torch.stack(losses).sum(), whole.loss.detach())
    assert [len(log_weight) for log_weight in log_weights] == [
        min(sub_batch, n - first) for first in range(0, n, sub_batch)
    ]


def test_baselines_against_their_definition():
    log_weight = draw(7)
    s = -log_weight
    assert torch.equal(score.signal(log_weight), s)
    torch.testing.assert_close(reinforce.signal(log_weight), s - s.mean())
    others = torch.stack([s[i] - torch.cat((s[:i], s[i + 1 :])).mean() for i in range(7)])
    torch.testing.assert_close(reinforce_leave_one_out.signal(log_weight), others)


@pytest.mark.parametrize("baseline", ["none", "mean", "leave_one_out"])
def test_score_functions_are_those_of_log_prob_at_the_draws(baseline):
    """A flow draws and differentiates in one pass: with the same draws and gradient as in two."""
    flow, action, estimator = small_flow(), Phi4((2, 2), m2=-1.0, lam=1.0), ScoreFunction(baseline)
    loss, log_weight = estimator(flow, action, 5, Generator().manual_seed(0))
    x, log_q = flow.sample(5, Generator().manual_seed(0))
    torch.testing.assert_close(log_weight, (-action(x) - log_q).detach())
    expected = (flow.log_prob(x.detach()) * estimator.signal(log_weight)).mean()
    torch.testing.assert_close(gradient(flow, loss), gradient(flow, expected), rtol=1e-9, atol=1e-9)


def test_wrong_baselines_are_refused():
    with pytest.raises(ValueError, match="expected baseline 'none', 'mean' or 'leave_one_out', got 'median'"):
        unchecked(ScoreFunction.__init__)(ScoreFunction.__new__(ScoreFunction), "median")
    with pytest.raises(ValueError, match="at least 2 draws"):
        reinforce_leave_one_out(small_flow(), Phi4((2, 2), m2=1.0, lam=0.0), 1, Generator())


@every_estimator
def test_only_estimators_through_the_draws_need_the_derivative_of_the_action(name):
    flow = affine_flow((4, 4), layers=2, hidden=(2,))
    generator = Generator().manual_seed(0)
    through_draws = ("reparametrization", "path_gradient", "forward_path")
    assert GENERAL_ESTIMATORS[name].needs_force == (name in through_draws)
    if GENERAL_ESTIMATORS[name].needs_force:
        with pytest.raises(RuntimeError, match="no derivative"):
            GENERAL_ESTIMATORS[name](flow, BlackBox(), 4, generator).loss.backward()
    else:
        assert gradient(flow, GENERAL_ESTIMATORS[name](flow, BlackBox(), 4, generator).loss).abs().sum() > 0


def test_forward_kl_moves_the_flow_to_the_configurations():
    """Maximum likelihood of normal data: mean and width of the sample, whatever the action is."""
    data = 1.5 + 0.4 * draw(500, 4)
    flow = Flow(Normal((4,)), Compose(Scale(), SiteMap(Affine(), z2=False))).double()
    estimator, generator = forward_kl(data), Generator().manual_seed(0)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss, log_weight = estimator(flow, BlackBox(), 64, generator)
        loss.backward()
        optimizer.step()
    assert log_weight.shape == (64,)
    assert not log_weight.requires_grad
    x, _ = flow.sample(4000, Generator().manual_seed(1))
    # batches of 64 · 4 numbers: the mean wanders by some 0.4/√256 = 0.025, the width by 0.018
    assert x.mean().item() == pytest.approx(1.5, abs=0.1)
    assert x.std().item() == pytest.approx(0.4, abs=0.07)


def test_forward_kl_is_the_gradient_of_the_likelihood():
    flow, data = small_flow(), draw(1, 2, 2).expand(3, 2, 2)
    estimate = forward_kl(data)(flow, Phi4((2, 2), m2=1.0, lam=0.0), 5, Generator().manual_seed(0))
    torch.testing.assert_close(
        gradient(flow, estimate.loss), gradient(flow, -flow.log_prob(data[:1]).sum()), rtol=1e-10, atol=1e-12
    )
    expected = -Phi4((2, 2), m2=1.0, lam=0.0)(data[:1]) - flow.log_prob(data[:1])
    torch.testing.assert_close(estimate.log_weight, expected.detach().expand(5))
    with pytest.raises(ValueError, match="at least one configuration"):
        forward_kl(torch.zeros(0, 2, 2))


@every_estimator
def test_autocast_never_lowers_the_action(name):
    """An action that is a matrix product, which autocast would lower."""
    matrix = draw(16, 16, dtype=torch.float32)

    @dataclass(frozen=True)
    class Quadratic(Action):
        lattice = (16,)
        kind = SCALAR

        def __call__(self, x: Tensor) -> Tensor:
            return ((x @ matrix) * x).sum(1)

    flow = Flow(Normal((16,)), Scale(0.3))
    expected = GENERAL_ESTIMATORS[name](flow, Quadratic(), 8, Generator().manual_seed(0))
    expected_gradient = gradient(flow, expected.loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = GENERAL_ESTIMATORS[name](flow, Quadratic(), 8, Generator().manual_seed(0))
    assert torch.equal(estimate.log_weight, expected.log_weight)
    x, log_q = flow.sample(8, Generator().manual_seed(0))
    torch.testing.assert_close(expected.log_weight, (-Quadratic()(x) - log_q).detach(), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(gradient(flow, estimate.loss), expected_gradient)
