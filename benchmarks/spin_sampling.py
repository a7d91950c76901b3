"""Drawing spins: sites a second against the lattice, and beside one pass of the network for every site.

    python benchmarks/spin_sampling.py --threads 1
    python benchmarks/spin_sampling.py --quick

The naive way draws each spin after a parallel pass over all of its block, and keeps nothing. Its passes all
cost the same: a few are timed and multiplied by their number, the others are not run. The exponents are fits
of log(seconds for a configuration) against log V over the lattices of a table. Repeats are interleaved, the
tables hold medians. A last table holds the cluster and the single-spin samplers.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.densities.autoregressive import (
    Level,
    SpinNetwork,
    convolutional_spins,
    dense_spins,
    hierarchical_spins,
)
from latflow.samplers import Sampler, SingleSpin, SwendsenWang, Wolff
from latflow.theories import Ising
from measure import print_table, seconds

COUPLING = 0.44068679
NETWORKS: dict[str, Callable[[Sequence[int]], SpinNetwork]] = {
    "dense": dense_spins,
    "convolutional": convolutional_spins,
    "hierarchical": hierarchical_spins,
}
PASSES = 4


def a_spin_by_a_pass(level: Level, batch: int, like: Tensor) -> Callable[[], Tensor]:
    """A parallel pass over all blocks of a level, and one spin of each drawn from its logits."""
    spins, blocks = level.blocks.shape
    context = like.new_ones(level.contexts.shape[0], blocks * batch)
    drawn = like.new_ones(spins, blocks * batch)
    uniform = torch.rand(blocks * batch, dtype=torch.float64, device=like.device)

    @torch.no_grad()
    def run() -> Tensor:
        logits = level.conditional.logits(context, drawn)
        drawn[-1] = torch.where(uniform < torch.sigmoid(logits[-1].double()), 1.0, -1.0)
        return drawn

    return run


def naive_seconds(network: SpinNetwork, batch: int, repeats: int, device: torch.device) -> float:
    """Seconds for a batch when every spin of every block takes a pass."""
    levels = [level for level in network.levels if isinstance(level, Level)]
    passes = {
        str(number): a_spin_by_a_pass(level, batch, network.like) for number, level in enumerate(levels)
    }
    taken = seconds(passes, min(repeats, PASSES), device)
    return sum(taken[str(number)] * level.blocks.shape[0] for number, level in enumerate(levels))


def exponent(sites: Sequence[int], taken: Sequence[float]) -> float:
    """The p of seconds ∝ V^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sites), np.log(taken), 1)[0])


def network_table(name: str, sides: Sequence[int], options: argparse.Namespace) -> None:
    """Sites a second of one kind of network on all lattices, and the two exponents."""
    rows, sites, cached, naive = [], [], [], []
    for side in sides:
        network = NETWORKS[name]((side, side)).to(options.device)
        generator = Generator(options.device).manual_seed(0)
        draws = {"draw": lambda q=network, g=generator: q.sample(options.batch, g)}
        sites.append(side**2)
        cached.append(seconds(draws, options.repeats, options.device)["draw"])
        naive.append(naive_seconds(network, options.batch, options.repeats, options.device))
        rates = (options.batch * side**2 / taken for taken in (cached[-1], naive[-1]))
        rows.append([f"{side}²", *(f"{rate:.3g}" for rate in rates), f"{naive[-1] / cached[-1]:.1f}"])
    fits = (f"V^{exponent(sites, taken):.2f}" for taken in (cached, naive))
    rows.append(["seconds a configuration", *fits, ""])
    print_table([f"{name}, sites / s", "each feature once", "a pass a spin", "ratio"], rows)


def sampler_rows(sides: Sequence[int], options: argparse.Namespace) -> list[list[str]]:
    """Sites a second of the Markov chains: every step of each visits or could visit all sites."""
    rows = []
    for side in sides:
        action = Ising((side, side), COUPLING)
        samplers: list[Sampler] = [
            SingleSpin(action, "metropolis"),
            SingleSpin(action, "heat_bath"),
            SwendsenWang(action),
            Wolff(action),
        ]
        steps = {}
        for number, sampler in enumerate(samplers):
            generator = Generator(options.device).manual_seed(0)
            state = sampler.init(torch.ones(options.batch, side, side, device=options.device))
            for _ in range(10):
                state, _ = sampler.step(state, generator)
            steps[str(number)] = lambda sampler=sampler, s=state, g=generator: sampler.step(s, g)
        taken = seconds(steps, options.repeats, options.device)
        rows.append([f"{side}²", *(f"{options.batch * side**2 / value:.3g}" for value in taken.values())])
    return rows


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--batch", default=128, type=int)
    parser.add_argument("--repeats", default=5, type=int)
    parser.add_argument("--sides", default=[4, 8, 16, 32], type=int, nargs="+")
    parser.add_argument("--quick", action="store_true", help="three repeats, lattices up to 16²")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.sides = 3, [side for side in options.sides if side <= 16]
    torch.set_num_threads(options.threads)
    print(f"{options.device}, {options.threads} threads, float32, batches of {options.batch}, K = {COUPLING}")
    for name in NETWORKS:
        network_table(name, options.sides, options)
    header = ["chains at K_c, sites / s", "Metropolis", "heat bath", "Swendsen–Wang", "Wolff"]
    print_table(header, sampler_rows(options.sides, options))


if __name__ == "__main__":
    main()
