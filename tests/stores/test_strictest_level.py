"""Versions of one record: a stricter level of any of them holds, whichever comes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from callspan.record.content_level import at_level
from callspan.records import CallRecord, ErrorInfo, Record
from callspan.settings import Content, strictest

from .conftest import START_NS, Delivery, Records

CANARY = "open sesame"
LEVELS: Sequence[tuple[Content, Content]] = [("full", "metadata"), ("full", "off"), ("metadata", "off")]


def plain(records: Records) -> Sequence[Record]:
    """A stream that begins, and its end."""
    ended = records.call([{"role": "user", "content": CANARY}], CANARY, error=failure())
    return msgspec.structs.replace(ended, part="started", outcome="started", response=None, error=None), ended


def background(records: Records) -> Sequence[Record]:
    """A background response, and its answer, read by another process."""
    answered = records.call([{"role": "user", "content": CANARY}], CANARY, part="answered", seen_in="fetch")
    return msgspec.structs.replace(answered, part="requested", seen_in="call", response=None), answered


def session(records: Records) -> Sequence[Record]:
    ended = records.session(start_ns=START_NS, end_ns=START_NS + 9, error=failure())
    return msgspec.structs.replace(ended, end_ns=None, seen_ns=ended.seen_ns - 1), ended


def failure() -> ErrorInfo:
    return ErrorInfo(kind="x", type="E", message=CANARY)


def with_level(record: Any, level: Content) -> Any:
    """Return what a process writes at a level."""
    return msgspec.structs.replace(at_level(record, level), content_level=level)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Any, deliver: Callable[[str], Delivery]) -> Delivery:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/calls.db"
    return deliver(url)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("strict_first", [True, False])
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("made", [plain, background, session])
def test_no_version_keeps_what_another_forbids(
    store: Delivery, records: Records, made: Callable[[Records], Sequence[Record]], levels: Sequence[Content], *,
    strict_first: bool, backwards: bool, at_once: bool,
) -> None:  # fmt: skip
    loose, strict = levels
    first, second = made(records)
    versions = [
        with_level(first, strict if strict_first else loose),
        with_level(second, loose if strict_first else strict),
    ]
    versions = versions[::-1] if backwards else versions
    if at_once:
        store.write(*versions)
    else:
        for version in versions:
            store.write(version)
    store.write(*versions)
    reader = store.read()
    if isinstance(first, CallRecord):
        (found,) = reader.calls()
        assert found.usage == second.usage  # type: ignore[union-attr]
    else:
        (summary,) = reader.sessions()
        found = summary.session  # type: ignore[assignment]
    whole = msgspec.json.encode(msgspec.structs.replace(found, metadata={}))
    assert found.content_level == strictest(*levels)
    assert CANARY.encode() not in whole
    if strict == "off":
        assert b'"sha256"' not in whole
    elif isinstance(first, CallRecord):
        assert b'"role":"user"' not in whole
