"""Trivializing flows of φ⁴: HMC through minimal flows, on larger lattices, and from coarse to fine."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from torch import Tensor

from latflow.analysis import Measurement
from latflow.figures import BLUE, GREEN, GREY, INK, ORANGE, label, new_figure, styled
from latflow_papers.bench import Bench, Experiment, Findings
from latflow_papers.magnetization import Row
from latflow_papers.results import Cell, Table, number
from latflow_papers.trivializing_study import SOURCE, Study, TrivializingSettings

PUBLISHED = {
    "L16 HMC": "77.9(1.5)",
    "L16 Gaussian k3": "56.9(1.8)",
    "L16 bigger volume": "63.6(2.2)",
    "L40 HMC": "570(21)",
    "L40 Gaussian k3": "420(16)",
    "L40 four": "269(17)",
    "L40 twice": "164.5(5.0)",
    "L80 HMC": "2518(130)",
    "L80 Gaussian k3": "1965(165)",
    "L80 four": "1146(182)",
    "L80 twice": "788(128)",
}
"""τ_M in the tables of the slides; that of the bigger volume names no lattice, its HMC is that of L = 16."""

HEAD = (
    "algorithm",
    "lattice",
    "β",
    "V⟨M²⟩",
    "acceptance",
    "forces",
    "τ_M",
    "slides",
    "HMC / this",
    "τ_M × forces",
    "τ_M [ms]",
)


def run(bench: Bench, settings: TrivializingSettings) -> Findings:
    """Train the flows, run the chains, and lay the autocorrelation times side by side."""
    study = Study(bench, settings)
    points = [study.point(side, beta) for side, beta in settings.points]
    sections = [
        ("points", points, "The minimal flow from normal numbers:"),
        (
            "volumes",
            study.larger_lattices(),
            "The network of the first lattice on larger ones, at the same β:",
        ),
        ("kernels", study.kernel_sizes(points[0]), "Larger kernels:"),
        ("coarse", study.from_coarser_theories(points[0]), "From coarser theories:"),
    ]
    tables = [
        Table(name, HEAD, [line for group in groups for line in _lines(group)], caption)
        for name, groups, caption in sections
        if groups
    ]
    rows = [row for _, groups, _ in sections for group in groups for row in group]
    figures = {
        "autocorrelation": _figure_of_tau(list({row.key: row for row in rows}.values())),
        "training": _figure_of_training(study.histories),
    }
    return Findings(_text(settings), tables, figures)


def _lines(group: Sequence[Row]) -> list[list[Cell]]:
    """The lines of rows on one lattice, the first of which is HMC."""
    return [
        [
            row.algorithm,
            "×".join(map(str, row.lattice)),
            number(row.beta, "g"),
            Measurement(row.found["m2"], row.found["m2_error"]),
            number(row.found["acceptance"], ".2f"),
            row.found["forces"],
            row.tau,
            Measurement.parse(PUBLISHED[row.key]) if row.key in PUBLISHED else "",
            "" if row is group[0] else row.reduction(group[0]),
            number(row.tau.value * row.found["forces"], ".0f"),
            row.in_milliseconds(row.tau),
        ]
        for row in group
    ]


def _text(settings: TrivializingSettings) -> str:
    through = round(settings.share * settings.chains)
    fewer = f", of {through} through flows" if through < settings.chains else ""
    return (
        f"HMC for φ⁴ with λ = {settings.lam} at ξ = L/4, leapfrog, trajectory length 1, the step size tuned "
        f"to an acceptance of {settings.acceptance}, and the same in the latent variables of minimal flows: "
        "one pair of affine couplings, s and t one convolution each, a few dozen numbers, trained for "
        f"{settings.steps} steps of {settings.batch} draws. τ_M = ½ + Σρ is that of M in trajectories, times "
        "the force evaluations of a trajectory, and in milliseconds of one processor core for one of "
        f"{settings.chains} chains that run at once{fewer}. The product with the milliseconds decides: a "
        "force through the flow costs its forward and backward pass. The chains of the coarse theory in a "
        "prior make two trajectories of Fourier-accelerated HMC between two draws."
    )


@styled
def _figure_of_tau(rows: Sequence[Row]) -> Figure:
    figure = new_figure(7.0, 0.8 + 0.24 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = ORANGE if row.key.endswith("HMC") else BLUE
        axes.errorbar(row.tau.value, -place, xerr=row.tau.error, color=colour, marker="o", linestyle="none")
        if row.key in PUBLISHED:
            slides = Measurement.parse(PUBLISHED[row.key])
            axes.errorbar(
                slides.value, -place - 0.25, xerr=slides.error, color=GREY, marker="s", linestyle="none"
            )
    names = [f"{row.algorithm}, {'×'.join(map(str, row.lattice))}" for row in rows]
    axes.set_yticks([-place for place in range(len(rows))], names)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    label(axes, "Autocorrelation of M; grey: the slides", r"$\tau_M$ [trajectories]", "")
    return figure


@styled
def _figure_of_training(histories: dict[str, dict[str, Tensor]]) -> Figure:
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    colours = (BLUE, ORANGE, GREEN, INK, GREY)
    for place, (name, history) in enumerate(histories.items()):
        look: dict[str, Any] = {
            "color": colours[place % len(colours)],
            "linestyle": ("-", "--", ":")[place // len(colours) % 3],
            "linewidth": 0.9,
            "label": name,
        }
        steps, spread = history["step"].numpy(), history["std"].numpy()
        left.plot(steps, spread, **look)
        right.plot(steps, [math.erfc(sigma / 2) for sigma in spread], **look)
    for axes in (left, right):
        axes.set_yscale("log")
    right.set_ylim(1e-8, 2)  # some start, and some stay, far below
    label(left, "Training", "step", "standard deviation of the log-weights")
    label(right, "Acceptance of independent proposals", "step", r"erfc($\sigma/2$)")
    right.legend(loc="lower right", fontsize=6)
    return figure


TRIVIALIZING = Experiment(
    name="trivializing",
    title="Trivializing flows of φ⁴ with minimal networks",
    source=SOURCE,
    run=run,
    settings=TrivializingSettings(),
    quick=TrivializingSettings(
        points=((8, 0.576),),
        kernels=(3, 5),
        volumes=((1, 2),),
        coarse=((2, 0.4), (4, 0.46)),
        chains=4,
        trajectories=10,
        steps=3,
        batch=4,
        rounds=2,
        compiled=False,
    ),
)


def _coarse_to_fine(fine: tuple[int, float], *coarse: tuple[int, float], **effort: Any) -> Experiment:
    """HMC, and flows over normal numbers and over two coarser theories, on one lattice."""
    sides = " to ".join(str(side) for side, _ in (*coarse, fine))
    return Experiment(
        name=f"trivializing-{fine[0]}",
        title=f"Trivializing flows of φ⁴ from L = {sides}",
        source=SOURCE,
        run=run,
        settings=TrivializingSettings(
            points=(fine,),
            kernels=(3,),
            volumes=(),
            coarse=coarse,
            from_coarse=("four", "twice"),
            share=0.25,
            **effort,
        ),
        quick=TrivializingSettings(
            points=((4, 0.46),),
            kernels=(3,),
            volumes=(),
            coarse=(),
            share=0.5,
            rounds=2,
            chains=4,
            trajectories=10,
            steps=3,
            batch=4,
            compiled=False,
        ),
    )


L40 = _coarse_to_fine((40, 0.667), (10, 0.601), (20, 0.645))
L80 = _coarse_to_fine((80, 0.677), (20, 0.645), (40, 0.667), chains=128, trajectories=40)
"""Hours on one core, each."""
