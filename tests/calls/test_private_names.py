"""Private names of others: each is there in the installed versions; without one, calls are recorded all the same."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
from contextlib import suppress

import pytest
from msgspec.structs import replace
from tests.support.calls import Wire, text_of
from tests.support.mode import Mode
from tests.support.scale import scaled

import callspan
from callspan import private_names
from callspan.fail_open import Once
from callspan.intercept import patching
from callspan.intercept.patching import HOOKS, Hook
from callspan.private_names import READ, PrivateName
from callspan.testing import ScriptedProvider, capture

WEBSOCKETS = {"websockets.asyncio.client", "websockets.sync.client"}
for module in {where.partition(":")[0] for row in READ for where in row.where} | WEBSOCKETS:
    with suppress(ImportError):  # older SDKs come without some
        importlib.import_module(module)
VARIABLES = {value: name for name, value in vars(private_names).items() if isinstance(value, PrivateName)}
SAMPLE = (private_names.BASE_URL, private_names.EVENT)


def test_each_name_is_there_in_the_installed_versions() -> None:
    assert [f"{where}.{name.name}" for where, name in private_names.missing() if name in READ] == []


def work(provider: ScriptedProvider) -> list[object]:
    """Five calls, and what their caller has of them."""

    async def called() -> list[object]:
        chat, claude = Wire("chat_completions", Mode("async", provider)), Wire("messages", Mode("sync", provider))
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
        return asyncio.run(called())


@pytest.mark.parametrize("row", scaled([*SAMPLE], [*READ]), ids=lambda row: row.name)
def test_without_a_private_name_calls_are_the_same_and_the_loss_is_warned_of_once(
    row: PrivateName, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider.reply(text="I am well.", repeat=True)
    bare = work(provider)
    other = row._replace(name="_moved_since")
    monkeypatch.setattr(private_names, VARIABLES[row], other)
    monkeypatch.setattr(private_names, "READ", tuple(other if each is row else each for each in READ))
    monkeypatch.setattr(private_names, "_warned", Once())
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        assert len(seen.records) == 5
    lines = [message for message in caplog.messages if f"._moved_since (lost: {row.lost or 'nothing'}" in message]
    there = {where.partition(".")[0].partition(":")[0] for where in row.where if private_names._lacks(where, other)}
    assert row.where[0].startswith("types:") or len(lines) == len(there)
    assert [message for message in caplog.messages if message.startswith("Could not")] == []


MOVED = sorted({(hook.attribute, "missing") for hook in HOOKS if not hook.late})
CHANGED = sorted({(hook.attribute, "changed") for hook in HOOKS if hook.reads and not hook.late})


@pytest.mark.parametrize(("name", "state"), MOVED + CHANGED)
def test_without_a_hooked_name_calls_are_the_same_and_the_loss_is_stated(
    name: str, state: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A release has moved a function, or a parameter that is read of it."""

    def moved(hook: Hook) -> Hook:
        if hook.attribute != name:
            return hook
        if state == "changed":
            return replace(hook, reads={**hook.reads, "gone": 9})
        return replace(hook, where=tuple(f"{where}_gone" for where in hook.where))

    provider.reply(text="I am well.", repeat=True)
    bare = work(provider)
    monkeypatch.setattr(patching, "HOOKS", tuple(map(moved, HOOKS)))
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        gc.collect()
        assert {one.state for one in callspan.patch_status() if one.name.endswith(f".{name}")} == {state}
        records = seen.records
    whole = state == "changed" or name != "request"
    assert len(records) == (5 if whole else 0)
    if name != "_process_response_data":
        assert [text_of(record) for record in records].count("I am well.") == (4 if whole else 0)
    said = "lacks names callspan hooks" if state == "missing" else "has changed functions callspan hooks"
    warned = [message for message in caplog.messages if said in message]
    assert len({message.partition(said)[0] for message in warned}) == len(warned) > 0, "once for each SDK"
    assert [message for message in caplog.messages if message.startswith("Could not")] == []
