"""How the trajectories of hybrid Monte Carlo become compiled programs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from torch import Generator, Tensor

from latflow.compiled import Programs, as_foreseen
from latflow.observables.base import Observe
from latflow.samplers.history import joined, on_cpu, stacked
from latflow.samplers.noise import NOISE, blank, drawn
from latflow.theories.base import Evaluation

if TYPE_CHECKING:
    from latflow.samplers.hmc import HMC

Named = dict[str, Tensor]
Evaluate = Callable[[Tensor], Evaluation]
"""Value, force and physical configuration at a point: `Action.evaluate`."""

Way = Literal["not", "passes", "whole"]
"""What is compiled: nothing, each evaluation of the action and its force, or whole trajectories."""

_STRETCH, _NUMBERS = 256, 2**15
"""The most steps that are recorded at once, and numbers in their fields: few enough to stay in the cache."""

_UNROLLED, _SMALL, _OPERATIONS = 8, 2**12, 800
"""Of a program of several trajectories: how many at most, for how many numbers in a field, since it is small
fields that wait for calls of programs, and the most operations in all, which bound the time to compile it."""

_WHOLE = 4500
"""The most operations in the forces of a trajectory that is compiled as one program, in about a minute. With
one for each evaluation, all between them goes through memory, and that takes longer than what they do."""

_MOST_READS = 1
"""Each drift is stored: else a force would gather every neighbour from all that the drift has read."""

_PAYS = 2**21
"""Of "auto": numbers that a trajectory moves, over all its steps, from which on a thousand trajectories save
the seconds that the compiler takes."""

_CHEAP = 500
"""Of "auto": the most operations in the forces of a trajectory, which bound those seconds."""


class Trajectories:
    """Compiled trajectories of one `HMC`.

    What is compiled depends on how many operations a trajectory has, which the compiler takes time for: all
    of it where these are few, and of small fields several trajectories as one more program, unless there is a
    mass; else the evaluation of action and force, as for most flows and for fermions.

    With `compiled="auto"` that happens where it is sure to pay: on the CPU with a C++ compiler and a known
    version of PyTorch, for fields that move as numbers, with at most 500 operations in the forces of a
    trajectory, and at least 2²¹ numbers to move in it (64 chains on 64², in 8 steps). For smaller fields a
    thousand trajectories take no longer than the compiler; who wants many more says `compiled=True`.
    """

    def __init__(self) -> None:
        self._programs = Programs()
        self._ways: dict[Any, Way] = {}

    def compiles(self, hmc: "HMC", known: Named) -> bool:
        """Whether anything is, for chains in this state."""
        return self._way(hmc, known) != "not"

    def transition(self, hmc: "HMC", given: Named) -> Named:
        """State and info after a trajectory, as `HMC.moved`."""
        match self._way(hmc, given):
            case "whole":
                return self._programs.run(hmc.moved, given, _MOST_READS)
            case "passes":
                return hmc.moved(given, self._evaluate(hmc))
            case _:
                return hmc.moved(given)

    def history(
        self, hmc: "HMC", known: Named, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[Named, Named]:
        """The state after some transitions, and what is recorded of them, (step, chain, …), on the CPU."""
        longest, rows = min(_STRETCH, max(1, _NUMBERS // known["x"].numel())), []
        for first in range(0, n_steps, longest):
            known, row = self._stretch(hmc, known, min(longest, n_steps - first), observe, generator)
            rows.append(row)
        return known, on_cpu(joined(rows))

    def _stretch(
        self, hmc: "HMC", known: Named, n_steps: int, observe: Observe, generator: Generator
    ) -> tuple[Named, Named]:
        noise = drawn(known["x"], hmc.tangent_shape(known["x"]), n_steps, generator, jitter=hmc.jitter > 0)
        parts, together = [], self.together(hmc, known) if n_steps > 1 else 1
        whole, single = divmod(n_steps, together)
        sizes = [together] * whole + [1] * single
        for numbers in zip(*(values.split(sizes) for values in noise.values()), strict=True):
            found = self._transitions(hmc, known | dict(zip(noise, numbers, strict=True)))
            known = {name: found.pop(name) for name in known}
            parts.append(found)
        history = joined(parts)
        seen = observe(history.pop("fields").flatten(0, 1))
        shape = (n_steps, known["x"].shape[0])
        return known, {name: values.unflatten(0, shape) for name, values in seen.items()} | history

    def together(self, hmc: "HMC", known: Named) -> int:
        """How many trajectories one program makes."""
        x = known["x"]
        if hmc.mass or x.numel() > _SMALL or self._way(hmc, known) != "whole":
            return 1
        noise = blank(x, hmc.tangent_shape(x), 1, jitter=hmc.jitter > 0)
        given = known | {name: values[0] for name, values in noise.items()}
        operations = self._programs.operations(hmc.moved, given)
        return 1 if operations is None else max(1, min(_UNROLLED, _OPERATIONS // operations))

    def _transitions(self, hmc: "HMC", given: Named) -> Named:
        """The state after trajectories, one for each row of the random numbers, and what became of each.

        That is "fields", "accepted" and "delta_h", (step, chain, …).
        """
        if given["uniform"].shape[0] == 1:
            return _followed(hmc, lambda one: self.transition(hmc, one), given)

        def moved_often(given: Named) -> Named:
            return _followed(hmc, hmc.moved, given)

        return self._programs.run(moved_often, given, _MOST_READS)

    def _evaluate(self, hmc: "HMC") -> Evaluate:
        """Value, force and field at a point by one program."""

        def evaluate(x: Tensor) -> Evaluation:
            found = self._programs.run(_evaluated(hmc), {"x": x})
            return Evaluation(found["value"], found["force"], found.get("field", x))

        return evaluate

    def _way(self, hmc: "HMC", known: Named) -> Way:
        x = known["x"]
        key = (x.shape, x.dtype, x.device)
        if key not in self._ways:
            self._ways[key] = self._chosen_way(hmc, x)
        return self._ways[key]

    def _chosen_way(self, hmc: "HMC", x: Tensor) -> Way:
        forces, automatic = hmc.force_evaluations, hmc.compiled == "auto"
        if not hmc.compiled or hmc.inner_steps is not None or (automatic and not self._may_pay(hmc, x)):
            return "not"
        operations = self._programs.operations(_evaluated(hmc), {"x": x})
        if automatic and (operations is None or operations * forces > _CHEAP):
            return "not"
        return "whole" if operations is None or operations * forces <= _WHOLE else "passes"

    @staticmethod
    def _may_pay(hmc: "HMC", x: Tensor) -> bool:
        enough = x.numel() * hmc.force_evaluations >= _PAYS
        return enough and hmc.manifold.linear and x.device.type == "cpu" and as_foreseen()


def _evaluated(hmc: "HMC") -> Callable[[Named], Named]:
    def evaluated(given: Named) -> Named:
        value, force, field = hmc.action.evaluate(given["x"])
        return {"value": value, "force": force} | ({} if field is given["x"] else {"field": field})

    return evaluated


def _followed(hmc: "HMC", moved: Callable[[Named], Named], given: Named) -> Named:
    """Trajectories one after the other."""
    noise = {name: given[name] for name in NOISE if name in given}
    known = {name: given[name] for name in given if name not in NOISE}
    rows = []
    for i in range(len(given["uniform"])):
        found = moved(known | {name: values[i] for name, values in noise.items()})
        known = {name: found.pop(name) for name in known}
        rows.append(found | {"fields": hmc.field(hmc.state_from_dict(known))})
    return known | (stacked(rows) if len(rows) > 1 else {name: row[None] for name, row in rows[0].items()})
