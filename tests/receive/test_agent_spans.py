"""Sessions, agents and tools of the spans of agents that other programs send, and of those that reach the exporter."""

from __future__ import annotations

from itertools import chain, islice, permutations
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from tests.conftest import Instrument, Read
from tests.receive.conftest import AGENT_SPANS, History, Inbox, Kept, Sender, WaitingRecords, span, traces
from tests.support.agent_spans import CONVERSATIONS, RECORDED, TOOLS, WITHOUT_CONTENT, emit

import callspan
from callspan.records import CallRecord, EventRecord, Record, SessionRecord, decode, encode

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}
VERCEL = [
    span({"ai.operationId": "ai.generateText", "ai.telemetry.functionId": "trip"}, 1),
    span({"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "gpt-5"}, 2, 1),
    span({"ai.operationId": "ai.toolCall", "ai.toolCall.name": "weather", "ai.toolCall.id": "call_1",
          "ai.toolCall.args": '{"city":"Oslo"}', "ai.toolCall.result": '{"sky":"clear"}'}, 3, 1),
    span({"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "gpt-5"}, 4, 1),
]  # fmt: skip
OPENLLMETRY = [
    span({"traceloop.span.kind": "workflow", "traceloop.entity.name": "trip"}, 1),
    span({"llm.request.type": "chat", "gen_ai.request.model": "m"}, 2, 1),
    span({"traceloop.span.kind": "tool", "traceloop.entity.name": "weather",
          "traceloop.entity.input": '{"args": [], "kwargs": {"city": "Oslo"}}',
          "traceloop.entity.output": '{"sky": "clear"}'}, 3, 1),
]  # fmt: skip
CONVENTIONS = [
    span({"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "trip"}, 1),
    span(CHAT, 2, 1),
    span(
        {**TOOL, "gen_ai.tool.call.arguments": '{"city": "Oslo"}', "gen_ai.tool.call.result": '{"sky": "clear"}'}, 3, 1
    ),
]


class Told:
    """The newest version of each record."""

    def __init__(self, kept: Kept) -> None:
        self.calls: list[CallRecord] = [*kept.calls.values()]
        self.sessions: list[SessionRecord] = kept.of(SessionRecord)
        events: list[EventRecord] = kept.of(EventRecord)
        self.agents = [event for event in events if event.event_type == "agent"]
        self.tools = [event for event in events if event.event_type == "tool"]

    def session(self) -> SessionRecord:
        (session,) = self.sessions
        return session

    def is_in_one(self) -> bool:
        """Whether all is in the one session there is."""
        ids = {call.place.session_id for call in self.calls} | {event.session_id for event in self.tools + self.agents}
        return ids == {self.session().session_id}


def take(kept: Kept, *spans: Any, **about: Any) -> Told:
    kept.take(traces(*spans, **about), "traces")
    return Told(kept)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("spans", [VERCEL, OPENLLMETRY, CONVENTIONS])
def test_every_vocabulary(kept: Kept, spans: list[Any], at_once: bool) -> None:
    if not at_once:  # they end from within
        for one in reversed(spans[1:]):
            take(kept, one)
        spans = spans[:1]
    told = take(kept, *spans)
    assert told.is_in_one()
    (tool,) = told.tools
    assert (told.session().name, tool.name, tool.duration_ns) == ("trip", "weather", 1_000_000_000)
    assert tool.data == {"arguments": {"city": "Oslo"}, "result": {"sky": "clear"}}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("framework", RECORDED)
def test_spans_of_every_framework(kept: Kept, framework: str, at_once: bool) -> None:
    tracers = TracerProvider(resource=Resource({"service.name": "trips"}))
    chats = iter(range(100))

    def chat() -> None:
        tracers.get_tracer("an.sdk").start_span(f"chat {next(chats)}", attributes=CHAT).end()

    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
    spans = emit(RECORDED[framework], tracers, chat)
    for some in [spans] if at_once else [[one] for one in spans]:
        kept.take(json_format.MessageToDict(encoder.encode_spans(some)), "traces")
    told = Told(kept)
    conversation = CONVERSATIONS[framework]
    in_sessions = {session.session_id for session in told.sessions}
    assert {call.place.session_id for call in told.calls} == in_sessions
    assert len(in_sessions) == (2 if conversation is None and framework != "crewai" else 1)
    assert sorted(str(tool.name) for tool in told.tools if tool.name != "final_answer") == [*TOOLS]
    stated = set() if framework == WITHOUT_CONTENT else {"arguments", "result"}
    assert all({*(tool.data or {})} == stated for tool in told.tools)


def test_late_root_moves_its_calls_to_the_session_that_they_named(kept: Kept) -> None:
    """They came before it was known that they are an agent's."""
    chat = {**CHAT, "gen_ai.conversation.id": "c1"}
    told = take(kept, span(chat, 2, 1))
    (named,) = (call.place.session_id for call in told.calls)
    told = take(kept, span({**AGENT, "gen_ai.conversation.id": "c1"}, 1), span(TOOL, 3, 1))
    assert {session.session_id for session in told.sessions} == {named}
    assert len(told.tools) == len(told.agents) == 1
    told = take(kept, span(chat, 4, 5), span({**AGENT, "gen_ai.conversation.id": "c1"}, 5))
    assert {call.place.session_id for call in told.calls} == {named}


def test_root_that_never_comes_leaves_calls_where_they_are(kept: Kept) -> None:
    told = take(kept, span(CHAT, 2, 3), span(AGENT, 3, 1), span(TOOL, 4, 3))
    assert ([call.place.session_id for call in told.calls], told.sessions, told.tools) == ([None], [], [])


def test_parent_in_another_process_is_not_waited_for(kept: Kept) -> None:
    told = take(kept, span(CHAT, 2, 3), span(AGENT, 3, 1, flags=0x301), span(TOOL, 4, 3))
    assert told.is_in_one()
    assert len(told.tools) == 1


def test_agents_below_are_agents(kept: Kept) -> None:
    inner = {**AGENT, "gen_ai.agent.name": "searcher"}
    told = take(kept, span(AGENT, 1), span(CHAT, 2, 1), span(inner, 3, 5), span({}, 5, 1), span(CHAT, 4, 3))
    assert told.is_in_one()
    assert [(agent.name, agent.parent_span_id) for agent in told.agents] == [("searcher", f"{1:016x}")]


def test_failures(kept: Kept) -> None:
    failed = {"status": {"code": 2, "message": "no net"}}
    told = take(kept, span(AGENT, 1, **failed), span(CHAT, 2, 1), span(TOOL, 3, 1, **failed))
    errors = told.session().error, told.tools[0].error
    assert [error and error.message for error in errors] == ["no net", "no net"]
    assert told.session().outcome == "error"


def test_a_conversation_is_of_one_service_and_user(kept: Kept) -> None:
    for number, (service, user) in enumerate([("web", "ada"), ("web", "bob"), ("jobs", "ada"), ("web", "ada")]):
        named = {**AGENT, "gen_ai.conversation.id": "default", "user.id": user}
        ident = 10 * number + 1
        take(kept, span(named, ident), span(CHAT, ident + 1, ident), service=service)
    told = Told(kept)
    assert len({session.session_id for session in told.sessions}) == 3
    assert len({call.place.session_id for call in told.calls}) == 3
    assert len(told.agents) == 4


def test_agents_of_one_request_are_sessions_of_their_own(kept: Kept) -> None:
    request = span({"http.route": "/batch", "session.id": "of a browser"}, 1)
    agents = [one for ident in (10, 20) for one in (span(AGENT, ident, 1), span(CHAT, ident + 1, ident))]
    told = take(kept, request, *agents)
    assert len(told.sessions) == 2
    assert "of a browser" not in {session.session_id for session in told.sessions}


def test_nothing_is_recorded_twice(kept: Kept) -> None:
    whole = {**TOOL, "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": "7"}
    spans = [span(AGENT, 1), span(CHAT, 2, 1), span(whole, 3, 1), span(TOOL, 4, 3), span(whole, 5, 1)]
    told = take(kept, *spans)
    told = take(kept, *spans)
    (tool,) = told.tools
    assert (tool.span_id, tool.tool_call_id, tool.data) == (f"{4:016x}", "c1", {"arguments": {}, "result": "7"})
    assert (len(told.calls), len({session.session_id for session in told.sessions})) == (1, 1)


def test_what_asks_no_model_leaves_no_record(kept: Kept) -> None:
    told = take(kept, span(AGENT, 1), span(TOOL, 2, 1))
    assert (told.sessions, told.agents, told.tools) == ([], [], [])


@pytest.mark.parametrize("kind", ["LLM", "AGENT"])
def test_a_chain_is_a_session_if_an_agent_runs_in_it(kept: Kept, kind: str) -> None:
    chain = {"openinference.span.kind": "CHAIN"}
    told = take(kept, span(chain, 1, name="kickoff"), span({"openinference.span.kind": kind}, 2, 1), span(CHAT, 3, 2))
    assert [session.name for session in told.sessions] == (["kickoff"] if kind == "AGENT" else [])


def loud(record: Record, _: object) -> Record:
    """A redactor."""
    return decode(encode(record).replace(b"secret", b"SECRET"))


def test_next_receiver_knows_the_agents_of_the_one_before(kept: Kept, tmp_path: Path) -> None:
    """What their tools took and returned waits in files of its own, as it may be written, until it is."""
    secret = {**TOOL, "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.result": "secret"}
    for spans in ([span(CHAT, 2, 3), span(secret, 4, 3), span(AGENT, 3, 1)], [span(AGENT, 1)]):
        kept.inbox = Inbox(kept._write)
        waiting = WaitingRecords(tmp_path / "waiting", loud)
        kept.inbox.resume(waiting, History(tmp_path / "history"), Sender())
        told = take(kept, *spans)
    assert told.is_in_one()
    assert [(tool.name, tool.tool_call_id, tool.data) for tool in told.tools] == [
        ("weather", "c1", {"result": "SECRET"})
    ]
    assert b"secret" not in (tmp_path / "history").read_bytes().lower()
    assert not [*(tmp_path / "waiting").iterdir()]


def test_tools_of_a_program_are_those_that_it_tells_of(store: str, instrumented: Instrument, reading: Read) -> None:
    """A client of its SDK starts it within the agent's span; what it sends has the tools."""
    tracers = TracerProvider()
    handle = instrumented(stores=store, tracer_provider=tracers)
    tracer = tracers.get_tracer("an.sdk")
    for is_program in (True, False):
        with tracer.start_as_current_span("query", attributes={"openinference.span.kind": "AGENT"}):
            session = callspan.current_session()
            if is_program:
                AGENT_SPANS.leave_tools_to_receiver()
            tracer.start_span("Bash", attributes={"openinference.span.kind": "TOOL"}).end()
    assert handle.force_flush()
    assert session is not None
    reader = reading(store)
    names = [[event.name for event in reader.events(summary.session.session_id)] for summary in reader.sessions()]
    assert sorted(names) == [[], ["Bash"]]


def test_circles_and_odd_values_cost_only_themselves(kept: Kept) -> None:
    odd = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": 7, "gen_ai.conversation.id": ["c"]}
    told = take(kept, span(odd, 1, 2), span(odd, 2, 1), span(CHAT, 3, 2), span({**TOOL, "gen_ai.tool.name": 7}, 4, 4))
    assert len(told.calls) == 1


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_chain_is_a_session_in_any_order(kept: Kept, order: tuple[int, ...]) -> None:
    root, tool = {"openinference.span.kind": "CHAIN"}, {"openinference.span.kind": "TOOL", "tool.name": "add"}
    spans = [span(root, 1, name="kickoff"), span(CHAT, 2, 1), span(tool, 3, 1)]
    for number in order:
        told = take(kept, spans[number])
    assert told.is_in_one()
    assert ([session.name for session in told.sessions], [tool.name for tool in told.tools]) == (["kickoff"], ["add"])


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_two_users_are_never_in_one_session(kept: Kept, order: tuple[int, ...]) -> None:
    """Their agents run in an agent that states nobody."""
    groups = [[span(AGENT, 1)], [span(CHAT, 2, 1)]]
    for number, user in ((3, "ada"), (5, 7)):
        groups.append([span({**AGENT, "user.id": user}, number, 1), span(CHAT, number + 1, number)])
    for number in order:
        told = take(kept, *groups[number])
    users = {session.session_id: session.user_id for session in told.sessions}
    placed = {str(call.span_id): users[str(call.place.session_id)] for call in told.calls}
    assert (placed[f"{4:016x}"], placed[f"{6:016x}"], len(users)) == ("ada", "7", 2)


def test_what_waits_longer_than_there_is_room_is_recorded_and_counted(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.receive.spans._MAX_BYTES", 100 * 2_000)
    for number in range(2, 302):
        told = take(kept, span({**TOOL, "gen_ai.tool.call.id": f"c{number}"}, number, 1))
    told = take(kept, span(CHAT, 400, 1), span(AGENT, 1))
    assert len({tool.tool_call_id for tool in told.tools}) == len(told.tools) == 300
    assert len([tool for tool in told.tools if tool.session_id is None]) == len(kept.unrecorded) > 200


def test_an_agent_with_very_many_tools_and_calls_has_them_all(kept: Kept) -> None:
    tools = (span({**TOOL, "gen_ai.tool.call.id": f"c{number}"}, number, 1) for number in range(2, 3_002))
    inner = chain(tools, (span(CHAT, number, 1) for number in range(4_002, 7_002)))
    while group := [*islice(inner, 500)]:
        take(kept, *group)
    told = take(kept, span(AGENT, 1))
    assert len({tool.tool_call_id for tool in told.tools if tool.session_id}) == 3_000
    assert sum(call.place.session_id is not None for call in told.calls) == 3_000
    assert not kept.unrecorded
