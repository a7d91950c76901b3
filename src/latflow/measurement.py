"""A measured number: frozen, with its error, printed the way the field prints it."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

_NUMBER = r"[0-9]+(?:\.[0-9]*)?"
_PRINTED = re.compile(
    rf"""(?P<value>[+-]?(?:nan|inf|{_NUMBER}))
        \((?P<error>nan|inf|{_NUMBER}(?:e[+-]?[0-9]{{1,5}})?)\)
        (?:e(?P<exponent>[+-]?[0-9]{{1,5}}))?""",
    re.VERBOSE,
)
_LONGEST = 1000
"""Characters of a measurement that is read: the most decimals of two numbers in double precision are 700."""


@dataclass(frozen=True)
class Measurement:
    """A value and its statistical error, and what the error analysis found on the way.

    Attributes:
        value: the estimate.
        error: its standard error.
        tau_int: the integrated autocorrelation time τ = ½ + Σ_{t≥1} ρ(t), in steps; None without a Markov
            chain.
        tau_int_error: the error of τ.
        window: the lag at which the sum for τ ends.
        n: the number of samples.
        warning: why the error is not to be trusted, or why there is none: "constant".

    Raises:
        ValueError: for an error below zero.

    Example:
        >>> print(Measurement(0.314980, 0.00072))
        0.31498(72)
        >>> Measurement.parse("164.5(5.0)").error
        5.0
    """

    value: float
    error: float
    tau_int: float | None = None
    tau_int_error: float | None = None
    window: int | None = None
    n: int | None = None
    warning: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "error"):  # of any type of number: that of NumPy in single precision
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.error < 0:
            raise ValueError(f"expected an error of zero or more, got {self.error}")

    def __str__(self) -> str:
        """The value with two digits of the error: 0.31498(72), 74.0(4.0), 2518(130), 1.500(20)e+09, 2(0)."""
        if not math.isfinite(self.value):
            return f"{self.value}({self.error:.6g})"
        if self.error == 0 or not math.isfinite(self.error):
            mantissa, _, exponent = f"{self.value + 0.0:.10g}".partition("e")
            return f"{mantissa}({self.error:.0f})" + (f"e{exponent}" if exponent else "")
        value, error = Decimal(self.value), Decimal(self.error)
        exponent = _exponent(max(abs(value), error))
        if -5 < exponent < 7:
            return _fixed(value, error)
        return f"{_fixed(value.scaleb(-exponent), error.scaleb(-exponent))}e{exponent:+03d}"

    @classmethod
    def parse(cls, text: str) -> "Measurement":
        """The inverse of printing, up to rounding: "9.29135(1)", "74.0(4.0)", "1.500(20)e+09".

        Raises:
            ValueError: when the text is not a number with its error in brackets, or a number is too large or
                too small for double precision.
        """
        match = _PRINTED.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if match is None:
            shown = text if len(text) <= 50 else f"{text[:50]}…"
            raise ValueError(f"expected a number with its error, such as 0.31498(72), got {shown!r}")
        exponent = int(match["exponent"] or 0)
        in_last_place = match["error"].isdigit() and match["value"][-1] not in "nf"
        decimals = len(match["value"].partition(".")[2]) if in_last_place else 0
        return cls(_read(match["value"], exponent), _read(match["error"], exponent - decimals))

    def pull(self, other_value: float, other_error: float = 0.0) -> float:
        """(value − other value) / √(error² + other error²), in standard deviations; ±inf if both are 0."""
        difference, error = self.value - other_value, math.hypot(self.error, other_error)
        if error == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error


def _fixed(value: Decimal, error: Decimal) -> str:
    """Value and error without an exponent: two digits of an error below 10, all before the point above it."""
    decimals = max(1 - _exponent(error), 0)
    if _exponent(error) < 0:
        return f"{value:z.{decimals}f}({error.scaleb(decimals):.0f})"
    return f"{value:z.{decimals}f}({error:.{decimals}f})"


def _exponent(number: Decimal) -> int:
    """The decimal exponent of a positive number that is rounded to two digits."""
    return int(f"{number:.1e}".partition("e")[2])


def _read(digits: str, exponent: int) -> float:
    """digits · 10^exponent, of digits that may be nan or inf."""
    if digits.endswith(("nan", "inf")):
        return float(digits)
    mantissa, _, own = digits.partition("e")
    number = float(f"{mantissa}e{exponent + int(own or 0)}")
    if math.isinf(number) or (number == 0 and any(digit in "123456789" for digit in mantissa)):
        raise ValueError(
            f"expected a number between 5e-324 and 1.8e+308, got one with the exponent {exponent}"
        )
    return number
