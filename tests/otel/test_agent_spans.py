"""Sessions, agents and tools of the spans that frameworks emit of their agents, while these run."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal
from weakref import ref

import anthropic
import openai
import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, detach, set_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer
from tests.conftest import Instrument, Read
from tests.support.agent_spans import CONVERSATIONS, RECORDED, TOOLS, WITHOUT_CONTENT, emit
from tests.support.commands import ask
from tests.support.left_behind import FOREIGN_RUNS
from tests.support.processes import plain_environment, ran
from tests.support.receiver import OtlpReceiver
from tests.support.waiting import HANG_MS

import callspan
from callspan import CallRecordExporter
from callspan.records import CallRecord, EventRecord, SessionRecord, Tree, links_of
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}
BY_UTILITIES: Final = ("langgraph", "agno")
"""Frameworks whose spans OpenTelemetry's GenAI utilities make."""
NAMES: Final = {
    "autogen": {"planner"},
    "smolagents": {"ToolCallingAgent"},
    "llama-index": {"FunctionAgent"},
    "crewai": {"Crew", "planner"},
}
"""What the runs and agents of some frameworks are called."""
HI: Any = [{"role": "user", "content": "Hi"}]


class Told:
    """What a store was told."""

    def __init__(self, reader: callspan.stores.Reader) -> None:
        self.calls: list[CallRecord] = [*reader.calls(CallFilter(newest_first=False))]
        self.sessions: list[SessionRecord] = [summary.session for summary in reader.sessions()]
        events = [event for session in self.sessions for event in reader.events(session.session_id)]
        self.tools = [event for event in events if isinstance(event, EventRecord) and event.event_type == "tool"]
        self.agents = [event for event in events if isinstance(event, EventRecord) and event.event_type == "agent"]

    def session(self) -> SessionRecord:
        (session,) = self.sessions
        return session


class Rig:
    """callspan with a store and a tracer provider, which an agent's framework uses, too."""

    def __init__(self, store: str, instrumented: Instrument, reading: Read, client: openai.OpenAI) -> None:
        self.store, self._instrumented, self._reading, self._client = store, instrumented, reading, client
        self.tracers = TracerProvider()

    def begin(self, **settings: Any) -> Tracer:
        self.handle = self._instrumented(stores=self.store, tracer_provider=self.tracers, service="trips", **settings)
        return self.tracers.get_tracer("a.framework")

    def call(self, **more: Any) -> None:
        self._client.chat.completions.create(model="gpt-5", messages=HI, **more)

    def told(self) -> Told:
        assert self.handle.force_flush(HANG_MS)
        return Told(self.reader())

    def reader(self) -> callspan.stores.Reader:
        return self._reading(self.store)


@pytest.fixture
def rig(
    store: str, instrumented: Instrument, reading: Read, client: openai.OpenAI, provider: ScriptedProvider
) -> Iterator[Rig]:
    provider.reply(text="Hello.", repeat=True)
    rig = Rig(store, instrumented, reading, client)
    yield rig
    rig.tracers.shutdown()


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], AbstractContextManager[None]]:
    """Have a conversation in the context as OpenTelemetry's GenAI utilities do, whose spans state it at their end."""
    utilities: Any = ModuleType("opentelemetry.util.genai._conversation_context")
    utilities.CONVERSATION_ID_KEY = create_key("conversation")
    monkeypatch.setitem(sys.modules, utilities.__name__, utilities)

    @contextmanager
    def within(conversation: str | None) -> Iterator[None]:
        token = attach(set_value(utilities.CONVERSATION_ID_KEY, conversation))
        yield
        detach(token)

    return within


@pytest.mark.parametrize("framework", RECORDED)
def test_spans_of_every_framework(
    rig: Rig, framework: str, ambient: Callable[[str | None], AbstractContextManager[None]]
) -> None:
    rig.begin()
    conversation = CONVERSATIONS[framework]
    with ambient(conversation) if framework in BY_UTILITIES else nullcontext():
        spans = emit(RECORDED[framework], rig.tracers, rig.call)
    told = rig.told()
    assert len(told.calls) == 5
    assert {call.place.session_id for call in told.calls} == {session.session_id for session in told.sessions}
    assert len(told.sessions) == (2 if conversation is None and framework != "crewai" else 1)
    for session in told.sessions:
        assert (session.outcome, session.metadata.get("conversation_id")) == ("success", conversation)
    assert sorted(str(tool.name) for tool in told.tools if tool.name != "final_answer") == [*TOOLS]
    names = {run.name for run in (*told.sessions, *told.agents)}
    assert names == NAMES.get(framework, {"planner"}), "no method, and no id of a run"
    durations = {span.end_time - span.start_time for span in spans if span.end_time and span.start_time}
    assert {tool.duration_ns for tool in told.tools} <= durations
    stated = set() if framework == WITHOUT_CONTENT else {"arguments", "result"}
    assert all({*(tool.data or {})} == stated for tool in told.tools)


