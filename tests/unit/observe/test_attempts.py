"""The attempt log: each attempt in the record."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.fail_open import failures, forget_failures
from callspan.observe.attempts import AttemptLog, last_limits
from callspan.records import Attempt, ErrorInfo, RateLimit, RateLimits

NOW_S: Final = 1_700_000_000.0
END_NS: Final = 9_000_000_000


def test_without_attempts_all_numbers_are_unknown() -> None:
    log = AttemptLog()
    assert log.totals() == (None, None)
    assert log.records(NOW_S, END_NS) == []


def test_events_without_an_attempt_are_ignored() -> None:
    """As where an application's own HTTP client hides the sending."""
    log = AttemptLog()
    log.headers_received(1, 200, {})
    log.failed(2, "ReadTimeout")
    log.planned_wait(0.5)
    log.sent_retries("0")
    assert log.records(NOW_S, END_NS) == []
    assert log.totals()[0] is None


def test_the_sdk_knows_the_retries_where_attempts_were_hidden() -> None:
    log = AttemptLog()
    log.sdk_retries = 2
    assert log.totals()[0] == 2


def test_an_answer_ends_with_the_call_and_an_error_with_its_headers() -> None:
    log = AttemptLog()
    log.started(10)
    log.headers_received(20, 500, {})
    log.started(1_000_000_020)
    log.headers_received(1_000_000_050, 200, {})
    first, second = log.records(NOW_S, END_NS)
    assert (first.start_ns, first.headers_ns, first.end_ns, first.wait_s) == (10, 20, 20, 1.0)
    assert (second.headers_ns, second.end_ns, second.wait_s) == (1_000_000_050, END_NS, None)


def test_an_exception_ends_an_attempt_when_it_was_raised() -> None:
    log = AttemptLog()
    log.started(0)
    log.failed(500, "ConnectTimeout")
    (attempt,) = log.records(NOW_S, END_NS)
    assert (attempt.end_ns, attempt.headers_ns, attempt.status) == (500, None, None)
    assert (attempt.error_kind, attempt.error_type) == ("timeout", "ConnectTimeout")


def test_a_cancelled_attempt_is_recorded_as_cancelled() -> None:
    log = AttemptLog()
    log.started(0)
    log.failed(500, "CancelledError")
    assert log.records(NOW_S, END_NS)[0].error_kind == "cancelled"


def test_a_response_that_failed_later_is_not_the_successful_attempt() -> None:
    """A 429, and then nobody was there."""
    log = AttemptLog()
    log.started(0)
    log.headers_received(1, 429, {})
    log.started(2)
    log.failed(3, "ConnectError")
    assert log.totals()[1]


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (429, {"error": {"code": "insufficient_quota", "message": "m"}}, ("quota", "insufficient_quota")),
        (429, {"type": "error", "error": {"type": "rate_limit_error"}}, ("rate_limit", "rate_limit_error")),
        (400, {"error": {"message": "maximum context length is 8192"}}, ("context_length", "400")),
        (503, {"error": {"type": "server_error"}}, ("overloaded", "server_error")),
        (500, b"<html>not JSON", ("server", "500")),
        (500, b"\xff\xfe", ("server", "500")),
        (500, b'{"error": {"message": "\xff"}}', ("server", "500")),
        (500, b"[" * 50_000, ("server", "500")),
        (500, b'"' + b"x" * 100_000 + b'"', ("server", "500")),
        (502, b"", ("server", "502")),
        (404, None, ("not_found", "404")),
    ],
)
def test_the_body_of_an_error_determines_its_kind(status: int, content: object, expected: tuple[str, str]) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    log = AttemptLog()
    log.started(0)
    log.headers_received(1, status, {}, (lambda: body) if content is not None else None)
    (attempt,) = log.records(NOW_S, END_NS)
    assert (attempt.error_kind, attempt.error_type) == expected


def test_an_unread_error_body_loses_only_its_code() -> None:
    def unread() -> bytes:
        raise RuntimeError("not read")

    log = AttemptLog()
    log.started(0)
    log.headers_received(1, 429, {"x-request-id": "req_1"}, unread)
    (attempt,) = log.records(NOW_S, END_NS)
    assert (attempt.error_kind, attempt.error_type, attempt.request_id) == ("rate_limit", "429", "req_1")


