"""Densities from recipes: by name, from files of one's own, with networks and bijections of one's own."""

import textwrap

import pytest
import torch
from torch import Generator, Tensor

from cases import draw, perturbed
from latflow import densities
from latflow.densities import (
    Density,
    FixedDrawDensity,
    WeightedSampler,
    build_density,
    draws,
    load_density,
    log_weight,
    save_density,
)
from latflow.densities.flows import Coupling, Flow, Scale, affine_flow, gauge_flow, minimal_flow, spline_flow
from latflow.densities.flows.networks import Network
from latflow.errors import CheckpointError, ConfigError
from latflow.estimators import path_gradient, reinforce
from latflow.fields import LINKS, SCALAR, SPINS
from latflow.seeds import derived_seed, generator_for, seeded
from latflow.theories import Phi4, U1Gauge
from latflow.training import train
from latflow.types import Draws

OWN = '''
import torch
from torch import nn
from latflow.densities.flows import Bijection, Normal


class Net(nn.Module):
    """Means over a cross of neighbours, then a dense layer at each site."""

    def __init__(self, inputs, outputs, dimensions, generator, width=4):
        super().__init__()
        self.dimensions, draw = dimensions, lambda *shape: 0.3 * torch.randn(shape, generator=generator)
        self.first, self.bias = nn.Parameter(draw(width, 2 * inputs)), nn.Parameter(draw(width, 1))
        self.last = nn.Parameter(0.1 * draw(outputs, width))

    def forward(self, x, select=None):
        axes = range(2, 2 + self.dimensions)
        around = sum(x.roll(step, axis) for axis in axes for step in (1, -1)) / (2 * self.dimensions)
        seen = torch.cat((x, around), 1)
        seen = select(seen) if select else seen.flatten(2)
        return self.last @ torch.tanh(self.first @ seen + self.bias)


class Wide(nn.Module):
    """More outputs than were asked for."""

    def __init__(self, outputs):
        super().__init__()

    def forward(self, x, select=None):
        return x


class Stretch(Bijection):
    """y = exp(a) x."""

    symmetries = ("z2",)

    def __init__(self, start=0.0, odd=True):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(start)))
        if not odd:
            self.symmetries = ()

    def forward(self, x):
        return torch.exp(self.a) * x, (self.a * x[0].numel()).expand(len(x))

    def inverse(self, y):
        return torch.exp(-self.a) * y, (-self.a * y[0].numel()).expand(len(y))


class Broad(nn.Module):
    """Normal numbers of some width: a density of one's own."""

    def __init__(self, lattice, width=1.5):
        super().__init__()
        self.log_width = nn.Parameter(torch.tensor(float(width)).log())
        self.normal = Normal(lattice)

    def sample(self, n, generator):
        x = torch.exp(self.log_width) * self.normal.sample(n, generator)
        return x, self.log_prob(x)

    def log_prob(self, x):
        return self.normal.log_prob(x * torch.exp(-self.log_width)) - self.log_width * x[0].numel()


class Nothing:
    pass


def weighted(lattice, action, kind):
    from latflow.types import Draws

    class Weighted:
        """Normal numbers, weighted, without a density to evaluate."""

        def draws(self, n, action, generator):
            x = torch.randn(n, *lattice, generator=generator)
            return Draws(x, -action(x))

    assert action.kind == kind
    return Weighted()
'''


@pytest.fixture
def own(tmp_path) -> str:
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(OWN))
    return str(path)


def log_jacobian(function, x: Tensor) -> Tensor:
    matrix = torch.autograd.functional.jacobian(lambda z: function(z)[0].flatten(), x)
    return torch.linalg.slogdet(matrix.reshape(x.numel(), x.numel())).logabsdet


# --- networks and bijections of one's own ---------------------------------------------------------


