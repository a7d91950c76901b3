"""Configurations with lists: which lists are scans, and which runs they stand for."""

import re
from pathlib import Path

import pytest

from latflow.config import load_tables, scan_of
from latflow.errors import ConfigError

ISING = {
    "name": "spins",
    "action": {"type": "ising", "lattice": [4, 4], "beta": 0.4},
    "beside": {"steps": 10},
}


def scan(**changes):
    """The scan of the Ising model with some keys changed, "action__beta" each."""
    table = {name: dict(value) if isinstance(value, dict) else value for name, value in ISING.items()}
    for key, value in changes.items():
        *sections, name = key.split("__")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return scan_of(table, "here")


def folders(found):
    return [point.folder for point in found.points]


def test_a_configuration_without_lists_of_values_is_no_scan():
    assert scan() is None
    assert scan_of(load_tables("phi4-8x8")) is None  # whose lattice, kernels and widths are lists
    assert scan_of(load_tables("schwinger-8x8")) is None


def test_every_value_of_one_key_goes_with_every_value_of_the_others():
    found = scan(action__lattice=[[4, 4], [8, 4]], action__beta=[0.4, 0.5])
    expected = [
        "lattice=4x4,beta=0.4",
        "lattice=4x4,beta=0.5",
        "lattice=8x4,beta=0.4",
        "lattice=8x4,beta=0.5",
    ]
    assert folders(found) == expected
    table = found.points[2].table
    assert table["action"] == {"type": "ising", "lattice": [8, 4], "beta": 0.4}
    assert table["beside"] == {"steps": 10}
    assert table["name"] == "spins-lattice8x4-beta0.4"


def test_lists_may_go_together():
    betas, lattices = [0.4, 0.4, 0.5], [[4, 4], [8, 8], [8, 8]]
    zipped = {"action__beta": betas, "action__lattice": lattices}
    found = scan(**zipped, seed=[1, 2], scan__zip=["action.beta", "action.lattice"])
    assert [axis.keys for axis in found.axes] == [("action.beta", "action.lattice"), ("seed",)]
    assert len(found.points) == 6
    pairs = [(point.values["action.beta"], point.values["action.lattice"]) for point in found.points]
    assert pairs[::2] == list(zip(betas, lattices, strict=True))
    assert "scan" not in found.points[0].table


def test_one_entry_is_a_scan_of_one_run():
    assert folders(scan(action__beta=[0.4])) == ["beta=0.4"]


def test_nested_keys_unions_and_kernels_are_scanned():
    table = load_tables(
        "phi4-8x8",
        [
            "training.schedule.warmup=[1, 2]",
            "training.schedule.floor=[0.1, 0.2]",
            "beside.hmc.jitter=[0.1, 0.2]",
            'sampling.kernels=[["proposals"], ["proposals", "hmc"]]',
            "sampling.proposals.repeat=[1, 2]",
            "model.hidden=[[4], [4, 4]]",
        ],
    )
    keys = {axis.keys[0]: len(axis.steps) for axis in scan_of(table).axes}
    assert keys == {
        "training.schedule.warmup": 2,
        "training.schedule.floor": 2,
        "beside.hmc.jitter": 2,
        "sampling.kernels": 2,
        "sampling.proposals.repeat": 2,
        "model.hidden": 2,
    }


def test_types_are_scanned():
    table = load_tables("ising-8x8", ['model.type=["hierarchical", "dense_spins"]'])
    assert folders(scan_of(table)) == ["type=hierarchical", "type=dense_spins"]


