"""What files for others say, and what is believed of files of others."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from latflow.ensembles.files import Stored
from latflow.ensembles.reading import _check_side_car, _unchecked, in_steps
from latflow.ensembles.sidecar import SideCar, array_digest
from latflow.errors import EnsembleError
from latflow.exports import obs
from latflow.runs import Run


def test_a_digest_is_that_of_the_numbers():
    """In whatever order the bytes of each lie, and not of other numbers."""
    array = np.arange(6.0).reshape(3, 2)
    assert array_digest(array.astype(">f8")) == array_digest(array.astype("<f8"))
    assert array_digest(array) != array_digest(array + 1)
    assert array_digest(array) != array_digest(array.astype("f4"))


@pytest.mark.parametrize(
    ("guarded", "side_car", "noticed"),
    [
        (False, None, False),
        (True, None, True),
        (False, SideCar(Path("x.json")), False),
        (False, SideCar(Path("x.json"), sha256="00"), True),
    ],
)
def test_damage_is_noticed_by_a_checksum_alone(guarded, side_car, noticed):
    """Of the format, or in a side-car: one without is none."""
    stored = Stored("x", (2,), np.dtype("f8"), lambda: np.zeros(2), guarded=guarded)
    told = _unchecked(Path("x.npy"), stored, side_car)
    assert told == ([] if noticed else ["x.npy has no checksum: damage to its numbers would not be noticed."])


def test_draws_that_were_left_out_leave_gaps(monkeypatch):
    """Draw number 2 of four has no weight that is finite: the others keep their places."""
    series = {
        "log_weight": np.array([[0.0, np.nan], [1.0, 2.0]]),
        "energy": np.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    taken = {}
    monkeypatch.setattr(obs, "_Sampled", lambda *given: taken.update(given=given) or Kept())
    monkeypatch.setattr(obs, "_rows", lambda *_: {})
    obs._exported(Made(series), "proposals")
    _, numbers, correlated = taken["given"]
    assert numbers.tolist() == [1, 3, 4]
    assert not correlated


class Kept:
    """What is made of series: nothing."""

    def series(self, name, *_):
        return name


class Made(Run):
    """As much of a run as an export asks of one."""

    action = SimpleNamespace(observables=())
    config = SimpleNamespace(name="made")

    def __init__(self, series) -> None:
        self.own = series

    def series(self, _):
        return self.own


def test_chains_of_an_array_come_first_unless_its_axes_say_otherwise():
    """A file has (chains, steps, …), and a chain (steps, chains, …)."""
    array = np.arange(24.0).reshape(2, 3, 4)
    assert in_steps(array, (), 1)[2, 1].tolist() == array[1, 2].tolist()
    assert in_steps(array, ("step", "chain", "x0"), 1)[1, 2].tolist() == array[1, 2].tolist()
    assert in_steps(array[0], (), 1).shape == (3, 1, 4)


@pytest.mark.parametrize("said", ["<f4", "float32"])
def test_an_array_of_another_type_than_its_side_car_says(said):
    stored = Stored("x", (2,), np.dtype("f8"), lambda: np.zeros(2))
    with pytest.raises(EnsembleError, match="float64"):
        _check_side_car(Path("x.npy"), stored, SideCar(Path("x.json"), dtype=said))
    for right in ("<f8", "float64", None):
        _check_side_car(Path("x.npy"), stored, SideCar(Path("x.json"), dtype=right))
