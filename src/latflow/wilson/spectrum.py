"""Spectra of the Wilson operator, from the dense matrix."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from latflow.types import Links
from latflow.wilson.linear_algebra import eigenvalues, hermitian_eigenvalues
from latflow.wilson.operator import Boundary, dense


def spectrum(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> Complex[Tensor, "batch rows"]:
    """The 2V eigenvalues of D of each configuration, in no order and without a graph.

    By γ5-hermiticity they are real or come in pairs λ, λ*, so that the number of negative real ones decides
    the sign of det D. On a lattice with even sides 2 − λ is an eigenvalue too. The cost grows as V³.

    Args:
        links: angles θ, (batch, 2, L0, L1).
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.

    Raises:
        ValueError: as `hops`.
    """
    with torch.no_grad():
        return eigenvalues(dense(links, kappa, boundary))


def hermitian_spectrum(
    links: Links, kappa: float, boundary: Boundary = "antiperiodic"
) -> Float[Tensor, "batch rows"]:
    """The 2V real eigenvalues of γ5 D of each configuration in ascending order, without a graph.

    Their absolute values are the singular values of D; where one of them crosses zero det D changes sign.
    Arguments, cost and exceptions are those of `spectrum`.
    """
    with torch.no_grad():
        operator = dense(links, kappa, boundary)
        gamma5 = links.new_tensor([1.0, -1.0]).repeat(operator.shape[-1] // 2)
        return hermitian_eigenvalues(gamma5[:, None] * operator)
