"""Log events of Claude Code, as it sent them, in whatever order and however often they come."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.receive.conftest import Events, Kept, Place, Sender, logs, recorded, with_result

from callspan.records import CallRecord, EventRecord, SessionRecord

RUN = recorded("tools")
FAILED = recorded("failed")
WITHOUT_BODIES = ("api_request_body", "api_response_body")


def named(requests: list[Events], name: str) -> Events:
    return [event for events in requests for event in events if event["event.name"] == name]


def facts(calls: dict[str, CallRecord]) -> dict[str, Any]:
    """All of the calls but when each version was made."""
    return {
        ident: (
            bytes(call.request.body), call.response and bytes(call.response.body), call.usage, call.timing,
            call.attempts, call.retries, call.outcome, call.error, call.metadata, call.place, call.redactions, call.sdk,
        )
        for ident, call in calls.items()
    }  # fmt: skip


def sent(kept: Kept, requests: list[Events], sender: Sender | None = None) -> dict[str, CallRecord]:
    for events in requests:
        assert kept.take(logs(events), sender=sender)
    return kept.calls


def test_each_answered_request_is_one_exact_call(kept: Kept) -> None:
    calls = list(sent(kept, RUN).values())
    answered = named(RUN, "api_request")
    assert len(calls) == len(answered) == len(named(RUN, "api_response_body"))
    sizes = {event["request_id"]: event for event in answered}
    for call in calls:
        body, said = json.loads(bytes(call.request.body)), sizes[call.request_id or ""]
        (logged,) = (
            json.loads(event["body"])
            for event in named(RUN, "api_request_body")
            if event["request_body_id"] in {e.get("request_body_id") for e in _answers_of(call)}
        )
        del logged["betas"]
        assert list(body.items()) == list(logged.items()), "what was sent, in its order"
        assert call.text is not None or call.tool_calls
        assert call.usage is not None
        assert call.usage.output_tokens == said["output_tokens"]
        assert call.usage.cache_read_tokens == said["cache_read_tokens"]
        assert call.usage.cache_write_5m_tokens == said["cache_creation_5m_tokens"]
        assert call.usage.input_tokens == sum(
            said[name] for name in ("input_tokens", "cache_read_tokens", "cache_creation_tokens")
        )
        assert call.metadata["extra"]["stated_cost_usd"] == said["cost_usd"]  # type: ignore[index]
        assert (call.outcome, call.provider, call.api) == ("success", "anthropic", "messages")
        assert call.sdk == "claude-code/2.1.332"


def _answers_of(call: CallRecord) -> Events:
    return [event for event in named(RUN, "api_response_body") if event["request_id"] == call.request_id]


def test_attempts_before_an_answer_are_of_the_same_call(kept: Kept) -> None:
    first = next(iter(sent(kept, RUN).values()))
    requests, said = named(RUN, "api_request_body"), named(RUN, "api_request")[0]
    wait_ns = requests[1]["time_ns"] - requests[0]["time_ns"]
    assert first.retries == 1
    assert [attempt.start_ns for attempt in first.attempts] == pytest.approx([0, wait_ns], abs=2_000_000)
    timing = first.timing
    assert timing.start_ns == requests[0]["time_ns"]
    assert timing.start_ns + (timing.duration_ns or 0) == said["time_ns"]
    assert timing.first_token_ns == (timing.answer_ns or 0) + said["ttft_ms"] * 1_000_000


def test_failed_call(kept: Kept) -> None:
    (call,) = sent(kept, FAILED).values()
    assert (call.outcome, call.retries, call.http_status) == ("error", 1, 500)
    assert call.error is not None
    assert (call.error.kind, call.error.message) == ("server", "The scripted provider answers with an error.")
    assert json.loads(bytes(call.request.body))["messages"]
    assert call.response is None


def test_tools_have_arguments_result_and_decision(kept: Kept) -> None:
    calls = sent(kept, RUN)
    tools = {event.tool_call_id: event for event in kept.of(EventRecord) if event.event_type == "tool"}
    wanted = {tool.id: ident for ident, call in calls.items() for tool in call.tool_calls or ()}
    assert {ident: tool.call_id for ident, tool in tools.items()} == wanted
    first, second, agent = tools.values()
    assert first.data == {"arguments": {"command": "cat a.txt", "description": "r"}, "result": "hello"}
    assert (first.error, second.error.type) == (None, "ShellError")
    assert second.data["result"] == "Exit code 3"
    assert agent.name == "Agent"
    assert {tool.metadata["decision"] for tool in tools.values()} == {"accept"}
    starts = [event for event in kept.of(EventRecord) if event.event_type == "tool_start"]
    assert len(starts) == len(tools), "written before the result is known"


def test_subagent_is_an_agent_and_names_its_calls(kept: Kept) -> None:
    calls = sent(kept, RUN)
    (agent,) = (event for event in kept.of(EventRecord) if event.event_type == "agent")
    inside = [call for call in calls.values() if "agent_id" in call.metadata]
    assert agent.name == "general-purpose"
    assert [call.metadata["agent_id"] for call in inside] == [agent.metadata["agent_id"]]
    assert {call.metadata["purpose"] for call in calls.values()} == {"sdk", "agent:builtin:general-purpose"}
    started = {
        tool.name: tool.metadata.get("subagent_id") for tool in kept.of(EventRecord) if tool.event_type == "tool"
    }
    assert started == {"Bash": None, "Agent": agent.metadata["agent_id"]}


SAID = "agentId: a7 (use SendMessage with to: 'a7')\n<usage>subagent_tokens: 19</usage>"


@pytest.mark.parametrize(
    ("name", "result", "subagent_id"),
    [
        ("Task", f"It wrote agentId: made_up\n{SAID}", "a7"),
        ("Agent", [{"type": "text", "text": "agentId: made_up"}, {"type": "text", "text": SAID}], "a7"),
        ("Agent", [{"type": "text", "text": "no id"}, {"type": "image"}, "odd", None], None),
        ("Agent", None, None),
        ("Bash", SAID, None),
    ],
)
def test_tool_names_the_agent_that_it_started(name: str, result: object, subagent_id: str | None) -> None:
    """The program states the id after the agent's own words."""
    tool = with_result(EventRecord(event_id="e", event_type="tool", time_ns=1, name=name, metadata={"a": 1}), result)
    assert tool.metadata == {"a": 1} | ({} if subagent_id is None else {"subagent_id": subagent_id})


