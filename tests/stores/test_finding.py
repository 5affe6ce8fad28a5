"""Calls and sessions that went wrong, were slow or dear are found and sorted, alike in all stores and by command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from click.testing import CliRunner

from callspan.cli.commands import callspan
from callspan.records import Cost, Record, Response, Stream, Timing, Usage
from callspan.stores import CallFilter
from callspan.stores import reader as readers

from .conftest import SECOND, START_NS, Delivery, Records

CALLS = [
    ("", "whole cut off gone dear tiny storm unknown"),
    ("--status cancelled", "gone"),
    ("--status error", "unknown"),
    ("--finish length", "cut dear"),
    ("--finish max_tokens", "cut"),
    ("--finish stop", "whole off gone tiny storm"),
    ("--finish guessed", ""),
    ("--stream-end cut_off", "off"),
    ("--stream-end closed", "gone"),
    ("--retries 1", "dear storm"),
    ("--retries 4", "storm"),
    ("--rate-limited", "storm"),
    ("--no-rate-limited", "whole cut off gone dear tiny unknown"),
    ("--min-cost 0.01", "whole dear"),
    ("--min-cost 2.5", "dear"),
    ("--min-cost 0.000000000123", "whole cut off gone dear tiny storm"),
    ("--min-cost 0.000000000124", "whole cut off gone dear storm"),
    ("--min-duration 2s", "dear storm"),
    ("--min-duration 9000ms", "dear"),
    ("--finish length --min-cost 1 --retries 1", "dear"),
]
SESSIONS = [
    ("", "s-storm s-cut s-plain"),
    ("--finish length", "s-cut s-plain"),
    ("--stream-end cut_off", "s-cut"),
    ("--cut-off", "s-cut"),
    ("--retries 2", "s-storm"),
    ("--rate-limited", "s-storm"),
    ("--failed", "s-storm"),
    ("--no-failed", "s-cut s-plain"),
    ("--min-cost 2", "s-plain"),
    ("--min-duration 60s", "s-plain"),
    ("--min-duration 8s", "s-storm s-plain"),
    ("--until 2025-10-09T08:53:22Z", "s-plain"),
    ("--session s-cut", "s-cut"),
    ("--status success", "s-cut s-plain"),
    ("--status success --finish length --min-cost 2", "s-plain"),
]
SORTED = [
    ("calls", "start", "unknown storm tiny dear gone off cut whole"),
    ("calls", "cost", "dear whole storm gone off cut tiny unknown"),
    ("calls", "duration", "dear storm tiny gone off cut whole unknown"),
    ("calls", "tokens", "storm cut tiny dear gone off whole unknown"),
    ("calls", "retries", "storm dear tiny gone off cut whole unknown"),
    ("sessions", "start", "s-storm s-cut s-plain"),
    ("sessions", "cost", "s-plain s-cut s-storm"),
    ("sessions", "duration", "s-plain s-storm s-cut"),
    ("sessions", "tokens", "s-storm s-cut s-plain"),
    ("sessions", "retries", "s-storm s-plain s-cut"),
]


def recorded(records: Records) -> list[Record]:
    """A session of 100 s with a dear call, one with calls that were cut, and one that runs, known from its calls."""

    def one(name: str, at_s: float, session_id: str, words: Sequence[str] = ("stop",), **fields: object) -> Record:
        response = Response(id=name, model="m", finish_reasons=[*words])
        return records.call(call_id=name, at_s=at_s, session_id=session_id, response=response, **fields)

    slow = Timing(start_ns=START_NS + 8 * SECOND, duration_ns=8 * SECOND)
    dear = Cost(usd=Decimal("2.5"), source="x")
    return [
        records.session("s-plain", start_ns=START_NS, end_ns=START_NS + 100 * SECOND, outcome="success"),
        records.session("s-cut", start_ns=START_NS + 2 * SECOND, outcome="success"),
        one("whole", 0, "s-plain", cost=Cost(usd=Decimal("0.01"), source="x")),
        one("cut", 2, "s-cut", words=["max_tokens"], usage=Usage(input_tokens=1, output_tokens=20)),
        one("off", 3, "s-cut", stream=Stream(end="cut_off")),
        one("gone", 4, "s-cut", outcome="cancelled", stream=Stream(end="closed")),
        # The second of its choices was cut.
        one("dear", 5, "s-plain", words=["stop", "length"], cost=dear, retries=1,
            timing=Timing(start_ns=START_NS + 5 * SECOND, duration_ns=9 * SECOND)),
        one("tiny", 6, "s-cut", cost=Cost(usd=Decimal("0.000000000123456789"), source="x")),
        one("storm", 8, "s-storm", retries=4, rate_limited=True, usage=Usage(output_tokens=90), timing=slow),
        one("unknown", 9, "s-storm", words=[], usage=None, cost=None, retries=None, outcome="error",
            timing=Timing(start_ns=START_NS + 9 * SECOND)),
    ]  # fmt: skip


def listed(url: str, *arguments: str) -> list[str]:
    output = CliRunner().invoke(callspan, ["--store", url, *arguments, "--json"], catch_exceptions=False).stdout
    return [row["call_id" if arguments[0] == "calls" else "session_id"] for row in json.loads(output)]


def test_calls_and_sessions_that_went_wrong(
    url: str, records: Records, deliver: Callable[[str], Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_READ_AT_ONCE", 3)
    store = deliver(url)
    store.write(*recorded(records))
    store.sink.close()
    for options, expected in CALLS:
        found = listed(url, "calls", "--reverse", *options.split())
        assert found == expected.split(), options
    for options, expected in SESSIONS:
        assert listed(url, "sessions", *options.split()) == expected.split(), options
    for command, sort, expected in SORTED:
        assert listed(url, command, "--sort", sort) == expected.split(), (command, sort)
        assert listed(url, command, "--sort", sort, "--limit", "2", "--offset", "1") == expected.split()[1:3]
    assert listed(url, "calls", "--sort", "cost", "--reverse") == SORTED[1][2].split()[::-1]
    reader = store.read()
    assert reader.count_calls(CallFilter(finish="length")) == 2
    (sums,) = reader.summary("session", CallFilter(session_id="s-cut"))
    assert (sums.cut_by_length, sums.cut_off, sums.cancelled) == (1, 1, 1)
    summary = reader.session("s-cut")
    assert summary is not None
    assert (summary.cut_by_length, summary.cut_off, summary.cancelled, summary.retries) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Die STRASSE", "straße"),
        ("die Straße", "STRASSE"),
        ("GROẞ", "gross"),
        ("ο δρόμος είναι", "ΔΡΌΜΟΣ"),  # noqa: RUF001
        ("Ο ΔΡΌΜΟΣ", "δρόμος"),  # noqa: RUF001
        ("δρόμοσ", "δρόμος"),
        ("İstanbul", "İSTANBUL"),
    ],
)
def test_texts_are_found_whatever_their_case(
    said: str, asked: str, url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(url)
    store.write(records.call([{"role": "user", "content": said}], call_id="c"), records.call(call_id="other"))
    assert [one.call_id for one in store.read().calls(CallFilter(text=asked))] == ["c"]
