"""Tools that run at the provider: spans below the call and event rows, made of the blocks of its answer."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

import callspan
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.calls import Run
from tests.intercept.loops import MESSAGE, rows, tree
from tests.intercept.mode import Mode

PAGES = [{"type": "web_search_result", "url": "https://example.com", "title": "Weather", "encrypted_content": "x"}]
MESSAGES: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
    "content": [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Oslo"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": PAGES},
        {"type": "mcp_tool_use", "id": "mcp_1", "name": "lookup", "server_name": "atlas", "input": {"city": "Oslo"}},
        {"type": "mcp_tool_result", "tool_use_id": "mcp_1", "is_error": True, "content": "down"},
        {"type": "text", "text": "Rain."},
    ],
}  # fmt: skip
RESPONSES: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "completed",
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    "output": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "Oslo"}},
        {
            "type": "mcp_call", "id": "mcp_1", "name": "lookup", "server_label": "atlas",
            "arguments": '{"city":"Oslo"}', "output": None, "error": "down", "status": "failed",
        },
        {
            "type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Rain.", "annotations": []}],
        },
    ],
}  # fmt: skip


def ask(mode: Mode, sdk: str) -> Any:
    if sdk == "anthropic":
        mode.provider.reply(raw=MESSAGES)
        return mode.wait(mode.anthropic().messages.create(**MESSAGE))
    sdks.needs_name(mode.openai(), "responses")
    mode.provider.reply(raw=RESPONSES)
    return mode.wait(mode.openai().responses.create(model="gpt-5", input="Rain in Oslo?"))


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_each_is_a_span_below_the_call_and_a_row(sdk: str, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        with callspan.session("trip"), callspan.timestep():
            await ask(mode, sdk)

    run(body)
    search, lookup = rows(seen, "tool")
    (call,) = seen.records
    assert (search.name, lookup.name) == ("web_search", "lookup")
    assert search.data["arguments"].get("query") == "Oslo"
    assert lookup.data == {"arguments": {"city": "Oslo"}, "result": "down"}
    assert (search.error, lookup.error and lookup.error.type) == (None, "tool_error")
    assert (lookup.metadata["server"], lookup.metadata["tool_type"]) == ("atlas", "extension")
    for row in (search, lookup):
        assert (row.call_id, row.duration_ns) == (call.call_id, None)
        assert (row.session_id, row.timestep_id) == (call.place.session_id, call.place.timestep_id)
    (chat,) = [span.name for span in seen.spans if span.name.startswith("chat")]
    assert tree(seen)[chat] == ["execute_tool web_search", "execute_tool lookup"]
    (span,) = [one for one in seen.spans if one.name == "execute_tool lookup"]
    assert span.attributes is not None
    assert (span.attributes["gen_ai.tool.type"], span.attributes["mcp.server.name"]) == ("extension", "atlas")


HOSTED = {"type": "container_reference", "container_id": "cntr_1"}


@pytest.mark.parametrize(
    ("item", "recorded"),
    [
        ({"type": "shell_call", "call_id": "c", "environment": HOSTED, "action": {"commands": ["ls"]}}, True),
        ({"type": "shell_call", "call_id": "c", "environment": {"type": "local"}, "action": {"commands": []}}, False),
        ({"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {}}, True),
        ({"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {}}, False),
        ({"type": "custom_tool_call", "call_id": "c", "name": "write", "input": "x"}, False),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_what_the_application_answers_is_none_of_the_providers(
    item: dict[str, Any], recorded: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    async def body() -> None:
        sdks.needs_name(mode.openai(), "responses")
        mode.provider.reply(raw={**RESPONSES, "output": [{"id": "item_1", "status": "completed", **item}]})
        await mode.wait(mode.openai().responses.create(model="gpt-5", input="Go."))

    run(body)
    assert [row.name for row in rows(seen, "tool")] == ([item["type"].removesuffix("_call")] if recorded else [])


async def streamed(mode: Mode, sdk: str) -> None:
    if sdk == "anthropic":
        await mode.all(await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True)))
    else:
        await mode.all(await mode.wait(mode.openai().responses.create(model="gpt-5", input="Rain?", stream=True)))


async def fetched(mode: Mode, sdk: str) -> None:
    """An answer in the background, which the second of three polls is the first to find."""
    del sdk
    ended = {**RESPONSES, "background": True}
    waiting = {**ended, "status": "queued", "output": [], "usage": None}
    for answer in (waiting, ended, ended):
        mode.provider.reply(raw=answer, on="/responses/resp_1")
    responses = mode.openai().responses
    mode.provider.reply(raw=waiting, on="/responses")
    await mode.wait(responses.create(model="gpt-5", input="Rain?", background=True))
    for _ in range(3):
        await mode.wait(responses.retrieve("resp_1"))


async def of_batch(mode: Mode, sdk: str) -> None:
    """Two readings of a line whose answer has the runs."""
    answer: dict[str, Any] = {"result": {"type": "succeeded", "message": MESSAGES}}
    path = "/msgbatch_1/results"
    if sdk == "openai":
        answer, path = {"response": {"status_code": 200, "body": RESPONSES}, "error": None}, "/file-out/content"
    mode.provider.reply(raw=json.dumps({"custom_id": "a", **answer}).encode(), on=path, repeat=True)
    url = f"{mode.provider.url}/v1/messages/batches/msgbatch_1/results"
    mode.provider.reply(raw={"id": "msgbatch_1", "results_url": url}, on="/msgbatch_1", repeat=True)
    for _ in range(2):
        if sdk == "openai":
            await mode.wait(mode.openai().files.content("file-out"))
        else:
            await mode.all(await mode.wait(mode.anthropic().messages.batches.results("msgbatch_1")))


async def over_socket(mode: Mode, sdk: str) -> None:
    del sdk
    sockets = import_module("tests.intercept.sockets")
    async with sockets.connected(mode) as connection:
        await connection.create()
        await connection.until()


@pytest.mark.parametrize(
    ("way", "sdk"),
    [
        (streamed, "anthropic"), (streamed, "openai"), (fetched, "openai"), (of_batch, "anthropic"),
        (of_batch, "openai"), (over_socket, "openai"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_they_are_recorded_once_however_the_answer_comes(
    way: Any, sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    if way not in (fetched, of_batch):
        mode.provider.reply(raw=MESSAGES if sdk == "anthropic" else RESPONSES)
    run(lambda: way(mode, sdk))
    search, lookup = rows(seen, "tool")
    (call,) = seen.records
    assert (search.name, lookup.name) == ("web_search", "lookup")
    assert lookup.data == {"arguments": {"city": "Oslo"}, "result": "down"}
    assert {row.call_id for row in (search, lookup)} == {call.call_id}
    spans = [span.name for span in seen.spans if span.name.startswith("execute_tool")]
    # The result of a batch has no span of its own, and then its tools have none.
    assert spans == ([] if "batch" in way.__name__ else ["execute_tool web_search", "execute_tool lookup"])
    above = {name for name, below in tree(seen).items() if "execute_tool lookup" in below}
    assert all(name.startswith(("chat", "fetch")) for name in above), above


def test_those_of_a_stream_that_is_left_are_recorded_once_as_far_as_they_came(
    mode: Mode, run: Run, seen: Captured
) -> None:
    """The first has its result, the second was only requested, and no result is made up for it."""
    mode.provider.reply(raw=MESSAGES)

    async def body() -> None:
        stream = await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True))
        last = MESSAGES["content"].index(next(one for one in MESSAGES["content"] if one["type"] == "mcp_tool_use"))
        chunks = mode.items(stream)
        async for chunk in chunks:
            if chunk.type == "content_block_stop" and chunk.index == last:
                break
        await mode.wait(stream.close())

    run(body)
    search, lookup = rows(seen, "tool")
    assert (search.name, lookup.name) == ("web_search", "lookup")
    assert (search.data["result"], "result" in lookup.data) == (PAGES, False)
    assert (search.error, lookup.error) == (None, None)
    spans = [span.name for span in seen.spans if span.name.startswith("execute_tool")]
    assert spans == ["execute_tool web_search", "execute_tool lookup"]
    assert seen.records[-1].outcome == "cancelled"


def used(name: str, given: dict[str, Any], result: str, content: Any) -> tuple[str, list[dict[str, Any]], Any]:
    """A tool of Messages: its name, its two blocks, and its result."""
    blocks = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": given},
        {"type": result, "tool_use_id": "srvtoolu_1", "content": content},
    ]
    return name, blocks, content


RAN = {"type": "code_execution_result", "stdout": "4", "stderr": "", "return_code": 0, "content": []}
BASH = {**RAN, "type": "bash_code_execution_result"}
EDIT = {"type": "text_editor_code_execution_create_result", "is_file_update": False}
PAGE = {
    "type": "web_fetch_result", "url": "https://example.com", "retrieved_at": None,
    "content": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Rain."}},
}  # fmt: skip
FOUND = {"type": "tool_search_tool_search_result", "tool_references": [{"type": "tool_reference", "tool_name": "x"}]}
LOGS = [{"type": "logs", "logs": "4"}]
HITS = [{"file_id": "f", "filename": "a.txt", "score": 0.9, "text": "Rain.", "attributes": {}}]
TOOLS = [
    used("web_search", {"query": "Oslo"}, "web_search_tool_result", PAGES),
    used("web_fetch", {"url": "https://example.com"}, "web_fetch_tool_result", PAGE),
    used("code_execution", {"code": "2 + 2"}, "code_execution_tool_result", RAN),
    used("bash_code_execution", {"command": "ls"}, "bash_code_execution_tool_result", BASH),
    used("text_editor_code_execution", {"path": "a"}, "text_editor_code_execution_tool_result", EDIT),
    used("tool_search_tool_bm25", {"query": "x"}, "tool_search_tool_result", FOUND),
]
ITEMS: list[tuple[str, dict[str, Any], Any, str]] = [
    ("web_search", {"action": {"type": "search", "query": "Oslo"}}, None, "extension"),
    ("file_search", {"queries": ["Oslo"], "results": HITS}, HITS, "datastore"),
    ("code_interpreter", {"code": "2 + 2", "container_id": "c", "outputs": LOGS}, LOGS, "extension"),
    ("image_generation", {"result": None}, None, "extension"),
    ("shell", {"call_id": "c", "environment": HOSTED, "action": {"commands": ["ls"]}}, None, "extension"),
]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool[0])
def test_each_tool_of_messages_has_its_arguments_and_its_result(
    tool: tuple[str, list[dict[str, Any]], Any], mode: Mode, run: Run, seen: Captured
) -> None:
    name, blocks, result = tool
    mode.provider.reply(raw={**MESSAGES, "content": [*blocks, {"type": "text", "text": "Rain."}]})
    run(lambda: mode.wait(mode.anthropic().messages.create(**MESSAGE)))
    (row,) = rows(seen, "tool")
    assert (row.name, row.data, row.error) == (name, {"arguments": blocks[0]["input"], "result": result}, None)
    assert row.metadata["tool_type"] == "extension"


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item[0])
def test_each_tool_of_responses_has_its_arguments_and_its_result(
    item: tuple[str, dict[str, Any], Any, str], mode: Mode, run: Run, seen: Captured
) -> None:
    name, fields, result, kind = item
    sdks.needs_name(mode.openai(), "responses")
    output = {"type": f"{name}_call", "id": "item_1", "status": "completed", **fields}
    mode.provider.reply(raw={**RESPONSES, "output": [output, *RESPONSES["output"][2:]]})
    run(lambda: mode.wait(mode.openai().responses.create(model="gpt-5", input="Rain in Oslo?")))
    (row,) = rows(seen, "tool")
    assert (row.name, (row.data or {}).get("result"), row.metadata["tool_type"]) == (name, result, kind)
    for given in ("Oslo", "2 + 2", "ls"):
        assert (given in str(fields.get("action", fields))) == (given in str((row.data or {}).get("arguments")))


def test_no_content_of_them_is_kept_where_the_setting_forbids_it(mode: Mode, run: Run) -> None:
    with capture(content="off") as seen:
        run(lambda: ask(mode, "anthropic"))
        search, lookup = rows(seen, "tool")
        assert (search.data, lookup.data) == (None, None)
        assert "Oslo" not in str(seen.everything) + str([span.attributes for span in seen.spans])