@pytest.mark.parametrize("place", [Place(), Place(session_id="ours", session_name="coding")])
def test_session_is_that_which_started_the_program_else_its_own(kept: Kept, place: Place) -> None:
    own = RUN[0][0]["session.id"]
    calls = sent(kept, RUN, Sender(place=place))
    sessions = [record.session_id for record in kept.of(SessionRecord)]
    assert sessions == ([] if place.session_id else [own])
    assert {call.place.session_id for call in calls.values()} == {place.session_id or own}
    assert {call.request.conversation_id for call in calls.values()} == {own}


def test_repeated_and_torn_batches_give_the_same_calls(kept: Kept) -> None:
    """Requests come twice, and the events of a call in several ones: the versions of a call merge into the same."""
    expected = facts(sent(Kept(), RUN))
    events = [event for request in RUN for event in request]
    random = Random(7)
    for _ in range(20):
        again = Kept()
        cuts = sorted(random.sample(range(1, len(events)), 6))
        parts = [events[start:end] for start, end in pairwise([0, *cuts, len(events)])]
        doubled = [part for part in parts for _ in range(random.choice([1, 1, 2]))]
        assert facts(sent(again, doubled)) == expected


def test_a_request_may_come_after_its_answer(kept: Kept) -> None:
    requests = {event["request_body_id"]: event for event in named(RUN, "api_request_body")}
    for answer, counters in zip(named(RUN, "api_response_body"), named(RUN, "api_request"), strict=True):
        for event in (answer, counters, requests[answer["request_body_id"]]):
            kept.take(logs([event]))
    kept.inbox.close()
    expected = sent(Kept(), RUN)
    assert kept.calls.keys() == expected.keys()
    assert {ident: bytes(call.request.body) for ident, call in kept.calls.items()} == {
        ident: bytes(call.request.body) for ident, call in expected.items()
    }


