"""The mutual information of two strips of Ising spins, from networks and from the transfer matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latflow.analysis import Measurement, effective_sample_size, free_energy, mutual_information
from latflow.densities.autoregressive import cut_weights, dense_spins
from latflow.estimators import reinforce_leave_one_out
from latflow.exact import ising_log_z, ising_mutual_information
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow.theories import Ising
from latflow.training import Anneal, Schedule, Trainer
from latflow.types import Lattice
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.results import Cell, Table, number

_COLOURS = (BLUE, ORANGE, GREEN, GREY)


@dataclass(frozen=True)
class CutSettings:
    """Networks at several couplings, and cuts of their lattice.

    Attributes:
        lattice: side lengths.
        couplings: K; a network is trained for each.
        rows: of the first part, one number for each cut.
        hidden: of the dense network.
        training: steps; in the first half of them K rises from its half.
        batch: draws of a gradient estimate.
        learning_rate: of Adam, at its peak.
        draws: of the whole lattice, for each cut.
        inner: draws of each part to one of the other.
    """

    lattice: Lattice
    couplings: tuple[float, ...]
    rows: tuple[int, ...]
    hidden: tuple[int, ...]
    training: int
    batch: int
    learning_rate: float
    draws: int
    inner: int


@dataclass(frozen=True)
class InformationSettings:
    """What is measured.

    Attributes:
        known: a lattice that the transfer matrix solves.
        larger: one that it does not.
        boundaries: sides of the square lattices whose exact information is shown per boundary site.
    """

    known: CutSettings
    larger: CutSettings
    boundaries: tuple[int, ...]


def run(bench: Bench, settings: InformationSettings) -> Findings:
    """I of every cut at every coupling, against its exact value where there is one."""
    rows, found = [], {}
    for cuts in (settings.known, settings.larger):
        for k in cuts.couplings:
            name = f"{_name(cuts.lattice)} K={k}"
            numbers = bench.part(name, lambda cuts=cuts, k=k, name=name: _measure(bench, cuts, k, name))
            log_z = Measurement(*numbers["log_z"])
            quality = [
                number(numbers["ess"], ".3f"),
                number(log_z.pull(ising_log_z(cuts.lattice, k)), "+.1f"),
            ]
            for first in cuts.rows:
                information = Measurement(*numbers["information"][str(first)])
                found[cuts.lattice, first, k] = information
                exact: list[Cell] = ["", ""]
                if cuts is settings.known:
                    value = ising_mutual_information(cuts.lattice, k, first)
                    exact = [number(value, ".5f"), number(information.pull(value), "+.1f")]
                cut = [_name(cuts.lattice), f"{first} + {cuts.lattice[0] - first}", number(k, "g")]
                rows.append([*cut, *quality, information, *exact])
    head = ["lattice", "rows", "K", "ESS", "pull of log Z", "I(A, B)", "exact", "pull"]
    known, larger = settings.known, settings.larger
    text = (
        f"The mutual information of two strips that together are the lattice. Dense networks on "
        f"{_name(known.lattice)} are trained at each K; {known.draws} draws with {known.inner} inner weights "
        "for each part estimate it, and the transfer matrix gives it exactly. Two boundaries carry it: away "
        "from the critical point it grows in proportion to their length, the area law, and in the ordered "
        "phase log 2 is added, for the sign that both strips share. On "
        f"{_name(larger.lattice)} ({larger.draws} draws, {larger.inner} inner weights) no exact value is at "
        "hand: the transfer matrix has too many states there, and what can be asked is whether the point "
        "continues those of smaller lattices. Log Z, which Kaufman's formula gives for both, shows whether a "
        "network has learnt all of the distribution: an ESS alone does not see what was left out."
    )
    return Findings(text, [Table("information", head, rows)], {"information": _figure(settings, found)})


def _measure(bench: Bench, cuts: CutSettings, k: float, name: str) -> dict[str, Any]:
    action, generator = Ising(cuts.lattice, beta=k), bench.generator(name)
    network = dense_spins(cuts.lattice, hidden=cuts.hidden, generator=generator)
    trainer = Trainer(
        network,
        action,
        reinforce_leave_one_out,
        steps=cuts.training,
        batch=cuts.batch,
        learning_rate=cuts.learning_rate,
        schedule=Schedule("cosine", warmup=max(1, cuts.training // 30), floor=0.01),
        clip=1.0,
        anneal=Anneal(start=0.5, steps=cuts.training // 2),
        generator=generator,
    )
    for _ in trainer:
        pass
    information, log_weights = {}, []
    for first in cuts.rows:
        options = {"n": cuts.draws, "inner": cuts.inner, "generator": generator}
        weights = cut_weights(network, action, first, **options)
        one = mutual_information(*weights)
        information[str(first)] = [one.value, one.error]
        log_weights.append(weights.log_weight)
    log_weight = np.concatenate(log_weights)
    f = free_energy(log_weight)
    return {
        "ess": effective_sample_size(log_weight),
        "log_z": [-f.value, f.error],
        "information": information,
    }


def _name(lattice: Lattice) -> str:
    return "×".join(map(str, lattice))


@styled
def _figure(settings: InformationSettings, found: dict[tuple[Lattice, int, float], Measurement]) -> Figure:
    figure = new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    known, larger = settings.known, settings.larger
    low, high = min(known.couplings), max(known.couplings)
    grid = np.linspace(max(low - 0.1, 0.0), high + 0.1, 61)
    for first, colour in zip(known.rows, _COLOURS, strict=False):
        curve = [ising_mutual_information(known.lattice, float(k), first) for k in grid]
        name = f"{first} + {known.lattice[0] - first} rows"
        left.plot(grid, curve, color=colour, label=f"{name}, exact")
        _points(
            left, {k: found[known.lattice, first, k] for k in known.couplings}, colour, f"{name}, network"
        )
    left.axhline(np.log(2), color=GREY, linewidth=0.8, linestyle=":")
    left.annotate("log 2", (grid[0], np.log(2)), (2, 2), textcoords="offset points", color=GREY, fontsize=8)
    label(left, f"Ising spins on {_name(known.lattice)}", r"$K$", r"$I(A, B)$")
    left.legend(loc="best")
    for side, colour in zip(settings.boundaries, _COLOURS, strict=False):
        curve = [ising_mutual_information((side, side), float(k), side // 2) / (2 * side) for k in grid]
        right.plot(grid, curve, color=colour, label=f"{side}×{side}, exact")
    length = 2 * larger.lattice[1]
    values = {k: found[larger.lattice, larger.rows[0], k] for k in larger.couplings}
    scaled = {k: Measurement(one.value / length, one.error / length) for k, one in values.items()}
    _points(right, scaled, INK, f"{_name(larger.lattice)}, network")
    label(right, "Halves, per site of the two boundaries", r"$K$", r"$I(A, B)\,/\,2L$")
    right.legend(loc="best")
    return figure


def _points(axes: Axes, values: dict[float, Measurement], colour: str, name: str) -> None:
    axes.errorbar(
        list(values),
        [one.value for one in values.values()],
        [one.error for one in values.values()],
        color=colour,
        marker="o",
        markerfacecolor="white",
        linestyle="none",
        label=name,
    )


EXPERIMENT = Experiment(
    name="ising-information",
    title="The mutual information of two strips of Ising spins",
    source="Białas, Korcyl, Stebel, Mutual information of spin systems from autoregressive neural networks, "
    "arXiv:2304.13412",
    run=run,
    settings=InformationSettings(
        known=CutSettings((8, 8), (0.3, 0.4, 0.44068679, 0.5), (4, 2), (4,), 400, 512, 1e-2, 4000, 16),
        larger=CutSettings((16, 16), (0.44068679,), (8,), (4,), 1200, 512, 5e-3, 2000, 32),
        boundaries=(4, 6, 8),
    ),
    quick=InformationSettings(
        known=CutSettings((4, 4), (0.3, 0.5), (2, 1), (2,), 10, 32, 1e-2, 40, 4),
        larger=CutSettings((4, 12), (0.4,), (2,), (2,), 10, 32, 1e-2, 40, 4),
        boundaries=(2, 4),
    ),
)
