"""For tests of applications: capture spans and records, and a scripted provider on loopback."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callspan.testing.capturing import Captured, capture
    from callspan.testing.provider import Choice, ReceivedRequest, Reply, ScriptedProvider

_HOMES = {
    "Captured": "callspan.testing.capturing",
    "Choice": "callspan.testing.provider",
    "ReceivedRequest": "callspan.testing.provider",
    "Reply": "callspan.testing.provider",
    "ScriptedProvider": "callspan.testing.provider",
    "capture": "callspan.testing.capturing",
}

__all__ = ["Captured", "Choice", "ReceivedRequest", "Reply", "ScriptedProvider", "capture"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'callspan.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
