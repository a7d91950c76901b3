"""What a configuration may hold: one class a table of the file."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from latflow.analysis import KINDS, Measurement
from latflow.config.theories import (
    FIELDS,
    AffineFlowConfig,
    GaugeFlowConfig,
    HoppingPhi4Config,
    Phi4Config,
    SchwingerConfig,
    Section,
    SplineFlowConfig,
    U1Config,
)
from latflow.errors import ConfigError
from latflow.flows import build_flow
from latflow.training import OptimizerName, PrecisionName, Schedule, ScheduleName

EstimatorName = Literal["score", "reinforce", "reinforce_leave_one_out", "reparametrization", "path_gradient"]
"""The keys of `estimators.ESTIMATORS`."""


Built = TypeVar("Built")


class ScheduleConfig(Section):
    """The arguments of `training.Schedule`."""

    name: ScheduleName = "constant"
    warmup: NonNegativeInt = 0
    floor: NonNegativeFloat = 0.0
    factor: PositiveFloat = 0.5
    every: PositiveInt = 1000
    patience: PositiveInt = 200

    def build(self) -> Schedule:
        """The schedule itself."""
        return Schedule(**self.model_dump())

    @model_validator(mode="after")
    def _buildable(self) -> "ScheduleConfig":
        self.build()
        return self


class TrainingConfig(Section):
    """The estimator, the arguments of `training.Trainer`, and how often a checkpoint is written."""

    estimator: EstimatorName = "reinforce"
    steps: PositiveInt = 1000
    batch: PositiveInt = 1024
    sub_batch: PositiveInt | None = None
    learning_rate: PositiveFloat = 1e-3
    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.999)
    optimizer: OptimizerName = "adam"
    weight_decay: NonNegativeFloat = 0.0
    clip: PositiveFloat | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    precision: PrecisionName = "full"
    max_skipped: NonNegativeInt = 20
    checkpoint_every: PositiveInt = 100

    @model_validator(mode="after")
    def _decay_is_read(self) -> "TrainingConfig":
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"expected weight_decay with optimizer adamw alone, got {self.optimizer}")
        return self


class SamplingConfig(Section):
    """Independence Metropolis with draws of the flow.

    Attributes:
        steps: recorded steps of each chain.
        chains: how many chains run side by side.
        thermalisation: steps of each chain that come first and are thrown away.
        batch: proposals drawn at once, over all chains.
        block: steps that are written at a time.
        save_fields: whether the configurations themselves are written, of this chain and of that of HMC.
    """

    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 100
    batch: PositiveInt = 1024
    block: PositiveInt = 250
    save_fields: bool = False


class HMCConfig(Section):
    """Hybrid Monte Carlo beside the flow: the reference where nothing exact is known."""

    enabled: bool = True
    steps: PositiveInt = 1000
    chains: PositiveInt = 64
    thermalisation: NonNegativeInt = 500
    trajectory_length: PositiveFloat = 1.0
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] = 0.8
    integrator: Literal["leapfrog", "omelyan", "minimum_norm"] = "leapfrog"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.2
    block: PositiveInt = 250


class ComputeConfig(Section):
    """Where and how precisely: the one place that names device, precision and threads."""

    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: PositiveInt | None = None

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if device != "auto":
            try:
                torch.device(device)
            except RuntimeError:
                raise ValueError("expected 'auto', 'cpu', 'cuda' or 'cuda:<number>'") from None
        return device

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of fields and weights."""
        return getattr(torch, self.dtype)

    def torch_device(self) -> torch.device:
        """The device; "auto" is CUDA where there is one.

        Raises:
            ConfigError: when the device is not there.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"compute.device: expected one of the {torch.cuda.device_count()} CUDA devices here, "
                f"got {self.device!r}"
            )
        return device


class RunConfig(Section):
    """A whole run.

    Attributes:
        name: of the run, and of its folder where no other is given.
        description: one line, for people.
        seed: from which every generator of the run is derived.
        reference: known numbers by the names in `analysis.KINDS` for the kind of field, each "value(error)".
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
    description: str = ""
    seed: NonNegativeInt = 1
    action: Annotated[
        Phi4Config | HoppingPhi4Config | U1Config | SchwingerConfig, Field(discriminator="type")
    ]
    flow: Annotated[AffineFlowConfig | SplineFlowConfig | GaugeFlowConfig, Field(discriminator="type")]
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    hmc: HMCConfig = HMCConfig()
    compute: ComputeConfig = ComputeConfig()
    reference: dict[str, str] = Field(default_factory=dict)

    def flow_recipe(self) -> dict[str, Any]:
        """What `flows.build_flow` builds the flow from."""
        return self.flow.model_dump() | {"lattice": self.action.lattice}

    @field_validator("reference")
    @classmethod
    def _readable(cls, reference: dict[str, str]) -> dict[str, str]:
        for text in reference.values():
            Measurement.parse(text)
        return reference

    @model_validator(mode="after")
    def _buildable(self) -> "RunConfig":
        kind = _built("action", self.action.build).kind
        if self.flow.kind != kind:
            raise ValueError(
                f"flow: expected a flow of {FIELDS[kind]} for the action {self.action.type}, "
                f"got {self.flow.type}, a flow of {FIELDS[self.flow.kind]}"
            )
        _built("flow", lambda: build_flow(self.flow_recipe()))
        names = KINDS[kind].labels
        if unknown := [name for name in self.reference if name not in names]:
            raise ValueError(f"reference: expected names out of {', '.join(names)}, got {', '.join(unknown)}")
        return self


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
    ("flow", "affine"): AffineFlowConfig,
    ("flow", "spline"): SplineFlowConfig,
    ("flow", "gauge"): GaugeFlowConfig,
    ("training",): TrainingConfig,
    ("training", "schedule"): ScheduleConfig,
    ("sampling",): SamplingConfig,
    ("hmc",): HMCConfig,
    ("compute",): ComputeConfig,
}
"""Every table by its path in the file, with the type behind where there are several."""
