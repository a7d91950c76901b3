"""Ctrl-C and the end of a batch job, met between two steps: the state is saved, then the program stops."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from latflow.terminal import SIGNALS
from latflow.training.world import ALONE, World, launched

_LOG = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """A stage stopped by a signal after its state was saved: the same call goes on there.

    Args:
        signum: SIGINT for Ctrl-C, SIGTERM from a batch system, SIGHUP of a terminal that has gone.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class StopRequest:
    """Whether a signal came; a second one does not wait.

    Under torchrun it does: one Ctrl-C may arrive twice there, from the terminal or batch system and from
    torchrun, which itself ends what has not stopped after half a minute.

    Args:
        world: the processes that stop together.
    """

    def __init__(self, world: World = ALONE) -> None:
        self.world = world
        self.signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def agreed(self) -> bool:
        """Whether a signal came to any of the processes; all processes ask this together."""
        # a signal that comes now, after this process was asked, counts the next time
        signum = self.world.largest(self.signum or 0)
        if signum:
            self.signum = signum
        return signum > 0

    def heed(self) -> None:
        """Stop here if that was asked for; all processes call this together, where everything is saved.

        Raises:
            Interrupted: when a signal came to any of them.
        """
        if self.agreed():
            assert self.signum is not None
            raise Interrupted(self.signum)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        several = launched().size > 1
        if self and not several:
            raise Interrupted(signum)
        if not self and self.world.rank == 0:
            second = "" if several else "; a second signal stops at once"
            _LOG.warning("stopping at the next point where everything is saved%s", second)
        self.signum = signum


@contextlib.contextmanager
def deferred_signals(world: World = ALONE) -> Iterator[StopRequest]:
    """Within the block signals only leave a request to stop, on which the processes may agree.

    Those of Ctrl-C, of a batch system, and of a terminal that has gone: SIGINT, SIGTERM and SIGHUP.

    Outside the main thread Python delivers no signals, and the request is never made. A signal that the
    process ignores stays ignored.
    """
    request = StopRequest(world)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        for signum, handler in previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, request._handle)
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
