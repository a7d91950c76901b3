"""Flows that begin with the configurations of a coarser theory, which chains draw."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Generator, get_default_dtype

from latflow.densities.flows import EverySecondSite, Flow, Interleaved, TheoryPrior, minimal_flow
from latflow.densities.recipe import constructed, recipe_of
from latflow.lattice import check_even, checked_lattice
from latflow.registry import load
from latflow.samplers.chain_prior import RunningChains
from latflow.samplers.hmc import HMC
from latflow.samplers.kinetic import FourierMass
from latflow.seeds import seeded
from latflow.types import Count, Layers, Positive, Whole


def coarse_to_fine(
    lattice: Sequence[int],
    *,
    coarse: Mapping[str, Any],
    fields: Literal["same", "one", "all"] = "all",
    kernel: Count = 3,
    layers: Layers = 2,
    chains: Count = 512,
    spacing: Count = 2,
    thermalisation: Whole = 100,
    trajectory_length: Positive = 4.0,
    n_steps: Count = 12,
    fourier_mass: Positive | None = None,
    generator: Generator | None = None,
) -> Flow:
    """A minimal flow over the configurations of a coarser theory, drawn by chains of HMC that keep running.

        same   one configuration of the coarse theory on the same lattice: in units of its correlation length
               this volume is the larger
        one    one on the lattice with half the sides, on every second site; the others are normal numbers
        all    2^d independent ones, interleaved

    The long wavelengths are those of the coarse theory, which is cheap to sample, and the couplings learn
    what is left. HMC through this flow moves in the variables of the coarse theory. Where log Z of that is
    not known, log Z of the fine one cannot be found either, and tables leave it out.

    Source: the slides on machine-learned trivializing flows by Albandea, Del Debbio, Hernández, Kenway, Marsh
    Rossney and Ramos, "Training from a coarser theory".

    Args:
        lattice: side lengths, all even.
        coarse: the coarse theory without its lattice, as in [action]: `type` and its arguments.
        fields: of the coarse theory: "same", "one" or "all", as above.
        kernel: side of the kernels of the minimal flow, odd.
        layers: number of couplings.
        chains: that draw from the coarse theory; with 2^d and more the interleaved fields are independent.
        spacing: steps of the chains between two draws of each.
        thermalisation: steps of the chains before the first draw.
        trajectory_length: τ of their HMC.
        n_steps: in a trajectory.
        fourier_mass: m² of their Fourier acceleration, which is ξ⁻² at best; all modes have mass 1 if None.
        generator: draws the initial weights and where the chains start; a new one with seed 0 if None.

    Raises:
        ConfigError: for a coarse theory that does not exist.
        ValueError: for arguments of it that are not legal, an odd side, and as `minimal_flow` and `HMC`.
    """
    recipe = recipe_of("coarse_to_fine", coarse_to_fine, locals())
    sides = checked_lattice(lattice)
    if fields != "same":
        check_even(sides)
    smaller = sides if fields == "same" else tuple(side // 2 for side in sides)
    keys = dict(coarse)
    theory = constructed(load("theories", keys.pop("type", "")), keys | {"lattice": smaller}, {})
    drawn = seeded(generator)
    mass = None if fourier_mass is None else FourierMass(fourier_mass)
    hmc = HMC.of_length(theory, trajectory_length, n_steps, jitter=0.2, mass=mass)
    start = theory.kind.start(smaller, chains, drawn, get_default_dtype())
    log_z = theory.known().get("log_z")
    running = RunningChains(hmc, start, spacing=spacing, thermalisation=thermalisation)
    prior = TheoryPrior(theory, running, log_z=None if log_z is None else log_z.value)
    whole = {"same": lambda: prior, "one": lambda: EverySecondSite(prior), "all": lambda: Interleaved(prior)}
    couplings = minimal_flow(sides, kernel=kernel, layers=layers, generator=drawn).bijection
    return Flow(whole[fields](), couplings, recipe)
