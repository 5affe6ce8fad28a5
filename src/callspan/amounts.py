"""Amounts: exact decimal arithmetic, independent of the application's decimal context."""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Final

_TRAPS: Final = [InvalidOperation, DivisionByZero, Overflow]
_MAX_EXPONENT: Final = 400
EXACT: Final = Context(prec=1_000, traps=_TRAPS)
"""Enough digits for any sum of amounts, and any amount in picodollars, without rounding."""
USUAL: Final = Context(prec=28, traps=_TRAPS)
"""Python's default precision, used by price lists, whose quotients may be periodic."""


def is_amount(usd: Decimal) -> bool:
    """Return whether an amount is finite and between 1E-400 and 1E+400, so that all its digits can be written."""
    return usd.is_finite() and usd.adjusted() <= _MAX_EXPONENT and int(usd.as_tuple().exponent) >= -_MAX_EXPONENT


def as_text(usd: Decimal) -> str | None:
    """Return a decimal without an exponent, also NaN and infinities; None if it is not an amount."""
    return format(usd, "f") if is_amount(usd) or not usd.is_finite() else None


def as_number(usd: Decimal) -> str | None:
    """Return an amount without an exponent; None if it is not an amount."""
    return as_text(usd) if usd.is_finite() else None
