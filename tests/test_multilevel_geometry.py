"""The geometry of multilevel densities, by counting sites."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from latflow.densities.multilevel.geometry import (
    SiteClass,
    beyond,
    classes,
    depth,
    images,
    neighbours,
    offsets,
)
from latflow.lattice import checkerboard, lattice_momentum_squared, volume

LATTICES = [(4, 4), (8, 8), (16, 16), (32, 32), (4, 8), (16, 8), (8, 32), (12, 12), (24, 8), (4, 24), (12, 8)]

SPACES = [(4, 4, 4), (8, 8, 8), (16, 16, 16), (4, 4, 8), (8, 4, 16), (4, 16, 16), (12, 4, 4), (8, 16, 8)]


def places(numbers, lattice):
    """The coordinates of sites."""
    return torch.stack(torch.unravel_index(numbers, lattice), -1)


def numbers_of(coordinates, lattice):
    """The numbers of sites on the torus."""
    return torch.from_numpy(np.ravel_multi_index(coordinates.movedim(-1, 0).numpy(), lattice, mode="wrap"))


@pytest.mark.parametrize("lattice", LATTICES + SPACES)
def test_every_even_site_belongs_to_one_class(lattice):
    """The odd sites are integrated out, so that the classes hold every even site once and nothing else."""
    drawn = torch.cat([one.sites for one in classes(lattice)]).sort().values
    even = checkerboard(lattice, 0).flatten().nonzero()[:, 0]
    assert torch.equal(drawn, even)
    assert torch.equal(neighbours(lattice, 1)[0], checkerboard(lattice, 1).flatten().nonzero()[:, 0])


@pytest.mark.parametrize("lattice", LATTICES + SPACES)
def test_a_window_holds_nothing_but_sites_that_are_known(lattice):
    known = {volume(lattice)}
    for one in classes(lattice):
        assert {int(number) for number in one.window.flatten()} <= known, one.name
        known |= {int(number) for number in one.sites}


@pytest.mark.parametrize("lattice", LATTICES + SPACES)
def test_sites_belong_to_the_sublattice_that_their_role_says(lattice):
    parities = {"A": (1, 1), "B": (1, 1)}
    parities |= {
        "".join("eo"[odd] for odd in kind): kind for d in (2, 3) for kind in product((0, 1), repeat=d)
    }
    for one in classes(lattice):
        at, rest = places(one.sites, lattice) // 2**one.level, places(one.sites, lattice) % 2**one.level
        assert not rest.any()
        if not one.role.startswith("top"):
            assert bool((at % 2 == torch.tensor(parities[one.role.rstrip("abcd")])).all()), one.name


@pytest.mark.parametrize("lattice", [*LATTICES, (8, 8, 8), (4, 16, 16), (4, 4, 8)])
def test_images_of_a_window_are_windows_of_images(lattice):
    """A field that is turned about a site has around it what the field has, in another order."""
    field = torch.arange(volume(lattice) + 1)
    field[-1] = -1
    for one in classes(lattice):
        orders = images(one, lattice)
        assert torch.equal(orders[0], torch.arange(len(one.window))), one.name
        if one.role.startswith("top"):
            assert len(orders) == 1
            continue
        assert len({tuple(order.tolist()) for order in orders}) == len(orders), one.name
        site = places(one.sites[-1:], lattice)
        seen = set()
        for axes in permutations(range(len(lattice))):
            if tuple(lattice[axis] for axis in axes) != lattice:
                continue
            for signs in product((1, -1), repeat=len(lattice)):
                away = places(torch.arange(volume(lattice)), lattice) - site
                turned = field.clone()
                turned[:-1] = numbers_of(site + torch.tensor(signs) * away[:, list(axes)], lattice)
                seen.add(tuple(turned[one.window[:, -1]].tolist()))
        ours = {tuple(field[one.window[:, -1][order]].tolist()) for order in orders}
        assert ours <= seen, one.name
        # in space, and on six cells, some windows are less symmetric
        if len(lattice) == 2 and 12 not in lattice:
            assert len(orders) == (8 if lattice[0] == lattice[1] else 4), one.name


@pytest.mark.parametrize("lattice", [(16, 16), (32, 32), (16, 32), (16, 16, 16)])
def test_windows_on_large_lattices_are_complete_and_move_with_the_site(lattice):
    """A shift by four spacings, and at once by twelve, maps a class onto itself; its windows go along."""
    for one in classes(lattice):
        if one.role.startswith("top") or min(lattice) < 8 * 2**one.level:
            continue
        assert bool((one.window < volume(lattice)).all()), one.name
        assert len(one.window) == len(offsets(one.role))
        shift = 2**one.level * torch.tensor([4, 12, 8][: len(lattice)])
        numbers = numbers_of(places(one.sites, lattice) + shift, lattice)
        index = {int(site): column for column, site in enumerate(one.sites)}
        columns = [index[int(number)] for number in numbers]
        window = numbers_of(places(one.window, lattice) + shift, lattice)
        assert torch.equal(window, one.window[:, columns])


def test_windows_on_a_plane_have_twenty_to_thirty_sites():
    known = {one.role: len(offsets(one.role)) for one in classes((16, 16)) if not one.role.startswith("top")}
    assert [known[f"A{part}"] for part in "abcd"] == [24, 20, 28, 24]
    assert [known[f"{kind}{part}"] for kind in ("B", "oe", "eo") for part in "ab"] == [28, 24, 24, 28, 28, 24]


def test_windows_in_space_have_forty_to_seventy_sites():
    known = {
        one.role: len(offsets(one.role)) for one in classes((16, 16, 16)) if not one.role.startswith("top")
    }
    assert [known[f"eoo{part}"] for part in "abcd"] == [48, 54, 60, 66]
    assert [known[f"oeo{part}"] for part in "abcd"] == [40, 46, 52, 58]
    assert [known[f"{kind}a"] for kind in ("ooe", "ooo", "oee", "eoe", "eeo")] == [60, 38, 50, 46, 50]
    assert all(known[f"{kind}b"] == known[f"{kind}a"] + 6 for kind in ("ooe", "ooo", "oee", "eoe", "eeo"))


def test_only_roles_of_levels_have_windows():
    with pytest.raises(ValueError, match=r"such as Aa or eooa, got 'top0'"):
        offsets("top0")


@pytest.mark.parametrize("lattice", [(4, 4), (8, 8), (8, 16), (12, 12), *SPACES])
def test_of_the_last_class_all_that_matters_is_known(lattice):
    """The odd neighbours of a site of the last class have no other site of that class beside them."""
    *earlier, last = classes(lattice)
    assert last.last
    assert not any(one.last for one in earlier)
    known = {int(number) for one in earlier for number in one.sites}
    around = beyond(last.sites, lattice)
    assert {int(number) for number in around.flatten()} <= known


@pytest.mark.parametrize("lattice", [(6, 8), (4, 6, 8)])
def test_beyond_leaves_out_the_site_itself(lattice):
    sites, around_even = neighbours(lattice, 0)
    around = beyond(sites, lattice)
    number_of_odd = {int(number): column for column, number in enumerate(neighbours(lattice, 1)[0])}
    of_odd = neighbours(lattice, 1)[1]
    for column, site in enumerate(sites):
        for direction in range(2 * len(lattice)):
            odd = number_of_odd[int(around_even[direction, column])]
            expected = sorted(set(of_odd[:, odd].tolist()) - {int(site)})
            assert sorted(around[direction, :, column].tolist()) == expected


def test_depth_counts_levels():
    assert [depth(one) for one in LATTICES] == [2, 3, 4, 5, 2, 3, 3, 1, 2, 2, 1]
    assert [depth(one) for one in SPACES] == [2, 3, 4, 2, 2, 2, 1, 3]


def test_lattices_of_other_sides_are_refused():
    with pytest.raises(ValueError, match=r"expected two or three sides .* got \(8,\)"):
        depth((8,))
    with pytest.raises(ValueError, match=r"even sides of at least 4 .* got \(5, 8\)"):
        depth((5, 8))
    with pytest.raises(ValueError, match=r"even sides of at least 4 .* got \(2, 8\)"):
        depth((2, 8))
    with pytest.raises(ValueError, match=r"no more than 36 sites .* got \(28, 28\), which end at \(14, 14\)"):
        depth((28, 28))
    with pytest.raises(ValueError, match=r"no more than 36 sites"):
        depth((6, 6))
    with pytest.raises(ValueError, match=r"even sides of at least 4 .* got \(4, 4, 2\)"):
        depth((4, 4, 2))
    with pytest.raises(ValueError, match=r"got \(12, 12, 12\), which end at \(6, 6, 6\)"):
        depth((12, 12, 12))


@pytest.mark.parametrize("lattice", [(16, 16), (32, 16), (16, 16, 16)])
def test_no_two_sites_of_a_class_are_neighbours_on_its_sublattice(lattice):
    """Two sites of a class are at least 2√2 spacings apart, but for the last, which needs 2√2 too."""
    for one in classes(lattice):
        at = places(one.sites, lattice)
        apart = (at[:, None] - at).abs()
        apart = torch.minimum(apart, torch.tensor(lattice) - apart)
        squared = (apart**2).sum(-1)[~torch.eye(len(at), dtype=torch.bool)]
        assert bool((squared >= 8 * 4**one.level).all()) or min(lattice) <= 4 * 2**one.level, one.name


def test_a_class_has_a_name():
    assert [one.name for one in classes((8, 8))][:4] == ["top0", "Aa2", "oea2", "eoa2"]
    assert isinstance(classes((4, 4))[0], SiteClass)


@pytest.mark.parametrize(("lattice", "most"), [((32, 32), 0.004), ((16, 16, 16), 0.12)])
def test_windows_leave_little_of_the_divergence_of_a_free_field(lattice, most):
    """D_KL(p|q) of the best linear conditionals by windows, at ξ = L/4.

    ½ log of the variance given the window over that given all sites before, summed over all sites.
    """
    square = lattice_momentum_squared(lattice) + (4 / lattice[0]) ** 2
    two_point, found = torch.fft.ifftn(1 / square).real.flatten(), classes(lattice)
    sites = torch.cat([one.sites for one in found])
    covariance = two_point[numbers_of(places(sites, lattice)[:, None] - places(sites, lattice), lattice)]
    given_all = 2 * torch.linalg.cholesky(covariance).diagonal().log()
    position = torch.zeros(volume(lattice), dtype=torch.int64)
    position[sites] = torch.arange(len(sites))
    divergence = 0.0
    for one in found[:-1]:
        here, window = position[one.sites], one.window[:, 0]
        seen = position[window[window < volume(lattice)].unique()]
        cross = covariance[seen, here[0]]
        given_window = covariance[0, 0] - cross @ torch.linalg.solve(covariance[seen][:, seen], cross)
        divergence += float((given_window.log() - given_all[here]).sum()) / 2
    assert most / 2 < divergence < most
