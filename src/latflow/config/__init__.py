"""The configuration of a run: TOML, checked before anything is computed; errors name the field at fault."""

from latflow.config.parts import Given, Part
from latflow.config.reading import (
    description_of,
    differing,
    flat,
    load_config,
    parse_config,
    preset_names,
    to_toml,
)
from latflow.config.schema import ChainPlan, RunConfig, Tables
from latflow.config.sections import Section, section_of
from latflow.config.stages import BesideConfig, ComputeConfig, SamplingConfig

__all__ = [
    "BesideConfig",
    "ChainPlan",
    "ComputeConfig",
    "Given",
    "Part",
    "RunConfig",
    "SamplingConfig",
    "Section",
    "Tables",
    "description_of",
    "differing",
    "flat",
    "load_config",
    "parse_config",
    "preset_names",
    "section_of",
    "to_toml",
]
