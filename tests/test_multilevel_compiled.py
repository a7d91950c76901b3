"""Compiled draws of multilevel densities: the same densities, in blocks of columns."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

import latflow.compiled as compiled_module
from cases import perturbed
from latflow.densities import load_density, save_density
from latflow.densities.multilevel import multilevel
from latflow.samplers import can_compile
from latflow.theories import XY, HoppingPhi4, Ising, Potts
from latflow.theories.line import ResolutionError

PHI4 = HoppingPhi4((8, 4), beta=0.576, lam=0.5)
ANGLES = XY((8, 4), beta=0.9)
GLASS = Ising((4, 4), beta=0.4, couplings=np.ones((2, 4, 4)).tolist())
needs_compiler = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")


def density(action, *, compiled=True, **options):
    size = 0.03 if action is PHI4 else 0.1
    return perturbed(multilevel(action.lattice, action=action, width=6, compiled=compiled, **options), size)


def seeded(seed=0):
    return Generator().manual_seed(seed)


@needs_compiler
@pytest.mark.parametrize("action", [PHI4, ANGLES], ids=lambda one: one.words.name)
def test_compiled_draws_are_draws_of_the_density(action, tmp_path):
    """As many as fill blocks and leave some over, and one: log q, and the fields beside those without."""
    q, plain, n = density(action), density(action, compiled=False), 20_000
    plain.load_state_dict(q.state_dict())
    x, log_q = q.sample(n, seeded(1))
    torch.testing.assert_close(log_q, plain.log_prob(x).detach(), rtol=0, atol=2e-4)
    beside, _ = plain.sample(n, seeded(2))
    for one, other in zip(x.flatten(1).T.numpy(), beside.flatten(1).T.numpy(), strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-4
    products = [action(one) for one in (x, beside)]
    error = (sum(float(one.var()) for one in products) / n) ** 0.5
    assert abs(float(products[0].mean() - products[1].mean())) < 5 * error
    alone, log_q = q.sample(1, seeded(3))
    torch.testing.assert_close(log_q, plain.log_prob(alone).detach(), rtol=0, atol=2e-4)
    # one program for what networks say, and one for what is exact
    assert len(q.conditional.programs._made) == 2
    save_density(q, tmp_path / "density.pt")
    again, _ = load_density(tmp_path / "density.pt", action=action).sample(1, seeded(3))
    assert torch.equal(again, alone)
    assert q.on_lattice((8, 8)).compiled


@needs_compiler
def test_compiled_draws_say_where_nodes_are_too_few():
    """And end for numbers that are none, with which no proposal would ever be kept."""
    q = density(PHI4, nodes=24)
    for bias in (3.0, math.nan):
        with torch.no_grad():
            for network in q.networks.values():
                network.bias.fill_(bias)
        with pytest.raises(ResolutionError, match="24 nodes on"):
            q.sample(4, seeded())


def test_without_a_compiler_they_are_drawn_in_the_same_blocks(monkeypatch):
    """What the blocks are filled up with changes nothing: the numbers are those of one call for all."""
    monkeypatch.setattr(compiled_module, "can_compile", lambda: False)
    compiled_module._say.cache_clear()
    q, plain = density(PHI4), density(PHI4, compiled=False)
    with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler was found, so nothing is compiled"):
        x, log_q = q.sample(1500, seeded(1))
    beside, log_p = plain.sample(1500, seeded(1))
    torch.testing.assert_close(x, beside)
    torch.testing.assert_close(log_q, log_p, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("action", "options"),
    [
        (Ising((4, 4), beta=0.4), {}),
        (Potts((4, 4), q=3, beta=0.4), {}),
        (Ising((4, 4), beta=0.4), {"conditional": "tables"}),
        (GLASS, {}),
        (PHI4, {"ranges": {"beta": (0.5, 0.6)}}),
    ],
)
def test_what_has_no_grid_to_compile_is_refused(action, options):
    with pytest.raises(ValueError, match=r"expected .*compiled"):
        multilevel(action.lattice, action=action, compiled=True, **options)