def test_the_body_of_an_answer_is_not_requested() -> None:
    def read_body() -> bytes:
        pytest.fail("the answer's body is the caller's")

    log = AttemptLog()
    log.started(0)
    log.headers_received(1, 200, {}, read_body)
    assert log.records(NOW_S, END_NS)[0].error_kind is None


@pytest.mark.parametrize(
    ("header", "retries"), [("0", 0), ("1", 1), ("2", 1), ("42", 1), ("", 1), (None, 1), ("-1", 1), ("one", 1)]
)
def test_the_sent_retry_count_is_used_if_it_is_plausible(header: str | None, retries: int) -> None:
    """0 with two requests: the second renewed a token and was no retry."""
    log = AttemptLog()
    log.started(0)
    log.started(1)
    log.sent_retries(header)
    assert log.totals()[0] == retries


def test_retry_after_is_read_from_errors_only() -> None:
    log = AttemptLog()
    for offset, status in ((0, 503), (10, 200)):
        log.started(offset)
        log.headers_received(offset + 1, status, {"retry-after": "7"})
    first, second = log.records(NOW_S, END_NS)
    assert (first.retry_after_s, second.retry_after_s) == (7.0, None)


def test_the_last_reported_limits_count() -> None:
    limits = RateLimits(requests=RateLimit(remaining=1))
    attempts = [
        Attempt(number=1, start_ns=0, rate_limits=RateLimits(requests=RateLimit(remaining=9))),
        Attempt(number=2, start_ns=1, rate_limits=limits),
        Attempt(number=3, start_ns=2),
    ]
    assert last_limits(attempts) is limits
    assert last_limits([]) is None


_STATUS: Final = st.sampled_from([200, 400, 429, 500, None])


@given(st.lists(st.tuples(_STATUS, st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=6))
def test_waits_and_attempts_fill_the_call(story: list[tuple[int | None, int, int]]) -> None:
    """Whatever happens: attempts in order, and each wait exactly what lies between two of them."""
    log, now_ns = AttemptLog(), 0
    for status, lasts_ns, wait_ns in story:
        log.started(now_ns)
        now_ns += lasts_ns
        if status is None:
            log.failed(now_ns, "ReadError")
        else:
            log.headers_received(now_ns, status, {})
        log.planned_wait(wait_ns / 1e9)
        now_ns += wait_ns
    records = log.records(NOW_S, now_ns)
    assert [record.number for record in records] == list(range(1, len(story) + 1))
    assert [record.wait_s for record in records[:-1]] == [wait_ns / 1e9 for _, _, wait_ns in story[:-1]]
    assert records[-1].wait_s is None
    assert all(record.start_ns <= (record.end_ns or 0) <= now_ns for record in records)
    assert log.totals()[1] == any(status == 429 for status, _, _ in story)
    assert log.totals()[0] == len(story) - 1


@pytest.mark.parametrize(("size", "read"), [(64 << 10, True), ((64 << 10) + 1, False)])
def test_the_body_of_an_error_is_read_up_to_64_kilobytes(size: int, read: bool) -> None:
    stated = b'{"error": {"type": "overloaded_error", "message": "'
    body = stated + b"x" * (size - len(stated) - 3) + b'"}}'
    assert len(body) == size
    log = AttemptLog()
    log.started(0)
    log.headers_received(1, 500, {}, lambda: body)
    (attempt,) = log.records(0.0, 2)
    assert attempt.error_kind == ("overloaded" if read else "server")


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (200, "connection", "connection"),
        (200, "timeout", "timeout"),
        (200, "server", None),
        (500, "connection", "server"),
    ],
)
def test_a_connection_that_broke_is_the_failure_of_the_attempt_with_the_response(
    status: int, kind: str, expected: str | None
) -> None:
    log = AttemptLog()
    log.started(0)
    log.headers_received(1, status, {})
    (attempt,) = log.records(0.0, 2, ErrorInfo(kind=kind, type="x"))
    assert attempt.error_kind == expected


def test_an_error_without_a_body_is_not_an_error_of_callspan() -> None:
    forget_failures()
    log = AttemptLog()
    log.started(0)
    log.headers_received(1, 500, {})
    (attempt,) = log.records(0.0, 2)
    assert attempt.error_kind == "server"
    assert not any(failures().values())
