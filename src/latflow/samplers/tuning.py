"""Tuning of hybrid Monte Carlo: step sizes to an acceptance, inner steps and trajectory length to a cost."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.errors import LatflowError
from latflow.observables.base import Observable, observing
from latflow.samplers.base import Place, run
from latflow.samplers.hmc import HMC, HMCState
from latflow.theories.base import Action

_LEAST_TRAJECTORIES = 200
"""Of each chain, for the autocorrelation time at each of several trajectory lengths."""


Number = Callable[[Tensor], Tensor]
"""An observable: of fields, (batch, …), one number for each."""

_CHEAP = 0.01
"""What a cheap force counts beside a costly one."""


@dataclass(frozen=True)
class Tuning:
    """What `HMC.adapt` reaches for: an acceptance, and of several trajectory lengths the cheapest.

    With several lengths the chains are thermalised after the first, and the cost is that of an independent
    value of the slowest observable (`tune_cost`). Of HMC that is one of several kernels it is that of their
    chain: what only another kernel moves, such as the topological charge, would hide all else.

    Args:
        target_acceptance: to which the step size is tuned, in (0, 1).
        lengths: τ, or several to choose from.
        inner_steps: several numbers of inner steps to choose from (`tune_inner_steps`); those of the sampler
            are kept if there are none.
        observables: by name, those of which the slowest counts; all that the theory calls slow if none.
        place: of HMC among other kernels; alone if None.

    Raises:
        ValueError: for no length or one that is not positive, inner steps below one, and a target outside
            (0, 1).
    """

    target_acceptance: float = 0.8
    lengths: tuple[float, ...] = (1.0,)
    inner_steps: tuple[int, ...] = ()
    observables: tuple[str, ...] = ()
    place: Place | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.inner_steps and min(self.inner_steps) < 1:
            raise ValueError(f"expected inner steps of at least 1, got {self.inner_steps}")
        if not self.lengths or not min(self.lengths) > 0:
            raise ValueError(f"expected positive trajectory lengths, got {self.lengths}")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"expected a target acceptance between 0 and 1, got {self.target_acceptance}")

    def check_chains(self, n: int) -> None:
        """Several lengths are compared by the spread of chains.

        Raises:
            ValueError: when a single chain is to choose between several lengths.
        """
        if len(self.lengths) > 1 and n < 2:
            raise ValueError(
                f"expected at least 2 chains to compare trajectory lengths: their spread gives the "
                f"autocorrelation time of each; got {n}"
            )

    def within(self, place: Place) -> "Tuning":
        """The same for HMC that is one of several kernels."""
        return dataclasses.replace(self, place=place)

    def __call__(
        self, hmc: HMC, state: HMCState, generator: Generator, thermalisation: int
    ) -> tuple[HMC, HMCState]:
        """The tuned sampler, and the chains as they stand.

        Raises:
            ValueError: for several lengths and a theory without a slow observable, or fewer than two chains.
            LatflowError: when no step size is accepted.
        """
        if len(self.lengths) > 1:
            slow = slow_observables(hmc.action, self.observables)
            self.check_chains(len(state.action))
            hmc, state = self._steps_tuned(hmc, state, generator)
            # τ is found from chains in equilibrium, in a time to which the thermalisation trusts for that
            state, _ = _whole_chain(hmc, state, self.place, thermalisation, {}, generator)
            steps = max(_LEAST_TRAJECTORIES, thermalisation)
            hmc, state, _ = tune_cost(
                hmc, state, generator, slow, self.lengths, self.target_acceptance, steps, self.place
            )
        else:
            hmc, state = self._steps_tuned(hmc, state, generator)
        # what a sampler is told of its place is for this search
        return dataclasses.replace(hmc, tuning=dataclasses.replace(self, place=None)), state

    def _steps_tuned(self, hmc: HMC, state: HMCState, generator: Generator) -> tuple[HMC, HMCState]:
        if self.inner_steps:
            return tune_inner_steps(hmc, state, generator, self.inner_steps, self.target_acceptance)
        return tune_step_size(hmc, state, generator, self.target_acceptance)


def slow_observables(action: Action, names: Sequence[str] = ()) -> dict[str, Number]:
    """Observables of a theory as functions of the field, one number for each configuration.

    Args:
        action: the theory.
        names: those that are wanted; all that it calls slow if none.

    Raises:
        ValueError: when it calls none slow and none is named, and for names of what is no observable, or not
            one of single configurations.
    """
    observables = {one.name: one for one in action.observables}
    wanted = names or [name for name, one in observables.items() if one.slow]
    if not wanted:
        raise ValueError(
            f"expected a theory with a slow observable to choose between several trajectory lengths, "
            f"{action.words.name} has none: give one length, or name observables"
        )
    functions = {}
    for name in wanted:
        one = observables.get(name)
        if one is None or one.estimate or one.average:
            known = [n for n, other in observables.items() if not (other.estimate or other.average)]
            raise ValueError(f"expected observables among {', '.join(known)}, got {name!r}")
        functions[name] = _function(one, [other for n, other in observables.items() if n in one.needs])
    return functions


def _function(observable: Observable, recorded: Sequence[Observable]) -> Callable[[Tensor], Tensor]:
    observe, each = observing(recorded), observable.each

    def function(x: Tensor) -> Tensor:
        series = observe(x)
        values = [series[name] for name in observable.needs]
        if each is None:
            return values[0].flatten(1).mean(1) if values[0].ndim > 1 else values[0]
        numbers = np.asarray(each(*(one.cpu().numpy() for one in values)), dtype=np.float64)
        return torch.from_numpy(numbers.reshape(len(x), -1).mean(1))

    return function


def tune_step_size(
    hmc: HMC,
    state: HMCState,
    generator: Generator,
    target: float = 0.8,
    rounds: int = 16,
    trajectories: int = 10,
    max_steps: int = 1000,
) -> tuple[HMC, HMCState]:
    """Find the step size with a given acceptance, at the trajectory length of `hmc`.

    On large lattices ΔH is Gaussian with ⟨exp(−ΔH)⟩ = 1, so the acceptance is erfc(½ √⟨ΔH⟩), and √⟨ΔH⟩ goes
    as ε^p for an integrator of order p. Each round measures the acceptance a at its ε and corrects

        log ε ← log ε + g · p⁻¹ log( erfc⁻¹(target) / erfc⁻¹(a) ),        g = 1 / (1 + turns),

    where a correction is log 2 at most, and `turns` counts how often its sign has changed: long steps on the
    way, short ones about the solution, which the rounds find wherever a falls with ε, also where the law does
    not hold. The geometric mean of ε over the second half of the rounds is the result, shortened until a
    whole number of steps makes a trajectory: its acceptance is the target or somewhat more.

    Sources: Gupta, Irbäck, Karsch, Petersson, Physics Letters B 242 (1990) 437, for the law; Kesten,
    Accelerated stochastic approximation, Annals of Mathematical Statistics 29 (1958) 41, for the steps.

    Args:
        hmc: where the search starts; its trajectory length is kept.
        state: the chains, whose transitions here are thermalisation: they are not to be measured.
        generator: the source of randomness.
        target: the acceptance to reach, in (0, 1).
        rounds: how often the step size is corrected.
        trajectories: transitions of every chain in a round.
        max_steps: the largest number of steps in a trajectory that is tried.

    Returns:
        The tuned sampler, and the chains as they stand.

    Raises:
        ValueError: for a target outside (0, 1), or no rounds, trajectories or steps.
        LatflowError: when all trajectories of the last round are rejected.
    """
    if not 0 < target < 1:
        raise ValueError(f"expected a target acceptance between 0 and 1, got {target}")
    if min(rounds, trajectories, max_steps) < 1:
        raise ValueError(f"expected at least one of each, got {rounds=}, {trajectories=}, {max_steps=}")
    length, order = hmc.trajectory_length, hmc.scheme.order
    shortest, longest = math.log(length / max_steps), math.log(length)
    log_step = min(max(math.log(hmc.step_size), shortest), longest)
    acceptance, turns, last, visited = 0.0, 0, 0.0, []
    for _ in range(rounds):
        # these trajectories may be half a step too long or short: so their acceptance is continuous in ε
        n_steps = round(length / math.exp(log_step))
        # uncompiled, since a program serves one step size only
        trial = dataclasses.replace(hmc, step_size=math.exp(log_step), n_steps=n_steps, compiled=False)
        state, acceptance = _acceptance(trial, state, trajectories, generator)
        correction = _correction(target, acceptance, order)
        turns, last = turns + (correction * last < 0), correction
        log_step = min(max(log_step + correction / (1 + turns), shortest), longest)
        visited.append(log_step)
    if acceptance == 0:
        raise LatflowError(
            f"no trajectory of length {length} was accepted, down to ε = {math.exp(log_step):.2g}"
        )
    n_steps = min(math.ceil(length / math.exp(fmean(visited[rounds // 2 :]))), max_steps)
    return dataclasses.replace(hmc, step_size=length / n_steps, n_steps=n_steps), state


def tune_inner_steps(
    hmc: HMC,
    state: HMCState,
    generator: Generator,
    inner_steps: Sequence[int],
    target: float = 0.8,
) -> tuple[HMC, HMCState]:
    """Find how many steps with the cheap force save most evaluations of the costly one.

    For each number the step size is tuned to the target acceptance, and the forces of a trajectory are
    counted, a cheap one as a hundredth of a costly one: so it is in the Schwinger model for one chain on 8²,
    and on larger lattices less. The lowest sum wins.

    Args:
        hmc: on two time scales; its trajectory length is kept.
        state: the chains, of two time scales; their transitions here are thermalisation.
        generator: the source of randomness.
        inner_steps: the numbers that are tried, in this order.
        target: the acceptance to reach.

    Returns:
        The tuned sampler, and the chains as they stand.

    Raises:
        ValueError: for no numbers, and as `HMC` and `tune_step_size`.
        LatflowError: as `tune_step_size`.
    """
    if not inner_steps:
        raise ValueError("expected numbers of inner steps to choose from, got none")
    tried: list[HMC] = []
    for inner in inner_steps:
        trial = dataclasses.replace(hmc, inner_steps=inner)
        tuned, state = tune_step_size(trial, state, generator, target)
        tried.append(tuned)
    return min(tried, key=_counted_forces), state


def _counted_forces(hmc: HMC) -> float:
    cheap_forces = (hmc.inner_steps or 0) * len(hmc.scheme.drifts)
    return hmc.force_evaluations * (1 + _CHEAP * cheap_forces)


def _acceptance(hmc: HMC, state: HMCState, trajectories: int, generator: Generator) -> tuple[HMCState, float]:
    total = torch.zeros((), dtype=torch.float64, device=state.x.device)
    for _ in range(trajectories):
        state, info = hmc.step(state, generator)
        total += info.acceptance_probability.mean(dtype=torch.float64)
    return state, float(total) / trajectories


def _correction(target: float, acceptance: float, order: int) -> float:
    """The change of log ε from one acceptance to another by the Gaussian law, at most log 2 either way."""
    # erfc⁻¹(y) = −Φ⁻¹(y/2)/√2 is 0 or infinite at the ends, where rounds without a rejection or a move lie
    wanted, found = (NormalDist().inv_cdf(min(max(y, 1e-6), 1 - 1e-6) / 2) for y in (target, acceptance))
    return max(-math.log(2), min(math.log(2), math.log(wanted / found) / order))


@dataclass(frozen=True)
class TrajectoryCost:
    """What an independent configuration costs with trajectories of one length.

    Attributes:
        trajectory_length: τ_MD.
        n_steps: that reach the target acceptance.
        acceptance: as measured.
        tau: integrated autocorrelation time, ½ + Σ ρ(t), in trajectories, of the slowest observable.
        force_evaluations: 2 τ_int times those of a trajectory.
    """

    trajectory_length: float
    n_steps: int
    acceptance: float
    tau: float
    force_evaluations: float


def tune_cost(
    hmc: HMC,
    state: HMCState,
    generator: Generator,
    observe: Number | Mapping[str, Number],
    lengths: Sequence[float],
    target: float = 0.8,
    trajectories: int = 200,
    place: Place | None = None,
) -> tuple[HMC, HMCState, list[TrajectoryCost]]:
    """Find the trajectory length with the fewest force evaluations for each independent configuration.

        cost = 2 τ_int · (force evaluations of a trajectory)

    For each length the step size is tuned to the target acceptance, then τ_int of each slow observable is
    measured from the spread of the chains' means, τ_int = N Var(mean of N steps) / (2 Var(O)), and the
    largest counts. That needs no window, but many chains (its relative error is √(2 / chains)) and N ≫ τ_int,
    else it is too small. On two time scales the costly force is counted. What other kernels of the chain
    evaluate is not.

    Args:
        hmc: where the search starts; everything but step size and number of steps is kept.
        state: the chains, thermalised; at least two. Their transitions here are not to be measured.
        generator: the source of randomness.
        observe: the slow observable O, one number for each chain, for example the magnetisation; or several
            by name.
        lengths: the trajectory lengths that are tried, in this order.
        target: the acceptance to reach.
        trajectories: N, transitions of every chain at each length.
        place: of HMC among other kernels, whose chain is measured; HMC alone if None.

    Returns:
        The sampler of the lowest cost, the chains as they stand, and what each length cost.

    Raises:
        ValueError: for no lengths or one that is not positive, nothing to observe, fewer than two chains or
            trajectories, and as `tune_step_size`.
        LatflowError: as `tune_step_size`.
    """
    slow = observe if isinstance(observe, Mapping) else {"observable": observe}
    if not lengths or not min(lengths) > 0 or not slow or len(state.action) < 2 or trajectories < 2:
        raise ValueError(
            f"expected positive lengths, an observable, and at least 2 chains and trajectories, got "
            f"{lengths=}, {len(slow)} observables, {len(state.action)} chains and {trajectories=}"
        )
    tried: list[tuple[TrajectoryCost, HMC]] = []
    for length in lengths:
        n_steps = max(1, round(length / hmc.step_size))
        first = dataclasses.replace(hmc, step_size=length / n_steps, n_steps=n_steps)
        tuned, state = tune_step_size(first, state, generator, target)
        state, series = _whole_chain(tuned, state, place, trajectories, slow, generator)
        tau = max(_tau_of_means(series[name]) for name in slow)
        acceptance = float(series["accepted" if place is None else f"accepted_{place.name}"].double().mean())
        cost = 2 * tau * tuned.force_evaluations
        tried.append((TrajectoryCost(length, tuned.n_steps, acceptance, tau, cost), tuned))
    best = min(tried, key=lambda one: one[0].force_evaluations)
    return best[1], state, [cost for cost, _ in tried]


def _whole_chain(
    hmc: HMC,
    state: HMCState,
    place: Place | None,
    steps: int,
    observe: Mapping[str, Number],
    generator: Generator,
) -> tuple[HMCState, dict[str, Tensor]]:
    """The chains after some steps of all their kernels, and the series of these."""
    if steps < 1:
        return state, {}
    eager = dataclasses.replace(hmc, compiled=False)
    whole = eager if place is None else place.chain(eager)
    start = state if place is None else whole.init(hmc.field(state))
    chain = run(whole, start, steps, lambda x: {name: of(x) for name, of in observe.items()}, generator)
    return chain.state if place is None else hmc.init(whole.field(chain.state)), chain.series


def _tau_of_means(series: Tensor) -> float:
    """τ_int of (step, chain) from the variance of the means over steps; infinite where nothing varies."""
    values = series.double()
    spread = float(values.var())
    return float(len(values) * values.mean(0).var()) / (2 * spread) if spread > 0 else math.inf
