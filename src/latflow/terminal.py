"""What the command line owes to its terminal: glyphs that it can show, and one line for a signal.

Nothing heavy is imported here, so that a signal of the first moment finds it ready.
"""

import codecs
import contextlib
import os
import signal
import sys
import unicodedata
from types import FrameType

_PLAIN = {
    "−": "-", "⟨": "<", "⟩": ">", "×": "x", "·": ".", "→": "->", "…": "...", "≤": "<=", "≥": ">=", "∞": "inf",
    "“": '"', "”": '"', "’": "'", "–": "-", "—": "-", "│": "|", "─": "-", "━": "-", "σ": "sigma", "φ": "phi",
    "β": "beta", "κ": "kappa", "λ": "lambda", "τ": "tau", "ξ": "xi", "χ": "chi", "θ": "theta", "ω": "omega",
    "μ": "mu", "π": "pi", "Δ": "Delta", "Σ": "sum", "∂": "d", "√": "sqrt", "∫": "int", "ħ": "hbar",
}  # fmt: skip
"""The glyphs of this field for terminals without them."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Of Ctrl-C, of a batch system, and of a terminal that has gone, of which Windows knows none."""


def show_what_it_can() -> None:
    """Glyphs that the encoding of standard output or error has not are written in plain letters."""
    codecs.register_error("latflow.plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="latflow.plain")


def end_on_signals() -> None:
    """Ctrl-C, SIGTERM and SIGHUP end the process with one line and their status, wherever it is.

    While a stage of a run works, it asks for the signals itself and ends where everything is saved. Elsewhere
    nothing is lost that the same command would not make again: files are replaced whole or not at all. A
    signal that is ignored stays so.
    """
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _end)


def _end(signum: int, _: FrameType | None) -> None:
    # an exception could be caught, or turned into another one, by whatever is being imported
    with contextlib.suppress(OSError):
        os.write(2, b"\nlatflow: stopped; the same command goes on from here\n")
    os._exit(128 + signum)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(glyph: str) -> str:
    """Its name in letters, or the letter or number that it is a form of: ² is 2, and é is e."""
    simple = unicodedata.normalize("NFKD", glyph)
    return _PLAIN.get(glyph) or "".join(_PLAIN.get(c, c if c.isascii() else "") for c in simple) or "?"
