"""Files of configurations: what is read, what is refused, and that each message says what came."""

import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import torch
import zarr
from scipy.io import netcdf_file

import latflow as lf
from latflow.config.theories import NamedTheory, named_theory
from latflow.ensembles import read_ensemble, side_car_of, stored_arrays, write_ensemble
from latflow.errors import ConfigError, EnsembleError
from latflow.theories.potts import Potts
from latflow.theories.xy import XY

ACTION = lf.actions.Phi4((4, 6), m2=0.5, lam=0.3)
TABLE = {"type": "phi4", "lattice": [4, 6], "m2": 0.5, "lam": 0.3}
FIELDS = np.random.default_rng(1).normal(size=(3, 10, 4, 6))
"""Three chains of ten configurations, chain first as in files."""


def in_hdf5(path, array):
    with h5py.File(path, "w") as file:
        file.create_dataset("group/phi", data=array, chunks=(1, 5, 4, 6), fletcher32=True)
        file.create_dataset("weights", data=np.zeros(7))


def in_netcdf3(path, array):
    with netcdf_file(path, "w") as file:
        for axis, size in zip(("chain", "number", "x", "y"), array.shape, strict=True):
            file.createDimension(axis, size)
        file.createVariable("phi", "d", ("chain", "number", "x", "y"))[:] = array


def in_zarr(path, array):
    zarr.save_array(path, array)


