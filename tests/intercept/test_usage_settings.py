"""Usage that a provider does not return by default: requested in streams, or estimated, each only if set."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.testing import capture
from tests.intercept.calls import QUESTION, Run, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}


async def read(mode: Mode, **options: Any) -> list[Any]:
    return await mode.all(await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True, **options)))


def test_usage_is_requested_and_its_chunk_is_hidden(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)
    with capture(stream_usage=True) as seen:
        chunks = run(lambda: read(mode))
        record = the_call(seen)
    assert mode.provider.requests[0].body["stream_options"] == {"include_usage": True}
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (11, 4)
    assert all(chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I am well."


def test_the_caller_sees_the_same_chunks_as_without_it(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am well.")
    mode.provider.reply(text="I am well.")
    bare = run(lambda: read(mode))
    with capture(stream_usage=True):
        ours = run(lambda: read(mode))
    assert [chunk.choices for chunk in ours] == [chunk.choices for chunk in bare]


def test_a_caller_who_requests_usage_gets_the_usage_chunk(mode: Mode, run: Run) -> None:
    with capture(stream_usage=True) as seen:
        chunks = run(lambda: read(mode, stream_options={"include_usage": True}))
        assert the_call(seen).usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


def test_a_caller_who_disables_usage_is_respected(mode: Mode, run: Run) -> None:
    with capture(stream_usage=True) as seen:
        run(lambda: read(mode, stream_options={"include_usage": False}))
        assert the_call(seen).usage is None
    assert mode.provider.requests[0].body["stream_options"] == {"include_usage": False}


def test_other_stream_options_are_unchanged(mode: Mode, run: Run) -> None:
    with capture(stream_usage=True):
        run(lambda: read(mode, stream_options={"include_obfuscation": False}))
    options = mode.provider.requests[0].body["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


def test_extra_body_with_stream_options_is_left_alone(mode: Mode, run: Run) -> None:
    with capture(stream_usage=True):
        run(lambda: read(mode, extra_body={"stream_options": {"x": 1}}))
    assert mode.provider.requests[0].body["stream_options"] == {"x": 1}


@pytest.mark.parametrize("how", ["plain", "raw", "responses", "unset"])
def test_nothing_else_is_changed(how: str, mode: Mode, run: Run) -> None:
    async def body() -> None:
        client = mode.openai()
        if how == "plain":
            await mode.wait(client.chat.completions.create(**CHAT))
        elif how == "raw":
            raw = await mode.wait(client.chat.completions.with_raw_response.create(**CHAT, stream=True))
            await mode.all(await mode.wait(raw.parse()))
        elif how == "responses":
            stream = client.completions.create(model="m", prompt="hi", stream=True)
            await mode.all(await mode.wait(stream))
        else:
            await read(mode)

    with capture(stream_usage=how != "unset") as seen:
        run(body)
        the_call(seen)
    assert "stream_options" not in mode.provider.requests[0].body


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_missing_usage_is_estimated_when_requested_and_marked(stream: bool, mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am quite well, thank you.", usage={})

    async def body() -> None:
        result = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=stream))
        if stream:
            await mode.all(result)

    with capture(estimate_usage=True) as seen:
        run(body)
        record = the_call(seen)
        (span,) = seen.spans
    assert record.usage is not None
    assert record.usage.estimated
    assert record.usage.input_tokens is not None
    assert 4 <= record.usage.input_tokens <= 12
    assert record.usage.output_tokens is not None
    assert 5 <= record.usage.output_tokens <= 14
    assert span.attributes is not None
    assert span.attributes["callspan.usage.estimated"] is True


def test_tokens_are_estimated_of_a_request_with_a_lone_surrogate(mode: Mode, run: Run) -> None:
    """The SDK sends it as an escape, which strict readers of JSON refuse."""
    mode.provider.reply(text="I am quite well, thank you.", usage={})
    request = {"model": "gpt-5", "messages": [{"role": "user", "content": "How are you? \ud800"}]}
    with capture(estimate_usage=True) as seen:
        try:
            run(lambda: mode.wait(mode.openai().chat.completions.create(**request)))
        except UnicodeEncodeError:
            pytest.skip("this version refuses to send it")
        record = the_call(seen)
    assert record.usage is not None
    assert record.usage.estimated


def test_what_the_provider_reported_is_never_estimated(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="I am well.", input_tokens=1000, output_tokens=0)
    with capture(estimate_usage=True) as seen:
        run(lambda: mode.wait(mode.openai().chat.completions.create(**CHAT)))
        record = the_call(seen)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (1000, 0)
    assert not record.usage.estimated
