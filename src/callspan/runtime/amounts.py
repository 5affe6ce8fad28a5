"""Amounts: exact decimal arithmetic, independent of the application's decimal context.

Operators such as `+`, and `abs` and `round`, compute in the thread's context, and a new `Context` takes its other
settings from `decimal.DefaultContext`. An application may change both: to few digits, or so that rounding raises. So
decimals are computed by the methods of these contexts, or with one of them as the local context.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow
from typing import Final, TypeAlias

_Signals: TypeAlias = Sequence[type[DecimalException]]
_ERRORS: Final[_Signals] = (InvalidOperation, DivisionByZero, Overflow)
_MAX_EXPONENT: Final = 400
_LIMIT: Final = 999_999
"""Limit of exponents, as in Python's default context."""


def decimal_context(digits: int, traps: _Signals = ()) -> Context:
    """Return a context that computes with so many digits; only the signals `traps` raise."""
    return Context(
        prec=digits, rounding=ROUND_HALF_EVEN, Emin=-_LIMIT, Emax=_LIMIT, capitals=1, clamp=0, flags=[], traps=[*traps]
    )


EXACT: Final = decimal_context(1_000, _ERRORS)
"""Enough digits for any sum of amounts, and any amount in picodollars, without rounding."""
USUAL: Final = decimal_context(28, _ERRORS)
"""Python's default precision, for price lists: dividing their prices may give periodic decimals."""


def is_amount(usd: Decimal) -> bool:
    """Return whether an amount is finite and between 1E-400 and 1E+400, so that all its digits can be written."""
    return usd.is_finite() and usd.adjusted() <= _MAX_EXPONENT and int(usd.as_tuple().exponent) >= -_MAX_EXPONENT


def as_text(usd: Decimal) -> str | None:
    """Return a decimal without an exponent, also NaN and infinities; None if it is not an amount."""
    return format(usd, "f") if is_amount(usd) or not usd.is_finite() else None


def as_number(usd: Decimal) -> str | None:
    """Return an amount without an exponent; None if it is not an amount."""
    return as_text(usd) if usd.is_finite() else None
