"""Multilevel densities of φ⁴ in the experiments: trained by soft labels, each lattice from the one before."""

import time
from typing import Any

from latflow.estimators import Estimator
from latflow.multilevel import Multilevel
from latflow.theories import HoppingPhi4
from latflow.training import Schedule, train
from latflow_papers.bench import Bench


def training(
    bench: Bench,
    name: str,
    model: Multilevel,
    theory: HoppingPhi4,
    estimator: Estimator,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
) -> dict[str, Any]:
    """Train a model in place: its "weights" afterwards, and the "cpu_seconds" of the processor.

    Args:
        bench: has the generator.
        name: of that, and of the part.
        model: as it begins.
        theory: on its lattice.
        estimator: learns from single sites.
        steps: of Adam.
        batch: chains that a step moves.
        learning_rate: of Adam, falling like half a cosine.
    """
    before = time.process_time()
    for _ in train(
        model,
        theory,
        estimator,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        schedule=Schedule("cosine", warmup=min(50, steps // 2), floor=0.01),
        optimizer_options={"betas": (0.9, 0.99)},
        generator=bench.generator(name),
    ):
        pass
    return {"weights": model.state_dict(), "cpu_seconds": time.process_time() - before}