@pytest.mark.parametrize("z2", [False, True])
@pytest.mark.parametrize("name", ["affine", "spline"])
@pytest.mark.parametrize("lattice", [(6,), (4, 2), (2, 2, 2)])
def test_parts_of_ones_own_stand_in_a_flow(own, tmp_path, name, z2, lattice):
    recipe = {
        "type": name,
        "layers": 2,
        "z2": z2,
        "network": {"type": f"{own}:Net", "width": 3},
        "extra": [{"type": f"{own}:Stretch", "start": 0.2}],
    }
    flow = perturbed(build_density(recipe, Generator().manual_seed(2), lattice=lattice).double())
    x = draw(3, *lattice)
    y, log_det = flow.forward(x)
    again, opposite = flow.inverse(y)
    assert (y - x).abs().max() > 0.05
    torch.testing.assert_close(again, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(opposite, -log_det, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det[:1].detach()[0], log_jacobian(flow.forward, x[:1]), rtol=0, atol=1e-9)
    assert flow.symmetries == (("z2",) if z2 else ())
    mirrored, mirrored_log_det = flow.forward(-x)
    assert bool(torch.allclose(mirrored, -y, rtol=0, atol=1e-12)) == z2
    assert bool(torch.allclose(mirrored_log_det, log_det, rtol=0, atol=1e-12)) == z2
    names = {type(module).__name__ for module in flow.modules()}
    assert {"Net", "Stretch"} <= names
    assert "ConvNet" not in names
    save_density(flow, tmp_path / "flow")
    loaded = load_density(tmp_path / "flow")
    generators = Generator().manual_seed(3), Generator().manual_seed(3)
    for one, other in zip(flow.sample(4, generators[0]), loaded.sample(4, generators[1]), strict=True):
        assert torch.equal(one, other)
    x, log_q = flow.sample_fixed(3, Generator().manual_seed(1))
    torch.testing.assert_close(log_q, flow.log_prob(x))


def test_a_network_of_ones_own_is_trained(own):
    flow = affine_flow((4, 4), layers=2, z2=True, network={"type": f"{own}:Net"})
    action = Phi4((4, 4), m2=-1.0, lam=1.0)
    records = list(
        train(flow, action, reinforce, steps=60, batch=64, learning_rate=0.02, generator=Generator())
    )
    assert records[-1].f_q < records[0].f_q - 1
    network = next(module for module in flow.modules() if type(module).__name__ == "Net")
    assert isinstance(network, Network)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_symmetry_is_claimed_where_every_part_has_it(own):
    odd = {"type": f"{own}:Stretch"}
    assert affine_flow((4, 4), layers=1, z2=True, extra=[odd, odd]).symmetries == ("z2",)
    assert affine_flow((4, 4), layers=1, z2=True, extra=[odd, odd | {"odd": False}]).symmetries == ()
    assert affine_flow((4, 4), layers=1).symmetries == ()
    assert affine_flow((4, 4), layers=1, z2=True).on_lattice((2, 2)).symmetries == ("z2",)
    assert minimal_flow((4, 4)).symmetries == ("z2",)
    assert gauge_flow((4, 4), layers=1).symmetries == ("gauge",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": {"width": 3}}, "network of one's own, its type as my_file.py:Name .* got None"),
        ({"network": {"type": "convolution"}}, "got 'convolution'"),
        ({"network": {"type": "OWN:Missing"}}, "Missing"),
        ({"network": {"type": "OWN:Net", "depth": 3}}, "arguments out of width, got depth"),
        ({"network": {"type": "OWN:Net", "outputs": 3}}, "arguments out of width, got outputs"),
        ({"network": {"type": "OWN:Nothing"}}, "Nothing to make a Module, got Nothing"),
        ({"extra": [{"type": "OWN:Net", "inputs": 1, "outputs": 1}]}, "to make a Bijection, got Net"),
        ({"extra": [{"type": "OWN:Stretch", "by": 1}]}, "arguments out of start, odd, got by"),
        ({"network": {"type": "no_such_module:Net"}}, "no_such_module"),
    ],
)
def test_wrong_parts_are_refused(own, options, message):
    def filled(value):
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        return value.replace("OWN", own) if isinstance(value, str) else value

    with pytest.raises((ValueError, ConfigError), match=message):
        affine_flow((4, 4), layers=1, **filled(options))


def test_a_network_of_another_size_is_refused(own):
    with pytest.raises(ValueError, match=r"Wide to give .* = \(1, 23, 8\) for one field, got \(1, 1, 4, 4\)"):
        spline_flow((4, 4), layers=1, z2=False, network={"type": f"{own}:Wide"})


