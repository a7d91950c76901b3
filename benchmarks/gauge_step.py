"""Seconds for the loss and the backward pass of a training step of the Schwinger model.

    python benchmarks/gauge_step.py
    python benchmarks/gauge_step.py --device cuda --sides 8 12 16 20 24 --sites 98304

What tables 1 to 3 of Białas, Korcyl, Stebel, Training normalizing flows with computationally intensive target
probability distributions, measure: their flow of 48 gauge-equivariant layers, two flavours at β = 2,
κ = 0.276, REINFORCE against reparametrisation. `dense` is the same reparametrisation with the determinant of
the dense operator; `quenched` has no fermions at all, the limit in which the determinant costs nothing.
`nodes` counts the graph of the loss. Repeats are interleaved and the table holds medians.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Generator

from latflow.densities.flows import gauge_flow
from latflow.estimators import ESTIMATORS, Estimate
from latflow.theories import Action, Schwinger, U1Gauge, WilsonFermions
from latflow.types import Links, LogProb
from latflow.wilson import dense_log_abs_det
from measure import print_table, seconds

BETA, KAPPA = 2.0, 0.276
DENSE_UP_TO = 12
"""A dense operator of a larger side takes longer than the whole table."""


class DenseFermions(WilsonFermions):
    """The same fermions by the determinant of the dense operator."""

    def __call__(self, x: Links) -> LogProb:
        return -self.flavours * dense_log_abs_det(x, self.kappa, self.boundary)[0]


def nodes(loss: torch.Tensor) -> int:
    """The number of nodes in the graph of a loss."""
    found, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(found)


def losses(side: int, batch: int, device: torch.device) -> dict[str, Callable[[], Estimate]]:
    """The estimates that are measured, by name."""
    lattice = (side, side)
    flow, generator = gauge_flow(lattice).to(device), Generator(device).manual_seed(1)
    schwinger, quenched = Schwinger(lattice, BETA, KAPPA), U1Gauge(lattice, BETA)

    def estimate(name: str, action: Action) -> Callable[[], Estimate]:
        return lambda: ESTIMATORS[name](flow, action, batch, generator)

    found = {name: estimate(name, schwinger) for name in ("reinforce", "reparametrization", "path_gradient")}
    if side <= DENSE_UP_TO:
        found["reparametrization, dense"] = estimate(
            "reparametrization", quenched + DenseFermions(lattice, KAPPA)
        )
    found["reparametrization, quenched"] = estimate("reparametrization", quenched)
    return found


def print_side(side: int, batch: int, options: argparse.Namespace) -> None:
    """Prints the table of one lattice."""
    estimates = losses(side, batch, options.device)
    passes: dict[str, Callable[[], object]] = {}
    for name, estimate in estimates.items():
        passes[f"{name}, loss"] = estimate
        passes[f"{name}, whole"] = lambda estimate=estimate: estimate().loss.backward()
    taken = seconds(passes, options.repeats, options.device)
    reference = taken["reinforce, whole"]
    rows = []
    for name, estimate in estimates.items():
        loss, whole = taken[f"{name}, loss"], taken[f"{name}, whole"]
        numbers = [f"{number:.3f}" for number in (whole, loss, whole - loss)]
        rows.append([name, *numbers, f"{whole / reference:.2f}", str(nodes(estimate().loss))])
    header = [f"{side}², batch {batch}", "seconds", "loss", "backward", "/ reinforce", "nodes"]
    print_table(header, rows)


def main() -> None:
    """Reads the options and prints a table for each lattice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", default=[8, 12, 16, 24], type=int, nargs="+", help="multiples of 4")
    parser.add_argument("--sites", default=2048, type=int, help="sites in a batch, the same on every lattice")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--quick", action="store_true", help="two small lattices and one repeat")
    options = parser.parse_args()
    if options.quick:
        options.sides, options.repeats = [8, 12], 1
    torch.set_num_threads(options.threads)
    print(f"{options.device}, {options.threads} threads, float32", flush=True)
    for side in options.sides:
        print_side(side, max(1, options.sites // side**2), options)


if __name__ == "__main__":
    main()
