"""Independence Metropolis against exact kernels and means, Gaussian log-weights, and a naive loop."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from latflow.fields import SCALAR, FieldKind
from latflow.samplers import Cycle, IndependenceMetropolis, metropolis_scan, run
from latflow.storage import load_tree, save_tree
from latflow.theories import Action, Phi4
from latflow.types import Draws


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def assert_within_five_sigma(series: Tensor, expected: float) -> None:
    """The mean of (step, chain) against `expected`, the spread taken over the means of independent chains."""
    means = series.double().mean(0)
    value, error = float(means.mean()), float(means.std()) / math.sqrt(len(means))
    assert abs(value - expected) < 5 * error, f"{value} ± {error} against {expected}"


class Die(nn.Module):
    """A density over the faces 0 … K−1, as fields of one site."""

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__()
        self.log_probabilities = nn.Parameter(probabilities.log())
        self.lattice = (1,)

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        faces = torch.multinomial(self.log_probabilities.exp(), n, replacement=True, generator=generator)
        return faces[:, None].double(), self.log_probabilities[faces]

    def log_prob(self, x: Tensor) -> Tensor:
        return self.log_probabilities[x[:, 0].long()]


class Gaussian(nn.Module):
    """Independent normal sites of a given width."""

    def __init__(
        self, lattice: tuple[int, ...] = (1,), width: float = 1.0, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        self.lattice = lattice
        self.width = nn.Parameter(torch.tensor(width, dtype=dtype))

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, *self.lattice, generator=generator, dtype=self.width.dtype)
        return self.width * z, self.log_prob(self.width * z)

    def log_prob(self, x: Tensor) -> Tensor:
        constant = torch.log(self.width) + 0.5 * math.log(2 * math.pi)
        return -(0.5 * (x / self.width) ** 2 + constant).flatten(1).sum(1)


@dataclass(frozen=True)
class FromFunction(Action):
    function: Callable[[Tensor], Tensor]
    lattice: tuple[int, ...] = (1,)
    kind: ClassVar[FieldKind] = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)


TARGET = torch.tensor([0.5, 0.05, 0.3, 0.15], dtype=torch.float64)
POOR = torch.tensor([0.1, 0.6, 0.05, 0.25], dtype=torch.float64)


def loaded_die(batch: int = 4096) -> IndependenceMetropolis:
    """Exact target TARGET (up to a factor of 7), proposals from POOR."""
    return IndependenceMetropolis(
        Die(POOR), FromFunction(lambda x: -TARGET[x[:, 0].long()].log() - math.log(7)), batch
    )


def tilted(sigma: float, batch: int = 4096) -> IndependenceMetropolis:
    """q = N(0, 1), p = N(σ, 1): the log-weight σx + constant is normal with width σ."""
    return IndependenceMetropolis(
        Gaussian(), FromFunction(lambda x: 0.5 * x[:, 0] ** 2 - sigma * x[:, 0]), batch
    )


def observe(x: Tensor) -> dict[str, Tensor]:
    return {"first": x.flatten(1)[:, 0], "x": x}


# --- exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chains", [1, 60])
def test_a_poor_proposal_still_gives_exact_means(chains: int) -> None:
    sampler = loaded_die()
    start = torch.ones(chains, 1, dtype=torch.float64)  # the least likely face
    chain = run(sampler, start, 60_000 // chains, observe, seeded(1), thermalisation=100)
    # τ is about 5: stretches of 1000 steps are independent enough to give the spread
    faces = chain.series["first"].T.reshape(60, 1000).T
    for face, probability in enumerate(TARGET.tolist()):
        assert_within_five_sigma(faces == face, probability)
    assert_within_five_sigma(faces, float(TARGET @ torch.arange(4.0, dtype=torch.float64)))


def test_one_step_has_the_exact_transition_matrix() -> None:
    sampler, chains = loaded_die(), 20_000
    weight = TARGET / POOR
    for start in range(4):
        state = sampler.init(torch.full((chains, 1), float(start), dtype=torch.float64))
        state, info = sampler.step(state, seeded(10 + start))
        expected = POOR * (weight / weight[start]).clamp(max=1)
        expected[start] = 1 - (expected.sum() - expected[start])
        counted = torch.bincount(sampler.field(state)[:, 0].long(), minlength=4) / chains
        spread = (expected * (1 - expected) / chains).sqrt()
        assert bool(((counted - expected).abs() < 5 * spread).all()), (counted, expected)
        rate = float((POOR * (weight / weight[start]).clamp(max=1)).sum())
        assert (
            abs(float(info.accepted.double().mean()) - rate)
            < 5 * math.sqrt(rate * (1 - rate) / chains) + 1e-12
        )


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_gaussian_log_weights_have_the_known_acceptance_and_sample_size(sigma: float) -> None:
    chains = 100
    chain = run(
        tilted(sigma), torch.full((chains, 1), sigma, dtype=torch.float64), 4000, observe, seeded(2), 50
    )
    assert_within_five_sigma(chain.series["accepted"], math.erfc(sigma / 2))
    assert_within_five_sigma(chain.series["first"], sigma)

    assert chain.proposals is not None
    assert_within_five_sigma(chain.proposals["first"], 0.0)
    # each chain's proposals give one estimate of the ESS, with a bias of 1/4000 that the spread dwarfs
    weight = chain.proposals["log_weight"].exp()
    sample_size = weight.mean(0) ** 2 / (weight**2).mean(0)
    error = float(sample_size.std()) / math.sqrt(chains) + 0.002 * (sigma > 0.5)
    assert abs(float(sample_size.mean()) - math.exp(-(sigma**2))) < 5 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lattice", [(3,), (2, 3), (2, 1, 2)], ids=str)
def test_single_sites_of_any_lattice_are_exact(lattice: tuple[int, ...], dtype: torch.dtype) -> None:
    # without its neighbours a site of the action x²/2 + λ x⁴ is one integral
    sites = FromFunction(lambda x: (0.5 * x**2 + 0.3 * x**4).flatten(1).sum(1), lattice)
    sampler = IndependenceMetropolis(Gaussian(lattice, 0.8, dtype), sites, batch=1000)
    chain = run(sampler, sampler.init_from_draws(50, seeded(3)), 400, observe, seeded(4), thermalisation=30)
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2 - 0.3 * grid**4)
    assert chain.series["x"].shape == (400, 50, *lattice)
    assert chain.series["x"].dtype == dtype
    assert_within_five_sigma(
        chain.series["first"].double() ** 2, float((grid**2 * density).sum() / density.sum())
    )


# --- bookkeeping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [7, 64, 4096])
@pytest.mark.parametrize("chains", [1, 5, 20])
def test_the_history_follows_the_decisions(batch: int, chains: int) -> None:
    """Rejection keeps the configuration, its observables and its weight; acceptance takes the proposal's."""
    sampler = tilted(1.5, batch)
    start = sampler.init_from_draws(chains, seeded(5))
    with torch.no_grad():
        state, block = sampler.advance(start, 90, observe, seeded(6))
        again = sampler.init(block.series["x"].flatten(0, 1)).log_weight.view(90, chains)
    accepted, proposals = block.series["accepted"], block.proposals
    assert proposals is not None
    assert 0 < int(accepted.sum()) < 90 * chains
    torch.testing.assert_close(block.series["log_weight"], again, rtol=1e-12, atol=1e-12)
    before = {"x": start.x, "log_weight": start.log_weight}
    for name, first in before.items():
        held = torch.cat([first[None], block.series[name][:-1]])
        moved = accepted.view(90, chains, *[1] * (held.ndim - 2))
        assert torch.equal(block.series[name], torch.where(moved, proposals[name], held)), name
    assert torch.equal(state.x, block.series["x"][-1])
    assert torch.equal(state.log_weight, block.series["log_weight"][-1])
    assert not any(values.requires_grad for values in (state.x, state.log_weight, *block.series.values()))


