"""What a training counts, and takes up again where it was stopped."""

import pytest
import torch
from torch import Generator

from latflow.densities.base import PathDraws
from latflow.densities.flows import affine_flow
from latflow.densities.multilevel.counted import CountedMultilevel
from latflow.estimators import Estimate, ForwardPath, SoftLabelsInRanges, counting, forward_kl, reinforce
from latflow.estimators.labels import SoftLabels
from latflow.multilevel import multilevel
from latflow.theories import Ising, Phi4
from latflow.training import Anneal, Curriculum, Schedule, Trainer
from latflow.training.schedules import Plateau
from latflow.training.world import World

ACTION = Phi4((2, 2), m2=1.0, lam=0.1)


def trainer(**options) -> Trainer:
    flow = affine_flow((2, 2), layers=1, hidden=(2,))
    given = {"steps": 6, "batch": 4, "generator": Generator().manual_seed(1)}
    return Trainer(flow, ACTION, options.pop("estimator", reinforce), **{**given, **options})


def test_a_plateau_goes_on_in_the_middle_of_its_window():
    """Means of two: 3, then 2 with half of it seen before the stop, then 2 again, which is no better."""
    one, other = Plateau(2), Plateau(2)
    for f_q in (3.0, 3.0, 4.0):
        one.update(f_q)
    other.load_state_dict(one.state_dict())
    for plateau in (one, other):
        plateau.update(0.0)
        assert (plateau.best, plateau.falls) == (2.0, 0)
        plateau.update(2.0)
        plateau.update(2.0)
        assert (plateau.best, plateau.falls) == (2.0, 1)
    assert one.state_dict() == other.state_dict()


def test_the_best_mean_of_a_plateau_is_remembered():
    one, other = Plateau(1), Plateau(1)
    one.update(1.0)
    other.load_state_dict(one.state_dict())
    other.update(5.0)
    assert (other.best, other.falls) == (1.0, 1)


def test_no_step_of_an_annealing_counts_for_a_plateau():
    run = trainer(anneal=Anneal(0.5, 4), schedule=Schedule("plateau", patience=100))
    records = list(run)
    assert run.plateau.seen == 2  # of six steps, four are annealed
    assert run.plateau.total == pytest.approx(records[4].f_q + records[5].f_q)


def test_averages_over_the_target_fall_where_f_q_rises():
    """F_q then lies below F: the plateau is one of −F_q."""
    estimator = forward_kl(torch.randn(8, 2, 2, generator=Generator().manual_seed(2)))
    run = trainer(estimator=estimator, steps=1, schedule=Schedule("plateau", patience=1))
    (record,) = run
    assert run.plateau.best == pytest.approx(-record.f_q)


def test_seconds_are_summed_over_interruptions():
    first, second = trainer(), trainer()
    next(first)
    first.seconds = 1000.0
    second.load_state_dict(first.state_dict())
    assert next(second).seconds > 1000.0


def test_processes_draw_apart():
    """The first keeps its generator, every other one has numbers of its own."""
    seeds = []
    for rank in range(3):
        generator = Generator().manual_seed(7)
        World(3, rank).separate(generator)
        seeds.append(generator.initial_seed())
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


# estimators


def test_every_configuration_of_a_file_is_drawn():
    """Of two configurations 64 draws miss one with probability 2⁻⁶³; the field tells which they are."""
    configurations = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    _, log_weight = forward_kl(configurations)(trainer().density, ACTION, 64, Generator().manual_seed(3))
    assert len(log_weight.unique()) == 2


def test_a_baseline_runs_over_the_draws_of_all_processes():
    own, whole = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.0, 5.0, 7.0])
    assert torch.equal(reinforce.signal(own, whole), torch.tensor([3.0, 1.0]))  # s = −log w, its mean is −4


def told(number: int, calls: list[int]):
    """An estimator whose loss is its number."""

    def estimate(density, action, n, generator):
        calls.append(number)
        return Estimate(torch.tensor(float(number)), torch.zeros(n))

    return estimate


def test_knots_count_as_much_as_the_theory_and_take_turns_far_apart(monkeypatch):
    ranges, calls = SoftLabelsInRanges(knots=8), []
    ranges.own = told(10, [])
    ranges.others = [told(number, calls) for number in range(8)]
    monkeypatch.setattr(ranges, "_at_knots", lambda density, action: [(density, action)] * 8)
    density = Fixed(torch.zeros(2, 2), 0.0)
    losses = [float(ranges(density, ACTION, 4, Generator()).loss) for _ in range(8)]
    assert calls == [0, 3, 6, 1, 4, 7, 2, 5]  # by a stride of three
    assert losses == [(10 + number) / 2 for number in calls]


def test_the_turn_of_the_knots_is_remembered():
    ranges = SoftLabelsInRanges(knots=4)
    ranges.load_state_dict({"own/calls": torch.tensor([5])})
    assert ranges._calls == 5


class Fixed:
    """A density of one configuration."""

    def __init__(self, x: torch.Tensor, log_q: float) -> None:
        self.x, self.log_q = x, log_q

    def sample(self, n, *_):
        return self.x.expand(n, *self.x.shape).clone(), torch.full((n,), self.log_q, dtype=torch.float64)

    def log_prob(self, x):
        return torch.full((len(x),), self.log_q, dtype=torch.float64)


