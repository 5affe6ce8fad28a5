"""Records, and what is made of them for stores, are no work for the garbage collector, which would look through all."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from callspan.record import call, events, messages, usage
from callspan.stores import bodies, payloads

_TYPES = [
    found
    for module in (call, events, messages, usage, bodies, payloads)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, msgspec.Struct) and found.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", _TYPES, ids=lambda kind: kind.__name__)
def test_it_is_not_tracked(kind: type[msgspec.Struct]) -> None:
    assert not kind.__struct_config__.gc