def test_batches_in_any_order_never_mix_calls() -> None:
    """An attempt may be taken for unanswered then; of all else nothing is recorded twice."""
    events = [event for request in RUN for event in request]
    expected, random = sent(Kept(), RUN), Random(11)
    for _ in range(20):
        again = Kept()
        random.shuffle(events)
        sent(again, [events[start : start + 4] for start in range(0, len(events), 4)])
        again.inbox.close()
        answered = {call.request_id: call for call in again.calls.values() if call.outcome == "success"}
        assert len(again.calls) - len(answered) <= 1, "there is one attempt"
        assert answered.keys() == {call.request_id for call in expected.values()}
        for other in expected.values():
            call = answered[other.request_id]
            assert bytes(call.request.body) == bytes(other.request.body)
            assert (call.usage, call.response) == (other.usage, other.response)


def test_lost_answer_body_leaves_one_call_that_says_so(kept: Kept) -> None:
    """Its request is that of the newest before the counters, not a call of its own."""
    requests, counters = named(RUN, "api_request_body")[:3], named(RUN, "api_request")[:2]
    kept.take(logs([*requests[:2], counters[0]]))
    kept.take(logs([requests[2], counters[1]]))
    kept.inbox.close()
    calls = list(kept.calls.values())
    assert [(call.outcome, call.retries) for call in calls] == [("success", 1), ("success", 0)]
    for call in calls:
        assert bytes(call.request.body)
        assert call.usage is not None
        assert [(note.what, note.why) for note in call.redactions] == [("response.body", "not_received")]


def test_own_session_ends_with_its_program(kept: Kept) -> None:
    own, sender = RUN[0][0]["session.id"], Sender()
    sent(kept, RUN, sender)
    last_ns = max(event["time_ns"] for events in RUN for event in events if event["event.name"] != "user_prompt")
    kept.inbox.close(sender)
    (start, end) = kept.of(SessionRecord)
    assert (start.session_id, end.session_id) == (own, own)
    assert (end.start_ns, end.end_ns, end.outcome) == (start.start_ns, last_ns, "success")
    assert end.seen_ns > start.seen_ns
    kept.inbox.close()
    assert len(kept.of(SessionRecord)) == 2, "once"


@pytest.mark.parametrize(("last", "outcome"), [("api_request_body", "interrupted"), ("api_error", "error")])
def test_own_session_ends_as_its_last_call(kept: Kept, last: str, outcome: str) -> None:
    kept.take(logs([*RUN[0], {**named(FAILED, last)[-1], "session.id": RUN[0][0]["session.id"], "time_ns": 2**61}]))
    kept.inbox.close()
    assert kept.of(SessionRecord)[-1].outcome == outcome


def test_session_without_events_for_an_hour_has_ended(kept: Kept) -> None:
    sent(kept, RUN)
    assert [session.end_ns for session in kept.of(SessionRecord)] == [None]
    later = {**RUN[0][0], "session.id": "another", "time_ns": RUN[-1][-1]["time_ns"] + 3601 * 10**9}
    kept.take(logs([{**later, "event.name": "tool_decision"}]))
    sessions = kept.of(SessionRecord)
    assert [session.end_ns is None for session in sessions] == [True, True, False]
    assert sessions[0].session_id == sessions[2].session_id


def test_only_so_many_tools_wait(kept: Kept) -> None:
    tool = named(RUN, "tool_result")[0]
    kept.take(logs(named(RUN, "api_request_body")[:1]))
    kept.take(logs([{**tool, "tool_use_id": f"t{number}"} for number in range(1030)]))
    assert len([event for event in kept.of(EventRecord) if event.event_type == "tool"]) == 1030 - 1024