def test_steps_one_by_one_are_the_same_chain_as_in_batches() -> None:
    sampler = tilted(1.0, batch=12)
    state, block = sampler.advance(sampler.init_from_draws(12, seeded(7)), 20, observe, seeded(8))
    one_by_one, generator = sampler.init_from_draws(12, seeded(7)), seeded(8)
    for step in range(20):
        one_by_one, info = sampler.step(one_by_one, generator)
        assert torch.equal(info.accepted, block.series["accepted"][step])
        assert torch.equal(info.log_weight, block.series["log_weight"][step])
        assert torch.equal(sampler.field(one_by_one), block.series["x"][step])
    assert torch.equal(one_by_one.x, state.x)


def test_observables_are_evaluated_once_a_proposal_and_in_batches() -> None:
    seen = []

    def count(x: Tensor) -> dict[str, Tensor]:
        seen.append(len(x))
        return {}

    sampler = tilted(1.0, batch=100)
    sampler.advance(sampler.init_from_draws(10, seeded(9)), 35, count, seeded(9))
    assert seen == [10, 100, 100, 100, 50]


def test_an_interrupted_history_goes_on_bit_for_bit(tmp_path: Path) -> None:
    sampler = tilted(1.2, batch=50)
    generator = seeded(11)
    whole = run(sampler, sampler.init_from_draws(3, generator), 120, observe, generator, block=40)

    generator = seeded(11)
    first = run(sampler, sampler.init_from_draws(3, generator), 80, observe, generator, block=40)
    save_tree(
        tmp_path / "chain", {"state": sampler.state_dict(first.state), "generator": generator.get_state()}
    )
    tree = load_tree(tmp_path / "chain")
    resumed = torch.Generator()
    resumed.set_state(tree["generator"])
    second = run(sampler, sampler.state_from_dict(tree["state"]), 40, observe, resumed, block=40)

    assert whole.proposals is not None
    assert first.proposals is not None
    assert second.proposals is not None
    for name, values in whole.series.items():
        assert torch.equal(values, torch.cat([first.series[name], second.series[name]])), name
    for name, values in whole.proposals.items():
        assert torch.equal(values, torch.cat([first.proposals[name], second.proposals[name]])), name


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="batch"):
        tilted(1.0, batch=0)
    with pytest.raises(ValueError, match="chain"):
        tilted(1.0).init_from_draws(0, seeded(0))


