"""A theory of one's own: φ⁶ in any dimension. A lattice, a kind of field and one method are all it must have.

    latflow run examples/phi6.toml

trains a flow for it, samples with the flow and with HMC beside it, validates, and writes a report.
"""

from dataclasses import dataclass

import latflow as lf
from latflow.types import Field, Lattice, LogProb, Positive


@dataclass(frozen=True)
class Phi6(lf.actions.Action):
    """S = Σ [ φ(−Δ)φ + m² φ² + g φ⁶ ], as the free part of φ⁴ and a term of its own.

    The fields of this class are the keys of [action] in a configuration, checked by their annotations.
    """

    lattice: Lattice
    m2: float
    g: Positive

    kind = lf.fields.SCALAR

    def __call__(self, x: Field) -> LogProb:
        """S of each configuration; the force follows by automatic differentiation."""
        free = lf.actions.Phi4(self.lattice, m2=self.m2, lam=0.0)
        return free(x) + self.g * (x**6).flatten(1).sum(1)

    # the rest is what a theory may say in addition

    @property
    def z2_symmetric(self) -> bool:
        """⟨M⟩ = 0 is then known, and the validation holds both signs of M against each other."""
        return True

    @property
    def words(self) -> lf.actions.Words:
        """The heading of the report."""
        return lf.actions.Words(
            "φ⁶ theory", f"m² = {self.m2:g}, g = {self.g:g}", "S = Σₓ [ φ(−Δ)φ + m²φ² + gφ⁶ ]"
        )
