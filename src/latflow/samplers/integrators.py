"""Symplectic integrators of Hamilton's equations: tables of coefficients, and one loop."""

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


def added(start: Tensor, rate: Tensor, fraction: float, step_size: float | Tensor) -> Tensor:
    """start + fraction · ε · rate, in one pass over the memory: a kick, and the drift of numbers."""
    if isinstance(step_size, Tensor):
        return torch.addcmul(start, rate, step_size, value=fraction)
    return start.add(rate, alpha=fraction * step_size)
