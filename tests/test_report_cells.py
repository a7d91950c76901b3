"""Every number of a report stands in its own cell: no two of what is shown here are alike."""

import math
import re
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latflow.analysis import measure
from latflow.fields.gauge import TOPOLOGY
from latflow.figures import LOOKS, Source
from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.report.chain_plates import autocorrelation_of, sector_history
from latflow.report.circumstances import timing_table
from latflow.report.diagnostics import diagnostics_table
from latflow.report.ensemble import EnsembleMaterial
from latflow.report.index import _row
from latflow.report.material import Material
from latflow.report.overview import Overview, _measurement, best_of
from latflow.report.tables import Table, banner, headline, reweighted_table, verdict_tables
from latflow.theories import Phi4, Schwinger
from latflow.validation import AtCouplings, ChainWords, Check, Row, Validation, Way

WAYS = [
    Way("model", "model + Metropolis", "model", "the model's chain", source="model"),
    Way("weights", "NIS", "NIS", "the model's weighted draws", source="model"),
    Way("beside", "HMC", "HMC", "the HMC chain", source="beside"),
    Way("exact", "exact", "exact", "the exact result", source="exact", sampled=False),
]
ENERGY, LOG_Z = Observable("energy", "E", slow=True, symbol="E"), Observable("log_z", "log Z")
VALUES = {
    "model": Measurement(1.11, 0.01, tau_int=1.5, tau_int_error=0.2),
    "weights": Measurement(2.22, 0.02),
    "beside": Measurement(3.33, 0.03, tau_int=7.5, tau_int_error=0.4),
    "exact": Measurement(4.44, 0.0),
}
PULLS = {
    ("model", "beside"): -1.1,
    ("model", "exact"): 2.2,
    ("weights", "beside"): 3.3,
    ("beside", "exact"): -4.4,
}


def found(**more) -> Validation:
    of_log_z = {"weights": Measurement(8.88, 0.08), "exact": Measurement(9.99, 0.0)}
    rows = [Row("energy", "E", VALUES, PULLS), Row("log_z", "log Z", of_log_z, {("weights", "exact"): 0.5})]
    return Validation(WAYS, rows, [Check("a", True, "of a"), Check("b", True, "of b")], **more)


def column(table: Table, head: str, row: int) -> tuple[str, str]:
    cell = table.rows[row][table.head.index(head)]
    return cell.text, cell.note


def test_each_number_stands_in_the_column_of_its_way():
    (table,) = verdict_tables(found())
    assert [row[0].text for row in table.rows] == ["E", "log Z"]
    assert column(table, "model + Metropolis", 0) == ("1.110(10)", "τ = 1.5")
    assert column(table, "NIS", 0) == ("2.220(20)", "")
    assert column(table, "HMC", 0) == ("3.330(30)", "τ = 7.5")
    assert column(table, "exact", 0) == ("4.44", "")
    assert column(table, "HMC", 1) == ("–", "")


def test_each_pull_stands_under_its_head():
    """The first way of the head minus the second, as `Row.pulls` has it."""
    (table,) = verdict_tables(found())
    heads = {"model − HMC": "−1.1", "model − exact": "+2.2", "NIS − HMC": "+3.3", "HMC − exact": "−4.4"}
    for head, text in heads.items():
        assert column(table, head, 0)[0] == text
    assert column(table, "NIS − exact", 1)[0] == "+0.5"
    assert table.groups == [("", 1), ("expectation values", 4), ("pulls [σ]", 5)]


def test_a_way_without_numbers_has_no_column():
    idle = Way("neighbour", "quenched", "quenched", "quenched draws", source="neighbour")
    some = found()
    (table,) = verdict_tables(Validation([*WAYS, idle], some.rows, some.checks))
    assert "quenched" not in table.head


def test_the_headline_tells_the_numbers_of_the_model():
    diagnostics = {"ess": 0.625, "acceptance": 0.5, "acceptance_hops": 0.25, "acceptance_hmc": 0.75}
    diagnostics["beside_acceptance"] = 0.125
    cells = headline(found(diagnostics=diagnostics), ENERGY, {"hmc": "HMC", "hops": "sector hops"})
    assert [(cell.text, cell.note) for cell in cells] == [
        ("8.880(80)", "log Z; exact 9.99"),
        ("0.625", "effective sample size"),
        ("0.750", "acceptance of HMC"),
        ("0.250", "acceptance of sector hops"),
        ("1.50(20)", "τ of E, the model's chain"),
    ]
    alone = Validation(WAYS[2:], found().rows, [], {"beside_acceptance": 0.125})
    assert [cell.text for cell in headline(alone, ENERGY)] == ["0.125", "7.50(40)"]


def test_a_number_with_an_error_beside_log_z_is_a_reference():
    of_log_z = {"weights": Measurement(8.88, 0.08), "exact": Measurement(9.99, 0.09)}
    (cell,) = headline(Validation(WAYS, [Row("log_z", "log Z", of_log_z)], []))
    assert cell.note == "log Z; reference 9.990(90)"


def test_the_banner_names_the_largest_pull_of_either_sign():
    assert banner(found()).lines == ["2 of 2 checks hold; the largest of 5 pulls is 4.4 (E, HMC − exact)."]


def test_a_failed_banner_lists_what_failed_alone():
    some = Validation(WAYS, found().rows, [Check("a", True, "of a"), Check("b", False, "of b")])
    assert banner(some).lines == ["b: of b"]


