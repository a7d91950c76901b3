"""HMC asks the manifold: angles stay where chains hold them, and a group of matrices needs no second HMC."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import ive
from torch import Generator, Tensor

from latflow.densities.flows import Bijection, Pullback
from latflow.fields import FieldKind, Manifold
from latflow.lattice import wrapped
from latflow.samplers import HMC, LEAPFROG, OMELYAN, FourierMass, Integrator, integrate, run, thermalise
from latflow.theories import Action, Ising, Phi4, U1Gauge


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def deviation(series: Tensor, expected: float) -> float:
    """In sigma, of the mean of (step, chain); the spread is that of the means of independent chains."""
    means = series.double().mean(0)
    return abs(float(means.mean()) - expected) / (float(means.std()) / math.sqrt(len(means)))


# --- angles ---------------------------------------------------------------------------------------

LINKS_ACTION = U1Gauge((8, 8), beta=2.0)


def test_links_stay_in_their_interval_and_follow_the_unwrapped_trajectories() -> None:
    sampler = HMC(LINKS_ACTION, 0.2, 8, jitter=0.2)
    state = sampler.init(9 * normal(4, 2, 8, 8, seed=1))
    assert float(state.x.abs().max()) <= math.pi
    seen = []
    for _ in range(300):
        state, _ = sampler.step(state, seeded(len(seen)))
        seen.append(float(state.x.abs().max()))
    assert 3 < max(seen) <= math.pi
    torch.testing.assert_close(state.force, LINKS_ACTION.force(state.x), rtol=0, atol=0)
    torch.testing.assert_close(state.action, LINKS_ACTION(state.x), rtol=0, atol=0)
    # a turn of every link changes neither action nor force, and the manifold writes both fields alike
    turned = state.x + 2 * math.pi * torch.randint(-3, 4, state.x.shape, generator=seeded(9)).double()
    torch.testing.assert_close(LINKS_ACTION.force(turned), state.force, rtol=0, atol=1e-12)
    again = wrapped(sampler.init(turned).x - state.x)
    torch.testing.assert_close(again, torch.zeros_like(again), rtol=0, atol=1e-12)


def test_wrapping_leaves_the_chains_as_they_are() -> None:
    """Decisions and fields, modulo 2π, are those of trajectories that are never wrapped."""

    class Wandering(Manifold):
        """Angles without a canonical form."""

    class WanderingLinks(type(LINKS_ACTION.kind)):
        manifold = Wandering()

    @dataclass(frozen=True)
    class Unwrapped(U1Gauge):
        kind: ClassVar[FieldKind] = WanderingLinks()

    x = 0.5 * normal(6, 2, 8, 8, seed=2)
    ends = [
        run(HMC(action, 0.25, 6, jitter=0.2), x, 20, lambda x: {"x": x}, seeded(3)).series
        for action in (LINKS_ACTION, Unwrapped((8, 8), 2.0))
    ]
    assert float(ends[1]["x"].abs().max()) > 4
    assert torch.equal(ends[0]["accepted"], ends[1]["accepted"])
    torch.testing.assert_close(
        wrapped(ends[1]["x"] - ends[0]["x"]),
        torch.zeros_like(x).expand(20, -1, -1, -1, -1),
        rtol=0,
        atol=1e-6,
    )


def test_a_discrete_field_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match="expected a field that moves continuously for HMC, got discrete spins"
    ):
        HMC(Ising((4, 4), 0.4), 0.1, 5)


def test_only_the_end_of_a_trajectory_needs_more_than_the_force() -> None:
    calls = []

    @dataclass(frozen=True)
    class Counted(Phi4):
        def __call__(self, x: Tensor) -> Tensor:
            calls.append("S")
            return super().__call__(x)

        def force(self, x: Tensor) -> Tensor:
            calls.append("F")
            return super().force(x)

    sampler = HMC(Counted((4, 4), -1.0, 1.0), 0.1, 5)
    state = sampler.init(0.3 * normal(2, 4, 4, seed=4))
    calls.clear()
    sampler.step(state, seeded(5))
    assert calls == ["F"] * 4 + ["S", "F"]


# --- a group of matrices: unit quaternions ---------------------------------------------------------


def product(p: Tensor, q: Tensor) -> Tensor:
    """Of quaternions (…, 4), the real part first."""
    (a, u), (b, v) = ((one[..., :1], one[..., 1:]) for one in (p, q))
    real = a * b - (u * v).sum(-1, keepdim=True)
    return torch.cat([real, a * v + b * u + torch.linalg.cross(*torch.broadcast_tensors(u, v))], -1)


def conjugate(q: Tensor) -> Tensor:
    return torch.cat([q[..., :1], -q[..., 1:]], -1)


def exponential(v: Tensor) -> Tensor:
    """exp(v) of an imaginary quaternion (…, 3)."""
    length = v.norm(dim=-1, keepdim=True)
    return torch.cat([length.cos(), v * torch.sinc(length / math.pi)], -1)


class UnitQuaternions(Manifold):
    """SU(2): tangents are imaginary quaternions v, along which x moves to exp(v) x."""

    linear, flat = False, False

    def move(self, x: Tensor, tangent: Tensor, step: float | Tensor = 1.0) -> Tensor:
        return product(exponential(step * tangent), x)

    def canonical(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    def project(self, x: Tensor, gradient: Tensor) -> Tensor:
        # component a is gradient · (e_a x)
        return product(gradient, conjugate(x))[..., 1:]

    def pairing(self, x: Tensor, tangent: Tensor) -> Tensor:
        return (product(x, conjugate(x.detach()))[..., 1:] * tangent).flatten(1).sum(1)

    def tangent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 3)


class Rotors(FieldKind):
    """A unit quaternion at each site."""

    name = "rotors"
    manifold = UnitQuaternions()

    def shape(self, lattice: tuple[int, ...]) -> tuple[int, ...]:
        return (*lattice, 4)

    def start(self, lattice: tuple[int, ...], n: int, generator: Generator, dtype: torch.dtype) -> Tensor:
        return self.manifold.canonical(torch.randn(n, *lattice, 4, generator=generator, dtype=dtype))


@dataclass(frozen=True)
class Ring(Action):
    """S = −β Σ_x q_x · q_{x+1}: the principal chiral model of SU(2) on a ring."""

    lattice: tuple[int, ...]
    beta: float
    kind: ClassVar[FieldKind] = Rotors()

    def __call__(self, x: Tensor) -> Tensor:
        return -self.beta * (x * x.roll(-1, 1)).flatten(1).sum(1)


def exact_bond(sites: int, beta: float) -> float:
    """⟨q·q′⟩ = ∂ log Z/∂β / N, Z = Σ_n n² λ_n^N with λ_n = 2 I_n(β)/β by the characters of SU(2)."""

    def log_z(b: float) -> float:
        n = np.arange(1, 60)
        return float(np.log(np.sum(n**2 * (2 * ive(n, b) / b) ** sites)) + sites * b)

    return (log_z(beta + 1e-5) - log_z(beta - 1e-5)) / 2e-5 / sites


class Turn(Bijection):
    """Every second rotor is turned by an angle that its neighbours choose: log |det J| = 0."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._turned(x, 0.8)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._turned(y, -0.8)

    @staticmethod
    def _turned(x: Tensor, angle: float) -> tuple[Tensor, Tensor]:
        even, odd = x[:, ::2], x[:, 1::2]
        turned = product(exponential(angle * odd[..., 1:]), even)
        return torch.stack([turned, odd], 2).flatten(1, 2), x.new_zeros(len(x))


