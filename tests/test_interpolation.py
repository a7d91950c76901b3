"""Coarse theories as priors: where the sites go, what the densities are, and what the flows make of them."""

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor

from cases import Case, perturbed
from latflow import exact
from latflow.densities.flows import (
    Bijection,
    Compose,
    EverySecondSite,
    Flow,
    FourierLayer,
    Interleaved,
    Normal,
    OnSublattices,
    Scale,
    SiteMap,
    Spline,
    TheoryPrior,
    interleave,
    minimal_flow,
    refined,
    separate,
)
from latflow.samplers import HMC, flowed_hmc, run
from latflow.samplers.chain_prior import RunningChains
from latflow.theories import Phi4, U1Gauge

M2 = 1.25
COARSE = [(3,), (2, 3), (2, 1, 3)]


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def chains(
    lattice: tuple[int, ...], n: int = 64, spacing: int = 10, m2: float = M2, log_z: float = 0.0
) -> TheoryPrior:
    """A free field that HMC samples; the trajectories are too short for half a period of any mode."""
    action = Phi4(lattice, m2=m2, lam=0.0)
    hmc, start = HMC(action, 0.25, 2, jitter=0.2), normal(n, *lattice, seed=1)
    source = RunningChains(hmc, start, spacing=spacing, thermalisation=30)
    return TheoryPrior(action, source, log_z=log_z)


def off_by(values: Tensor, expected: float) -> float:
    """In sigma, of the mean of independent numbers."""
    return abs(float(values.mean()) - expected) / (float(values.std()) / math.sqrt(len(values)))


# --- where the sites go ---------------------------------------------------------------------------


@pytest.mark.parametrize("coarse", COARSE, ids=str)
def test_coarse_fields_go_to_their_sublattices(coarse: tuple[int, ...]) -> None:
    """φ(2x + c) = φ_c(x), site by site, and back."""
    corners = list(itertools.product((0, 1), repeat=len(coarse)))
    fields = normal(3 * len(corners), *coarse)
    fine = interleave(fields)
    assert fine.shape == (3, *(2 * side for side in coarse))
    for batch, (number, corner) in itertools.product(range(3), enumerate(corners)):
        for site in itertools.product(*map(range, coarse)):
            there = tuple(2 * x + c for x, c in zip(site, corner, strict=True))
            assert fine[(batch, *there)] == fields[(batch * len(corners) + number, *site)]
    assert torch.equal(separate(fine), fields)
    assert torch.equal(interleave(separate(fine)), fine)
    with pytest.raises(ValueError, match="even sides"):
        separate(normal(2, *(2 * side + 1 for side in coarse)))


SITE_MAPS: list[Case] = [
    Case("fourier", lambda _: FourierLayer(0.8)),
    Case("site spline", lambda _: Compose(SiteMap(Spline(5, 2.0), z2=False), Scale(0.3))),
    Case("minimal flow", lambda d: minimal_flow((2,) * d).bijection),
]


@pytest.mark.parametrize("case", SITE_MAPS, ids=lambda case: case.name)
@pytest.mark.parametrize("fine", [(8,), (4, 8), (4, 4, 4)], ids=str)
def test_a_map_of_each_sublattice(case: Case, fine: tuple[int, ...]) -> None:
    inner: Bijection = case.perturbed(len(fine))
    bijection, x = OnSublattices(inner), normal(3, *fine)
    y, log_det = bijection.forward(x)
    again, opposite = bijection.inverse(y)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(opposite, -log_det, rtol=0, atol=1e-9)
    corner = (slice(None), *(slice(1, None, 2) for _ in fine))
    torch.testing.assert_close(y[corner], inner.forward(x[corner])[0])
    matrix = torch.autograd.functional.jacobian(lambda z: bijection.forward(z)[0].flatten(), x[:1])
    expected = torch.linalg.slogdet(matrix.reshape(x[0].numel(), x[0].numel())).logabsdet
    torch.testing.assert_close(log_det[0].detach(), expected, rtol=1e-9, atol=1e-9)


