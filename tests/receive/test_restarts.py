"""The next receiver goes on with what one has read: no order of events, restart or repetition changes the records."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import chain, permutations, product
from pathlib import Path
from typing import Any

import pytest
from tests.receive.conftest import Events, History, Inbox, Kept, Sender, WaitingRecords, logs, recorded
from tests.support.scale import scaled

from callspan.records import EventRecord

RUN, FAILED, CODEX = recorded("tools"), recorded("failed"), recorded("codex")
CANARY = "canary-30c4"
SENDER = Sender()


class KilledError(BaseException):
    """The process is killed here."""


class _History(History):
    """A history before and after each writing of which the process may be killed."""

    def __init__(self, path: Path, step: Callable[[], None]) -> None:
        super().__init__(path)
        self._step = step

    def add(self, entries: Iterable[Any], waiting: Container[str]) -> None:
        self._step()
        super().add(entries, waiting)
        self._step()


class Receivers(Kept):
    """Receivers at one port, one after the other: only what lies on disk reaches the next one."""

    def __init__(self, directory: Path, service: str = "claude-code") -> None:
        super().__init__()
        self._directory, self._service = directory, service
        directory.mkdir()
        self._left_steps: int | None = None
        self.start()

    def start(self) -> None:
        self.inbox = Inbox(self._write, self.unrecorded.append)
        waiting = WaitingRecords(self._directory / "waiting", self._process)
        self.inbox.resume(waiting, _History(self._directory / "history", self._step), SENDER)

    def end(self) -> None:
        assert self.inbox.close()
        self.start()

    def send(self, events: Iterable[dict[str, Any]]) -> bool:
        return self.take(logs(events, self._service), sender=SENDER)

    def killed_after(self, steps: int, events: Events) -> bool:
        """Kill it after so many writes of a request; return False if it had fewer."""
        self._left_steps = steps
        try:
            self.send(events)
        except KilledError:
            return True
        finally:
            self._left_steps = None
        return False

    def _step(self) -> None:
        if self._left_steps is not None:
            if self._left_steps == 0:
                raise KilledError
            self._left_steps -= 1

    def _write(self, record: Any, level: str) -> bool:
        self._step()
        return super()._write(record, level)

    def _process(self, record: Any, _level: str) -> Any:
        self._step()
        return record


def facts(receivers: Kept) -> Any:
    """All that the records say, but their ids and when each version was made."""
    calls = [
        (
            call.outcome, call.usage, call.timing, [(a.number, a.start_ns, a.status) for a in call.attempts],
            call.retries, call.error, call.metadata, call.place, bytes(call.request.body), call.request.model,
            call.response and (call.response.model, call.response.finish_reasons, bytes(call.response.body)),
            call.stream, call.redactions,
        )
        for call in receivers.calls.values()
    ]  # fmt: skip
    tools = {event.event_id: event for event in receivers.of(EventRecord) if event.event_type == "tool"}
    return calls, [(tool.tool_call_id, tool.data, tool.error, tool.metadata) for tool in tools.values()]


def tokens(receivers: Kept) -> list[int]:
    """The output tokens of each call, 0 for one without an answer."""
    return sorted(call.usage.output_tokens or 0 if call.usage else 0 for call in receivers.calls.values())


def named(requests: list[Events], *names: str) -> Events:
    return [event for events in requests for event in events if event["event.name"] in names]


def without_ids(events: Iterable[dict[str, Any]]) -> Events:
    """As behind a gateway."""
    return [{key: value for key, value in event.items() if key != "request_id"} for event in events]


def of_answer(number: int) -> Events:
    """The events of one call: its attempts, counters and answer."""
    answer = named(RUN, "api_response_body")[number]
    bodies = named(RUN, "api_request_body")
    (last,) = (body for body in bodies if body["request_body_id"] == answer["request_body_id"])
    sent = [body for body in bodies if body["body"] == last["body"]]
    (counters,) = (event for event in named(RUN, "api_request") if event["request_id"] == answer["request_id"])
    return [*sent, counters, answer]


def at_once(number: int, chance: random.Random, apart_ms: int = 2, late_ms: int = 1, *, equal: bool = True) -> Events:
    """The events of so many calls with equal answers, each sent soon after the one before.

    The body of an answer is logged up to `late_ms` after its counters. The requests are equal, too, or each is another.
    """
    request, *_, counters, answer = of_answer(4)
    events: Events = []
    for call in range(number):
        start_ns, duration_ms = request["time_ns"] + call * apart_ms * 1_000_000, chance.randrange(3 * number, 400)
        end_ns = start_ns + duration_ms * 1_000_000
        ids = {"request_body_id": f"body {call}", "request_id": f"answer {call}"}
        numbers = {"event.sequence": 100 + 10 * duration_ms + call}
        answered_ns = end_ns + 1_000_000 * chance.randint(1, late_ms)
        body = request["body"] if equal else json.dumps({**json.loads(request["body"]), "user": str(call)})
        sent = {"request_body_id": f"body {call}", "time_ns": start_ns, "event.sequence": 10 + call, "body": body}
        events += [
            request | sent,
            counters | numbers | {"request_id": f"answer {call}", "time_ns": end_ns, "duration_ms": duration_ms},
            answer | numbers | ids | {"time_ns": answered_ns},
        ]
    return events


CALLS = {
    "answered": of_answer(4),
    "repeated": of_answer(0),
    "failed": named(FAILED, "api_request_body", "api_error"),
    "unanswered": named(RUN, "api_request_body")[-1:],
    "without bodies": named(RUN, "api_request")[:2],
    "two": [*of_answer(3), *of_answer(4)],
    "two at once": at_once(2, random.Random(1)),
    "two, one given up": [of_answer(0)[0] | {"body": of_answer(4)[0]["body"]}, *of_answer(0)[1:]],
}
CASES = CALLS | {f"{name} without ids": without_ids(events) for name, events in CALLS.items()}
"""`two` are of a subagent and of what started it."""
OF_CODEX = [
    event for event in chain(*CODEX) if event["event.name"] == "codex.api_request" or "input_token_count" in event
]
RESTARTS = ("none", "ended", "killed")


def orders(events: Events, limit: int) -> Sequence[tuple[dict[str, Any], ...]]:
    every = list(permutations(events))
    return every[:: max(1, len(every) // scaled(limit, len(every)))]


def check(directory: Path, service: str, name: str, events: Events, limit: int) -> None:
    alone = Receivers(directory / "alone", service)
    for event in events:
        assert alone.send([event])
    alone.inbox.close()
    expected = facts(alone)
    assert len(expected[0]) == (2 if "two" in name or "without bodies" in name or "codex" in name else 1)
    for number, (order, how) in enumerate(product(orders(events, limit), RESTARTS)):
        receivers = Receivers(directory / str(number), service)
        for event in order:
            assert receivers.send([event])
            if how == "ended":
                receivers.end()
            elif how == "killed":
                receivers.start()
            assert receivers.send([event]), "it is sent again"
        for event in order:
            assert receivers.send([event])
        receivers.end()
        assert facts(receivers) == expected, ([event["event.name"] for event in order], how)


@pytest.mark.parametrize("name", CASES)
def test_no_order_or_restart_changes_a_call_of_claude_code(tmp_path: Path, name: str) -> None:
    check(tmp_path, "claude-code", name, CASES[name], 6)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("seed", range(scaled(3, 100)))
def test_equal_calls_at_once_are_each_recorded_once_and_whole(tmp_path: Path, seed: int, ids: bool) -> None:
    """Whichever of the equal requests an answer is joined to: no call has two, and none has no body."""
    chance = random.Random(seed)
    events = at_once(4, chance)
    events = sorted(events if ids else without_ids(events), key=lambda event: event["time_ns"])
    alone, receivers = Receivers(tmp_path / "alone"), Receivers(tmp_path / "restarted")
    for event in events:
        assert alone.send([event])
    alone.end()
    chance.shuffle(events)
    for number, event in enumerate(events, 1):
        assert receivers.send([event])
        chance.choice([receivers.end, receivers.start, bool])()
        assert receivers.send(chance.sample(events[:number], chance.randrange(number))), "some are sent again"
    receivers.end()
    assert facts(receivers) == facts(alone)
    calls = [*receivers.calls.values()]
    assert [call.usage and call.usage.output_tokens for call in calls] == [7] * 4
    assert [(len(call.attempts), call.outcome) for call in calls] == [(1, "success")] * 4
    assert len({bytes(call.request.body) for call in calls}) == 1
    assert all(bytes(call.request.body) and call.response and bytes(call.response.body) for call in calls)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("seed", range(scaled(12, 500)))
def test_purchase_is_one_record_however_late_its_answer(tmp_path: Path, seed: int, ids: bool) -> None:
    """What a receiver recorded of a request as it ended becomes the record of the counters that come later."""
    chance = random.Random(seed)
    number, equal, lost = chance.randrange(2, 6), chance.random() < 0.5, chance.choice([0, 0, 2])
    events = at_once(number, chance, chance.choice([2, 20, 60, 300, 900]), 2000, equal=equal)
    events = chance.sample(events if ids else without_ids(events), len(events) - lost)
    alone, receivers = Receivers(tmp_path / "alone"), Receivers(tmp_path / "restarted")
    for event in sorted(events, key=lambda event: event["time_ns"]):
        assert alone.send([event])
    alone.end()
    for count, event in enumerate(events, 1):
        assert receivers.send([event])
        chance.choice([receivers.end, receivers.start, bool])()
        assert receivers.send(chance.sample(events[:count], chance.choice([0, 0, count // 2]))), "some are sent again"
    receivers.end()
    assert tokens(receivers) == tokens(alone)
    if not lost:
        assert facts(receivers) == facts(alone)
        assert tokens(receivers) == [7] * number
        calls = receivers.calls.values()
        assert len({bytes(call.request.body) for call in calls}) == (1 if equal else number)
        assert all(bytes(call.request.body) and call.response and bytes(call.response.body) for call in calls)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("is_next_recorded", [True, False], ids=["next recorded", "counters recorded"])
def test_counters_that_leave_an_attempt_of_the_next_request_leave_no_record(
    tmp_path: Path, is_next_recorded: bool, ids: bool
) -> None:
    """They came after the attempt, and later the answer to an earlier request shows that they are its own."""
    times_ms = {"first": (0, 129, 300), "attempt": (60, 400, 401), "next": (180, 500, 501)}
    events: dict[tuple[str, int], dict[str, Any]] = {}
    calls = zip(*[iter(at_once(3, random.Random(1), equal=False))] * 3, strict=True)
    for (name, times), call in zip(times_ms.items(), calls, strict=True):
        for kind, time_ms in enumerate(times):
            sent = call[kind] | {"time_ns": of_answer(4)[0]["time_ns"] + time_ms * 1_000_000}
            (events[name, kind],) = [sent] if ids else without_ids([sent])
    events["next", 0]["body"] = events["attempt", 0]["body"]
    receivers = Receivers(tmp_path / "receivers")
    counted, following = [("attempt", 0), ("first", 1)], [("next", 0)]
    later = [following, counted] if is_next_recorded else [counted, following]
    for batch in ([("first", 0)], *later, [("first", 2)]):
        assert receivers.send([events[event] for event in batch])
        receivers.end()
    assert tokens(receivers) == [0, 7]
    for event in product(("attempt", "next"), (1, 2)):
        assert receivers.send([events[event]])
        receivers.end()
    assert tokens(receivers) == [7, 7, 7]


@pytest.mark.parametrize("seed", [36, 52, 91, *range(scaled(0, 100))])
def test_request_without_an_answer_yet_keeps_its_body_for_another_call(tmp_path: Path, seed: int) -> None:
    """One was recorded with the counters of an equal request, which came first."""
    chance = random.Random(seed)
    events = without_ids(at_once(4, chance, apart_ms=60))
    chance.shuffle(events)
    receivers = Receivers(tmp_path / "receivers")
    for event in events:
        assert receivers.send([event])
    receivers.end()
    calls = [*receivers.calls.values()]
    assert [call.usage and call.usage.output_tokens for call in calls] == [7] * 4
    assert all(bytes(call.request.body) and call.response and bytes(call.response.body) for call in calls)


def test_answer_leaves_its_nearest_counters_to_another_that_has_no_choice(tmp_path: Path) -> None:
    first, second = (events for events in zip(*[iter(at_once(2, random.Random(1)))] * 3, strict=True))
    start_ns = first[0]["time_ns"]
    starts_ms, counted_ms, answered_ms = (0, 12), (5, 12.5), (10, 20)
    events = [
        event | {"time_ns": start_ns + int(time_ms * 1_000_000)}
        for times, kind in ((starts_ms, 0), (counted_ms, 1), (answered_ms, 2))
        for time_ms, event in zip(times, (first[kind], second[kind]), strict=True)
    ]
    receivers = Receivers(tmp_path / "receivers")
    assert receivers.send(without_ids(events))
    assert len(receivers.calls) == 2
    assert len({call.usage.input_tokens for call in receivers.calls.values()}) == 1


def test_no_order_or_restart_changes_a_call_of_codex(tmp_path: Path) -> None:
    check(tmp_path, "codex_exec", "codex", OF_CODEX, 24)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("how", RESTARTS)
def test_a_restart_after_each_request_changes_nothing_of_a_run(tmp_path: Path, how: str, ids: bool) -> None:
    run = RUN if ids else [without_ids(events) for events in RUN]
    alone, receivers = Receivers(tmp_path / "alone"), Receivers(tmp_path / "restarted")
    for events in run:
        assert alone.send(events)
        half = len(events) // 2
        for part in (events[:half], events[half:], events):
            assert receivers.send(part)
            if how == "ended":
                receivers.end()
            elif how == "killed":
                receivers.start()
    alone.end()
    receivers.end()
    assert facts(receivers) == facts(alone)
    assert len(alone.calls) == len(named(RUN, "api_request"))


@pytest.mark.parametrize(("service", "run"), [
    ("claude-code", RUN), ("claude-code", [without_ids(events) for events in RUN]), ("codex_exec", CODEX),
], ids=["claude", "claude without ids", "codex"])  # fmt: skip
def test_killed_between_any_two_writes(tmp_path: Path, service: str, run: list[Events]) -> None:
    """What was not acknowledged is sent again."""
    alone = Receivers(tmp_path / "alone", service)
    for events in run:
        assert alone.send(events)
    alone.end()
    killed = Receivers(tmp_path / "killed", service)
    for events in run:
        steps = 0
        while killed.killed_after(steps, events):
            killed.start()
            steps += 1
    killed.end()
    assert facts(killed) == facts(alone)


def test_what_is_kept_has_no_content_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.history._MAX_ENTRIES", 1024)
    receivers = Receivers(tmp_path / "r")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": CANARY}]})
    first, *_, last = of_answer(4)
    calls = [
        [
            {**first, "request_body_id": f"b{number}", "body": body, "user.email": CANARY},
            {**last, "request_body_id": f"b{number}", "request_id": f"r{number}"},
        ]
        for number in range(3000)
    ]
    for number in range(0, 3000, 50):
        events = [
            event | {"time_ns": event["time_ns"] + number * 10**9} for event in chain(*calls[number : number + 50])
        ]
        assert receivers.send(events)
    history = (tmp_path / "r" / "history").read_bytes()
    assert CANARY.encode() not in history
    assert b"Hello from the scripted provider" not in history
    assert len(history) < 8 << 20
    assert history.count(b"\n") <= 2 * 1024
    for _ in range(2):
        assert len(receivers.calls) == 3000
        receivers.end()


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_what_waits_is_remembered_however_much_comes_after_it(tmp_path: Path, how: str) -> None:
    receivers = Receivers(tmp_path / "r")
    first, *_, last = of_answer(4)
    lonely = {**first, "request_body_id": "lonely", "query_source": "lonely", "session.id": "lonely"}
    tool = named(RUN, "tool_result")[0] | {"tool_use_id": "t", "session.id": "lonely", "request_id": "before"}
    tool["time_ns"] = lonely["time_ns"] + 1
    assert receivers.send([lonely, tool])
    body = json.dumps({"model": "m", "messages": []})
    for number in range(0, 4500, 100):
        events: Events = []
        for call in map(str, range(number, number + 100)):
            time_ns = first["time_ns"] + int(call) * 10**8
            events += [
                {**first, "request_body_id": f"b{call}", "body": body, "time_ns": time_ns},
                {**last, "request_body_id": f"b{call}", "request_id": f"r{call}", "time_ns": time_ns + 10**7},
            ]
        assert receivers.send(events)
    for _ in range(2):
        (receivers.end if how == "ended" else receivers.start)()
        assert receivers.send([first | {"request_body_id": "another", "time_ns": events[-1]["time_ns"] + 1}])
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]}
    later = {**lonely, "request_body_id": "later", "time_ns": lonely["time_ns"] + 10**9}
    assert receivers.send([later | {"body": json.dumps({"model": "m", "messages": [result]})}])
    answer = {**last, "request_body_id": "lonely", "request_id": "r", "query_source": "lonely", "session.id": "lonely"}
    assert receivers.send([answer])
    receivers.end()
    tools = [event for event in receivers.of(EventRecord) if event.tool_call_id == "t" and event.event_type == "tool"]
    assert [tool.data["result"] for tool in tools if isinstance(tool.data, dict)] == ["42"]
    (call,) = [call for call in receivers.calls.values() if call.place.session_id == "lonely" and call.response]
    assert json.loads(bytes(call.request.body))["messages"] == json.loads(lonely["body"])["messages"]
