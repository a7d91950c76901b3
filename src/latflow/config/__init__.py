"""The configuration of a run: TOML, checked before anything is computed; errors name the field at fault."""

from latflow.config.reading import differences, load_config, parse_config, preset_names, to_toml
from latflow.config.schema import RunConfig
from latflow.config.stages import ClassicalConfig, ComputeConfig, HMCConfig, SamplingConfig

__all__ = [
    "ClassicalConfig",
    "ComputeConfig",
    "HMCConfig",
    "RunConfig",
    "SamplingConfig",
    "differences",
    "load_config",
    "parse_config",
    "preset_names",
    "to_toml",
]
