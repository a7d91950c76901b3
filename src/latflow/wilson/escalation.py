"""Precision that escalates: elimination for all, more digits or the whole matrix for what it gets wrong."""

from collections.abc import Callable

import torch
from torch import Tensor

Results = tuple[Tensor, ...]
"""Tensors whose first dimension is the batch."""
Way = Callable[[Tensor], tuple[Results, Tensor]]
"""Of links to results and to the least pivot ratio on the way to them, about 1/cond."""
ReducedWay = Callable[[Tensor, int | None], tuple[Results, Tensor]]
"""The same by elimination, with the `span` at which it stops."""

_SPANS = (None, 16, 8)
"""Tried in this order: a hop may grow too much for the precision, or too little to be chosen as a pivot."""

_CACHED, _AT_ONCE = 2**17, 2**24
"""As many configurations go together as keep L0 L1² of all below this: on the CPU they fit its cache."""


def with_escalation(links: Tensor, kappa: float, reduced: ReducedWay, dense: Way) -> tuple[Results, Tensor]:
    """What `reduced` gives for a batch of links, or `dense` where it cannot; and where D is nearly singular.

    A configuration with a pivot ratio r below ε^¼ is reduced again in double precision, then with shorter
    spans, and where all are as bad, as they must be when D is close to singular, it is done densely. For with
    |G| = 1/r rounding makes the inverse G of a block wrong by ε/r², and as much what it leaves of H, the
    inverse X of that, and log|det D|; X_oo = G + G C X C† G, of which the derivatives are made, becomes wrong
    by ε/r⁴. D is called nearly singular when a quarter of the digits of its determinant, or fewer, are right
    even then; nan counts too. Results are in double precision where one of them took that.

    Args:
        links: (batch, 2, L0, L1).
        kappa: from |κ| = ½ on a slice of the free field may be singular, and everything is dense.
        reduced: by elimination.
        dense: by the whole matrix.
    """
    if abs(kappa) >= 0.5:
        return judged(links, dense)
    l0, l1 = links.shape[2:]
    limit = _CACHED if links.device.type == "cpu" else _AT_ONCE
    size = max(1, limit // (l0 * l1 * min(l0, l1)))

    parts = [
        _with_spans(part, _SPANS[:1], reduced, lambda weak: _more_precisely(weak, reduced, dense))
        for part in links.split(size)
    ]
    return _joined([results for results, _ in parts]), torch.cat([singular for _, singular in parts])


def _more_precisely(links: Tensor, reduced: ReducedWay, dense: Way) -> tuple[Results, Tensor]:
    """The same in double precision and with all spans, a plain one only if it is not what has failed."""
    spans = _SPANS[1:] if links.dtype == torch.float64 else _SPANS
    return _with_spans(links.double(), spans, reduced, lambda weak: judged(weak, dense))


def _with_spans(
    links: Tensor, spans: tuple[int | None, ...], reduced: ReducedWay, otherwise: Way
) -> tuple[Results, Tensor]:
    """By elimination with the first of the spans that does, and otherwise if none does."""
    if not spans:
        return otherwise(links)
    first, *rest = spans
    return _where_weak(
        links,
        lambda part: reduced(part, first),
        lambda weak: _with_spans(weak, tuple(rest), reduced, otherwise),
    )


def judged(links: Tensor, dense: Way) -> tuple[Results, Tensor]:
    """The results of a dense way, and where the matrix is nearly singular."""
    results, ratio = dense(links)
    return results, ~(ratio > torch.finfo(ratio.dtype).eps ** 0.75)


def _where_weak(links: Tensor, way: Way, otherwise: Way) -> tuple[Results, Tensor]:
    """The weak configurations otherwise, and the others without them.

    Nothing with a graph is selected from results of all: a gradient that is not finite would spoil the
    others'.
    """
    results, ratio = way(links)
    weak = ~(ratio > torch.finfo(ratio.dtype).eps ** 0.25)
    if not bool(weak.any()):
        return results, weak
    parts, singular = [], weak.clone()
    mended, singular[weak] = otherwise(links[weak])
    parts.append(mended)
    if not bool(weak.all()):
        graph = any(result.requires_grad for result in results)
        parts.append(way(links[~weak])[0] if graph else tuple(result[~weak] for result in results))
    order = torch.cat((weak.nonzero()[:, 0], (~weak).nonzero()[:, 0])).argsort()
    return tuple(result[order] for result in _joined(parts)), singular


def _joined(parts: list[Results]) -> Results:
    return tuple(torch.cat(results) for results in zip(*parts, strict=True))