WRITERS = {
    "a.npy": lambda path, array: np.save(path, array),
    "a.npz": lambda path, array: np.savez_compressed(path, phi=array, other=np.arange(3)),
    "a.h5": in_hdf5,
    "a.nc": in_netcdf3,
    "a.zarr": in_zarr,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_read(name, tmp_path):
    WRITERS[name](tmp_path / name, FIELDS)
    found = read_ensemble(tmp_path / name, ACTION)
    assert found.fields.shape == (10, 3, 4, 6)
    np.testing.assert_array_equal(found.fields.numpy(), FIELDS.swapaxes(0, 1))
    guarded = name in ("a.npz", "a.h5")
    assert found.warnings == (
        () if guarded else (f"{name} has no checksum: damage to its numbers would not be noticed.",)
    )


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.nc"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.999])
def test_a_truncated_file_is_refused(name, share, tmp_path):
    WRITERS[name](tmp_path / name, FIELDS)
    contents = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(contents[: int(share * len(contents))])
    with pytest.raises(EnsembleError, match=r"truncated|damaged|expected"):
        read_ensemble(tmp_path / name, ACTION)


def test_what_is_missing_in_zarr_and_hdf5_is_told(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(20, 4, 6), chunks=(5, 4, 6), dtype="f8")
    array[:10] = 1.0
    with pytest.raises(EnsembleError, match="2 of 4 chunks"):
        read_ensemble(tmp_path / "a.zarr", ACTION)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("phi", shape=(20, 4, 6), chunks=(5, 4, 6), dtype="f8")[:5] = 1.0
    with pytest.raises(EnsembleError, match="1 of 4 chunks"):
        read_ensemble(tmp_path / "a.h5", ACTION)


def test_a_header_that_lies_takes_no_memory(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, FIELDS[0])
    contents = path.read_bytes().replace(b"(10, 4, 6)", b"(9999999999, 4, 6)".ljust(10))
    path.write_bytes(contents)
    with pytest.raises(EnsembleError):
        read_ensemble(path, ACTION)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("phi", shape=(10**10, 4, 6), chunks=(10**6, 4, 6), dtype="f8")
    with pytest.raises(EnsembleError, match=r"takes .* GiB"):
        read_ensemble(tmp_path / "a.h5", ACTION)


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([FIELDS[0], None], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", phi=objects)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(FIELDS))
    torch.save(torch.from_numpy(FIELDS), tmp_path / "a.pt")
    for name in ("a.npy", "a.npz", "a.pkl", "a.pt"):
        with pytest.raises(EnsembleError, match=r"never unpickled|expected \.npy|expected an array"):
            read_ensemble(tmp_path / name, ACTION)


def test_a_lime_file_is_told_as_what_it_is(tmp_path):
    (tmp_path / "a.lime").write_bytes(bytes.fromhex("456789ab0001") + bytes(200))
    with pytest.raises(EnsembleError, match=r"LIME.*SU\(3\)"):
        read_ensemble(tmp_path / "a.lime", ACTION)


def test_numbers_that_are_none_are_told_with_their_place(tmp_path):
    array = FIELDS.copy()
    array[2, 7, 1, 5] = np.nan
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(EnsembleError, match=r"got nan in configuration 7 of chain 2 at \(1, 5\)"):
        read_ensemble(tmp_path / "a.npy", ACTION)


def test_another_shape_is_told_with_both(tmp_path):
    np.save(tmp_path / "a.npy", FIELDS[..., :5])
    with pytest.raises(EnsembleError, match=r"\(number, 4, 6\).*found \(3, 10, 4, 5\) float64"):
        read_ensemble(tmp_path / "a.npy", ACTION)
    np.savez(tmp_path / "a.npz", one=FIELDS, two=FIELDS)
    with pytest.raises(EnsembleError, match="--array one"):
        read_ensemble(tmp_path / "a.npz", ACTION)
    assert read_ensemble(tmp_path / "a.npz", ACTION, "two").fields.shape == (10, 3, 4, 6)
    with pytest.raises(EnsembleError, match="expected an array 'three'"):
        read_ensemble(tmp_path / "a.npz", ACTION, "three")


def test_values_are_those_of_the_kind_of_field(tmp_path):
    path, spins = tmp_path / "a.npy", np.sign(FIELDS).astype(np.int8)
    np.save(path, spins)
    assert read_ensemble(path, lf.actions.Ising((4, 6), beta=0.4)).fields.dtype == torch.float64
    np.save(path, (spins + 1) // 2)
    with pytest.raises(EnsembleError, match="expected spins ±1"):
        read_ensemble(path, lf.actions.Ising((4, 6), beta=0.4))
    np.save(path, (spins + 1.0))
    potts = read_ensemble(path, Potts((4, 6), q=3, beta=1.0))
    assert potts.fields.dtype == torch.int64
    np.save(path, FIELDS)
    with pytest.raises(EnsembleError, match="expected whole numbers"):
        read_ensemble(path, Potts((4, 6), q=3, beta=1.0))
    np.save(path, FIELDS + 3)
    angles = read_ensemble(path, XY((4, 6), beta=1.0)).fields
    assert float(angles.abs().max()) <= np.pi
    np.testing.assert_allclose(np.cos(angles.numpy()), np.cos(FIELDS.swapaxes(0, 1) + 3))
    np.save(path, np.exp(1j * FIELDS))
    with pytest.raises(EnsembleError, match=r"numpy\.angle"):
        read_ensemble(path, XY((4, 6), beta=1.0))


def test_what_is_written_is_read_with_its_checksum(tmp_path):
    path = tmp_path / "mine.npz"
    write_ensemble(path, FIELDS.swapaxes(0, 1).astype(np.float32), TABLE, spacing=5, note="mine")
    side_car = side_car_of(path)
    assert side_car.shape == (3, 10, 4, 6)
    assert side_car.spacing == 5
    assert dict(side_car.action) == TABLE
    found = read_ensemble(path, ACTION)
    assert found.fields.dtype == torch.float32
    assert not found.warnings
    assert found.digest == side_car.sha256
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["configurations"], FIELDS.astype(np.float32))


def test_a_wrong_checksum_and_another_shape_are_refused(tmp_path):
    path, other = tmp_path / "mine.npz", FIELDS.swapaxes(0, 1).copy()
    write_ensemble(path, other, TABLE)
    text = (tmp_path / "mine.npz.json").read_text()
    other[0, 0, 0, 0] += 1e-12
    np.savez(path, configurations=other.swapaxes(0, 1))
    with pytest.raises(EnsembleError, match=r"is damaged, or not the file of mine\.npz\.json"):
        read_ensemble(path, ACTION)
    np.savez(path, configurations=FIELDS[:, :7])
    with pytest.raises(
        EnsembleError, match=r"is truncated: mine.npz.json says \(3, 10, 4, 6\).*\(3, 7, 4, 6\)"
    ):
        read_ensemble(path, ACTION)
    (tmp_path / "mine.npz.json").write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(EnsembleError, match="version 1"):
        read_ensemble(path, ACTION)


def test_a_changed_byte_within_a_zip_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", phi=FIELDS)
    contents = bytearray((tmp_path / "a.npz").read_bytes())
    contents[len(contents) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(contents)
    with pytest.raises(EnsembleError, match="CRC"):
        read_ensemble(tmp_path / "a.npz", ACTION)


def test_a_side_car_of_others_may_hold_the_checksum_of_the_file(tmp_path):
    import hashlib

    np.save(tmp_path / "a.npy", FIELDS)
    digest = hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    (tmp_path / "a.json").write_text(json.dumps({"sha256": digest.upper()}))
    assert not read_ensemble(tmp_path / "a.npy", ACTION).warnings
    (tmp_path / "a.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(EnsembleError, match="expected the checksum 0000"):
        read_ensemble(tmp_path / "a.npy", ACTION)
    (tmp_path / "a.json").write_text(json.dumps(["something", "else"]))
    assert read_ensemble(tmp_path / "a.npy", ACTION).side_car is None


def test_a_zip_within_whose_header_lies_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = (
            b"\x93NUMPY\x01\x00v\x00"
            + str({"descr": "<f8", "fortran_order": False, "shape": (10**9, 4, 6)}).encode().ljust(117)
            + b"\n"
        )
        archive.writestr("phi.npy", header + bytes(100))
    with pytest.raises(EnsembleError, match="is truncated: its header says"):
        stored_arrays(tmp_path / "a.npz")


def test_the_lattice_follows_from_the_data():
    hopping = NamedTheory({"type": "hopping_phi4", "beta": 0.6, "lam": 0.5})
    assert hopping.build([(100, 8, 6)]).lattice == (8, 6)
    links = NamedTheory({"type": "u1", "beta": 2.0})
    assert links.build([(100, 2, 8, 6)]).lattice == (8, 6)
    assert links.build([(4, 100, 2, 8, 6), (3,)]).lattice == (8, 6)
    with pytest.raises(ConfigError, match=r"any of \(100, 8, 8\), \(8, 8\): say it"):
        hopping.build([(4, 100, 8, 8)])
    with pytest.raises(ConfigError, match="expected configurations of this theory"):
        hopping.build([(4,)])
    with pytest.raises(ConfigError, match=r"expected configurations of this theory.*\(100, 8, 8\)"):
        links.build([(100, 8, 8)])
    with pytest.raises(ConfigError, match="cannot be normalised"):
        NamedTheory({"type": "hopping_phi4", "beta": 0.6, "lam": -0.5}).build([(100, 8, 6)])
    said = NamedTheory({"type": "hopping_phi4", "beta": 0.6, "lam": 0.5, "lattice": [4, 4]})
    assert said.build([(100, 8, 6)]).lattice == (4, 4)


def test_a_theory_has_many_names(tmp_path):
    assert named_theory("phi4-8x8", ["action.m2=-3.0"]).table["m2"] == -3.0
    assert named_theory("hopping_phi4", ["action.beta=0.6"]).table == {"type": "hopping_phi4", "beta": 0.6}
    (tmp_path / "own.toml").write_text(
        '[action]\ntype = "phi4"\nm2 = 1.0\nlam = 0.0\n[reference]\nlog_z = "1.0(1)"\n'
    )
    found = named_theory(str(tmp_path / "own.toml"))
    assert found.reference == {"log_z": "1.0(1)"}
    assert named_theory(str(tmp_path / "own.toml"), ["action.m2=2.0"]).reference == {}
    (tmp_path / "none.toml").write_text("seed = 1\n")
    for source, expected in {
        "nothing": "expected a preset",
        str(tmp_path / "none.toml"): r"\[action\]",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            named_theory(source)
