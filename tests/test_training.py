"""The training loop: its records, schedules and guards; resumed, it is the same to the last bit."""

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import BackwardCFunction

from cases import GENERAL_ESTIMATORS, draw, thinned
from latflow.densities.flows import Flow, Normal, Scale, affine_flow, spline_flow
from latflow.densities.flows.networks import ConvNet
from latflow.errors import TrainingError
from latflow.estimators import (
    Estimate,
    Estimator,
    forward_kl,
    path_gradient,
    reinforce,
    reparametrization,
    score,
)
from latflow.fields import SCALAR
from latflow.storage import load_tree, save_tree
from latflow.theories import Action, Phi4
from latflow.training import Record, Schedule, Trainer, train
from latflow.training.profiling import graph_nodes
from latflow.training.schedules import Plateau

ACTION = Phi4((4, 4), m2=0.5, lam=0.3)


def build(seed: int = 0, dtype: torch.dtype = torch.float32, **options) -> Flow:
    generator = Generator().manual_seed(seed)
    return affine_flow((4, 4), layers=2, hidden=(3,), generator=generator, **options).to(dtype)


def trainer(flow: nn.Module, estimator: Estimator = reinforce, action: Action = ACTION, **options) -> Trainer:
    defaults = {"steps": 6, "batch": 16, "learning_rate": 0.01, "generator": Generator().manual_seed(5)}
    return Trainer(flow, action, estimator, **defaults | options)


