"""The geometry of multilevel densities, by counting sites."""

import pytest
import torch

from latflow.densities.multilevel.geometry import SiteClass, beyond, classes, depth, neighbours, offsets
from latflow.lattice import checkerboard, volume

LATTICES = [(4, 4), (8, 8), (16, 16), (32, 32), (4, 8), (16, 8), (8, 32), (12, 12), (24, 8), (4, 24), (12, 8)]


def places(numbers, lattice):
    """The coordinates (y, x) of sites."""
    return torch.stack((numbers // lattice[1], numbers % lattice[1]), -1)


@pytest.mark.parametrize("lattice", LATTICES)
def test_every_even_site_belongs_to_one_class(lattice):
    """The odd sites are integrated out, so that the classes hold every even site once and nothing else."""
    drawn = torch.cat([one.sites for one in classes(lattice)]).sort().values
    even = checkerboard(lattice, 0).flatten().nonzero()[:, 0]
    assert torch.equal(drawn, even)
    assert torch.equal(neighbours(lattice, 1)[0], checkerboard(lattice, 1).flatten().nonzero()[:, 0])


@pytest.mark.parametrize("lattice", LATTICES)
def test_a_window_holds_nothing_but_sites_that_are_known(lattice):
    known = {volume(lattice)}
    for one in classes(lattice):
        assert {int(number) for number in one.window.flatten()} <= known, one.name
        known |= {int(number) for number in one.sites}


@pytest.mark.parametrize("lattice", LATTICES)
def test_sites_belong_to_the_sublattice_that_their_role_says(lattice):
    parities = {"A": (1, 1), "B": (1, 1), "oe": (1, 0), "eo": (0, 1)}
    for one in classes(lattice):
        at, rest = places(one.sites, lattice) // 2**one.level, places(one.sites, lattice) % 2**one.level
        assert not rest.any()
        if not one.role.startswith("top"):
            assert bool((at % 2 == torch.tensor(parities[one.role.rstrip("ab")])).all()), one.name


@pytest.mark.parametrize("lattice", [(16, 16), (32, 32), (16, 32)])
def test_windows_on_large_lattices_are_complete_and_move_with_the_site(lattice):
    """A shift by four spacings maps a class onto itself; its windows go along."""
    for one in classes(lattice):
        if one.role.startswith("top") or min(lattice) < 8 * 2**one.level:
            continue
        assert bool((one.window < volume(lattice)).all()), one.name
        assert len(one.window) == len(offsets(one.role))
        shift = torch.tensor([4 * 2**one.level, 8 * 2**one.level])
        moved = (places(one.sites, lattice) + shift) % torch.tensor(lattice)
        numbers = moved[:, 0] * lattice[1] + moved[:, 1]
        index = {int(site): column for column, site in enumerate(one.sites)}
        columns = [index[int(number)] for number in numbers]
        window = (places(one.window, lattice) + shift) % torch.tensor(lattice)
        assert torch.equal(window[..., 0] * lattice[1] + window[..., 1], one.window[:, columns])


def test_windows_have_sixteen_or_twenty_sites():
    for role in ("Aa", "Ba", "oea", "eoa", "B"):
        assert len(offsets(role)) == 16
    for role in ("Ab", "Bb", "oeb", "eob"):
        assert len(offsets(role)) == 20


@pytest.mark.parametrize("lattice", [(4, 4), (8, 8), (8, 16), (12, 12)])
def test_of_the_last_class_all_that_matters_is_known(lattice):
    """The odd neighbours of a site of the last class have no other site of that class beside them."""
    *earlier, last = classes(lattice)
    assert last.last
    assert not any(one.last for one in earlier)
    known = {int(number) for one in earlier for number in one.sites}
    around = beyond(last.sites, lattice)
    assert {int(number) for number in around.flatten()} <= known


def test_beyond_leaves_out_the_site_itself():
    lattice = (6, 8)
    sites, four = neighbours(lattice, 0)
    around = beyond(sites, lattice)
    number_of_odd = {int(number): column for column, number in enumerate(neighbours(lattice, 1)[0])}
    of_odd = neighbours(lattice, 1)[1]
    for column, site in enumerate(sites):
        for direction in range(4):
            odd = number_of_odd[int(four[direction, column])]
            expected = sorted(set(of_odd[:, odd].tolist()) - {int(site)})
            assert sorted(around[direction, :, column].tolist()) == expected


def test_depth_counts_levels():
    assert [depth(one) for one in LATTICES] == [2, 3, 4, 5, 2, 3, 3, 1, 2, 2, 1]


def test_lattices_of_other_sides_are_refused():
    with pytest.raises(ValueError, match=r"two sides, each at least 2, got \(8,\)"):
        depth((8,))
    with pytest.raises(ValueError, match=r"even sides of at least 4 .* got \(5, 8\)"):
        depth((5, 8))
    with pytest.raises(ValueError, match=r"even sides of at least 4 .* got \(2, 8\)"):
        depth((2, 8))
    with pytest.raises(ValueError, match=r"no more than 36 sites .* got \(28, 28\), which end at \(14, 14\)"):
        depth((28, 28))
    with pytest.raises(ValueError, match=r"no more than 36 sites"):
        depth((6, 6))


@pytest.mark.parametrize("lattice", [(16, 16), (32, 16)])
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
