"""What an independent configuration of critical φ⁴ costs: by a multilevel density, clusters, and HMC.

    python benchmarks/multilevel.py --lattices 16 32
    python benchmarks/multilevel.py --lattices 64 --models runs/phi4-critical-64/checkpoints/best.safetensors

In two dimensions with λ = ½, at β where ξ = L/4, on one thread, with fields in float32 and sums in float64.
Ways to move the chains: proposals of a multilevel density, which is trained as the preset of the lattice
says where no checkpoint is given; clusters of the signs with a sweep of the heat bath; and HMC of three
lengths, compiled where there is a compiler, tuned to its acceptance. All start from chains that clusters have
thermalised, and their steps are interleaved in blocks.

The first table holds the milliseconds of the thread that a step of one chain takes (a median, without what
is recorded); τ of M, M² and the action by the Γ-method; and 2τ times the milliseconds, which an independent
number costs: "> …" is a τ of which the record holds less than fifty, and which may be longer. The second
holds the means, which must agree; the third the draws by themselves, and the processor seconds of training
with the number of independent M² of the cheapest other way that would have cost as much.
"""

import argparse
import math
import statistics
import time
from typing import Any

import torch
from torch import Generator, Tensor

from chains import begun, cells, histories, measured, trained
from latflow.densities import draws
from latflow.densities.files import load_density
from latflow.formulas import effective_sample_size
from latflow.observables import magnetization
from latflow.samplers import EmbeddedClusters, IndependenceMetropolis, Sampler, named, thermalise
from latflow.theories import HoppingPhi4
from measure import print_table

LAM = 0.5
BETAS = {8: 0.576, 16: 0.634, 32: 0.6614, 64: 0.6745, 128: 0.681}
"""Where ξ = L/4, by L."""

LENGTHS = (2.0, 4.0, 8.0)
"""Of HMC's trajectories. Pilots of a few τ choose wrongly among them, the records themselves do not."""

OBSERVED = ("M", "M²", "S")


def recorded(x: Tensor, action: HoppingPhi4) -> dict[str, Tensor]:
    """M, M² and S, in float64."""
    m = magnetization(x.double())
    return dict(zip(OBSERVED, (m, m * m, action(x)), strict=True))


def model_on(side: int, checkpoint: str | None, action: HoppingPhi4) -> tuple[Any, float]:
    """The density, and the processor seconds of its training; those of a checkpoint are not known."""
    if checkpoint is not None:
        return load_density(checkpoint, action=action), math.nan
    changes = [f"action.beta={action.beta}", f"action.lattice=[{side}, {side}]"]
    return trained(f"phi4-critical-{max(side, 16)}", changes)


def ways(action: HoppingPhi4, model: Any) -> dict[str, Sampler[Any, Any]]:
    """The samplers, by what moves the chains."""
    return {
        "model": IndependenceMetropolis(model, action),
        "clusters": EmbeddedClusters(action),
        **{f"HMC, length {t:g}": named.hmc(action, trajectory_length=t) for t in LENGTHS},
    }


def of_draws(model: Any, action: HoppingPhi4, n: int, generator: Generator) -> list[str]:
    """Milliseconds of a draw with its weight, effective sample size, and log Z of the weights."""
    taken, log_w = [], []
    for _ in range(10):
        begin = time.thread_time()
        log_w.append(draws(model, n // 10, action, generator).log_weight)
        taken.append((time.thread_time() - begin) * 10 / n)
    log_weight = torch.cat(log_w)
    highest = log_weight.max()
    w = (log_weight - highest).exp()
    error = float(w.std() / w.mean()) / math.sqrt(n)
    ess = float(effective_sample_size(w))
    log_z = float(highest + torch.log(w.mean()))
    return [f"{1000 * statistics.median(taken):.3g}", f"{ess:.4f}", f"{log_z:.4f} ± {error:.4f}"]


def on_lattice(side: int, options: argparse.Namespace, checkpoint: str | None) -> tuple[list[list[str]], ...]:
    """The rows of the three tables."""
    action = HoppingPhi4((side, side), BETAS[side], LAM)
    generator = Generator().manual_seed(options.seed)
    model, training = model_on(side, checkpoint, action)
    clusters = EmbeddedClusters(action)
    start = action.kind.start(action.lattice, options.chains, generator, torch.float32)
    start = clusters.field(thermalise(clusters, clusters.init(start), options.thermalisation, generator))
    settle = max(5, options.steps // 20)
    chains = {name: begun(one, start, settle, generator) for name, one in ways(action, model).items()}
    costs, means, cheapest = [], [], math.inf
    observe = lambda x: recorded(x, action)  # noqa: E731
    for name, (seconds, series) in histories(chains, options.steps, observe, generator).items():
        each = 1000 * seconds / options.chains
        found = [measured(one) for one in series]
        taus, prices = [cells(one, 1.0) for one in found], [cells(one, 2 * each) for one in found]
        costs.append([str(side), name, f"{each:.3g}", *taus, *prices])
        means.append([str(side), name, *map(str, found)])
        if name != "model":
            cheapest = min(cheapest, 2 * each * (found[1].tau_int or math.inf))
    even = "–" if math.isnan(training) else f"{1000 * training / cheapest:.3g}"
    spent = "–" if math.isnan(training) else f"{training:.0f}"
    drawn = [[str(side), *of_draws(model, action, options.draws, generator), spent, even]]
    return costs, means, drawn


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lattices", nargs="+", default=[16], type=int, choices=sorted(BETAS))
    parser.add_argument("--models", nargs="+", help="checkpoints of trained models, one for each lattice")
    parser.add_argument("--chains", default=64, type=int)
    parser.add_argument("--steps", default=1000, type=int, help="of each way, whole blocks of 20")
    parser.add_argument("--thermalisation", default=300, type=int)
    parser.add_argument("--draws", default=20_000, type=int)
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--quick", action="store_true", help="8² alone, and a fifth of the steps and draws")
    options = parser.parse_args()
    if options.quick:
        options.lattices, options.steps, options.draws = [8], options.steps // 5, options.draws // 5
    models = options.models or [None] * len(options.lattices)
    if len(models) != len(options.lattices):
        parser.error(f"expected {len(options.lattices)} models, one for each lattice, got {len(models)}")
    torch.set_num_threads(1)
    print(
        f"φ⁴, λ = {LAM}, β = {', '.join(f'{BETAS[L]:g} at L = {L}' for L in options.lattices)}; CPU, 1 thread"
    )
    print(f"{options.chains} chains in one batch, {options.steps} steps of each way, {options.draws} draws")
    tables = [
        on_lattice(*each) for each in zip(options.lattices, [options] * len(models), models, strict=True)
    ]
    costs, means, drawn = ([row for table in tables for row in table[i]] for i in range(3))
    taus, prices = (f"τ {name}" for name in OBSERVED), (f"2τ · ms, {name}" for name in OBSERVED)
    print_table(["L", "moved by", "ms a step and chain", *taus, *prices], costs)
    print_table(["L", "moved by", *OBSERVED], means)
    print_table(["L", "ms a draw", "ESS", "log Z", "training, s", "M² for as much"], drawn)


if __name__ == "__main__":
    main()
