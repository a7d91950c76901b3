"""The minimal flow: its formula, its symmetry, and what its few numbers learn."""

import itertools

import pytest
import torch
from torch import Generator, Tensor

from cases import perturbed
from latflow.densities.flows import MinimalNetwork, kernel_for, minimal_flow
from latflow.densities.recipe import recipe_of
from latflow.estimators import path_gradient
from latflow.theories import HoppingPhi4
from latflow.training import Schedule, train

LATTICES = [(8,), (4, 6), (2, 4, 6)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_both_couplings_are_those_of_a_loop_over_sites(lattice: tuple[int, ...], kernel: int) -> None:
    flow = perturbed(minimal_flow(lattice, kernel=kernel).double())
    networks = [module for module in flow.modules() if isinstance(module, MinimalNetwork)]
    z = normal(1, *lattice)
    x, log_det = z[0].clone(), 0.0
    reach = range(-(kernel // 2), kernel // 2 + 1)
    for parity, network in enumerate(networks):
        (weight,) = [p for name, p in network.named_parameters() if name.endswith("weight")]
        old = x.clone()
        for site in itertools.product(*map(range, lattice)):
            if sum(site) % 2 != parity:
                continue
            u = t = 0.0
            for tap in itertools.product(reach, repeat=len(lattice)):
                there = tuple((n + d) % side for n, d, side in zip(site, tap, lattice, strict=True))
                if sum(there) % 2 == parity:
                    continue
                at = tuple(d + kernel // 2 for d in tap)
                u = u + weight[(0, 0, *at)] * old[there]
                t = t + weight[(1, 0, *at)] * old[there]
            s = network.offset + network.slope * (torch.sqrt(1 + u * u) - 1)
            x[site] = (torch.exp(s) * old[site] + t).detach()
            log_det = log_det + s.detach()
    found, found_log_det = flow.forward(z)
    torch.testing.assert_close(found[0].detach(), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(found_log_det[0].detach(), log_det, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_it_is_odd_to_the_last_bit_and_invertible(lattice: tuple[int, ...], dtype: torch.dtype) -> None:
    flow = perturbed(minimal_flow(lattice).double(), 0.3).to(dtype)
    z = normal(5, *lattice, dtype=dtype)
    with torch.no_grad():
        x, log_det = flow.forward(z)
        again, opposite = flow.inverse(x)
    mirrored, mirrored_log_det = flow.forward(-z)
    assert torch.equal(mirrored, -x)
    assert torch.equal(mirrored_log_det, log_det)
    assert (x.dtype, log_det.dtype) == (dtype, torch.float64)
    assert float((x - z).abs().max()) > 0.1
    assert float(log_det.std()) > 0.01
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(again, z, rtol=0, atol=tolerance)
    torch.testing.assert_close(opposite, -log_det, rtol=0, atol=10 * tolerance)


def test_the_recipe_rebuilds_it_and_the_volume_is_free() -> None:
    flow = minimal_flow((4, 6), kernel=5, layers=3)
    assert flow.recipe == {"type": "minimal", "lattice": [4, 6], "kernel": 5, "layers": 3}
    arguments = {key: value for key, value in flow.recipe.items() if key != "type"}
    again = minimal_flow(**arguments)
    assert recipe_of("minimal", minimal_flow, arguments) == again.recipe
    again.load_state_dict(flow.state_dict())
    assert sum(p.numel() for p in flow.parameters()) == 3 * (2 * 25 + 2)
    larger = flow.on_lattice((8, 12))
    z = normal(2, 4, 6, dtype=torch.float32)
    tiled, log_det = larger.forward(z.repeat(1, 2, 2))
    small, small_log_det = flow.forward(z)
    torch.testing.assert_close(tiled, small.repeat(1, 2, 2))
    torch.testing.assert_close(log_det, 4 * small_log_det)


def test_impossible_flows_are_refused() -> None:
    for lattice, options in (((4, 5), {}), ((4, 4), {"kernel": 4}), ((4, 4), {"layers": -1})):
        with pytest.raises(ValueError, match=r"expected|needs even sides"):
            minimal_flow(lattice, **options)
    for length in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected"):
            kernel_for(length)


def test_the_kernel_grows_with_the_correlation_length() -> None:
    kernels = [kernel_for(xi / 4) for xi in range(1, 80)]
    assert kernels == sorted(kernels)
    for xi, kernel in zip(range(1, 80), kernels, strict=True):
        assert kernel % 2 == 1
        assert kernel - 1 >= xi / 4
        assert kernel == 3 or kernel - 3 < xi / 4


def test_training_brings_it_nearer_to_the_theory() -> None:
    """At L = 6, β = 0.537, λ = 0.5, ξ = 1.5: the variational free energy falls by many units."""
    action, flow = HoppingPhi4((6, 6), beta=0.537, lam=0.5), minimal_flow((6, 6))

    @torch.no_grad()
    def free_energy() -> float:
        x, log_q = flow.sample(4000, Generator().manual_seed(2))
        return float((log_q + action(x)).mean())

    before = free_energy()
    options = {"steps": 200, "batch": 64, "learning_rate": 0.03, "schedule": Schedule("cosine")}
    for _ in train(flow, action, path_gradient, generator=Generator().manual_seed(1), **options):
        pass
    after = free_energy()
    # a coupling with a constant s stays above −9.9
    assert after < -10.05 < before - 10
    slopes = [m.slope.abs().item() for m in flow.modules() if isinstance(m, MinimalNetwork)]
    assert min(slopes) > 0.01
