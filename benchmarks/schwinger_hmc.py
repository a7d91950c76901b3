"""What an independent configuration of the Schwinger model costs, by HMC and what can be put beside it.

    python benchmarks/schwinger_hmc.py --lattice 16 16 --lengths 1 2
    python benchmarks/schwinger_hmc.py --model runs/schwinger-8x8/checkpoints/best.safetensors

Two flavours, on one thread, at β = 2 and κ = 0.276 if nothing else is said. Ways to move the chains: HMC,
HMC on two time scales (four steps of the gauge force to one of the fermions'), and with either, in turn,
hops between topological sectors and shifts of the holonomies. The chains of a way start from those that hops
have thermalised, HMC is tuned to an acceptance, and a record follows, the steps of all ways interleaved. The
table holds the milliseconds of the thread that a step of one chain takes (a median, without what is
recorded); τ of condensate, topological charge, sign of det D and Polyakov loop by the Γ-method; and 2τ times
the milliseconds, which an independent number costs. "–" is a number that no chain ever changed, "> …" a τ of
which the record holds less than fifty, and which may be longer. With a trained model, its proposals are a
way to move the chains too.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from chains import begun, cells, histories, measured
from latflow.densities.files import load_density
from latflow.observables import polyakov_loop, topological_charge
from latflow.samplers import (
    Cycle,
    HolonomyShift,
    IndependenceMetropolis,
    Sampler,
    SectorHop,
    named,
    thermalise,
)
from latflow.theories import Schwinger
from latflow.wilson import determinant_and_condensate
from measure import print_table

SLOW = ("condensate", "charge", "sign", "Polyakov")


def ways(
    action: Schwinger, length: float, hops: int, model: Any = None
) -> dict[str, Callable[[], Sampler[Any, Any]]]:
    """Samplers with trajectories of one length, by what moves the chains."""
    proposals = {} if model is None else {"model": lambda: IndependenceMetropolis(model, action)}

    def hmc(scales: int) -> Sampler[Any, Any]:
        inner = "off" if scales == 1 else None
        return named.hmc(action, trajectory_length=length, inner_steps=inner)

    def beside(scales: int, *holonomies: Sampler[Any, Any]) -> Cycle:
        return Cycle([hmc(scales), SectorHop(action), *holonomies], (1, hops, *(1 for _ in holonomies)))

    return proposals | {
        "HMC": lambda: hmc(1),
        "two scales": lambda: hmc(2),
        "HMC + hops": lambda: beside(1),
        "two scales + hops": lambda: beside(2),
        "two scales + hops + holonomies": lambda: beside(2, HolonomyShift(action)),
    }


def recorded(links: Tensor, kappa: float) -> dict[str, Tensor]:
    """Condensate, topological charge, sign of det D and the real part of the Polyakov loop."""
    found = determinant_and_condensate(links, kappa)
    values = (found.condensate, topological_charge(links), found.sign, polyakov_loop(links).real)
    return dict(zip(SLOW, values, strict=True))


def forces(sampler: Sampler[Any, Any]) -> str:
    """Evaluations of the fermions' force in a trajectory."""
    if isinstance(sampler, IndependenceMetropolis):
        return "–"
    return str((sampler.kernels[0] if isinstance(sampler, Cycle) else sampler).force_evaluations)


def rows(options: argparse.Namespace) -> list[list[str]]:
    """A row for each way and length."""
    action = Schwinger(tuple(options.lattice), options.beta, options.kappa)
    generator = Generator().manual_seed(options.seed)
    model = None if options.model is None else load_density(options.model, action=action).double()
    start = action.kind.start(action.lattice, options.chains, generator, torch.float64)
    first = ways(action, 1.0, options.hops)["two scales + hops"]()
    state = thermalise(first, first.init(start), 5, generator)
    first, state = first.adapt(state, generator, 0)
    start = first.field(thermalise(first, state, options.thermalisation, generator))
    settle = max(5, options.steps // 10)
    chains = {
        (name, length): begun(make(), start, settle, generator)
        for length in options.lengths
        for name, make in ways(action, length, options.hops, model).items()
        if not options.only or name in options.only
    }
    found = []
    observe = partial(recorded, kappa=options.kappa)
    for (name, length), (seconds, series) in histories(chains, options.steps, observe, generator).items():
        each = 1000 * seconds / options.chains
        observed = [measured(one) for one in series]
        line = [name, f"{length:g}", forces(chains[name, length][0]), f"{each:.3g}"]
        line += [cells(one, 1.0) for one in observed]
        line += [cells(one, 2 * each) for one in observed[:2]]
        found.append([*line, str(observed[0])])
    return found


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lattice", nargs=2, default=[8, 8], type=int)
    parser.add_argument("--beta", default=2.0, type=float)
    parser.add_argument("--kappa", default=0.276, type=float)
    parser.add_argument("--lengths", nargs="+", default=[1.0], type=float, help="of trajectories")
    parser.add_argument("--chains", default=32, type=int)
    parser.add_argument("--steps", default=400, type=int, help="of each way, whole blocks of 20")
    parser.add_argument("--hops", default=1, type=int, help="in a step")
    parser.add_argument("--thermalisation", default=100, type=int)
    parser.add_argument("--only", nargs="+", help="of the ways")
    parser.add_argument("--model", help="checkpoint of a trained model on that lattice")
    parser.add_argument("--seed", default=1, type=int)
    parser.add_argument("--quick", action="store_true", help="a quarter of chains and steps")
    options = parser.parse_args()
    if options.quick:
        options.chains, options.steps = max(2, options.chains // 4), options.steps // 4
    torch.set_num_threads(1)
    sides = "×".join(map(str, options.lattice))
    print(f"Schwinger model on {sides}, β = {options.beta:g}, κ = {options.kappa:g}; CPU, 1 thread, float64")
    print(f"{options.chains} chains in one batch, {options.steps} steps; {options.hops} hops in a step")
    taus, costs = (f"τ {name}" for name in SLOW), (f"2τ · ms, {name}" for name in SLOW[:2])
    header = ["moved by", "length", "forces", "ms a step and chain", *taus, *costs, "condensate"]
    print_table(header, rows(options))


if __name__ == "__main__":
    main()