def test_agent_is_a_session_and_what_is_in_it(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT) as outer:
        rig.call()
        with tracer.start_as_current_span("a step"), tracer.start_as_current_span("invoke_agent") as inner:
            inner.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "searcher"})
            rig.call()
            with tracer.start_as_current_span("execute_tool weather", attributes=TOOL) as tool:
                tool.set_attributes({"gen_ai.tool.call.id": "call_1", "gen_ai.tool.call.arguments": '{"city": "Oslo"}'})
                tool.set_attribute("gen_ai.tool.call.result", "sunny")
                rig.call()
    told = rig.told()
    session, (agent,), (ran,) = told.session(), told.agents, told.tools
    assert (session.name, session.outcome, session.service) == ("planner", "success", "trips")
    assert (session.start_ns, session.end_ns) == (outer.start_time, outer.end_time)
    assert session.totals is not None
    assert (session.totals.calls, session.totals.tools) == (3, 1)
    assert (agent.name, agent.time_ns, agent.duration_ns) == (
        "searcher", inner.start_time, inner.end_time - inner.start_time,
    )  # fmt: skip
    assert (ran.name, ran.tool_call_id, ran.data) == (
        "weather", "call_1", {"arguments": {"city": "Oslo"}, "result": "sunny"},
    )  # fmt: skip
    assert agent.parent_span_id == session.span_id
    assert ran.parent_span_id == agent.span_id
    assert {call.place.session_id for call in told.calls} == {session.session_id}


def test_failures_are_recorded(rig: Rig) -> None:
    tracer = rig.begin()
    with pytest.raises(OSError, match="no net"), tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
        with tracer.start_as_current_span("execute_tool weather", attributes=TOOL):
            raise OSError("no net")
    told = rig.told()
    session, (tool,) = told.session(), told.tools
    assert (session.outcome, session.error and session.error.message) == ("error", "no net")
    assert (tool.error and tool.error.message) == "no net"


@pytest.mark.parametrize(("content", "data"), [
    ("full", {"arguments": "secret", "result": "secret"}), ("metadata", None), ("off", None),
])  # fmt: skip
@pytest.mark.parametrize("by_block", [True, False])
def test_content_level_holds(rig: Rig, content: Any, data: object, by_block: bool) -> None:
    tracer = rig.begin() if by_block else rig.begin(content=content)
    told = {"gen_ai.tool.call.arguments": "secret", "gen_ai.tool.call.result": "secret"}
    with callspan.content(content) if by_block else nullcontext():
        agent = tracer.start_span("invoke_agent planner", attributes=AGENT)
    with trace.use_span(agent, end_on_exit=True):
        rig.call()
        tracer.start_span("execute_tool weather", attributes={**TOOL, **told}).end()
    (tool,) = rig.told().tools
    assert tool.data == data


def test_redactor_sees_what_others_wrote(rig: Rig) -> None:
    tracer = rig.begin(redact=callspan.redact_texts(lambda text: text.replace("secret", "[x]")))
    with tracer.start_as_current_span("invoke_agent secret", attributes={**AGENT, "gen_ai.agent.name": "secret"}):
        rig.call()
        tracer.start_span("execute_tool weather", attributes={**TOOL, "gen_ai.tool.call.result": "a secret"}).end()
    (tool,) = rig.told().tools
    assert tool.data == {"result": "a [x]"}


def test_session_of_the_application_stays_the_session(rig: Rig) -> None:
    tracer = rig.begin()
    planner = {**AGENT, "gen_ai.conversation.id": "c"}
    with callspan.session("mine", session_id="s1"), tracer.start_as_current_span("planner", attributes=planner):
        rig.call()
        tracer.start_span("execute_tool weather", attributes=TOOL).end()
    told = rig.told()
    assert (told.session().session_id, told.session().name) == ("s1", "mine")
    assert [agent.name for agent in told.agents] == ["planner"]
    assert [tool.parent_span_id for tool in told.tools] == [agent.span_id for agent in told.agents]
    assert [call.place.session_id for call in told.calls] == ["s1"]


