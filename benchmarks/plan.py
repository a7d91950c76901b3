"""Whether `latflow plan` is right: predicted steps and seconds beside those that runs then take.

    python benchmarks/plan.py --cases phi4-8 phi4-16 phi4-32 ising-32 u1-7
    python benchmarks/plan.py --cases phi4-16 --only hmc --error 0.005

For each case pilots are made and the best methods run, as `latflow plan --run` does, to the steps that were
predicted for the wished error, with other random numbers than the pilots. Of a run the error e that its own
analysis finds tells how many steps the wished one ε takes: (e/ε)² times those that it made. Seconds are those of
one thread, with tuning, thermalisation and writing to the disk, for a run of the predicted length.
"""

import argparse
import dataclasses
import math
import tempfile
import time
import warnings
from pathlib import Path

import torch

from latflow.analysis import Measurement
from latflow.config import load_config
from latflow.errors import UnreliableErrorWarning
from latflow.planning import Prediction, Row, asked, begin, plan
from latflow.workflow import judged
from measure import print_table

CASES = {
    "phi4-8": ("phi4-8x8", ["model=null"], None, 0.003),
    "phi4-16": ("phi4-critical-16", ["model=null"], "V_magnetization_squared", 0.01),
    "phi4-32": ("phi4-critical-32", ["model=null"], "V_magnetization_squared", 0.02),
    "ising-32": ("ising-32x32", ["model=null"], None, 0.005),
    "u1-7": ("u1", ["model=null", "action.beta=7.0"], "charge_squared", 0.02),
}
"""Of each the preset, changes, the observable, and the relative error."""


def rows(case: str, options: argparse.Namespace) -> list[list[str]]:
    """A row for each method that runs."""
    preset, changes, observable, error = CASES[case]
    config = load_config(preset, changes)
    question = asked(config, options.observable or observable, options.error or error)
    found = plan(config, question, minutes=options.budget, say=print, only=options.only or ())
    print(found.recommendation(), flush=True)
    for row in found.rows:
        print(f"  {row.title}: τ {row.tau}, cost {row.cost}, {'; '.join(row.doubts)}", flush=True)
    lines = []
    for row in [one for one in found.rows if one.sound][: options.best]:
        line = compared(case, found, row, dataclasses.replace(config, seed=config.seed + 1))
        print(" | ".join(line), flush=True)
        lines.append(line)
    return lines


def compared(case: str, found, row: Row, config) -> list[str]:
    """What was predicted of a method, and what its run took."""
    question = found.question
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        run = begin(Path(folder) / "run", config, found, row)
        run.train()
        run.sample()
        run.sample_beside()
        seconds = time.process_time() - before
        prediction = Prediction.of(question, row, found.methods[row.title])
        error = prediction.reached(judged(run), question.observable.name)
    needed = row.numbers
    assert needed is not None
    predicted = Measurement(needed.value / row.chains, needed.error / row.chains)
    took = row.steps * (error / question.error) ** 2
    ratio, of_time = took / predicted.value, seconds / row.cost.value
    return [
        case,
        row.title,
        f"{100 * question.error:g}%",
        f"{100 * error:.3g}%",
        str(predicted),
        f"{took:.0f}",
        f"{ratio:.2f}",
        str(row.cost),
        f"{seconds:.3g}",
        f"{of_time:.2f}",
        "yes" if _right(ratio, predicted) and _right(of_time, row.cost) else "NO",
    ]


def _right(ratio: float, predicted: Measurement) -> bool:
    """Within the error or a factor of 1.5."""
    return abs(math.log(ratio)) < math.log(1.5) or abs(ratio - 1) < predicted.error / predicted.value


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--only", nargs="+", help="samplers that may move chains")
    parser.add_argument("--observable")
    parser.add_argument("--error", type=float, help="relative")
    parser.add_argument("--best", default=3, type=int, help="how many of the cheapest methods run")
    parser.add_argument("--budget", default=2.0, type=float, help="minutes for the pilots of a case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnreliableErrorWarning)
    lines = [line for case in options.cases for line in rows(case, options)]
    header = ["case", "method", "wished", "reached", "steps predicted", "steps needed", "ratio"]
    print_table([*header, "seconds predicted", "seconds taken", "ratio", "right"], lines)


if __name__ == "__main__":
    main()