def test_what_could_not_be_written_is_written_when_it_comes_again(kept: Kept) -> None:
    expected, healthy = facts(sent(Kept(), RUN)), Kept()
    for events in RUN:
        kept.works, count = False, len(healthy.versions)
        healthy.take(logs(events))
        is_written = len(healthy.versions) > count
        assert [kept.take(logs(events)) for _ in range(3)] == 3 * [not is_written], "a request waits for its answer"
        kept.works = True
        assert kept.take(logs(events))
    assert facts(kept.calls) == expected
    assert len({record.event_id for record in kept.of(EventRecord)}) == len(kept.of(EventRecord))


def test_without_bodies_a_call_lacks_only_its_content(kept: Kept) -> None:
    requests = [[event for event in events if event["event.name"] not in WITHOUT_BODIES] for events in RUN]
    bare, full = sent(kept, requests), sent(Kept(), RUN)
    assert bare.keys() == full.keys()
    for ident, call in bare.items():
        other = full[ident]
        assert call.usage is not None
        assert other.usage is not None
        assert (call.usage.input_tokens, call.usage.output_tokens) == (
            other.usage.input_tokens,
            other.usage.output_tokens,
        )
        assert call.usage.cache_write_5m_tokens == other.usage.cache_write_5m_tokens
        assert call.request.model == other.request.model
        assert (bytes(call.request.body), call.retries) == (b"", None)
    tools = [event for event in kept.of(EventRecord) if event.event_type == "tool"]
    assert len(tools) == 3, "nothing will bring a result"


def test_unanswered_requests_are_recorded(kept: Kept) -> None:
    """One that a different request followed, and one that is the last of the program."""
    first, second = named(RUN, "api_request_body")[0], named(RUN, "api_request_body")[1]
    other = {**first, "request_body_id": "other", "body": '{"model":"m","messages":[]}'}
    kept.take(logs([other, second, *named(RUN, "api_response_body")[:1], *named(RUN, "api_request")[:1]]))
    outcomes = [(call.outcome, call.retries) for call in kept.calls.values()]
    assert outcomes == [("interrupted", 0), ("success", 0)]
    kept.take(logs([{**first, "request_body_id": "last", "time_ns": RUN[-1][-1]["time_ns"]}]))
    assert len(kept.calls) == 2, "its answer may come"
    kept.inbox.close()
    assert [call.outcome for call in kept.calls.values()].count("interrupted") == 2
    kept.inbox.close()
    assert len(kept.of(CallRecord)) == 3, "once"


def test_only_so_many_requests_wait(kept: Kept) -> None:
    body = named(RUN, "api_request_body")[0]
    kept.take(logs([{**body, "request_body_id": str(number), "query_source": str(number)} for number in range(300)]))
    assert len(kept.calls) == 300 - 256


def test_cut_body_is_noted(kept: Kept) -> None:
    requests = [
        [
            {**event, "body": event["body"][:50]} if event["event.name"] == "api_request_body" else event
            for event in events
        ]
        for events in RUN
    ]
    for call in sent(kept, requests).values():
        assert bytes(call.request.body) == b""
        assert [(note.what, note.why) for note in call.redactions] == [("request.body", "size")]
        assert call.response is not None
        assert bytes(call.response.body)


def in_files(directory: Path) -> list[Events]:
    """The same run with its bodies in files."""
    requests = []
    for events in RUN:
        moved = []
        for event in map(dict, events):
            if "body" in event:
                file = directory / f"{event.get('request_id') or event['request_body_id']}.json"
                file.write_text(event["body"], encoding="utf-8")
                del event["body"]
                event["body_ref"] = str(file)
            moved.append(event)
        requests.append(moved)
    return requests


def test_bodies_in_files_are_read_and_deleted_once_written(kept: Kept, tmp_path: Path) -> None:
    expected = facts(sent(Kept(), RUN))
    sender = Sender(bodies=tmp_path)
    requests = in_files(tmp_path)
    kept.works = False
    kept.take(logs(requests[0]), sender=sender)
    assert len(list(tmp_path.iterdir())) == sum("body_ref" in event for events in requests for event in events)
    kept.works = True
    assert facts(sent(kept, requests, sender)) == expected
    assert list(tmp_path.iterdir()) == []