ACTIONS = {"ring": Ring((6,), 1.5), "through a flow": Pullback(Ring((6,), 1.5), Turn())}
every_action = pytest.mark.parametrize("name", ACTIONS)


def rotors(chains: int, seed: int, lattice: tuple[int, ...] = (6,)) -> Tensor:
    return Rotors().start(lattice, chains, seeded(seed), torch.float64)


@every_action
def test_the_force_is_minus_the_derivative_along_tangents(name: str) -> None:
    action, x, towards = ACTIONS[name], rotors(5, 1), normal(5, 6, 3, seed=2)
    move, inner = action.kind.manifold.move, action.kind.manifold.inner
    slope = (action(move(x, towards, 1e-6)) - action(move(x, towards, -1e-6))) / 2e-6
    _, force, field = action.evaluate(x)
    assert force.shape == (5, 6, 3)
    torch.testing.assert_close(inner(force, towards), -slope.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(force, action.force(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(action.coordinates(field), x, rtol=0, atol=1e-12)


@every_action
@pytest.mark.parametrize("scheme", [LEAPFROG, OMELYAN], ids=lambda scheme: scheme.name)
def test_trajectories_on_a_group_keep_the_energy_to_second_order_and_turn_back(
    name: str, scheme: Integrator
) -> None:
    action, x, momentum = ACTIONS[name], rotors(60, 3), normal(60, 6, 3, seed=4)
    manifold, rms = action.kind.manifold, []

    def follow(x: Tensor, momentum: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        return integrate(scheme, action.force, x, momentum, action.force(x), 1 / n, n, move=manifold.move)

    def energy(x: Tensor, momentum: Tensor) -> Tensor:
        return action(x) + 0.5 * manifold.inner(momentum, momentum)

    for n in (20, 80):
        end, final, _ = follow(x, momentum, n)
        rms.append(float((energy(end, final) - energy(x, momentum)).square().mean().sqrt()))
    assert abs(math.log(rms[0] / rms[1]) / math.log(4) - 2) < 0.1
    back, turned, _ = follow(end, -final, 80)
    assert float((end - x).abs().mean()) > 0.1
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(turned, -momentum, rtol=0, atol=1e-10)


@every_action
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_a_group_is_sampled_by_the_same_hmc(name: str, jitter: float) -> None:
    action = ACTIONS[name]

    def bond(x: Tensor) -> dict[str, Tensor]:
        return {"bond": (x * x.roll(-1, 1)).sum(-1).mean(1), "length": x.norm(dim=-1)}

    sampler = HMC(action, 0.45, 3, jitter=jitter)
    chain = run(sampler, rotors(300, 5), 60, bond, seeded(6), thermalisation=15)
    assert 0.5 < float(chain.series["accepted"].double().mean()) < 0.99
    assert deviation(torch.exp(-chain.series["delta_h"]), 1.0) < 5
    assert deviation(chain.series["bond"], exact_bond(6, 1.5)) < 5
    torch.testing.assert_close(chain.series["length"], torch.ones_like(chain.series["length"]))


def test_a_wrong_metric_fails() -> None:
    """The numbers of the field moved as if they were real, back to the sphere at each end."""

    class Squeezed(UnitQuaternions):
        def move(self, x: Tensor, tangent: Tensor, step: float | Tensor = 1.0) -> Tensor:
            squeezed = tangent * torch.tensor([1.0, 1.0, 0.5], dtype=x.dtype)
            return super().move(x, squeezed, step)

    class SqueezedRotors(Rotors):
        manifold = Squeezed()

    @dataclass(frozen=True)
    class Wrong(Ring):
        kind: ClassVar[FieldKind] = SqueezedRotors()

    sampler = HMC(Wrong((6,), 1.5), 0.45, 3)
    chain = run(sampler, rotors(300, 5), 30, lambda _: {}, seeded(6), thermalisation=15)
    assert (
        deviation(torch.exp(-chain.series["delta_h"]), 1.0) > 8 or float(chain.series["delta_h"].mean()) > 0.5
    )


def test_masses_for_modes_need_real_numbers() -> None:
    for action, kind in ((ACTIONS["ring"], "rotors"), (LINKS_ACTION, "links")):
        with pytest.raises(ValueError, match=f"one a site, for a Fourier mass, got {kind}"):
            HMC(action, 0.1, 5, mass=FourierMass(1.0))


def test_a_group_goes_on_from_where_it_was_kept() -> None:
    sampler, start = HMC(ACTIONS["through a flow"], 0.45, 3, jitter=0.1), rotors(4, 7)
    whole = thermalise(sampler, sampler.init(start), 6, seeded(8))
    generator = seeded(8)
    kept = sampler.state_dict(thermalise(sampler, sampler.init(start), 3, generator))
    rest = thermalise(sampler, sampler.state_from_dict(kept), 3, generator)
    assert set(kept) == {"x", "action", "force", "field"}
    assert torch.equal(whole.x, rest.x)
    assert torch.equal(sampler.field(whole), sampler.field(rest))
