"""Errors of failed calls: one class for both SDKs, the exception unchanged for the caller, the server's time."""

from __future__ import annotations

import gc
import re
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest
from openai import OpenAI

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.attempts.caller import Caller, the_record
from tests.intercept.calls import Run
from tests.intercept.mode import Mode


def failing(caller: Caller, run: Run, **options: Any) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each test looks at what it was
        run(lambda: caller.call(**options))
    return raised.value


def test_code_parameter_and_body_are_kept(mode: Mode, run: Run, seen: Captured) -> None:
    body = {"error": {"message": "Bad.", "type": "invalid_request_error", "param": "temperature", "code": "too_hot"}}
    mode.provider.reply(status=400, raw=body)
    failing(Caller(mode, "chat_completions", "plain"), run)
    info = the_record(seen).error
    assert info is not None
    assert (info.type, info.code, info.param, info.message is not None) == ("too_hot", "too_hot", "temperature", True)
    assert info.body == body["error"]


def test_broken_json_is_a_parsing_error(mode: Mode, api: str, run: Run, seen: Captured) -> None:
    for shape in ("plain", "stream"):
        caller = Caller(mode, api, shape)
        caller.script({"text": "one two three", "malformed": True})
        error = failing(caller, run)
        record = seen.records[-1]
        assert record.error is not None
        assert (record.outcome, record.error.kind, record.error.retryable) == ("error", "parsing", False)
        assert record.error.exception is not None
        assert record.error.exception.endswith(type(error).__name__)
        assert [attempt.status for attempt in record.attempts] == [200]


def test_broken_json_in_a_raw_response_is_a_parsing_error_though_the_caller_parses_it_later(
    mode: Mode, api: str, run: Run, seen: Captured
) -> None:
    caller = Caller(mode, api, "raw")
    caller.script({"text": "one two three", "malformed": True})
    failing(caller, run)
    record = seen.records[-1]
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("error", "parsing")
    assert record.response is None or not bytes(record.response.body)


def test_a_body_cut_off_is_a_connection_error(mode: Mode, api: str, run: Run, seen: Captured) -> None:
    """And so for the attempt, although a stream's headers were well."""
    for shape, status in (("plain", None), ("raw", None), ("stream", 200)):
        caller = Caller(mode, api, shape)
        caller.script({"text": "one two three four", "body_cut": True})
        failing(caller, run)
        record = seen.records[-1]
        assert record.error is not None
        assert (record.outcome, record.error.kind, record.error.retryable) == ("error", "connection", True)
        assert [(attempt.status, attempt.error_kind) for attempt in record.attempts] == [(status, "connection")]
        assert [event.name for event in seen.spans[-1].events].count("llm.attempt") == 1


def test_a_body_cut_off_is_tried_again(plain: Caller, run: Run, seen: Captured) -> None:
    plain.script({"text": "one two three", "body_cut": True}, {"text": "well"})
    run(lambda: plain.call(max_retries=1))
    record = the_record(seen)
    assert [(attempt.status, attempt.error_kind) for attempt in record.attempts] == [(None, "connection"), (200, None)]
    assert (record.retries, record.outcome) == (1, "success")


def ask(provider: ScriptedProvider) -> None:
    with OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])


def times(seen: Captured) -> tuple[int | None, object]:
    (record,), (span,) = seen.records, seen.spans
    assert span.attributes is not None
    return record.timing.server_ns, span.attributes.get("callspan.answer.server_s")


@pytest.mark.parametrize(
    ("stated", "server_ns"),
    [("42", 42_000_000), ("7.5", 7_500_000), ("0", 0), ("", None), ("soon", None), ("-3", None), (None, None)],
)
def test_the_time_of_the_server_is_what_it_states(stated: str | None, server_ns: int | None) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(headers={"openai-processing-ms": stated})
        ask(provider)
    assert times(seen) == (server_ns, None if server_ns is None else server_ns / 1e9)


FAILURES: Final[dict[str, dict[str, Any]]] = {
    "status": {"status": 400, "message": "Nothing doing."},
    "hang": {"hang": True},
    "malformed": {"text": "one two three", "malformed": True},
    "cut": {"text": "one two three", "body_cut": True},
}
OURS: Final = (str(Path(callspan.__file__).parent), "wrapt")
VARYING: Final = re.compile(r"req_\w+|\b[0-9a-f]{8,}\b|127\.0\.0\.1:\d+")
Failing = Callable[..., BaseException]


@pytest.fixture
def failing_calls(run: Run) -> Failing:
    """Make a call that fails and return what was raised."""

    def fail(caller: Caller, **options: Any) -> BaseException:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - compared as a whole
            run(lambda: caller.call(**options))
        return raised.value

    return fail


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


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("shape", ["plain", "stream"])
def test_it_is_the_same_as_without_callspan(
    mode: Mode, api: str, shape: str, failing_calls: Failing, failure: str, provider: ScriptedProvider
) -> None:
    caller = Caller(mode, api, shape)
    options = {"timeout": 0.1} if failure == "hang" else {}
    provider.reply(**FAILURES[failure])
    bare = picture(failing_calls(caller, **options))
    provider.reply(**FAILURES[failure])
    with capture() as seen:
        observed = picture(failing_calls(caller, **options))
    assert observed == bare
    assert seen.records[0].outcome in ("error", "timeout")


def test_an_error_is_not_kept_alive(mode: Mode, api: str, failing_calls: Failing, seen: Captured) -> None:
    caller = Caller(mode, api, "plain")
    caller.script({"status": 400})
    error: BaseException | None = failing_calls(caller)
    gone = weakref.ref(error)  # type: ignore[arg-type]
    assert seen.records[0].error is not None
    error = None
    # What has a finalizer goes first, and what it held with the next round; a thread of ours may hold it for a moment.
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None