def test_equal_requests_at_once_have_their_bodies_from_files(kept: Kept, tmp_path: Path) -> None:
    """The earlier one is taken for an attempt of the later one, until its own answer comes."""
    sender = Sender(bodies=tmp_path)
    (request, answer) = (
        next(event for events in RUN for event in events if event["event.name"] == name)
        for name in ("api_request_body", "api_response_body")
    )
    for number in range(3):
        file = tmp_path / f"{number}.json"
        file.write_text(request["body"], encoding="utf-8")
        moved = {key: value for key, value in request.items() if key != "body"}
        moved |= {"request_body_id": f"b{number}", "time_ns": request["time_ns"] + number, "body_ref": str(file)}
        assert kept.take(logs([moved]), sender=sender)
    for number in (2, 1):
        ids = {"request_body_id": f"b{number}", "request_id": f"r{number}"}
        assert kept.take(logs([answer | ids | {"time_ns": request["time_ns"] + 9 - number}]), sender=sender)
        assert [file.name for file in tmp_path.iterdir()] == []
    assert [len(call.attempts) for call in kept.calls.values()] == [2, 1]
    messages = [json.loads(bytes(call.request.body))["messages"] for call in kept.calls.values()]
    assert messages == [json.loads(request["body"])["messages"]] * 2


