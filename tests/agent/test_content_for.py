"""`content_for` decides the content level where a session, or a call outside one, begins: once, and fail-closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import openai
import pytest
from tests.processed import everywhere

import callspan
from callspan.fail_open import forget_failures
from callspan.record.call import CallRecord
from callspan.record.codec import encode
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import WIRING

SECRET = "open sesame"
PROMPT: Any = [{"role": "user", "content": SECRET}]


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        yield client


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=PROMPT, **more)


class Rule:
    """Off for the tenant `a`; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, object]] = []

    def __call__(self, metadata: Mapping[str, object]) -> Any:
        self.asked.append(metadata)
        return "off" if metadata.get("tenant") == "a" or metadata.get("user_id") == "private" else "full"


def levels(seen: Captured) -> list[str]:
    return [record.content_level for record in seen.records]


def test_calls_outside_sessions_are_asked_about_once_each(client: openai.OpenAI) -> None:
    rule = Rule()
    with capture(content_for=rule) as seen:
        for fields in ({"tenant": "a"}, {"tenant": "b"}, {"user_id": "private", "extra": {"plan": "x"}}, {}):
            with callspan.metadata(**fields):
                for _ in ask(client, stream=True):
                    pass
        client.models.list()
        with callspan.record_call(provider="mine") as call:
            call.request({"messages": PROMPT})
    assert [dict(asked) for asked in rule.asked] == [
        {"tenant": "a", "extra": {"tenant": "a"}},
        {"tenant": "b", "extra": {"tenant": "b"}},
        {"user_id": "private", "plan": "x", "extra": {"plan": "x"}},
        {},
        {},
    ]
    assert levels(seen) == ["off", "full", "off", "full", "full"]
    assert [SECRET in encode(record).decode() for record in seen.records] == [False, True, False, True, True]


def test_a_session_is_asked_about_once_with_its_fields(client: openai.OpenAI) -> None:
    rule = Rule()
    with capture(content_for=rule) as seen:
        with (
            callspan.metadata(project_id="p", user_id="other"),
            callspan.session(
                "support", session_id="s", user_id="private", group_id="g", metadata={"plan": "x"}
            ) as session,
        ):
            ask(client)
            with session.timestep() as step, callspan.tool("t", arguments=SECRET):
                step.observation(SECRET)
                ask(client)
            callspan.feedback(seen.records[0].call_id, annotation=SECRET)
        callspan.reward(1.0, session_id="s", annotation=SECRET)
        assert SECRET not in everywhere(seen)
        with callspan.session("support", user_id="u"):
            ask(client)
    assert levels(seen) == ["off", "off", "full"]
    first, second = rule.asked
    assert dict(first) == {
        "project_id": "p", "user_id": "private", "plan": "x", "session_id": "s", "session_name": "support",
        "group_id": "g",
    }  # fmt: skip
    assert second["user_id"] == "u"


@pytest.mark.parametrize("setting", ["full", "metadata", "off"])
@pytest.mark.parametrize("block", ["full", "metadata", "off"])
@pytest.mark.parametrize("decided", ["full", "metadata", "off"])
def test_the_strictest_of_three_holds(setting: Any, block: Any, decided: Any, client: openai.OpenAI) -> None:
    with capture(content=setting, content_for=lambda _: decided) as seen, callspan.content(block):
        ask(client)
        with callspan.session():
            ask(client)
    assert levels(seen) == [max(setting, block, decided)] * 2
    assert {record.content_level for record in seen.sessions} == {max(setting, block, decided)}


async def later(metadata: object) -> str:
    return "full"


def change(metadata: Any) -> str:
    metadata["user_id"] = "u"
    return "full"


def change_extra(metadata: Any) -> str:
    metadata["extra"]["user_id"] = "u"
    return "full"


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize(
    "function",
    [
        lambda metadata: metadata["tenant_id"],
        lambda _: None,
        lambda _: "everything",
        lambda _: True,
        lambda _: ["full"],
        lambda: "full",
        later,
        change,
        change_extra,
    ],
)
def test_what_raises_or_returns_no_level_is_off_and_warned_of_once(
    function: Any, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    forget_failures()
    with caplog.at_level(logging.WARNING), capture(content_for=function) as seen, callspan.metadata(tenant="t"):
        ask(client)
        ask(client)
        with callspan.session() as session:
            session.event("seen", SECRET)
        with callspan.tool("t", arguments=SECRET):
            pass
        callspan.reward(1.0, session_id="unknown", annotation=SECRET)
    assert SECRET not in everywhere(seen)
    warned = [entry.getMessage() for entry in caplog.records if entry.name == "callspan"]
    assert len(warned) == 1
    assert "content_for: content is off" in warned[0]
    forget_failures()


def test_calls_that_the_function_makes_are_off_and_ask_nothing(client: openai.OpenAI) -> None:
    def function(metadata: Mapping[str, object]) -> Any:
        ask(client)
        with callspan.session("inner"):
            ask(client)
        return "full"

    with capture(content_for=function) as seen:
        ask(client)
    assert levels(seen) == ["off", "off", "full"]


def test_an_interrupt_in_the_function_is_the_applications(client: openai.OpenAI) -> None:
    def function(metadata: object) -> Any:
        raise KeyboardInterrupt

    with capture(content_for=function) as seen:
        with pytest.raises(KeyboardInterrupt):
            ask(client)
        with pytest.raises(KeyboardInterrupt), callspan.session():
            pass
        assert callspan.current_session() is None
    assert not seen.spans


def test_records_of_other_instrumentations_are_decided_by_their_metadata(client: openai.OpenAI) -> None:
    rule = Rule()
    with capture(content_for=rule) as seen:
        with callspan.session() as session:
            ask(client)
        (record,) = seen.records
        for user in ("private", "other"):
            foreign = {"call_id": user, "metadata": {"user_id": user}}
            WIRING.write(CallRecord(**{name: getattr(record, name) for name in record.__struct_fields__} | foreign))
    assert levels(seen) == ["full", "off", "full"]
    assert rule.asked[1]["session_id"] == session.id


def test_rewards_for_unknown_targets_are_decided_by_the_metadata_in_force() -> None:
    with capture(content_for=Rule()) as seen:
        for tenant in "ab":
            with callspan.metadata(tenant=tenant):
                callspan.reward(1.0, session_id="unknown", annotation=SECRET)
                callspan.feedback("unknown", annotation=SECRET)
    given = [record.annotation for record in seen.rewards]
    assert given == [None, None, SECRET, SECRET]


@pytest.fixture
def instrumented() -> Iterator[Callable[..., Any]]:
    yield callspan.instrument
    callspan.uninstrument()


def test_it_is_kept_changed_and_removed_like_a_redactor(
    instrumented: Callable[..., Any], client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    rule = Rule()
    with caplog.at_level(logging.WARNING):
        handle = instrumented(content_for=rule)
        assert instrumented()._pipeline is handle._pipeline
        assert instrumented(service="s")._pipeline.providers.content_for is rule
        instrumented(content_for=False)
        ask(client)
    assert rule.asked == []
    assert f"content_for Rule at {id(rule):#x} -> none" in caplog.text
    with pytest.raises(callspan.SettingError, match="content_for='off': use a function from metadata to content level"):
        instrumented(content_for="off")
