"""Learning from the exact distributions of single sites, on chains that the density itself moves along."""

from abc import abstractmethod
from itertools import permutations
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from latflow.densities.base import Density, log_weight
from latflow.estimators.base import Estimate, Estimator
from latflow.theories.base import Action
from latflow.theories.neighbours import CoupledSites, NearestNeighbours
from latflow.types import Count, Lattice, LogProb, SiteField


@runtime_checkable
class SiteDensity(Density, Protocol):
    """A density of fields whose single sites have known distributions.

    Attributes:
        theory: by which these are known.
    """

    theory: CoupledSites


class Populated(Estimator):
    """An estimator with a population of chains that the density moves, and from which it learns.

    In each call the next of them in turn are moved by a heat bath of all sites, with the theory's own
    distributions. With 1/k for `proposals`, in every k-th call the density proposes to as many, likewise in
    turn, accepted as by `IndependenceMetropolis`: many draws at once take less time each. No other sampler is
    needed. The chains start at draws of the density as it is at first, whatever it is; the heat bath makes
    what is short in range, and the longer the range at which the density is right, the more of its proposals
    are accepted. With a fixed density both moves keep p: the population has no bias but for what is left of
    its start. Nothing is recorded of it.

    The log-weights are those of the last proposals, which were fresh draws of the density.

    Args:
        chains: of each process, or as many as its first call moves.
        proposals: of the density, for each chain that a call moves; above 0 and at most 1.
        sweeps: of the heat bath in each call.

    Raises:
        ValueError: for numbers out of range; from a call, for a density that cannot learn so, another theory
            than that of the density, and more chains than there are.
    """

    stateful = True
    name: ClassVar[str]
    """By which a configuration knows it."""
    pupil: ClassVar[Any]
    """The protocol of the densities that learn from it."""
    example: ClassVar[str]
    """What such a density does, and which does it."""

    def __init__(self, chains: Count, proposals: float, sweeps: Count) -> None:
        if min(chains, sweeps) < 1 or not 0 < proposals <= 1:
            raise ValueError(
                f"expected 0 < proposals ≤ 1 and positive numbers, got {proposals=}, {chains=} and {sweeps=}"
            )
        self.chains, self.proposals, self.sweeps = chains, proposals, sweeps
        self._populations: dict[Lattice, SiteField] = {}
        self._log_weight: LogProb = torch.empty(0)
        self._calls = 0

    def check(self, density: object, action: Action) -> None:
        if not isinstance(density, self.pupil):
            raise ValueError(
                f"expected a density that {self.example}, for the estimator {self.name}, got "
                f"{type(density).__name__}"
            )
        assert isinstance(density, SiteDensity)
        if density.theory != action.coupled_sites():
            raise ValueError(
                f"expected the theory for which the density was built, for the estimator {self.name}, got "
                f"{action.words.name} with {action.words.parameters}: it cannot be annealed either"
            )

    def __call__(self, density: Density, action: Action, n: int, generator: Generator) -> Estimate:
        begins = action.lattice not in self._populations
        if begins:
            self.check(density, action)
        assert isinstance(density, SiteDensity)
        with torch.autocast(generator.device.type, enabled=False):
            if begins:
                self._populations[action.lattice], _ = density.sample(max(self.chains, n), generator)
            population = self._populations[action.lattice]
            if n > len(population):
                raise ValueError(f"expected to move at most all {len(population)} chains, got {n}")
            calls = int(1 / self.proposals)
            if begins or not len(self._log_weight) or self._calls % calls == 0:
                size = max(1, round(self.proposals * calls * n))
                some = _turn(self._calls // calls, size, population)
                population[some], self._log_weight = self._proposed(
                    density, action, population[some], generator
                )
            index = _turn(self._calls, n, population)
            x = population[index]
            for _ in range(self.sweeps):
                for parity in (0, 1):
                    x = density.theory.redrawn(x, parity, generator)
        population[index] = x
        self._calls += 1
        return Estimate(self._learn(density, x, generator), self._log_weight)

    @abstractmethod
    def _learn(self, density: Any, x: SiteField, generator: Generator) -> Tensor:
        """The loss on chains that were just moved."""

    @torch.no_grad()
    def _proposed(
        self, density: Density, action: Action, x: SiteField, generator: Generator
    ) -> tuple[SiteField, LogProb]:
        """Chains after a proposal to each, and the log-weights of these."""
        proposed, log_q = density.sample(len(x), generator)
        new = log_weight(action, proposed, log_q)
        gain = new - log_weight(action, x, density.log_prob(x))
        uniform = torch.rand(len(x), generator=generator, dtype=torch.float64, device=x.device)
        accepted = (torch.log(uniform) < gain).view(-1, *(1 for _ in action.lattice))
        return torch.where(accepted, proposed, x), new

    def state_dict(self) -> dict[str, Tensor]:
        populations = {"x".join(map(str, sides)): x for sides, x in self._populations.items()}
        last = {"log_weight": self._log_weight} if len(self._log_weight) else {}
        return {"calls": torch.tensor([self._calls]), **last, **populations}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        parts = dict(state)
        self._calls = int(parts.pop("calls", torch.zeros(1)))
        self._log_weight = parts.pop("log_weight", self._log_weight)
        self._populations = {tuple(map(int, sides.split("x"))): x for sides, x in parts.items()}


def _turn(number: int, size: int, population: SiteField) -> Int[Tensor, "chains"]:
    """The chains of one of many turns of so many."""
    return torch.arange(number * size, (number + 1) * size, device=population.device) % len(population)


@runtime_checkable
class LabelledDensity(SiteDensity, Protocol):
    """A density of single sites, each of which can be compared with its exact distribution."""

    def cross_entropy(self, x: SiteField, columns: int, generator: Generator) -> Tensor:
        """−⟨log q⟩ where each site has its exact distribution given the others, with a graph."""
        ...


class SoftLabels(Populated):
    """Cross-entropy of the exact distribution of single sites, given all others, against the density's.

        −Σ_n ∫ dx_n p(x_n | all others) log q(x_n | those that q knows)

    whose minimum over q is that of D_KL(p|q), without the noise of the values x_n themselves. The others are
    those of the population.

    Args:
        chains: of each process, as of `Populated`.
        proposals: of the density, for each chain that a call moves, as of `Populated`.
        sweeps: of the heat bath in each call.
        columns: of how many sites, over all chains of a call, each class of sites is judged, or of how many
            of their images under the symmetries of the lattice.

    Raises:
        ValueError: as `Populated`.
    """

    name = "soft_labels"
    pupil = LabelledDensity
    example = "draws single sites, such as multilevel"

    def __init__(
        self, chains: Count = 512, proposals: float = 0.25, sweeps: Count = 1, columns: Count = 2560
    ) -> None:
        super().__init__(chains, proposals, sweeps)
        if columns < 1:
            raise ValueError(f"expected columns ≥ 1, got {columns}")
        self.columns = columns

    def _learn(self, density: LabelledDensity, x: SiteField, generator: Generator) -> Tensor:
        # where all places are alike, a network that serves them all sees each field from anywhere
        seen = _turned(x, generator) if isinstance(density.theory, NearestNeighbours) else x
        return density.cross_entropy(seen, self.columns, generator)


def _turned(x: SiteField, generator: Generator) -> SiteField:
    """The same fields, all seen after one translation, reflection and exchange of directions as long."""
    numbers = torch.rand(2 * x.ndim, generator=generator, device=generator.device).tolist()
    axes = tuple(range(1, x.ndim))
    x = x.roll([int(u * side) for u, side in zip(numbers, x.shape[1:], strict=False)], axes)
    x = x.flip([axis for axis in axes if numbers[x.ndim + axis - 1] < 0.5])
    exchanges = [some for some in permutations(axes) if x.permute(0, *some).shape == x.shape]
    return x.permute(0, *exchanges[-1 - int(numbers[-1] * len(exchanges))])
