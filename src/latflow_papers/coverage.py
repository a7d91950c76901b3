"""Whether error bars mean what they say: how many intervals of many short runs hold the exact value."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from latflow.analysis import Measurement
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.validation import FEWEST, PARETO_LIMIT
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.coverage_models import CASES, known_of, reference
from latflow_papers.coverage_study import CoverageSettings, Pair, pairs, pulls, runs_of
from latflow_papers.coverage_verdict import verdicts
from latflow_papers.results import Cell, Table, number

EXPECTED = math.erf(1 / math.sqrt(2)), math.erf(math.sqrt(2))
"""Shares of a normal distribution within one and two standard deviations."""
EDGES = (0, 10, 20, 50, 100, 200, 400, 1000, math.inf)
"""Of the intervals in which runs are collected by what they are worth."""
NONLINEAR = ("binder_cumulant", "specific_heat")
"""Functions of averages that are far from linear, which are told apart."""


class Kind(NamedTuple):
    """Intervals that belong together: what is estimated, how, and what the runs tell of themselves."""

    words: str
    weighted: bool
    names: tuple[str, ...] | None


KINDS = {
    "averages": Kind("averages by weights", True, None),
    "nonlinear": Kind("their functions", True, NONLINEAR),
    "log_z": Kind("log Z", True, ("log_z",)),
    "proposals": Kind("averages by chains of proposals", False, None),
}


class Interval(NamedTuple):
    """A pull, and what its run told of itself."""

    pull: float
    worth: float
    behind: float
    trusted: bool


def run(bench: Bench, settings: CoverageSettings) -> Findings:
    """Make all runs, analyse each, hold them against what is known, and ask the verdict about some."""
    known = {}
    for theory, case in CASES.items():
        part = bench.part(
            f"known of {theory}",
            lambda case=case, theory=theory: reference(
                case, settings.draws, bench.generator(f"reference {theory}")
            ),
        )
        known[theory] = known_of(part)
    found = {
        pair: bench.part(pair.name, lambda pair=pair: runs_of(bench, settings, pair)) for pair in pairs()
    }
    asked = {
        title: bench.part(f"verdict {title.replace(':', '')}", compute)["count"]
        for title, compute in verdicts(bench, settings).items()
    }
    intervals = {
        kind: [
            one for pair, part in found.items() for one in _intervals(pair, part, known[pair.theory], kind)
        ]
        for kind in KINDS
    }
    tables = [
        _by(intervals, "behind", "draws behind errors, (Σw²)²/Σw⁴"),
        _by(intervals, "worth", "N·ESS"),
        Table(
            "pairs",
            PAIR_HEAD,
            [line for pair, part in found.items() for line in _lines(pair, part, known, settings.chains)],
        ),
        _observables(found, known),
        _verdicts(asked, settings),
    ]
    averages = intervals["averages"]
    numbers = {
        "few": _share([one.pull for one in averages if one.behind < FEWEST and one.worth >= FEWEST], 1),
        "many": _share([one.pull for one in averages if one.behind >= FEWEST], 1),
        "by_worth": _share([one.pull for one in averages if one.worth >= FEWEST], 1),
        "trusted": _share([one.pull for one in averages if one.trusted], 1),
        "log_z": _share([one.pull for one in intervals["log_z"] if one.behind >= FEWEST], 1),
        "log_z_few": _share([one.pull for one in intervals["log_z"] if one.behind < FEWEST], 1),
    }
    for name, method in (("one_length", "HMC, all of one length"), ("jittered", "HMC")):
        part = found[Pair("free field", method)]["chain"]
        linear = [j for j, one in enumerate(part["names"]) if one not in NONLINEAR]
        numbers[name] = _share(pulls(part, known["free field"])[-1, linear].flatten().tolist(), 1)
    return Findings(_text(settings), tables, {"coverage": _figure(intervals)}, numbers)


def _intervals(pair: Pair, part: dict[str, Any], known: dict[str, Measurement], kind: str) -> list[Interval]:
    """All intervals of a kind that the runs of a pair have made of weighted draws."""
    _, weighted, names = KINDS[kind]
    if pair.method != "proposals":
        return []
    one = part["weights" if weighted else "chain"]
    pull = pulls(one, known).numpy()
    trust = {name: one[name].numpy() for name in ("worth", "behind", "pareto", "share")}
    trusted = (
        (np.minimum(trust["worth"], trust["behind"]) >= FEWEST)
        & (trust["pareto"] <= PARETO_LIMIT)
        & (trust["share"] <= 0.1)
    )
    taken = [
        j
        for j, name in enumerate(one["names"])
        if (name in names if names else name not in (*NONLINEAR, "log_z"))
    ]
    return [
        Interval(
            float(pull[i, j, r]),
            float(trust["worth"][i, r]),
            float(trust["behind"][i, r]),
            bool(trusted[i, r]),
        )
        for i in range(pull.shape[0])
        for j in taken
        for r in range(pull.shape[2])
    ]


def _share(values: Sequence[float], width: float) -> Cell:
    """How many pulls lie within a width; those that have no error do not."""
    if not len(values):
        return ""
    share = float(np.mean(np.abs(values) < width))
    spread = math.sqrt(max(share * (1 - share), 1 / len(values)) / len(values))
    return Measurement(share, spread)


def _moments(values: Sequence[float]) -> tuple[Cell, Cell]:
    """Mean and width of pulls, with errors."""
    pull = np.asarray(values)
    pull = pull[np.isfinite(pull)]
    if len(pull) < 3:
        return "", ""
    mean, width = float(pull.mean()), float(pull.std(ddof=1))
    fourth = float(np.mean((pull - mean) ** 4))
    of_width = math.sqrt(max(fourth / width**4 - 1, 0.0) / len(pull)) * width / 2 if width else 0.0
    return Measurement(mean, width / math.sqrt(len(pull))), Measurement(width, of_width)


def _by(intervals: dict[str, list[Interval]], attribute: str, words: str) -> Table:
    """Shares within 1σ and 2σ by what runs are worth, kind by kind."""
    rows: list[list[Cell]] = []
    for kind, several in intervals.items():
        for low, high in pairwise(EDGES):
            mine = [one.pull for one in several if low <= getattr(one, attribute) < high]
            if len(mine) >= 3:
                span = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"
                rows.append(
                    [KINDS[kind].words, span, len(mine), _share(mine, 1), _share(mine, 2), *_moments(mine)]
                )
    head = ("estimate", words, "intervals", "within 1σ", "within 2σ", "mean pull", "width")
    return Table(f"by {attribute}", head, rows)


PAIR_HEAD = (
    "theory",
    "method",
    "ESS",
    "numbers",
    "worth",
    "within 1σ",
    "within 2σ",
    "mean pull",
    "width",
    "without error",
)


def _lines(
    pair: Pair, part: dict[str, Any], known: dict[str, dict[str, Measurement]], chains: int
) -> list[list[Cell]]:
    """One line for each length, of all averages together, and of log Z by itself."""
    rows: list[list[Cell]] = []
    for key in ("chain", "weights"):
        if key not in part:
            continue
        one = part[key]
        pull, names = pulls(one, known[pair.theory]).numpy(), one["names"]
        groups = {key: [j for j, name in enumerate(names) if name not in (*NONLINEAR, "log_z")]}
        if "log_z" in names:
            groups["log Z"] = [names.index("log_z")]
        for words, taken in groups.items():
            method = pair.method if words == "chain" else words
            for i, steps in enumerate(part["steps"]):
                flat = pull[i, taken].ravel().tolist()
                worth = one["count" if key == "chain" else "worth"][i]
                rows.append(
                    [
                        pair.theory,
                        method,
                        number(part["ess"], ".2f") if "ess" in part else "",
                        steps * chains,
                        number(float(worth.mean()), ".0f"),
                        _share(flat, 1),
                        _share(flat, 2),
                        *_moments(flat),
                        int(np.isnan(flat).sum()),
                    ]
                )
    return rows


def _observables(found: dict[Pair, dict[str, Any]], known: dict[str, dict[str, Measurement]]) -> Table:
    """Every observable of each theory: all runs of enough worth, and all others."""
    rows: list[list[Cell]] = []
    for theory, case in CASES.items():
        for name in case.names:
            for by in ("weights", "chain"):
                enough: list[float] = []
                others: list[float] = []
                for pair, part in found.items():
                    if pair.theory != theory or by not in part or name not in part[by]["names"]:
                        continue
                    one = part[by]
                    pull = pulls(one, known[theory])[:, one["names"].index(name)]
                    least = one["count"] if by == "chain" else one["worth"]
                    for figure in ("worth", "behind"):
                        least = least.where(one[figure].isnan(), least.minimum(one[figure]))
                    enough += pull[least >= FEWEST].tolist()
                    others += pull[least < FEWEST].tolist()
                if enough or others:
                    what = "weights" if by == "weights" else "chains"
                    cells = len(enough), _share(enough, 1), _share(enough, 2), *_moments(enough)
                    rows.append([theory, name, what, *cells, len(others), _share(others, 1)])
    head = ("theory", "observable", "by", "runs worth it", "within 1σ", "within 2σ", "mean pull", "width")
    return Table("observables", (*head, "others", "of them within 1σ"), rows)


def _verdicts(asked: dict[str, list[list[int]]], settings: CoverageSettings) -> Table:
    rows: list[list[Cell]] = []
    for title, lengths in asked.items():
        for i, counts in enumerate(lengths):
            whole = sum(counts)
            length = (
                settings.judged_steps[i - len(lengths)] if "flow" not in title and "log" not in title else ""
            )
            shares = [number(100 * count / whole, ".0f") for count in counts]
            rows.append([title, length, whole, *shares])
    head = ("run", "steps", "runs", "passed [%]", "inconclusive [%]", "failed [%]")
    return Table("verdicts", head, rows)


def _text(settings: CoverageSettings) -> str:
    steps = ", ".join(map(str, settings.steps))
    return (
        f"Each theory was run {settings.repeats} times by each method that serves it, in "
        f"{settings.chains} chains of {steps} steps, and "
        "each run was analysed as if it were the only one. Intervals of one standard deviation should "
        "hold the exact value in 68% of the runs, those of two in 95%. Models are exact densities at "
        "another coupling or of another width, so that all results are unbiased; too narrow ones give "
        "weights with heavy tails. N·ESS alone does not tell which errors of weighted draws to trust: "
        "with N·ESS of fifty and more a share of $by_worth of averages lies within one, $few of those "
        "where fewer than fifty draws, (Σw²)²/Σw⁴, make the error, and with fifty and more of these "
        "$many. Of log Z it is $log_z_few below and $log_z above. The verdict asks for fifty of both, for "
        "the tail index and for no large single weight; with all of these it is $trusted. What does not "
        "pass decides nothing: a run is then inconclusive, however far it lies off. The errors of these "
        "shares take all intervals for independent, of which a run gives one for each length and "
        "observable. Runs that are wrong on purpose: HMC at a coupling that is off by a hundredth, HMC "
        "that is frozen, one flavour whose sign is left out, and flows whose log-determinants are too "
        "large by a thousandth of themselves. So little off a coupling is not seen by runs as short as "
        "these. HMC of the free field whose trajectories all have one length hardly moves the squares of "
        "some modes: $one_length of its intervals hold the truth after the longest runs, where it is "
        "$jittered with lengths that vary."
    )


@styled
def _figure(intervals: dict[str, list[Interval]]) -> Figure:
    figure = new_figure(7.2, 3.0)
    panels = figure.subplots(1, 2, squeeze=False)[0]
    colours = dict(zip(KINDS, (BLUE, ORANGE, GREEN, INK), strict=True))
    for axes, attribute, words in zip(
        panels, ("worth", "behind"), ("N·ESS", r"$(\sum w^2)^2/\sum w^4$"), strict=True
    ):
        for kind, several in intervals.items():
            at, share, spread = [], [], []
            for low, high in pairwise(EDGES):
                mine = [one for one in several if low <= getattr(one, attribute) < high]
                if len(mine) >= 10:
                    held = _share([one.pull for one in mine], 1)
                    assert isinstance(held, Measurement)
                    at.append(float(np.exp(np.mean([math.log(getattr(one, attribute)) for one in mine]))))
                    share.append(held.value)
                    spread.append(held.error)
            look: dict[str, Any] = {"color": colours[kind], "marker": "o", "markersize": 3}
            axes.errorbar(at, share, yerr=spread, label=KINDS[kind].words, **look)
        axes.axhline(EXPECTED[0], color=GREY, linewidth=0.8)
        axes.axvline(FEWEST, color=GREY, linewidth=0.8, linestyle="dotted")
        axes.set_xscale("log")
        label(axes, "intervals that hold the truth", words, "share within one σ")
    panels[0].legend(loc="lower right", fontsize=6)
    return figure


EXPERIMENT = Experiment(
    name="coverage",
    title="Whether error bars cover, and how often the verdict is wrong",
    source="Wolff, hep-lat/0306017; Owen, Monte Carlo theory, methods and examples, section 9.3",
    run=run,
    settings=CoverageSettings(),
    quick=CoverageSettings(
        repeats=3,
        chains=2,
        steps=(13, 26),
        thermalisation=2,
        draws=2000,
        judged=1,
        judged_steps=(25,),
        judged_chains=2,
        signed=1,
        jacobians=1,
    ),
)
"""One and three quarter hours in all, on a processor that had much other work."""
