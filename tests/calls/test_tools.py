"""Tools: loops of the SDKs are agents with their calls and tools below them; tools that run at the provider."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.support import loops, sdks
from tests.support.calls import everywhere
from tests.support.loops import ANSWER, DECISION, MESSAGE, rows, tree
from tests.support.mode import Mode

import callspan
from callspan.testing import Capture, capture


def sunny(city: str) -> str:
    return f"Sunny in {city}"


def _fail(city: str) -> str:
    raise ValueError(f"no weather in {city}")


def _interrupt(city: str) -> str:
    raise KeyboardInterrupt(city)


def _cancel(city: str) -> str:
    raise asyncio.CancelledError


async def drive(sdk: str, mode: Mode, tool: Any, how: str, heard: list[str], **options: Any) -> None:
    """Run a loop of an SDK to its end, or iterate over its turns and leave it so."""
    if sdk == "anthropic":
        turns = loops.of_anthropic(mode, tool, **options)
        if how == "run":
            await mode.wait(turns.until_done())
            return
    else:
        runner = loops.of_openai(mode, tool)
        options["on_diagnostic"] = lambda one: heard.append(one["stage"])
        if how == "run":
            await mode.wait(runner.run(mode.openai(), loops.RESPONSES, **options))
            return
        turns = runner.iterate(mode.openai(), loops.RESPONSES, **options)
    async for turn in mode.items(turns):
        is_final = turn.stop_reason == "end_turn" if sdk == "anthropic" else turn.final
        if how in ("break", "close") or (how == "final" and is_final):
            break
    if how == "close":
        await mode.wait(turns.aclose() if hasattr(turns, "aclose") else turns.close())
    del turns  # pydantic may keep this frame for as long as the tool, which the runner has: a cycle it shows to nobody


class Ending(NamedTuple):
    """How a loop is driven, and what its rows say. `tests/fuzz` compares loops with those without callspan."""

    how: str = "run"
    tool: Any = sunny
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    data: Any = None
    """Of the tool's row; None: there is none."""
    error: str | None = None
    raises: Any = ()
    calls: tuple[str, ...] = ("weather",)
    """The tools that the first answer requests; one that there is not runs nothing."""


SUNNY: dict[str, Any] = {"arguments": {"city": "Paris"}, "result": "Sunny in Paris"}
ASKED: dict[str, Any] = {"arguments": {"city": "Paris"}}
FAILED = {**SUNNY, "result": "ValueError('no weather in Paris')"}
CANCELLED = "asyncio.exceptions.CancelledError"
ENDINGS: dict[str, Ending] = {
    "anthropic run": Ending(data=SUNNY),
    "anthropic streamed": Ending(options={"stream": True}, data=SUNNY, calls=("weather",) * 2),
    "anthropic step limit": Ending(options={"max_iterations": 1}, data=SUNNY),
    "anthropic tool error": Ending(tool=_fail, data=FAILED, error="tool_error"),
    "anthropic final turn": Ending("final", data=SUNNY),
    "anthropic close": Ending("close"),
    "anthropic break": Ending("break"),
    "anthropic interrupt": Ending(tool=_interrupt, data=ASKED, error="KeyboardInterrupt", raises=KeyboardInterrupt),
    "openai run": Ending(data=SUNNY),
    "openai streamed": Ending(options={"stream": True}, data=SUNNY),
    "openai eager": Ending(options={"stream": True, "eager": True}, data=SUNNY, calls=("weather",) * 3),
    "openai unknown tool": Ending(calls=("unknown",), raises=RuntimeError),
    "anthropic unknown tool": Ending(calls=("unknown",)),
    "openai final turn": Ending("final", data=SUNNY),
    "openai iterated": Ending("all", data=SUNNY),
    "openai step limit": Ending(options={"max_steps": 1}, raises=RuntimeError),
    "openai cancelled": Ending(tool=_cancel, data=ASKED, error=CANCELLED, raises=asyncio.CancelledError),
    "openai tool error": Ending(tool=_fail, data=ASKED, error="ValueError", raises=RuntimeError),
    "openai break": Ending("break"),
    "openai close": Ending("close"),
}


