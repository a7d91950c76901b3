"""A theory of your own: φ⁶ on 6×6, trained by REINFORCE, which never differentiates the action.

An action needs its lattice, its kind of field, and one method. Everything else is what any theory uses.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

import latflow as lf
from latflow.types import Field, Lattice, LogProb


@dataclass(frozen=True)
class Phi6(lf.actions.Action):
    """S = Σ [ φ(−Δ)φ + m² φ² + g φ⁶ ], as the free part of φ⁴ and a term of its own."""

    lattice: Lattice
    m2: float
    g: float
    kind: ClassVar[str] = "scalar"

    @property
    def z2_symmetric(self) -> bool:
        return True

    def __call__(self, x: Field) -> LogProb:
        free = lf.actions.Phi4(self.lattice, m2=self.m2, lam=0.0)
        return free(x) + self.g * (x**6).flatten(1).sum(1)


def main(steps: int = 300, length: int = 1000) -> dict[str, tuple[lf.analysis.Measurement, ...]]:
    """Train, sample with the flow and with HMC, and print both; returns what is printed."""
    action = Phi6((6, 6), m2=-1.0, g=2.0)
    generator = torch.Generator().manual_seed(1)
    flow = lf.flows.spline_flow(action.lattice, layers=2, scale=0.5)
    schedule = lf.training.Schedule("cosine", warmup=30)
    options = {"steps": steps, "batch": 256, "learning_rate": 0.01, "betas": (0.9, 0.99), "clip": 10.0}
    for record in lf.train(
        flow, action, lf.estimators.reinforce, schedule=schedule, generator=generator, **options
    ):
        if record.step % 50 == 0:
            print(f"step {record.step}: ESS {record.ess:.3f}, F_q {record.f_q:.3f}({record.f_q_std:.3f})")

    observe = lf.observables.recorded(action)
    sampler = lf.samplers.IndependenceMetropolis(flow, action)
    chain = lf.samplers.run(sampler, sampler.init_from_draws(32, generator), length, observe, generator)
    hmc = lf.samplers.HMC.of_length(action, trajectory_length=1.0, n_steps=10, jitter=0.2)
    hmc, start = lf.samplers.tune_step_size(hmc, hmc.init(torch.zeros(32, *action.lattice)), generator)
    other = lf.samplers.run(hmc, start, length, observe, generator)

    ours, theirs = (
        lf.analysis.summary({name: part.numpy() for name, part in run.series.items()}, action.lattice)
        for run in (chain, other)
    )
    found = {name: (ours[name], theirs[name]) for name in ("phi_squared", "V_magnetization_squared")}
    for name, (flow_value, hmc_value) in found.items():
        print(f"{lf.analysis.LABELS[name]}: {flow_value} by the flow, {hmc_value} by HMC")
    return found


if __name__ == "__main__":
    main()
