"""Faults: what an exception of the application becomes in a record."""

from __future__ import annotations

from functools import partial

from callspan.fail_open import value_of
from callspan.record.call import ErrorInfo


def error_info(error: BaseException | str | None) -> ErrorInfo | None:
    """Return the error as a record keeps it; None for None. Text counts as a message without an exception."""
    if error is None:
        return None
    if isinstance(error, str):
        return ErrorInfo(kind="unknown", type="error", message=error)
    kind = "unknown" if isinstance(error, Exception) else "cancelled"
    qualified = _qualified(type(error))
    return ErrorInfo(kind=kind, type=qualified, exception=qualified, message=value_of(partial(str, error)))


def outcome_of(error: BaseException | None) -> str:
    """Return `success`, `error`, or `cancelled` (cancellation, a closed generator, an interrupt, an exit)."""
    if error is None:
        return "success"
    return "error" if isinstance(error, Exception) else "cancelled"


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