@pytest.mark.filterwarnings("ignore:Tool 'unknown' not found:UserWarning")
@pytest.mark.parametrize("name", ENDINGS)
async def test_failed_loop_records_error_and_tool_runs(name: str, mode: Mode, seen: Capture) -> None:
    ending, sdk = ENDINGS[name], name.partition(" ")[0]
    if sdk == "openai":
        pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    requests = [loops.request(number=number, name=name) for number, name in enumerate(ending.calls)]
    mode.provider.reply(tool_calls=requests)
    mode.provider.reply(text="It is sunny.")
    heard: list[str] = []
    with callspan.session("trip"), callspan.timestep(), contextlib.suppress(ending.raises):
        await drive(sdk, mode, ending.tool, ending.how, heard, **ending.options)
    await mode.collect()
    (agent,) = rows(seen, "agent")
    model = "claude-sonnet-5" if sdk == "anthropic" else "gpt-5"
    assert (agent.name, agent.error is not None) == (model, ending.raises != ())
    tools = rows(seen, "tool")
    assert [one.data for one in tools] == [ending.data] * (len(ending.calls) if ending.data is not None else 0)
    assert [one.error and one.error.type for one in tools] == [ending.error] * len(tools)
    assert all(one.duration_ns > 0 for one in tools)
    if sdk == "anthropic":
        about = {(one.system, one.metadata["provider"], one.metadata["description"]) for one in tools}
        assert about <= {(model, "anthropic", "Say the weather.")}
        # Later versions send a thread, and with it only what is new.
        sent: Any = mode.provider.requests[-1].body.get("thread", {})
        assert seen.records[-1].request.continues == sent.get("previous_message_id")
    assert len(tools) == len(rows(seen, "tool_start"))
    found = tree(seen)
    assert found["timestep"] == [f"invoke_agent {model}"]
    turns = [f"chat {model}"] * len(mode.provider.requests)
    totals = seen.timesteps[-1].totals
    assert (totals.calls, totals.tools) == (len(turns), len(tools))
    assert found[f"invoke_agent {model}"] == [*turns[:1], *["execute_tool weather"] * len(tools), *turns[1:]]
    assert ("request" in heard) == (sdk == "openai")


@pytest.mark.parametrize(("sdk", "model"), [("anthropic", "claude-sonnet-5"), ("openai", "gpt-5")])
async def test_loop_outside_a_session_is_a_session(sdk: str, model: str, mode: Mode, seen: Capture) -> None:
    """As a run of openai-agents is. It ends as the loop does; within an agent it is no session."""
    if sdk == "openai":
        pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    for number in range(2):
        mode.provider.reply(tool_calls=[loops.request(number=number)])
        mode.provider.reply(text="It is sunny.")
    await drive(sdk, mode, sunny, "run", [])
    await mode.collect()
    (session,) = {one.session_id: one for one in seen.sessions}.values()
    assert (session.name, session.outcome) == ("tool loop", "success")
    assert session.end_ns is not None
    assert {call.place.session_id for call in seen.records} == {session.session_id}
    assert {event.session_id for event in seen.events} == {session.session_id}
    found = tree(seen)
    assert (found[""], found["invoke_workflow tool loop"]) == (["invoke_workflow tool loop"], [f"invoke_agent {model}"])
    with callspan.invoke_agent("outer"):
        await drive(sdk, mode, sunny, "run", [])
    assert {one.session_id for one in seen.sessions} == {session.session_id}
    with contextlib.suppress(KeyboardInterrupt):
        mode.provider.reply(tool_calls=[loops.request(number=3)])
        await drive("anthropic", mode, _interrupt, "run", [])
    await mode.collect()
    assert seen.sessions[-1].outcome == "cancelled"
    with callspan.session(require=True):
        await drive(sdk, mode, sunny, "run", [])
    assert len({one.session_id for one in seen.sessions}) == 2


