"""Tools that run at the provider: spans below the call and event rows, made of the blocks of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import callspan
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.loops import MESSAGE, rows, tree
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
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


@pytest.mark.slow
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


def test_no_content_of_them_is_kept_where_the_setting_forbids_it(mode: Mode, run: Run) -> None:
    with capture(content="off") as seen:
        run(lambda: ask(mode, "anthropic"))
        search, lookup = rows(seen, "tool")
        assert (search.data, lookup.data) == (None, None)
        assert "Oslo" not in str(seen.everything) + str([span.attributes for span in seen.spans])


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
