"""Array types: the first dimension of every tensor is the batch."""

from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Complex, Float, Int, Num
from torch import Tensor

Positive = Annotated[float, Gt(0)]
"""A number above zero. Configurations check the arguments of constructors by such annotations."""

NotNegative = Annotated[float, Ge(0)]
"""A number of at least zero."""

Count = Annotated[int, Ge(1), Le(1_000_000)]
"""A whole number of at least one, and of no more than anything is built of."""

Whole = Annotated[int, Ge(0), Le(1_000_000)]
"""A whole number of at least zero, likewise."""

Layers = Annotated[int, Ge(0), Le(10_000)]
"""How many layers a network or a flow has."""

Lattice = tuple[int, ...]
"""Side lengths (L0, L1, …) in lattice units, direction 0 first."""

Field = Float[Tensor, "batch *lattice"]
"""A batch of real scalar fields."""

Spins = Float[Tensor, "batch *lattice"]
"""A batch of Ising spins, ±1 as floating-point numbers: estimators and samplers need no special case."""

States = Int[Tensor, "batch *lattice"]
"""A batch of fields with q values a site, the whole numbers 0 … q−1."""

SiteField = Num[Tensor, "batch *lattice"]
"""A batch of fields with one value a site, real numbers or states."""

Links = Float[Tensor, "batch 2 L0 L1"]
"""A batch of two-dimensional U(1) gauge fields: the angle of each link, direction first, direction 0 time."""

Fermions = Complex[Tensor, "batch L0 L1 2"]
"""A batch of two-dimensional fermion fields, spin last."""

Matrices = Complex[Tensor, "batch rows rows"]
"""A batch of square matrices."""

LogProb = Float[Tensor, "batch"]
"""One number for each configuration: an action, a log-probability, a log-determinant."""

Sites = Float[Tensor, "batch active"]
"""The field at a chosen set of sites, flattened."""

Mask = Bool[Tensor, "*lattice"]
"""Which sites of the lattice are chosen."""


class Draws(NamedTuple):
    """Independent configurations with their weights towards exp(−S).

    Attributes:
        x: the configurations, (n, …).
        log_weight: log w of each, (n,), such that ⟨O⟩ = Σ w O / Σ w; for draws of a normalised density q it
            is −S(x) − log q(x), and ⟨w⟩ = Z.
    """

    x: Tensor
    log_weight: LogProb
