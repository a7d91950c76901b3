"""The configuration of a run: TOML, checked before anything is computed; errors name the field at fault."""

from latflow.config.chains import (
    ClassicalConfig,
    FlowedHMCConfig,
    HMCConfig,
    SamplingConfig,
    TrajectoriesConfig,
)
from latflow.config.reading import differences, load_config, parse_config, preset_names, to_toml
from latflow.config.schema import RunConfig
from latflow.config.stages import ComputeConfig

__all__ = [
    "ClassicalConfig",
    "ComputeConfig",
    "FlowedHMCConfig",
    "HMCConfig",
    "RunConfig",
    "SamplingConfig",
    "TrajectoriesConfig",
    "differences",
    "load_config",
    "parse_config",
    "preset_names",
    "to_toml",
]