def test_a_list_of_a_key_that_takes_lists_is_no_scan_and_a_list_of_such_is():
    kappas = load_tables("schwinger-8x8", ["action.kappa=[0.26, 0.27]"])
    assert scan_of(kappas) is None
    several = load_tables("schwinger-8x8", ["action.kappa=[[0.26, 0.27], [0.25, 0.27]]"])
    assert len(scan_of(several).points) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"action__beta": []}, "action.beta: expected one value, or a list of at least one to scan, got []"),
        ({"action__beta": [0.4, "x"]}, "action.beta: value 2 of the list to scan: expected a valid number"),
        ({"action__beta": [0.4, 0.5, 0.40]}, "action.beta: expected each value once, got beta=0.4 twice"),
        ({"beside__steps": [10, 1.5]}, "beside.steps: value 2 of the list to scan: expected a valid integer"),
        ({"name": ["a", "b"]}, "name: expected one for all runs of a scan"),
        ({"action__type": []}, "action.type: expected one value"),
        (
            {"scan__zip": ["action.beta", "seed"]},
            "scan.zip: expected keys with lists of values, got action.beta",
        ),
        ({"action__beta": [0.4, 0.5], "scan__zip": ["action.beta"]}, "scan.zip: expected at least two keys"),
        (
            {"action__beta": [0.4, 0.5], "seed": [1, 2, 3], "scan__zip": ["action.beta", "seed"]},
            "scan.zip: expected lists of one length, got 2 values of action.beta and 3 of seed",
        ),
        ({"action__beta": [0.4, 0.5], "scan__zap": 1}, "scan.zap: unknown key; did you mean zip?"),
        ({"scan__omega": 1.0}, "scan: expected a list of values for some key, got none"),
        ({"seed": list(range(101)), "beside__steps": list(range(6, 107))}, "at most 10000 runs"),
        (
            {"action__beta": [0.4, 0.5], "reference__energy": "1.0(1)"},
            "reference.energy: a number of one theory cannot hold for all of a scan of action.beta",
        ),
    ],
)
def test_lists_that_make_no_scan_are_told_by_their_keys(changes, told):
    with pytest.raises(ConfigError) as error:
        scan(**changes)
    assert str(error.value).startswith("here: ")
    assert told in str(error.value)


def test_a_list_without_any_legal_entry_is_left_to_the_reading_of_one_run():
    assert scan(action__beta=["x", "y"]) is None
    assert scan(action__lattice=[4, "x"]) is None
    assert scan(beside__kernels=3) is None


def test_references_go_together_with_theories():
    numbers = {"action__beta": [0.4, 0.5], "reference__energy": ["1.0(1)", "2.0(1)"]}
    found = scan(**numbers, scan__zip=["action.beta", "reference.energy"])
    assert folders(found) == ["beta=0.4", "beta=0.5"]
    assert [point.table["reference"]["energy"] for point in found.points] == ["1.0(1)", "2.0(1)"]


def test_neighbours_have_random_numbers_of_their_own_and_seeds_alone_are_taken_as_they_are():
    seeds = [point.table["seed"] for point in scan(action__beta=[0.4, 0.5], seed=[1, 2]).points]
    assert len(set(seeds)) == 4
    assert seeds[0] == scan(action__beta=[0.4, 0.6], seed=[1, 3]).points[0].table["seed"]
    assert [point.table["seed"] for point in scan(seed=[1, 7]).points] == [1, 7]


def test_the_run_before_is_one_step_behind_and_seeds_repeat_all_of_it():
    found = scan(seed=[1, 2], action__lattice=[[4, 4], [8, 8]], action__beta=[0.4, 0.5])
    before = {point.folder: point.previous for point in found.points}
    assert before["lattice=4x4,beta=0.4,seed=2"] is None
    assert before["lattice=4x4,beta=0.5,seed=2"] == "lattice=4x4,beta=0.4,seed=2"
    assert before["lattice=8x8,beta=0.4,seed=2"] == "lattice=4x4,beta=0.4,seed=2"
    assert before["lattice=8x8,beta=0.5,seed=2"] == "lattice=8x8,beta=0.4,seed=2"


def test_folders_hold_what_file_systems_hold_and_tell_values_apart():
    names = folders(scan(action__type=["a/own.py:X", "b/own.py:X", "é" * 300]))
    assert len(set(names)) == 3
    assert all("/" not in name and len(name.encode()) < 255 for name in names)
    alike = folders(scan(beside__steps=[10, 20], sampling__steps=[30, 40]))
    assert alike[0] == "beside.steps=10,sampling.steps=30"


def test_the_page_on_scans_shows_the_example():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "howto-scan.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n# ising-binder.toml\n(.*?)```", page, re.DOTALL)
    example = root / "examples" / "ising-binder.toml"
    assert shown == example.read_text(encoding="utf-8")
    assert len(scan_of(load_tables(example)).points) == 15
