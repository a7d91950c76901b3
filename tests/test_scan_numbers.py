"""Numbers of several runs together: their means, whether seeds agree, and what goes into a curve."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from latflow.config import Axis
from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.report.overview import Overview
from latflow.scans.critical import LATTICE, critical, side
from latflow.scans.findings import Findings
from latflow.scans.folder import ScannedRun
from latflow.scans.groups import Agreement, Group, agreement_of, pooled
from latflow.scans.tables import _best_cell

CUMULANT = Observable("u", "U", scaling=0)
LENGTH = Observable("xi", "ξ", scaling=1)


def group(state: str = "passed", values: Any = None, agreement: Any = None, **settings: Any) -> Group:
    told: Any = state
    found = Overview(Path(state), told)
    return Group(settings, ((object.__new__(ScannedRun), found),), values or {}, agreement or {})


def test_means_over_seeds_have_their_error():
    """(1 + 2 + 6)/3, and √(0.3² + 0.4² + 1.2²)/3 = 1.3/3."""
    several = [Measurement(1.0, 0.3, n=10), Measurement(2.0, 0.4, n=20), Measurement(6.0, 1.2, n=30)]
    found = pooled(several)
    assert found.value == pytest.approx(3.0)
    assert found.error == pytest.approx(1.3 / 3)
    assert found.n == 60


def test_seeds_agree_by_chi_squared():
    """About the mean with weights 1/error²: here 1.2, from which 1 and 2 are 2 and 4 errors away."""
    found = agreement_of([Measurement(1.0, 0.1), Measurement(2.0, 0.2)])
    assert found is not None
    assert found.chi_squared == pytest.approx(0.2**2 / 0.1**2 + 0.8**2 / 0.2**2)
    assert found.dof == 1
    assert found.p_value == pytest.approx(chi2.sf(20.0, 1))
    assert agreement_of([Measurement(1.0, 0.1), Measurement(1.0, 0.0)]) is None


@pytest.mark.parametrize(("chi_squared", "state"), [(1.0, "passed"), (100.0, "failed")])
def test_a_group_is_as_sound_as_its_worst_run(chi_squared, state):
    worse = Group({}, group("passed").runs + group("inconclusive").runs + group("failed").runs, {})
    assert (worse.state, worse.sound) == ("failed", False)
    doubtful = Group({}, group("passed").runs + group("inconclusive").runs, {})
    assert (doubtful.state, doubtful.sound) == ("inconclusive", True)
    agreed = Agreement(chi_squared, 1, float(chi2.sf(chi_squared, 1)))
    assert group(agreement={"e": {"model": agreed}}).state == state


def test_sides_of_oblong_lattices_are_means():
    assert side((8, 8)) == 8.0
    assert side((4, 16)) == pytest.approx(8.0)
    assert side((2, 4, 8)) == pytest.approx(4.0)


def scanned(state: str, lattice: list[int], beta: float, value: float) -> Group:
    values = {name: {"model": Measurement(value, 0.1 * value)} for name in ("u", "xi")}
    return group(state, values, **{LATTICE: lattice, "action.beta": beta})


def test_curves_are_of_sound_runs_and_scaled():
    """ξ is divided by L, U by nothing; what has failed, and the lattice of another shape, is left out."""
    groups = [
        scanned("passed", [size, size], beta, size * beta) for size in (4, 8) for beta in (1.0, 2.0, 3.0)
    ]
    groups.append(scanned("failed", [8, 8], 4.0, 32.0))
    axes = [Axis((LATTICE,), (([4, 4],), ([8, 8],))), Axis(("action.beta",), ((1.0,), (2.0,), (3.0,)))]
    found = list(critical(groups, "action.beta", axes, [CUMULANT, LENGTH], ["model"], None))
    assert [one.observable.name for one in found] == ["u", "xi"]
    for one, power in zip(found, (0, 1), strict=True):
        for curve in one.curves:
            assert curve.coupling.tolist() == [1.0, 2.0, 3.0]
            np.testing.assert_allclose(curve.value, curve.size ** (1 - power) * curve.coupling)
            np.testing.assert_allclose(curve.error, 0.1 * curve.value)
    oblong = [*groups, scanned("passed", [4, 8], 1.0, math.pi)]
    assert list(critical(oblong, "action.beta", axes, [CUMULANT], ["model"], None)) == []


def test_each_group_of_a_table_has_its_own_number():
    groups = tuple(scanned("passed", [4, 4], beta, beta) for beta in (1.0, 2.0))
    told: Any = (
        "scan",
        ("action.beta",),
        "action.beta",
        (),
        groups,
        (CUMULANT,),
        {"model": "HMC"},
        ("model",),
        (),
        (),
    )
    found = Findings(*told)
    assert [_best_cell(one, "u", found).text for one in groups] == ["1.00(10)", "2.00(20)"]
    assert _best_cell(groups[0], "u", found).note == "HMC"
