"""The configuration of a run: TOML, checked before anything is computed; errors name the field at fault."""

from latflow.config.reading import differences, load_config, parse_config, preset_names, to_toml
from latflow.config.schema import ComputeConfig, HMCConfig, RunConfig, SamplingConfig

__all__ = [
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
