"""The examples run, and what they print is right."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_a_theory_of_your_own(capsys):
    found = runpy.run_path(str(EXAMPLES / "own_theory.py"))["main"](steps=60, length=300)
    assert "ESS" in capsys.readouterr().out
    for by_flow, by_hmc in found.values():
        assert abs(by_flow.pull(by_hmc.value, by_hmc.error)) < 5
        assert by_flow.error < 0.2 * by_flow.value