def weights(flow: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def without_time(record: Record) -> dict:
    """All but the seconds; what is not a number equals itself here."""
    numbers = {name: value for name, value in record.as_dict().items() if name != "seconds"}
    return {name: "nan" if value != value else value for name, value in numbers.items()}


class Watched(Estimator):
    """Passes everything on, and keeps the log-weights."""

    def __init__(self, inner: Estimator) -> None:
        self.inner, self.seen = inner, []

    def __call__(self, density, action, n, generator) -> Estimate:
        return self.inner(density, action, n, generator)

    def pieces(self, density, action, n, generator, sub_batch, gather) -> Iterator[Estimate]:
        for piece in self.inner.pieces(density, action, n, generator, sub_batch, gather):
            self.seen.append(piece.log_weight)
            yield piece


@dataclass(frozen=True)
class Faulty(Action):
    """S = Σ φ², but not a number at some calls."""

    faults: tuple[int, ...]
    calls: list[int]
    lattice = (4, 4)
    kind = SCALAR

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append(len(self.calls))
        s = x.square().flatten(1).sum(1)
        return s * math.nan if self.calls[-1] in self.faults else s


def test_records_say_what_the_step_saw():
    flow, reference = build(dtype=torch.float64), build(dtype=torch.float64)
    records = list(trainer(flow, steps=3))
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    generator, seconds = Generator().manual_seed(5), 0.0
    for step, record in enumerate(records, start=1):
        optimizer.zero_grad()
        loss, log_weight = reinforce(reference, ACTION, 16, generator)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
        optimizer.step()
        weight = log_weight.exp()
        assert record.step == step
        assert record.loss == pytest.approx(loss.item())
        assert record.f_q == pytest.approx(-log_weight.mean().item())
        assert record.f_q_std == pytest.approx(log_weight.std(correction=0).item())
        assert record.ess == pytest.approx((weight.sum() ** 2 / weight.square().sum() / 16).item())
        assert record.grad_norm == pytest.approx(norm.item())
        assert record.learning_rate == 0.01
        assert record.seconds > seconds
        assert not record.skipped
        seconds = record.seconds
    torch.testing.assert_close(weights(flow), weights(reference))


def test_training_ends_after_its_steps_and_can_be_left_before():
    one = train(build(), ACTION, reinforce, steps=4, batch=8, generator=Generator().manual_seed(0))
    assert [record.step for record in islice(one, 2)] == [1, 2]
    assert [record.step for record in one] == [3, 4]
    assert next(one, None) is None


def test_ess_of_a_batch_does_not_overflow():
    records = list(trainer(build(), action=Phi4((4, 4), m2=5000.0, lam=0.0), steps=2))
    assert all(0 < record.ess <= 1 for record in records)
    assert all(math.isfinite(record.f_q) for record in records)


def test_training_lowers_the_free_energy():
    records = list(trainer(build(z2=True), path_gradient, steps=60, batch=32, learning_rate=0.02))
    assert records[-1].f_q < records[0].f_q - 1
    assert records[-1].f_q_std < 0.5 * records[0].f_q_std


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [1.0] * 6),
        (Schedule(warmup=4), [0.25, 0.5, 0.75, 1, 1, 1]),
        (Schedule("cosine"), [0.5 * (1 + math.cos(math.pi * t / 6)) for t in range(6)]),
        (Schedule("cosine", floor=0.2), [0.2 + 0.4 * (1 + math.cos(math.pi * t / 6)) for t in range(6)]),
        (Schedule("step", every=2, factor=0.1), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (Schedule("step", every=2, factor=0.1, warmup=2), [0.5, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_learning_rates_follow_their_schedule(schedule, expected):
    rates = [record.learning_rate for record in trainer(build(), schedule=schedule)]
    assert rates == pytest.approx([0.01 * factor for factor in expected])


def test_plateau_lowers_the_rate_when_f_q_stops_falling():
    schedule = Schedule("plateau", patience=2, factor=0.5, floor=0.2)
    records = list(trainer(build(), schedule=schedule, steps=16, learning_rate=1e-9))
    falls, best, expected = 0, math.inf, []
    for first in range(0, 16, 2):
        expected += [1e-9 * max(0.2, 0.5**falls)] * 2
        mean = (records[first].f_q + records[first + 1].f_q) / 2
        best, falls = (mean, falls) if mean < best else (best, falls + 1)
    assert falls >= 3
    assert [record.learning_rate for record in records] == pytest.approx(expected)


def test_plateau_counts():
    plateau = Plateau(2)
    for f_q in (3.0, 1.0, 0.0, 2.0, 2.1, 2.1, 1.0, 2.0):
        plateau.update(f_q)
    assert plateau.falls == 1 + 1
    assert plateau.best == 1.0


@pytest.mark.parametrize(
    "optimizer",
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.95)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.95), "weight_decay": 0.1}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9}),
        ("rmsprop", torch.optim.RMSprop, {}),
        (partial(torch.optim.Adam, amsgrad=True), torch.optim.Adam, {"amsgrad": True}),
        (lambda parameters, lr, **_: torch.optim.SGD(parameters, lr), torch.optim.SGD, {}),
    ],
    ids=("adam", "adamw", "sgd", "rmsprop", "partial", "function"),
)
def test_optimizers_are_those_of_torch(optimizer):
    flow, reference = build(), build()
    name, algorithm, options = optimizer
    list(trainer(flow, optimizer=name, steps=3, optimizer_options=options))
    twin, generator = algorithm(reference.parameters(), lr=0.01, **options), Generator().manual_seed(5)
    for _ in range(3):
        twin.zero_grad()
        reinforce(reference, ACTION, 16, generator).loss.backward()
        twin.step()
    torch.testing.assert_close(weights(flow), weights(reference))


def test_clipping_shortens_the_gradient_that_the_record_shows_whole():
    free, clipped = build(), build()
    (whole,), (record,) = list(trainer(free, steps=1)), list(trainer(clipped, steps=1, clip=1e-3))
    assert record.grad_norm == pytest.approx(whole.grad_norm)
    assert record.grad_norm > 1e-3
    gradients = [torch.cat([p.grad.flatten() for p in flow.parameters()]) for flow in (free, clipped)]
    assert gradients[0].norm().item() == pytest.approx(record.grad_norm)
    torch.testing.assert_close(gradients[1], gradients[0] * (1e-3 / record.grad_norm), rtol=1e-3, atol=0)


def test_sub_batches_leave_the_training_as_it_is():
    """The baseline of `reinforce` runs over the batch; blocks of 16 numbers are drawn alike either way."""
    whole, divided = build(dtype=torch.float64), build(dtype=torch.float64)
    pairs = zip(trainer(whole), trainer(divided, sub_batch=5), strict=True)
    for one, other in pairs:
        assert without_time(other) == pytest.approx(without_time(one), rel=1e-8)
    torch.testing.assert_close(weights(divided), weights(whole), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("sub_batch", "passes"), [(None, 1), (16, 1), (8, 4)])
