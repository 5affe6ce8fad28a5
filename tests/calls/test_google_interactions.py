"""Interactions of google-genai: one call each, in both forms of the answer, by every version that has them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pytest
from tests.calls.google_clients import MODEL, client_of, part_of, vertex_client
from tests.support.bodies import endpoint, folded
from tests.support.calls import body_sent, caught, everywhere, the_call, usage_of
from tests.support.mode import Mode

from callspan.records import CallRecord
from callspan.testing import Capture

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore:Interactions usage is experimental:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*This will be removed in a future release:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Async interactions client cannot use aiohttp:UserWarning"),
]
ASK: Final[dict[str, Any]] = {"model": MODEL, "input": "How are you?"}
COUNTERS: Final[dict[str, Any]] = {
    "total_input_tokens": 9, "total_output_tokens": 13, "total_thought_tokens": 7, "total_tool_use_tokens": 3,
    "total_cached_tokens": 2, "total_tokens": 32, "input_tokens_by_modality": [{"modality": "text", "tokens": 9}],
}  # fmt: skip
HEAD: Final = {"id": "v1_a", "model": MODEL, "created": "2026-05-13T19:57:40Z", "updated": "2026-05-13T19:57:40Z"}
"""What the SDK's types require of an interaction."""
COMPLETED: Final = {**HEAD, "status": "completed", "service_tier": "standard", "usage": COUNTERS}
BEGUN: Final = {**HEAD, "status": "in_progress"}
THOUGHT: Final = {"type": "thought", "signature": "c2ln", "summary": [{"type": "text", "text": "Hm, well."}]}
TEXT: Final = {"type": "text", "text": "I am well."}
FUNCTION: Final = {"type": "function_call", "id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}
CODE: Final = {"type": "code_execution_call", "id": "code_1", "arguments": {"language": "python", "code": "2"}}
RESULT: Final = {"type": "code_execution_result", "call_id": "code_1", "result": "2"}


def of(kind: str, index: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"event_type": kind, **({} if index is None else {"index": index}), **fields}


class Form(NamedTuple):
    """A form of the answer."""

    body: dict[str, Any]
    events: list[Any]


SUMMARY: Final = {"type": "thought_summary", "content": {"type": "text", "text": "Hm, well."}}
SIGNATURE: Final = {"type": "thought_signature", "signature": "c2ln"}
STEPS: Final = Form(
    {**COMPLETED, "steps": [THOUGHT, {"type": "model_output", "content": [TEXT]}, FUNCTION, CODE, RESULT]},
    [
        of("interaction.created", interaction=BEGUN),
        of("interaction.status_update", interaction_id="v1_a", status="in_progress"),
        of("step.start", 0, step={"type": "thought"}),
        of("step.delta", 0, delta=SUMMARY),
        of("step.delta", 0, delta=SIGNATURE),
        of("step.stop", 0),
        of("step.start", 1, step={"type": "model_output"}),
        of("step.delta", 1, delta={"type": "text", "text": "I am "}),
        of("step.delta", 1, delta={"type": "text", "text": "well."}),
        of("step.start", 2, step={"type": "function_call", "id": "call_1", "name": "get_weather", "arguments": {}}),
        of("step.delta", 2, delta={"type": "arguments_delta", "arguments": '{"city":'}),
        of("step.delta", 2, delta={"type": "arguments_delta", "arguments": '"Paris"}'}),
        of("step.start", 3, step={"type": "code_execution_call", "id": "code_1", "arguments": {}}),
        of("step.delta", 3, delta={"type": "code_execution_call", "arguments": CODE["arguments"]}),
        of("step.start", 4, step={"type": "code_execution_result", "call_id": "code_1"}),
        of("step.delta", 4, delta={"type": "code_execution_result", "result": "2"}),
        of("interaction.completed", interaction=COMPLETED),
    ],
)
OUTPUTS: Final = Form(
    {**COMPLETED, "object": "interaction", "role": "model", "outputs": [THOUGHT, TEXT, FUNCTION, CODE, RESULT]},
    [
        of("interaction.start", interaction=BEGUN),
        of("interaction.status_update", interaction_id="v1_a", status="in_progress"),
        of("content.start", 0, content={"type": "thought"}),
        of("content.delta", 0, delta=SUMMARY),
        of("content.delta", 0, delta=SIGNATURE),
        of("content.stop", 0),
        of("content.start", 1, content={"type": "text", "text": ""}),
        of("content.delta", 1, delta={"type": "text", "text": "I am "}),
        of("content.delta", 1, delta={"type": "text", "text": "well."}),
        of("content.start", 2, content={"type": "function_call"}),
        of("content.delta", 2, delta=FUNCTION),
        of("content.start", 3, content={"type": "code_execution_call"}),
        of("content.delta", 3, delta=CODE),
        of("content.start", 4, content={"type": "code_execution_result"}),
        of("content.delta", 4, delta=RESULT),
        of("interaction.complete", interaction=COMPLETED),
    ],
)
FORMS: Final = {"steps": STEPS, "outputs": OUTPUTS}
"""That of google-genai 2 and later, and that of 1.55 to 1.75."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


def interactions_of(mode: Mode, client: Any = None) -> Any:
    client = client or client_of(mode)
    if not hasattr(client, "interactions"):
        pytest.skip("this version has no interactions")
    return client.interactions


def check_answer(record: CallRecord) -> None:
    usage, (message,) = usage_of(record), (record.conversation or pytest.fail()).output
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (12, 20, 32)
    assert (usage.reasoning_tokens, usage.cache_read_tokens, usage.estimated) == (7, 2, False)
    thought: Any = message.parts[0]
    assert (thought.text, thought.signature, record.text) == ("Hm, well.", "c2ln", "I am well.")
    assert [(call.id, call.name, call.arguments) for call in message.tool_calls] == [
        ("call_1", "get_weather", '{"city":"Paris"}'),
        ("code_1", "code_execution", '{"language":"python","code":"2"}'),
    ]
    result: Any = message.parts[-1]
    assert (result.id, result.content) == ("code_1", "2")


async def test_interaction_is_one_call(form: Form, mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(raw=form.events if stream else form.body, on="/interactions")
    await mode.whole(interactions_of(mode).create(**ASK, stream=stream))
    record = the_call(seen)
    assert (record.api, record.outcome, record.request.model) == ("interactions", "success", MODEL)
    assert ((record.sdk or "").partition("/")[0], record.provider) == ("google-genai", "gcp.gemini")
    assert record.stream is None or (record.stream.end, record.stream.complete) == ("complete", True)
    assert (body_sent(record)["input"], [one.status for one in record.attempts]) == ("How are you?", [200])
    check_answer(record)
    assert [span.name for span in seen.spans] == [f"generate_content {MODEL}"]


def test_stream_joins_to_the_plain_answer(form: Form) -> None:
    read = endpoint("interactions").conversation
    assert read(ASK, folded("interactions", *form.events)) == read(ASK, form.body)


async def test_retries_are_attempts_of_one_call(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=503, on="/interactions", headers={"retry-after-ms": "1", "retry-after": "0.001"})
    mode.provider.reply(raw=STEPS.body, on="/interactions")
    await mode.wait(interactions_of(mode).create(**ASK))
    record = the_call(seen)
    assert (record.outcome, [one.status for one in record.attempts]) == ("success", [503, 200])
    assert len(mode.provider.requests) == 2


async def test_interaction_that_is_left_early(form: Form, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw=form.events, on="/interactions", chunk_delay_s=0.05)
    stream = await mode.wait(interactions_of(mode).create(**ASK, stream=True))
    await mode.next(aiter(stream) if mode.is_async else iter(stream))
    await mode.wait(stream.aclose() if hasattr(stream, "aclose") else stream.close())
    record = the_call(seen)
    assert (record.outcome, record.stream and record.stream.end) == ("cancelled", "closed")


async def test_interaction_that_fails(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=400, message="no such model", on="/interactions")

    async def failing() -> None:
        await mode.wait(interactions_of(mode).create(model="other", input="How are you?"))

    assert await caught(failing())
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.status, record.error.kind) == ("error", 400, "bad_input")


async def test_error_in_a_stream_is_that_of_the_call(form: Form, mode: Mode, seen: Capture) -> None:
    failure = of("error", error={"code": "resource_exhausted", "message": "Too many."})
    mode.provider.reply(raw=[*form.events[:8], failure], on="/interactions")

    async def failing() -> None:
        await mode.whole(interactions_of(mode).create(**ASK, stream=True))

    await caught(failing())
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.message, record.text) == ("error", "Too many.", "I am ")


@pytest.mark.parametrize("received", [0, 8])
async def test_error_before_the_last_event_of_a_stream_is_that_of_the_call(
    received: int, form: Form, mode: Mode, seen: Capture
) -> None:
    failure = of("error", error={"code": "resource_exhausted", "message": "Too many."})
    mode.provider.reply(raw=[*form.events[:received], failure, "[DONE]"], on="/interactions")

    async def failing() -> None:
        await mode.whole(interactions_of(mode).create(**ASK, stream=True))

    await caught(failing())
    record = the_call(seen)
    assert (record.outcome, record.error and record.error.message) == ("error", "Too many.")


@pytest.mark.parametrize("received", [0, 8])
async def test_stream_that_ends_without_its_status_is_cut_off(
    received: int, form: Form, mode: Mode, seen: Capture
) -> None:
    mode.provider.reply(raw=[*form.events[:received], "[DONE]"], on="/interactions")
    await mode.whole(interactions_of(mode).create(**ASK, stream=True))
    record = the_call(seen)
    assert (record.outcome, record.stream and record.stream.end) == ("success", "cut_off")


async def test_fetch_completes_an_interaction_in_the_background(
    form: Form, mode: Mode, stream: bool, seen: Capture
) -> None:
    client, identity = interactions_of(mode), f"v1_{mode.name}_{stream}_{'steps' in form.body}"
    mode.provider.reply(raw={**BEGUN, "id": identity}, on="/interactions")
    await mode.wait(client.create(**ASK, background=True))
    (begun,) = seen.records
    assert (begun.outcome, begun.usage) == ("in_progress", None)
    ended = {**form.body, "id": identity}
    events = [{**event, "interaction": {**event["interaction"], "id": identity}} if "interaction" in event else event
        for event in form.events]  # fmt: skip
    mode.provider.reply(raw={**BEGUN, "id": identity}, on=f"/interactions/{identity}")
    await mode.wait(client.get(identity))
    assert seen.records == [begun]
    for _ in range(2):
        mode.provider.reply(raw=events if stream else ended, on=f"/interactions/{identity}")
        await mode.whole(client.get(identity, stream=stream))
    (record,) = seen.records
    assert (record.outcome, record.request.model) == ("success", MODEL)
    check_answer(record)
    assert len([span for span in seen.spans if "gen_ai.usage.input_tokens" in (span.attributes or {})]) == 1


async def test_cancelled_interaction_in_the_background(mode: Mode, seen: Capture) -> None:
    client, identity = interactions_of(mode), f"v1_cancelled_{mode.name}"
    mode.provider.reply(raw={**BEGUN, "id": identity}, on="/interactions")
    await mode.wait(client.create(**ASK, background=True))
    mode.provider.reply(raw={**BEGUN, "id": identity, "status": "cancelled"}, on=f"/interactions/{identity}/cancel")
    await mode.wait(client.cancel(identity))
    (record,) = seen.records
    assert (record.outcome, record.usage) == ("cancelled", None)


async def test_fetch_of_an_interaction_that_has_ended_is_no_call(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw={**STEPS.body, "id": "v1_known"}, on="/interactions/v1_known")
    await mode.wait(interactions_of(mode).get("v1_known"))
    assert not seen.records
    assert not seen.spans


@pytest.mark.parametrize("stream", [False, True])
async def test_key_of_a_server_that_an_interaction_repeats_is_masked(stream: bool, mode: Mode, seen: Capture) -> None:
    """The request that continues it, and the one that fetches it, do not send the server."""
    client, identity, headers = interactions_of(mode), f"v1_repeats_{mode.name}_{stream}", {"x-crm": "Zx81kQpa77"}
    tools = [{"type": "mcp_server", "name": "crm", "url": "https://mcp.test/sse", "headers": headers}]
    mode.provider.reply(raw={**STEPS.body, "id": f"{identity}_0", "tools": tools}, on="/interactions")
    await mode.wait(client.create(**ASK, previous_interaction_id="v1_first"))
    mode.provider.reply(raw={**BEGUN, "id": identity, "tools": tools}, on="/interactions")
    await mode.wait(client.create(**ASK, background=True))
    ended = {**STEPS.body, "id": identity, "tools": tools}
    events = [{**event, "interaction": {**event["interaction"], "id": identity, "tools": tools}}
        if "interaction" in event else event for event in STEPS.events]  # fmt: skip
    mode.provider.reply(raw=events if stream else ended, on=f"/interactions/{identity}")
    await mode.whole(client.get(identity, stream=stream))
    assert [record.outcome for record in seen.records] == ["success", "success"]
    for record in seen.records:
        assert record.response is not None
        assert b'"x-crm":"[secret]"' in bytes(record.response.body)
        check_answer(record)
    assert headers["x-crm"] not in everywhere(seen)


async def test_vertex_is_the_platform(mode: Mode, seen: Capture) -> None:
    interactions = interactions_of(mode, part_of(mode, vertex_client(mode.provider)))
    mode.provider.reply(raw=STEPS.body, on=lambda request: request.path.endswith("/interactions"))
    await mode.wait(interactions.create(**ASK))
    assert "/projects/p/locations/us-east5/" in mode.provider.requests[0].path
    assert (the_call(seen).provider, the_call(seen).outcome) == ("gcp.vertex_ai", "success")


@pytest.mark.parametrize(
    ("events", "body"),
    [
        (
            [
                of("step.start", 0, step={"type": "function_call", "id": "a", "name": "f"}),
                of("step.delta", 0, delta={"type": "arguments_delta", "partial_arguments": '{"a":1}'}),
            ],
            {"steps": [{"type": "function_call", "id": "a", "name": "f", "arguments": '{"a":1}'}]},
        ),
        (
            [
                of("step.start", 0, step={"type": "model_output", "content": [{"type": "text", "text": "I "}]}),
                of("step.delta", 0, delta={"type": "text", "text": "am."}),
                of("step.delta", 0, delta={"type": "text_annotation_delta", "annotations": [{"url": "u"}]}),
                of("step.delta", 0, delta={"type": "image", "data": "aW1n", "mime_type": "image/png"}),
            ],
            {
                "steps": [
                    {
                        "type": "model_output",
                        "content": [
                            {"type": "text", "text": "I am.", "annotations": [{"url": "u"}]},
                            {"type": "image", "data": "aW1n", "mime_type": "image/png"},
                        ],
                    }
                ]
            },
        ),
        (
            [
                of("step.start", 0, step={"type": "google_search_result", "result": [{"url": "a"}]}),
                of("step.delta", 0, delta={"type": "google_search_result", "result": [{"url": "b"}]}),
            ],
            {"steps": [{"type": "google_search_result", "result": [{"url": "a"}, {"url": "b"}]}]},
        ),
        ([of("content.delta", 0, delta={"type": "text", "text": "Hi"})], {"outputs": [TEXT | {"text": "Hi"}]}),
        ([of("step.stop", 0, metadata={"usage": COUNTERS})], {"usage": COUNTERS}),
        ([of("step.stop", 0, metadata={"total_usage": COUNTERS})], {"usage": COUNTERS}),
    ],
    ids=["partial arguments", "parts", "results in pieces", "no beginning", "usage", "total usage"],
)
def test_events_before_the_end(events: list[Any], body: dict[str, Any]) -> None:
    assert folded("interactions", *events) == {**body, "incomplete": True}


def test_older_name_of_thoughts() -> None:
    counted = {
        ("total_reasoning_tokens" if name == "total_thought_tokens" else name): COUNTERS[name] for name in COUNTERS
    }
    usage = endpoint("interactions").response_info({**STEPS.body, "usage": counted}).usage
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens, usage.estimated) == (20, 7, False)
