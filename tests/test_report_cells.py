"""Every number of a report stands in its own cell: no two of what is shown here are alike."""

import math

import pytest

from latflow.measurement import Measurement
from latflow.observables import Observable
from latflow.report.diagnostics import diagnostics_table
from latflow.report.overview import best_of
from latflow.report.tables import Table, banner, headline, verdict_tables
from latflow.validation import Check, Row, Validation, Way

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
