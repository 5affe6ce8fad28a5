"""Amounts: exact arithmetic of money in decimal contexts of its own: those of an application may have any precision."""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Final

_TRAPS: Final = [InvalidOperation, DivisionByZero, Overflow]
_LARGEST_EXPONENT: Final = 400
EXACT: Final = Context(prec=1_000, traps=_TRAPS)
"""Enough digits that no sum of amounts and no amount in picodollars is ever rounded."""
USUAL: Final = Context(prec=28, traps=_TRAPS)
"""Python's own default: that of price lists, whose quotients may have no end."""


def is_amount(usd: Decimal) -> bool:
    """Return whether an amount is finite and between 1E-400 and 1E+400: written out, others would fill the memory."""
    return (
        usd.is_finite() and usd.adjusted() <= _LARGEST_EXPONENT and int(usd.as_tuple().exponent) >= -_LARGEST_EXPONENT
    )


def as_text(usd: Decimal) -> str | None:
    """Return a decimal digit by digit, also NaN and infinities; None for what is too large or small to write."""
    return format(usd, "f") if is_amount(usd) or not usd.is_finite() else None


def as_number(usd: Decimal) -> str | None:
    """Return an amount digit by digit, without an exponent; None where it is none."""
    return as_text(usd) if usd.is_finite() else None
