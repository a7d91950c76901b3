"""Periodic convolutions against a sum with modular indices; networks and their symmetries, all with perturbed
weights."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latflow.densities.flows.convolution import periodic_convolution, pointwise, selected_convolution
from latflow.densities.flows.layers import PeriodicConvolution
from latflow.densities.flows.networks import ACTIVATIONS, ConvNet, Parities, Z2ConvNet
from latflow.lattice import Checkerboard


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def perturbed(network: nn.Module, size: float = 0.3) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in network.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return network


def active_sites(dimensions: int) -> Callable[[Tensor], Tensor]:
    return lambda h: Checkerboard(1).active(h, dimensions)


def naive_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    lattice, kernel = x.shape[2:], weight.shape[2:]
    y = np.zeros((len(x), len(weight), *lattice))
    for n in itertools.product(*map(range, lattice)):
        y[:, :, *n] = bias
        for t in itertools.product(*map(range, kernel)):
            m = [
                (a + dilation * (b - k // 2)) % side
                for a, b, k, side in zip(n, t, kernel, lattice, strict=True)
            ]
            y[:, :, *n] += x[:, :, *m] @ weight[:, :, *t].T
    return y


# lattice, kernel, dilation; each with widening and narrowing channels, which take different ways
SHAPES = [
    ((7,), (3,), 1),
    ((4,), (5,), 3),
    ((1,), (3,), 2),
    ((4, 4), (3, 3), 1),
    ((4, 6), (3, 5), 1),
    ((5, 3), (3, 3), 2),
    ((5, 3), (1, 3), 2),
    ((2, 1), (5, 3), 2),
    ((6, 4), (1, 1), 1),
    ((2, 3, 4), (3, 3, 3), 1),
    ((2, 3, 4), (3, 1, 5), 3),
    ((1, 2, 5), (1, 1, 1), 1),
]


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 3), (3, 2), (2, 2)])
@pytest.mark.parametrize(("lattice", "kernel", "dilation"), SHAPES)
def test_convolution_is_the_sum_over_wrapped_neighbours(lattice, kernel, dilation, channels_in, channels_out):
    x = draw(2, channels_in, *lattice)
    weight, bias = draw(channels_out, channels_in, *kernel, seed=1), draw(channels_out, seed=2)
    y = periodic_convolution(x, weight, bias, dilation)
    np.testing.assert_allclose(
        y, naive_convolution(x.numpy(), weight.numpy(), bias.numpy(), dilation), atol=1e-12
    )


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 2), (2, 1)])
@pytest.mark.parametrize(
    ("lattice", "kernel", "dilation"),
    [((3,), (5,), 2), ((2, 3), (3, 3), 1), ((3, 2), (1, 1), 1), ((1, 2, 2), (3, 1, 3), 1)],
)
def test_gradients_of_first_and_second_order(lattice, kernel, dilation, channels_in, channels_out):
    arguments = (
        draw(2, channels_in, *lattice).requires_grad_(),
        draw(channels_out, channels_in, *kernel, seed=1).requires_grad_(),
        draw(channels_out, seed=2).requires_grad_(),
    )

    def convolution(x, weight, bias):
        return periodic_convolution(x, weight, bias, dilation)

    assert torch.autograd.gradcheck(convolution, arguments)
    assert torch.autograd.gradgradcheck(convolution, arguments)


def test_gradient_with_frozen_weights_and_without_bias():
    x, weight = draw(2, 3, 4, 4).requires_grad_(), draw(2, 3, 3, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: periodic_convolution(x, weight), (x,))


@pytest.mark.parametrize("shapes", [((2, 2, 4, 4), (2, 2, 3, 3)), ((2, 1, 4, 4), (2, 1, 3, 3))])
def test_gradients_of_single_configurations_by_vmap(shapes):
    x, weight = draw(*shapes[0]), draw(*shapes[1], seed=1)

    def loss(weight, configuration):
        return periodic_convolution(configuration[None], weight).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
    one_by_one = torch.stack([torch.func.grad(loss)(weight, configuration) for configuration in x])
    torch.testing.assert_close(together, one_by_one)


# the first and the third widen so much that neighbours are gathered, the others make the whole convolution
@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 32), (2, 3), (3, 50), (4, 2)])
@pytest.mark.parametrize(
    ("lattice", "kernel", "dilation"),
    [
        ((6,), (5,), 2),
        ((4, 2), (3, 5), 1),
        ((4, 6), (5, 5), 1),
        ((6, 2), (3, 3), 3),
        ((2, 4, 2), (3, 1, 5), 1),
    ],
)
def test_convolution_at_the_active_sites(lattice, kernel, dilation, channels_in, channels_out):
    select = active_sites(len(lattice))
    arguments = (
        draw(3, channels_in, *lattice).requires_grad_(),
        draw(channels_out, channels_in, *kernel, seed=1).requires_grad_(),
        draw(channels_out, seed=2).requires_grad_(),
    )
    x, weight, bias = arguments
    whole = select(periodic_convolution(x, weight, bias, dilation))
    chosen = selected_convolution(x, weight, select, bias, dilation)
    torch.testing.assert_close(chosen, whole)
    output = draw(*whole.shape, seed=3)
    for ours, theirs in zip(
        torch.autograd.grad(chosen, arguments, output),
        torch.autograd.grad(whole, arguments, output),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_second_order_gradients_at_the_active_sites():
    x, weight = draw(2, 1, 4, 2).requires_grad_(), draw(8, 1, 3, 3, seed=1).requires_grad_()

    def convolution(x, weight):
        return selected_convolution(x, weight, active_sites(2))

    assert torch.autograd.gradgradcheck(convolution, (x, weight))


def test_tables_made_in_inference_mode_serve_gradients():
    x, weight = draw(2, 1, 10, 14), draw(32, 1, 5, 5, seed=1).requires_grad_()
    with torch.inference_mode():
        selected_convolution(x, weight, active_sites(2))
    selected_convolution(x, weight, active_sites(2)).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 2, 3, 3)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 2, 3)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 3)),
        (torch.zeros(2, 3, 2, 2, 2, 2), torch.zeros(1, 3, 3, 3, 3, 3)),
    ],
)
def test_convolution_refuses_shapes_that_do_not_fit(x, weight):
    with pytest.raises(ValueError, match="expected"):
        periodic_convolution(x, weight)
    with pytest.raises(ValueError, match="expected"):
        selected_convolution(x, weight, active_sites(2))


def test_pointwise_takes_sites_in_any_number_of_dimensions():
    x, weight, bias = draw(3, 4, 2, 5), draw(2, 4, seed=1), draw(2, seed=2)
    expected = torch.einsum("oc,bcij->boij", weight, x) + bias[:, None, None]
    torch.testing.assert_close(pointwise(x, weight, bias), expected)
    torch.testing.assert_close(pointwise(x.flatten(2), weight, bias), expected.flatten(2))


def plain(kernel=3, dilation=1, dimensions=2, **options) -> ConvNet:
    return ConvNet(
        (1, 6, 4, 2),
        kernel,
        dilation=dilation,
        dimensions=dimensions,
        generator=torch.Generator().manual_seed(1),
        **options,
    )


def z2(kernel=3, dilation=1, dimensions=2, **options) -> Z2ConvNet:
    return Z2ConvNet(
        (1, 6, 4),
        2,
        3,
        kernel,
        dilation=dilation,
        dimensions=dimensions,
        generator=torch.Generator().manual_seed(1),
        **options,
    )


def made_odd(dimensions: int) -> ConvNet:
    generator = torch.Generator().manual_seed(1)
    return ConvNet((1, 4, 5), (3, 1), dimensions=dimensions, generator=generator)


NETWORKS = {
    "plain": lambda dimensions: plain(dimensions=dimensions),
    "plain, sites last": lambda dimensions: plain(
        (3, 1, 1), dimensions=dimensions, activation="gelu", final="tanh"
    ),
    "plain, sites first": lambda dimensions: plain((1, 5, 1), (1, 2, 1), dimensions, bias=False),
    "plain, sites only": lambda dimensions: plain(1, dimensions=dimensions),
    "plain, point group": lambda dimensions: plain((5, 3, 1), dimensions=dimensions, point_group=True),
    "z2": lambda dimensions: z2(dimensions=dimensions, activation="silu"),
    "z2, sites last": lambda dimensions: z2((3, 1), dimensions=dimensions),
    "z2, sites only": lambda dimensions: z2(1, dimensions=dimensions),
    "z2, point group": lambda dimensions: z2((3, 1), (2, 1), dimensions, point_group=True),
    "z2, made so": lambda dimensions: Parities(made_odd(dimensions), 2),
}
LATTICES = [(6,), (4, 6), (2, 4, 6)]


@pytest.fixture(params=NETWORKS)
def build(request) -> Callable[[int], nn.Module]:
    return lambda dimensions: perturbed(NETWORKS[request.param](dimensions).double())


@pytest.mark.parametrize("lattice", LATTICES)
def test_translations_commute_with_the_network(build, lattice):
    network, axes = build(len(lattice)), tuple(range(2, 2 + len(lattice)))
    x, shifts = draw(3, 1, *lattice), (1, 2, 3)[: len(lattice)]
    y = network(x)
    assert y.std() > 0.01
    torch.testing.assert_close(network(x.roll(shifts, axes)), y.roll(shifts, axes))


@pytest.mark.parametrize("lattice", LATTICES)
def test_selecting_first_equals_selecting_last(build, lattice):
    network, select, x = build(len(lattice)), active_sites(len(lattice)), draw(3, 1, *lattice)
    torch.testing.assert_close(network(x, select), select(network(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 5])
def test_dtype_and_batch_are_kept_and_configurations_do_not_mix(build, dtype, batch):
    network, x = build(2).to(dtype), draw(batch, 1, 4, 6, dtype=dtype)
    y = network(x)
    assert y.dtype == dtype
    assert y.shape[0] == batch
    assert y.shape[2:] == x.shape[2:]
    torch.testing.assert_close(y[-1:], network(x[-1:]))


def test_gradients_reach_every_parameter(build):
    network = build(2)
    network(draw(3, 1, 4, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_second_derivatives_of_networks(build):
    network, x = build(1), draw(1, 1, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    step = 1e-6 * draw(1, 1, 4, seed=3)
    values = []
    for shifted in (x.detach() + step, x.detach() - step):
        shifted.requires_grad_()
        (g,) = torch.autograd.grad(network(shifted).square().sum(), shifted)
        values.append(g.square().sum())
    torch.testing.assert_close((x.grad * step).sum(), (values[0] - values[1]) / 2, rtol=1e-5, atol=1e-12)


def test_autocast_runs_in_low_precision_forward_and_backward(build):
    network, x = build(2).float(), draw(4, 1, 4, 6, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x)
        hidden = next(m for m in network.modules() if isinstance(m, PeriodicConvolution))(x)
    assert hidden.dtype == torch.bfloat16
    scale = network(x).std().item()
    torch.testing.assert_close(y.float(), network(x), rtol=0.1, atol=0.1 * scale)
    y.float().sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


def test_autocast_leaves_double_precision_alone():
    x, weight = draw(2, 2, 4, 4), draw(2, 2, 3, 3, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert periodic_convolution(x, weight).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("z2")])
@pytest.mark.parametrize("lattice", [(6,), (4, 6), (5, 3), (2, 4, 6)])
def test_z2_symmetry_is_exact(name, lattice, dtype):
    network = perturbed(NETWORKS[name](len(lattice)).to(dtype))
    x = draw(9, 1, *lattice, dtype=dtype)
    selections = [None] if any(side % 2 for side in lattice) else [None, active_sites(len(lattice))]
    for select in selections:
        even, odd = network(x, select).split((2, 3), 1)
        mirrored_even, mirrored_odd = network(-x, select).split((2, 3), 1)
        assert len(even) == 9
        assert even.std() > 0.001
        assert odd.std() > 0.001
        assert torch.equal(mirrored_even, even)
        assert torch.equal(mirrored_odd, -odd)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_z2_symmetry_is_exact_for_every_activation(activation):
    network = perturbed(z2((3, 1), activation=activation))
    even, odd = network(x := draw(5, 1, 4, 4, dtype=torch.float32)).split((2, 3), 1)
    mirrored_even, mirrored_odd = network(-x).split((2, 3), 1)
    assert torch.equal(mirrored_even, even)
    assert torch.equal(mirrored_odd, -odd)


def test_z2_network_learns_functions_that_are_no_powers():
    """At a single site: the even |h| and the odd sin(3h), to a few per cent of their size."""
    generator = torch.Generator().manual_seed(0)
    network = Z2ConvNet((1, 32, 32), kernel=1, activation="silu", generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    h = torch.linspace(-2, 2, 128).reshape(128, 1, 1, 1)
    for _ in range(400):
        optimizer.zero_grad()
        even, odd = network(h).split(1, 1)
        loss = (even - h.abs()).square().mean() + (odd - torch.sin(3 * h)).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("point group")])
@pytest.mark.parametrize("lattice", [(7,), (4, 4), (3, 3, 3)])
def test_point_group_commutes_with_the_network(name, lattice):
    network = perturbed(NETWORKS[name](len(lattice)).double())
    x = draw(2, 1, *lattice)
    y = network(x)
    for axis in range(2, 2 + len(lattice)):
        torch.testing.assert_close(network(x.flip(axis)), y.flip(axis))
        torch.testing.assert_close(network(x.transpose(2, axis)), y.transpose(2, axis))


def test_point_group_ties_weights():
    def tied(kernel, dimensions):
        generator = torch.Generator().manual_seed(0)
        layer = PeriodicConvolution(
            2, 3, kernel, dimensions=dimensions, point_group=True, generator=generator
        )
        return layer.weight.shape

    assert tied(3, 2) == (3, 2, 3)
    assert tied(5, 2) == (3, 2, 6)
    assert tied(3, 3) == (3, 2, 4)
    assert tied(1, 2) == (3, 2, 1)


def test_small_final_scale_starts_near_zero():
    x = draw(3, 1, 4, 4, dtype=torch.float32)
    for build in (plain, z2):
        assert not build(final_scale=0.0)(x).any()
        small, full = build(final_scale=1e-3)(x), build()(x)
        torch.testing.assert_close(small, 1e-3 * full)


def test_initial_weights_come_from_the_generator_alone():
    torch.manual_seed(0)
    first = plain().state_dict()
    torch.manual_seed(1)
    second = plain().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len({value.sum().item() for value in first.values()}) == len(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 4}, "odd kernel side, got 4"),
        ({"kernel": (3, 3)}, "one kernel or 3"),
        ({"dilation": (1, 2)}, "one dilation or 3"),
        ({"dilation": 0}, "positive channels and dilation"),
        ({"dimensions": 4}, "1, 2 or 3 dimensions"),
        ({"activation": "sine"}, "one of elu, gelu, leaky_relu, relu, silu, softplus, tanh, got 'sine'"),
        ({"final": "exp"}, "one of none, tanh, got 'exp'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plain(**options)


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        ConvNet((1,), generator=torch.Generator())
    with pytest.raises(ValueError, match="positive channels"):
        ConvNet((1, 0, 2), generator=torch.Generator())
    with pytest.raises(ValueError, match="equal `in`"):
        plain()(torch.zeros(2, 3, 4, 4))
