"""Where the time of the demo's training step goes: `spline_flow((8, 8), layers=2)`, path gradient.

    python benchmarks/demo_step.py --batch 256 512 --threads 1 2

Each part is timed alone, forward and backward with the gradients that the step asks of it, interleaved with
the whole step. The step passes the flow three times (draws, score, gradient of the loss), so the parts,
counted once, add up to less than the step.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from latflow.densities.flows import Compose, Coupling, Flow, spline_flow
from latflow.estimators import path_gradient
from latflow.theories import Phi4
from measure import print_table, seconds

ACTION = Phi4((8, 8), m2=-4.0, lam=8.0)


def derivatives(
    function: Callable[[Tensor], Sequence[Tensor]], flow: Flow, x: Tensor
) -> Callable[[], object]:
    """Forward and backward to the argument and to all parameters of the flow that the function uses."""
    leaves = [x.detach().requires_grad_(), *flow.parameters()]

    def run() -> object:
        outputs = function(leaves[0])
        total = torch.stack([y.sum() for y in outputs]).sum()
        return torch.autograd.grad(total, leaves, allow_unused=True)

    return run


def parts(flow: Flow, batch: int) -> dict[str, Callable[[], object]]:
    """The whole step and its parts, by name."""
    assert isinstance(flow.bijection, Compose)
    generator = Generator().manual_seed(0)
    x = flow.prior.sample(batch, generator)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        path_gradient(flow, ACTION, batch, generator).loss.backward()
        optimizer.step()

    found: dict[str, Callable[[], object]] = {"whole step": step}
    for number, module in enumerate(flow.bijection.bijections):
        name = f"{number} {type(module).__name__}"
        if isinstance(module, Coupling):
            active, frozen = (sites.detach() for sites in module.sites.split(x))
            parameters = module.parameters_from(frozen, ACTION.lattice).detach()
            found[f"{name}: network"] = derivatives(
                lambda sites, module=module: [module.parameters_from(sites, ACTION.lattice)], flow, frozen
            )
            found[f"{name}: scalar map"] = derivatives(
                lambda p, module=module, active=active: module.scalar_map.forward(active, p), flow, parameters
            )
        else:
            found[name] = derivatives(module.forward, flow, x)
    return found | {"force of the action": lambda: ACTION.force(x), "optimiser": optimizer.step}


def main() -> None:
    """Reads the options and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", default=[256, 512], type=int, nargs="+")
    parser.add_argument("--threads", default=[1, 2], type=int, nargs="+")
    parser.add_argument("--repeats", default=15, type=int)
    parser.add_argument("--quick", action="store_true", help="three repeats")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 3
    print("cpu, float32; milliseconds")
    columns, header = [], ["part"]
    for threads in options.threads:
        for batch in options.batch:
            torch.set_num_threads(threads)
            taken = seconds(parts(spline_flow((8, 8), layers=2), batch), options.repeats, torch.device("cpu"))
            columns.append(taken)
            header.append(f"batch {batch}, {threads} threads")
    rows = [[name, *(f"{1e3 * column[name]:.2f}" for column in columns)] for name in columns[0]]
    print_table(header, rows)


if __name__ == "__main__":
    main()
