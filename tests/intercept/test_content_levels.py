"""What was begun with content off, and is read outside of that block, stays off: background answers and batches."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

import callspan
from callspan.testing import capture
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.processed import everywhere

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
Read = Callable[[], Awaitable[Any]]
SECRET = "open sesame"
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": SECRET}]}
LINE = json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY}).encode()


async def background(mode: Mode, *, stream: bool = False) -> Read:
    """Begin a background response; return what reads its answer."""
    mode.provider.reply(text=SECRET, polls=1)
    client = mode.openai()
    job = await mode.wait(client.responses.create(model="m", input=SECRET, background=True, stream=stream))
    if stream:
        first = await mode.next(job)
        await mode.wait(job.close())
        job = first.response

    async def read() -> None:
        for _ in range(3):
            await mode.wait(client.responses.retrieve(job.id))

    return read


async def background_stream(mode: Mode) -> Read:
    return await background(mode, stream=True)


async def message_batch(mode: Mode) -> Read:
    mode.provider.reply(text=SECRET)
    batches = mode.anthropic().messages.batches
    batch = await mode.wait(batches.create(requests=[{"custom_id": "a", "params": BODY}]))

    async def read() -> None:
        await mode.wait(batches.retrieve(batch.id))
        async for _ in mode.items(await mode.wait(batches.results(batch.id))):
            pass

    return read


async def create(mode: Mode, client: Any, file_id: str) -> Read:
    made = await mode.wait(client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))

    async def read() -> None:
        for _ in range(2):
            batch = await mode.wait(client.batches.retrieve(made.id))
        await mode.wait(client.files.content(batch.output_file_id))

    return read


async def file_batch(mode: Mode) -> Read:
    mode.provider.reply(text=SECRET)
    client = mode.openai()
    uploaded = await mode.wait(client.files.create(file=("in.jsonl", LINE), purpose="batch"))
    return await create(mode, client, uploaded.id)


BEGUN: Mapping[str, Any] = {
    "background": background, "background stream": background_stream, "message batch": message_batch,
    "file batch": file_batch,
}  # fmt: skip


def tenant_is_a(metadata: Mapping[str, object]) -> Any:
    return "off" if metadata["tenant"] == "a" else "full"


@pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")
@pytest.mark.parametrize("begin", BEGUN.values(), ids=BEGUN)
@pytest.mark.parametrize("by", ["block", "session", "content_for"])
def test_what_was_begun_with_content_off_stays_off(mode: Mode, run: Run, begin: Any, by: str) -> None:
    """The counts are there; of another one, begun beside it, all is there."""

    async def body() -> None:
        if by == "block":
            with callspan.content("off"):
                read = await begin(mode)
        elif by == "session":
            with callspan.content("off"):
                session = callspan.session(metadata={"tenant": "a"}).start(current=False)
            with session.using():
                read = await begin(mode)
        else:
            with callspan.metadata(tenant="a"):
                read = await begin(mode)
        await read()

    with capture(content_for=tenant_is_a if by == "content_for" else None) as seen:
        run(body)
        (record,) = seen.records
        assert SECRET not in everywhere(seen)
        assert (record.outcome, record.content_level, record.text) == ("success", "off", None)
        assert record.usage is not None


@pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")
@pytest.mark.parametrize("begin", BEGUN.values(), ids=BEGUN)
def test_what_was_begun_with_content_is_off_where_it_is_read_so(mode: Mode, run: Run, begin: Any) -> None:
    """And is whole where nothing is stricter, though `content_for` would not know the tenant there."""

    async def body(*, off: bool) -> None:
        with callspan.metadata(tenant="b"):
            read = await begin(mode)
        with callspan.content("off" if off else "full"):
            await read()

    with capture(content_for=tenant_is_a) as seen:
        run(lambda: body(off=False))
        (whole,) = seen.records
        run(lambda: body(off=True))
    assert (whole.text, whole.content_level) == (SECRET, "full")
    (strict,) = [record for record in seen.records if record.call_id != whole.call_id]
    assert (strict.text, strict.content_level) == (None, "off")
    assert strict.conversation is not None
    assert [message.text for message in strict.conversation.input] == [SECRET]


@pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")
@pytest.mark.parametrize("begin", BEGUN.values(), ids=BEGUN)
@pytest.mark.parametrize("tenant", ["a", "b", None])
def test_a_level_that_nobody_knows_is_the_one_in_force_where_the_answer_is_read(
    mode: Mode, run: Run, begin: Any, tenant: str | None
) -> None:
    """As `content_for` decides it there; what it cannot decide is off."""

    async def body() -> None:
        with capture():
            read = await begin(mode)
        with callspan.metadata() if tenant is None else callspan.metadata(tenant=tenant):
            await read()

    with capture(content_for=tenant_is_a) as seen:
        run(body)
        calls = [record for record in seen.records if record.response is not None and record.usage is not None]
    assert [call.text for call in calls] == ([SECRET] if tenant == "b" else [None])


@pytest.mark.parametrize("off_at", ["upload", "create"])
def test_a_batch_has_the_stricter_level_of_its_file_and_its_creation(mode: Mode, run: Run, off_at: str) -> None:
    async def body() -> None:
        mode.provider.reply(text=SECRET)
        client = mode.openai()
        with callspan.content("off" if off_at == "upload" else "full"):
            uploaded = await mode.wait(client.files.create(file=("in.jsonl", LINE), purpose="batch"))
        with callspan.content("off" if off_at == "create" else "full"):
            read = await create(mode, client, uploaded.id)
        await read()

    with capture() as seen:
        run(body)
        assert SECRET not in everywhere(seen)
        assert [record.content_level for record in seen.records] == ["off"]


async def anthropic_session(mode: Mode) -> Read:
    client = mode.anthropic()
    agent = {"type": "agent", "id": "agent_1", "model": "m", "name": "Finder", "system": SECRET}
    made = await mode.wait(client.beta.sessions.create(agent=agent, environment_id="env_1"))

    async def read() -> None:
        mode.provider.reply(text=SECRET)
        events = client.beta.sessions.events
        content = [{"type": "text", "text": SECRET}]
        await mode.wait(events.send(made.id, events=[{"type": "user.message", "content": content}]))
        async for _ in mode.items(await mode.wait(events.list(made.id))):
            pass

    return read


async def openai_session(mode: Mode) -> Read:
    mode.provider.reply(text=SECRET)
    sessions = mode.openai().beta.agents.sessions
    environment = {"type": "none"}
    stream = await mode.wait(sessions.create(agent={"model": "m"}, environment=environment, input=SECRET, stream=True))
    await mode.next(stream)

    async def read() -> None:
        async for event in mode.items(stream):
            if event.type == "agent.session.idle":
                break
        await mode.wait(stream.close())

    return read


HOSTED = [
    pytest.param(
        anthropic_session,
        marks=pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="the test needs the sessions of anthropic 2"),
    ),
    pytest.param(
        openai_session, marks=pytest.mark.skipif(sdks.OPENAI < (3, 0), reason="the test needs the agents of openai 3")
    ),
]


@pytest.mark.parametrize("begin", HOSTED)
@pytest.mark.parametrize("by", ["block", "content_for", "reader", "nothing"])
def test_what_a_hosted_agent_does_has_the_level_of_its_session(mode: Mode, run: Run, begin: Any, by: str) -> None:
    async def body() -> None:
        with (
            callspan.content("off" if by == "block" else "full"),
            callspan.metadata(tenant="a" if by == "content_for" else "b"),
        ):
            read = await begin(mode)
        with callspan.content("off" if by == "reader" else "full"):
            await read()

    with capture(content_for=tenant_is_a) as seen:
        run(body)
        (call,) = seen.records
        # A stream keeps the level of its request, wherever it is read.
        shown = by == "nothing" or (by == "reader" and begin is openai_session)
        assert (SECRET in everywhere(seen)) is shown
        assert call.content_level == ("full" if shown else "off")
        assert {record.content_level for record in seen.sessions} == {
            "off" if by in ("block", "content_for") else "full"
        }
