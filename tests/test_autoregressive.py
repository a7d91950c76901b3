"""Autoregressive networks: normalised, symmetric, drawn as they say, and trained by the same estimators."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from cases import perturbed
from latflow import exact
from latflow.densities.autoregressive import (
    Conditional,
    ConvolutionalConditional,
    DenseConditional,
    Level,
    NeighbourConditional,
    SpinNetwork,
    build_density,
    convolutional_spins,
    dense_spins,
    divisions,
    hierarchical_spins,
)
from latflow.densities.base import Density
from latflow.estimators import (
    Estimator,
    forward_kl,
    reinforce,
    reinforce_leave_one_out,
    reparametrization,
    score,
)
from latflow.observables import magnetization
from latflow.samplers import IndependenceMetropolis, run
from latflow.theories import Ising
from latflow.training import Schedule, train

CRITICAL = 0.44068679

NETWORKS: dict[str, Callable[..., SpinNetwork]] = {
    "dense": lambda lattice, **rest: dense_spins(lattice, hidden=(3, 2), **rest),
    "linear": lambda lattice, **rest: dense_spins(lattice, hidden=(), **rest),
    "convolutional": lambda lattice, **rest: convolutional_spins(lattice, channels=3, kernels=(5, 3), **rest),
    "hierarchical": lambda lattice, **rest: hierarchical_spins(lattice, hidden=(3,), coupling=0.3, **rest),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def network(name: str, lattice: tuple[int, ...], *, z2: bool = True, size: float = 0.5) -> SpinNetwork:
    """With weights far from the initial ones, which are near those of the uniform distribution; float64."""
    return perturbed(NETWORKS[name](lattice, z2=z2).double(), size)


def cases(*lattices: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Every network on every lattice that it takes."""
    return [
        (name, lattice)
        for name in NETWORKS
        for lattice in lattices
        if name != "hierarchical" or len(lattice) == 2
    ]


