"""Symplectic integrators of Hamilton's equations: tables of coefficients, and one loop, or two nested."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Integrator:
    """A symmetric composition of kicks and drifts that follows H = ½ π M⁻¹ π + S(x), where M is 1 or a mass.

    One step of size ε is

        kick(a_0 ε) drift(b_1 ε) kick(a_1 ε) … drift(b_n ε) kick(a_n ε)

        kick(h): π ← π + h F(x), F = −∂S/∂x        drift(h): x ← x + h M⁻¹ π

    Symmetry makes it reversible, and with sums of one it is of second order at least.

    Args:
        name: what users call it.
        kicks: a_0 … a_n.
        drifts: b_1 … b_n.
        order: p, with which the violation of energy of a trajectory of fixed length goes as ε^p.

    Raises:
        ValueError: when the coefficients are not symmetric, do not add up to one, or are not n+1 and n.
    """

    name: str
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]
    order: int = 2

    def __post_init__(self) -> None:
        if not self.drifts or len(self.kicks) != len(self.drifts) + 1:
            raise ValueError(f"expected n+1 kicks and n drifts, got {len(self.kicks)} and {len(self.drifts)}")
        for what, coefficients in (("kicks", self.kicks), ("drifts", self.drifts)):
            if coefficients != coefficients[::-1] or not math.isclose(math.fsum(coefficients), 1.0):
                raise ValueError(f"expected symmetric {what} with sum 1, got {coefficients}")

    def schedule(self, n_steps: int) -> tuple[float, list[tuple[float, float]]]:
        """The first kick of a trajectory, and then its (drift, kick) pairs, in units of the step size.

        The last kick of a step and the first of the next act at the same x and merge, so that a trajectory of
        N steps takes N·n evaluations of the force.
        """
        merged = [*self.kicks[1:-1], self.kicks[-1] + self.kicks[0]]
        kicks = [*(merged * n_steps)[:-1], self.kicks[-1]]
        return self.kicks[0], list(zip(self.drifts * n_steps, kicks, strict=True))


_LAMBDA = 0.1931833275037836

LEAPFROG = Integrator("leapfrog", kicks=(0.5, 0.5), drifts=(1.0,))
"""Kick by ½, drift by 1, kick by ½: one force evaluation a step."""

OMELYAN = Integrator("omelyan", kicks=(_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), drifts=(0.5, 0.5))
"""The second-order minimum-norm integrator: two force evaluations a step, an error about ten times smaller.

Source: Omelyan, Mryglod, Folk, Computer Physics Communications 151 (2003) 272, velocity version; in lattice
field theory: Takaishi, de Forcrand, Testing and tuning symplectic integrators for hybrid Monte Carlo,
hep-lat/0505020.
"""

INTEGRATORS = {"leapfrog": LEAPFROG, "omelyan": OMELYAN, "minimum_norm": OMELYAN}
"""The integrators by the names that users type."""


Move = Callable[[Tensor, Tensor, float | Tensor], Tensor]
"""The configuration at some distance along a tangent: `Manifold.move`."""


def integrate(
    integrator: Integrator,
    force: Callable[[Tensor], Tensor],
    x: Tensor,
    momentum: Tensor,
    initial_force: Tensor,
    step_size: float | Tensor,
    n_steps: int,
    velocity: Callable[[Tensor], Tensor] | None = None,
    move: Move | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow Hamilton's equations ẋ = M⁻¹π, π̇ = F(x) for `n_steps` steps of `step_size`.

    Args:
        integrator: the table of coefficients.
        force: F(x) = −∂S/∂x.
        x: where the trajectory starts, (batch, *lattice).
        momentum: π there, a tangent, of the same shape for real numbers.
        initial_force: F at the start, which the caller knows from the last trajectory.
        step_size: ε, in units of the molecular-dynamics time; a negative one goes backwards. One number, or
            one for each chain, (batch, 1, …).
        n_steps: N ≥ 1.
        velocity: M⁻¹, as a function of π; the identity if None.
        move: the drift where it is more than a sum, on a manifold whose tangents stay what they are while x
            moves along one of them.

    Returns:
        x, π and F(x) at the end of the trajectory.
    """
    end, momentum = to_last_kick(
        integrator, force, x, momentum, initial_force, step_size, n_steps, velocity, move
    )
    acting = force(end)
    return end, added(momentum, acting, integrator.kicks[-1], step_size), acting


