"""What a plan says that an error costs, put together from numbers that are known here."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.planning.methods import Length, Method
from latflow.planning.outcome import in_words
from latflow.planning.pilot import Finding, Pilot, Question, _joined
from latflow.planning.ranking import Row, _row, ranked
from latflow.planning.running import Prediction
from latflow.planning.trust import _of_sectors
from latflow.theories import Phi4, U1Gauge
from latflow.validation import Validation, Way

METHOD = Method("HMC", {}, {}, Length(8, 50))
NUMBERS = {
    "title": "HMC", "method": METHOD, "model": None, "weighted": False, "average": None, "tau": None,
    "step": Measurement(0.5, 0.0), "clock": 0.75, "acceptance": 0.8, "ess": None,
    "independent": Measurement(100.0, 0.0), "numbers": Measurement(600.0, 0.0), "steps": 25, "chains": 8,
    "thermalisation": 0, "cost": Measurement(10.0, 1.0), "training": 0.0, "break_even": None, "memory": None,
    "lower": False, "doubts": (), "pilot_steps": 10,
}  # fmt: skip


def row(**changes: Any) -> Row:
    return Row(**{**NUMBERS, **changes})


class Made(Pilot):
    """A pilot that took these times."""

    step_seconds, clock_seconds = Measurement(0.25, 0.0), 0.25
    acceptance, ess, steps, draws = 0.8, None, 1000, ({}, 0)

    def __init__(self) -> None:
        self.question, self.method, self.setup, self.memory = question(0.01), METHOD, 3.0, None


def question(error: float = 0.1, relative: bool = True) -> Question:
    action = Phi4((4, 4), m2=1.0, lam=0.0)
    energy = Observable("energy", "E")
    return Question(action, energy, error, relative, 1, torch.float64, torch.device("cpu"))


def test_a_row_expects_the_error_of_its_numbers():
    """25 steps of 8 chains are 200 of 600 numbers; one of 100 independent ones costs 0.5 · 600/100 s."""
    assert row().expected_error(0.1) == pytest.approx(0.1 * math.sqrt(3))
    assert row().price == pytest.approx(3.0)


def test_rows_are_ranked_by_cost_and_those_that_can_be_trusted_first():
    rows = [
        row(title="doubtful", cost=Measurement(1.0, 0.1), doubts=("frozen",)),
        row(title="dear", cost=Measurement(20.0, 1.0)),
        row(title="cheap", cost=Measurement(10.0, 1.0)),
        row(title="short", cost=Measurement(2.0, 0.1), lower=True),
    ]
    assert [one.title for one in ranked(rows)] == ["cheap", "dear", "doubtful", "short"]


def test_predictions_are_by_the_clock():
    """A step takes half a second of one thread, and three quarters by the clock."""
    found = Prediction.of(question(), row())
    assert (found.seconds.value, found.seconds.error) == (pytest.approx(15.0), pytest.approx(1.5))
    way = Way("beside", "HMC", "HMC", "HMC", "beside", measurements={"energy": Measurement(-4.0, 0.5)})
    assert found.reached(Validation([way], [], []), "energy") == pytest.approx(0.125)
    absolute = Prediction.of(question(relative=False), row())
    assert absolute.reached(Validation([way], [], []), "energy") == pytest.approx(0.5)


def test_a_row_costs_what_its_parts_say():
    """With σ = 1, ε = 0.01 and τ = 5: 10⁴ · 2τ = 10⁵ numbers, 12500 steps of 8 chains at 0.25 s each.

    Before come 10 τ = 50 steps of thermalisation, and the 3 s that the start took.
    """
    average = Measurement(1.0, math.sqrt(10.0 / 1000), tau_int=5.0, tau_int_error=0.1, n=1000)
    parts = [Measurement(1.0, math.sqrt(10.0 / 250), tau_int=5.0, n=250)] * 4
    found = _row(Made(), Finding(average, parts, 1000, weighted=True))
    assert found.numbers is not None
    assert found.numbers.value == pytest.approx(1e5)
    assert (found.steps, found.thermalisation) == (math.ceil(found.numbers.value / 8), 50)
    assert found.cost.value == pytest.approx(12_500 * 0.25 + 50 * 0.25 + 3.0)
    assert found.step.value == pytest.approx(0.25 / 8)


def test_the_first_fifth_of_a_pilot_is_left_out():
    parts = [{"x": np.arange(first, first + 5)} for first in (0, 5)]
    assert _joined(parts)["x"].tolist() == list(range(2, 10))
    assert _joined(parts, burn=0)["x"].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("error", "steps", "known"), [(0.15, 100, True), (0.16, 100, False), (0.1, 99, False), (None, 100, True)]
)
def test_tau_is_known_from_long_records_alone(error, steps, known):
    """From records of 20 τ, with an error of 15 %; here τ = 5 and the error is given in units of it."""
    tau_error = None if error is None else 5 * error
    average = Measurement(1.0, 0.1, tau_int=5.0, tau_int_error=tau_error, n=100)
    assert Finding(average, [], steps).known is known


def test_times_are_told_in_their_unit():
    """Each unit from two of it on."""
    assert in_words(119.0) == "119 s"
    assert in_words(120.0) == "2 min"
    assert in_words(7200.0) == "2 h"
    assert in_words(172_800.0) == "2 days"


@pytest.mark.parametrize(("changes", "told"), [(24, True), (25, False)])
def test_a_pilot_has_seen_25_changes_of_sector(changes, told):
    """Of 8 chains, of which two changes each would be 16; it says how many it saw."""
    charge = np.zeros((100, 8))
    charge[:, 0] = np.minimum(np.arange(100), changes) % 2
    found = list(_of_sectors(U1Gauge((4, 4), 1.0), {"topological_charge": charge}))
    assert len(found) == told
    assert not told or found[0].startswith("saw 24 changes of topological sectors in 100 steps of 8 chains")
