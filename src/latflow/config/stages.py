"""What a configuration may hold of the training of a run, and of what all stages compute on."""

from typing import Annotated, Literal

import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from latflow.config.theories import Section
from latflow.errors import ConfigError
from latflow.training import Anneal, OptimizerName, PrecisionName, Schedule, ScheduleName

EstimatorName = Literal["score", "reinforce", "reinforce_leave_one_out", "reparametrization", "path_gradient"]
"""The keys of `estimators.ESTIMATORS`."""


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


class AnnealConfig(Section):
    """The arguments of `training.Anneal`."""

    start: NonNegativeFloat = 0.0
    steps: PositiveInt

    def build(self) -> Anneal:
        """The annealing itself."""
        return Anneal(**self.model_dump())

    @model_validator(mode="after")
    def _buildable(self) -> "AnnealConfig":
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
    anneal: AnnealConfig | None = None
    checkpoint_every: PositiveInt = 100

    @model_validator(mode="after")
    def _decay_is_read(self) -> "TrainingConfig":
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"expected weight_decay with optimizer adamw alone, got {self.optimizer}")
        return self

    @model_validator(mode="after")
    def _ends_with_the_action(self) -> "TrainingConfig":
        if self.anneal is not None and self.anneal.steps >= self.steps:
            raise ValueError(
                f"expected fewer steps of annealing than of training, got {self.anneal.steps} and "
                f"{self.steps}"
            )
        return self


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
