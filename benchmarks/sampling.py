"""The samplers beside the arithmetic that they cannot do without.

    python benchmarks/sampling.py --threads 1

Three tables: the accept/reject scan of a million log-weights; HMC beside a leapfrog written out by hand, and
beside the limit of any leapfrog with fields in memory, its two updates with a force that costs nothing;
independence Metropolis beside the draws and actions of its proposals. Repeats are interleaved, the tables
hold medians.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from latflow.densities.flows import affine_flow
from latflow.samplers import HMC, IndependenceMetropolis, metropolis_scan
from latflow.theories import Phi4
from measure import print_table, seconds

M2, LAM = -4.0, 8.0
STEP_SIZE, N_STEPS = 0.05, 10


def scan(n_chains: int, device: torch.device) -> Callable[[], Tensor]:
    """The scan of a million log-weights of the spread that a flow of ESS 0.1 has."""
    generator = Generator(device).manual_seed(0)
    shape = (1_000_000 // n_chains, n_chains)
    log_weight = 1.5 * torch.randn(shape, generator=generator, device=device)
    log_uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=device).log()
    return lambda: metropolis_scan(log_weight, log_uniform, log_weight[0])


def trajectory(side: int, n_chains: int, device: torch.device) -> Callable[[], object]:
    """One step of `HMC`."""
    sampler = HMC(Phi4((side, side), M2, LAM), STEP_SIZE, N_STEPS)
    generator = Generator(device).manual_seed(0)
    state = sampler.init(0.1 * torch.randn(n_chains, side, side, generator=generator, device=device))
    return lambda: sampler.step(state, generator)


def by_hand(side: int, n_chains: int, device: torch.device) -> Callable[[], Tensor]:
    """The same trajectory with the force written out, without randomness, actions, and acceptance."""
    x0 = 0.1 * torch.randn(n_chains, side, side, device=device)
    p0 = torch.randn_like(x0)

    def force(x: Tensor) -> Tensor:
        neighbours = x.roll(1, 1) + x.roll(-1, 1) + x.roll(1, 2) + x.roll(-1, 2)
        return 2 * neighbours - x * (8 + 2 * M2 + 4 * LAM * x * x)

    def run() -> Tensor:
        x, p = x0, p0 + 0.5 * STEP_SIZE * force(x0)
        for step in range(N_STEPS):
            x = x + STEP_SIZE * p
            p = p + STEP_SIZE * (1.0 if step < N_STEPS - 1 else 0.5) * force(x)
        return x

    return run


def updates_only(side: int, n_chains: int, device: torch.device) -> Callable[[], None]:
    """The updates of a leapfrog in place, with −x for the force: two reads and a write each."""
    x = torch.randn(n_chains, side, side, device=device)
    p = torch.randn_like(x)

    def run() -> None:
        for _ in range(N_STEPS):
            x.add_(p, alpha=STEP_SIZE)
            p.add_(x, alpha=-STEP_SIZE)

    return run


def hmc_rows(options: argparse.Namespace) -> list[list[str]]:
    """Millions of site updates a second, for lattices and numbers of chains."""
    rows = []
    for side in (16, 64):
        for n_chains in (1, 64, 1024):
            made = (build(side, n_chains, options.device) for build in (trajectory, by_hand, updates_only))
            ways: dict[str, Callable[[], object]] = dict(zip(("hmc", "hand", "bare"), made, strict=True))
            taken = seconds(ways, options.repeats, options.device)
            rates = [N_STEPS * n_chains * side**2 / taken[name] / 1e6 for name in ways]
            ratios = [taken["hmc"] / taken[name] for name in ("hand", "bare")]
            label = f"{side}², {n_chains} chains"
            rows.append([label, *(f"{rate:.2f}" for rate in rates), *(f"{ratio:.2f}" for ratio in ratios)])
    return rows


def independence_row(options: argparse.Namespace) -> list[str]:
    """Proposals a second of a chain that records M, and of the draws alone."""
    action, n = Phi4((8, 8), M2, LAM), 4096
    flow = affine_flow((8, 8), layers=8).to(options.device)
    sampler = IndependenceMetropolis(flow, action, batch=512)
    generator = Generator(options.device).manual_seed(0)
    state = sampler.init_from_draws(1, generator)

    @torch.no_grad()
    def draws() -> None:
        for _ in range(n // 512):
            action(flow.sample(512, generator)[0])

    def chain() -> None:
        sampler.advance(state, n, lambda x: {"m": x.flatten(1).mean(1)}, generator)

    taken = seconds({"chain": chain, "draws": draws}, options.repeats, options.device)
    rates = (f"{n / taken[name]:.0f}" for name in ("chain", "draws"))
    return ["8², 8 affine couplings", *rates, f"{taken['chain'] / taken['draws']:.2f}"]


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=9, type=int)
    parser.add_argument("--quick", action="store_true", help="three repeats")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 3
    torch.set_num_threads(options.threads)
    print(f"{options.device}, {options.threads} threads, float32; HMC: leapfrog, {N_STEPS} steps at a time")
    scans = {str(n_chains): scan(n_chains, options.device) for n_chains in (1, 8, 64, 1000)}
    taken = seconds(scans, options.repeats, options.device)
    rows = [[name, f"{value:.3f}"] for name, value in taken.items()]
    print_table(["chains", "seconds to scan 10⁶ log-weights"], rows)
    header = ["HMC, 10⁶ site updates / s", "ours", "by hand", "updates only", "time / hand", "time / updates"]
    print_table(header, hmc_rows(options))
    header = ["independence Metropolis", "proposals / s", "draws and actions only", "time / draws"]
    print_table(header, [independence_row(options)])


if __name__ == "__main__":
    main()
