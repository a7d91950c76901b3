"""What a configuration may hold of the chains of a run: that of the flow, and the one beside it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from latflow.actions import Action
from latflow.config.theories import Section
from latflow.flows import Flow
from latflow.samplers import HMC, FlowedHMC, FourierMass, Sampler, SingleSpin, SwendsenWang, Wolff, flowed_hmc

Algorithm = Literal["wolff", "swendsen_wang", "heat_bath", "metropolis"]

KernelName = Literal["proposals", "hmc", "flowed_hmc", "hops"]

KERNELS_OF: dict[str, tuple[KernelName, ...]] = {
    "scalar": ("proposals", "hmc", "flowed_hmc"),
    "gauge": ("proposals", "hmc", "flowed_hmc", "hops"),
    "spin": ("proposals",),
}
"""The kernels that can move each kind of field."""


class TrajectoriesConfig(Section):
    """Trajectories of hybrid Monte Carlo, whose step size is tuned when a chain begins.

    Attributes:
        trajectory_length: τ; of several, for a scalar field, the one with the fewest force evaluations for
            each independent magnetisation is taken (`samplers.tune_cost`).
        target_acceptance: to which the step size is tuned.
        integrator: a name in `samplers.INTEGRATORS`.
        jitter: of the step size.
    """

    trajectory_length: (
        PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]
    ) = 1.0
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.8
    integrator: Literal["leapfrog", "omelyan", "minimum_norm"] = "leapfrog"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def lengths(self) -> tuple[float, ...]:
        """The trajectory lengths to choose from."""
        given = self.trajectory_length
        return given if isinstance(given, tuple) else (given,)


class HMCConfig(TrajectoriesConfig):
    """Hybrid Monte Carlo beside the flow, the reference where nothing exact is known; and the kernel "hmc".

    The kernel takes trajectories and mass from here, everything else from `SamplingConfig`.

    Attributes:
        enabled: whether it runs beside the flow.
        fourier_mass: m² of a `samplers.FourierMass`, for scalar fields; all modes have mass 1 without it.
        steps: recorded trajectories of each chain.
        chains: how many chains run side by side.
        thermalisation: trajectories of each chain that come first and are thrown away.
        block: trajectories that are written at a time.
    """

    enabled: bool = True
    fourier_mass: PositiveFloat | None = None
    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 500
    block: PositiveInt = 250

    def build(self, action: Action, step_size: float, n_steps: int) -> HMC:
        """The sampler itself, with a step size and a number of steps that were tuned or are to be."""
        mass = None if self.fourier_mass is None else FourierMass(self.fourier_mass)
        return HMC(action, step_size, n_steps, self.integrator, self.jitter, mass)


class FlowedHMCConfig(TrajectoriesConfig):
    """Hybrid Monte Carlo through the flow: the trajectories of the kernel "flowed_hmc"."""

    def build(self, action: Action, flow: Flow, step_size: float, n_steps: int) -> FlowedHMC:
        """The sampler itself, with a step size and a number of steps that were tuned or are to be."""
        return flowed_hmc(flow, action, step_size, n_steps, self.integrator, self.jitter)


class SamplingConfig(Section):
    """The chain of the flow, which starts at draws from it.

    Attributes:
        kernels: what moves it, in turn: "proposals" of the flow (independence Metropolis), "hmc" (as set in
            [hmc]), "flowed_hmc" (HMC through the flow) and, of links, "hops" between topological sectors.
        steps: recorded steps of each chain; a step is one of each kernel.
        chains: how many chains run side by side.
        thermalisation: steps of each chain that come first and are thrown away.
        batch: proposals drawn at once, over all chains.
        block: steps that are written at a time.
        save_fields: whether the configurations themselves are written, of this chain and of the one beside
            the flow.
        flowed_hmc: the trajectories of the kernel of this name; None without it.
    """

    kernels: Annotated[tuple[KernelName, ...], Field(strict=False)] = ("proposals",)
    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 100
    batch: PositiveInt = 1024
    block: PositiveInt = 250
    save_fields: bool = False
    flowed_hmc: FlowedHMCConfig | None = None

    @property
    def proposes(self) -> bool:
        """Whether there are raw draws of the flow, and so weights."""
        return "proposals" in self.kernels

    @field_validator("kernels")
    @classmethod
    def _make_a_chain(cls, kernels: tuple[str, ...]) -> tuple[str, ...]:
        if not kernels:
            raise ValueError("expected at least one kernel, got none")
        if len(set(kernels)) < len(kernels):
            raise ValueError(f"expected each kernel once, got {', '.join(kernels)}")
        if kernels == ("hops",):
            raise ValueError(
                "expected a kernel that moves within topological sectors beside hops, such as hmc: "
                "hops alone reach one configuration a sector"
            )
        return kernels

    @model_validator(mode="before")
    @classmethod
    def _trajectories_are_read(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        kernels = table.get("kernels")
        if isinstance(kernels, list | tuple) and "flowed_hmc" in kernels:
            return {"flowed_hmc": {}, **table}
        if table.get("flowed_hmc") is not None:
            raise ValueError("expected flowed_hmc among the kernels where [sampling.flowed_hmc] is set")
        return table


class ClassicalConfig(Section):
    """An established Markov chain of spins beside the network: what HMC is to continuous fields.

    Attributes:
        enabled: whether it runs at all.
        algorithm: clusters by Wolff, or by Swendsen and Wang; or sweeps over single spins, by the heat bath
            or by Metropolis.
        steps: recorded steps of each chain.
        chains: how many chains run side by side.
        thermalisation: steps of each chain that come first, from spins at random, and are thrown away.
        block: steps that are written at a time.
    """

    enabled: bool = True
    algorithm: Algorithm = "wolff"
    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 500
    block: PositiveInt = 250

    def build(self, action: Action) -> Sampler[Any, Any]:
        """The sampler itself.

        Raises:
            ValueError: for a theory that is no Ising model, or a lattice on which the algorithm cannot work.
        """
        match self.algorithm:
            case "wolff":
                return Wolff(action)
            case "swendsen_wang":
                return SwendsenWang(action)
            case rule:
                return SingleSpin(action, rule)