def by_a_pass_for_each_spin(
    conditional: Conditional, context: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Spins and logits from the same uniform numbers, one parallel pass a spin, nothing kept."""
    spins, logits = torch.zeros_like(uniform, dtype=context.dtype), torch.zeros_like(context[:1])
    for i in range(conditional.spins):
        logits = conditional.logits(context, spins)
        spins[i] = torch.where(uniform[i] < torch.sigmoid(logits[i].double()), 1.0, -1.0)
    return spins, logits


# --- the density ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lattice"), cases((3, 3), (2, 2), (2, 4), (4, 3), (6, 2), (7,), (2, 3, 2)))
@pytest.mark.parametrize("z2", [True, False])
def test_probabilities_of_all_configurations_add_up_to_one(name, lattice, z2):
    q, states = network(name, lattice, z2=z2), exact.spin_states(lattice)
    log_q = q.log_prob(states)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_q.std() > 0.3, "near the uniform distribution nothing is tested"
    assert torch.equal(log_q, q.log_prob(-states)) == z2
    assert bool(torch.allclose(log_q, q.log_prob(-states))) == z2


@every_network
def test_probabilities_add_up_to_one_on_a_lattice_of_four_by_four(name):
    states = exact.spin_states((4, 4))
    with torch.no_grad():
        log_q = network(name, (4, 4)).log_prob(states)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_q.std() > 0.3


@pytest.mark.parametrize(("name", "lattice"), cases((2, 2), (2, 3), (3, 3), (4,)))
@pytest.mark.parametrize("z2", [True, False])
def test_draws_have_the_frequencies_that_the_density_says(name, lattice, z2):
    """χ² over all configurations, ν = 2^V − 1: mean ν, variance 2ν + (Σ 1/p − ν² − 4ν − 1)/n, exactly."""
    q, n = network(name, lattice, z2=z2, size=0.3), 60_000
    p = q.log_prob(exact.spin_states(lattice)).exp().detach()
    x, _ = q.sample(n, seeded(1))
    sites = x[0].numel()
    numbers = ((1 - x.flatten(1)).long() // 2 * 2 ** torch.arange(sites - 1, -1, -1)).sum(1)
    counted = torch.bincount(numbers, minlength=2**sites).double()
    chi2 = ((counted - n * p) ** 2 / (n * p)).sum().item()
    cells = len(p) - 1
    spread = math.sqrt(2 * cells + float((1 / p).sum() - cells**2 - 4 * cells - 1) / n)
    assert abs(chi2 - cells) < 5 * spread, (chi2, cells, spread)


@pytest.mark.parametrize(("name", "lattice"), cases((3, 3), (4, 2), (8, 4), (5,), (2, 3, 4)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 50])
def test_draws_come_with_their_log_probability(name, lattice, dtype, n):
    q = network(name, lattice, z2=False).to(dtype)
    x, log_q = q.sample(n, seeded(2))
    assert x.shape == (n, *lattice)
    assert (x.dtype, log_q.dtype) == (dtype, torch.float64)
    assert bool((x.abs() == 1).all())
    assert x.is_contiguous()
    assert not log_q.requires_grad
    rounding = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=rounding, atol=rounding)
    again, _ = q.sample(n, seeded(2))
    assert torch.equal(again, x)


@pytest.mark.parametrize(
    "conditional",
    [
        DenseConditional(7, 0, (3, 2), z2=True, generator=seeded(0)),
        DenseConditional(5, 4, (3,), z2=False, generator=seeded(0)),
        DenseConditional(1, 3, (), z2=False, generator=seeded(0)),
        ConvolutionalConditional((3, 4), 3, (5, 3, 1), z2=False, generator=seeded(0)),
        ConvolutionalConditional((2, 3, 2), 2, (3, 3), z2=True, generator=seeded(0)),
        NeighbourConditional(4, 0.4, z2=False),
    ],
)
def test_kept_features_give_the_spins_of_a_pass_for_each(conditional):
    conditional = perturbed(conditional.double(), 0.4)
    context = torch.where(torch.rand(conditional.context, 40, generator=seeded(3)) < 0.5, 1.0, -1.0).double()
    uniform = torch.rand(conditional.spins, 40, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        spins, logits = conditional.draw(context, uniform)
        expected_spins, expected_logits = by_a_pass_for_each_spin(conditional, context, uniform)
        half = conditional.spins // 2
        rest, rest_logits = conditional.draw(context, uniform[half:], given=spins[:half])
    assert torch.equal(spins, expected_spins)
    assert torch.equal(rest, spins[half:])
    for found, expected in ((logits, expected_logits), (rest_logits, expected_logits[half:])):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "lattice"), cases((3, 4), (4, 4), (2, 3, 2)))
def test_logits_see_earlier_spins_alone_and_all_of_them(name, lattice):
    """The derivatives of logits by spins are strictly triangular; a dense network leaves nothing out."""
    for level in network(name, lattice, z2=False).levels:
        conditional = level.conditional
        context, spins = torch.ones(conditional.context, 1), torch.ones(conditional.spins, 1)
        context, spins = context.double(), spins.double()
        jacobian = torch.autograd.functional.jacobian(
            lambda s, c=context, q=conditional: q.logits(c, s)[:, 0], spins
        )
        seen = jacobian[..., 0] != 0
        earlier = torch.ones_like(seen).tril(-1)
        assert not bool((seen & ~earlier).any())
        if isinstance(conditional, DenseConditional):
            assert bool((seen | ~earlier).all())


def test_the_last_row_of_a_convolution_sees_the_first_around_the_torus():
    conditional = perturbed(ConvolutionalConditional((6, 6), 2, (3,), z2=True, generator=seeded(0)), 0.3)
    spins = torch.ones(36, 1)
    jacobian = torch.autograd.functional.jacobian(lambda s: conditional.logits(s[:0], s)[:, 0], spins)[..., 0]
    sees = lambda x, y: bool(jacobian[6 * x[0] + x[1], 6 * y[0] + y[1]] != 0)  # noqa: E731
    assert sees((5, 2), (0, 2))
    assert sees((3, 5), (3, 0))
    assert sees((3, 0), (2, 5))
    assert not sees((3, 0), (3, 5))
    assert not sees((0, 2), (5, 2))
    assert not sees((3, 2), (0, 2))


@every_network
@pytest.mark.parametrize("size", [10.0, 1e6])
def test_log_probabilities_stay_finite_with_huge_logits(name, size):
    q = perturbed(NETWORKS[name]((4, 4)), size)
    _, log_q = q.sample(100, seeded(5))
    wrong = torch.where(torch.rand(100, 4, 4, generator=seeded(6)) < 0.5, 1.0, -1.0)
    assert bool(log_q.isfinite().all())
    found = q.log_prob(wrong)
    assert bool(found.isfinite().all())
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in q.parameters() if p.grad is not None)


@every_network
def test_new_networks_start_near_the_uniform_distribution(name):
    q = NETWORKS[name]((4, 4)) if name != "hierarchical" else hierarchical_spins((4, 4))
    _, log_q = q.sample(500, seeded(7))
    assert log_q.mean().item() == pytest.approx(-16 * math.log(2), abs=0.3)
    assert isinstance(q, Density)


@every_network
def test_spins_of_another_lattice_are_refused(name):
    with pytest.raises(ValueError, match=r"spins on the lattice \(4, 2\), got \(2, 4\)"):
        NETWORKS[name]((4, 2)).log_prob(torch.ones(1, 2, 4))


@every_network
@pytest.mark.parametrize("z2", [True, False])
def test_recipes_rebuild_the_network(name, z2):
    q = network(name, (4, 6), z2=z2)
    assert q.recipe is not None
    assert q.recipe["lattice"] == [4, 6]
    other = build_density(q.recipe).double()
    other.load_state_dict(q.state_dict())
    x, log_q = q.sample(20, seeded(8))
    assert torch.equal(other.sample(20, seeded(8))[0], x)
    torch.testing.assert_close(other.log_prob(x).detach(), log_q)


def test_wrong_arguments_are_refused():
    for wrong in (
        lambda: dense_spins((4, 4), hidden=(0,)),
        lambda: hierarchical_spins((4, 4), hidden=(2, -1)),
    ):
        with pytest.raises(ValueError, match="expected positive numbers"):
            wrong()
    for kernels in ((4,), (3, 0), ()):
        with pytest.raises(ValueError, match="odd kernel sides"):
            convolutional_spins((4, 4), kernels=kernels)
    with pytest.raises(ValueError, match="at least one channel"):
        convolutional_spins((4, 4), channels=0)
    with pytest.raises(ValueError, match="two sides"):
        hierarchical_spins((4, 4, 4))
    conditional = DenseConditional(4, 0, (2,), z2=True, generator=seeded(0))
    with pytest.raises(ValueError, match=r"0 sites of context and 4 spins"):
        Level(torch.zeros(1, 1, dtype=torch.int64), torch.arange(4)[None], conditional)
    level = Level(torch.empty(1, 0, dtype=torch.int64), torch.tensor([[0, 1, 1, 3]]), conditional)
    with pytest.raises(ValueError, match="cover each of the 4 sites once"):
        SpinNetwork((2, 2), [level])


# --- the hierarchy --------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [(2, 2), (4, 4), (8, 8), (8, 4), (2, 8), (3, 3), (6, 6), (12, 8), (5, 4)])
def test_blocks_are_separated_by_their_contexts(lattice):
    """Each site once, contexts drawn before, and the last blocks with all of their neighbours."""
    rows, columns = lattice
    drawn: set[int] = set()
    for division in divisions(lattice):
        blocks = [set(block) for block in division.blocks.tolist()]
        assert not drawn & set().union(*blocks)
        for context in division.contexts.tolist():
            assert set(context) <= drawn
        drawn |= set().union(*blocks)
    assert drawn == set(range(rows * columns))
    last = divisions(lattice)[-1]
    for context, block in zip(last.contexts.tolist(), last.blocks.tolist(), strict=True):
        around = {
            ((site // columns + dr) % rows) * columns + (site % columns + dc) % columns
            for site in block
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
        }
        assert around <= set(context) | set(block)


@pytest.mark.parametrize("lattice", [(8, 8), (4, 16), (32, 32)])
def test_powers_of_two_end_in_single_spins_after_few_steps(lattice):
    levels = divisions(lattice)
    assert levels[-1].single
    assert levels[-1].contexts.shape[1] == 4
    assert len(levels[-1].blocks) == math.prod(lattice) // 4
    assert sum(level.blocks.shape[1] for level in levels) < 3 * sum(lattice)


@pytest.mark.parametrize("lattice", [(4, 4), (2, 4), (2, 2)])
def test_the_last_spins_are_drawn_by_the_heat_bath(lattice):
    """At the K and h of the action it is exactly that of exp(−S), also where two bonds join two sites."""
    action = Ising(lattice, 0.37, field=0.21)
    q = hierarchical_spins(lattice, z2=False).double()
    last = q.levels[-1]
    assert isinstance(last.conditional, NeighbourConditional)
    with torch.no_grad():
        last.conditional.coupling.fill_(0.37)
        last.conditional.field.fill_(0.21)
    x = exact.spin_states(lattice)[:200]
    sites = x.flatten(1).T
    logits = last.conditional.logits(sites[last.contexts].flatten(1), sites[last.blocks].flatten(1))
    expected = 2 * action.local_field(x).flatten(1).T[last.blocks[0]]
    torch.testing.assert_close(logits.detach().view_as(expected), expected)


# --- estimators -----------------------------------------------------------------------------------


class Played(nn.Module):
    """A network whose next draws are given."""

    def __init__(self, q: SpinNetwork, x: Tensor) -> None:
        super().__init__()
        self.q, self.x = q, x

    def sample(self, n: int, _: Generator) -> tuple[Tensor, Tensor]:
        return self.x[:n], self.q.log_prob(self.x[:n])

    def log_prob(self, x: Tensor) -> Tensor:
        return self.q.log_prob(x)


def gradient(q: SpinNetwork, loss: Tensor) -> Tensor:
    q.zero_grad()
    loss.backward()
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in q.parameters()]
    )


def exact_gradient(q: SpinNetwork, action: Ising) -> Tensor:
    """∇F_q, F_q = Σ_s q (log q + S) over all configurations, by automatic differentiation."""
    states = exact.spin_states(action.lattice)
    log_q = q.log_prob(states)
    return gradient(q, (log_q.exp() * (log_q + action(states))).sum())


def exact_free_energy(q: SpinNetwork, action: Ising) -> float:
    """F_q + log Z, which is D_KL(q|p)."""
    states = exact.spin_states(action.lattice)
    with torch.no_grad():
        log_q = q.log_prob(states.to(q.like))
    log_q = log_q.double()
    return float((log_q.exp() * (log_q + action(states))).sum()) + exact.spins_enumerated(action).log_z


@every_network
def test_score_averages_to_the_exact_gradient(name):
    """Σ_s q(s) g1(s) over the 512 configurations of 3 × 3, each as a batch of one."""
    q, action = network(name, (3, 3), size=0.3), Ising((3, 3), 0.4, field=0.1)
    states = exact.spin_states((3, 3))
    p = q.log_prob(states).exp().detach()
    found = torch.zeros(sum(w.numel() for w in q.parameters()), dtype=torch.float64)
    for weight, one in zip(p, states.split(1), strict=True):
        found += weight * gradient(q, score(Played(q, one), action, 1, seeded(0)).loss)
    expected = exact_gradient(q, action)
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "factor"), [(reinforce, 0.5), (reinforce_leave_one_out, 1.0), (score, 1.0)]
)
def test_baselines_average_to_their_share_of_the_exact_gradient(estimator: Estimator, factor):
    """Σ over all 256 pairs of configurations of 2 × 2: E g2 = (N−1)/N ∇F_q with N = 2."""
    q, action = network("dense", (2, 2), z2=False), Ising((2, 2), 0.3, field=0.1)
    states = exact.spin_states((2, 2))
    p = q.log_prob(states).exp().detach()
    found = torch.zeros(sum(w.numel() for w in q.parameters()), dtype=torch.float64)
    for i in range(16):
        for j in range(16):
            pair = Played(q, states[[i, j]])
            found += p[i] * p[j] * gradient(q, estimator(pair, action, 2, seeded(0)).loss)
    torch.testing.assert_close(found, factor * exact_gradient(q, action), rtol=1e-10, atol=1e-12)


def test_estimators_through_the_draws_fail_loudly():
    q = network("dense", (2, 2))
    with pytest.raises(RuntimeError, match="does not require grad"):
        reparametrization(q, Ising((2, 2), 0.3), 8, seeded(0)).loss.backward()


def test_forward_kl_learns_from_configurations():
    action = Ising((2, 3), 0.4)
    states = exact.spin_states((2, 3)).float()
    p = torch.softmax(-action(states).double(), 0)
    data = states[torch.multinomial(p, 4000, replacement=True, generator=seeded(9))]
    q = dense_spins((2, 3), hidden=(4,))
    for _ in train(
        q, action, forward_kl(data), steps=150, batch=256, generator=seeded(10), learning_rate=0.03
    ):
        pass
    # maximum likelihood from 4000 draws of 64 states leaves about 63/(2·4000) = 0.008
    assert exact_free_energy(q, action) < 0.04


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("dense", {}), ("hierarchical", {}), ("convolutional", {"channels": 8, "kernels": (7, 1)})],
)
def test_four_by_four_is_learnt_at_the_critical_point(name, sizes):
    """F_q within 1e-3 V of −log Z, by the sum over all configurations, after two seconds or less."""
    action, q = Ising((4, 4), CRITICAL), build_density({"type": name, "lattice": (4, 4)} | sizes)
    options = {"learning_rate": 1e-2, "schedule": Schedule("cosine", warmup=20), "clip": 1.0}
    for _ in train(q, action, reinforce_leave_one_out, steps=300, batch=256, generator=seeded(1), **options):
        pass
    assert 0 <= exact_free_energy(q, action) < 1e-3 * 16
    if name == "hierarchical":
        assert q.levels[-1].conditional.coupling.item() == pytest.approx(CRITICAL, abs=0.03)
    chain = run(
        IndependenceMetropolis(q, action),
        q.sample(100, seeded(11))[0],
        200,
        lambda x: {"s": action(x).double(), "m": magnetization(x).abs()},
        seeded(12),
        thermalisation=10,
    )
    known = exact.spins_enumerated(action)
    assert chain.series["accepted"].double().mean() > 0.85
    for key, expected in (("s", known.action), ("m", known.m_abs)):
        means = chain.series[key].double().mean(0)
        assert abs(means.mean() - expected) < 5 * means.std() / math.sqrt(len(means)), key


def test_a_glass_in_a_field_is_learnt_with_the_temperature_falling():
    """Annealing is a multiple of the action that changes between steps."""
    couplings = torch.where(torch.rand(2, 4, 4, generator=seeded(13)) < 0.5, 1.0, -1.0)
    action, q = Ising((4, 4), 0.8, field=0.1, couplings=couplings), dense_spins((4, 4), hidden=(8,), z2=False)
    options = {"learning_rate": 1e-2, "schedule": Schedule("cosine"), "clip": 1.0}
    trainer = train(q, action, reinforce, steps=300, batch=256, generator=seeded(1), **options)
    for record in trainer:
        trainer.action = min(1.0, 0.1 + record.step / 150) * action
    assert 0 <= exact_free_energy(q, action) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lattice", "beta"), [((8, 8), CRITICAL), ((8, 8), 0.3), ((8, 8), 0.5), ((16, 8), CRITICAL)]
)
def test_larger_lattices_are_learnt(lattice, beta):
    """F_q within 1e-3 V, log Z of the importance weights within five sigma, both phases drawn alike."""
    action, q = Ising(lattice, beta), hierarchical_spins(lattice, hidden=(8,))
    options = {"learning_rate": 5e-3, "schedule": Schedule("cosine", warmup=20), "clip": 1.0}
    for _ in train(q, action, reinforce_leave_one_out, steps=800, batch=512, generator=seeded(1), **options):
        pass
    x, log_q = q.sample(20_000, seeded(2))
    log_weight = (-action(x) - log_q).double()
    log_z, sites = exact.ising_log_z(lattice, beta), math.prod(lattice)
    assert abs(log_z - log_weight.mean().item()) < 1e-3 * sites
    weight = (log_weight - log_z).exp()
    error = weight.std().item() / math.sqrt(len(weight))
    assert error < 0.01
    assert abs(weight.mean().item() - 1) < 5 * error
    up = (magnetization(x) > 0).double().mean().item()
    assert 0.4 < up < 0.55


@pytest.mark.gpu
@every_network
def test_a_gpu_draws_and_weighs_as_the_cpu_does(name):
    q = network(name, (4, 6))
    moved = NETWORKS[name]((4, 6)).double()
    moved.load_state_dict(q.state_dict())
    moved.cuda()
    x, log_q = moved.sample(100, Generator("cuda").manual_seed(1))
    assert x.is_cuda
    torch.testing.assert_close(log_q, moved.log_prob(x).detach())
    torch.testing.assert_close(log_q.cpu(), q.log_prob(x.cpu()).detach())
