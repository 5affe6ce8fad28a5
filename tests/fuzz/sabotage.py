"""Sabotage: temporary faults in callspan, each of which the fuzzer must find."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any
from unittest import mock

import msgspec


def _bases() -> list[Any]:
    return [importlib.import_module(f"{sdk}._base_client") for sdk in ("openai", "anthropic")]


def _wrapping(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    original = vars(owner)[name]
    return mock.patch.object(owner, name, wraps(original)(_as_ours(make(original))))


def _as_ours(function: Any) -> Any:
    """The same function as if callspan had it: another package's would be found by the warning of conflicts alone."""
    names = {**function.__globals__, "__name__": "callspan"}
    ours = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    ours.__kwdefaults__ = function.__kwdefaults__
    return ours


def _read_ahead(original: Any) -> Any:
    def reader(stream: Any) -> Iterator[Any]:
        items = original(stream)
        ahead = next(items, reader)
        while ahead is not reader:
            item, ahead = ahead, next(items, reader)
            yield item

    return reader


def _streams() -> list[Any]:
    return [
        _wrapping(importlib.import_module(f"{sdk}._streaming").Stream, "__stream__", _read_ahead)
        for sdk in ("openai", "anthropic")
    ]


def _without_cause(original: Any) -> Any:
    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            error.__cause__ = None
            raise

    return request


def _in_another_context(original: Any) -> Any:
    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            raise KeyError("ours")
        except KeyError:
            return original(*args, **kwargs)

    return request


def _with_header(original: Any) -> Any:
    def build(*args: Any, **kwargs: Any) -> Any:
        built = original(*args, **kwargs)
        built.headers["x-ours"] = "1"
        return built

    return build


def _with_other_body(original: Any) -> Any:
    def data(self: Any, *, data: Any, cast_to: Any, response: Any) -> Any:
        if isinstance(data, dict):
            data.pop("usage", None)
        return original(self, data=data, cast_to=cast_to, response=response)

    return data


def _requests(make: Callable[[Any], Any]) -> list[Any]:
    return [_wrapping(base.SyncAPIClient, "request", make) for base in _bases()]


def _built(name: str, make: Callable[[Any], Any]) -> list[Any]:
    return [_wrapping(base.BaseClient, name, make) for base in _bases()]


def _http() -> set[Any]:
    from tests.fuzz.describe import http_of

    return {http_of(base) for base in _bases()}


def _not_closing(original: Any) -> Any:
    return lambda self: None


def _reading_at_once(original: Any) -> Any:
    def iter_bytes(self: Any, *args: Any, **kwargs: Any) -> Any:
        return iter(list(original(self, *args, **kwargs)))

    return iter_bytes


def _late(name: str, make: Callable[[Any], Any]) -> list[Any]:
    from callspan.observe.deferred_ends import DeferredEnds

    return [_wrapping(DeferredEnds, name, make)]


def _calls(name: str, make: Callable[[Any], Any]) -> list[Any]:
    from callspan.observe.call import Call

    return [_wrapping(Call, name, make)]


def _written_early(original: Any) -> Any:
    def process(self: Any, ending: Any) -> Any:
        processed = original(self, ending)
        self._factory.recorder.write(processed)
        return processed

    return process


def _not_if_cancelled(original: Any) -> Any:
    def end(self: Any, *, outcome: str = "success", **kwargs: Any) -> None:
        if outcome != "cancelled":
            original(self, outcome=outcome, **kwargs)

    return end


def _nothing(original: Any) -> Any:
    return lambda *args, **kwargs: None


def _without_usage(original: Any) -> Any:
    def append(self: Any, payload: bytes) -> Any:
        record = msgspec.json.decode(payload)
        record.pop("usage", None)
        return original(self, msgspec.json.encode(record))

    return append


def _spool(make: Callable[[Any], Any]) -> list[Any]:
    from callspan.spool.spool import Spool

    return [_wrapping(Spool, "append", make)]


SABOTAGES: dict[str, Callable[[], list[Any]]] = {
    "a chunk is read ahead": _streams,
    "the cause of an exception is lost": lambda: _requests(_without_cause),
    "an exception gets a context": lambda: _requests(_in_another_context),
    "a header is added": lambda: _built("_build_request", _with_header),
    "the parsed body is changed": lambda: _built("_process_response_data", _with_other_body),
    "a response is not closed": lambda: [_wrapping(library.Response, "close", _not_closing) for library in _http()],
    "bytes are read at once": lambda: [_wrapping(lib.Response, "iter_bytes", _reading_at_once) for lib in _http()],
    "a record is written twice": lambda: _calls("_process", _written_early),
    "a row is lost": lambda: _spool(_nothing),
    "a row is not the record": lambda: _spool(_without_usage),
    "cancelled calls are forgotten": lambda: _calls("end", _not_if_cancelled),
    "dropped streams are forgotten": lambda: _late("note", _nothing),
}
"""Each as patches to be put in place while a case runs."""


@contextmanager
def sabotaged(name: str | None) -> Iterator[None]:
    """Put the fault of this name into callspan for the block."""
    patches = SABOTAGES[name]() if name is not None else []
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()
