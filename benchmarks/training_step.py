"""Seconds and peak memory of a training step, beside the bare network's own forward and backward pass.

    python benchmarks/training_step.py --sub-batch 0 256 128
    python benchmarks/training_step.py --device cuda

The flow is that of Białas, Korcyl, Stebel, Gradient estimators for normalising flows: 16 affine
couplings with networks 1-16-16-16-2. `bare network` is the limit: its 16 networks applied to one field of the
same batch, and the gradient of the sum of all outputs. A step is the estimator and its backward passes,
without the optimiser. Repeats are interleaved and the table holds medians; the memory is that of one step in
a process of its own, above what the process held before.
"""

import argparse
import subprocess
import sys
from collections import deque
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from latflow.densities.flows import ConvNet, Coupling, Flow, affine_flow
from latflow.densities.flows.recomputed import recomputed
from latflow.estimators import ESTIMATORS, Estimate, Estimator, ForwardKL
from latflow.planning.memory import peak_memory
from latflow.theories import Phi4
from measure import print_table, seconds

BARE = "bare network"
FORWARD_KL = "forward_kl"
OF_FLOWS = ("score", "reinforce", "reinforce_leave_one_out", "path_gradient", "forward_path")
AGAIN = ", recomputed"
"""Of steps that keep the activations of one layer at a time."""
RECOMPUTED = tuple(name + AGAIN for name in ("reparametrization", "reinforce", "path_gradient"))
STEPS = (BARE, "reparametrization", *OF_FLOWS, FORWARD_KL, *RECOMPUTED)


def bare_network(flow: Flow, field: Tensor, sub_batch: int) -> Callable[[], None]:
    """Forward and backward through the networks of the flow, and nothing else."""
    couplings = [module for module in flow.modules() if isinstance(module, Coupling)]
    networks = [coupling.network for coupling in couplings if isinstance(coupling.network, ConvNet)]

    def run() -> None:
        for piece in field[:, None].split(sub_batch):
            torch.stack([network(piece).sum() for network in networks]).sum().backward()

    return run


def training_step(
    flow: Flow, density: Flow, estimator: Estimator, batch: int, sub_batch: int
) -> Callable[[], None]:
    """An estimate of the gradient and its backward passes, of a density with the parameters of the flow."""
    action = Phi4(flow.lattice, m2=-4.0, lam=8.0)
    generator = Generator(flow.prior.like.device).manual_seed(1)

    def run() -> None:
        pieces = estimator.pieces(density, action, batch, generator, sub_batch)
        # in no variable of a loop, where what is left of a graph would live on beside the next one
        deque(map(backward, pieces), maxlen=0)

    return run


def backward(piece: Estimate) -> None:
    """Leave a part of the gradient in the parameters."""
    piece.loss.backward()


def passes(options: argparse.Namespace, sub_batch: int, batch: int) -> dict[str, Callable[[], None]]:
    """What is measured, by name."""
    flow = affine_flow((options.side, options.side)).to(options.device)
    field = torch.randn(batch, options.side, options.side, device=options.device)
    estimators = {**ESTIMATORS, FORWARD_KL: ForwardKL(field)}
    steps = {BARE: bare_network(flow, field, sub_batch)}
    for name in STEPS[1:]:
        density = recomputed(flow) if name.endswith(AGAIN) else flow
        estimator = estimators[name.removesuffix(AGAIN)]
        steps[name] = training_step(flow, density, estimator, batch, sub_batch)
    return steps


def memory_of(name: str, options: argparse.Namespace, sub_batch: int) -> str:
    """MiB that one step takes, measured by this script in a process of its own."""
    arguments = ["--only", name, "--sub-batch", str(sub_batch)]
    for option in ("side", "batch", "device", "threads"):
        arguments += [f"--{option}", str(getattr(options, option))]
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def print_memory(options: argparse.Namespace) -> None:
    """Prints the MiB of one step above what the process holds after a step with four configurations."""
    (sub_batch,) = options.sub_batch
    passes(options, 4, 4)[options.only]()
    step = passes(options, sub_batch or options.batch, options.batch)[options.only]
    before = peak_memory(options.device)
    step()
    print(f"{peak_memory(options.device) - before:.0f}")


def print_steps(options: argparse.Namespace, sub_batch: int) -> None:
    """Prints the table for one size of the sub-batches."""
    memory = {name: memory_of(name, options, sub_batch) for name in STEPS}
    steps = passes(options, sub_batch or options.batch, options.batch)
    taken = seconds(steps, options.repeats, options.device)
    rows = []
    for name in STEPS:
        ratios = (taken[name] / taken[BARE], taken[name] / taken["reparametrization"])
        rows.append([name, f"{taken[name]:.3f}", *(f"{ratio:.2f}" for ratio in ratios), memory[name]])
    pieces = f"sub-batch {sub_batch}" if sub_batch else "whole batch"
    print_table([f"{pieces}", "seconds", f"/ {BARE}", "/ reparametrization", "peak MiB"], rows)


def main() -> None:
    """Reads the options and prints a table for each sub-batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", default=16, type=int)
    parser.add_argument("--batch", default=1024, type=int)
    parser.add_argument("--sub-batch", default=[0, 256, 128], type=int, nargs="+", help="0: the whole batch")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--quick", action="store_true", help="a batch of 256 and one repeat")
    parser.add_argument("--only", choices=STEPS, help="print the memory of this step and nothing else")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.repeats, options.sub_batch = 256, 1, [0, 128]
    torch.set_num_threads(options.threads)
    if options.only:
        print_memory(options)
        return
    where = f"{options.device}, {options.threads} threads, float32"
    print(f"Lattice {options.side}², batch {options.batch}, {where}", flush=True)
    for sub_batch in options.sub_batch:
        print_steps(options, sub_batch)


if __name__ == "__main__":
    main()
