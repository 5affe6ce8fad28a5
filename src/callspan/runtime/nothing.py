"""Nothing: what stands where a function is expected and there is nothing to do."""

from __future__ import annotations


def nothing(*_: object) -> None:
    """Do nothing."""
