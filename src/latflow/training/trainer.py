"""Training as an iterator of records, which its owner logs, stops, checkpoints and resumes."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Generator, Tensor, nn

from latflow.densities.base import Density
from latflow.densities.flows.recomputed import recomputed
from latflow.errors import CheckpointError, TrainingError
from latflow.estimators import Estimator, reinforce
from latflow.formulas import effective_sample_size
from latflow.theories.base import Action
from latflow.training.annealing import Anneal
from latflow.training.curriculum import Curriculum, Heir
from latflow.training.optimizers import OptimizerFactory, grouped, make_optimizer
from latflow.training.precision import PrecisionName, check_precision, lowered
from latflow.training.schedules import Plateau, Schedule
from latflow.training.world import World
from latflow.types import Count, Positive, Whole

_RETREATS = 3
"""How often a training goes back to better weights before it gives up."""


@dataclass(frozen=True)
class Record:
    """What one training step saw, before its update.

    Attributes:
        step: counted from 1.
        loss: value of the surrogate loss, meaningful only for `reparametrization` and `forward_kl`.
        f_q: variational free energy F_q = −mean(log_weight) of the batch; of the weaker action while that is
            annealed, and of the smaller lattice in a curriculum, as is `ess`.
        f_q_std: standard deviation of the log-weights of the batch.
        ess: effective sample size of the batch, as a fraction.
        grad_norm: Euclidean norm of the gradient, before clipping.
        learning_rate: of this step.
        seconds: since the start of training, summed over interruptions.
        skipped: whether the update was left out because the loss or the gradient was not finite.
    """

    step: int
    loss: float
    f_q: float
    f_q_std: float
    ess: float
    grad_norm: float
    learning_rate: float
    seconds: float
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The record as plain numbers by name."""
        return asdict(self)