# --- priors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("coarse", COARSE, ids=str)
@pytest.mark.parametrize("kind", [Interleaved, EverySecondSite])
def test_over_normal_numbers_the_priors_are_normal_themselves(
    kind: type, coarse: tuple[int, ...], dtype: torch.dtype
) -> None:
    prior = kind(Normal(coarse)).to(dtype)
    fine = Normal([2 * side for side in coarse])
    z = prior.sample(5, seeded(1))
    assert (prior.lattice, z.shape, z.dtype) == (fine.lattice, (5, *fine.lattice), dtype)
    torch.testing.assert_close(prior.log_prob(z), fine.log_prob(z), rtol=1e-6, atol=0)
    assert prior.log_prob(z).dtype == torch.float64
    larger = prior.on_lattice([4 * side for side in coarse])
    assert larger.lattice == tuple(4 * side for side in coarse)
    with pytest.raises(ValueError, match="even sides"):
        prior.on_lattice([2 * side + 1 for side in coarse])


def test_one_coarse_field_sits_on_every_second_site() -> None:
    prior = EverySecondSite(chains((2, 3)))
    z = prior.sample(500, seeded(2))
    coarse = z[:, ::2, ::2]
    rest = z[:, 1::2].flatten()
    assert off_by(coarse.square().flatten(1).mean(1), exact.free_field_phi_squared((2, 3), M2)) < 5
    assert off_by(rest**2, 1.0) < 5
    others = torch.cat([z[:, 1::2].flatten(1), z[:, ::2, 1::2].flatten(1)], 1)
    expected = -Phi4((2, 3), M2, 0.0)(coarse) - 0.5 * (others**2).sum(1) - 9 * math.log(2 * math.pi)
    torch.testing.assert_close(prior.log_prob(z), expected)


