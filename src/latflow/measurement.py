"""A measured number: frozen, with its error, printed the way the field prints it."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

_PRINTED = re.compile(
    r"""(?P<value>[+-]?\d+(?:\.(?P<decimals>\d*))?)
        \((?P<error>nan|inf|\d+(?P<point>\.\d*)?)\)
        (?:e(?P<exponent>[+-]?\d+))?""",
    re.VERBOSE,
)


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

    def __str__(self) -> str:
        """The value with two digits of the error: 0.31498(72), 74.0(4.0), 2518(130), 1.500(20)e+09, 2(0)."""
        if not math.isfinite(self.value) or not math.isfinite(self.error):
            return f"{self.value:.6g}({self.error:.6g})"
        if self.error == 0:
            mantissa, _, exponent = f"{self.value:.10g}".partition("e")
            return f"{mantissa}(0)" + (f"e{exponent}" if exponent else "")
        exponent = _exponent(max(abs(self.value), self.error))
        if -5 < exponent < 7:
            return _fixed(self.value, self.error)
        return f"{_fixed(_scaled(self.value, -exponent), _scaled(self.error, -exponent))}e{exponent:+03d}"

    @classmethod
    def parse(cls, text: str) -> "Measurement":
        """The inverse of printing, up to rounding: "9.29135(1)", "74.0(4.0)", "1.500(20)e+09".

        Raises:
            ValueError: when the text is not a number with its error in brackets.
        """
        match = _PRINTED.fullmatch(text.strip())
        if match is None and not re.fullmatch(r"[+-]?(nan|inf)\((nan|inf)\)", text.strip()):
            raise ValueError(f"expected a number with its error, such as 0.31498(72), got {text!r}")
        if match is None:
            value, _, error = text.strip()[:-1].partition("(")
            return cls(float(value), float(error))
        exponent = int(match["exponent"] or 0)
        last_place = 0 if match["point"] or not match["error"].isdigit() else -len(match["decimals"] or "")
        return cls(
            float(Decimal(match["value"]).scaleb(exponent)),
            float(Decimal(match["error"]).scaleb(exponent + last_place)),
        )

    def pull(self, other_value: float, other_error: float = 0.0) -> float:
        """(value − other value) / √(error² + other error²), in standard deviations; ±inf if both are 0."""
        difference, error = self.value - other_value, math.hypot(self.error, other_error)
        if error == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / error


def _fixed(value: float, error: float) -> str:
    """Value and error without an exponent: two digits of an error below 10, all before the point above it."""
    decimals = max(1 - _exponent(error), 0)
    if _exponent(error) < 0:
        return f"{value:.{decimals}f}({_scaled(error, decimals):.0f})"
    return f"{value:.{decimals}f}({error:.{decimals}f})"


def _exponent(number: float) -> int:
    """The decimal exponent of a positive number that is rounded to two digits."""
    return int(f"{number:.1e}".partition("e")[2])


def _scaled(number: float, exponent: int) -> float:
    """number · 10^exponent without the rounding of the power."""
    return float(Decimal(number).scaleb(exponent))