def test_a_step_of_reinforce_runs_each_network_once(sub_batch, passes):
    """Unless it is made in pieces: then each of the two runs it to draw, and again for its gradient."""
    flow, calls = build(), []
    network = next(module for module in flow.modules() if isinstance(module, ConvNet))
    network.register_forward_hook(lambda *_: calls.append(1))
    next(trainer(flow, sub_batch=sub_batch))
    assert len(calls) == passes


@pytest.mark.parametrize("name", ["reinforce", "reparametrization", "path_gradient", "forward_path"])
def test_the_graph_of_a_piece_is_gone_before_the_next_is_made(name):
    """Else a step held two of them, whatever the size of its pieces."""
    flow, nodes, alive = build(), [], []

    class Pieces(Watched):
        def pieces(self, *arguments):
            return map(self.watched, self.inner.pieces(*arguments))

        def watched(self, piece):
            of_python = (one for one in graph_nodes(piece.loss) if isinstance(one, BackwardCFunction))
            nodes.extend(map(weakref.ref, of_python))
            return piece

    def look(*_):
        alive.append(sum(one() is not None for one in nodes))

    next(module for module in flow.modules() if isinstance(module, ConvNet)).register_forward_hook(look)
    next(trainer(flow, Pieces(GENERAL_ESTIMATORS[name]), sub_batch=4))
    assert len(nodes) >= 4 * 4  # of two layers with two convolutions each, or more
    assert len(alive) >= 4
    assert max(alive) == 0


def test_steps_that_are_not_finite_are_skipped_and_said():
    flow = build()
    training = trainer(flow, action=Faulty((1, 2, 4), []), steps=6, max_skipped=2)
    before, skipped = weights(flow), []
    for record in training:
        after = weights(flow)
        skipped.append(record.skipped)
        assert torch.equal(before, after) == record.skipped
        assert math.isnan(record.loss) == record.skipped
        before = after
    assert skipped == [False, True, True, False, True, False]
    assert weights(flow).isfinite().all()


def test_a_gradient_that_is_not_finite_is_skipped():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(_, x: Tensor) -> Tensor:
            return x.square().flatten(1).sum(1)

        @staticmethod
        def backward(*_) -> Tensor:
            return torch.full((16, 4, 4), math.inf)

    @dataclass(frozen=True)
    class Cliff(Action):
        lattice = (4, 4)
        kind = SCALAR

        def __call__(self, x: Tensor) -> Tensor:
            return Broken.apply(x)

    flow = build()
    before = weights(flow)
    (record,) = trainer(flow, reparametrization, Cliff(), steps=1)
    assert math.isfinite(record.loss)
    assert not math.isfinite(record.grad_norm)
    assert record.skipped
    assert torch.equal(weights(flow), before)


@pytest.mark.parametrize("max_skipped", [0, 2])
def test_too_many_skipped_steps_in_a_row_stop_the_training(max_skipped):
    training = trainer(build(), action=Faulty(tuple(range(1, 100)), []), steps=50, max_skipped=max_skipped)
    message = rf"stopped at step {max_skipped + 2}: {max_skipped + 1} steps in a row .*last loss nan"
    records = []
    with pytest.raises(TrainingError, match=message):
        records.extend(training)
    assert training.step == max_skipped + 2


def resumed(tmp_path, build_flow, make, stop: int = 3) -> None:
    """A training without a stop, against one that stops, a file, and fresh objects which go on from it."""
    flow = build_flow(0)
    whole = [without_time(record) for record in make(flow)]
    first = build_flow(0)
    training = make(first)
    records = [without_time(record) for record in islice(training, stop)]
    save_tree(tmp_path / "last", {"weights": first.state_dict(), "training": training.state_dict()})
    seconds, last = training.seconds, next(training)
    tree, second = load_tree(tmp_path / "last"), build_flow(1)
    second.load_state_dict(tree["weights"])
    again = make(second)
    again.load_state_dict(tree["training"])
    rest = list(again)
    assert rest[0].seconds > seconds
    assert without_time(rest[0]) == without_time(last)
    assert records + [without_time(record) for record in rest] == whole
    assert torch.equal(weights(second), weights(flow))


CONFIGURATIONS = 0.5 * draw(20, 4, 4, dtype=torch.float32)


