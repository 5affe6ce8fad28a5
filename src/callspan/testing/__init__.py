"""Testing: captures spans and records, serves scripted replies on loopback, and replays recorded calls."""

from __future__ import annotations

import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from callspan.testing.capturing import Capture, capture
    from callspan.testing.provider import Choice, ReceivedRequest, Reply, ScriptedProvider
    from callspan.testing.replaying import ReplayError, ReplayProvider, replay

_HOMES = {
    "Capture": "callspan.testing.capturing",
    "Choice": "callspan.testing.provider",
    "ReceivedRequest": "callspan.testing.provider",
    "ReplayError": "callspan.testing.replaying",
    "ReplayProvider": "callspan.testing.replaying",
    "Reply": "callspan.testing.provider",
    "ScriptedProvider": "callspan.testing.provider",
    "capture": "callspan.testing.capturing",
    "replay": "callspan.testing.replaying",
}

__all__ = [
    "Capture",
    "Choice",
    "ReceivedRequest",
    "ReplayError",
    "ReplayProvider",
    "Reply",
    "ScriptedProvider",
    "capture",
    "replay",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'callspan.testing' has no attribute {name!r}")
    value = getattr(_import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
