"""Whether `latflow plan` is right: predicted steps and seconds beside those that runs then take.

    python benchmarks/plan.py
    python benchmarks/plan.py --cases ising-32 --error 0.001 --model runs/ising-32x32

For each case pilots are made and the best methods run, as `latflow plan --run` does, to the steps that were
predicted for the wished error, with other random numbers than the pilots, and then on to three times as many.
The error e of the long run tells how many steps the wished one ε takes: (e/ε)² times those that it made.
Seconds are those of one thread for a run of the predicted length, with tuning, thermalisation and writing to
the disk.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import torch

from latflow.analysis import Measurement
from latflow.config import RunConfig, load_config
from latflow.errors import UnreliableErrorWarning
from latflow.planning import Plan, Prediction, Row, asked, begin, plan, trained
from latflow.runs import Run
from latflow.workflow import judged
from measure import print_table

CASES = {
    "phi4-8": ("phi4-8x8", [], None, 0.003, ()),
    "phi4-16": ("phi4-critical-16", [], "V_magnetization_squared", 0.01, ()),
    "phi4-32": ("phi4-critical-32", [], "V_magnetization_squared", 0.02, ()),
    "phi4-32-hmc": ("phi4-critical-32", [], "V_magnetization_squared", 0.02, ("hmc",)),
    "ising-32": ("ising-32x32", [], None, 0.005, ()),
    "u1-7": ("u1", ["action.beta=7.0"], "charge_squared", 0.02, ()),
    "u1-7-hmc": ("u1", ["action.beta=7.0"], "charge_squared", 0.02, ("hmc",)),
}
"""Of each the preset, changes, the observable, the relative error, and the samplers that may move chains."""

tell = partial(print, file=sys.stderr, flush=True)
"""How far it is, which is no result."""

LONGER = 3
"""Times the predicted steps: of the run from which it is known what the error takes."""


def rows(case: str, options: argparse.Namespace) -> list[list[str]]:
    """A row for each method that runs."""
    preset, changes, observable, error, only = CASES[case]
    config = load_config(preset, [*changes, "model=null"])
    question = asked(config, observable, options.error or error)
    models = [trained(one, config) for one in options.model or ()]
    found = plan(config, question, models, minutes=options.budget, say=tell, only=only)
    for row in found.rows:
        short = "> " if row.lower else ""
        tell(f"  {row.title}: τ {short}{row.tau}, cost {short}{row.cost} {'; '.join(row.doubts)}")
    tell(found.recommendation())
    lines = []
    for row in [one for one in found.rows if one.sound][: options.best]:
        line = compared(case, found, row, config)
        tell(" | ".join(line))
        lines.append(line)
    return lines


def compared(case: str, found: Plan, row: Row, config: RunConfig) -> list[str]:
    """What was predicted of a method, and what its run took."""
    question = found.question
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        run = sampled(Path(folder) / "run", config, found, row)
        seconds = time.process_time() - before
        first = Prediction.of(question, row).reached(judged(run), question.observable.name)
        run = sampled(run.path, config, found, dataclasses.replace(row, steps=LONGER * row.steps))
        prediction = Prediction.of(question, row)
        error = prediction.reached(judged(run), question.observable.name)
    needed = row.numbers
    assert needed is not None
    predicted = Measurement(needed.value / row.chains, needed.error / row.chains)
    took = LONGER * row.steps * (error / question.error) ** 2
    ratio, of_time = took / predicted.value, seconds / row.cost.value
    return [
        case,
        row.title,
        f"{100 * question.error:g}%",
        f"{100 * first:.3g}%",
        str(predicted),
        f"{took:.0f}",
        f"{ratio:.2f}",
        str(row.cost),
        f"{seconds:.3g}",
        f"{of_time:.2f}",
        "yes" if _right(ratio, predicted) and _right(of_time, row.cost) else "NO",
    ]


def sampled(path: Path, config: RunConfig, found: Plan, row: Row) -> Run:
    """The run of a method, or the same made longer."""
    run = begin(path, config, found, row)
    run.train()
    run.sample()
    run.sample_beside()
    return run


def _right(ratio: float, predicted: Measurement) -> bool:
    """Within the error or a factor of 1.5."""
    return abs(math.log(ratio)) < math.log(1.5) or abs(ratio - 1) < predicted.error / predicted.value


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--model", nargs="+", help="runs whose trained models are tried")
    parser.add_argument("--error", type=float, help="that is wished, relative")
    parser.add_argument("--best", default=2, type=int, help="how many of the cheapest methods run")
    parser.add_argument("--budget", default=2.0, type=float, help="minutes for the pilots of a case")
    parser.add_argument("--quick", action="store_true", help="8² alone, and the cheapest method")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.best, options.budget = ["phi4-8"], 1, options.budget / 4
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnreliableErrorWarning)
    lines = [line for case in options.cases for line in rows(case, options)]
    header = ["case", "method", "wished", "reached", "steps predicted", "steps needed", "ratio"]
    print_table([*header, "seconds predicted", "seconds taken", "ratio", "right"], lines)


if __name__ == "__main__":
    main()
