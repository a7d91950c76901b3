"""A run on a GPU is the run on a CPU, with the device as configuration."""

import pytest

from latflow.config import load_config
from latflow.runs import Run
from latflow.validation import validate


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_whole_run_on_a_gpu_is_validated(tmp_path, dtype):
    run = Run.create(
        tmp_path / "run", load_config("phi4-quick", ["compute.device=cuda", f"compute.dtype={dtype}"])
    )
    run.train()
    run.sample()
    run.sample_beside()
    verdict = validate(run)
    assert run.model().prior.like.is_cuda
    assert verdict.passed, verdict
    assert verdict.diagnostics["ess"] > 0.5
