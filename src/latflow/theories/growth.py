"""How the action of real fields grows far out, which decides whether exp(−S) can be normalised."""

from dataclasses import dataclass

from latflow.lattice import lattice_momentum_squared
from latflow.types import Lattice


@dataclass(frozen=True)
class Growth:
    """An action of one real number a site, up to a constant; it adds and scales as the action does.

        S = Σ_x [ λ φ_x⁴ + m² φ_x² + c Σ_μ (φ_{x+μ} − φ_x)² ]

    Attributes:
        quartic: λ.
        mass: m², of either sign.
        stiffness: c, likewise.
    """

    quartic: float
    mass: float
    stiffness: float

    def __add__(self, other: "Growth") -> "Growth":
        return Growth(self.quartic + other.quartic, self.mass + other.mass, self.stiffness + other.stiffness)

    def scaled(self, factor: float) -> "Growth":
        """That of `factor` times the action."""
        return Growth(factor * self.quartic, factor * self.mass, factor * self.stiffness)

    def check(self, lattice: Lattice, parameters: str) -> None:
        """Refuse a weight exp(−S) without an integral.

        It has one where λ > 0, whatever the rest, and at λ = 0 where m² + c p̂² > 0 for every momentum p of
        the lattice: of c ≥ 0 the zero mode is the lowest, of c < 0 that with the largest p̂².

        Args:
            lattice: side lengths.
            parameters: of the theory, for the message.

        Raises:
            ValueError: naming them.
        """
        if self.quartic > 0:
            return
        highest = float(lattice_momentum_squared(lattice).max())
        lowest = self.mass + min(0.0, self.stiffness * highest)
        if self.quartic == 0 and lowest > 0:
            return
        found = f"{self.quartic:g} and {lowest:g}".replace("-", "−")
        raise ValueError(
            "exp(−S) cannot be normalised: expected λ > 0, or λ = 0 and every mode of the lattice with "
            f"m² + c p̂² > 0, got {parameters}, where λ and the lowest mode have {found}"
        )
