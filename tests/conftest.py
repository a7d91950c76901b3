"""What tests share: one thread, Ctrl-C, fixed cases of property tests, sparing checks, figures in outline."""

import signal
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure

import shape_checks

shape_checks.install()
torch.set_num_threads(1)

# shells ignore Ctrl-C in what runs in their background, and processes that tests start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _shapes_are_checked_anew() -> None:
    shape_checks.new_test()


@pytest.fixture(scope="module", autouse=True)
def _figures_in_outline(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are made, but neither laid out nor rendered, which takes most of the time of a small run.

    A file whose tests look at figures says `pytestmark = pytest.mark.drawn`.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("drawn") is None:
            patch.setattr(Figure, "draw_without_rendering", lambda _: None)
            patch.setattr(Figure, "savefig", _save_outline)
        yield


def _save_outline(_: Figure, path: Path, *, format: str, **__: object) -> None:  # noqa: A002
    Path(path).write_bytes(_outline(format))


_savefig = Figure.savefig


@cache
def _outline(suffix: str) -> bytes:
    """An empty figure."""
    written = BytesIO()
    _savefig(Figure(figsize=(1, 1)), written, format=suffix)
    return written.getvalue()
