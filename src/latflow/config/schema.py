"""What a whole configuration may hold, and what must fit together in it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, field_validator, model_validator

from latflow.actions import Action
from latflow.analysis import KINDS, Measurement
from latflow.autoregressive import build_density
from latflow.config.chains import (
    KERNELS_OF,
    ClassicalConfig,
    FlowedHMCConfig,
    HMCConfig,
    SamplingConfig,
    TrajectoriesConfig,
)
from latflow.config.stages import AnnealConfig, ComputeConfig, ScheduleConfig, TrainingConfig
from latflow.config.theories import (
    DENSITIES_OF,
    AffineFlowConfig,
    ConvolutionalConfig,
    DenseConfig,
    GaugeFlowConfig,
    HierarchicalConfig,
    HoppingPhi4Config,
    IsingConfig,
    MinimalFlowConfig,
    Phi4Config,
    SchwingerConfig,
    Section,
    SplineFlowConfig,
    U1Config,
)
from latflow.estimators import ESTIMATORS, ScoreFunction

Built = TypeVar("Built")


class RunConfig(Section):
    """A whole run.

    Attributes:
        name: of the run, and of its folder where no other is given.
        description: one line, for people.
        seed: from which every generator of the run is derived.
        flow: the density that is trained: a flow, or for spins an autoregressive network.
        hmc: beside the flow of a continuous field; None for spins.
        classical: beside the network of spins; None for continuous fields.
        reference: known numbers by the names in `analysis.KINDS` for the kind of field, each "value(error)".
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
    description: str = ""
    seed: NonNegativeInt = 1
    action: Annotated[
        Phi4Config | HoppingPhi4Config | U1Config | SchwingerConfig | IsingConfig,
        Field(discriminator="type"),
    ]
    flow: Annotated[
        AffineFlowConfig
        | SplineFlowConfig
        | MinimalFlowConfig
        | GaugeFlowConfig
        | DenseConfig
        | ConvolutionalConfig
        | HierarchicalConfig,
        Field(discriminator="type"),
    ]
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    hmc: HMCConfig | None = None
    classical: ClassicalConfig | None = None
    compute: ComputeConfig = ComputeConfig()
    reference: dict[str, str] = Field(default_factory=dict)

    def flow_recipe(self) -> dict[str, Any]:
        """What `autoregressive.build_density` builds the flow, or the network, from."""
        return self.flow.model_dump() | {"lattice": self.action.lattice}

    @property
    def beside(self) -> HMCConfig | ClassicalConfig:
        """The sampler that runs beside the density: each kind of field has one."""
        settings = self.classical if self.hmc is None else self.hmc
        assert settings is not None  # one of them is made below
        return settings

    @model_validator(mode="before")
    @classmethod
    def _one_sampler_beside(cls, table: Any) -> Any:
        action = table.get("action") if isinstance(table, Mapping) else None
        if not isinstance(action, Mapping):
            return table
        spins = action.get("type") == "ising"
        mine, other = ("classical", "hmc") if spins else ("hmc", "classical")
        if table.get(other) is not None:
            why = "spins have no force" if spins else "it is for spins alone"
            raise ValueError(
                f"{other}: {why}: the chain beside the action {action.get('type')} is set in [{mine}]"
            )
        return {mine: {}, **table}

    @field_validator("reference")
    @classmethod
    def _readable(cls, reference: dict[str, str]) -> dict[str, str]:
        for text in reference.values():
            Measurement.parse(text)
        return reference

    @model_validator(mode="after")
    def _buildable(self) -> "RunConfig":
        action = _built("action", self.action.build)
        if self.flow.kind != action.kind:
            raise ValueError(
                f"flow: expected {DENSITIES_OF[action.kind]} for the action {self.action.type}, "
                f"got {self.flow.type}, {DENSITIES_OF[self.flow.kind]}"
            )
        _built("flow", lambda: build_density(self.flow_recipe()))
        self._check_kernels(action.kind)
        for section, settings, chains in self._trajectories():
            _check_trajectories(section, settings, chains, action.kind)
        if action.kind == "spin":
            self._check_spins(action)
        names = KINDS[action.kind].labels
        if unknown := [name for name in self.reference if name not in names]:
            raise ValueError(f"reference: expected names out of {', '.join(names)}, got {', '.join(unknown)}")
        return self

    def _check_kernels(self, kind: str) -> None:
        legal = KERNELS_OF[kind]
        if unknown := [name for name in self.sampling.kernels if name not in legal]:
            raise ValueError(
                f"sampling.kernels: expected {' or '.join(legal)} for the action {self.action.type}, "
                f"got {', '.join(unknown)}"
            )

    def _trajectories(self) -> Iterator[tuple[str, TrajectoriesConfig, int]]:
        """Each section that sets trajectories, and the least number of chains that take them from there."""
        if self.hmc is not None:
            chains = [self.hmc.chains] if self.hmc.enabled else []
            kernel = [self.sampling.chains] if "hmc" in self.sampling.kernels else []
            yield "hmc", self.hmc, min(chains + kernel, default=self.hmc.chains)
        if self.sampling.flowed_hmc is not None:
            yield "sampling.flowed_hmc", self.sampling.flowed_hmc, self.sampling.chains

    def _check_spins(self, action: Action) -> None:
        """What the other kinds of field allow and spins do not."""
        name = self.training.estimator
        if not isinstance(ESTIMATORS[name], ScoreFunction):
            legal = [other for other, one in ESTIMATORS.items() if isinstance(one, ScoreFunction)]
            raise ValueError(
                f"training: spins have no derivative: expected an estimator out of {', '.join(legal)}, "
                f"got {name}"
            )
        if self.flow.model_dump()["z2"] and not action.z2_symmetric:
            raise ValueError("flow: expected z2 = false for an action with an external field, got true")
        if self.classical is not None and self.classical.enabled:
            _built("classical", partial(self.classical.build, action))