@pytest.mark.parametrize(("here", "there", "moves"), [(3.0, 0.0, True), (0.0, 3.0, False)])
def test_a_population_moves_to_what_has_more_weight(here, there, moves):
    """S rises by 4 (9 + 8.1) = 68 from 0 to 3: what is proposed is accepted for certain, or never."""
    x = torch.full((5, 2, 2), here, dtype=torch.float64)
    density = Fixed(torch.full((2, 2), there, dtype=torch.float64), -1.0)
    moved, log_weight = SoftLabels()._proposed(density, ACTION, x, Generator().manual_seed(1))
    assert torch.equal(moved, torch.full_like(x, there if moves else here))
    assert torch.allclose(log_weight, 1.0 - ACTION(density.x[None]))


class Watched:
    """A theory that notes which colour of its sites is redrawn, and adds something to all of them."""

    def __init__(self, step: float = 0.0) -> None:
        self.parities: list[int] = []
        self.step = step

    def redrawn(self, x, parity, _):
        self.parities.append(parity)
        return x + self.step


class Learning(SoftLabels):
    """Soft labels that learn nothing."""

    def _learn(self, *_):
        return torch.zeros(())


def test_each_sweep_of_a_population_redraws_both_colours_and_each_call_other_chains():
    """The first two twice by 4, the last two once; what these get is replaced by zeros in the third call."""
    density = Fixed(torch.zeros(2, 2), 0.0)
    density.theory = Watched(step=1.0)
    population, estimator = torch.zeros(4, 2, 2), Learning(chains=4, proposals=0.5, sweeps=2)
    estimator._populations[ACTION.lattice] = population
    for _ in range(3):
        estimator(density, ACTION, 2, Generator().manual_seed(1))
    assert density.theory.parities == [0, 1] * 6
    assert population[:, 0, 0].tolist() == [8.0, 8.0, 0.0, 0.0]
    assert estimator._calls == 3


def test_on_another_lattice_draws_are_proposed_at_once():
    """Else the record would show log-weights of the lattice before, for up to 1/proposals calls."""
    estimator, found = Learning(chains=8, proposals=0.25), []
    for sides in ((4, 4), (8, 8)):
        theory = Ising(sides, 0.4)
        q = multilevel(sides, action=theory, width=4)
        found.append(estimator(q, theory, 8, Generator().manual_seed(1)).log_weight)
    assert 3 * float(found[0].mean()) < float(found[1].mean())


@pytest.mark.parametrize(
    ("proposals", "expected"), [(1.0, [2, 4, 4, 4]), (0.5, [2, 2, 4, 4]), (0.3, [2, 2, 2, 4])]
)
def test_draws_are_proposed_together_and_to_all_chains_in_turn(proposals, expected):
    """To 2, 2 and round(0.3 · 3 · 2) = 2 of 4 chains: in every call, in every second, in every third."""
    density = Fixed(torch.zeros(2, 2), 0.0)
    density.theory = Watched()
    population, estimator = torch.full((4, 2, 2), 3.0), Learning(chains=4, proposals=proposals)
    estimator._populations[ACTION.lattice] = population
    found = []
    for _ in range(4):
        assert len(estimator(density, ACTION, 2, Generator().manual_seed(1)).log_weight) == 2
        found.append(int((population[:, 0, 0] == 0).sum()))
    assert found == expected


def test_the_log_weights_of_the_last_proposals_are_kept():
    """By a population that goes on between two calls that propose; one that kept none proposes at once."""
    density, generator = Fixed(torch.zeros(2, 2), 0.0), Generator().manual_seed(1)
    density.theory = Watched()
    first, second, third = (Learning(chains=4, proposals=0.25) for _ in range(3))
    first._populations[ACTION.lattice] = torch.zeros(4, 2, 2)
    told = first(density, ACTION, 4, generator).log_weight
    state = first.state_dict()
    second.load_state_dict(state)
    density.log_q = 1.0
    assert torch.equal(second(density, ACTION, 4, generator).log_weight, told)
    third.load_state_dict({name: kept for name, kept in state.items() if name != "log_weight"})
    assert torch.equal(third(density, ACTION, 4, generator).log_weight, told - 1.0)


def test_forces_are_shortened_by_the_number_of_their_components():
    """Of 4 components those longer than 2 √4 = 4: one of norm 3 stays, one of norm 8 is halved."""
    gradient = torch.stack([torch.full((2, 2), 1.5), torch.full((2, 2), 4.0)])
    x = torch.ones(2, 2, 2)
    nothing = torch.zeros(2)
    drawn = PathDraws(x, nothing, torch.zeros_like(x), nothing)
    estimate = ForwardPath(reverse=1.0, longest=2.0)._estimate(
        ACTION, drawn, gradient, nothing, nothing, nothing, 2
    )
    assert float(estimate.loss) == pytest.approx(-(4 * 1.5 + 4 * 2.0) / 2)


def test_old_counts_keep_the_weight_of_the_memory():
    """Once the density is made of them; all are from one call here."""
    theory = Ising((4, 4), 0.4)
    counts = []
    for memory in (1.0, 0.25):
        density = CountedMultilevel((4, 4), theory.nearest_neighbours())
        estimator = counting(chains=8, first=1, memory=memory)
        list(estimator.pieces(density, theory, 8, Generator().manual_seed(1), 8, lambda one: one))
        counts.append(estimator.state_dict()["counts"])
    assert counts[0].sum() > 0
    assert torch.allclose(counts[1], 0.25 * counts[0])


def test_each_lattice_of_a_curriculum_has_its_steps():
    curriculum = Curriculum([(2, 2), (4, 2)], [2, 1])
    assert [curriculum.lattice(step) for step in range(5)] == [(2, 2), (2, 2), (4, 2), None, None]