@pytest.mark.parametrize(("pull", "mark"), [(-3.5, "warn"), (3.5, "warn"), (-2.5, "")])
def test_remarkable_pulls_of_either_sign_are_marked(pull, mark):
    (table,) = verdict_tables(Validation(WAYS, [Row("e", "E", VALUES, {("model", "beside"): pull})], []))
    assert table.rows[0][-1].mark == mark


def test_a_diagnostic_has_its_own_error():
    numbers = {"f_q": -1.0, "f_q_error": 0.25, "free_energy": -2.0, "free_energy_error": 0.5}
    table = diagnostics_table(Validation([], [], [], numbers))
    assert table is not None
    assert [row[1].text for row in table.rows] == ["−1.00(25)", "−2.00(50)"]


def test_the_best_number_has_the_smallest_error_that_may_be_trusted():
    values = {
        "model": Measurement(1.0, 0.3),
        "weights": Measurement(2.0, 0.1, warning="short"),
        "beside": Measurement(3.0, 0.2),
        "broken": Measurement(4.0, math.nan),
        "exact": Measurement(5.0, 0.0),
    }
    sampled = ("model", "weights", "beside", "broken")
    assert best_of(values, sampled) == ("beside", values["beside"])
    assert best_of({"exact": values["exact"]}, sampled) == ("exact", values["exact"])


def test_averages_at_other_couplings_stand_under_these():
    found = [
        AtCouplings(
            {"beta": beta}, {"energy": "E"}, {"energy": Measurement(beta, 0.1)}, beta / 10, None, 9.0, told
        )
        for beta, told in ((1.0, ()), (2.0, ("too far",)))
    ]
    table = reweighted_table(found)
    assert table is not None
    assert table.head == ["observable", "beta = 1", "beta = 2"]
    assert [cell.text for cell in table.rows[0]] == ["ESS", "0.1", "0.2"]
    assert [cell.note for cell in table.rows[0]] == ["", "", "too far"]
    assert [cell.text for cell in table.rows[1]] == ["E", "1.00(10)", "2.00(10)"]


def test_what_a_page_over_runs_reads_is_what_was_written():
    number = Measurement(1.5, 0.25, tau_int=3.0, tau_int_error=0.5, n=100, warning="short")
    assert _measurement(asdict(number)) == number


def test_a_page_over_runs_tells_the_time_of_all_stages(tmp_path):
    """90 s of training, and 30 of sampling: 2 min. The acceptance is the model's where there are both."""
    numbers = {"ess": 0.5, "acceptance": 0.25, "beside_acceptance": 0.75}
    run = Overview(tmp_path / "run", "passed", diagnostics=numbers, seconds={"training": 90.0, "model": 30.0})
    cells = [cell.text for cell in _row(run, tmp_path)]
    assert cells[3:5] == ["0.500", "0.250"]
    assert cells[6] == "2.0 min"


def test_a_table_of_times_has_the_time_of_each_stage():
    """20 steps in 4 s are 200 ms a step; the record of a step has the seconds since the start."""
    history = [{"seconds": 0.1}, *[{"seconds": 1.0}] * 18, {"seconds": 4.0}]
    chains = {"HMC": {"steps": 1000, "seconds": 7200.0, "chains": 8}}
    table = timing_table(history, 16, chains)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["training", "20 steps of 16 draws", "4.0 s", "200 ms a step"],
        ["HMC", "1000 steps of 8 chains", "2.0 h", "7.2e+03 ms a step"],
    ]


class Told(Material):
    """What a run would have found that has these series."""

    action = known = words = sources = series = None

    def __init__(self, **parts: Any) -> None:
        self.parts = parts
        vars(self).update(parts)


def charges(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=float)[:, None]


LOOK = {"model": Source("model's chain", LOOKS[0]), "beside": Source("HMC chain", LOOKS[1])}


def test_plates_tell_the_numbers_of_each_chain():
    """One charge changes at every step, the other at every fourth; τ of the first alone is below ½."""
    series = {"model": {"q": charges(*[0, 1] * 40)}, "beside": {"q": charges(*[0, 0, 0, 0, 1, 1, 1, 1] * 10)}}
    words = {name: ChainWords(name, f"the {name} chain", "a step") for name in series}
    told: Any = Told(
        action=Phi4((2, 2), m2=1.0, lam=0.0), series=series, sources=LOOK, words=words, with_model=True
    )
    q = Observable("q", "Q", symbol="Q", spacing=1.0, sectors=TOPOLOGY)
    _, alt, _ = sector_history(told, q, TOPOLOGY)
    assert "1 of the model's chain and 0.241" in alt
    _, alt, _ = autocorrelation_of(told, q)
    taus = [float(text) for text in re.findall(r"τ = ([0-9.]+)", alt)]
    expected = [measure(one["q"]).tau_int for one in series.values()]
    assert taus == pytest.approx(expected, abs=0.06)
    assert taus[0] < 0.5 < taus[1]


def test_each_chain_has_its_own_factor():
    signs = {name: {"sign": charges(*numbers)} for name, numbers in (("model", (1, -1)), ("beside", (1, 1)))}
    action = Schwinger((4, 4), 1.0, 0.2, flavours=1)
    told: Any = Told(action=action, series=signs, sources=LOOK, known={"log_z": Measurement(9.0, 0.0)})
    for name, source in LOOK.items():
        assert told.factor(source).tolist() == signs[name]["sign"].tolist()
    assert told.exact_free_energy == -9.0


def test_an_ensemble_says_its_size():
    material = object.__new__(EnsembleMaterial)
    ensemble = SimpleNamespace(fields=np.zeros((7, 3, 2, 2)))
    material.judgement = SimpleNamespace(ensemble=ensemble)
    assert material.description == "3 chains of 7 configurations that were made elsewhere"