# --- log-weights that are no numbers --------------------------------------------------------------


def test_a_proposal_without_a_finite_weight_is_never_accepted() -> None:
    action = FromFunction(
        lambda x: torch.where(x[:, 0] > 1, torch.nan, torch.where(x[:, 0] < -1, torch.inf, 0.0))
    )
    sampler = IndependenceMetropolis(Gaussian(), action)
    chain = run(sampler, torch.zeros(20, 1, dtype=torch.float64), 300, observe, seeded(12))
    assert float(chain.series["first"].abs().max()) < 1
    assert bool(chain.series["log_weight"].isfinite().all())


@pytest.mark.parametrize("start", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("chains", [1, 20])
def test_a_start_without_a_finite_weight_is_left_at_once(start: float, chains: int) -> None:
    proposed = torch.tensor([math.nan, -math.inf, math.inf, -50.0, -90.0], dtype=torch.float64)
    log_uniform = torch.full((5, chains), -1e-3, dtype=torch.float64)
    index = metropolis_scan(
        proposed[:, None].repeat(1, chains), log_uniform, torch.full((chains,), start).double()
    )
    assert index[:, 0].tolist() == [-1, -1, -1, 3, 3]
    assert bool((index == index[:, :1]).all())


# --- the scan -------------------------------------------------------------------------------------


def naive_scan(log_weight: list[float], log_uniform: list[float], current: float) -> list[int]:
    history = []
    held = current
    for step, (proposed, log_u) in enumerate(zip(log_weight, log_uniform, strict=True)):
        accept = math.isfinite(proposed) and (not math.isfinite(held) or log_u < proposed - held)
        held = proposed if accept else held
        history.append(step if accept else (history[-1] if history else -1))
    return history


log_weights = st.floats(-6, 6) | st.sampled_from([math.nan, math.inf, -math.inf])
log_uniforms = st.floats(1e-9, 1).map(math.log) | st.just(-math.inf)


@given(st.data(), st.integers(0, 30), st.sampled_from([1, 2, 15, 16, 20]))
def test_the_scan_equals_a_naive_loop(data: st.DataObject, steps: int, chains: int) -> None:
    def column(values: st.SearchStrategy[float]) -> list[float]:
        return data.draw(st.lists(values, min_size=steps, max_size=steps))

    weight = [column(log_weights) for _ in range(chains)]
    uniform = [column(log_uniforms) for _ in range(chains)]
    start = [data.draw(log_weights) for _ in range(chains)]
    found = metropolis_scan(
        *(torch.tensor(rows, dtype=torch.float64).T for rows in (weight, uniform)),
        torch.tensor(start, dtype=torch.float64),
    )
    assert found.dtype == torch.int64
    assert found.T.tolist() == [naive_scan(*column) for column in zip(weight, uniform, start, strict=True)]


@pytest.mark.parametrize("chains", [1, 20])
def test_the_scan_decides_in_float64(chains: int) -> None:
    # at 2²⁴ neighbouring float32 numbers lie 2 apart: a sum in float32 would lose the difference
    weight = torch.full((1, chains), 2.0**24, dtype=torch.float32)
    start = torch.full((chains,), 2.0**24, dtype=torch.float32)
    reject = torch.full((1, chains), 1e-9, dtype=torch.float64)
    assert metropolis_scan(weight, reject, start).tolist() == [[-1] * chains]
    assert metropolis_scan(weight, -reject, start).tolist() == [[0] * chains]


def test_one_chain_and_many_agree_on_the_free_field() -> None:
    # at a large mass the sites almost decouple, and independent normal sites propose well
    action = Phi4((2, 3), m2=6.0, lam=0.0)
    sampler = IndependenceMetropolis(Gaussian((2, 3), 0.24), action)
    exact = 1 / (2 * 6.0)
    for chains in (1, 50):
        chain = run(
            sampler, sampler.init_from_draws(chains, seeded(13)), 50_000 // chains, observe, seeded(14), 50
        )
        mean_squared = 6 * chain.series["x"].flatten(2).mean(2) ** 2
        assert_within_five_sigma(mean_squared.T.reshape(50, 1000).T, exact)


# --- weighted samplers, and fields of whole numbers -----------------------------------------------


class Drawing:
    """Weighted draws of the faces of `TARGET`, as whole numbers, from a density that it keeps to itself."""

    def __init__(self, probabilities: Tensor = POOR, *, constant: float = 3.0) -> None:
        self.probabilities, self.constant = probabilities, constant

    def draws(self, n: int, action: Action, generator: Generator) -> Draws:
        faces = torch.multinomial(self.probabilities, n, replacement=True, generator=generator)
        # any constant is as good as another
        return Draws(
            faces[:, None], -action(faces[:, None]) - self.probabilities[faces].log() + self.constant
        )


FACES = FromFunction(lambda x: -TARGET[x[:, 0]].log())


def observe_faces(x: Tensor) -> dict[str, Tensor]:
    return {"face": x[:, 0], "x": x}


def test_a_weighted_sampler_proposes_as_well_as_a_density() -> None:
    sampler, generator = IndependenceMetropolis(Drawing(), FACES, batch=500), seeded(21)
    state = sampler.init_from_draws(60, generator)
    chain = run(sampler, state, 1000, observe_faces, generator, thermalisation=50)
    assert chain.state.x.dtype == chain.series["x"].dtype == torch.int64
    assert chain.proposals is not None
    weight = (chain.proposals["log_weight"] - chain.proposals["log_weight"].max()).exp()
    for face, probability in enumerate(TARGET.tolist()):
        assert_within_five_sigma(chain.series["face"] == face, probability)
        share = (weight * (chain.proposals["face"] == face)).sum(0) / weight.sum(0)
        error = float(share.std()) / math.sqrt(60) + 0.001
        assert abs(float(share.mean()) - probability) < 5 * error


def test_steps_with_draws_are_the_chain_of_whole_numbers() -> None:
    sampler, generator = IndependenceMetropolis(Drawing(), FACES, batch=12), seeded(22)
    state = sampler.init_from_draws(12, generator)
    for _ in range(10):
        before = state
        state, info, draws = sampler.step_with_draws(state, generator)
        assert state.x.dtype == torch.int64
        assert torch.equal(state.x, torch.where(info.accepted[:, None], draws.x, before.x))
        assert torch.equal(state.log_weight, torch.where(info.accepted, draws.log_weight, before.log_weight))


def test_a_start_needs_a_density_that_can_evaluate() -> None:
    sampler = IndependenceMetropolis(Drawing(), FACES)
    with pytest.raises(
        ValueError, match=r"expected a density with log_prob .* got Drawing: start at its draws"
    ):
        sampler.init(torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="log_prob"):
        Cycle([sampler]).init(torch.zeros(3, 1, dtype=torch.int64))
