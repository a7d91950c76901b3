"""What tests share: one thread a process, Ctrl-C, and property tests that draw the same cases each time."""

import signal

import pytest
import torch
from hypothesis import settings

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
