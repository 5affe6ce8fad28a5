"""Privacy and size: excluded content is nowhere, and large content stays within its limits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from callspan import Handle
from callspan.records import encode
from callspan.stores import CallFilter, Reader
from callspan.testing import capture
from tests.e2e.ask import chat
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode
from tests.processed import everywhere

SECRET = "open sesame"
MESSAGES: list[Any] = [{"role": "user", "content": SECRET}]


def test_a_thousand_messages_are_a_short_record_in_metadata_mode(mode: Mode, run: Run) -> None:
    """Their number and roles, their size and hash; not one of their words."""
    many: list[Any] = [{"role": "user", "content": f"{SECRET} {number} " * 20} for number in range(1000)]
    with capture(content="metadata") as seen:
        run(lambda: mode.wait(chat(mode, messages=many)))
        record, texts = the_call(seen), everywhere(seen)
    assert "sesame" not in texts
    assert (record.request.message_count, record.request.roles) == (1000, ["user"] * 1000)
    assert len(encode(record)) < (record.request.body_bytes or 0) / 20
    (note, *_) = record.redactions
    assert (note.what, note.original_bytes) == ("request.body", record.request.body_bytes)
    assert note.sha256 == hashlib.sha256(mode.provider.requests[0].content).hexdigest()


def test_records_without_bodies_can_be_requested(
    mode: Mode, run: Run, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """In metadata mode no body is kept, and calls are found by model, time and outcome, and added up, as ever."""
    handle = instrumented(content="metadata", stores=f"sqlite:///{tmp_path}/calls.db")
    mode.provider.reply(input_tokens=11)
    run(lambda: mode.wait(chat(mode, messages=MESSAGES)))
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    (record,) = reader.calls(CallFilter(model="gpt-5", errors=False, since_ns=1))
    assert not bytes(record.request.body)
    assert record.response is not None
    assert not bytes(record.response.body)
    assert [one.input_tokens for one in reader.summary("model")] == [11]
    assert b"sesame" not in (tmp_path / "calls.db").read_bytes()
