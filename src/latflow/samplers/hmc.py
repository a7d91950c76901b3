"""Hybrid Monte Carlo: trajectories of Hamilton's equations, made exact by accepting or rejecting each."""

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.actions import Action
from latflow.errors import LatflowError
from latflow.samplers.base import Sampler
from latflow.samplers.integrators import INTEGRATORS, Integrator, integrate
from latflow.types import Field, LogProb


@dataclass(frozen=True)
class HMCState:
    """The configuration of each chain, with the action and the force there: neither is computed twice."""

    x: Field
    action: LogProb
    force: Field


@dataclass(frozen=True)
class HMCInfo:
    """What became of one trajectory of each chain.

    Attributes:
        accepted: whether the chain moved.
        delta_h: ΔH of the trajectory; +inf where it was not finite.
    """

    accepted: Bool[Tensor, "batch"]
    delta_h: LogProb

    @property
    def acceptance_probability(self) -> LogProb:
        """min(1, exp(−ΔH)): its mean is the acceptance, with less noise than counting."""
        return torch.exp(-self.delta_h).clamp(max=1)


@dataclass(frozen=True)
class HMC(Sampler[HMCState, HMCInfo]):
    """Hybrid Monte Carlo for exp(−S), on many chains at once.

    With momenta π drawn from N(0, 1) a chain follows H(x, π) = ½ Σ π² + S(x) for the trajectory length
    τ = step_size · n_steps, and moves to the end of the trajectory with probability min(1, exp(−ΔH)),

        ΔH = S(x′) − S(x) + ½ Σ (π′ − π)(π′ + π).

    ΔH keeps the precision of the field; the uniform numbers have float64's, since in float32 one in 2²⁴ of
    them is zero and would accept anything. A trajectory whose ΔH is not finite left the numbers that the
    field can hold; it counts as rejected. Source: Duane, Kennedy, Pendleton, Roweth, Hybrid Monte Carlo,
    Physics Letters B 195 (1987) 216.

    Args:
        action: the theory; its `force` drives the trajectories.
        step_size: ε > 0, in units of the molecular-dynamics time.
        n_steps: steps in a trajectory, at least one.
        integrator: "leapfrog", "omelyan" (alias "minimum_norm"), or an `Integrator`.
        jitter: each trajectory of each chain takes a step size of its own, uniform in step_size ·
            [1 − jitter, 1 + jitter]. With trajectories of one length, a mode with ωτ near a multiple of π
            keeps its amplitude for hundreds of them, and errors look smaller than they are (P. Mackenzie,
            Physics Letters B 226 (1989) 369); 0.2 cures that.

    Raises:
        ValueError: for a step size that is not positive and finite, no steps, an unknown integrator, or a
            jitter outside [0, 1).

    Example:
        >>> from latflow.actions import Phi4
        >>> HMC(Phi4((8, 8), m2=-4.0, lam=8.0), step_size=0.125, n_steps=8).trajectory_length
        1.0
    """

    action: Action
    step_size: float
    n_steps: int
    integrator: str | Integrator = "leapfrog"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise ValueError(f"expected a positive, finite step_size, got {self.step_size}")
        if self.n_steps < 1:
            raise ValueError(f"expected n_steps of at least 1, got {self.n_steps}")
        if isinstance(self.integrator, str) and self.integrator not in INTEGRATORS:
            raise ValueError(f"expected an integrator among {sorted(INTEGRATORS)}, got {self.integrator!r}")

        if not 0 <= self.jitter < 1:
            raise ValueError(f"expected a jitter in [0, 1), got {self.jitter}")

    @classmethod
    def of_length(
        cls,
        action: Action,
        trajectory_length: float,
        n_steps: int,
        integrator: str | Integrator = "leapfrog",
        jitter: float = 0.0,
    ) -> "HMC":
        """HMC with trajectories of length τ in `n_steps` steps of τ / n_steps.

        Raises:
            ValueError: as the constructor.
        """
        return cls(action, trajectory_length / max(n_steps, 1), n_steps, integrator, jitter)

    @property
    def trajectory_length(self) -> float:
        """τ = step_size · n_steps, the molecular-dynamics time of a trajectory, on average."""
        return self.step_size * self.n_steps

    @property
    def scheme(self) -> Integrator:
        """The integrator itself, whether it was named or given."""
        return INTEGRATORS[self.integrator] if isinstance(self.integrator, str) else self.integrator

    @torch.no_grad()
    def init(self, x: Field) -> HMCState:
        """Start one chain at each configuration of x, (batch, *lattice).

        Raises:
            ValueError: when x lives on another lattice, or its action is not finite, so that a chain could
                not move.
        """
        lattice = tuple(self.action.lattice)
        if tuple(x.shape[-len(lattice) :]) != lattice:
            raise ValueError(
                f"expected fields on the lattice {lattice}, got a tensor of shape {tuple(x.shape)}"
            )
        action = self.action(x)
        if not bool(action.isfinite().all()):
            raise ValueError("expected fields of finite action to start from, got some that are not")
        return HMCState(x.detach().clone(), action, self.action.force(x))

    @torch.no_grad()
    def step(self, state: HMCState, generator: Generator) -> tuple[HMCState, HMCInfo]:
        """One trajectory of every chain."""
        x = state.x
        momentum = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        log_uniform = torch.rand(len(x), generator=generator, dtype=torch.float64, device=x.device).log()

        end, final_momentum, force = integrate(
            self.scheme, self.action.force, x, momentum, state.force, self._steps(x, generator), self.n_steps
        )
        action = self.action(end)
        # site by site the difference of the squares is small, where the two sums would cancel
        kinetic = 0.5 * ((final_momentum - momentum) * (final_momentum + momentum)).flatten(1).sum(1)
        delta_h = action - state.action + kinetic
        delta_h = torch.where(delta_h.isfinite(), delta_h, torch.inf)

        accepted = log_uniform < -delta_h
        moved = accepted.view(-1, *[1] * (x.ndim - 1))
        new_state = HMCState(
            torch.where(moved, end, x),
            torch.where(accepted, action, state.action),
            torch.where(moved, force, state.force),
        )
        return new_state, HMCInfo(accepted, delta_h)

    def _steps(self, x: Field, generator: Generator) -> float | Tensor:
        """The step size, or with jitter one for each chain, (batch, 1, …)."""
        if not self.jitter:
            return self.step_size
        shape = (len(x), *[1] * (x.ndim - 1))
        uniform = torch.rand(shape, generator=generator, dtype=x.dtype, device=x.device)
        return self.step_size * (1 + self.jitter * (2 * uniform - 1))

    def field(self, state: HMCState) -> Field:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> HMCState:
        """The state that `state_dict` took apart."""
        return HMCState(**tree)


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
        trial = dataclasses.replace(hmc, step_size=math.exp(log_step), n_steps=n_steps)
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
