"""HMC beside blackjax, which runs on JAX, on the CPU.

    pip install blackjax
    python benchmarks/hmc.py --threads 2

φ⁴ in float32, trajectories of ten leapfrog steps; momenta drawn, ends accepted or rejected, and the
magnetisation recorded after every trajectory, within the timed loop on both sides. blackjax runs its own
`hmc` kernel over all chains (`vmap`), many trajectories in one compiled loop (`scan`), with the force that
JAX derives from the action; latflow runs `HMC` as users do, by `samplers.run`, as it is and with
`compiled=True`. Repeats are interleaved in one process, and the table holds medians of site updates a second.
`--parts` tells instead what a trajectory of latflow consists of. Without blackjax its columns stay empty.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from latflow.samplers import HMC, run
from latflow.theories import Phi4
from measure import print_table

M2, LAM = -4.0, 8.0
STEP_SIZE, N_STEPS = 0.05, 10


def seconds(passes: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each pass, the repeats of all passes interleaved.

    On one thread they are those of all threads of the process, since JAX works in threads of its own, so that
    other work on the machine does not count; else those of the wall.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(repeats + 1):
        for name, make in passes.items():
            start = clock()
            make()
            if number:  # the first pass compiles
                taken[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def trajectories(side: int, n_chains: int) -> int:
    """How many trajectories make one timing, of some four million site updates."""
    return max(1, min(100, 4_000_000 // (N_STEPS * n_chains * side**2)))


def sampler(side: int, *, compiled: bool) -> HMC:
    """HMC of latflow."""
    return HMC(Phi4((side, side), M2, LAM), STEP_SIZE, N_STEPS, compiled=compiled)


def magnetisation(x: Tensor) -> dict[str, Tensor]:
    """What is recorded."""
    return {"magnetisation": x.flatten(1).mean(1)}


def ours(side: int, n_chains: int, *, compiled: bool) -> Callable[[], object]:
    """A stretch of the history of all chains, by latflow."""
    hmc, generator = sampler(side, compiled=compiled), Generator().manual_seed(0)
    held = [hmc.init(0.1 * torch.randn(n_chains, side, side, generator=generator))]
    n = trajectories(side, n_chains)

    def stretch() -> None:
        held[0] = run(hmc, held[0], n, magnetisation, generator).state

    return stretch


def steps(side: int, n_chains: int) -> Callable[[], object]:
    """The same stretch by compiled steps one by one, and nothing recorded."""
    hmc, generator = sampler(side, compiled=True), Generator().manual_seed(0)
    held = [hmc.init(0.1 * torch.randn(n_chains, side, side, generator=generator))]

    def stretch() -> None:
        for _ in range(trajectories(side, n_chains)):
            held[0], _ = hmc.step(held[0], generator)

    return stretch


def blackjax_run(side: int, n_chains: int) -> Callable[[], object]:
    """The same stretch by blackjax."""
    import blackjax  # pyright: ignore[reportMissingImports]
    import jax  # pyright: ignore[reportMissingImports]
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

    def log_density(x: Any) -> Any:
        x = x.reshape(side, side)
        ahead = jnp.roll(x, -1, 0) + jnp.roll(x, -1, 1)
        return -jnp.sum(x * x * (4 + M2 + LAM * x * x) - 2 * x * ahead)

    kernel = blackjax.hmc(log_density, STEP_SIZE, jnp.ones(side**2), N_STEPS)
    n = trajectories(side, n_chains)

    @jax.jit
    def stretch(key: Any, state: Any) -> tuple[Any, Any]:
        def step(carry: Any, _: None) -> tuple[Any, Any]:
            key, state = carry
            key, own = jax.random.split(key)
            state, info = jax.vmap(kernel.step)(jax.random.split(own, n_chains), state)
            return (key, state), (state.position.mean(1), info.is_accepted)

        return jax.lax.scan(step, (key, state), None, length=n)

    start = 0.1 * jax.random.normal(jax.random.key(1), (n_chains, side**2))
    held = [(jax.random.key(0), jax.vmap(kernel.init)(start))]

    def run() -> None:
        held[0], recorded = stretch(*held[0])
        jax.block_until_ready((held[0], recorded))

    return run


def rows(options: argparse.Namespace) -> list[list[str]]:
    """Millions of site updates a second, for lattices and numbers of chains."""
    found = []
    for side in (16,) if options.quick else (16, 64):
        for n_chains in (1, 64, 1024):
            ways: dict[str, Callable[[], object]] = {
                "eager": ours(side, n_chains, compiled=False),
                "compiled": ours(side, n_chains, compiled=True),
            }
            if options.blackjax:
                ways["blackjax"] = blackjax_run(side, n_chains)
            taken = seconds(ways, options.repeats)
            updates = N_STEPS * n_chains * side**2 * trajectories(side, n_chains) / 1e6
            line = [f"{updates / taken[name]:.0f}" for name in ways]
            ratio = f"{taken['blackjax'] / taken['compiled']:.2f}" if options.blackjax else ""
            found.append([f"{side}², {n_chains} chains", *line, *[""] * (3 - len(line)), ratio])
    return found


def parts(options: argparse.Namespace) -> list[list[str]]:
    """Microseconds of what a compiled trajectory consists of."""
    found = []
    for side in (16,) if options.quick else (16, 64):
        for n_chains in (1, 64, 1024):
            generator = Generator().manual_seed(0)
            shape = (n_chains, side, side)
            n = trajectories(side, n_chains)

            def normal(shape: tuple[int, ...] = shape, n: int = n, source: Generator = generator) -> None:
                for _ in range(n):
                    torch.randn(shape, generator=source)

            ways = {"run": ours(side, n_chains, compiled=True), "step": steps(side, n_chains)}
            ways["normal"] = normal
            taken = {name: 1e6 * value / n for name, value in seconds(ways, options.repeats).items()}
            found.append([f"{side}², {n_chains} chains", *(f"{taken[name]:.0f}" for name in ways)])
    return found


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", default=os.cpu_count() or 1, type=int)
    parser.add_argument("--repeats", default=15, type=int)
    parser.add_argument("--quick", action="store_true", help="16² alone, five repeats")
    parser.add_argument("--parts", action="store_true", help="the parts of a trajectory of latflow")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 5
    if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    options.blackjax = importlib.util.find_spec("blackjax") is not None
    print(f"CPU, {options.threads} threads, float32; leapfrog, {N_STEPS} steps a trajectory")
    if options.parts:
        print_table(["µs a trajectory", "run", "step", "normal numbers of it"], parts(options))
        return
    if not options.blackjax:
        print("blackjax is not installed: `pip install blackjax` fills its columns")
    header = ["10⁶ site updates / s", "eager", "compiled", "blackjax", "compiled / blackjax"]
    print_table(header, rows(options))


if __name__ == "__main__":
    main()
