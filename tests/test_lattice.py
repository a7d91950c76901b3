"""Geometry: sides, momenta against the Laplacian itself, and checkerboards on every kind of lattice."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latflow.lattice import (
    Checkerboard,
    check_even,
    checked_lattice,
    checkerboard,
    lattice_momentum_squared,
    momenta,
    volume,
)

LATTICES = [(6,), (2,), (4, 6), (6, 2), (2, 2), (2, 4, 6), (4, 2, 2)]
even_lattices = st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=3).map(tuple)


@pytest.mark.parametrize("sides", [(1,), [3, 4], (2, 2, 2)])
def test_lattices_become_tuples(sides):
    assert checked_lattice(sides) == tuple(sides)


@pytest.mark.parametrize("sides", [(), (2, 2, 2, 2), (0, 4), (-2,), (4.0,), (True, 2), ("4",)])
def test_what_is_no_lattice_is_refused(sides):
    # under the tests' type checker, which would refuse some of these first
    checked = getattr(checked_lattice, "__wrapped__", checked_lattice)
    with pytest.raises(ValueError, match="one to three positive side lengths, got"):
        checked(sides)


def test_volume_and_momenta():
    assert volume((3, 4, 5)) == 60
    p = momenta((2, 4))
    assert p.shape == (2, 2, 4)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p[0, :, 3], torch.tensor([0, torch.pi], dtype=torch.float64))
    torch.testing.assert_close(p[1, 1], torch.arange(4, dtype=torch.float64) * torch.pi / 2)


@pytest.mark.parametrize("lattice", [(1,), (2,), (5,), (3, 4), (2, 3, 5)])
def test_momentum_squared_holds_the_eigenvalues_of_the_laplacian(lattice):
    def minus_laplacian(field):
        return sum(2 * field - field.roll(1, a) - field.roll(-1, a) for a in range(len(lattice)))

    sites = torch.eye(volume(lattice), dtype=torch.float64).reshape(-1, *lattice)
    matrix = torch.stack([minus_laplacian(site).flatten() for site in sites])
    eigenvalues = lattice_momentum_squared(lattice).flatten().sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(matrix), eigenvalues, atol=1e-12, rtol=0)


@pytest.mark.parametrize("lattice", [*LATTICES, (3,), (3, 4)])
def test_checkerboard_is_the_parity_of_the_coordinates(lattice):
    mask = checkerboard(lattice, 1)
    assert all(mask[site] == (sum(site) % 2 == 1) for site in itertools.product(*map(range, lattice)))
    assert torch.equal(checkerboard(lattice, 0), ~mask)


@given(lattice=even_lattices, parity=st.integers(0, 3), batch=st.integers(1, 3))
def test_split_and_merge_undo_each_other(lattice, parity, batch):
    x = torch.arange(1.0, 1 + batch * volume(lattice)).reshape(batch, *lattice)
    sites, mask = Checkerboard(parity), checkerboard(lattice, parity)
    active, frozen = sites.split(x)
    assert active.shape == frozen.shape == (batch, volume(lattice) // 2)
    assert torch.equal(sites.merge(active, frozen, lattice), x)
    assert torch.equal(sites.frozen_only(frozen, lattice), torch.where(mask, 0.0, x))
    assert torch.equal(active.sort(1).values, x[:, mask].sort(1).values)


@pytest.mark.parametrize("lattice", LATTICES)
def test_active_takes_leading_dimensions_in_the_order_of_split(lattice):
    x = torch.randn(2, 3, *lattice, generator=torch.Generator().manual_seed(0))
    sites = Checkerboard(1)
    features = sites.active(x, len(lattice))
    assert features.shape == (2, 3, volume(lattice) // 2)
    assert torch.equal(features[:, 1], sites.split(x[:, 1])[0])


def test_neighbours_have_the_other_colour():
    mask = checkerboard((4, 6, 2), 0)
    assert all(torch.equal(mask.roll(1, axis), ~mask) for axis in range(3))


@pytest.mark.parametrize(("lattice", "side"), [((3,), 3), ((4, 7), 7), ((5, 4), 5), ((2, 1, 2), 1)])
def test_odd_sides_are_named(lattice, side):
    for refuse in (lambda: check_even(lattice), lambda: Checkerboard(0).split(torch.zeros(1, *lattice))):
        with pytest.raises(ValueError, match=rf"even sides, got lattice .* odd side {side}"):
            refuse()
