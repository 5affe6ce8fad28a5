"""Missing private names: calls have the same results and are recorded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from importlib import import_module

import pytest

import callspan
from callspan import private_names
from callspan.fail_open import Once
from callspan.intercept import patching
from callspan.private_names import READ, PrivateName
from callspan.testing import Captured, ScriptedProvider, capture
from tests.calls import loops
from tests.support import sdks
from tests.support.calls import Wire
from tests.support.mode import Mode
from tests.support.scale import scaled

for late in ("websockets.asyncio.client", "websockets.sync.client", "openai.lib.responses_tool_runner"):
    with contextlib.suppress(ImportError):  # older SDKs come without them; their hooks wait for the import
        import_module(late)
VARIABLES = {value: name for name, value in vars(private_names).items() if isinstance(value, PrivateName)}
SAMPLE = (private_names.BASE_URL, private_names.EVENT)
ROWS = pytest.mark.parametrize("row", scaled([*SAMPLE], [*READ]), ids=lambda row: row.name)


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(text="I am well.", repeat=True)


def work(provider: ScriptedProvider) -> list[object]:
    """Calls of each kind and what is around them: what the caller has of it."""

    async def called(colour: str) -> list[object]:
        chat, claude = Wire("chat_completions", Mode(colour, provider)), Wire("messages", Mode(colour, provider))
        received: list[object] = [(await chat.ask()).choices[0].message.content]
        received.append([type(chunk).__name__ for chunk in await chat.read()])
        left = await chat.stream()
        received.append(type(await chat.next(left)).__name__)
        await chat.mode.wait(left.close())
        received.append([block.type for block in (await claude.ask()).content])
        received.append([item.type for item in await claude.read()])
        await chat.mode.close()
        await claude.mode.close()
        return received

    with callspan.session("s") as session, callspan.timestep():
        session.event("note", {"a": 1})
        received = [*asyncio.run(called("sync")), *asyncio.run(called("async"))]
    gc.collect()
    return received


def facts(seen: Captured) -> list[object]:
    """What was recorded and shown, without what differs from call to call."""
    records: list[object] = [
        (
            record.provider, record.server_address, record.outcome,
            record.stream and (record.stream.end, record.stream.chunks),
            record.usage and record.usage.output_tokens, record.response and record.response.finish_reasons,
        )
        for record in seen.records
    ]  # fmt: skip
    spans = [
        (
            span.name,
            sorted(span.attributes or ()),
            [(event.name, sorted(event.attributes or ())) for event in span.events],
        )
        for span in seen.spans
    ]
    return records + spans


def changed(row: PrivateName, name: str, monkeypatch: pytest.MonkeyPatch) -> PrivateName:
    other = row._replace(name=name)
    monkeypatch.setattr(private_names, VARIABLES[row], other)
    monkeypatch.setattr(private_names, "READ", tuple(other if each is row else each for each in READ))
    monkeypatch.setattr(private_names, "_warned", Once())
    return other


@ROWS
@pytest.mark.parametrize("name", ["_moved_since", "__class__"], ids=["renamed", "other-type"])
def test_without_a_private_name_the_fallback_is_used_and_the_loss_reported_once(
    name: str, row: PrivateName, provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    bare = work(provider)
    with capture() as seen:
        assert work(provider) == bare
        usual = facts(seen)
    other = changed(row, name, monkeypatch)
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        if not row.lost:
            assert facts(seen) == usual
        assert len(seen.records) == 10
    lines = [message for message in caplog.messages if "lacks names callspan uses" in message]
    if name == "_moved_since" and not row.where[0].startswith("types:"):
        assert len([line for line in lines if f".{other.name} (lost: {row.lost or 'nothing'}" in line]) == len(
            {where.partition(".")[0].partition(":")[0] for where in row.where if present(where, row)}
        )
        assert [message for message in caplog.messages if message.startswith("Could not")] == []


def present(where: str, row: PrivateName) -> bool:
    """Whether this version of the library has the place where such a name is looked for."""
    return private_names._lacks(where, row._replace(name="_surely_not_there"))


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_without_the_private_names_of_tools_a_loop_is_an_agent_still(
    sdk: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")
    lost = {"_tool_use_span", "_start_tool_runner_span", "_execute_function"}
    monkeypatch.setattr(patching, "HOOKS", tuple(hook for hook in patching.HOOKS if hook.attribute not in lost))
    provider.reply(tool_calls=[loops.request()])
    with capture() as seen, Mode("sync", provider) as mode:
        if sdk == "anthropic":
            loops.of_anthropic(mode, str).until_done()
        else:
            loops.of_openai(mode, str).run(mode.openai(), loops.RESPONSES)
        (agent,) = loops.rows(seen, "agent")
    assert agent.error is None
    assert loops.rows(seen, "tool") == []


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left() -> Iterator[None]:
    from callspan.intercept.responses import OBSERVERS

    # Other tests may have left responses of theirs behind.
    gc.collect()
    before = len(OBSERVERS)
    yield
    gc.collect()
    assert len(OBSERVERS) < before + 20, "observers go with their responses"
