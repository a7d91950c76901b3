"""Which estimator and which flow reach which effective sample size in which time: φ⁴ on 8², m² = −4, λ = 8.

    python benchmarks/demo_study.py --seconds 30
    python benchmarks/demo_study.py --quick
    python benchmarks/demo_study.py --match fourier --seconds 120

Every entry trains for the same time, on one thread measured in seconds of that thread, so that other work on
the machine hardly counts. The steps that fit are estimated beforehand, since the cosine schedule ends with
them. The table holds the ESS of fresh draws after a quarter, half and all of the steps; log Z = 9.29135(1).
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator

from latflow.densities import build_density
from latflow.densities.flows import Flow
from latflow.estimators import ESTIMATORS
from latflow.theories import Phi4
from latflow.training import Schedule, Trainer
from measure import print_table

ACTION = Phi4((8, 8), m2=-4.0, lam=8.0)
DRAWS = 8192
REST = (
    "Where nothing else is said: two spline couplings with the Fourier layer, the other defaults of "
    "`spline_flow`, path gradient, batch 256, learning rate 1e-2 (affine flows 1e-3, with Z₂ 2e-3)."
)


@dataclass(frozen=True)
class Entry:
    """A row of the table: a flow and how it is trained."""

    group: str
    label: str
    flow: dict[str, Any] = field(default_factory=dict)
    estimator: str = "path_gradient"
    batch: int = 256
    learning_rate: float = 1e-2
    quick: bool = False

    def build(self) -> Flow:
        """The flow with its initial weights."""
        options = {"type": "spline", "layers": 2} | self.flow
        return build_density(options, lattice=ACTION.lattice)

    def trainer(self, flow: Flow, steps: int) -> Trainer:
        """Adam with a warm-up and a cosine, in the way that was found to serve."""
        return Trainer(
            flow,
            ACTION,
            ESTIMATORS[self.estimator],
            steps=steps,
            batch=self.batch,
            generator=Generator().manual_seed(1),
            learning_rate=self.learning_rate,
            schedule=Schedule("cosine", warmup=min(30, max(1, steps // 5))),
            optimizer_options={"betas": (0.9, 0.99)},
            clip=10.0,
        )


PUBLISHED, AFFINE = (
    {"type": "affine", "layers": 16},
    {"type": "affine", "layers": 16, "z2": True, "final": "none"},
)
ENTRIES = [
    *(
        Entry("estimator", name, estimator=name, quick=name in ("reinforce", "path_gradient"))
        for name in ESTIMATORS
    ),
    Entry("flow", "affine as published, reinforce", PUBLISHED, "reinforce", learning_rate=1e-3),
    Entry("flow", "affine as published", PUBLISHED, learning_rate=1e-3, quick=True),
    Entry("flow", "affine, Z₂", AFFINE, learning_rate=2e-3),
    Entry("flow", "affine, Fourier", PUBLISHED | {"fourier": True}, learning_rate=1e-3),
    Entry("flow", "affine, Z₂, Fourier", AFFINE | {"fourier": True}, learning_rate=2e-3),
    Entry("flow", "spline ×4, no Fourier", {"layers": 4, "fourier": False}, quick=True),
    Entry("flow", "spline ×4, no Fourier, no Z₂", {"layers": 4, "fourier": False, "z2": False}),
    Entry("flow", "spline ×2, Fourier, no Z₂", {"z2": False}),
    Entry("flow", "spline ×2, Fourier, no site map", {"site_bins": 0}),
    Entry("flow", "spline ×4, Fourier", {"layers": 4}, quick=True),
    Entry("flow", "spline ×6, Fourier", {"layers": 6}),
    Entry("network", "kernel 3", {"kernel": (3, 1, 1)}),
    Entry("network", "kernel 7", {"kernel": (7, 1, 1)}, quick=True),
    Entry("network", "hidden 16", {"hidden": (16, 16)}),
    Entry("network", "hidden 64", {"hidden": (64, 64)}),
    Entry("network", "one hidden layer of 32", {"hidden": (32,), "kernel": (5, 1)}),
    Entry("network", "bins 4", {"bins": 4}),
    Entry("network", "bins 12", {"bins": 12}),
    Entry("training", "batch 128", batch=128),
    Entry("training", "batch 512", batch=512),
    Entry("training", "batch 1024", batch=1024, quick=True),
    Entry("training", "learning rate 3e-3", learning_rate=3e-3),
    Entry("training", "learning rate 2e-2", learning_rate=2e-2),
]


@torch.no_grad()
def evaluate(flow: Flow) -> tuple[float, float]:
    """ESS and F_q of fresh draws."""
    generator, log_weights = Generator().manual_seed(2), []
    for _ in range(DRAWS // 512):
        x, log_q = flow.sample(512, generator)
        log_weights.append(-ACTION(x) - log_q)
    log_weight = torch.cat(log_weights)
    shares = log_weight.softmax(0)
    return 1 / (DRAWS * shares.square().sum().item()), -log_weight.mean().item()


def clock() -> float:
    """Seconds of this thread, or of the wall when there are several threads."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def steps_within(entry: Entry, seconds: float) -> int:
    """How many steps fit, from the shortest of a few."""
    trainer, taken = entry.trainer(entry.build(), 6), []
    for _ in range(6):
        start = clock()
        next(trainer)
        taken.append(clock() - start)
    return max(4, int(seconds / min(taken)))


def row(entry: Entry, seconds: float) -> list[str]:
    """Trains one entry and says what came of it."""
    steps = steps_within(entry, seconds)
    flow = entry.build()
    size = sum(parameter.numel() for parameter in flow.parameters())
    trainer = entry.trainer(flow, steps)
    reached, f_q, taken = [], 0.0, 0.0
    for part in (steps // 4, steps // 2, steps):
        start = clock()
        while trainer.step < part:
            next(trainer)
        taken += clock() - start
        ess, f_q = evaluate(flow)
        reached.append(f"{ess:.3f}")
    print(f"{entry.group}, {entry.label}: ESS {reached[-1]}", file=sys.stderr, flush=True)
    numbers = [str(size), str(steps), f"{1e3 * taken / steps:.0f}", f"{taken:.0f}", *reached, f"{f_q:.4f}"]
    return [entry.group, entry.label, *numbers]


def main() -> None:
    """Reads the options and prints the table, sorted by ESS within each group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", default=30.0, type=float, help="of training, for each entry")
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--match", default="", help="only entries whose group or label holds this")
    parser.add_argument("--quick", action="store_true", help="a few entries, 15 seconds each")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 15.0
    torch.set_num_threads(options.threads)
    entries = [entry for entry in ENTRIES if entry.quick or not options.quick]
    entries = [entry for entry in entries if options.match in f"{entry.group} {entry.label}"]
    print(f"{options.threads} threads, float32, {options.seconds:.0f} s of training. {REST}", flush=True)
    header = ["", "entry", "parameters", "steps", "ms / step", "s", "ESS at ¼", "½", "end", "F_q"]
    rows = [row(entry, options.seconds) for entry in entries]
    order = list(dict.fromkeys(entry.group for entry in entries))
    rows.sort(key=lambda cells: (order.index(cells[0]), -float(cells[-2])))
    print_table(header, rows)


if __name__ == "__main__":
    main()
