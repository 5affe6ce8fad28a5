"""Errors of failed calls: one class for both SDKs, the exception unchanged for the caller, the server's time."""

from __future__ import annotations

import gc
import re
import time
import traceback
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.support.calls import CHAT, Run, Wire, caught, the_call
from tests.support.mode import Mode

pytestmark = pytest.mark.usefixtures("short_waits")
FAILURES: Final[dict[str, dict[str, Any]]] = {
    "status": {"status": 400, "message": "Nothing doing."},
    "hang": {"hang": True},
    "malformed": {"text": "one two three", "malformed": True},
    "cut": {"text": "one two three", "body_cut": True},
}
failures = pytest.mark.parametrize("failure", FAILURES)


def failing(wire: Wire, run: Run, failure: str) -> BaseException:
    wire.mode.provider.reply(**FAILURES[failure])
    raised = caught(run, lambda: wire.call(wire.client(timeout=0.1) if failure == "hang" else None))
    assert raised is not None
    return raised


@failures
def test_a_failure_has_its_outcome_kind_and_attempt(failure: str, shaped: Wire, run: Run, seen: Captured) -> None:
    raised = failing(shaped, run, failure)
    record = the_call(seen)
    assert record.error is not None
    outcome, kind, retryable = {
        "status": ("error", "bad_input", False), "hang": ("timeout", "timeout", True),
        "malformed": ("error", "parsing", False), "cut": ("error", "connection", True),
    }[failure]  # fmt: skip
    assert (record.outcome, record.error.kind, record.error.retryable) == (outcome, kind, retryable)
    # The caller parses a raw response himself, later.
    assert (record.error.exception or type(raised).__name__).endswith(type(raised).__name__)
    headers_were_well = failure == "malformed" or (failure == "cut" and shaped.shape == "stream")
    status = 400 if failure == "status" else 200 if headers_were_well else None
    assert [attempt.status for attempt in record.attempts] == [status]
    if failure == "cut":
        assert record.attempts[0].error_kind == "connection"
        assert [event.name for event in seen.spans[0].events].count("llm.attempt") == 1
    if failure == "malformed" and shaped.shape == "raw":
        assert record.response is None or not bytes(record.response.body)


def test_code_parameter_and_body_are_kept(mode: Mode, run: Run, seen: Captured) -> None:
    body = {"error": {"message": "Bad.", "type": "invalid_request_error", "param": "temperature", "code": "too_hot"}}
    mode.provider.reply(status=400, raw=body)
    assert caught(run, Wire("chat_completions", mode).call) is not None
    info = the_call(seen).error
    assert info is not None
    assert (info.type, info.code, info.param, info.message is not None) == ("too_hot", "too_hot", "temperature", True)
    assert info.body == body["error"]


def test_a_body_cut_off_is_tried_again(plain: Wire, run: Run, seen: Captured) -> None:
    plain.script(FAILURES["cut"], {"text": "well"})
    run(lambda: plain.call(plain.client(max_retries=1)))
    record = the_call(seen)
    assert [(attempt.status, attempt.error_kind) for attempt in record.attempts] == [(None, "connection"), (200, None)]
    assert (record.retries, record.outcome) == (1, "success")


@pytest.mark.parametrize(
    ("stated", "server_ns"),
    [("42", 42_000_000), ("7.5", 7_500_000), ("0", 0), ("", None), ("soon", None), ("-3", None), (None, None)],
)
def test_the_time_of_the_server_is_what_it_states(
    stated: str | None, server_ns: int | None, provider: ScriptedProvider, seen: Captured
) -> None:
    provider.reply(headers={"openai-processing-ms": stated})
    with Mode("sync", provider) as mode:
        mode.openai().chat.completions.create(**CHAT)
    assert the_call(seen).timing.server_ns == server_ns
    shown = (seen.spans[0].attributes or {}).get("callspan.answer.server_s")
    assert shown == (None if server_ns is None else server_ns / 1e9)


OURS: Final = (str(Path(callspan.__file__).parent), "wrapt")
VARYING: Final = re.compile(r"req_\w+|\b[0-9a-f]{8,}\b|127\.0\.0\.1:\d+")


def frames(trace: TracebackType | None) -> list[str]:
    """Functions on the way to the error, without those of callspan and wrapt."""
    return [
        f"{Path(frame.filename).name}:{frame.name}"
        for frame in traceback.extract_tb(trace)
        if not any(part in frame.filename for part in OURS)
    ]


def picture(error: BaseException | None) -> object:
    """All of an exception that must not change: class, words, fields, where it came from, what caused it."""
    if error is None:
        return None
    fields = {name: type(value).__name__ for name, value in vars(error).items()}
    return (
        type(error),
        VARYING.sub("", str(error)),
        len(error.args),
        fields,
        frames(error.__traceback__),
        error.__suppress_context__,
        getattr(error, "__notes__", None),
        picture(error.__cause__),
        picture(error.__context__),
    )


@failures
def test_the_exception_is_the_same_as_without_callspan_and_not_kept_alive(failure: str, shaped: Wire, run: Run) -> None:
    bare = picture(failing(shaped, run, failure))
    with capture() as seen:
        error: BaseException | None = failing(shaped, run, failure)
        assert picture(error) == bare
        assert seen.records[0].outcome in ("error", "timeout")
    gone = weakref.ref(error)  # type: ignore[arg-type]
    error = None
    # What has a finalizer goes first, and what it held with the next round; a thread of ours may hold it for a moment.
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None
