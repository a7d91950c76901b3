"""The flow of circular couplings, registered as "circular"."""

from latflow.theories.xy.flow.circle import GeneralizedVonMises
from latflow.theories.xy.flow.coarse_to_fine import CoarseToFine, UniformAngles, circular_flow

__all__ = ["CoarseToFine", "GeneralizedVonMises", "UniformAngles", "circular_flow"]
