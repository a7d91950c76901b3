"""Hybrid Monte Carlo: trajectories of Hamilton's equations, made exact by accepting or rejecting each."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.actions import Action
from latflow.samplers.base import Block, Observe, Sampler
from latflow.samplers.compiled import Named, Programs
from latflow.samplers.integrators import INTEGRATORS, Integrator, integrate
from latflow.samplers.kinetic import FourierMass
from latflow.samplers.noise import NOISE, blank, drawn
from latflow.types import Field, LogProb

_STRETCH, _NUMBERS = 256, 2**15
"""The most steps that are recorded at once, and numbers in their fields: few enough to stay in the cache."""

_UNROLLED, _SMALL, _OPERATIONS = 8, 2**12, 800
"""Of a program of several trajectories: how many at most, for how many numbers in a field, since it is small
fields that wait for calls of programs, and the most operations in all, which bound the time to compile it."""

_MOST_READS = 1
"""Each drift is stored: else a force would gather every neighbour from all that the drift has read."""


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

    With momenta π drawn from N(0, M) a chain follows H(x, π) = ½ π M⁻¹ π + S(x) for the trajectory length
    τ = step_size · n_steps, and moves to the end of the trajectory with probability min(1, exp(−ΔH)),

        ΔH = S(x′) − S(x) + ½ Σ (π′ − π) M⁻¹ (π′ + π),

    where M = 1, unless a mass is given.

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
        mass: M for each mode of a scalar field; all modes have mass 1 if None.
        compiled: whether `torch.compile` makes one function of a whole step. The first step with each number
            of chains then takes seconds to minutes, the others are several times faster; random numbers are
            the same, results differ by rounding. `advance`, and so `run`, compiles several trajectories of a
            small field as one more function, unless there is a mass. It needs a C++ compiler on the
            CPU, and goes deep enough into PyTorch to know version 2.13 alone.

    Raises:
        ValueError: for a step size that is not positive and finite, no steps, an unknown integrator, a
            jitter outside [0, 1), or a mass for a field that is not scalar.

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
    mass: FourierMass | None = None
    compiled: bool = False
    _programs: Programs = field(default_factory=Programs, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise ValueError(f"expected a positive, finite step_size, got {self.step_size}")
        if self.n_steps < 1:
            raise ValueError(f"expected n_steps of at least 1, got {self.n_steps}")
        if isinstance(self.integrator, str) and self.integrator not in INTEGRATORS:
            raise ValueError(f"expected an integrator among {sorted(INTEGRATORS)}, got {self.integrator!r}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"expected a jitter in [0, 1), got {self.jitter}")
        if self.mass is not None and self.action.kind != "scalar":
            raise ValueError(f"expected a scalar field for a Fourier mass, got kind {self.action.kind!r}")

    @classmethod
    def of_length(
        cls,
        action: Action,
        trajectory_length: float,
        n_steps: int,
        integrator: str | Integrator = "leapfrog",
        jitter: float = 0.0,
        mass: FourierMass | None = None,
        compiled: bool = False,
    ) -> "HMC":
        """HMC with trajectories of length τ in `n_steps` steps of τ / n_steps.

        Raises:
            ValueError: as the constructor.
        """
        return cls(action, trajectory_length / max(n_steps, 1), n_steps, integrator, jitter, mass, compiled)

    @property
    def force_evaluations(self) -> int:
        """How often a trajectory evaluates the force, which is what it costs."""
        return self.n_steps * len(self.scheme.drifts)

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
        self._check_shape(x)
        action = self.action(x)
        self._check_finite(action)
        return HMCState(x.detach().clone(), action, self.action.force(x))

    @torch.no_grad()
    def step(self, state: HMCState, generator: Generator) -> tuple[HMCState, HMCInfo]:
        """One trajectory of every chain."""
        known = vars(state)
        noise = drawn(state.x, 1, generator, jitter=self.jitter > 0)
        found = self._transition(known | {name: values[0] for name, values in noise.items()})
        told = HMCInfo(found["accepted"], found["delta_h"])
        return type(state)(**{name: found[name] for name in known}), told

    @torch.no_grad()
    def advance(
        self, state: HMCState, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[HMCState, Block]:
        """Make `n_steps` transitions of every chain and record each, as `Sampler.advance`.

        Compiled steps of small fields are faster than most observables: `observe` then sees the fields of
        several in one batch. Random numbers are those of `step`, one by one; the chains differ by rounding.
        """
        if not self.compiled:
            return super().advance(state, n_steps, observe, generator)
        longest = min(_STRETCH, max(1, _NUMBERS // state.x.numel()))
        rows = []
        for first in range(0, n_steps, longest):
            state, row = self._stretch(state, min(longest, n_steps - first), observe, generator)
            rows.append(row)
        return state, Block({name: _joined([row[name] for row in rows]).cpu() for name in rows[0]})

    def _stretch(
        self, state: HMCState, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[HMCState, dict[str, Tensor]]:
        """The state after some steps, and what is recorded of them, (step, chain, …)."""
        noise = drawn(state.x, n_steps, generator, jitter=self.jitter > 0)
        known, parts = vars(state), []
        together = self._together(known) if n_steps > 1 else 1
        whole, single = divmod(n_steps, together)
        sizes = [together] * whole + [1] * single
        for numbers in zip(*(values.split(sizes) for values in noise.values()), strict=True):
            found = self._transitions(known | dict(zip(noise, numbers, strict=True)))
            known = {name: found.pop(name) for name in known}
            parts.append(found)
        history = {name: _joined([part[name] for part in parts]) for name in parts[0]}
        seen = observe(history.pop("fields").flatten(0, 1))
        shape = (n_steps, state.x.shape[0])
        return type(state)(**known), {k: values.unflatten(0, shape) for k, values in seen.items()} | history

    def _together(self, known: dict[str, Tensor]) -> int:
        """How many trajectories one program makes."""
        x = known["x"]
        if self.mass or x.numel() > _SMALL:
            return 1
        noise = blank(x, 1, jitter=self.jitter > 0)
        given = known | {name: values[0] for name, values in noise.items()}
        return max(1, min(_UNROLLED, _OPERATIONS // self._programs.operations(self._moved, given)))

    def _transitions(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state after trajectories, one for each row of the random numbers, and what became of each.

        That is "fields", "accepted" and "delta_h", (step, chain, …).
        """
        if given["uniform"].shape[0] > 1:
            return self._programs.run(self._moved_often, given, _MOST_READS)
        return self._followed(self._transition, given)

    def _moved_often(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._followed(self._moved, given)

    def _followed(self, moved: Named, given: dict[str, Tensor]) -> dict[str, Tensor]:
        noise = {name: given[name] for name in NOISE if name in given}
        known = {name: given[name] for name in given if name not in NOISE}
        rows = []
        for i in range(len(given["uniform"])):
            found = moved(known | {name: values[i] for name, values in noise.items()})
            known = {name: found.pop(name) for name in known}
            rows.append(found | {"fields": self.field(self.state_from_dict(known))})
        return known | {name: _joined([row[name][None] for row in rows]) for name in rows[0]}

    def _transition(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """State and info after a trajectory, from the state and the random numbers, all by name."""
        if not self.compiled:
            return self._moved(given)
        return self._programs.run(self._moved, given, _MOST_READS)

    def _moved(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        state = self.state_from_dict({name: given[name] for name in given if name not in NOISE})
        momentum = self.mass.momentum(given["normal"]) if self.mass else given["normal"]
        end, final_momentum = self._trajectory(state, momentum, self._steps(given))
        # site by site the difference of the squares is small, where the two sums would cancel
        both = final_momentum + momentum
        velocities = self.mass.velocity(both) if self.mass else both
        kinetic = 0.5 * ((final_momentum - momentum) * velocities).flatten(1).sum(1)
        delta_h = end.action - state.action + kinetic
        delta_h = torch.where(delta_h.isfinite(), delta_h, torch.inf)
        accepted = given["uniform"].log() < -delta_h
        return _chosen(accepted, end, state) | {"accepted": accepted, "delta_h": delta_h}

    def _steps(self, given: dict[str, Tensor]) -> float | Tensor:
        """The step size, or with jitter one for each chain, (batch, 1, …)."""
        return (
            self.step_size * (1 + self.jitter * (2 * given["jitter"] - 1)) if self.jitter else self.step_size
        )

    def _trajectory(
        self, state: HMCState, momentum: Field, step_size: float | Tensor
    ) -> tuple[HMCState, Field]:
        """Where the chains would be at the end of the trajectory, and π there."""
        end, final_momentum, force = self._integrated(self.action.force, state, momentum, step_size)
        return HMCState(end, self.action(end), force), final_momentum

    def _integrated(
        self,
        force: Callable[[Field], Field],
        state: HMCState,
        momentum: Field,
        step_size: float | Tensor,
    ) -> tuple[Field, Field, Field]:
        """x, π and F(x) at the end of the trajectory."""
        velocity = self.mass.velocity if self.mass else None
        return integrate(
            self.scheme, force, state.x, momentum, state.force, step_size, self.n_steps, velocity
        )

    def _check_shape(self, x: Field) -> None:
        lattice, shape = self.action.lattice, self.action.field_shape
        if tuple(x.shape[1:]) != tuple(shape):
            raise ValueError(
                f"expected fields on the lattice {lattice}, got a tensor of shape {tuple(x.shape)} "
                f"where (batch, {', '.join(map(str, shape))}) belongs"
            )

    @staticmethod
    def _check_finite(action: LogProb) -> None:
        if not bool(action.isfinite().all()):
            raise ValueError("expected fields of finite action to start from, got some that are not")

    def field(self, state: HMCState) -> Field:
        """The configuration of each chain."""
        return state.x

    def state_from_dict(self, tree: dict[str, Any]) -> HMCState:
        """The state that `state_dict` took apart."""
        return HMCState(**tree)


def _joined(parts: list[Tensor]) -> Tensor:
    """Stretches of history one after the other; one alone is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _chosen(accepted: Bool[Tensor, "batch"], new: HMCState, old: HMCState) -> dict[str, Tensor]:
    """The new state of the chains that accepted, the old one of the others, by name."""
    pairs = {name: (values, getattr(old, name)) for name, values in vars(new).items()}
    return {
        name: torch.where(accepted.view(-1, *[1] * (one.ndim - 1)), one, other)
        for name, (one, other) in pairs.items()
    }
