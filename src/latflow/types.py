"""Array types: the first dimension of every tensor is the batch."""

from jaxtyping import Bool, Complex, Float
from torch import Tensor

Lattice = tuple[int, ...]
"""Side lengths (L0, L1, …) in lattice units, direction 0 first."""

Field = Float[Tensor, "batch *lattice"]
"""A batch of real scalar fields."""

Spins = Float[Tensor, "batch *lattice"]
"""A batch of Ising spins, ±1 as floating-point numbers: estimators and samplers need no special case."""

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
