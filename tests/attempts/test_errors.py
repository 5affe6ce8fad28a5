"""Errors of failed calls: one classification for both SDKs, compared with the server's response."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Final

import openai
import pytest
from opentelemetry.trace import StatusCode

from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.attempts.caller import Caller, Run, the_record
from tests.intercept.mode import Mode
from tests.intercept.sdks import needs

STATUSES: Final[dict[int, tuple[str, bool, str]]] = {
    400: ("bad_input", False, "BadRequestError"),
    401: ("auth", False, "AuthenticationError"),
    402: ("quota", False, "APIStatusError"),
    403: ("permission", False, "PermissionDeniedError"),
    404: ("not_found", False, "NotFoundError"),
    408: ("timeout", True, "APIStatusError"),
    409: ("server", True, "ConflictError"),
    413: ("bad_input", False, "APIStatusError"),
    422: ("bad_input", False, "UnprocessableEntityError"),
    429: ("rate_limit", True, "RateLimitError"),
    500: ("server", True, "InternalServerError"),
    503: ("overloaded", True, "InternalServerError"),
    529: ("overloaded", True, "APIStatusError"),
}
"""Status -> our kind, whether asking again may help, and the SDKs' class or a base of it."""


def failing(caller: Caller, run: Run, **options: Any) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each test looks at what it was
        run(lambda: caller.call(**options))
    return raised.value


def classes(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_one_class(caller: Caller, run: Run, status: int) -> None:
    kind, retryable, base = STATUSES[status]
    caller.script({"status": status, "message": "No such luck."})
    with capture() as seen:
        error = failing(caller, run)
    assert base in classes(error)
    record = the_record(seen)
    info = record.error
    assert info is not None
    assert (info.kind, info.retryable, info.status) == (kind, retryable, status)
    assert info.exception == f"{type(error).__module__}.{type(error).__qualname__}"
    assert info.request_id == "req_1"
    assert "No such luck." in (info.message or "")
    assert "No such luck." in json.dumps(info.body)
    (attempt,) = record.attempts
    assert (attempt.status, attempt.error_kind, attempt.request_id) == (status, kind, "req_1")
    assert record.outcome == ("timeout" if kind == "timeout" else "error")
    assert (record.retries, record.rate_limited) == (0, status == 429)
    assert_span_tells(seen, record)


def assert_span_tells(seen: Captured, record: CallRecord) -> None:
    """The conventions' signs of an error, and ours."""
    (span,) = seen.spans
    attributes = dict(span.attributes or {})
    info = record.error
    assert info is not None
    assert span.status.status_code is StatusCode.ERROR
    assert attributes["error.type"] == info.type
    assert attributes["callspan.error.kind"] == info.kind
    assert attributes["callspan.error.retryable"] is info.retryable
    assert attributes.get("llm.status_code") == info.status
    (event,) = [event for event in span.events if event.name == "exception"]
    assert dict(event.attributes or {})["exception.type"] == info.exception


@pytest.mark.parametrize(
    ("api", "reply", "kind"),
    [
        ("chat_completions", {"status": 429, "error_type": "insufficient_quota", "error_code": "insufficient_quota"},
         "quota"),
        ("chat_completions", {"status": 400, "error_code": "context_length_exceeded"}, "context_length"),
        ("chat_completions", {"status": 400, "error_code": "content_filter"}, "content_filter"),
        ("messages", {"status": 400, "error_type": "invalid_request_error",
                      "message": "Your credit balance is too low to access the API."}, "quota"),
        ("messages", {"status": 400, "message": "prompt is too long: 210000 tokens > 200000 maximum"},
         "context_length"),
        ("messages", {"status": 529, "error_type": "overloaded_error"}, "overloaded"),
    ],
)  # fmt: skip
def test_the_providers_error_code_takes_precedence_over_the_status(
    caller: Caller, run: Run, seen: Captured, reply: dict[str, Any], kind: str
) -> None:
    caller.script(reply)
    failing(caller, run)
    record = the_record(seen)
    assert record.error is not None
    assert record.error.kind == kind
    if "error_code" in reply:
        assert (record.error.type, record.error.code) == (reply["error_code"], reply["error_code"])
    assert record.attempts[0].error_kind == kind, "the attempt has read the same body"


def test_a_retried_attempt_keeps_the_word_of_its_response(plain: Caller, run: Run, seen: Captured) -> None:
    """Which nobody but its own body tells: the SDK throws it away."""
    plain.script(
        {"status": 429, "error_type": "rate_limit_error", "error_code": "slow_down",
         "headers": {"retry-after-ms": "2"}},
        {"text": "well"},
    )  # fmt: skip
    run(lambda: plain.call(max_retries=1))
    word = "slow_down" if plain.is_openai else "rate_limit_error"
    assert the_record(seen).attempts[0].error_type == word


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


@pytest.mark.parametrize(
    ("word", "kind"), [("overloaded_error", "overloaded"), ("rate_limit_error", "rate_limit"), ("api_error", "server")]
)
def test_an_error_in_a_stream_is_classified_by_its_code(
    mode: Mode, api: str, run: Run, seen: Captured, word: str, kind: str
) -> None:
    """The SDKs give it no status, or that of the stream's start: 200. The request itself went well."""
    caller = Caller(mode, api, "stream")
    caller.script({"text": "one two three four", "error_after": 4, "error_type": word})
    failing(caller, run)
    record = the_record(seen)
    assert record.error is not None
    assert (record.error.kind, record.error.status, record.outcome) == (kind, None, "error")
    assert [(attempt.status, attempt.error_kind) for attempt in record.attempts] == [(200, None)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_response_without_an_exception_is_an_error(mode: Mode, run: Run, seen: Captured, stream: bool) -> None:
    needs("openai", "1.66", "responses")
    failed = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "failed", "output": [],
        "error": {"code": "server_error", "message": "It broke."}, "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [],
    }  # fmt: skip
    raw: Any = [{"type": "response.failed", "sequence_number": 0, "response": failed}] if stream else failed
    mode.provider.reply(raw=raw)

    async def body() -> None:
        result = await mode.wait(mode.openai().responses.create(model="gpt-5", input="hi", stream=stream))
        if stream:
            with contextlib.suppress(openai.APIError):
                await mode.all(result)

    run(body)
    record = the_record(seen)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.exception) == ("error", "server", None)
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "server_error"
    assert dict(span.attributes or {})["llm.status_code"] == 200


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ({"text": "one two", "finish_reason": "length"}, "truncated"),
        ({"refusal": "I will not."}, "refused"),
        ({"text": "one two"}, None),
    ],
)
def test_cut_and_refused_answers_are_distinguished_from_plain_success(
    mode: Mode, api: str, run: Run, seen: Captured, reply: dict[str, Any], name: str | None
) -> None:
    for shape in ("plain", "stream", "raw"):
        caller = Caller(mode, api, shape)
        caller.script(reply)
        run(lambda caller=caller: caller.call())  # type: ignore[misc]
        record, attributes = seen.records[-1], dict(seen.spans[-1].attributes or {})
        assert record.outcome == "success"
        assert record.response is not None
        assert (record.response.truncated, record.response.refused) == (name == "truncated", name == "refused")
        assert attributes.get("callspan.response.truncated") == (True if name == "truncated" else None)
        assert attributes.get("callspan.response.refused") == (True if name == "refused" else None)