def test_four_coarse_fields_are_independent_and_their_actions_add() -> None:
    coarse = Phi4((2, 3), M2, 0.0)
    prior = Interleaved(chains((2, 3)))
    z = prior.sample(600, seeded(3))
    parts = [z[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    for part in parts:
        assert off_by(part.square().flatten(1).mean(1), exact.free_field_phi_squared((2, 3), M2)) < 5
    for one, other in itertools.combinations(parts, 2):
        assert off_by((one.mean((1, 2)) * other.mean((1, 2))), 0.0) < 5
    torch.testing.assert_close(prior.log_prob(z), -sum(coarse(part) for part in parts))


def test_a_theory_as_prior_gives_its_own_log_z() -> None:
    """With log Z of the coarse theory, importance sampling finds that of the fine one; without, the ratio.

    Four free fields of the coarse lattice in one, to a free field of the fine lattice and another mass.
    """
    coarse, fine = (2, 2), Phi4((4, 4), m2=8.0, lam=0.0)
    log_z = exact.free_field_log_z(coarse, 9.0)
    expected = exact.free_field_log_z((4, 4), 8.0)
    for given, target in ((log_z, expected), (0.0, expected - 4 * log_z)):
        prior = Interleaved(chains(coarse, 500, 4, m2=9.0, log_z=given))
        flow = Flow(prior, Scale(-0.05).double())
        with torch.no_grad():
            x, log_q = flow.sample(5000, seeded(4))
            weight = torch.exp(-fine(x) - log_q - target)
        assert float(weight.std()) < 4
        assert off_by(weight.detach(), 1.0) < 5
        torch.testing.assert_close(flow.log_prob(x), log_q)


def test_chains_go_on_where_they_stopped_and_are_stored_with_the_weights() -> None:
    whole, parts = chains((2, 3), 8), chains((2, 3), 8)
    generator = seeded(5)
    first = parts.sample(8, generator)
    stored = parts.state_dict()
    kept = {name: values.clone() for name, values in stored.items()}
    resumed = chains((2, 3), 8)
    resumed.load_state_dict(stored)
    state = generator.get_state()
    second = resumed.sample(16, generator)
    parts.sample(16, generator)
    assert all(torch.equal(stored[name], values) for name, values in kept.items()), "stored means stored"
    generator.set_state(state)
    again = chains((2, 3), 8)
    again.load_state_dict(stored)
    assert torch.equal(again.sample(16, generator), second)
    assert torch.equal(whole.sample(24, seeded(5)), torch.cat([first, second]))
    assert bool(resumed.source.thermalised)
    assert parts.sample(0, generator).shape == (0, 2, 3)
    assert parts.sample(3, generator).shape == (3, 2, 3)
    single = chains((2, 3), 8).float()
    assert single.sample(4, seeded(6)).dtype == torch.float32


def test_draws_of_later_calls_are_decorrelated() -> None:
    """⟨M(first) M(later)⟩ of the slowest mode vanishes; a draw every single step would remember."""
    correlations = []
    for spacing in (25, 1):
        prior = chains((2, 3), 2000, spacing=spacing)
        one, two = (prior.sample(2000, seeded(seed)).mean((1, 2)) for seed in (7, 8))
        correlations.append(float((one * two).mean() / (one * one).mean()))
    assert abs(correlations[0]) < 5 / math.sqrt(2000)
    assert correlations[1] > 0.15


def test_the_description_says_how_the_draws_are_made() -> None:
    described = chains((2, 3), 8).source.description
    assert described == "8 chains of HMC, a draw of each every 10 steps after 30 of thermalisation"


def test_impossible_chains_are_refused() -> None:
    action = Phi4((2, 3), M2, 0.0)
    for start, options in (
        (normal(0, 2, 3), {}),
        (normal(4, 2, 3), {"spacing": 0}),
        (normal(4, 2, 3), {"thermalisation": -1}),
    ):
        settings = {"spacing": 1, "thermalisation": 0} | options
        with pytest.raises(ValueError, match="expected"):
            RunningChains(HMC(action, 0.2, 3), start, **settings)
    prior = chains((2, 3))
    assert prior.on_lattice((2, 3)) is prior
    with pytest.raises(ValueError, match=r"expected the lattice \(2, 3\) of the theory, got \(4, 6\)"):
        prior.on_lattice((4, 6))


def test_links_can_be_a_prior_too() -> None:
    action = U1Gauge((4, 4), beta=1.0)
    start = 0.3 * normal(100, 2, 4, 4, seed=9)
    prior = TheoryPrior(action, RunningChains(HMC(action, 0.3, 4), start, spacing=5, thermalisation=20))
    links = prior.sample(400, seeded(10))
    assert links.shape == (400, 2, 4, 4)
    assert off_by(-action(links) / 16, exact.u1_plaquette((4, 4), 1.0)) < 5


def test_a_theory_that_is_drawn_exactly_needs_no_chains() -> None:
    action = U1Gauge((4, 6), beta=1.5)
    exactly = action.exact_sampler()
    assert exactly is not None
    prior = TheoryPrior(action, lambda n, generator: exactly.sample(n, generator)[0])
    links = prior.sample(500, seeded(4))
    assert (prior.kind, links.shape, prior.state_dict()) == (action.kind, (500, 2, 4, 6), {})
    assert off_by(-action(links) / 36, exact.u1_plaquette((4, 6), 1.5)) < 5


# --- flows from coarse to fine --------------------------------------------------------------------


def test_hmc_through_an_iterated_refinement_is_exact() -> None:
    """2×2 → 4×4 → 8×8, with perturbed maps on both levels; no prior enters."""
    first = refined(chains((2, 2)), perturbed(minimal_flow((4, 4)).double(), 0.1).bijection)
    flow = refined(first, perturbed(minimal_flow((8, 8)).double(), 0.1).bijection)
    assert (first.lattice, flow.lattice) == ((4, 4), (8, 8))
    sampler = flowed_hmc(flow, Phi4((8, 8), M2, 0.0), 0.12, 5, jitter=0.2)
    with torch.no_grad():
        state = sampler.init_latent(0.3 * flow.prior.sample(64, seeded(11)))
    chain = run(sampler, state, 30, lambda x: {"square": x.square().mean((1, 2))}, seeded(12), 30)
    assert 0.3 < float(chain.series["accepted"].double().mean()) < 0.98
    expected = exact.free_field_phi_squared((8, 8), M2)
    assert off_by(chain.series["square"].mean(0), expected) < 5


def test_a_flowed_chain_can_be_the_coarse_sampler_and_the_flow_can_be_trained() -> None:
    coarse = Phi4((2, 2), M2, 0.0)
    sampler = flowed_hmc(perturbed(minimal_flow((2, 2)).double(), 0.1), coarse, 0.3, 3)
    source = RunningChains(sampler, normal(64, 2, 2, seed=13), spacing=4, thermalisation=10)
    prior = TheoryPrior(coarse, source)
    flow = refined(prior, minimal_flow((4, 4)).double().bijection)
    x, log_q = flow.sample(32, seeded(14))
    (log_q + Phi4((4, 4), M2, 0.0)(x)).mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in flow.parameters())
    assert set(dict(flow.named_parameters())) == set(
        dict(flow.bijection.named_parameters(prefix="bijection"))
    )
