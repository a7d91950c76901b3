"""What an independent M² and energy of critical Ising spins cost: by a model made of counts, and by clusters.

    python benchmarks/spin_chains.py
    python benchmarks/spin_chains.py --sides 16 32 --quick

For each lattice a multilevel density by tables is trained from nothing, by counting, as the presets
`ising-32x32` to `ising-128x128` do it. The first table holds the seconds of the thread that this took; of
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
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latflow import exact
from latflow.analysis import measure
from latflow.densities import draws
from latflow.errors import UnreliableErrorWarning
from latflow.estimators import counting
from latflow.measurement import Measurement
from latflow.multilevel import multilevel
from latflow.samplers import IndependenceMetropolis, Sampler, SwendsenWang, Wolff, thermalise
from latflow.theories import Ising
from latflow.training import Curriculum, Trainer
from measure import print_table

COUPLING = 0.44068679
TRAINING: dict[int, tuple[int, Curriculum | None]] = {
    8: (60, None),
    16: (360, None),
    32: (360, None),
    64: (285, Curriculum(((32, 32),), (60,))),
    128: (260, Curriculum(((32, 32), (64, 64)), (60, 60))),
}
"""Steps for each lattice, and the smaller ones that come first."""
BATCH = 512
BLOCK = 20
"""Steps between one sampler and the next."""
PARTS = 20
"""Of the draws, for the jackknife."""


def trained(side: int, seed: int) -> tuple[Any, Ising, float]:
    """A model from nothing, its theory, and the seconds of the thread that it took."""
    begin = time.thread_time()
    action = Ising((side, side), COUPLING)
    density = multilevel(action.lattice, action=action, conditional="tables")
    steps, curriculum = TRAINING[side]
    estimator, generator = counting(memory=0.5), Generator().manual_seed(seed)
    training = Trainer(
        density, action, estimator, steps=steps, batch=BATCH, generator=generator, curriculum=curriculum
    )
    for _ in training:
        pass
    return density, action, time.thread_time() - begin


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


def histories(
    chains: Mapping[str, tuple[Sampler[Any, Any], Any]], steps: int, generator: Generator
) -> dict[str, tuple[float, np.ndarray]]:
    """Of each sampler the median seconds of a step, and M² and energy (observable, step, chain)."""
    states = {name: state for name, (_, state) in chains.items()}
    taken: dict[str, list[float]] = {name: [] for name in chains}
    record: dict[str, list[Tensor]] = {name: [] for name in chains}
    for _ in range(steps // BLOCK):
        for name, (sampler, _) in chains.items():
            observed = 0.0

            def observe(x: Tensor) -> dict[str, Tensor]:
                nonlocal observed
                begin = time.thread_time()
                bonds = sum(x * x.roll(1, axis) for axis in (1, 2))
                values = {
                    "M²": x.flatten(1).mean(1).square(),
                    "energy": torch.as_tensor(bonds).flatten(1).mean(1),
                }
                observed += time.thread_time() - begin
                return values

            begin = time.thread_time()
            states[name], block = sampler.advance(states[name], BLOCK, observe, generator)
            taken[name].append((time.thread_time() - begin - observed) / BLOCK)
            record[name].append(torch.stack([block.series[key] for key in ("M²", "energy")]))
    return {name: (statistics.median(taken[name]), torch.cat(record[name], 1).numpy()) for name in chains}


def tau(series: np.ndarray) -> Measurement:
    """τ with its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableErrorWarning)
        found = measure(series)
    return Measurement(found.tau_int or 0.5, found.tau_int_error or 0.0)


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
    for name, (seconds, series) in histories(chains, options.steps, generator).items():
        each = 1e6 * seconds / options.chains
        found = [tau(one) for one in series]
        costs = [Measurement(2 * each * one.value, 2 * each * one.error) for one in found]
        rows.append([f"{action.lattice[0]}²", name, f"{each:.0f}", *map(str, (*found, *costs))])
    return rows


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", default=[16, 32, 64, 128], type=int, nargs="+", choices=list(TRAINING))
    parser.add_argument("--draws", default=20_480, type=int)
    parser.add_argument("--chains", default=32, type=int)
    parser.add_argument("--steps", default=400, type=int, help="of each sampler, whole blocks of 20")
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--quick", action="store_true", help="up to 32², a quarter of draws and steps")
    options = parser.parse_args()
    if options.quick:
        options.sides = [side for side in options.sides if side <= 32]
        options.draws, options.steps = options.draws // 4, options.steps // 4 // BLOCK * BLOCK
    torch.set_num_threads(1)
    print(f"CPU, 1 thread, float32, K = {COUPLING}; {options.draws} draws,")
    print(f"{options.chains} chains in one batch, {options.steps} steps of each sampler")
    weights, chains = [], []
    for side in options.sides:
        density, action, seconds = trained(side, options.seed)
        generator = Generator().manual_seed(options.seed + 1)
        weights.append(weights_row(density, action, seconds, options.draws, generator))
        chains += chain_rows(density, action, options, generator)
    header = ["lattice", "training, s", "ESS", "s²", "largest share", "µs a draw", "pull of log Z"]
    print_table(header, weights)
    costs = ("2τ · µs, M²", "2τ · µs, energy")
    print_table(["lattice", "moved by", "µs a step and chain", "τ M²", "τ energy", *costs], chains)


if __name__ == "__main__":
    main()