class Trainer(Iterator[Record]):
    """Trains a density towards exp(−S), one record a step.

    Iterate over it; stop when you like; `state_dict` and `load_state_dict` make a resumed training
    bit-identical to one that was never stopped.

    Where `torch.distributed` is initialised, as `latflow.training.joined` does under torchrun, all processes
    build the same trainer and take each step together. The weights of the first go to the others. Each makes
    its share of the draws with random numbers of its own, and all update with the gradient of the whole
    batch, of which their records tell: so the weights stay equal to the last bit.

    Args:
        density: an `nn.Module` with `sample` and `log_prob`.
        action: S.
        estimator: of the gradient, for example `latflow.estimators.path_gradient`.
        steps: number of updates.
        batch: draws a step, of all processes together.
        generator: source of all randomness, on the device of the density. Processes other than the first
            seed theirs anew from its state and their rank.
        learning_rate: at its peak.
        schedule: of the learning rate.
        optimizer: a name of `torch.optim` such as "adam", "adamw" or "sgd", or what makes an optimiser of a
            list of parameters, `lr` and options.
        optimizer_options: of the optimiser, such as betas and weight_decay.
        clip: largest norm of the gradient; longer ones are shortened to it. None leaves them.
        sub_batch: draws whose activations a process holds at once; None for all that it makes.
        recompute: keep of each layer of a flow its fields alone, and compute the activations again for the
            derivative: the memory of one layer instead of all, for one more pass through the networks.
        precision: "full", or the lower one in which the networks run under autocast. Fields, actions,
            log-determinants and log-weights keep theirs, and a density in float64 stays so altogether.
        max_skipped: how many steps in a row may be skipped for a loss or a gradient that is not finite; after
            as many its owner may let it `retreat`, and the next one stops it. In float16 a gradient that
            overflows as the loss is scaled up does not count: the scale is lowered.
        anneal: how the action rises to S in the first steps; None for S throughout. Plateaus of the schedule
            are looked for only afterwards: F_q belongs to another action at every step before.
        curriculum: smaller lattices for the first steps; None for that of the theory throughout.
        rate_factors: of the learning rate, by the beginnings of the names of parameters, such as
            {"prior": 3.0}; the longest that fits counts, and 1 where none does.

    Raises:
        ValueError: for arguments out of range, an action whose exp(−S) cannot be normalised, or a batch that
            the processes cannot share out evenly; for `recompute` of a density that is no flow.
        ProcessError: when another process was lost.
        TrainingError: from the iteration, when more than `max_skipped` steps in a row are not finite.
    """

    def __init__(
        self,
        density: Density,
        action: Action,
        estimator: Estimator = reinforce,
        *,
        steps: Count,
        batch: Count,
        generator: Generator,
        learning_rate: Positive = 1e-3,
        schedule: Schedule | None = None,
        optimizer: str | OptimizerFactory = "adam",
        optimizer_options: Mapping[str, Any] = MappingProxyType({}),
        clip: Positive | None = None,
        sub_batch: Count | None = None,
        recompute: bool = False,
        precision: PrecisionName = "full",
        max_skipped: Whole = 20,
        anneal: Anneal | None = None,
        curriculum: Curriculum | None = None,
        rate_factors: Mapping[str, Positive] = MappingProxyType({}),
    ) -> None:
        if not isinstance(density, nn.Module):
            raise ValueError(f"expected a density that is an nn.Module, got {type(density).__name__}")
        if steps < 0:
            raise ValueError(f"expected steps ≥ 0, got {steps}")
        _check_positive(batch=batch, learning_rate=learning_rate, sub_batch=sub_batch, clip=clip)
        check_precision(precision)
        if max_skipped < 0:
            raise ValueError(f"expected max_skipped ≥ 0, got {max_skipped}")
        if recompute:
            recomputed(density)
        action.check_proper()
        estimator.check(density, action if anneal is None else anneal.action(action, 0))
        self.world = World.here()
        self.share = self.world.share(batch)
        self.world.separate(generator)
        self.world.broadcast([*density.parameters(), *density.buffers()])
        self.density, self.action, self.estimator = density, action, estimator
        self.steps, self.batch, self.sub_batch = steps, batch, sub_batch or batch
        self.recompute = recompute
        self.generator, self.learning_rate, self.clip = generator, learning_rate, clip
        self.schedule = schedule or Schedule()
        self.precision, self.max_skipped = precision, max_skipped
        self.anneal, self.curriculum = anneal, curriculum
        self._elsewhere: dict[Any, Any] = {} if curriculum is None else curriculum.parts(density, action)
        self.parameters = [p for p in density.parameters() if p.requires_grad]
        groups = grouped(density, rate_factors) or {1.0: []}  # without parameters nothing is to be updated
        self.factors = list(groups)
        self.optimizer = make_optimizer(optimizer, list(groups.values()), learning_rate, optimizer_options)
        # float16 underflows without a scale; bfloat16 has the exponents of float32
        scaled = precision == "float16" and estimator.has_gradient
        self.scaler = torch.amp.GradScaler(generator.device.type, enabled=scaled)
        self.plateau = Plateau(self.schedule.patience)
        self.step, self.skipped_in_a_row, self.seconds = 0, 0, 0.0
        self.retreats = 0

    def __next__(self) -> Record:
        if self.step >= self.steps:
            raise StopIteration
        start = time.perf_counter()
        rate = self.rate * self.schedule.multiplier(self.step, self.steps, self.plateau.falls)
        for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
            group["lr"] = rate * factor
        self._hand_over()
        self.optimizer.zero_grad(set_to_none=True)
        loss, log_weight = self._backward()
        # DistributedDataParallel would do this within `forward` of a module, which densities need not have
        self.world.sum([p.grad for p in self.parameters if p.grad is not None] + [loss])
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, math.inf if self.clip is None else self.clip)
        # one transfer for all numbers of the step
        f_q, std, ess, loss_value, grad_norm = torch.stack([*_summary(log_weight), loss, norm]).tolist()
        finite = math.isfinite(loss_value) and math.isfinite(grad_norm)
        overflow = False
        if finite:
            self.scaler.step(self.optimizer)
            if self.settled(self.step):
                self.plateau.update(-f_q if self.estimator.of_target else f_q)
        if self.scaler.is_enabled():
            overflow = math.isfinite(loss_value) and self.scaler.get_scale() > 1
            self.scaler.update()
        self.step += 1
        self.seconds += time.perf_counter() - start
        self._guard(finite or overflow, loss_value, grad_norm)
        return Record(self.step, loss_value, f_q, std, ess, grad_norm, rate, self.seconds, not finite)

    @property
    def rate(self) -> float:
        """The learning rate at its peak: half of it after each retreat."""
        return self.learning_rate / 2**self.retreats

    @property
    def lost(self) -> bool:
        """Whether no more steps may be skipped, and there is a retreat left: there are three."""
        return 0 < self.max_skipped <= self.skipped_in_a_row and self.retreats < _RETREATS

    def retreat(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from weights with which steps were finite, at half the rate, with an optimiser that is new.

        Of several processes all must do so, with the same weights.
        """
        self.density.load_state_dict(weights)
        self.optimizer.state.clear()
        self.retreats, self.skipped_in_a_row = self.retreats + 1, 0

    def settled(self, step: int) -> bool:
        """Whether the update number `step` (from 0) is made for the theory itself, on its own lattice."""
        annealed = self.anneal is None or self.anneal.done(step)
        return annealed and (self.curriculum is None or step >= self.curriculum.total)

    def _parts(self) -> tuple[Density, Action]:
        """The density and the action of this step."""
        lattice = None if self.curriculum is None else self.curriculum.lattice(self.step)
        density, action = (self.density, self.action) if lattice is None else self._elsewhere[lattice]
        return density, action if self.anneal is None else self.anneal.action(action, self.step)

    def _hand_over(self) -> None:
        """Where the lattice of the curriculum changes, give the next density what it does not share."""
        if self.curriculum is None or self.step == 0:
            return
        before, now = self.curriculum.lattice(self.step - 1), self.curriculum.lattice(self.step)
        density, _ = self._parts()
        if before is not None and before != now and isinstance(density, Heir):
            density.inherit(self._elsewhere[before][0])

    def _smaller(self) -> nn.Module | None:
        """The density on the lattice of the last step, where that was not the lattice of the theory."""
        if self.curriculum is None or self.step == 0:
            return None
        lattice = self.curriculum.lattice(self.step - 1)
        return None if lattice is None else self._elsewhere[lattice][0]

    def _backward(self) -> tuple[Tensor, Tensor]:
        """Leave this process's part of the gradient in the parameters.

        Returns its part of the loss, and the log-weights of the whole batch, without graph.
        """
        losses, log_weights = [], []
        device = self.generator.device.type
        density, action = self._parts()
        density = recomputed(density) if self.recompute else density
        pieces = self.estimator.pieces(
            density, action, self.share, self.generator, self.sub_batch, self.world.gather
        )
        while True:
            with lowered(self.precision, device):
                piece = next(pieces, None)
            if piece is None:
                break
            loss = piece.loss / self.world.size
            if self.estimator.has_gradient:
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            log_weights.append(piece.log_weight)
            del piece, loss  # what is left of the graph, before the next one is made
        log_weight = self.world.gather(torch.cat(log_weights))
        return torch.stack(losses).sum().to(log_weight), log_weight

    def _guard(self, sound: bool, loss: float, grad_norm: float) -> None:
        self.skipped_in_a_row = 0 if sound else self.skipped_in_a_row + 1
        if self.skipped_in_a_row > self.max_skipped:
            raise TrainingError(
                f"training stopped at step {self.step}: {self.skipped_in_a_row} steps in a row had a loss or "
                f"a gradient that is not finite (last loss {loss}, gradient norm {grad_norm})"
                + (f", at a learning rate lowered to {self.rate:.3g}" if self.retreats else "")
                + "; a smaller learning rate, clipping or a start nearer to the target may help"
            )

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers, all that a later process needs to go on but the density's own weights.

        The tensors are those in use, which the next step changes: save or copy them before it. All processes
        must ask for it, and get the same: it holds the generators of all.
        """
        smaller = self._smaller()
        return {
            # it may have what the density does not share
            "smaller": {} if smaller is None else smaller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "plateau": self.plateau.state_dict(),
            "estimator": {
                name: self.world.gather(kept) for name, kept in self.estimator.state_dict().items()
            },
            "generator": self.world.gather(self.generator.get_state()),
            "processes": self.world.size,
            "step": self.step,
            "skipped_in_a_row": self.skipped_in_a_row,
            "retreats": self.retreats,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Load the density's weights first.

        Raises:
            CheckpointError: when the state is that of another number of processes, whose draws were others.
        """
        here, processes = self.world.size, state.get("processes", 1)  # earlier versions did not say
        if processes != here:
            raise CheckpointError(
                f"expected a training state of world size {here}, got one of world size {processes}"
            )
        optimizer = state["optimizer"]
        # files have string keys; the optimiser numbers its parameters
        by_number = {int(key): values for key, values in optimizer["state"].items()}
        self.optimizer.load_state_dict({"state": by_number, "param_groups": optimizer["param_groups"]})
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.plateau.load_state_dict(state["plateau"])
        self.generator.set_state(self.world.own(state["generator"]))
        kept = state.get("estimator", {})
        self.estimator.load_state_dict({name: self.world.own(whole) for name, whole in kept.items()})
        self.step, self.skipped_in_a_row = state["step"], state["skipped_in_a_row"]
        self.seconds, self.retreats = state["seconds"], state.get("retreats", 0)
        if state.get("smaller") and (smaller := self._smaller()) is not None:
            smaller.load_state_dict(state["smaller"])


def train(density: Density, action: Action, estimator: Estimator = reinforce, **options: Any) -> Trainer:
    """Train a density; the options are those of `Trainer`.

    >>> import latflow as lf
    >>> import torch
    >>> action = lf.actions.Phi4((4, 4), m2=1.0, lam=0.0)
    >>> flow = lf.flows.affine_flow((4, 4), layers=2, hidden=(4,))
    >>> options = {"steps": 3, "batch": 16, "generator": torch.Generator().manual_seed(1)}
    >>> [record.step for record in lf.train(flow, action, lf.estimators.reinforce, **options)]
    [1, 2, 3]
    """
    return Trainer(density, action, estimator, **options)


@torch.no_grad()
def _summary(log_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F_q, the standard deviation of the log-weights, and the effective sample size of a batch."""
    ess = effective_sample_size((log_weight - log_weight.max()).exp())
    return -log_weight.mean(), log_weight.std(correction=0), ess


def _check_positive(**numbers: int | float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"expected {name} > 0, got {value}")
