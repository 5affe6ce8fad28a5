"""A record is the same wherever the application gets one: derived on access, from bodies of one type."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import openai
import pytest

import callspan
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider, capture

PLACES = ("redact", "before_record", "after_record")
TOOL = {"name": "find", "arguments": {"id": 7}}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def seen_at(places: tuple[str, ...], look: Callable[[str, CallRecord], object], **settings: Any) -> Any:
    """Make one call, plain, and one streamed, with `look` at each place; return the capture's records."""

    def at(place: str) -> Callable[[Any], Any]:
        def function(record: Any) -> Any:
            if isinstance(record, CallRecord) and not record.is_first_version:
                look(place, record)
            return record

        return function

    removals = [callspan.add_callback(place, at(place)) for place in places if place != "redact"]  # type: ignore[arg-type]
    redact = at("redact") if "redact" in places else None
    try:
        with ScriptedProvider() as provider, capture(redact=redact, **settings) as seen:
            client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
            provider.reply(text="answer!", tool_calls=[TOOL])
            client.chat.completions.create(**ASKED)  # type: ignore[call-overload]
            provider.reply(text="answer!", tool_calls=[TOOL])
            list(client.chat.completions.create(**ASKED, stream=True))  # type: ignore[call-overload]
            return seen.records
    finally:
        for remove in removals:
            remove()


def derived(record: CallRecord) -> tuple[Any, ...]:
    assert record.conversation is not None
    assert record.tool_calls is not None
    asked = [part.text for message in record.conversation.input for part in message.parts]  # type: ignore[union-attr]
    return record.text, asked, [call.name for call in record.tool_calls], record.answer_texts


def test_derived_values_are_the_same_everywhere() -> None:
    looked: list[tuple[str, Any]] = []
    records = seen_at(PLACES, lambda place, record: looked.append((place, derived(record))))
    assert [place for place, _ in looked] == [*PLACES] * 2
    expected = ("answer!", ["q"], ["find"], ["answer!", 'find({"id": 7})'])
    found = [[*one[:3], [text.replace('":7', '": 7') for text in one[3]]] for _, one in looked]
    assert found == [[*expected]] * 6
    assert [derived(record)[:3] for record in records] == [expected[:3]] * 2


def test_bodies_have_one_type_and_return_their_bytes() -> None:
    kinds: set[tuple[type, type]] = set()
    bodies: list[bytes] = []

    def look(place: str, record: CallRecord) -> None:
        assert record.response is not None
        kinds.add((type(record.request.body), type(record.response.body)))
        assert isinstance(record.request.body, dict)
        assert (
            json.loads(bytes(record.request.body))["messages"] == ASKED["messages"] == record.request.body["messages"]
        )
        bodies.append(bytes(record.response.body))

    records = seen_at(PLACES, look)
    assert len(kinds) == 1
    assert bodies == [bytes(record.response.body) for record in records for _ in PLACES]


def test_changed_body_changes_derived_values() -> None:
    """At once in the redactor itself, and then everywhere."""
    texts: list[tuple[str, str | None]] = []

    def look(place: str, record: CallRecord) -> None:
        if place == "redact":
            assert record.text == "answer!"
            assert record.response is not None
            body: Any = record.response.body
            body["choices"][0]["message"] = {"role": "assistant", "content": "***"}
        texts.append((place, record.text))
        assert record.tool_calls == []

    records = seen_at(PLACES, look)
    assert texts == [(place, "***") for place in PLACES] * 2
    assert [record.text for record in records] == ["***"] * 2
    assert all(b"answer" not in bytes(record.response.body) for record in records)


def test_replacement_before_recording_is_kept() -> None:
    def enrich(record: Any) -> Any:
        record.request.body["messages"][0]["content"] = "changed"
        return msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=None))

    remove = callspan.add_callback("before_record", enrich, kinds=["call"])
    try:
        (one, other) = seen_at(("after_record",), lambda place, record: None)
    finally:
        remove()
    for record in (one, other):
        assert json.loads(bytes(record.request.body))["messages"][0]["content"] == "changed"
        assert (record.text, record.tool_calls, bytes(record.response.body)) == (None, None, b"")


def test_in_place_change_without_return_has_no_effect() -> None:
    def spoil(record: Any) -> None:
        record.request.body.clear()

    removals = [callspan.add_callback(place, spoil, kinds=["call"]) for place in ("before_record", "after_record")]
    try:
        texts: list[object] = []
        records = seen_at(("after_record",), lambda place, record: texts.append(record.request.body))
    finally:
        for remove in removals:
            remove()
    assert [bool(text) for text in texts] == [True, True]
    assert all(b'"messages"' in bytes(record.request.body) for record in records)


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_unknown_values_are_absent(content: str) -> None:
    looked: list[tuple[object, ...]] = []

    def look(place: str, record: CallRecord) -> None:
        looked.append((record.text, record.conversation, record.tool_calls, record.answer_texts, record.request.body))

    records = seen_at(PLACES[1:], look, content=content)
    assert looked == [(None,) * 5] * 4
    assert [record.tool_calls for record in records] == [None, None]


def test_answer_without_tools_has_none() -> None:
    with ScriptedProvider() as provider, capture() as seen:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        provider.reply(text="x")
        client.chat.completions.create(**ASKED)  # type: ignore[call-overload]
        provider.reply(status=500)
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**ASKED)  # type: ignore[call-overload]
        answered, failed = seen.records
    assert (answered.tool_calls, failed.tool_calls, failed.answer_texts) == ([], None, None)


def test_read_only_callback_changes_no_record() -> None:
    """Nothing is stored with the record that was derived from it."""
    plain = seen_at((), lambda place, record: None)
    looked = seen_at(PLACES[1:], lambda place, record: derived(record))
    for one, other in zip(plain, looked, strict=True):
        assert bytes(one.request.body) == bytes(other.request.body)
        assert one.redactions == other.redactions == []