async def test_loop_closes_on_error(mode: Mode, seen: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    if not mode.is_async:
        pytest.skip("a generator is closed where it is dropped")
    mode.provider.reply(text="It is sunny.")
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def use() -> None:
        async for stream in loops.of_anthropic(mode, sunny, stream=True):
            async for _ in stream:
                raise ValueError("of the application")

    with contextlib.suppress(ValueError):  # whose frames are released here
        await use()
    await mode.collect()
    assert [one.exc_value for one in unraisable] == []
    assert [row.error for row in rows(seen, "agent")] == [None]


@pytest.mark.parametrize("refuses", [False, True])
async def test_decision_candidate_is_a_tool(refuses: bool, mode: Mode, seen: Capture) -> None:
    runner = loops.of_decisions(mode)
    refused = {**DECISION, "answers": [{"type": "refusal", "name": "next_action"}]}
    done = {**DECISION, "answers": [{**ANSWER, "choice": "done"}]}
    mode.provider.reply(raw=DECISION, on="/decisions")
    mode.provider.reply(raw=refused if refuses else done, on="/decisions")
    heard: list[Any] = []
    request = {"model": "gpt-6-luna", "input": "Find the exit."}
    await mode.wait(runner.run(mode.openai(), request, on_diagnostic=heard.append))
    assert heard, "the application's own observer"
    (agent,), (tool,) = rows(seen, "agent"), rows(seen, "tool")
    assert (tool.name, tool.tool_call_id) == ("north", f"{seen.records[0].call_id}:north")
    assert tool.call_id == seen.records[0].call_id
    call = "decisions gpt-6-luna"
    assert tree(seen)[f"invoke_agent {agent.name}"] == [call, "execute_tool north", call]


SCREEN: dict[str, Any] = {"type": "computer_screenshot", "file_id": "file-1"}
TABS: dict[str, Any] = {"tabs": [{"id": "1", "title": "A", "url": "https://a.example", "active": True}]}
CLICK = {"type": "click", "x": 1, "y": 2, "button": "left", "keys": None}
ASKS: list[dict[str, Any]] = [
    {"type": "function_call", "id": "f", "call_id": "call_1", "name": "browser_list_tabs", "arguments": "{}"},
    {"type": "computer_call", "id": "c", "call_id": "call_2", "pending_safety_checks": [], "actions": [CLICK]},
]


class Driver:
    """The driver of a browser and a computer, of either colour."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    def __getattr__(self, name: str) -> Any:
        result = {"state": TABS, "screenshot": SCREEN}.get(name)

        async def later(*_: object) -> Any:
            return result

        return later if self._mode.is_async else lambda *_: result


async def test_runner_browser_and_computer_are_tools(mode: Mode, seen: Capture) -> None:
    runners: Any = pytest.importorskip("openai.lib.responses_tool_runner", reason="this openai has no tool runners")
    browsers, computers = pytest.importorskip("openai.lib.browser"), pytest.importorskip("openai.lib.computer")
    kind, driver = "Async" if mode.is_async else "", Driver(mode)
    browser = getattr(browsers, f"{kind}BrowserToolset")(driver, members=["list_tabs"])
    computer = getattr(computers, f"{kind}ComputerToolset")(driver)
    runner = getattr(runners, f"{kind}ResponsesToolRunner")(browser=browser, computer=computer)
    items = [{**one, "status": "completed"} for one in ASKS]
    mode.provider.reply(raw={**RESPONSES, "status": "completed", "output": items})
    await mode.wait(runner.run(mode.openai(), loops.RESPONSES))
    listed, clicked = rows(seen, "tool")
    assert (listed.name, listed.tool_call_id, listed.data["arguments"]) == ("browser_list_tabs", "call_1", {})
    assert "https://a.example" in listed.data["result"][0]["text"]
    assert (clicked.name, clicked.tool_call_id) == ("computer", "call_2")
    assert {listed.call_id, clicked.call_id} == {seen.records[0].call_id}
    assert clicked.data == {"arguments": [CLICK], "result": SCREEN}
    assert tree(seen)["invoke_agent gpt-5"] == [
        "chat gpt-5", "execute_tool browser_list_tabs", "execute_tool computer", "chat gpt-5",
    ]  # fmt: skip


# Tools that run at the provider: spans below the call and event rows, made of the blocks of its answer.

ANSWERS: dict[str, Any] = json.loads(Path(__file__).with_name("answers_with_tools.json").read_text())
MESSAGES, RESPONSES = ANSWERS["messages"], ANSWERS["responses"]
PAGES = MESSAGES["content"][1]["content"]


async def asked(mode: Mode, sdk: str, answer: Any, **options: Any) -> None:
    """Ask for this answer, and read it to its end."""
    mode.provider.reply(raw=answer)
    if sdk == "anthropic":
        result = await mode.wait(mode.anthropic().messages.create(**MESSAGE, **options))
    else:
        sdks.needs_name(mode.openai(), "responses")
        result = await mode.wait(mode.openai().responses.create(model="gpt-5", input="Rain in Oslo?", **options))
    if options:
        await mode.all(result)


async def fetched(mode: Mode) -> None:
    """An answer in the background, which the second of three polls is the first to find."""
    sdks.needs("openai", "3.30", "what these answers need")
    ended = {**RESPONSES, "background": True}
    waiting = {**ended, "status": "queued", "output": [], "usage": None}
    for answer in (waiting, ended, ended):
        mode.provider.reply(raw=answer, on="/responses/resp_1")
    responses = mode.openai().responses
    mode.provider.reply(raw=waiting, on="/responses")
    await mode.wait(responses.create(model="gpt-5", input="Rain?", background=True))
    for _ in range(3):
        await mode.wait(responses.retrieve("resp_1"))


@pytest.mark.parametrize("way", ["plain", "streamed", "fetched"])
async def test_provider_tools_have_spans_and_rows(way: str, sdk: str, mode: Mode, seen: Capture) -> None:
    if (way, sdk) == ("fetched", "anthropic"):
        pytest.skip("messages are not fetched")
    if (way, sdk) == ("streamed", "openai"):
        sdks.needs("openai", "3.30", "what these answers need")
    with callspan.session("trip"), callspan.timestep():
        if way == "fetched":
            await fetched(mode)
        else:
            answer = MESSAGES if sdk == "anthropic" else RESPONSES
            await asked(mode, sdk, answer, **({"stream": True} if way == "streamed" else {}))
    search, lookup = rows(seen, "tool")
    (call,) = seen.records
    assert (search.name, lookup.name) == ("web_search", "lookup")
    assert search.data["arguments"].get("query") == "Oslo"
    assert lookup.data == {"arguments": {"city": "Oslo"}, "result": "down"}
    assert (search.error, lookup.error and lookup.error.type) == (None, "tool_error")
    assert (lookup.metadata["server"], lookup.metadata["tool_type"]) == ("atlas", "extension")
    for row in (search, lookup):
        assert (row.call_id, row.duration_ns) == (call.call_id, None)
        assert row.time_ns > call.timing.start_ns
        assert (row.session_id, row.timestep_id) == (call.place.session_id, call.place.timestep_id)
    (above,) = [name for name, below in tree(seen).items() if "execute_tool lookup" in below]
    assert above.startswith(("chat", "fetch"))
    assert tree(seen)[above] == ["execute_tool web_search", "execute_tool lookup"]
    (span,) = [one for one in seen.spans if one.name == "execute_tool lookup"]
    assert (span.attributes["gen_ai.tool.type"], span.attributes["mcp.server.name"]) == ("extension", "atlas")


async def left_at(mode: Mode, event_type: str, index: int) -> None:
    """Stream the message with hosted tools up to this event of a content block."""
    mode.provider.reply(raw=MESSAGES)
    stream = await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True))
    async for chunk in mode.items(stream):
        if chunk.type == event_type and chunk.index == index:
            break
    await mode.wait(stream.close())


async def test_hosted_tool_with_cut_arguments_did_not_run(mode: Mode, seen: Capture) -> None:
    await left_at(mode, "content_block_start", 2)
    assert [row.name for row in rows(seen, "tool")] == ["web_search"]


async def test_tool_results_of_an_abandoned_stream_are_recorded_once(mode: Mode, seen: Capture) -> None:
    """The first has its result, the second was only requested: it is not known to have ended."""
    await left_at(mode, "content_block_stop", 2)
    (search,) = rows(seen, "tool")
    assert (search.name, search.data["result"], search.error) == ("web_search", PAGES, None)
    assert tools_of(seen) == ["execute_tool web_search"]
    assert seen.records[-1].outcome == "cancelled"


LOOKUP, FOUND = MESSAGES["content"][2], {**MESSAGES["content"][3], "is_error": False, "content": "up"}


def tools_of(seen: Capture) -> list[str]:
    return [span.name for span in seen.spans if span.name.startswith("execute_tool")]


@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize("reason", ["max_tokens", "end_turn", "refusal"])
@pytest.mark.parametrize("block", [LOOKUP, MESSAGES["content"][0]], ids=lambda block: block["type"])
async def test_hosted_tool_without_result_did_not_run(
    block: dict[str, Any], reason: str, way: str, mode: Mode, seen: Capture
) -> None:
    answer = {**MESSAGES, "stop_reason": reason, "content": [block]}
    await asked(mode, "anthropic", answer, **({"stream": True} if way == "streamed" else {}))
    assert (rows(seen, "tool"), tools_of(seen)) == ([], [])


async def test_hosted_tool_before_an_error_did_not_run(mode: Mode, seen: Capture) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    mode.provider.reply(raw=[
        {"type": "message_start", "message": {**MESSAGES, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": LOOKUP},
        {"type": "content_block_stop", "index": 0},
        error,
    ])  # fmt: skip
    with contextlib.suppress(Exception):
        await mode.all(await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True)))
    assert (seen.records[-1].outcome, rows(seen, "tool"), tools_of(seen)) == ("error", [], [])


@pytest.mark.parametrize("content", ["full", "off"])
@pytest.mark.parametrize("vocabularies", [("llm",), ("gen_ai",)])
async def test_paused_tool_runs_in_the_next_call(content: Any, vocabularies: Any, mode: Mode) -> None:
    paused = {**MESSAGES, "stop_reason": "pause_turn", "content": [LOOKUP]}
    messages = [*MESSAGE["messages"], {"role": "assistant", "content": [LOOKUP]}]
    with capture(content=content, vocabularies=vocabularies) as seen:
        await asked(mode, "anthropic", paused)
        assert rows(seen, "tool") == []
        mode.provider.reply(raw={**MESSAGES, "id": "msg_2", "content": [FOUND, {"type": "text", "text": "Rain."}]})
        await mode.wait(mode.anthropic().messages.create(**{**MESSAGE, "messages": messages}))
        (row,) = rows(seen, "tool")
        assert (row.call_id, row.tool_call_id, row.error) == (seen.records[1].call_id, "mcp_1", None)
        if content == "full":
            assert (row.name, row.data) == ("lookup", {"arguments": {"city": "Oslo"}, "result": "up"})
            assert row.metadata["server"] == "atlas"
        else:
            assert (row.name, row.data) == ("mcp", None)


@pytest.mark.parametrize(
    ("first", "second"), [("full", "full"), ("metadata", "full"), ("off", "full"), ("full", "off")]
)
async def test_paused_tool_runs_in_the_request_that_resumes_the_thread(first: Any, second: Any, mode: Mode) -> None:
    """The server keeps a thread: a paused answer is resumed by its id alone, here twice."""
    answers = ([LOOKUP], [{"type": "text", "text": "Still."}], [FOUND, {"type": "text", "text": "Rain."}])
    with capture() as seen:
        for number, content in enumerate(answers):
            reason = "end_turn" if number == 2 else "pause_turn"
            mode.provider.reply(raw={**MESSAGES, "id": f"msg_{number}", "stop_reason": reason, "content": content})
            thread = {"type": "continue", "previous_message_id": f"msg_{number - 1}"} if number else {"type": "create"}
            request = {**MESSAGE, "messages": [] if number else MESSAGE["messages"], "extra_body": {"thread": thread}}
            with callspan.content(second if number == 2 else first):
                await mode.wait(mode.anthropic().messages.create(**request))
        (row,) = rows(seen, "tool")
        assert (row.call_id, row.tool_call_id, row.error) == (seen.records[2].call_id, "mcp_1", None)
        names = ("mcp", None) if "off" in (first, second) else ("lookup", "atlas")
        assert (row.name, row.metadata.get("server")) == names
        asked = {"arguments": {"city": "Oslo"}} if first == "full" else {}
        assert row.data == (None if second == "off" else {**asked, "result": "up"})


def events_of(*states: str, **fields: Any) -> list[dict[str, Any]]:
    """A stream whose events alone tell the state of a tool."""
    kind = fields.get("type", "mcp_call")
    item = {"id": "mcp_1", "type": kind, "server_label": "atlas", "name": "lookup", "status": "in_progress", **fields}
    created: dict[str, Any] = {**RESPONSES, "status": "in_progress", "output": []}
    states_of_it = [{"type": f"response.{kind}.{state}", "item_id": "mcp_1", "output_index": 0} for state in states]
    events = [
        {"type": "response.created", "response": created},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *states_of_it,
    ]
    return [{"sequence_number": number, **one} for number, one in enumerate(events)]


ENDED = {"type": "response.completed", "sequence_number": 9, "response": {**RESPONSES, "output": []}}
STATES: list[tuple[list[dict[str, Any]], list[str | None]]] = [
    (events_of("in_progress"), []),
    (events_of("in_progress", "failed"), ["tool_error"]),
    (events_of("completed"), [None]),
    (events_of("searching", type="web_search_call"), []),
    (events_of("searching", "failed", type="web_search_call"), ["tool_error"]),
    (events_of("searching", "completed", type="file_search_call"), [None]),
    (events_of("interpreting", "failed", type="code_interpreter_call"), ["tool_error"]),
    (events_of("failed", type="a_new_call"), ["tool_error"]),
    (events_of(type="web_search_call", status=None), []),
]
"""Events, and the errors of the tools that ran."""


@pytest.mark.parametrize("closing", [[], [ENDED]], ids=["cut off", "ended"])
@pytest.mark.parametrize(("events", "errors"), STATES)
async def test_event_alone_ends_a_hosted_tool(
    events: list[Any], errors: list[str | None], closing: list[Any], mode: Mode, seen: Capture
) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    mode.provider.reply(raw=[*events, *closing], on="/responses")
    await mode.all(await mode.wait(mode.openai().responses.create(model="gpt-5", input="Hi", stream=True)))
    assert [row.error and row.error.type for row in rows(seen, "tool")] == errors
    assert len(tools_of(seen)) == len(errors)


@pytest.mark.parametrize(("status", "errors"), [
    ("completed", [None]), ("failed", ["tool_error"]), ("cancelled", ["tool_error"]), ("expired", ["tool_error"]),
    ("waiting_for_a_slot", []),
])  # fmt: skip
async def test_only_completed_tool_is_a_success(
    status: str, errors: list[str | None], mode: Mode, seen: Capture
) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    await asked(mode, "openai", {**RESPONSES, "output": [{**RESPONSES["output"][0], "status": status}]})
    assert [row.error and row.error.type for row in rows(seen, "tool")] == errors


async def test_x_search_is_a_provider_tool(mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    search = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "xs_1", "name": "x_keyword_search",
              "input": '{"query": "Oslo"}', "status": "completed"}  # fmt: skip
    await asked(mode, "openai", {**RESPONSES, "output": [search]})
    (row,) = rows(seen, "tool")
    assert (row.name, row.tool_call_id, row.data) == ("x_keyword_search", "xs_1", {"arguments": {"query": "Oslo"}})


@pytest.mark.parametrize("way", ["plain", "streamed"])
async def test_groq_tools_with_a_result_ran(way: str, mode: Mode, seen: Capture) -> None:
    executed = [
        {"index": 0, "type": "search", "arguments": '{"query": "Oslo"}', "output": "rain"},
        {"index": 1, "type": "python", "arguments": '{"code": "1"}'},
    ]
    message = {"role": "assistant", "content": "Rain.", "executed_tools": executed}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "groq/compound", "usage": usage,
            "choices": [choice]}  # fmt: skip
    chunk = {**body, "choices": [{"index": 0, "delta": message, "finish_reason": "stop"}]}
    is_stream = way == "streamed"
    mode.provider.reply(raw=[chunk] if is_stream else body)
    given = {"model": "groq/compound", "messages": [{"role": "user", "content": "Hi"}], "stream": is_stream}
    await mode.whole(mode.openai().chat.completions.create(**given))
    (row,) = rows(seen, "tool")
    assert (row.name, row.data) == ("search", {"arguments": {"query": "Oslo"}, "result": "rain"})


async def answered(mode: Mode, blocks: list[dict[str, Any]]) -> None:
    """Ask for an answer with the blocks of a tool, of the SDK that has such blocks."""
    if len(blocks) == 2:
        await asked(mode, "anthropic", {**MESSAGES, "content": [*blocks, {"type": "text", "text": "Rain."}]})
    else:
        await asked(mode, "openai", {**RESPONSES, "output": [*blocks, *RESPONSES["output"][2:]]})


@pytest.mark.parametrize("tool", ANSWERS["tools"], ids=lambda tool: f"{tool['name']} {len(tool['blocks'])}")
async def test_tool_has_arguments_and_result(tool: dict[str, Any], mode: Mode, seen: Capture) -> None:
    """`given` is in its arguments."""
    blocks = tool["blocks"]
    await answered(mode, blocks)
    (row,) = rows(seen, "tool")
    data = row.data or {}
    assert (row.name, data.get("result"), row.error) == (tool["name"], tool["result"], None)
    assert row.metadata["tool_type"] == ("datastore" if tool["name"] == "file_search" else "extension")
    assert tool["given"] in str(data.get("arguments"))
    if len(blocks) == 2:
        assert data["arguments"] == blocks[0]["input"]


@pytest.mark.parametrize("blocks", ANSWERS["tools of the application"], ids=lambda blocks: blocks[0]["type"])
async def test_application_tools_are_excluded(blocks: list[dict[str, Any]], mode: Mode, seen: Capture) -> None:
    await answered(mode, blocks)
    assert rows(seen, "tool") == []


@pytest.mark.parametrize("content", ["metadata", "off"])
async def test_content_level_applies_to_tools(content: Any, mode: Mode) -> None:
    mode.provider.reply(tool_calls=[loops.request("Atlantis")])
    mode.provider.reply(text="It is sunny.")
    with capture(content=content) as seen:
        await mode.wait(loops.of_anthropic(mode, sunny).until_done())
        await asked(mode, "anthropic", MESSAGES)
        tools = rows(seen, "tool")
        hosted = ("lookup", "atlas") if content == "metadata" else ("mcp", None)
        assert [(tool.name, tool.data) for tool in tools] == [
            ("weather", None),
            ("web_search", None),
            (hosted[0], None),
        ]
        assert tools[2].metadata.get("server") == hosted[1]
        assert tools[0].tool_call_id == "call_1"
        shown = everywhere(seen)
    assert not [word for word in ("Atlantis", "Say the weather", "Oslo") if word in shown]


LISTED: dict[str, Any] = {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "atlas", "tools": [], "error": None}
APPROVAL: dict[str, Any] = {
    "type": "mcp_approval_request", "id": "mcpr_1", "server_label": "atlas", "name": "lookup", "arguments": "{}",
}  # fmt: skip
CALLED: dict[str, Any] = {**APPROVAL, "type": "mcp_call", "id": "mcp_1"}
FUNCTION: dict[str, Any] = {"type": "function_call", "id": "fc_1", "call_id": "c_1", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize("output", [[LISTED, APPROVAL], [APPROVAL, FUNCTION]], ids=["alone", "beside a function"])
async def test_approval_request_waits(output: list[Any], way: str, mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    await asked(mode, "openai", {**RESPONSES, "output": output}, **({"stream": True} if way == "streamed" else {}))
    (call,), (span,) = seen.records, seen.spans
    assert call.response is not None
    assert call.response.finish_reasons == ["waiting for approval"]
    assert (call.waits_for_approval, call.outcome) == (True, "success")
    assert span.attributes["gen_ai.response.finish_reasons"] == ("waiting for approval",)


REFUSED = {"type": "http_error", "code": 401, "message": "unauthorized"}


@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize(
    ("fields", "failed"),
    [({"error": REFUSED}, True), ({"error": "down"}, True), ({"status": "failed"}, True), ({}, False)],
)
async def test_unlisted_server_tools_are_marked(
    fields: dict[str, Any], failed: bool, way: str, mode: Mode, seen: Capture
) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    output = [LISTED, {**LISTED, "id": "mcpl_2", **fields}, RESPONSES["output"][2]]
    await asked(mode, "openai", {**RESPONSES, "output": output}, **({"stream": True} if way == "streamed" else {}))
    (call,), (span,) = seen.records, seen.spans
    assert call.response is not None
    assert call.response.tools_unlisted is failed
    assert span.attributes.get("callspan.response.tools_unlisted", False) is failed
    assert call.outcome == "success"


@pytest.mark.parametrize(
    ("fields", "ended"),
    [
        ({"status": "in_progress"}, False), ({"status": "calling"}, False), ({"status": "incomplete"}, False),
        ({"status": "calling", "output": "so far"}, False), ({"output": None, "error": None}, False),
        ({"output": ""}, True), ({"status": "completed", "output": None}, True), ({"error": "down"}, True),
    ],
)  # fmt: skip
async def test_unfinished_server_tool_did_not_run(
    fields: dict[str, Any], ended: bool, mode: Mode, seen: Capture
) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    await asked(mode, "openai", {**RESPONSES, "output": [{**CALLED, **fields}]})
    assert [row.name for row in rows(seen, "tool")] == ["lookup"] * ended
    assert sum(span.name == "execute_tool lookup" for span in seen.spans) == ended
