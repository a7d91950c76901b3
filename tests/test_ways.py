"""The ways to know a number, made by one function each, for a whole run and for what others bring."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from cases import perturbed
from fake_run import FakeRun, chain, evidence, rows_of
from latflow.analysis import Measurement
from latflow.cli.verdict import print_verdict
from latflow.densities.autoregressive import dense_spins
from latflow.densities.base import draws
from latflow.fields import SCALAR, FieldKind
from latflow.fields.gauge import TOPOLOGY
from latflow.fields.spins import PHASES
from latflow.observables import recorded
from latflow.observables.base import Observable, Sectors
from latflow.report.tables import verdict_tables
from latflow.runs.provenance import plain
from latflow.theories import Action
from latflow.types import Draws
from latflow.validation import (
    WAYS,
    Check,
    Evidence,
    Validation,
    Way,
    all_ways,
    chain_words,
    density_checks,
    known,
    sector_checks,
    validate,
)
from latflow.validation.sectors import visited
from test_validation import BETA_TWO, FREE, exact_charges, free_flow, series_of, u1_series

# --- a whole run, and what others bring ------------------------------------------------------------


class Kernel:
    """A sampler as far as its words go."""

    def __init__(self, title, step_words, proposes=False):
        self.title, self.step_words, self.proposes = title, step_words, proposes


FREE_WAYS = ("model", "beside", "exact")
PROPOSALS = Kernel("model proposals", "one proposal of the model", proposes=True)
TRAJECTORIES = Kernel("HMC", "one trajectory of HMC")
HOPS = Kernel("sector hops", "one hop between sectors")


def test_a_run_is_judged_by_all_that_is_known_of_it():
    series, draws = series_of(free_flow(), FREE)
    draws = {name: values.reshape(400, 16, *values.shape[1:]) for name, values in draws.items()}
    recorded = {"model": series, "proposals": draws, "beside": series | {"delta_h": np.zeros((400, 16))}}
    kernels = {"model": {"proposals": PROPOSALS}, "beside": {"hmc": TRAJECTORIES}}
    found = validate(FakeRun(FREE, free_flow(), recorded, kernels))
    assert found.passed, found
    assert [(way.name, way.heading) for way in found.ways] == [
        ("model", "model + Metropolis"), ("weights", "NIS"), ("beside", "HMC"), ("exact", "exact"),
    ]  # fmt: skip
    row = next(row for row in found.rows if row.name == "phi_squared")
    pairs = {("model", "beside"), ("weights", "beside")} | {
        (way, "exact") for way in ("model", "weights", "beside")
    }
    assert row.pulls.keys() == pairs  # the chain of the model and its weights share their draws
    assert found.notes == []
    assert found.diagnostics["beside_exp_minus_delta_h"] == 1
    assert found.diagnostics["s2"] == pytest.approx(-math.log(found.diagnostics["ess"]) / 24)
    names = {check.name for check in found.checks}
    assert {"the model's chain has lost its start", "the HMC chain has lost its start"} <= names
    stored = json.loads(json.dumps(found.as_dict()))
    assert stored["ways"][0] == {
        "name": "model",
        "heading": "model + Metropolis",
        "short": "model",
        "sampled": True,
    }
    (written,) = (row for row in stored["rows"] if row["name"] == "phi_squared")
    assert written["pulls"].keys() == {"-".join(pair) for pair in pairs}
    assert written["values"]["exact"]["value"] == row.values["exact"].value
    spoilt = draws["log_weight"].copy()
    spoilt[3, 4] = np.nan
    run = FakeRun(FREE, free_flow(), recorded | {"proposals": draws | {"log_weight": spoilt}}, kernels)
    assert [check.detail for check in validate(run).checks if not check.passed] == [
        "1 draws have a log-weight that is not finite"
    ]


@pytest.mark.parametrize("together", [True, False])
def test_a_chain_that_never_moved_is_no_evidence(together, capsys):
    """HMC that rejects every step: its chains stand where they began, all at one place or each at its own."""
    series, _ = series_of(free_flow(), FREE)
    place = np.zeros(16, dtype=int) if together else np.arange(16)
    frozen = {name: np.repeat(values[:1, place], 400, axis=0) for name, values in series.items()}
    frozen |= {"accepted": np.zeros((400, 16)), "delta_h": np.full((400, 16), 1e3)}
    kernels = {"model": {"proposals": PROPOSALS}, "beside": {"hmc": TRAJECTORIES}}
    found = validate(FakeRun(FREE, free_flow(), {"model": series, "beside": frozen}, kernels))
    assert not found.passed
    assert any("Nothing changed in 400 steps of the HMC chain" in doubt for doubt in found.doubts)
    for row in found.rows:
        assert math.isnan(row.values["beside"].error), row.name
        assert not any("beside" in pair for pair in row.pulls)
    (warning,) = (text for text in found.warnings if "the HMC chain" in text)
    assert f"⟨φ²⟩: {'constant' if together else 'no chain moved'}" in warning
    print_verdict("title", found)
    assert "Nothing changed in 400 steps of the HMC chain" in " ".join(capsys.readouterr().out.split())
    (table,) = verdict_tables(found)
    cell = next(row for row in table.rows if row[0].text == "⟨φ²⟩")[1 + list(FREE_WAYS).index("beside")]
    assert cell.note == ("constant" if together else "no chain moved")
    assert "nan" not in cell.text
    assert json.dumps(plain(found.as_dict()), allow_nan=False)


def test_single_chains_that_never_moved_are_warned_of():
    series, _ = series_of(free_flow(), FREE)
    held = {name: values.copy() for name, values in series.items()}
    for values in held.values():
        values[:, 3] = values[0, 3]
    found = validate(FakeRun(FREE, free_flow(), {"beside": held}, {"beside": {"hmc": TRAJECTORIES}}))
    assert "1 of 16 chains never moved" in found.warnings[0]
    assert all(check.passed for check in found.checks if check.name.endswith("moves"))


def test_chains_are_called_by_what_moves_them():
    charge = exact_charges(400, 4)
    series = u1_series(charge) | {
        "accepted": np.ones((400, 4)), "accepted_hmc": np.ones((400, 4)), "delta_h_hmc": np.zeros((400, 4)),
        "accepted_hops": np.zeros((400, 4)),
    }  # fmt: skip
    moved = {"hmc": TRAJECTORIES, "hops": HOPS}
    run = FakeRun(BETA_TWO, None, {"model": series, "beside": series}, {"model": moved, "beside": moved})
    words = chain_words(run)
    assert words["model"].heading == "HMC + sector hops (the model's chain)"
    assert words["beside"].heading == "HMC + sector hops"
    assert words["beside"].step == "a cycle of one trajectory of HMC and one hop between sectors"
    model, beside, _ = all_ways(Evidence.of(run))
    assert model.notes[0].startswith(
        "A step of the model's chain is a cycle of one trajectory of HMC and one hop"
    )
    assert "so there are no weights" in model.notes[1]
    assert model.diagnostics["acceptance_hops"] == 0
    assert (
        model.diagnostics["exp_minus_delta_h_hmc"] == beside.diagnostics["beside_exp_minus_delta_h_hmc"] == 1
    )
    changes = (np.diff(charge, axis=0) != 0).mean()
    assert model.diagnostics["tunnelling_topological_charge"] == pytest.approx(changes)


def test_a_chain_between_sectors_is_in_the_one_that_it_left():
    m = np.array([[0.0], [0.2], [0.0], [0.3], [0.0], [-0.1], [0.0], [0.4]])
    assert visited(PHASES, m)[:, 0].tolist() == [-1, 0, 0, 0, 0, 1, 1, 0]
    assert visited(TOPOLOGY, np.array([1.0, -1.0])).tolist() == [1.0, -1.0]


@dataclass(frozen=True)
class Bare(FieldKind):
    """Numbers with a sign, of which nothing else is said."""

    name = "bare"

    def start(self, lattice, n, generator, dtype):
        return torch.rand(n, *lattice, generator=generator, dtype=dtype)


class Quartic(Action):
    """A theory that says the minimum: lattice, kind, S."""

    def __init__(self, kind):
        self.lattice, self.kind = (3, 2), kind

    def __call__(self, x):
        return (x**2 + 0.1 * x**4).flatten(1).sum(1)


class Gauss:
    """A density of a few lines: independent normal numbers of variance ½."""

    def sample(self, n, generator):
        x = torch.randn(n, 3, 2, generator=generator, dtype=torch.float64) / math.sqrt(2)
        return x, self.log_prob(x)

    def log_prob(self, x):
        return -(x**2).flatten(1).sum(1) - 3 * math.log(math.pi)


class Only:
    """A weighted sampler that has no density."""

    def __init__(self, weight=0.0):
        self.weight = weight

    def draws(self, n, action, generator):
        x, log_q = Gauss().sample(n, generator)
        return Draws(x, -action(x) - log_q + self.weight)


@pytest.mark.parametrize("density", [Gauss(), Only()])
@pytest.mark.parametrize("kind", [Bare(), SCALAR])
def test_a_theory_that_says_the_minimum_is_judged(density, kind):
    action, n = Quartic(kind), 4000
    x, log_weight = draws(density, n, action, torch.Generator().manual_seed(1))
    observed = {
        name: values.numpy().reshape(n // 4, 4, *values.shape[1:])
        for name, values in recorded(action)(x).items()
    }
    proposals = observed | {"log_weight": log_weight.numpy().reshape(n // 4, 4)}
    log_z = 6 * math.log(quad(lambda phi: math.exp(-(phi**2) - 0.1 * phi**4), -8, 8)[0])
    run = FakeRun(action, density, {"proposals": proposals}, {}, {"log_z": f"{log_z:.9f}(0)"})
    found = validate(run)
    assert found.passed, found
    assert [way.name for way in found.ways] == ["weights", "exact"]
    names = [row.name for row in found.rows]
    assert names[0] == "log_z"
    assert abs(found.rows[0].pulls["weights", "exact"]) < 5
    assert kind == SCALAR or names == ["log_z", "action_density"]
    checks = [check.name for check in found.checks]
    expected = ["draws are fields of the theory", "draws come with their probability"]
    assert checks == (expected if isinstance(density, Gauss) else expected[:1])


def test_what_others_bring_is_checked_as_far_as_it_goes():
    action = Quartic(Bare())
    (check,) = density_checks(Only(math.nan), action)
    assert not check.passed
    wrong = Gauss()
    wrong.log_prob = lambda x: torch.zeros(len(x))  # pyright: ignore[reportAttributeAccessIssue]
    wrong.sample = lambda n, _: (torch.zeros(n, 3, 3), torch.zeros(n))  # pyright: ignore[reportAttributeAccessIssue]
    assert not next(density_checks(wrong, action)).passed
    claims = Gauss()
    claims.symmetries = ("z2",)  # pyright: ignore[reportAttributeAccessIssue]
    assert all(check.passed for check in density_checks(claims, Quartic(SCALAR)))
    failed = [check for check in density_checks(claims, action) if not check.passed]
    assert [check.name for check in failed] == ["z2 symmetry of the density"]


def test_an_error_of_a_theory_is_told_as_it_is():
    class Broken(Quartic):
        def known(self):
            raise ZeroDivisionError("of my own")

    with pytest.raises(ZeroDivisionError, match="of my own"):
        known(Broken(SCALAR))


def test_a_way_that_is_added_is_a_column(monkeypatch, capsys):
    def guessed(found):
        numbers = {"phi_squared": Measurement(0.5, 0.1)}
        return Way("guess", "a guess", "guess", "the guess", "guess", measurements=numbers)

    monkeypatch.setattr("latflow.validation.ways.WAYS", (*WAYS, guessed))
    series, _ = series_of(free_flow(), FREE)
    found = evidence(FREE, series)
    rows = rows_of(found)
    assert ("exact", "guess") in rows["phi_squared"].pulls
    shown = [way for way in all_ways(found) if way.measurements]
    notes = ["note [of mine]"]
    verdict = Validation(
        shown, list(rows.values()), [Check("all is well", True, "1")], {}, ["careful"], notes
    )
    print_verdict("a run", verdict)
    lines = capsys.readouterr().out.splitlines()
    header = next(line for line in lines if "observable" in line)
    columns = ("model + Metropolis", "exact", "a guess", "largest pull")
    assert [header.index(column) for column in columns] == sorted(header.index(column) for column in columns)
    assert "0.50(10)" in next(line for line in lines if "⟨φ²⟩" in line)
    assert lines[-4:] == ["passed  all is well: 1", "note: note [of mine]", "warning: careful", "validated"]


@dataclass(frozen=True)
class ThreeStates(FieldKind):
    """0, 1 or 2 at each site."""

    name = "3 states"
    states = 3

    def start(self, lattice, n, generator, dtype):
        return torch.randint(3, (n, *lattice), generator=generator).to(dtype)


class Clock(Action):
    """Neighbours that are equal lower the action by one."""

    def __init__(self, lattice):
        self.lattice, self.kind = lattice, ThreeStates()

    def __call__(self, x):
        axes = range(1, x.ndim)
        return -sum((x == x.roll(-1, axis)).double() for axis in axes).flatten(1).sum(1)


@pytest.mark.parametrize("lattice", [(2, 3), (4, 4)])
def test_networks_of_more_than_two_states_are_checked(lattice):
    network = perturbed(dense_spins(lattice, kind=ThreeStates()), 0.4)
    sound = list(density_checks(network, Clock(lattice)))
    assert all(check.passed for check in sound), sound
    assert ("probabilities add up to 1" in {check.name for check in sound}) == (lattice == (2, 3))
    direct = network.levels[0].conditional.direct
    direct.mask[3:6, 12:15] = True  # the second site sees the fifth
    with torch.no_grad():
        direct.weight[3:6, 12:15] = 0.7 * torch.eye(3)
    failed = {check.name for check in density_checks(network, Clock(lattice)) if not check.passed}
    assert "each site depends on earlier ones alone" in failed


class Threefold(Quartic):
    """A theory whose observable says that its three sectors are equally probable."""

    def own_observables(self):
        thirds = Sectors(
            "thirds", lambda x: np.floor(x).astype(int), "third {}".format, lambda x: x % 1, equal=3
        )
        return (Observable("third", sectors=thirds, function=lambda x: x.flatten(1)[:, 0]),)


def test_sectors_are_alike_where_their_record_says_so():
    rng, action = np.random.default_rng(1), Threefold(Bare())
    third = rng.integers(3, size=(300, 4)) + rng.random((300, 4))
    (sound,) = sector_checks(action, [chain({"third": third})])
    assert (sound.passed, sound.name) == (True, "thirds of the HMC chain, by symmetry")
    assert "third 0, third 1, third 2 by each of 4 chains" in sound.detail
    (lost,) = sector_checks(action, [chain({"third": third % 2})])
    assert not lost.passed
    assert "third 2 never visited" in lost.detail
    # what is odd needs S(−x) = S(x) for it
    odd = replace(action.own_observables()[0], odd=True)
    action.own_observables = lambda: (odd,)  # pyright: ignore[reportAttributeAccessIssue]
    assert list(sector_checks(action, [chain({"third": third})])) == []
