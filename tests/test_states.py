"""Autoregressive networks with q values a site: what holds for spins holds for them."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor

from cases import perturbed
from latflow.densities import build_density, draws, load_density, save_density
from latflow.densities.autoregressive import (
    Categories,
    Conditional,
    ConvolutionalConditional,
    DenseConditional,
    NeighbourConditional,
    Signs,
    SpinNetwork,
    convolutional_spins,
    dense_spins,
    hierarchical_spins,
    values_of,
)
from latflow.errors import CheckpointError
from latflow.estimators import forward_kl, path_gradient, reinforce_leave_one_out, score
from latflow.fields import SCALAR, SPINS, FieldKind
from latflow.fields.states import States
from latflow.theories.base import Action
from latflow.training import Anneal, Schedule, train

NETWORKS: dict[str, Callable[..., SpinNetwork]] = {
    "dense": lambda lattice, **rest: dense_spins(lattice, hidden=(3, 2), **rest),
    "linear": lambda lattice, **rest: dense_spins(lattice, hidden=(), **rest),
    "convolutional": lambda lattice, **rest: convolutional_spins(lattice, channels=3, kernels=(5, 3), **rest),
    "hierarchical": lambda lattice, **rest: hierarchical_spins(lattice, hidden=(3,), coupling=0.3, **rest),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def network(name: str, lattice: tuple[int, ...], q: int, size: float = 0.5) -> SpinNetwork:
    """With weights far from the initial ones; float64."""
    return perturbed(NETWORKS[name](lattice, kind=States(q)).double(), size)


def every_state(lattice: tuple[int, ...], q: int) -> Tensor:
    """All q^V configurations, in the order of the numbers that they spell."""
    found = torch.tensor(list(itertools.product(range(q), repeat=math.prod(lattice))))
    return found.unflatten(1, lattice)


@dataclass(frozen=True)
class Alike(Action):
    """S = −K Σ over nearest neighbours of δ(s, s′) − h Σ δ(s, 0), with q states a site."""

    lattice: tuple[int, ...]
    kind: FieldKind
    coupling: float
    field: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        axes = range(1, x.ndim)
        bonds = sum((x == x.roll(-1, axis)).double().flatten(1).sum(1) for axis in axes)
        return -self.coupling * bonds - self.field * (x == 0).double().flatten(1).sum(1)


def free_energy(q: SpinNetwork, action: Action) -> float:
    """F_q + log Z = D_KL(q|p), over all configurations."""
    states = every_state(action.lattice, action.kind.states)
    with torch.no_grad():
        log_q = q.log_prob(states).double()
    s = action(states)
    return float((log_q.exp() * (log_q + s)).sum() + torch.logsumexp(-s, 0))


# --- the density ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lattice", "states"), [((2, 3), 3), ((3, 2), 3), ((2, 3), 2), ((3, 3), 2), ((3, 3), 3), ((2, 2), 4)]
)
@every_network
def test_probabilities_of_all_configurations_add_up_to_one(name, lattice, states):
    with torch.no_grad():
        log_q = network(name, lattice, states).log_prob(every_state(lattice, states))
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_q.std() > 0.3, "near the uniform distribution nothing is tested"


@every_network
@pytest.mark.parametrize("lattice", [(2, 3), (3, 2)])
def test_draws_have_the_frequencies_that_the_density_says(name, lattice):
    """χ² over all configurations: mean ν, variance 2ν + (Σ 1/p − ν² − 4ν − 1)/n, exactly."""
    q, n, states = network(name, lattice, 3, size=0.3), 60_000, 3
    p = q.log_prob(every_state(lattice, states)).exp().detach()
    x, _ = q.sample(n, seeded(1))
    sites = x[0].numel()
    numbers = (x.flatten(1) * states ** torch.arange(sites - 1, -1, -1)).sum(1)
    counted = torch.bincount(numbers, minlength=states**sites).double()
    chi2 = ((counted - n * p) ** 2 / (n * p)).sum().item()
    cells = len(p) - 1
    spread = math.sqrt(2 * cells + float((1 / p).sum() - cells**2 - 4 * cells - 1) / n)
    assert abs(chi2 - cells) < 5 * spread, (chi2, cells, spread)


@every_network
@pytest.mark.parametrize("lattice", [(2, 3), (4, 2), (8, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 50])
def test_draws_come_with_their_log_probability(name, lattice, dtype, n):
    q = network(name, lattice, 3).to(dtype)
    x, log_q = q.sample(n, seeded(2))
    assert (x.shape, x.dtype, log_q.dtype) == ((n, *lattice), torch.int64, torch.float64)
    States(3).check_values(x)
    assert x.is_contiguous()
    assert not log_q.requires_grad
    rounding = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(log_q, q.log_prob(x).detach(), rtol=rounding, atol=rounding)
    assert torch.equal(q.sample(n, seeded(2))[0], x)


@pytest.mark.parametrize(
    "conditional",
    [
        DenseConditional(7, 0, (3, 2), z2=False, generator=seeded(0), values=Categories(3)),
        DenseConditional(5, 4, (3,), z2=False, generator=seeded(0), values=Categories(4)),
        DenseConditional(1, 3, (), z2=False, generator=seeded(0), values=Categories(2)),
        ConvolutionalConditional((3, 4), 3, (5, 3, 1), z2=False, generator=seeded(0), values=Categories(3)),
        NeighbourConditional(4, 0.4, z2=False, values=Categories(3)),
    ],
)
def test_kept_features_give_the_states_of_a_pass_for_each(conditional: Conditional):
    conditional, values = perturbed(conditional.double(), 0.4), conditional.values
    like, states = torch.empty(0, dtype=torch.float64), values.features
    before = torch.randint(states, (conditional.context, 40), generator=seeded(3))
    context = values.encoded(before, like)
    uniform = torch.rand(conditional.spins, 40, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        found, outputs = conditional.draw(context, uniform)
        expected, last = torch.zeros_like(found), torch.zeros_like(outputs)
        for i in range(conditional.spins):
            last = conditional.logits(context, values.encoded(expected, like))
            p = last.unflatten(0, (-1, states))[i].softmax(0)
            upper = p.cumsum(0)
            expected[i] = torch.stack([(uniform[i] < bound) for bound in upper]).int().argmax(0)
        half = conditional.spins // 2
        rest, _ = conditional.draw(context, uniform[half:], given=found[:half])
    assert torch.equal(found, expected)
    assert torch.equal(rest, found[half:])
    assert len(found.unique()) == states
    torch.testing.assert_close(outputs, last, rtol=1e-12, atol=1e-12)


@every_network
@pytest.mark.parametrize("lattice", [(2, 3), (3, 4)])
def test_a_site_depends_on_earlier_ones_only_and_on_all_of_them(name, lattice):
    for level in network(name, lattice, 3).levels:
        conditional: Conditional = level.conditional
        values, like = conditional.values, torch.empty(0, dtype=torch.float64)
        context = values.encoded(torch.zeros(conditional.context, 1, dtype=torch.int64), like)
        sites = torch.randint(3, (conditional.spins, 1), generator=seeded(5))
        features = values.encoded(sites, like)
        jacobian = torch.autograd.functional.jacobian(
            lambda s, c=context, q=conditional: q.logits(c, s)[:, 0], features
        )[..., 0]
        seen = (jacobian != 0).unflatten(1, (-1, 3)).any(2).unflatten(0, (-1, 3)).any(1)
        earlier = torch.ones_like(seen).tril(-1)
        assert not bool((seen & ~earlier).any())
        if isinstance(conditional, DenseConditional):
            assert bool((seen | ~earlier).all())


@every_network
@pytest.mark.parametrize("size", [10.0, 1e6])
def test_log_probabilities_stay_finite_with_huge_logits(name, size):
    q = perturbed(NETWORKS[name]((4, 4), kind=States(3)), size)
    assert bool(q.sample(100, seeded(5))[1].isfinite().all())
    found = q.log_prob(torch.randint(3, (100, 4, 4), generator=seeded(6)))
    assert bool(found.isfinite().all())
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in q.parameters() if p.grad is not None)


@every_network
def test_new_networks_start_near_the_uniform_distribution(name):
    q = (
        NETWORKS[name]((4, 4), kind=States(5))
        if name != "hierarchical"
        else hierarchical_spins((4, 4), kind=States(5))
    )
    _, log_q = q.sample(500, seeded(7))
    assert log_q.mean().item() == pytest.approx(-16 * math.log(5), abs=0.5)


def test_given_rows_are_continued():
    for name in ("dense", "convolutional"):
        q = network(name, (3, 2), 3)
        first = torch.randint(3, (4, 1, 2), generator=seeded(8))
        x, log_q = q.sample(5, seeded(9), given=first)
        assert torch.equal(x[:, :1], first.repeat_interleave(5, 0))
        torch.testing.assert_close(log_q, q.log_prob(x, given=1).detach())
        rest = every_state((2, 2), 3)
        whole = torch.cat((first[:1].expand(len(rest), 1, 2), rest), 1)
        assert q.log_prob(whole, given=1).exp().sum().item() == pytest.approx(1, abs=1e-12)


# --- two states, and spins ------------------------------------------------------------------------


def test_two_states_are_two_spins():
    """With the same log-odds everywhere, states 0 and 1 have the probabilities of −1 and +1."""
    spins = DenseConditional(6, 0, (), z2=False, generator=seeded(0)).double()
    states = DenseConditional(6, 0, (), z2=False, generator=seeded(0), values=Categories(2)).double()
    perturbed(spins, 0.6)
    with torch.no_grad():
        # Σ_t W_1t e_t(x) − Σ_t W_0t e_t(x) with e = (∓½, ±½): half of the weight in each of four places
        weight = spins.direct.weight / 2
        signed = torch.stack((torch.stack((weight, -weight), -1), torch.stack((-weight, weight), -1)), 1)
        states.direct.weight.copy_(signed.reshape(states.direct.weight.shape))
        bias = spins.direct.bias / 2
        states.direct.bias.copy_(torch.stack((-bias, bias), 1).reshape(states.direct.bias.shape))
    x = every_state((6, 1), 2).flatten(1).T
    like = torch.empty(0, dtype=torch.float64)
    none = torch.zeros(0, x.shape[1], dtype=torch.float64)
    signs = (2 * x - 1).double()
    one = Signs().log_probability(signs, spins.logits(none, signs))
    other = Categories(2).log_probability(x, states.logits(none, Categories(2).encoded(x, like)))
    torch.testing.assert_close(one, other)
    assert one.exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("lattice", [(4, 4), (2, 4), (2, 2)])
def test_the_last_states_are_drawn_by_the_heat_bath(lattice):
    """At the K and h of the action it is exactly that of exp(−S), also where two bonds join two sites."""
    action = Alike(lattice, States(3), 0.7, 0.4)
    q = hierarchical_spins(lattice, kind=States(3)).double()
    last = q.levels[-1]
    assert isinstance(last.conditional, NeighbourConditional)
    with torch.no_grad():
        last.conditional.coupling.fill_(0.7)
        last.conditional.field.copy_(torch.tensor([[0.4], [0.0], [0.0]]))
    x = torch.randint(3, (50, *lattice), generator=seeded(10))
    for site in last.blocks[0].tolist():
        alike = x.flatten(1)[:, None].repeat(1, 3, 1)
        alike[:, :, site] = torch.arange(3)
        expected = torch.softmax(-action(alike.reshape(-1, *lattice)).view(50, 3), 1)
        block = int((last.blocks[0] == site).nonzero())
        context = last.conditional.values.encoded(x.flatten(1).T[last.contexts[:, block]], q.like)
        found = torch.softmax(last.conditional.logits(context, context), 0).T.detach()
        torch.testing.assert_close(found, expected)


def test_kinds_decide_what_a_site_holds():
    assert isinstance(values_of(SPINS), Signs)
    two = values_of(States(2))
    assert (type(two), two.features, two.outputs) == (Categories, 2, 2)
    assert dense_spins((4, 4)).kind == SPINS
    assert (dense_spins((4, 4)).symmetries, dense_spins((4, 4), z2=False).symmetries) == (("z2",), ())
    assert dense_spins((4, 4), kind=States(3)).symmetries == ()
    for build in (dense_spins, convolutional_spins, hierarchical_spins):
        with pytest.raises(ValueError, match="z2 = false for a field of 3 states: only spins"):
            build((4, 4), kind=States(3), z2=True)
        with pytest.raises(ValueError, match="got a scalar field: it needs a flow"):
            build((4, 4), kind=SCALAR)


def test_states_are_checked_and_start_with_equal_probability():
    kind = States(4)
    x = kind.start((8, 8), 200, seeded(11), torch.float32)
    assert (x.dtype, x.shape) == (torch.int64, (200, 8, 8))
    shares = torch.bincount(x.flatten(), minlength=4) / x.numel()
    assert bool(((shares - 0.25).abs() < 5 * math.sqrt(0.1875 / x.numel())).all())
    kind.check_values(x)
    for wrong in (x + 1, x - 1, x.double()):
        with pytest.raises(ValueError, match="whole numbers 0 … 3"):
            kind.check_values(wrong)
    assert kind.distance(x[:1], x[1:2]).unique().tolist() == [0.0, 1.0]
    assert (States(3) == States(3), States(3) == States(4), str(States(3))) == (True, False, "3 states")
    with pytest.raises(ValueError, match="at least 2 states"):
        States(1)


# --- files, training ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dense", "convolutional", "hierarchical"])
def test_files_of_networks_are_given_the_kind(name, tmp_path):
    q = perturbed(build_density({"type": name}, lattice=(4, 4), kind=States(3)).double(), 0.3)
    save_density(q, tmp_path / "q")
    again = load_density(tmp_path / "q", kind=States(3), lattice=(4, 4))
    x, log_q = q.sample(20, seeded(12))
    assert torch.equal(again.sample(20, seeded(12))[0], x)
    torch.testing.assert_close(again.log_prob(x).detach(), log_q)
    with pytest.raises(CheckpointError, match="of another model"):
        load_density(tmp_path / "q")


@every_network
def test_score_averages_to_the_exact_gradient(name):
    """Σ_s q(s) g1(s) over the 81 configurations of 2 × 2."""
    q, action = network(name, (2, 2), 3, size=0.3), Alike((2, 2), States(3), 0.5, 0.2)
    states = every_state((2, 2), 3)
    p = q.log_prob(states).exp().detach()

    def gradient(loss: Tensor) -> Tensor:
        q.zero_grad()
        loss.backward()
        return torch.cat(
            [torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in q.parameters()]
        )

    found = torch.zeros(sum(w.numel() for w in q.parameters()), dtype=torch.float64)
    for weight, one in zip(p, states.split(1), strict=True):

        class Played:
            def sample(self, *_, one=one) -> tuple[Tensor, Tensor]:
                return one, q.log_prob(one)

            def log_prob(self, x: Tensor) -> Tensor:
                return q.log_prob(x)

        found += weight * gradient(score(Played(), action, 1, seeded(0)).loss)
    log_q = q.log_prob(states)
    expected = gradient((log_q.exp() * (log_q + action(states))).sum())
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["dense", "convolutional", "hierarchical"])
def test_two_by_three_is_learnt_at_strong_coupling(name):
    lattice = (2, 2) if name == "hierarchical" else (2, 3)
    action = Alike(lattice, States(3), 0.5, 0.1)
    q = build_density({"type": name}, lattice=lattice, kind=action.kind)
    options = {"learning_rate": 2e-2, "schedule": Schedule("cosine", warmup=20), "clip": 1.0}
    for _ in train(q, action, reinforce_leave_one_out, steps=300, batch=256, generator=seeded(1), **options):
        pass
    assert 0 <= free_energy(q, action) < 0.03
    x, log_weight = draws(q, 2000, action, seeded(2))
    weight = torch.exp(log_weight.double() - torch.logsumexp(-action(every_state(lattice, 3)), 0))
    assert abs(weight.mean().item() - 1) < 5 * weight.std().item() / math.sqrt(len(x))


def test_the_temperature_can_fall_meanwhile():
    action, q = Alike((2, 2), States(3), 0.8), dense_spins((2, 2), kind=States(3))
    options = {"learning_rate": 2e-2, "anneal": Anneal(0.1, 60)}
    for _ in train(q, action, reinforce_leave_one_out, steps=200, batch=256, generator=seeded(3), **options):
        pass
    assert 0 <= free_energy(q, action) < 0.03


def test_configurations_can_be_data():
    action = Alike((2, 2), States(3), 0.8)
    states = every_state((2, 2), 3)
    data = states[
        torch.multinomial(torch.softmax(-action(states), 0), 4000, replacement=True, generator=seeded(9))
    ]
    q = dense_spins((2, 2), kind=States(3))
    for _ in train(
        q, action, forward_kl(data), steps=150, batch=256, generator=seeded(10), learning_rate=0.03
    ):
        pass
    # maximum likelihood from 4000 draws of 81 states leaves about 80/(2·4000) = 0.01
    assert free_energy(q, action) < 0.06


def test_what_needs_a_derivative_says_that_there_is_none():
    assert path_gradient.needs_force
    assert not score.needs_force
    with pytest.raises(ValueError, match=r"expected a continuous field .*3 states"):
        path_gradient(dense_spins((2, 2), kind=States(3)), Alike((2, 2), States(3), 0.5), 4, seeded(0))