def to_last_kick(
    integrator: Integrator,
    force: Callable[[Tensor], Tensor],
    x: Tensor,
    momentum: Tensor,
    initial_force: Tensor,
    step_size: float | Tensor,
    n_steps: int,
    velocity: Callable[[Tensor], Tensor] | None = None,
    move: Move | None = None,
) -> tuple[Tensor, Tensor]:
    """The trajectory of `integrate` up to its last kick: x at its end, and π, which still lacks that kick."""
    first_kick, rest = integrator.schedule(n_steps)
    momentum = added(momentum, initial_force, first_kick, step_size)
    for i, (drift, kick) in enumerate(rest, start=1):
        rate = velocity(momentum) if velocity else momentum
        x = move(x, rate, drift * step_size) if move else added(x, rate, drift, step_size)
        if i < len(rest):
            momentum = added(momentum, force(x), kick, step_size)
    return x, momentum


Forces = tuple[Tensor, Tensor]
"""Of the cheap part of an action, and of the costly part."""


def integrate_nested(
    integrator: Integrator,
    cheap: Callable[[Tensor], Tensor],
    costly: Callable[[Tensor], Tensor],
    x: Tensor,
    momentum: Tensor,
    initial_forces: Forces,
    step_size: float | Tensor,
    n_steps: int,
    inner_steps: int,
    velocity: Callable[[Tensor], Tensor] | None = None,
    move: Move | None = None,
) -> tuple[Tensor, Tensor, Forces]:
    """Follow Hamilton's equations for S = S_cheap + S_costly on two time scales.

    A step of size ε is that of the integrator with the costly force, whose drifts follow the cheap one,

        kick(h): π ← π + h F_costly(x)    drift(h): `inner_steps` steps of size h / inner_steps with F_cheap

    by the same integrator. So a step takes as many costly forces as without a second scale, and each drift
    `inner_steps` times as many cheap ones; none is computed twice. A symmetric composition of symmetric ones
    is reversible, and of the order of both. With leapfrog, one inner step is leapfrog with the force of S.
    Source: Sexton, Weingarten, Hamiltonian evolution for the hybrid Monte Carlo algorithm, Nuclear Physics B
    380 (1992) 665.

    Args:
        integrator: the table of coefficients, of both scales.
        cheap: F_cheap(x) = −∂S_cheap/∂x.
        costly: F_costly(x).
        x: as the other arguments, of `integrate`.
        momentum: π at the start.
        initial_forces: both at the start.
        step_size: ε of the outer scale.
        n_steps: N ≥ 1 of the outer scale.
        inner_steps: in each drift of the outer scale, at least one.
        velocity: M⁻¹, as a function of π.
        move: the drift of the inner scale where it is more than a sum.

    Returns:
        x, π and both forces at the end of the trajectory.
    """
    start = (x, momentum, initial_forces, step_size, n_steps, inner_steps, velocity, move)
    end, momentum = nested_to_last_kick(integrator, cheap, costly, *start)
    forces = cheap(end), costly(end)
    return end, nested_last_kick(integrator, momentum, forces, step_size, inner_steps), forces


def nested_to_last_kick(
    integrator: Integrator,
    cheap: Callable[[Tensor], Tensor],
    costly: Callable[[Tensor], Tensor],
    x: Tensor,
    momentum: Tensor,
    initial_forces: Forces,
    step_size: float | Tensor,
    n_steps: int,
    inner_steps: int,
    velocity: Callable[[Tensor], Tensor] | None = None,
    move: Move | None = None,
) -> tuple[Tensor, Tensor]:
    """The trajectory of `integrate_nested` up to the last kick of each scale, which act at the same x."""
    acting, initial_costly = initial_forces
    first_kick, rest = integrator.schedule(n_steps)
    momentum = added(momentum, initial_costly, first_kick, step_size)
    *before, (last_drift, _) = rest
    for drift, kick in before:
        inner = (drift / inner_steps * step_size, inner_steps, velocity, move)
        x, momentum, acting = integrate(integrator, cheap, x, momentum, acting, *inner)
        momentum = added(momentum, costly(x), kick, step_size)
    inner = (last_drift / inner_steps * step_size, inner_steps, velocity, move)
    return to_last_kick(integrator, cheap, x, momentum, acting, *inner)


def nested_last_kick(
    integrator: Integrator,
    momentum: Tensor,
    final_forces: Forces,
    step_size: float | Tensor,
    inner_steps: int,
) -> Tensor:
    """π after the last kick of each scale, which `nested_to_last_kick` leaves out."""
    (cheap, costly), kick = final_forces, integrator.kicks[-1]
    momentum = added(momentum, cheap, kick * integrator.drifts[-1] / inner_steps, step_size)
    return added(momentum, costly, kick, step_size)


def added(start: Tensor, rate: Tensor, fraction: float, step_size: float | Tensor) -> Tensor:
    """start + fraction · ε · rate, in one pass over the memory: a kick, and the drift of numbers."""
    if isinstance(step_size, Tensor):
        return torch.addcmul(start, rate, step_size, value=fraction)
    return start.add(rate, alpha=fraction * step_size)
