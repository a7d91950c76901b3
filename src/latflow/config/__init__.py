"""The configuration of a run: TOML, checked before anything is computed; errors name the field at fault."""

from latflow.config.parts import Given, Part
from latflow.config.reading import (
    description_of,
    differing,
    flat,
    load_config,
    load_tables,
    parse_config,
    preset_names,
    read_toml,
    to_toml,
)
from latflow.config.scanning import Axis, Point, Scan, scan_of, short_names
from latflow.config.schema import ChainPlan, RunConfig, Tables
from latflow.config.sections import Section, section_of
from latflow.config.stages import BesideConfig, ComputeConfig, SamplingConfig

__all__ = [
    "Axis",
    "BesideConfig",
    "ChainPlan",
    "ComputeConfig",
    "Given",
    "Part",
    "Point",
    "RunConfig",
    "SamplingConfig",
    "Scan",
    "Section",
    "Tables",
    "description_of",
    "differing",
    "flat",
    "load_config",
    "load_tables",
    "parse_config",
    "preset_names",
    "read_toml",
    "scan_of",
    "section_of",
    "short_names",
    "to_toml",
]
