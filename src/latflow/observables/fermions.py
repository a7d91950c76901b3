"""Observables of Wilson fermions in a two-dimensional U(1) gauge field, of each configuration."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latflow.types import Links, LogProb
from latflow.wilson import (
    Boundary,
    determinant_and_condensate,
    log_abs_det,
    slice_norms,
    slice_propagator,
    slice_traces,
)


def chiral_condensate(links: Links, kappa: float, boundary: Boundary = "antiperiodic") -> LogProb:
    """V⁻¹ Re Tr D⁻¹ of each configuration, over sites and spins, for one flavour.

    The trace is real by γ5-hermiticity. `determinant_and_condensate` of `latflow.wilson` gives log|det D| and
    its sign with it, at no further cost. Source: Białas, Korcyl, Stebel, Training normalizing flows with
    computationally intensive target probability distributions, eq. 28 (where Tr D⁻¹ is meant).

    Args:
        links: link angles.
        kappa: the hopping parameter κ.
        boundary: of the fermions in time.

    Warns:
        NearSingularWarning: when D is close to singular.

    Raises:
        ValueError: for links that are not (batch, 2, L0, L1), or a boundary of another name.
    """
    return determinant_and_condensate(links, kappa, boundary).condensate


def determinant_sign(links: Links, kappa: float, boundary: Boundary = "antiperiodic") -> LogProb:
    """The sign of det D of each configuration: +1 or −1, and 0 where D is singular.

    Averages for an odd number of flavours, sampled with |det D|, are ⟨σ O⟩ / ⟨σ⟩. Arguments, warning and
    exceptions are those of `chiral_condensate`.
    """
    with torch.no_grad():
        return log_abs_det(links, kappa, boundary)[1]


def pion_correlator(
    links: Links,
    kappa: float | tuple[float, float],
    boundary: Boundary = "antiperiodic",
    sources: int = 1,
) -> Float[Tensor, "batch times"]:
    """Pseudoscalar correlator of two different flavours at momentum zero, for t = 0 … L0//2.

        C(t) = L1⁻¹ Re Σ_{x, y} Σ_{s, s'} S_1(t0+t, x, s'; t0, y, s) S_2*(t0+t, x, s'; t0, y, s),   S = D⁻¹

    By D⁻¹(x,y)† = γ5 D⁻¹(y,x) γ5 it is Σ_x ⟨P(t0+t, x) P†(t0, y)⟩ of P = ψ̄_2 γ5 ψ_1, and the mean over y of a
    source slice. The slices t0, and the times t and L0 − t, are averaged over.

    Args:
        links: link angles.
        kappa: the hopping parameter κ of both flavours, or (κ_1, κ_2).
        boundary: of the fermions in time.
        sources: how many slices t0 to average over, evenly spaced from 0 on: each costs one elimination for
            each κ.

    Warns:
        NearSingularWarning: when D is close to singular.

    Raises:
        ValueError: as `chiral_condensate`, and unless there are 1 to L0 sources.
    """
    kappas = kappa if isinstance(kappa, tuple) else (kappa, kappa)
    (correlator,) = pion_correlators(links, [kappas], boundary, sources)
    return correlator


def pion_correlators(
    links: Links,
    pairs: Sequence[tuple[float, float]],
    boundary: Boundary = "antiperiodic",
    sources: int = 1,
) -> list[Float[Tensor, "batch times"]]:
    """`pion_correlator` of several pairs (κ_1, κ_2), with one elimination of a source slice for each κ."""
    l0, l1 = links.shape[2:]
    if not 1 <= sources <= l0:
        raise ValueError(f"expected 1 to {l0} sources, got {sources}")
    mixed = {kappa for pair in pairs if pair[0] != pair[1] for kappa in pair}
    plain = {kappa for kappa, _ in pairs} - mixed
    total = [links.new_zeros(len(links), l0) for _ in pairs]
    with torch.no_grad():
        for slice_ in (n * l0 // sources for n in range(sources)):
            norms = {kappa: slice_norms(links, kappa, boundary, slice_) for kappa in plain}
            columns = {kappa: slice_propagator(links, kappa, boundary, slice_) for kappa in mixed}
            for sum_, (one, other) in zip(total, pairs, strict=True):
                sum_ += norms[one] if one in norms else _product(columns[one], columns[other])
    return [_of_both_times(sum_ / (sources * l1)) for sum_ in total]


def singlet_correlator(
    links: Links,
    kappas: Sequence[float],
    boundary: Boundary = "antiperiodic",
    sources: int = 1,
) -> Float[Tensor, "batch times"]:
    """Correlator of the flavour singlet P = N_f^−½ Σ_f ψ̄_f γ5 ψ_f at momentum zero, for t = 0 … L0//2.

        C(t) = N_f⁻¹ { Σ_f C_f(t) − (L0 L1)⁻¹ Σ_{t0} ℓ(t0) ℓ(t0+t) },   ℓ(t) = Σ_f Σ_x tr γ5 D_f⁻¹(t, x; t, x)

    with C_f the `pion_correlator` of κ_f: connected less N_f times disconnected for flavours of one mass,
    whose particle is the η′, heavier than the pion by the anomaly. The loops ℓ are exact, not estimated with
    noise, and ⟨ℓ⟩ = 0 by parity.

    Args:
        links: link angles.
        kappas: the hopping parameter of each flavour.
        boundary: of the fermions in time.
        sources: of the connected part, as in `pion_correlator`; the disconnected one is averaged over all.

    Warns:
        NearSingularWarning: when D is close to singular.

    Raises:
        ValueError: as `pion_correlator`, and for no flavour.
    """
    if not kappas:
        raise ValueError("expected at least one flavour, got no kappa")
    shares = dict(Counter(kappas))
    pions = pion_correlators(links, [(kappa, kappa) for kappa in shares], boundary, sources)
    return singlet_of(links, dict(zip(shares, pions, strict=True)), shares, boundary)


def singlet_of(
    links: Links, pions: Mapping[float, Tensor], shares: Mapping[float, int], boundary: Boundary
) -> Float[Tensor, "batch times"]:
    """`singlet_correlator` from connected parts that are known, without another elimination for these.

    Args:
        links: link angles.
        pions: by κ, the `pion_correlator` of two flavours that have it.
        shares: by κ, how many flavours have it.
        boundary: of the fermions in time.
    """
    l0, l1 = links.shape[2:]
    with torch.no_grad():
        loops = torch.stack([n * slice_traces(links, kappa, boundary) for kappa, n in shares.items()]).sum(0)
    power = torch.fft.rfft(loops).abs().square()
    disconnected = torch.fft.irfft(power, n=l0)[:, : l0 // 2 + 1] / (l0 * l1)
    connected = torch.stack([n * pions[kappa] for kappa, n in shares.items()]).sum(0)
    return (connected - disconnected) / sum(shares.values())


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Re Σ one · other* over all but configuration and time."""
    return (one.real * other.real + one.imag * other.imag).flatten(2).sum(2)


def _of_both_times(correlator: Tensor) -> Tensor:
    """The mean over t and L0 − t, for t = 0 … L0//2."""
    return (0.5 * (correlator + correlator.flip(1).roll(1, 1)))[:, : correlator.shape[1] // 2 + 1]