# --- densities by name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["affine", "spline", "minimal", "gauge", "dense", "convolutional", "hierarchical"]
)
def test_every_registered_density_is_built_saved_and_loaded(name, tmp_path):
    density = build_density({"type": name}, lattice=(4, 4))
    assert isinstance(density, Density)
    assert density.lattice == (4, 4)
    assert density.kind == {"gauge": LINKS, "affine": SCALAR, "spline": SCALAR, "minimal": SCALAR}.get(
        name, SPINS
    )
    assert density.recipe["type"] == name
    save_density(density, tmp_path / "density")
    again = load_density(tmp_path / "density")
    generators = Generator().manual_seed(3), Generator().manual_seed(3)
    for one, other in zip(density.sample(2, generators[0]), again.sample(2, generators[1]), strict=True):
        assert torch.equal(one, other)


def test_a_density_of_ones_own_has_a_file(own, tmp_path):
    density = build_density({"type": f"{own}:Broad", "width": 2.0}, lattice=(4, 6), kind=SCALAR)
    assert density.recipe == {"type": f"{own}:Broad", "lattice": [4, 6], "width": 2.0}
    save_density(density, tmp_path / "density")
    again = load_density(tmp_path / "density")
    x, log_q = density.sample(3, Generator().manual_seed(1))
    assert torch.equal(again.log_prob(x), log_q)
    action = Phi4((4, 6), m2=0.5, lam=0.0)
    list(train(density, action, path_gradient, steps=3, batch=16, generator=Generator()))
    assert density.log_width.item() != again.log_width.item()


def test_a_weighted_sampler_needs_no_density(own):
    action = Phi4((4, 4), m2=0.5, lam=0.0)
    sampler = build_density({"type": f"{own}:weighted"}, lattice=(4, 4), kind=SCALAR, action=action)
    assert isinstance(sampler, WeightedSampler)
    assert not isinstance(sampler, Density)
    x, log_w = draws(sampler, 5, action, Generator().manual_seed(1))
    torch.testing.assert_close(log_w, -action(x))


def test_what_makes_no_density_is_refused(own):
    with pytest.raises(ValueError, match=r"with sample and log_prob, .* got Nothing"):
        build_density({"type": f"{own}:Nothing"})
    with pytest.raises(ValueError, match="arguments out of lattice, width, got kind"):
        build_density({"type": f"{own}:Broad", "kind": 3}, lattice=(4, 4))


def test_a_file_whose_code_is_gone_says_so(own, tmp_path):
    save_density(build_density({"type": f"{own}:Broad"}, lattice=(4, 4)), tmp_path / "density")
    tree = densities.files.load_tree(tmp_path / "density")
    elsewhere = tree["model"] | {"type": f"{own}x.py:Broad"}
    with pytest.raises(CheckpointError, match="cannot be built here: expected a Python file at"):
        densities.density_in(tree | {"model": elsewhere}, tmp_path / "density")


# --- weights --------------------------------------------------------------------------------------


def test_draws_are_those_of_the_density_with_their_weights():
    flow, action = affine_flow((4, 4), layers=2), Phi4((4, 4), m2=0.5, lam=0.3)
    found = draws(flow, 6, action, Generator().manual_seed(1))
    x, log_q = flow.sample(6, Generator().manual_seed(1))
    assert isinstance(found, Draws)
    assert torch.equal(found.x, x)
    assert not found.x.requires_grad
    assert not found.log_weight.requires_grad
    torch.testing.assert_close(found.log_weight, (-action(x) - log_q).detach())


def test_autocast_never_lowers_the_action_of_a_weight():
    action, x = U1Gauge((4, 4), beta=2.0), draw(3, 2, 4, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = log_weight(action, x, torch.zeros(3))
    assert torch.equal(lowered, log_weight(action, x, torch.zeros(3)))


def test_flows_draw_and_differentiate_at_once():
    flow = affine_flow((4, 4), layers=2)
    assert isinstance(flow, FixedDrawDensity)
    assert isinstance(flow.bijection.bijections[0], Coupling)
    assert Flow(flow.prior, Scale()).symmetries == ()


# --- seeds ----------------------------------------------------------------------------------------


def test_seeds_belong_to_their_purpose():
    assert derived_seed(1, "training") == derived_seed(1, "training") < 2**64
    assert len({derived_seed(seed, purpose) for seed in (1, 2) for purpose in ("training", "sampling")}) == 4
    generator = generator_for(1, "training")
    assert generator.initial_seed() == derived_seed(1, "training")
    assert seeded(generator) is generator
    assert seeded(None).initial_seed() == 0
