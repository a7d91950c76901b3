"""What an independent M² and energy of critical Ising spins cost: by a model made of counts, and by clusters.

    python benchmarks/spin_chains.py
    python benchmarks/spin_chains.py --sides 16 32 --quick

For each lattice a multilevel density by tables is trained from nothing, by counting, as the presets
`ising-32x32` to `ising-128x128` say. The first table holds the processor seconds that this took; of
fresh draws the effective sample size with a jackknife error, s² = −ln(ESS)/V, the share of the largest
weight, microseconds for a draw with its weight, and how many errors log Z lies from Kaufman's solution. In
the second, chains of all samplers start from what the model's proposals have thermalised, and their steps are
interleaved: microseconds of the thread that a step of one chain takes (a median, without what is recorded),
τ of M² and of the energy by the Γ-method, and 2τ times the microseconds, which an independent number costs.
"""

import argparse
import math
import statistics
import time
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Generator, Tensor

from chains import cells, histories, measured, trained
from latflow import exact
from latflow.densities import draws
from latflow.measurement import Measurement
from latflow.samplers import IndependenceMetropolis, SwendsenWang, Wolff, thermalise
from latflow.theories import Ising
from measure import print_table

COUPLING = 0.44068679
PARTS = 20
"""Of the draws, for the jackknife."""


def recorded(x: Tensor) -> dict[str, Tensor]:
    """M² and the energy a site."""
    bonds = reduce(add, (x * x.roll(1, axis) for axis in (1, 2)))
    return {"M²": x.flatten(1).mean(1).square(), "energy": bonds.flatten(1).mean(1)}


def share_of_weights(w: Tensor) -> Measurement:
    """ESS as a fraction, with a jackknife error."""
    parts = w.view(PARTS, -1)
    first, second = parts.sum(1), parts.square().sum(1)
    n = len(w) - parts.shape[1]
    without = (first.sum() - first).square() / ((second.sum() - second) * n)
    error = math.sqrt((PARTS - 1) * float(without.var(correction=0)))
    return Measurement(float(w.sum().square() / (w.square().sum() * len(w))), error)


def weights_row(density: Any, action: Ising, training: float, number: int, generator: Generator) -> list[str]:
    """What fresh draws of a trained model say."""
    sides = action.lattice
    found, taken = [], []
    for _ in range(PARTS):
        begin = time.thread_time()
        found.append(draws(density, number // PARTS, action, generator).log_weight)
        taken.append((time.thread_time() - begin) / (number // PARTS))
    w = torch.exp(torch.cat(found) - exact.ising_log_z(sides, action.beta))
    ess = share_of_weights(w)
    pull = float((w.mean() - 1) / (w.std() / math.sqrt(len(w))))
    return [
        f"{sides[0]}²",
        f"{training:.0f}",
        str(ess),
        f"{-math.log(ess.value) / math.prod(sides):.2e}",
        f"{float(w.max() / w.sum()):.1e}",
        f"{1e6 * statistics.median(taken):.0f}",
        f"{pull:+.1f}",
    ]


def chain_rows(
    density: Any, action: Ising, options: argparse.Namespace, generator: Generator
) -> list[list[str]]:
    """A row for each sampler."""
    proposals = IndependenceMetropolis(density, action)
    start, _ = density.sample(options.chains, generator)
    state = thermalise(proposals, proposals.init(start), 50, generator)
    start = proposals.field(state)
    samplers = {"model": proposals, "Swendsen–Wang": SwendsenWang(action), "Wolff": Wolff(action)}
    chains = {name: (sampler, sampler.init(start)) for name, sampler in samplers.items()}
    rows = []
    for name, (seconds, series) in histories(chains, options.steps, recorded, generator).items():
        each = 1e6 * seconds / options.chains
        found = [measured(one) for one in series]
        numbers = [cells(one, factor) for factor in (1.0, 2 * each) for one in found]
        rows.append([f"{action.lattice[0]}²", name, f"{each:.0f}", *numbers])
    return rows


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--sides", default=[16, 32, 64, 128], type=int, nargs="+", choices=[8, 16, 32, 64, 128]
    )
    parser.add_argument("--draws", default=20_480, type=int)
    parser.add_argument("--chains", default=32, type=int)
    parser.add_argument("--steps", default=400, type=int, help="of each sampler, whole blocks of 20")
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--quick", action="store_true", help="up to 32², a quarter of draws and steps")
    options = parser.parse_args()
    if options.quick:
        options.sides = [side for side in options.sides if side <= 32]
        options.draws, options.steps = options.draws // 4, options.steps // 4
    torch.set_num_threads(1)
    print(f"CPU, 1 thread, float32, K = {COUPLING}; {options.draws} draws,")
    print(f"{options.chains} chains in one batch, {options.steps} steps of each sampler")
    weights, chains = [], []
    for side in options.sides:
        action = Ising((side, side), COUPLING)
        changes = [f"action.lattice=[{side}, {side}]", f"seed={options.seed}"]
        density, seconds = trained(f"ising-{max(side, 32)}x{max(side, 32)}", changes)
        generator = Generator().manual_seed(options.seed + 1)
        weights.append(weights_row(density, action, seconds, options.draws, generator))
        chains += chain_rows(density, action, options, generator)
    header = ["lattice", "training, s", "ESS", "s²", "largest share", "µs a draw", "pull of log Z"]
    print_table(header, weights)
    costs = ("2τ · µs, M²", "2τ · µs, energy")
    print_table(["lattice", "moved by", "µs a step and chain", "τ M²", "τ energy", *costs], chains)


if __name__ == "__main__":
    main()
