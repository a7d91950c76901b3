"""The list of faults that `make mutants` puts into the code still fits it."""

import ast
import contextlib
import re
import shlex

import pytest

from mutate import HERE, Fault, FaultError, faults, together

_TOP = re.compile(r"^(?=[a-zA-Z_@])", re.MULTILINE)
"""Where something begins that is not indented."""


def parsed(text: str, start: int, end: int) -> None:
    """Parse what stands around a place, up to the next lines without indent; all of it where that fails."""
    first = max((found.start() for found in _TOP.finditer(text, 0, start + 1)), default=0)
    after = _TOP.search(text, end)
    with contextlib.suppress(SyntaxError):
        ast.parse(text[first : after.start() if after else len(text)])
        return
    ast.parse(text)


def test_every_fault_applies_and_is_python():
    """Its text stands once in its file, and what stands there instead is no error of syntax."""
    known: dict[str, str] = {}
    for fault in faults():
        if fault.file not in known:
            known[fault.file] = fault.path(HERE.parent).read_text(encoding="utf-8")
        start = known[fault.file].index(fault.was)
        altered = fault.altered(known[fault.file])
        assert altered[start:].startswith(fault.now)
        parsed(altered, start, start + len(fault.now))


def test_every_fault_names_tests_that_are_there():
    known: dict[str, str] = {}
    for fault in faults():
        for word in shlex.split(fault.tests):
            file, _, name = word.partition("::")
            if not file.startswith("tests/"):
                continue
            if file not in known:
                known[file] = (HERE.parent / file).read_text(encoding="utf-8")
            assert not name or f"def {name.partition('[')[0]}(" in known[file], f"{fault}: {word}"


def test_a_fault_whose_text_is_gone_is_told():
    gone = Fault("runs", "a name", "storage.py", was="once upon a time", now="never", tests="tests/test_x.py")
    with pytest.raises(
        FaultError, match=r"runs: a name: expected the text once in storage\.py, found it 0 times"
    ):
        gone.altered("once upon another time")
    assert gone.altered("once upon a time, once") == "never, once"


def test_a_list_without_tests_or_with_one_name_twice_is_refused(tmp_path):
    fault = "[[fault]]\nname = 'a'\nfile = 'storage.py'\nwas = 'x'\nnow = 'y'\n"
    (tmp_path / "area.toml").write_text(fault)
    with pytest.raises(FaultError, match="area: a: expected tests that catch it, or why none can"):
        faults(tmp_path)
    (tmp_path / "area.toml").write_text(2 * f"{fault}tests = 'tests/test_x.py'\n")
    with pytest.raises(FaultError, match="expected names that differ, got twice area: a"):
        faults(tmp_path)


def test_tests_of_one_file_are_asked_once():
    """A whole file holds its tests; what has options is a call of its own."""
    named = ["tests/b.py::one", "tests/a.py::x tests/b.py::two", "tests/a.py", "tests/a.py -k y"]
    some = [Fault("area", name, "storage.py", "x", "y", tests=name) for name in named]
    assert together(some) == ["tests/a.py", "tests/b.py::one tests/b.py::two", "tests/a.py -k y"]
