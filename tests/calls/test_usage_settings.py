"""Usage that a provider does not return by default: requested in streams, or estimated, each only if set."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.testing import capture
from tests.support.calls import CHAT, Run, Wire, the_call
from tests.support.mode import Mode

REQUESTED = {"include_usage": True}
STREAMS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, bool, bool]] = {
    # what the caller gives, stream_options as sent, whether usage is known, whether the caller sees its chunk
    "nothing": ({}, REQUESTED, True, False),
    "requested": ({"stream_options": REQUESTED}, REQUESTED, True, True),
    "disabled": ({"stream_options": {"include_usage": False}}, {"include_usage": False}, False, False),
    "others": (
        {"stream_options": {"include_obfuscation": False}}, {"include_obfuscation": False, **REQUESTED}, True, False,
    ),
    "extra body": ({"extra_body": {"stream_options": {"x": 1}}}, {"x": 1}, False, False),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_usage_is_requested_where_the_caller_says_nothing_of_it_and_its_chunk_is_hidden(
    name: str, mode: Mode, run: Run
) -> None:
    given, sent, known, visible = STREAMS[name]
    wire = Wire("chat_completions", mode, "stream")
    for _ in range(2):
        mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)
    bare = [chunk.choices for chunk in run(lambda: wire.call(**given))]
    wire.received = []
    with capture(stream_usage=True) as seen:
        chunks = run(lambda: wire.call(**given))
        record = the_call(seen)
    assert mode.provider.requests[-1].body["stream_options"] == sent
    assert (record.usage and (record.usage.input_tokens, record.usage.output_tokens)) == ((11, 4) if known else None)
    assert [chunk.choices for chunk in chunks] == bare, "the same chunks as without it"
    assert (chunks[-1].choices == [] and chunks[-1].usage is not None) == visible
    assert wire.received_text() == "I am well."


@pytest.mark.parametrize("how", ["plain", "raw", "completions", "unset"])
def test_nothing_else_is_changed(how: str, mode: Mode, run: Run) -> None:
    async def body() -> None:
        client = mode.openai()
        if how == "plain":
            await mode.wait(client.chat.completions.create(**CHAT))
        elif how == "raw":
            raw = await mode.wait(client.chat.completions.with_raw_response.create(**CHAT, stream=True))
            await mode.all(await mode.wait(raw.parse()))
        elif how == "completions":
            await mode.all(await mode.wait(client.completions.create(model="m", prompt="hi", stream=True)))
        else:
            await Wire("chat_completions", mode).read()

    with capture(stream_usage=how != "unset") as seen:
        run(body)
        the_call(seen)
    assert "stream_options" not in mode.provider.requests[0].body


@pytest.mark.parametrize("shape", ["plain", "stream"])
def test_missing_usage_is_estimated_when_requested_and_marked(shape: str, mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am quite well, thank you.", usage={})
    with capture(estimate_usage=True) as seen:
        run(Wire("chat_completions", mode, shape).call)
        record = the_call(seen)
    assert record.usage is not None
    assert record.usage.estimated
    assert 4 <= (record.usage.input_tokens or 0) <= 12
    assert 5 <= (record.usage.output_tokens or 0) <= 14
    assert (seen.spans[0].attributes or {})["callspan.usage.estimated"] is True


def test_tokens_are_estimated_of_a_request_with_a_lone_surrogate(mode: Mode, run: Run) -> None:
    """The SDK sends it as an escape, which strict readers of JSON refuse."""
    mode.provider.reply(text="I am quite well, thank you.", usage={})
    question: Any = [{"role": "user", "content": "How are you? \ud800"}]
    with capture(estimate_usage=True) as seen:
        try:
            run(lambda: Wire("chat_completions", mode).ask(messages=question))
        except UnicodeEncodeError:
            pytest.skip("this version refuses to send it")
        record = the_call(seen)
    assert record.usage is not None
    assert record.usage.estimated


def test_what_the_provider_reported_is_never_estimated(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am well.", input_tokens=1000, output_tokens=0)
    with capture(estimate_usage=True) as seen:
        run(Wire("chat_completions", mode).ask)
        record = the_call(seen)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (1000, 0)
    assert not record.usage.estimated