@pytest.mark.parametrize("name", [*GENERAL_ESTIMATORS, "forward_kl"])
def test_resumed_training_is_the_same_for_every_estimator(name, tmp_path):
    estimator = GENERAL_ESTIMATORS.get(name) or forward_kl(CONFIGURATIONS)
    resumed(tmp_path, build, lambda flow: trainer(flow, estimator, sub_batch=6))


@pytest.mark.parametrize("name", ["constant", "cosine", "step", "plateau"])
@pytest.mark.parametrize(
    "optimizer", thinned(["adam", "adamw", "sgd", "rmsprop", "adafactor", torch.optim.NAdam], 2)
)
def test_resumed_training_is_the_same_for_every_schedule_and_optimizer(name, optimizer, tmp_path):
    schedule = Schedule(name, warmup=2, every=2, patience=1)
    options = {"schedule": schedule, "steps": 8, "optimizer": optimizer, "clip": 1.0}
    options |= {"optimizer_options": {"weight_decay": 0.01}} if optimizer == "adamw" else {}
    resumed(tmp_path, build, lambda flow: trainer(flow, **options), stop=5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_resumed_training_is_the_same_in_low_precision(precision, tmp_path):
    resumed(tmp_path, build, lambda flow: trainer(flow, precision=precision, steps=12), stop=8)


def test_float16_finds_its_scale_without_counting_against_the_training():
    """A loss so large that its scaled gradient overflows at first: skipped, said, and not counted."""
    flow = build()
    training = trainer(
        flow, action=Phi4((4, 4), m2=100.0, lam=0.0), precision="float16", max_skipped=0, steps=25
    )
    skipped = [record.skipped for record in training]
    assert skipped[0]
    assert not skipped[-1]
    assert training.scaler.get_scale() < 2**16


def test_resumed_training_remembers_skipped_steps(tmp_path):
    flow = build()
    training = trainer(flow, action=Faulty(tuple(range(10)), []), max_skipped=3)
    assert [record.skipped for record in islice(training, 2)] == [True, True]
    save_tree(tmp_path / "last", training.state_dict())
    again = trainer(flow, action=Faulty(tuple(range(10)), []), max_skipped=3)
    again.load_state_dict(load_tree(tmp_path / "last"))
    next(again)
    with pytest.raises(TrainingError, match="stopped at step 4: 4 steps in a row"):
        next(again)


def test_resumed_spline_flow_in_double_precision(tmp_path):
    def spline(seed: int) -> Flow:
        generator = Generator().manual_seed(seed)
        return spline_flow((4, 4), layers=2, hidden=(3,), kernel=(3, 1), generator=generator).double()

    resumed(tmp_path, spline, lambda flow: trainer(flow, path_gradient))


@pytest.mark.parametrize("name", GENERAL_ESTIMATORS)
@pytest.mark.parametrize("precision", thinned(["bfloat16", "float16"], 2))
def test_low_precision_keeps_log_weights_and_learns(name, precision):
    watched, flow = Watched(GENERAL_ESTIMATORS[name]), build(z2=True, fourier=True)
    options = {"steps": 40, "batch": 32, "learning_rate": 0.02, "sub_batch": 16}
    records = list(trainer(flow, watched, precision=precision, **options))
    assert all(log_weight.dtype == torch.float64 for log_weight in watched.seen)
    assert {p.dtype for p in flow.parameters()} == {torch.float32}
    assert not all(record.skipped for record in records)
    assert records[-1].f_q_std < 0.8 * records[0].f_q_std
    # before the first update only the rounding in the networks differs
    (full,) = trainer(build(z2=True, fourier=True), GENERAL_ESTIMATORS[name], **options | {"steps": 1})
    assert records[0].f_q == pytest.approx(full.f_q, abs=0.1)
    assert records[0].f_q != full.f_q


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_never_lowers_a_density_in_double(precision):
    watched, flow, reference = Watched(score), build(dtype=torch.float64), build(dtype=torch.float64)
    records = list(trainer(flow, watched, precision=precision))
    assert all(log_weight.dtype == torch.float64 for log_weight in watched.seen)
    full = list(trainer(reference, score))
    for one, other in zip(records, full, strict=True):
        assert without_time(one) == pytest.approx(without_time(other), rel=1e-9)


class Shifted(nn.Module):
    """Normal numbers about a mean which a layer of torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 16)
        nn.init.constant_(self.layer.weight, 0.3)
        nn.init.constant_(self.layer.bias, 0.1)
        self.normal = Normal((4, 4))

    @property
    def mean(self) -> Tensor:
        return self.layer(torch.ones(1, 2)).float().reshape(1, 4, 4)

    def sample(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        z = self.normal.sample(n, generator)
        return z + self.mean, self.normal.log_prob(z)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.normal.log_prob(x - self.mean)


@pytest.mark.parametrize("name", GENERAL_ESTIMATORS)
def test_low_precision_reaches_the_weights_of_other_layers(name):
    """Weights lowered while drawing, without graph, must not be used again where the gradient is wanted."""
    density = Shifted()
    list(trainer(density, GENERAL_ESTIMATORS[name], steps=1, precision="bfloat16"))
    assert density.layer.weight.grad is not None
    assert density.layer.weight.grad.abs().sum() > 0


def test_frozen_parameters_stay():
    flow = Flow(Normal((4, 4)), Scale(0.1))
    other = build()
    for p in list(other.parameters())[:3]:
        p.requires_grad_(False)
    before = [p.clone() for p in other.parameters()]
    list(trainer(other, path_gradient, steps=2))
    assert [torch.equal(p, old) for p, old in zip(other.parameters(), before, strict=True)] == [
        not p.requires_grad for p in other.parameters()
    ]
    assert len(list(trainer(flow, path_gradient, steps=2))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "expected steps ≥ 0, got -1"),
        ({"batch": 0}, "expected batch > 0, got 0"),
        ({"batch": -4}, "expected batch > 0, got -4"),
        ({"sub_batch": 0}, "expected sub_batch > 0, got 0"),
        ({"learning_rate": 0.0}, "expected learning_rate > 0, got 0.0"),
        ({"learning_rate": math.nan}, "expected learning_rate > 0, got nan"),
        ({"clip": 0.0}, "expected clip > 0, got 0.0"),
        ({"max_skipped": -1}, "expected max_skipped ≥ 0, got -1"),
        ({"optimizer": "descent"}, "expected optimizer adadelta, .*sgd.*, got 'descent'"),
        ({"optimizer": "lbfgs"}, "expected optimizer adadelta, .*, got 'lbfgs'"),
        ({"optimizer": torch.optim.LBFGS}, "got LBFGS, which evaluates the loss again"),
        ({"optimizer_options": {"momentum": 0.9}}, "options of the optimizer out of betas, .*momentum"),
        ({"precision": "float8"}, "expected precision full, bfloat16 or float16, got 'float8'"),
        ({"optimizer_options": {"betas": (1.5, 0.9)}}, "beta"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    arguments = {"steps": 2, "batch": 4, "generator": Generator()} | options
    create = getattr(Trainer.__init__, "__wrapped__", Trainer.__init__)  # without the tests' type checker
    with pytest.raises(ValueError, match=message):
        create(Trainer.__new__(Trainer), build(), ACTION, reinforce, **arguments)


def test_a_density_without_parameters_is_refused():
    class Plain:
        def sample(self, n: int, _: Generator) -> tuple[Tensor, Tensor]:
            return torch.zeros(n, 4, 4), torch.zeros(n)

        def log_prob(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x))

    with pytest.raises(ValueError, match=r"expected a density that is an nn\.Module, got Plain"):
        train(Plain(), ACTION, steps=1, batch=1, generator=Generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "linear"}, "expected schedule constant, cosine, step or plateau, got 'linear'"),
        ({"warmup": -1}, "warmup ≥ 0"),
        ({"every": 0}, "every ≥ 1"),
        ({"patience": 0}, "patience ≥ 1"),
        ({"floor": 1.5}, "0 ≤ floor ≤ 1"),
        ({"factor": 0.0}, "0 < factor ≤ 1"),
    ],
)
def test_impossible_schedules_are_refused(options, message):
    schedule = Schedule()
    for name, value in options.items():
        object.__setattr__(schedule, name, value)
    with pytest.raises(ValueError, match=message):
        schedule.__post_init__()
