"""Draws that tell how probable a part of a lattice is, as the mutual information of two parts needs them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from latflow.densities.autoregressive.base import SpinNetwork
from latflow.densities.base import log_weight
from latflow.theories.base import Action
from latflow.types import Spins, States


class CutWeights(NamedTuple):
    """Draws s = (a, b) of a lattice that is cut in two, and sums over each part with the other one fixed.

    The arrays are those which `analysis.mutual_information` takes, in float64. A row of inner weights, whose
    mean over draws of b is the sum over b, begins with that of the draw itself.

    Attributes:
        log_weight: −S(a, b) − log q(a, b) of each draw, (n,).
        action: S(a, b), (n,).
        first: −S(a, b_j) − log q(b_j | a) for Z(a) = Σ_b exp(−S(a, b)), (n, m).
        rest: the same for Z(b) = Σ_a exp(−S(a, b)), (n, m).
    """

    log_weight: np.ndarray
    action: np.ndarray
    first: np.ndarray
    rest: np.ndarray


@torch.no_grad()
def cut_weights(
    network: SpinNetwork,
    action: Action,
    rows: int,
    *,
    n: int,
    inner: int,
    generator: Generator,
    turned: SpinNetwork | None = None,
    batch: int = 4096,
) -> CutWeights:
    """Draws for the mutual information between the first rows A of a lattice and the others, B.

        p(a) = Z(a)/Z,    Z(a) = Σ_b exp(−S(a, b)) = E_{b ∼ q(·|a)} exp(−S(a, b)) / q(b | a)

    and the same for p(b), with the lattice turned so that B comes first. It holds whatever q is; how close
    q(b | a) is to p(b | a) decides how many inner draws are needed. Where the action does not change when its
    rows are turned around the torus, one network is equally close for A and for B. A theory without this
    symmetry, such as a spin glass, needs a second network, trained for the turned action S_turned(s) =
    S(s.roll(rows, 1)): that of an Ising model with couplings J has J.roll(−rows, 1).

    Source: Białas, Korcyl, Stebel, Mutual information of spin systems from autoregressive neural networks,
    arXiv:2304.13412.

    Args:
        network: draws row after row: `dense_spins` or `convolutional_spins`.
        action: S, of spins on the lattice of the network.
        rows: of A, from 1 to L0 − 1.
        n: draws of the whole lattice.
        inner: m, at least 2: draws of each part to one of the other, that of the whole lattice among them.
        generator: source of the draws.
        turned: the network that draws A after B; None for `network` itself, where the action allows it.
        batch: configurations that are drawn at once.

    Raises:
        ValueError: for numbers out of range, a network that does not draw row after row, or none for A after
            B where the action changes when its rows are turned.
    """
    if n < 1 or inner < 2 or batch < 1:
        raise ValueError(f"expected positive numbers, and inner of at least 2, got {n=}, {inner=}, {batch=}")
    side = network.lattice[0]
    if not 0 < rows < side:
        raise ValueError(f"expected a cut after 1 to {side - 1} rows of {network.lattice}, got {rows}")
    log_weights, actions, first, rest = [], [], [], []
    for outer in torch.arange(n).split(max(1, batch // inner)):
        x, log_q = network.sample(len(outer), generator)
        actions.append(action(x))
        if turned is None and not torch.allclose(action(x.roll(-rows, 1)), actions[-1], rtol=1e-4, atol=1e-4):
            raise ValueError(
                f"expected a network `turned` to draw the first {rows} rows after the others, trained for "
                "the turned action, got none for an action that changes when its rows are turned"
            )
        log_weights.append(log_weight(action, x, log_q))
        first.append(_inner_weights(network, action, x, slice(0, rows), inner, generator))
        rest.append(_inner_weights(turned or network, action, x, slice(rows, side), inner, generator))
    return CutWeights(*(_numbers(torch.cat(parts)) for parts in (log_weights, actions, first, rest)))


def _inner_weights(
    network: SpinNetwork, action: Action, x: Spins | States, fixed: slice, inner: int, generator: Generator
) -> Tensor:
    """−S − log q(other rows | fixed rows), (batch, inner): as the other rows are, and of draws of them."""
    own = network.log_prob(x.roll(-fixed.start, 1), given=fixed.stop - fixed.start)
    y, log_q = network.sample(inner - 1, generator, given=x[:, fixed])
    others = log_weight(action, y.roll(fixed.start, 1), log_q).view(len(x), -1)
    return torch.cat((log_weight(action, x, own)[:, None], others), 1)


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
