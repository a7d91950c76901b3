"""The page of settings has every key of every section, what it says is legal, and each key has a meaning."""

import tomllib
from pathlib import Path

import pytest
import settings

from latflow.config import load_config, parse_config
from latflow.config.parts import arguments_section
from latflow.config.schema import Tables, training_section
from latflow.config.stages import BesideConfig, ComputeConfig, SamplingConfig
from latflow.estimators import ESTIMATORS
from latflow.registry import names

DOCS = Path(__file__).parents[1] / "docs"
PAGE = settings.with_settings((DOCS / "configuration.md").read_text(encoding="utf-8"))


def test_the_complete_file_is_a_configuration_of_defaults():
    """What stands in it is what a file without it would have, but for theory, model and name."""
    table = tomllib.loads(settings.file())
    whole = parse_config(table)
    short = {"name": table["name"], "action": table["action"], "model": {"type": table["model"]["type"]}}
    assert whole.table() == parse_config(short).table()
    assert whole.action.arguments == load_config(settings.EXAMPLE).action.arguments


@pytest.mark.parametrize(
    ("heading", "section"),
    [("", Tables), ("training", training_section()), ("sampling", SamplingConfig), ("beside", BesideConfig)],
)
def test_the_complete_file_has_every_key(heading, section):
    whole = f"[]\n{settings.file()}"
    lines = whole.partition(f"[{heading}]\n")[2].partition("\n[")[0].splitlines()
    found = {line.removeprefix("# ").split(" = ")[0] for line in lines if " = " in line}
    tables = {"action", "model", "training", "sampling", "beside", "compute", "reference"}
    elsewhere = tables | set(settings.nested())
    assert found == {name for name in section.model_fields if name not in elsewhere}


def test_every_registered_name_is_on_the_page_with_its_keys():
    for group in ("theories", "densities", "samplers"):
        for name in names(group):
            assert f"`{name}`" in PAGE
            shown = {key.name for key in settings.registered(group)[name]}
            assert shown == set(arguments_section(group, name).model_fields)
    assert all(f"`{name}`" in PAGE for name in ESTIMATORS)
    assert "<!--" not in PAGE


def test_every_key_has_a_meaning():
    sections = [*settings.shared().items(), *settings.nested().items(), *settings.estimators().items()]
    for group in ("theories", "densities", "samplers"):
        sections += settings.registered(group).items()
    bare = [f"{name}.{key.name}" for name, keys in sections for key in keys if not key.meaning]
    assert not bare
    assert {key.name for key in settings.shared()["compute"]} == set(ComputeConfig.model_fields)
