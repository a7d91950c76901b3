"""Hybrid Monte Carlo: trajectories of Hamilton's equations, made exact by accepting or rejecting each."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from latflow.fields.base import Manifold
from latflow.samplers.base import Block, KnownAction, Observe, Place, Sampler
from latflow.samplers.history import chosen
from latflow.samplers.integrators import (
    INTEGRATORS,
    Forces,
    Integrator,
    added,
    nested_last_kick,
    nested_to_last_kick,
    to_last_kick,
)
from latflow.samplers.kinetic import FourierMass
from latflow.samplers.noise import NOISE, drawn
from latflow.samplers.trajectories import Evaluate, Trajectories
from latflow.theories.base import Action, ByCost
from latflow.types import LogProb


@runtime_checkable
class Tune(Protocol):
    """Makes HMC as it is best for some chains: `Tuning`."""

    def __call__(
        self, hmc: "HMC", state: "HMCState", generator: Generator, thermalisation: int, /
    ) -> tuple["HMC", "HMCState"]:
        """The tuned sampler, and the chains as they stand."""
        ...

    def check_chains(self, n: int) -> None:
        """Refuse a number of chains with which this cannot work."""
        ...

    def within(self, place: Place) -> "Tune":
        """The same for HMC that is one of several kernels of a chain."""
        ...


@dataclass(frozen=True)
class HMCState:
    """Where each chain is, with the action and the force there: neither is computed twice.

    Attributes:
        x: the variables of the action, written canonically.
        action: S(x).
        force: −∂S/∂x; of the cheap part alone, where the costly part has a time scale of its own.
        field: the physical configuration, where it is another one than x.
        costly_force: that of the costly part, there.
    """

    x: Tensor
    action: LogProb
    force: Tensor
    field: Tensor | None = None
    costly_force: Tensor | None = None


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

    With momenta π drawn from N(0, M) a chain follows H(x, π) = ½ ⟨π, M⁻¹ π⟩ + S(x) for the trajectory length
    τ = step_size · n_steps, and moves to the end of the trajectory with probability min(1, exp(−ΔH)),

        ΔH = S(x′) − S(x) + ½ ⟨π′ − π, M⁻¹ (π′ + π)⟩,

    where M = 1, unless a mass is given. The manifold of the field says how x moves along π, and what ⟨·, ·⟩
    is; the end of a trajectory is written canonically, angles in (−π, π]. On a `Pullback` the chains live in
    the latent variables of a flow, and their field is the physical one.

    ΔH is summed in float64, whatever the precision of the field, as are the actions of this package; uniform
    numbers have it too, since in float32 one in 2²⁴ of them is zero and would accept anything. A trajectory
    whose ΔH is not finite left the numbers that the field can hold; it counts as rejected. Source: Duane,
    Kennedy, Pendleton, Roweth, Hybrid Monte Carlo, Physics Letters B 195 (1987) 216; on groups: Kennedy,
    Rossi, Nuclear Physics B 327 (1989) 782.

    Args:
        action: the theory; its `force` drives the trajectories.
        step_size: ε > 0, in units of the molecular-dynamics time.
        n_steps: steps in a trajectory, at least one.
        integrator: "leapfrog", "omelyan" (alias "minimum_norm"), or an `Integrator`.
        jitter: each trajectory of each chain takes a step size of its own, uniform in step_size ·
            [1 − jitter, 1 + jitter]. With trajectories of one length, a mode with ωτ near a multiple of π
            keeps its amplitude for hundreds of them, and errors look smaller than they are (P. Mackenzie,
            Physics Letters B 226 (1989) 369); 0.2 cures that.
        mass: M for each mode of a field of real numbers; all modes have mass 1 if None.
        compiled: whether steps are compiled, as `Trajectories` has it. The first step with each number of
            chains then takes seconds to minutes, the others are several times faster; random numbers are the
            same, results differ by rounding. "auto" for where that pays.
        tuning: what `adapt` does to find step size and number of steps; they are kept if None.
        through: in words, what lies between the variables that move and the field: "the model".
        inner_steps: of the cheap force in each drift of a step with the costly force, for an action that has
            both (`Action.by_cost`), such as gauge field and fermions: `integrate_nested`. The steps of
            `n_steps` then are those of the costly force. One time scale if None.

    Raises:
        ValueError: for a step size that is not positive and finite, no steps, an unknown integrator, a
            jitter outside [0, 1), a field of discrete values, an action whose exp(−S) cannot be
            normalised, a mass for a field that is not made of real numbers, one a site, or inner steps for
            an action whose parts cost alike or that is to be compiled.

    Example:
        >>> from latflow.theories import Phi4
        >>> HMC(Phi4((8, 8), m2=-4.0, lam=8.0), step_size=0.125, n_steps=8).trajectory_length
        1.0
    """

    action: Action
    step_size: float
    n_steps: int
    integrator: str | Integrator = "leapfrog"
    jitter: float = 0.0
    mass: FourierMass | None = None
    compiled: bool | Literal["auto"] = False
    tuning: Tune | None = None
    through: str = ""
    inner_steps: int | None = None
    _trajectories: Trajectories = dataclasses.field(
        default_factory=Trajectories, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise ValueError(f"expected a positive, finite step_size, got {self.step_size}")
        if self.n_steps < 1:
            raise ValueError(f"expected n_steps of at least 1, got {self.n_steps}")
        if isinstance(self.integrator, str) and self.integrator not in INTEGRATORS:
            raise ValueError(f"expected an integrator among {sorted(INTEGRATORS)}, got {self.integrator!r}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"expected a jitter in [0, 1), got {self.jitter}")
        kind = self.action.kind
        if kind.manifold is None:
            raise ValueError(f"expected a field that moves continuously for HMC, got discrete {kind}")
        self.action.check_proper()
        if self.mass and not (kind.manifold.flat and self.action.field_shape == tuple(self.action.lattice)):
            raise ValueError(f"expected real numbers, one a site, for a Fourier mass, got {kind}")
        if self.inner_steps is not None:
            self._check_time_scales(self.inner_steps)

    def _check_time_scales(self, inner_steps: int) -> None:
        if inner_steps < 1:
            raise ValueError(f"expected inner_steps of at least 1, got {inner_steps}")
        if self.action.by_cost() is None:
            raise ValueError(
                f"expected an action of a cheap and a costly part for inner_steps, got "
                f"{self.action.words.name}, whose force is of one cost: leave inner_steps out"
            )
        if self.compiled is True:
            raise ValueError("expected no compiled trajectories with inner_steps, got compiled = true")

    @classmethod
    def of_length(
        cls, action: Action, trajectory_length: float, n_steps: int, *more: Any, **options: Any
    ) -> "HMC":
        """HMC with trajectories of length τ, in `n_steps` steps of τ / n_steps; the rest as in `HMC`."""
        return cls(action, trajectory_length / max(n_steps, 1), n_steps, *more, **options)

    @property
    def title(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"HMC through {self.through}" if self.through else "HMC"

    @property
    def step_words(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"one trajectory of {self.title}"

    @property
    def name(self) -> str:
        """In names of series: "hmc", or "flowed_hmc" through a model."""
        return "flowed_hmc" if self.through else super().name

    def alternatives(self) -> tuple[dict[str, Any], ...]:
        """Trajectories of other lengths, and masses that bring all modes to one pace where there can be any.

        A mode of mass m turns by a quarter in a time of about 1/m. The slowest that matters has a wavelength
        of the lattice: lengths go up by twos to a quarter of the longest side, and a Fourier mass is tried
        for correlation lengths of a quarter and an eighth of it. The latent variables of a flow move at the
        pace of its prior, which is about one.
        """
        side = max(self.action.lattice)
        longest = 2.0 if self.through else max(side / 4, 2.0)
        lengths = [2.0**k for k in range(int(math.log2(longest)) + 1)]
        flat = self.manifold.flat and self.action.field_shape == tuple(self.action.lattice)
        masses = [(4 / side) ** 2, (8 / side) ** 2] if flat and not self.through else []
        return (
            *({"trajectory_length": length} for length in lengths),
            *({"trajectory_length": length, "fourier_mass": m2} for m2 in masses for length in (1.0, 2.0)),
        )

    @property
    def force_evaluations(self) -> int:
        """How often a trajectory evaluates the force, which is what it costs: the costly one, if any."""
        return self.n_steps * len(self.scheme.drifts)

    @property
    def trajectory_length(self) -> float:
        """τ = step_size · n_steps, the molecular-dynamics time of a trajectory, on average."""
        return self.step_size * self.n_steps

    @property
    def scheme(self) -> Integrator:
        """The integrator itself, whether it was named or given."""
        return INTEGRATORS[self.integrator] if isinstance(self.integrator, str) else self.integrator

    @property
    def manifold(self) -> Manifold:
        """On which the variables of the action move."""
        manifold = self.action.kind.manifold
        assert manifold is not None  # the constructor refuses a kind without
        return manifold

    @torch.no_grad()
    def init(self, x: Tensor) -> HMCState:
        """Start one chain at each configuration of the physical field, (batch, …).

        Raises:
            ValueError: when x lives on another lattice, or its action is not finite, so that a chain could
                not move.
        """
        self.action.check(x)
        return self._start(self.action.coordinates(x))

    @torch.no_grad()
    def init_latent(self, z: Tensor) -> HMCState:
        """Start one chain at each z of the variables that move, for example draws from the prior of a flow.

        Raises:
            ValueError: as `init`.
        """
        self.action.check(z)
        return self._start(z)

    def _start(self, x: Tensor) -> HMCState:
        state = self._reached(self.manifold.canonical(x.detach().clone()))
        if not bool(state.action.isfinite().all()):
            raise ValueError("expected fields of finite action to start from, got some that are not")
        return state

    @torch.no_grad()
    def step(self, state: HMCState, generator: Generator) -> tuple[HMCState, HMCInfo]:
        """One trajectory of every chain."""
        known = self.state_dict(state)
        noise = drawn(state.x, self.tangent_shape(state.x), 1, generator, jitter=self.jitter > 0)
        given = known | {name: values[0] for name, values in noise.items()}
        found = self._trajectories.transition(self, given) if self.compiled else self.moved(given)
        told = HMCInfo(found["accepted"], found["delta_h"])
        return HMCState(**{name: found[name] for name in known}), told

    @torch.no_grad()
    def advance(
        self, state: HMCState, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[HMCState, Block]:
        """Make `n_steps` transitions of every chain and record each, as `Sampler.advance`.

        Compiled steps of small fields are faster than most observables: `observe` then sees the fields of
        several in one batch. Random numbers are those of `step`, one by one; the chains differ by rounding.
        """
        known = self.state_dict(state)
        if not (self.compiled and self._trajectories.compiles(self, known)):
            return super().advance(state, n_steps, observe, generator)
        known, series = self._trajectories.history(self, known, n_steps, observe, generator)
        return HMCState(**known), Block(series)

    def moved(self, given: dict[str, Tensor], evaluate: Evaluate | None = None) -> dict[str, Tensor]:
        """State and info after a trajectory, from the state and the random numbers, all by name.

        Args:
            given: what `state_dict` has, and random numbers as `noise.drawn`, of one step.
            evaluate: value, force and field by another way than the action's own methods, if given.
        """
        state = HMCState(**{name: given[name] for name in given if name not in NOISE})
        momentum = self.mass.momentum(given["normal"]) if self.mass else given["normal"]
        end, final_momentum = self._trajectory(state, momentum, self._steps(given), evaluate)
        # number by number the difference of the squares is small, where the two sums would cancel
        both = final_momentum + momentum
        velocities = self.mass.velocity(both) if self.mass else both
        kinetic = 0.5 * self.manifold.inner(final_momentum - momentum, velocities)
        delta_h = end.action - state.action + kinetic
        delta_h = torch.where(delta_h.isfinite(), delta_h, torch.inf)
        accepted = given["uniform"].log() < -delta_h
        after = {name: chosen(accepted, values, given[name]) for name, values in self.state_dict(end).items()}
        return after | {"accepted": accepted, "delta_h": delta_h}

    def _steps(self, given: dict[str, Tensor]) -> float | Tensor:
        """The step size, or with jitter one for each chain, (batch, 1, …)."""
        return (
            self.step_size * (1 + self.jitter * (2 * given["jitter"] - 1)) if self.jitter else self.step_size
        )

    def _trajectory(
        self,
        state: HMCState,
        momentum: Tensor,
        step_size: float | Tensor,
        evaluate: Evaluate | None = None,
    ) -> tuple[HMCState, Tensor]:
        """Where the chains would be at the end of the trajectory, and π there."""
        manifold, parts = self.manifold, self._parts
        moving = self.mass.velocity if self.mass else None, None if manifold.linear else manifold.move
        # only the end of a trajectory needs more than the force
        if parts is None or self.inner_steps is None:
            force = (lambda x: evaluate(x).force) if evaluate else self.action.force
            along = (state.x, momentum, state.force, step_size, self.n_steps, *moving)
            x, almost = to_last_kick(self.scheme, force, *along)
            end = self._reached(manifold.canonical(x), evaluate)
            return end, added(almost, end.force, self.scheme.kicks[-1], step_size)
        along = (state.x, momentum, _forces(state), step_size, self.n_steps, self.inner_steps, *moving)
        x, almost = nested_to_last_kick(self.scheme, parts.cheap.force, parts.costly.force, *along)
        end = self._reached(manifold.canonical(x))
        return end, nested_last_kick(self.scheme, almost, _forces(end), step_size, self.inner_steps)

    @property
    def _parts(self) -> ByCost | None:
        """Of the action, where they have time scales of their own."""
        return None if self.inner_steps is None else self.action.by_cost()

    def _reached(self, x: Tensor, evaluate: Evaluate | None = None) -> HMCState:
        """The state of chains at x."""
        if (parts := self._parts) is None:
            value, force, field = (evaluate or self.action.evaluate)(x)
            return HMCState(x, value, force, None if field is x else field)
        cheap, costly = parts.cheap.evaluate(x), parts.costly.evaluate(x)
        field = None if cheap.field is x else cheap.field
        return HMCState(x, cheap.value + costly.value, cheap.force, field, costly.force)

    def tangent_shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape of the momentum of one chain."""
        return self.manifold.tangent_shape(tuple(x.shape[1:]))

    def field(self, state: HMCState) -> Tensor:
        """The physical configuration of each chain."""
        return state.x if state.field is None else state.field

    def known_action(self, state: HMCState) -> KnownAction | None:
        """S(x), where x is the physical field."""
        return KnownAction(self.action, state.action) if state.field is None else None

    def state_dict(self, state: HMCState) -> dict[str, Tensor]:
        return {name: values for name, values in vars(state).items() if values is not None}

    def state_from_dict(self, tree: dict[str, Any]) -> HMCState:
        """The state that `state_dict` took apart."""
        return HMCState(**tree)

    def check_chains(self, n: int) -> None:
        if self.tuning is not None:
            self.tuning.check_chains(n)

    def within(self, place: Place) -> "HMC":
        return dataclasses.replace(self, tuning=self.tuning.within(place)) if self.tuning else self

    def adapt(self, state: HMCState, generator: Generator, thermalisation: int) -> "tuple[HMC, HMCState]":
        return self.tuning(self, state, generator, thermalisation) if self.tuning else (self, state)

    def found(self) -> dict[str, float]:
        """Step size and number of steps, and inner steps if there are any, where `adapt` looks for them."""
        if not self.tuning:
            return {}
        steps: dict[str, float] = {"step_size": self.step_size, "n_steps": self.n_steps}
        return steps if self.inner_steps is None else steps | {"inner_steps": self.inner_steps}

    def adapted(self, found: Mapping[str, float]) -> "HMC":
        inner = int(found["inner_steps"]) if "inner_steps" in found else None
        steps = {"step_size": float(found["step_size"]), "n_steps": int(found["n_steps"])}
        return dataclasses.replace(self, **steps, inner_steps=inner)


def _forces(state: HMCState) -> Forces:
    assert state.costly_force is not None  # of every state that HMC with two time scales makes
    return state.force, state.costly_force