def test_own_scopes_within_an_agent_are_in_its_session(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        current = callspan.current_session()
        assert current is not None
        with callspan.timestep() as step:
            rig.call()
            step.reward(1.0)
        current.outcome(success=True)
    told = rig.told()
    assert (told.session().session_id, told.session().success) == (current.id, True)
    assert [call.place.timestep_id for call in told.calls] == [step.id]


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("between", [0, 1, 3])
def test_calls_below_other_spans_are_below_the_innermost_agent(rig: Rig, between: int, session: bool) -> None:
    """Or tool: neither an own session nor the outermost agent takes them."""
    tracer = rig.begin()
    with callspan.session("mine") if session else nullcontext(), ExitStack() as spans:
        spans.enter_context(tracer.start_as_current_span("planner", attributes=AGENT))
        helper = {**AGENT, "gen_ai.agent.name": "helper"}
        spans.enter_context(tracer.start_as_current_span("helper", attributes=helper))
        with ExitStack() as others:
            for _ in range(between):
                others.enter_context(tracer.start_as_current_span("a request of the application"))
            rig.call()
            with callspan.tool("lookup"):
                rig.call()
        spans.enter_context(tracer.start_as_current_span("execute_tool weather", attributes=TOOL))
        for _ in range(between):
            spans.enter_context(tracer.start_as_current_span("a request of the application"))
        rig.call()
    rig.told()
    reader = rig.reader()
    (summary,) = reader.sessions()
    records = [*reader.entries(summary.session.session_id)]
    tree = Tree(map(links_of, records))
    above = [
        None if (number := tree.parents[index]) is None else getattr(records[number], "name", None)
        for index, record in enumerate(records) if isinstance(record, CallRecord)
    ]  # fmt: skip
    assert above == ["helper", "lookup", "weather"]
    parents = {
        record.name: tree.parents[index] for index, record in enumerate(records) if isinstance(record, EventRecord)
    }
    named = {
        name: None if number is None else getattr(records[number], "name", None) for name, number in parents.items()
    }
    assert {name: named[name] for name in ("lookup", "weather", "helper")} == {
        "lookup": "helper", "weather": "helper", "helper": "planner" if session else None,
    }  # fmt: skip


@pytest.mark.parametrize("own", ["within", "around", "by id"])
def test_a_tool_that_callspan_records_is_one(rig: Rig, own: str) -> None:
    tracer = rig.begin()
    span = {**TOOL, "gen_ai.tool.call.id": "call_7"}
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
        if own == "around":
            with callspan.tool("weather"), tracer.start_as_current_span("execute_tool weather", attributes=span):
                rig.call()
        else:
            own_tool = callspan.tool("weather") if own == "within" else callspan.tool("another name", call="call_7")
            with tracer.start_as_current_span("execute_tool weather", attributes=span), own_tool:
                rig.call()
    assert len(rig.told().tools) == 1


@pytest.mark.parametrize("has_call", [True, False])
def test_innermost_of_nested_spans_of_a_tool_is_the_tool(rig: Rig, has_call: bool) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
        told = {**TOOL, "gen_ai.tool.call.id": "call_1", "gen_ai.tool.call.arguments": '{"a": 1}'}
        with (
            tracer.start_as_current_span("execute_tool weather", attributes=told),
            tracer.start_as_current_span("tools/call weather", attributes=TOOL) as inner,
        ):
            if has_call:
                rig.call()
    (tool,) = rig.told().tools
    assert (tool.time_ns, tool.duration_ns) == (inner.start_time, inner.end_time - inner.start_time)
    assert has_call or (tool.tool_call_id, tool.data) == ("call_1", {"arguments": {"a": 1}})


def test_two_spans_of_one_tool_call_are_one_tool(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
        spans = [tracer.start_span("execute_tool x", attributes={**TOOL, "gen_ai.tool.call.id": "c1"}) for _ in "ab"]
        for span in spans:
            span.end()
        tracer.start_span("execute_tool x", attributes={**TOOL, "gen_ai.tool.call.id": "c1"}).end()  # it runs again
    assert len(rig.told().tools) == 2


def test_a_conversation_is_of_one_user(rig: Rig) -> None:
    tracer = rig.begin()
    for user in ("ada", "bob", "ada", None):
        with callspan.metadata(user_id=user):
            conversation = {**AGENT, "gen_ai.conversation.id": "default"}
            with tracer.start_as_current_span("invoke_agent planner", attributes=conversation):
                rig.call()
    told = rig.told()
    assert sorted(str(session.user_id) for session in told.sessions) == ["None", "ada", "bob"]
    assert len({call.place.session_id for call in told.calls}) == 3
    assert "default" not in {session.session_id for session in told.sessions}
    assert len(told.agents) == 4, "each turn"


@pytest.mark.parametrize("name", ["gen_ai.conversation.id", "session.id"])
@pytest.mark.parametrize("user_id", [None, "ada"])
def test_spans_of_a_conversation_have_the_id_of_its_framework(
    rig: Rig, name: str, user_id: str | None, receiver: OtlpReceiver
) -> None:
    """Those of callspan, exported and sent from the store; records have the id of one service's and user's session."""
    tracer, memory = rig.begin(attempt_spans=True), InMemorySpanExporter()
    rig.tracers.add_span_processor(SimpleSpanProcessor(memory))
    attributes = {**AGENT, name: "th-1"}
    with callspan.metadata(user_id=user_id), tracer.start_as_current_span("turn", attributes=attributes):
        rig.call()
        with callspan.tool("weather"), callspan.invoke_agent("inner"):
            rig.call()
    session = rig.told().session()
    callspan.reward(1.0, session_id=session.session_id, source="judge")
    assert rig.handle.force_flush(HANG_MS)
    assert session.session_id != "th-1"
    spans = {f"{span.context.span_id:016x}": span for span in memory.get_finished_spans() if span.name != "turn"}
    assert len(spans) == 7, "two calls with their attempts, a tool, an agent, a reward"
    assert ask("--store", rig.store, "send", "--otlp", receiver.url).code == 0
    sent = {span.span_id: span.attributes for span in receiver.spans}
    exported = {ident: dict(span.attributes or {}) for ident, span in spans.items()}
    for ids_of in (exported, sent):
        assert {attributes["session.id"] for attributes in ids_of.values()} == {"th-1"}
    for ident, span in spans.items():
        conversation = exported[ident].get("gen_ai.conversation.id")
        assert conversation == (None if span.name == "POST" else "th-1")
        assert conversation == sent.get(ident, exported[ident]).get("gen_ai.conversation.id")


@pytest.mark.parametrize("names", [("gen_ai.conversation.id",), ("session.id",), ("gen_ai.request.model", "user.id")])
@pytest.mark.parametrize("is_in_session", [False, True])
def test_what_a_framework_has_set_on_its_span_of_a_call_stays(
    rig: Rig, names: tuple[str, ...], is_in_session: bool
) -> None:
    """Before the call, and while it runs; what it has not set is added."""
    tracer, memory = rig.begin(vocabularies=("llm", "gen_ai", "openinference")), InMemorySpanExporter()
    rig.tracers.add_span_processor(SimpleSpanProcessor(memory))
    stated = {**dict.fromkeys(names, "th-1"), "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mine"}
    turn = {**AGENT, "gen_ai.conversation.id": "th-2"}
    with (
        callspan.session("own") if is_in_session else nullcontext(),
        tracer.start_as_current_span("turn", attributes=turn),
        tracer.start_as_current_span("chat", attributes=stated) as span,
    ):
        add = partial(span.set_attribute, "gen_ai.response.id", "theirs")
        remove = callspan.add_callback("before_record", lambda _: add(), kinds=["call"])
        rig.call()
        remove()
    (shared,) = (span for span in memory.get_finished_spans() if span.name == "chat")
    attributes = dict(shared.attributes or {})
    expected = {**stated, "gen_ai.response.id": "theirs"}
    assert {name: attributes[name] for name in expected} == expected
    assert attributes["callspan.outcome"] == "success"
    assert attributes["gen_ai.response.model"]
    assert rig.told().calls[0].span_id == f"{shared.context.span_id:016x}"


def test_what_a_span_processor_sets_on_spans_of_calls_stays(rig: Rig) -> None:
    """As libraries do that put their session on every span, also where the model is known by the body alone."""

    class Sessions(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            span.set_attribute("session.id", "th-1")

    memory = InMemorySpanExporter()
    rig.tracers.add_span_processor(Sessions())
    rig.tracers.add_span_processor(SimpleSpanProcessor(memory))
    rig.begin(vocabularies=("llm", "gen_ai", "openinference"))
    with callspan.session("own"):
        rig.call(extra_body={"model": "gpt-5-mini"})
    (call,) = (span for span in memory.get_finished_spans() if span.name.startswith("chat"))
    attributes = dict(call.attributes or {})
    assert (attributes["session.id"], attributes["gen_ai.request.model"]) == ("th-1", "gpt-5-mini")


def stated(user: str | int | None, *, conversation: str | None = None) -> dict[str, Any]:
    attributes = {**AGENT, "user.id": user, "gen_ai.conversation.id": conversation}
    return {name: value for name, value in attributes.items() if value is not None}


@pytest.mark.parametrize("conversation", [None, "default"])
@pytest.mark.parametrize("users", [("ada", "bob", "cid"), (7, 8), (None, None), ("ada", "ada")])
def test_streams_left_early_leave_each_turn_its_own_session(
    rig: Rig, users: tuple[str | int | None, ...], conversation: str | None
) -> None:
    """Their agent's span has ended, and is still the current one of the worker."""
    tracer = rig.begin()

    async def turn(user: str | int | None) -> AsyncIterator[None]:
        with tracer.start_as_current_span("invoke_agent planner", attributes=stated(user, conversation=conversation)):
            rig.call()
            yield

    async def work() -> None:
        for user in users:
            async for _ in turn(user):
                break
            for _ in range(5):  # in which the loop closes what was left, and so ends the span
                await asyncio.sleep(0)

    asyncio.run(work())
    rig.call()
    told = rig.told()
    are_one = conversation is not None and len(set(users)) == 1
    assert len(told.sessions) == (1 if are_one else len(users))
    assert {session.user_id for session in told.sessions} == {None if user is None else str(user) for user in users}
    assert [call.place.session_id is None for call in told.calls] == [*(False for _ in users), True]
    assert {session.parent_session_id for session in told.sessions} == {None}


@pytest.mark.parametrize("around", ["ada's agent", "nobody's agent", "nobody's session"])
def test_an_agent_of_another_user_is_a_session_of_its_own(rig: Rig, around: str) -> None:
    tracer = rig.begin()
    users = ("ada", "bob", "ada", None, "cid")
    outer = stated("ada" if around == "ada's agent" else None)
    with ExitStack() as stack:
        if around == "nobody's session":
            stack.enter_context(callspan.session("own"))
        else:
            stack.enter_context(tracer.start_as_current_span("invoke_agent outer", attributes=outer))
        rig.call()
        for inner in users:
            with tracer.start_as_current_span("invoke_agent inner", attributes=stated(inner)):
                rig.call()
    told = rig.told()
    owners = {session.session_id: session.user_id for session in told.sessions}
    assert sorted(owners.values()) == ["ada", "bob", "cid"]
    placed = [owners[str(call.place.session_id)] for call in told.calls]
    assert placed == ["ada", "ada", "bob", "ada", "ada", "cid"]


@pytest.mark.parametrize("where", ["outermost", "inner"])
def test_what_a_span_states_after_its_first_call_is_in_the_session(rig: Rig, where: str) -> None:
    tracer = rig.begin()
    late = {"user.id": 7, "gen_ai.conversation.id": "th-1"}
    with tracer.start_as_current_span("invoke_agent outer", attributes=AGENT) as outer:
        rig.call()
        if where == "outermost":
            outer.set_attributes(late)
        else:
            with tracer.start_as_current_span("invoke_agent inner", attributes=AGENT) as inner:
                rig.call()
                inner.set_attributes(late)
        rig.call()
    told = rig.told()
    assert (told.session().user_id, told.session().metadata["conversation_id"]) == ("7", "th-1")
    erased = callspan.erase(rig.store, CallFilter(user_id="7"))
    assert (erased.stores[0].sessions, erased.stores[0].calls) == (1, len(told.calls))


def test_a_conversation_is_of_one_tenant(rig: Rig) -> None:
    tracer = rig.begin()
    turn = stated(None, conversation="1")
    for tenant in ("shop", "clinic", "shop"):
        named = callspan.metadata(organization_id=tenant)
        with named, tracer.start_as_current_span("invoke_agent planner", attributes=turn):
            rig.call()
    told = rig.told()
    assert sorted(session.metadata["organization_id"] for session in told.sessions) == ["clinic", "shop"]
    erased = callspan.erase(rig.store, CallFilter(metadata=(("organization_id", "clinic"),)))
    assert (erased.stores[0].sessions, erased.stores[0].calls) == (1, 1)


def test_spans_of_another_run_with_the_same_ids_are_other_records(rig: Rig) -> None:
    """A program that seeds `random` gives its spans the ids of its last run."""
    tracer = rig.begin()
    for number in range(3):
        random.seed(0)
        with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
            rig.call()
            result = {**TOOL, "gen_ai.tool.call.result": f'"{number}"'}
            tracer.start_span("execute_tool weather", attributes=result).end()
    told = rig.told()
    assert len({call.place.session_id for call in told.calls}) == len(told.sessions) == 3
    assert sorted(tool.data["result"] for tool in told.tools) == ["0", "1", "2"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
@pytest.mark.parametrize("states", ["in flight", "as an event", "as an error type"])
def test_a_cancelled_agent_has_not_failed(rig: Rig, error: type[BaseException], states: str) -> None:
    tracer = rig.begin()
    with suppress(error), tracer.start_as_current_span("invoke_agent planner", attributes=AGENT) as span:
        rig.call()
        inner = tracer.start_span("execute_tool weather", attributes=TOOL)
        try:
            raise error
        finally:
            for ended in (inner, span):
                if states == "as an event":
                    ended.record_exception(error())
                    ended.set_status(trace.StatusCode.ERROR)
                elif states == "as an error type":
                    ended.set_attribute("error.type", error.__name__)
                ended.end()
    told = rig.told()
    assert (told.session().outcome, told.session().error) == ("cancelled", None)
    assert [tool.error and tool.error.kind for tool in told.tools] == ["cancelled"]


def test_an_agent_that_runs_while_a_cancellation_is_handled_is_a_success(rig: Rig) -> None:
    tracer = rig.begin()
    try:
        raise asyncio.CancelledError
    except asyncio.CancelledError:
        with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
            rig.call()
    assert rig.told().session().outcome == "success"


def test_a_session_that_is_required_may_be_an_adopted_one(rig: Rig) -> None:
    tracer = rig.begin()
    with callspan.session(require=True):
        rig.call()
        with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
            rig.call()
    told = rig.told()
    assert [call.place.session_id for call in told.calls] == [told.session().session_id]


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_the_content_level_of_an_agent_holds_in_threads_that_have_its_span(
    rig: Rig, level: Literal["metadata", "off"], tmp_path: Path
) -> None:
    tracer = rig.begin()
    with callspan.content(level):
        outer = tracer.start_span("invoke_agent planner", attributes=AGENT)
    inner = tracer.start_span("execute_tool weather", context=trace.set_span_in_context(outer), attributes=TOOL)

    def work() -> None:
        for span in (outer, inner):
            with trace.use_span(span, end_on_exit=False):
                rig.call()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    inner.end()
    outer.end()
    assert [call.content_level for call in rig.told().calls] == [level, level]


def test_many_tools_before_the_first_call_are_all_recorded(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        for _ in range(1_000):
            tracer.start_span("execute_tool weather", attributes=TOOL).end()
        rig.call()
    assert len(rig.told().tools) == 1_000


def test_spans_that_are_never_ended_are_not_kept(rig: Rig) -> None:
    tracer = rig.begin()
    before = set(FOREIGN_RUNS)
    large = {**AGENT, "gen_ai.input.messages": "x" * 50_000}
    spans = [ref(tracer.start_span("invoke_agent planner", attributes=large)) for _ in range(100)]
    gc.collect()
    assert [span() for span in spans] == [None] * 100
    assert set(FOREIGN_RUNS) <= before


@pytest.mark.parametrize("has_setting", [True, False])
def test_service_is_the_resources_where_no_setting_names_one(
    rig: Rig, instrumented: Instrument, has_setting: bool
) -> None:
    rig.tracers = TracerProvider(resource=Resource({"service.name": "shop"}))
    settings = {"service": "trips"} if has_setting else {}
    rig.handle = instrumented(stores=rig.store, tracer_provider=rig.tracers, **settings)
    rig.call()
    assert [call.service for call in rig.told().calls] == ["trips" if has_setting else "shop"]


def test_empty_result_of_a_tool_is_a_result(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
        for result in ({"gen_ai.tool.call.result": ""}, {"gen_ai.tool.call.result": "", "output.value": "7"}, {}):
            tracer.start_span("execute_tool weather", attributes={**TOOL, **result}).end()
    results = [(tool.data or {}).get("result") for tool in rig.told().tools]
    assert results == ["", "7", None]


def test_agents_of_one_request_are_sessions_of_their_own(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("POST /batch", attributes={"session.id": "of a browser", "http.route": "/batch"}):
        for _ in range(3):
            with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
                rig.call()
        rig.call()
    told = rig.told()
    assert len(told.sessions) == 3
    assert [call.place.session_id is None for call in told.calls] == [False, False, False, True]
    assert not any("browser" in session.session_id for session in told.sessions)


@pytest.mark.parametrize("name", ["execute_tool weather", "invoke_agent planner"])
def test_what_asks_no_model_leaves_no_record(rig: Rig, name: str) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span(name):
        tracer.start_span("execute_tool weather", attributes=TOOL).end()
    rig.call()
    told = rig.told()
    assert (told.sessions, told.tools) == ([], [])


def test_tools_before_the_first_call_are_in_its_session(rig: Rig) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        tracer.start_span("execute_tool weather", attributes=TOOL).end()
        rig.call()
    assert [tool.name for tool in rig.told().tools] == ["weather"]


@pytest.mark.parametrize("chain", [True, False])
def test_a_chain_is_a_session_if_an_agent_runs_in_it(rig: Rig, chain: bool) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("kickoff", attributes={"openinference.span.kind": "CHAIN"}):
        for _ in range(2):
            kind = {"openinference.span.kind": "AGENT" if chain else "LLM"}
            with tracer.start_as_current_span("a run", attributes=kind):
                rig.call()
    told = rig.told()
    assert [session.name for session in told.sessions] == (["kickoff"] if chain else [])
    assert len(told.agents) == (2 if chain else 0)


@pytest.mark.parametrize("has_tool", [True, False])
def test_calls_of_a_chain_before_its_first_tool_are_in_its_session(rig: Rig, has_tool: bool) -> None:
    tracer = rig.begin()
    with tracer.start_as_current_span("kickoff", attributes={"openinference.span.kind": "CHAIN"}):
        rig.call()
        with tracer.start_as_current_span("step"):
            rig.call()
        if has_tool:
            tracer.start_span("execute_tool weather", attributes=TOOL).end()
        rig.call()
    told = rig.told()
    assert [session.name for session in told.sessions] == (["kickoff"] if has_tool else [])
    ids = [session.session_id for session in told.sessions] or [None]
    assert [call.place.session_id for call in told.calls] == ids * 3
    assert [tool.name for tool in told.tools] == (["weather"] if has_tool else [])
    assert all(session.totals and session.totals.calls == 3 for session in told.sessions)


def test_switch(rig: Rig) -> None:
    tracer = rig.begin(runs=False)
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
    told = rig.told()
    assert (told.sessions, [call.place.session_id for call in told.calls]) == ([], [None])


def test_sampler_that_drops_leaves_calls_where_they_are(rig: Rig) -> None:
    rig.tracers = TracerProvider(sampler=ALWAYS_OFF)
    tracer = rig.begin()
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
    told = rig.told()
    assert (told.sessions, len(told.calls)) == ([], 1)


def test_agents_at_once_never_mix(rig: Rig) -> None:
    tracer = rig.begin()
    barrier = threading.Barrier(8)

    def converse(number: int) -> None:
        barrier.wait()
        with tracer.start_as_current_span("run", attributes={**AGENT, "gen_ai.agent.name": str(number)}):
            callers = [threading.Thread(target=callspan.copy_context(rig.call)) for _ in range(3)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = rig.told()
    assert sorted(str(session.name) for session in told.sessions) == sorted(map(str, range(8)))
    ids = [call.place.session_id for call in told.calls]
    assert sorted(map(ids.count, {session.session_id for session in told.sessions})) == [3] * 8


def test_exporter_records_no_agent_twice(rig: Rig, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.wiring.WIRING._exporter_stores", ())
    tracer = rig.begin()
    rig.tracers.add_span_processor(SimpleSpanProcessor(CallRecordExporter(store)))
    with tracer.start_as_current_span("invoke_agent planner", attributes={**AGENT, "gen_ai.conversation.id": "c"}):
        rig.call()
        tracer.start_span("execute_tool weather", attributes=TOOL).end()
        tracer.start_span("chat m", attributes={"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "c"}).end()
    told = rig.told()
    assert {call.place.session_id for call in told.calls} == {told.session().session_id}
    assert (len(told.calls), len(told.tools), len(told.agents)) == (2, 1, 1)


def functions_of_a_span(tracer: Tracer) -> int:
    """How many functions run while a span starts and ends, which is no agent's, those in C too.

    Of several spans the least: what the garbage collector calls meanwhile is not the span's.
    """
    counts = []
    for _ in range(3):
        called: list[str] = []
        sys.setprofile(lambda _frame, event, _argument, called=called: called.append(event))
        try:
            tracer.start_span("GET /", attributes={"http.route": "/", "http.request.method": "GET"}).end()
        finally:
            sys.setprofile(None)
        counts.append(called.count("call") + called.count("c_call"))
    return min(counts)


@pytest.mark.parametrize("is_agent_open", [True, False])
def test_other_spans_cost_next_to_nothing(rig: Rig, is_agent_open: bool) -> None:
    before = functions_of_a_span(TracerProvider().get_tracer("an.application"))
    tracer = rig.begin()
    agent = tracer.start_span("invoke_agent planner", attributes=AGENT) if is_agent_open else None
    after = functions_of_a_span(tracer)
    # Three are those that OpenTelemetry calls of any processor.
    assert after - before <= (13 if is_agent_open else 10)
    if agent is not None:
        agent.end()


def test_processors_on_other_threads_are_left_alone(rig: Rig) -> None:
    rig.tracers = TracerProvider(active_span_processor=ConcurrentMultiSpanProcessor(2))
    tracer = rig.begin()
    with callspan.content("off"), tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        rig.call()
    told = rig.told()
    assert (told.sessions, len(told.calls)) == ([], 1)


PROGRAM = """
import os, sys, time
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import callspan

handle = callspan.instrument(stores=sys.argv[1])
{provider}
client = openai.OpenAI(api_key="k", base_url=sys.argv[2])
call = lambda: client.chat.completions.create(model="gpt-5", messages=[{{"role": "user", "content": "Hi"}}])
with trace.get_tracer("a.framework").start_as_current_span("invoke_agent planner"):
    call()
    {then}
handle.force_flush()
"""
LATER = "trace.set_tracer_provider(TracerProvider())"
KILLED = "handle.force_flush(); os.kill(os.getpid(), 9)"
KILLED_IN_THE_SECOND_TURN = """pass
for turn in range(2):
    with trace.get_tracer("a.framework").start_as_current_span(
        "invoke_agent chat", attributes={"gen_ai.conversation.id": "c"}
    ):
        call()
        handle.force_flush()
        if turn:
            os.kill(os.getpid(), 9)"""
KILLED_BESIDE_A_TURN = """pass
turns = [
    trace.get_tracer("a.framework").start_span("invoke_agent chat", attributes={"gen_ai.conversation.id": "c"})
    for _ in range(2)
]
for turn in turns:
    with trace.use_span(turn):
        call()
turns[0].set_status(trace.StatusCode.ERROR)
turns[0].end()
handle.force_flush()
os.kill(os.getpid(), 9)"""
FORKED = """if os.fork() == 0:
        call()
        handle.force_flush()
        os._exit(0)
    os.wait()
    call()"""


def left_by(
    tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read, *, then: str = "call()", is_set: bool = True
) -> Told:
    provider.reply(text="Hello.", repeat=True)
    program = PROGRAM.format(provider=LATER if is_set else "", then=then)
    code = -signal.SIGKILL if "kill" in then else 0
    ran("-c", program, store, provider.openai_url, cwd=tmp_path, code=code, **plain_environment())
    return Told(reading(store))


def test_provider_may_be_set_later(tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read) -> None:
    told = left_by(tmp_path, provider, store, reading)
    assert [call.place.session_id for call in told.calls] == [told.session().session_id] * 2


def test_without_a_provider_calls_are_recorded(
    tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read
) -> None:
    told = left_by(tmp_path, provider, store, reading, is_set=False)
    assert (len(told.calls), told.sessions) == (2, [])


def test_killed_agent_is_interrupted(tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read) -> None:
    told = left_by(tmp_path, provider, store, reading, then=KILLED)
    assert told.session().outcome == "interrupted"
    assert [call.place.session_id for call in told.calls] == [told.session().session_id]


@pytest.mark.parametrize("turns", [KILLED_IN_THE_SECOND_TURN, KILLED_BESIDE_A_TURN], ids=["later", "overlapping"])
def test_killed_turn_of_a_conversation_is_interrupted(
    tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read, turns: str
) -> None:
    """Whatever turn has ended before."""
    told = left_by(tmp_path, provider, store, reading, then=turns)
    chat = next(session for session in told.sessions if session.metadata.get("conversation_id") == "c")
    assert (chat.outcome, chat.end_ns, chat.error) == ("interrupted", None, None)


def test_child_forgets_the_agents_of_its_parent(
    tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read
) -> None:
    told = left_by(tmp_path, provider, store, reading, then=FORKED)
    assert told.session().outcome == "success"
    assert sorted(call.place.session_id is None for call in told.calls) == [False, False, True]


@pytest.mark.parametrize("has_server", [False, True])
def test_a_tool_call_of_a_client_of_mcp_is_a_tool(rig: Rig, has_server: bool) -> None:
    """The server's span is within the client's if it runs in this process."""
    tracer = rig.begin()
    client, server = {"mcp.method.name": "tools/call"}, {**TOOL, "mcp.method.name": "tools/call"}
    with callspan.session("trip"):
        with tracer.start_as_current_span("MCP send initialize", attributes={"mcp.method.name": "initialize"}):
            pass
        with tracer.start_as_current_span("MCP send tools/call weather", attributes=client):
            if has_server:
                tracer.start_span("tools/call weather", attributes=server).end()
    assert [tool.name for tool in rig.told().tools] == ["weather"]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_decorated_function_that_a_hook_runs_is_one_tool(rig: Rig, depth: int) -> None:
    rig.begin()

    @callspan.tool(metadata={"of": "mine"})
    def weather(depth: int) -> str:
        """Say the weather."""
        return "sunny" if depth == 0 else weather(depth - 1)

    with ScriptedProvider() as provider, callspan.session("trip"):
        provider.reply(tool_calls=[{"name": "weather", "arguments": {"depth": depth}, "id": "call_1"}])
        provider.reply(text="Sunny.")
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as client:
            client.beta.messages.tool_runner(
                model="claude-sonnet-5", max_tokens=9, messages=HI, tools=[anthropic.beta_tool(weather)]
            ).until_done()
    *inner, run = sorted(rig.told().tools, key=lambda tool: tool.time_ns, reverse=True)
    assert run.tool_call_id is not None
    assert run.data == {"arguments": {"depth": depth}, "result": "sunny"}
    assert (run.metadata or {})["of"] == "mine"
    assert [(tool.name, tool.data) for tool in inner] == [
        ("weather", {"arguments": {"depth": 0}, "result": "sunny"}),
    ] * depth, "it calls itself"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_turns_of_a_conversation_are_sent_as_they_were_exported(rig: Rig, turns: int) -> None:
    tracer, exporter = rig.begin(), InMemorySpanExporter()
    rig.tracers.add_span_processor(SimpleSpanProcessor(exporter))
    for _ in range(turns):
        with tracer.start_as_current_span("invoke_agent planner", attributes={**AGENT, "gen_ai.conversation.id": "c1"}):
            rig.call()
            tracer.start_span("execute_tool weather", attributes=TOOL).end()
    assert len(rig.told().sessions) == 1
    with OtlpReceiver() as receiver:
        ask("--store", rig.store, "send", "--otlp", receiver.url)
        sent = {span.span_id: (span.name, span.parent_id) for span in receiver.spans}
    exported = {
        f"{span.context.span_id:016x}": (span.name, span.parent and f"{span.parent.span_id:016x}")
        for span in exporter.get_finished_spans()
    }
    assert sent == exported