def _check_trajectories(section: str, settings: TrajectoriesConfig, chains: int, kind: str) -> None:
    """What scalar fields allow and links do not."""
    several = len(settings.lengths) > 1
    if several and kind != "scalar":
        raise ValueError(
            f"{section}: expected one trajectory_length for links: several are compared by the magnetisation "
            f"of a scalar field, got {len(settings.lengths)}"
        )
    if several and chains < 2:
        raise ValueError(f"{section}: expected at least 2 chains to compare trajectory lengths, got {chains}")
    if isinstance(settings, HMCConfig) and settings.fourier_mass is not None and kind != "scalar":
        raise ValueError(f"{section}: expected no fourier_mass for links, got {settings.fourier_mass}")


def _built(section: str, build: Callable[[], Built]) -> Built:
    """What a section describes; what is wrong with it is told with its name."""
    try:
        return build()
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error


SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): RunConfig,
    ("action", "phi4"): Phi4Config,
    ("action", "hopping_phi4"): HoppingPhi4Config,
    ("action", "u1"): U1Config,
    ("action", "schwinger"): SchwingerConfig,
    ("action", "ising"): IsingConfig,
    ("flow", "affine"): AffineFlowConfig,
    ("flow", "spline"): SplineFlowConfig,
    ("flow", "minimal"): MinimalFlowConfig,
    ("flow", "gauge"): GaugeFlowConfig,
    ("flow", "dense"): DenseConfig,
    ("flow", "convolutional"): ConvolutionalConfig,
    ("flow", "hierarchical"): HierarchicalConfig,
    ("training",): TrainingConfig,
    ("training", "schedule"): ScheduleConfig,
    ("training", "anneal"): AnnealConfig,
    ("sampling",): SamplingConfig,
    ("sampling", "flowed_hmc"): FlowedHMCConfig,
    ("hmc",): HMCConfig,
    ("classical",): ClassicalConfig,
    ("compute",): ComputeConfig,
}
"""Every table by its path in the file, with the type behind where there are several."""