def test_answer_whose_file_is_not_whole_is_read_later(kept: Kept, tmp_path: Path) -> None:
    """A program that is slow writes it after it has told of it."""
    expected = facts(sent(Kept(), RUN))
    requests = in_files(tmp_path)
    late = {file: file.read_bytes() for file in tmp_path.glob("req_*")}
    for file in late:
        file.write_bytes(b"" if len(late) % 2 else late[file][:10])
    sender = Sender(bodies=tmp_path)
    sent(kept, requests, sender)
    for file, content in late.items():
        file.write_bytes(content)
    kept.take(logs([]), sender=sender)
    assert facts(kept.calls) == expected
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_the_senders_own_directory_are_read(kept: Kept, tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    requests = in_files(other)
    for file in other.iterdir():
        (own / file.name).symlink_to(file)
    linked = [[{**e, **({"body_ref": str(own / Path(e["body_ref"]).name)} if "body_ref" in e else {})} for e in events]
              for events in requests]  # fmt: skip
    for sender, run in ((Sender(), requests), (Sender(bodies=own), requests), (Sender(bodies=own), linked)):
        again = Kept()
        for call in sent(again, run, sender).values():
            assert (bytes(call.request.body), call.response and bytes(call.response.body)) == (b"", b"")
    assert len(list(other.iterdir())) > 0, "and none is deleted"


def test_unusable_events_cost_nothing_else(kept: Kept) -> None:
    """Of each event any attribute may be missing or of another type."""
    random = Random(3)
    for number in range(200):
        requests = [[dict(event) for event in events] for events in RUN]
        for _ in range(8):
            event = random.choice([event for events in requests for event in events])
            name = random.choice([name for name in event if name not in ("time_ns", "event.name")])
            event[name] = random.choice(["", "x", -1, 2**70, True, 1.5, [1]])
        broken = Kept()
        for events in requests:
            assert broken.take(logs(events)), number
        broken.inbox.close()
        assert broken.calls


def test_level_of_the_sender_is_passed_on(kept: Kept) -> None:
    sent(kept, RUN, Sender(level="off"))
    kept.inbox.close()
    assert kept.levels == {"off"}
    assert {tool.name for tool in kept.of(EventRecord) if tool.event_type.startswith("tool")} == {None}


def test_log_events_of_other_programs_are_said(kept: Kept) -> None:
    kept.take(logs([RUN[0][0]]))
    kept.take(logs([{**RUN[0][0], "event.name": "codex.unknown"}], service="codex_cli_rs"))
    assert kept.unrecorded == []
    kept.take(logs([RUN[0][0]] * 2, service="gemini-cli"))
    assert kept.unrecorded == ["OTLP requests with log events of gemini-cli"]


def behind_gateway(events: Events) -> Events:
    """Answers have no id of the provider's there, so that no event has one."""
    return [{key: value for key, value in event.items() if key != "request_id"} for event in events]


@pytest.mark.parametrize("bodies", [True, False])
def test_calls_behind_a_gateway_are_as_all_others(kept: Kept, bodies: bool) -> None:
    run = RUN if bodies else [[e for e in events if e["event.name"] not in WITHOUT_BODIES] for events in RUN]
    expected = facts(sent(Kept(), run))
    calls = facts(sent(kept, [behind_gateway(events) for events in run for _ in range(2)]))
    assert len(calls) == len(expected) == 5
    for mine, other in zip(calls.values(), expected.values(), strict=True):
        assert [mine[0:4], mine[5:]] == [other[0:4], other[5:]], "all but the id of an attempt"
    kept.inbox.close()
    assert len(kept.calls) == 5


def refusals(events: Events, **fields: Any) -> Events:
    """The program's event beside each `api_request`."""
    kept = ("time_ns", "event.sequence", "session.id", "prompt.id", "query_source", "model", "request_id", "speed")
    return [
        {name: event[name] for name in kept if name in event} | {"event.name": "api_refusal", "attempt": 1, **fields}
        for event in events
    ]


def are_refused(kept: Kept) -> list[tuple[str, bool, list[Any], bool]]:
    return [
        (call.outcome, call.response.refused, call.response.finish_reasons, call.usage is not None)
        for call in kept.calls.values()
        if call.response is not None
    ]


@pytest.mark.parametrize("gateway", [False, True], ids=["with ids", "without"])
@pytest.mark.parametrize("order", ["before", "after", "beside"])
def test_refusal_is_of_the_call_beside_it(kept: Kept, order: str, gateway: bool) -> None:
    requests = named(RUN, "api_request")[:3]
    refused = refusals(requests[1:2])
    requests, refused = (behind_gateway(events) if gateway else events for events in (requests, refused))
    batches = {"before": [refused, requests], "after": [requests, refused], "beside": [[*requests, *refused]]}[order]
    for batch in [[*chain(*batches)]] if gateway else batches:
        kept.take(logs(batch))
        kept.take(logs(batch))
    assert sorted(are_refused(kept)) == [
        ("success", False, [], True), ("success", False, [], True), ("success", True, ["refusal"], True),
    ]  # fmt: skip
    (call,) = [call for call in kept.calls.values() if call.response is not None and call.response.refused]
    assert call.usage is not None
    assert call.usage.output_tokens == requests[1]["output_tokens"]


def test_refusal_whose_request_was_lost_is_a_call(kept: Kept) -> None:
    (refused,) = refusals(named(RUN, "api_request")[:1])
    kept.take(logs([refused]))
    assert are_refused(kept) == [("success", True, ["refusal"], False)]
    (call,) = kept.calls.values()
    assert call.timing.start_ns == refused["time_ns"]


def test_refusal_that_another_model_has_answered_is_none(kept: Kept) -> None:
    requests = named(RUN, "api_request")[:1]
    kept.take(logs([*requests, *refusals(requests, server_fallback_hop=True)]))
    assert are_refused(kept) == [("success", False, [], True)]


def test_refusal_leaves_the_body_of_the_answer(kept: Kept) -> None:
    last = refusals(named(RUN, "api_request")[-1:])
    calls = sent(kept, [*RUN, last, last])
    (call,) = [call for call in calls.values() if call.request_id == last[0]["request_id"]]
    assert len(calls) == 5
    assert call.text is not None or call.tool_calls


def test_two_events_are_two_calls_and_one_that_is_sent_again_is_one(kept: Kept) -> None:
    """The sequence begins anew in each process, and a session goes on in the next one."""
    (event, *_) = behind_gateway(named(RUN, "api_request"))
    (error,) = behind_gateway(named(FAILED, "api_error"))
    for first in (event, error):
        later = {**first, "time_ns": first["time_ns"] + 1_000_000}
        next_one = {**first, "event.sequence": first["event.sequence"] + 1}
        for same in (first, later, next_one, first, later):
            kept.take(logs([same]))
        kept.take(logs([first, first, next_one, later]))
    assert Counter(call.outcome for call in kept.calls.values()) == {"success": 3, "error": 3}


def test_failed_calls_behind_a_gateway(kept: Kept) -> None:
    """With the bodies of their requests, and without; no connection has no status either."""
    (error,) = behind_gateway(named(FAILED, "api_error"))
    refused = {key: value for key, value in error.items() if key != "status_code"} | {"error": "Connection error."}
    for last in (error, refused):
        for requests in ([*named(FAILED, "api_request_body"), last], [last]):
            again = Kept()
            again.take(logs(requests))
            again.inbox.close()
            (call,) = again.calls.values()
            assert (call.outcome, call.retries, call.http_status) == ("error", 1, last.get("status_code"))
            assert call.error is not None
            assert call.error.message == last["error"]


def one_call(number: int, **tokens: int) -> Events:
    """The request, counters and answer of one call, seconds apart from the others, with the same answer."""
    body, counters, answer = (named(RUN, name)[-1] for name in ("api_request_body", "api_request", "api_response_body"))
    own = {"request_body_id": f"b{number}"}
    body = {**body, "body": json.dumps({**json.loads(body["body"]), "metadata": {"user_id": f"u{number}"}})}
    usage = json.dumps({**json.loads(answer["body"]), "id": f"m{number}"})
    return [
        {**event, "time_ns": event["time_ns"] + number * 5 * 10**9, "event.sequence": number * 10 + place}
        for place, event in enumerate(
            behind_gateway([body | own, counters | tokens, answer | own | {"body": usage, "message.id": f"m{number}"}])
        )
    ]


@pytest.mark.parametrize("seed", range(6))
def test_equal_counters_join_the_answers_beside_them(kept: Kept, seed: int) -> None:
    """Whatever the order, there is one call for each answer, with the times of its own counters."""
    calls = [one_call(number) for number in range(4)]
    events = [event for call in calls for event in call]
    Random(seed).shuffle(events)
    for event in events:
        kept.take(logs([event]))
    kept.inbox.close()
    assert len(kept.calls) == 4
    for (_, counters, answer), call in zip(calls, kept.calls.values(), strict=True):
        assert (call.response and call.response.id, call.outcome) == (answer["message.id"], "success")
        assert call.timing.start_ns + (call.timing.duration_ns or 0) == counters["time_ns"]


def test_counters_that_no_answer_has_leave_the_usage_of_the_body(kept: Kept) -> None:
    """Some servers state other numbers to the program than in the answer."""
    for event in [event for number in range(3) for event in one_call(number, input_tokens=99, output_tokens=98)]:
        kept.take(logs([event]))
    kept.inbox.close()
    assert [call.usage and call.usage.output_tokens for call in kept.calls.values()] == [7, 7, 7]


def test_requests_of_one_purpose_at_the_same_time(kept: Kept) -> None:
    """Their counters name neither; the tokens tell."""
    first, second = one_call(0, output_tokens=7), one_call(0, output_tokens=8)
    second = [{**event, **({"request_body_id": "other"} if "request_body_id" in event else {})} for event in second]
    body = json.loads(second[2]["body"])
    second[2]["body"] = json.dumps({**body, "usage": {**body["usage"], "output_tokens": 8}})
    second[1]["time_ns"] += 1_000_000
    second[1]["event.sequence"] += 100
    for event in (first[0], second[0], first[1], first[2], second[1], second[2]):
        kept.take(logs([event]))
    kept.inbox.close()
    assert [(call.outcome, call.usage and call.usage.output_tokens) for call in kept.calls.values()] == [
        ("success", 7), ("success", 8),
    ]  # fmt: skip
