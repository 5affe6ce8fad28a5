"""The versions of a record make one, merged in any order, also into a store that is made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire import corpus

from callspan.records import Request, Response, SessionRecord, TimestepRecord, Totals
from callspan.settings import STRICTNESS
from callspan.stores import CallFilter
from callspan.stores.call_rows import record_of
from callspan.stores.columns import SESSIONS, TIMESTEPS
from callspan.stores.rows import Row, add_version, merged_row

from .conftest import Delivery, Records, raw

WORDS = st.sampled_from(["a", "b", "c.d", "", "é"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": WORDS,
        "user_id": WORDS,
        "start_ns": st.integers(0, 5),
        "end_ns": st.integers(0, 5),
        "success": st.booleans(),
        "metadata": st.dictionaries(WORDS, st.none() | st.integers(0, 3) | st.lists(st.integers(0, 1)), max_size=3),
        "content_level": st.sampled_from(STRICTNESS),
        "totals": st.builds(Totals, calls=st.integers(0, 3)),
    },
)
VERSIONS = st.lists(FIELDS, min_size=1, max_size=5)


def versions_of(fields: Sequence[dict[str, object]]) -> list[SessionRecord]:
    """Versions 1, 2, 3, ... of one session."""
    return [
        SessionRecord(session_id="s", seen_ns=number, **given)  # type: ignore[arg-type]
        for number, given in enumerate(fields, 1)
    ]


def expected(versions: Sequence[SessionRecord]) -> SessionRecord:
    """By the definition: the newest of each field and key of metadata; the earliest start, the strictest level."""
    whole: dict[str, object] = {"session_id": "s", "seen_ns": len(versions)}
    metadata: dict[str, object] = {}
    for version in versions:
        metadata |= version.metadata
        for field in version.__struct_fields__:
            value = getattr(version, field)
            if value is not None and value != [] and field not in {"metadata", "seen_ns"}:
                whole[field] = value
    starts = [version.start_ns for version in versions if version.start_ns is not None]
    if starts:
        whole["start_ns"] = min(starts)
    whole["content_level"] = max(version.content_level for version in versions)
    return SessionRecord(**(whole | {"metadata": metadata}))  # type: ignore[arg-type]


@given(VERSIONS, st.randoms())
def test_rows_merge_one_by_one_to_the_same_with_repetitions(fields: list[dict[str, object]], chance: object) -> None:
    """As a store does it: what is there, and one version more, again and again."""
    versions = versions_of(fields)
    mixed = [*versions, *versions]
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    row: Row | None = None
    for version in mixed:
        row = merged_row(SESSIONS, row, version)
    assert row is not None
    assert record_of(SESSIONS, row, SessionRecord) == expected(versions)


@given(VERSIONS, st.randoms(), st.integers(0, 5))
def test_versions_that_come_together_merge_to_the_same_without_those_that_later_ones_cover(
    fields: list[dict[str, object]], chance: object, stored: int
) -> None:
    """Some are stored already, the others come in one batch."""
    mixed = versions_of(fields)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    kept: list[SessionRecord] = []
    for version in mixed[stored:]:
        add_version(kept, version)
    row: Row | None = None
    for version in [*mixed[:stored], *kept]:
        row = merged_row(SESSIONS, row, version)
    assert row is not None
    assert record_of(SESSIONS, row, SessionRecord) == expected(versions_of(fields))


def test_a_row_of_one_version_needs_no_stamps() -> None:
    session = SessionRecord(session_id="s", seen_ns=4, name="n", metadata={"k": 1})
    assert merged_row(SESSIONS, None, session)["stamps"] is None


def test_a_last_version_with_all_fields_needs_no_stamps() -> None:
    begun = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0, start_ns=5)
    ended = msgspec.structs.replace(begun, seen_ns=2, end_ns=9)
    first = merged_row(TIMESTEPS, None, begun)
    assert merged_row(TIMESTEPS, first, ended)["stamps"] is None


def test_recorded_requests_and_answers_come_back_byte_for_byte(
    url: str, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """Every recorded exchange: whatever providers and frameworks have sent."""
    store = deliver(url)
    made: dict[str, tuple[bytes, bytes]] = {}
    for exchange in corpus.load():
        request = msgspec.Raw(b"" if exchange.request is None else bytes(raw(exchange.request)))
        answer = exchange.body.strip().encode() if is_json(exchange.body) else b""
        record = records.call(
            api=exchange.endpoint,
            request=Request(body=request) if bytes(request) else Request(),
            response=Response(body=msgspec.Raw(answer)) if answer else None,
        )
        store.write(record)
        made[record.call_id] = (bytes(request), answer)
    reader = store.read()
    found = {
        one.call_id: (bytes(one.request.body), bytes(one.response.body) if one.response else b"")
        for one in reader.calls(CallFilter())
    }
    assert len(found) == len(corpus.load())
    assert found == made


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True


@pytest.mark.parametrize("name", ["vllm", "openai"])
def test_token_ids_and_log_probabilities_stay_with_the_answer(
    url: str, deliver: Callable[[str], Delivery], records: Records, name: str
) -> None:
    """There is no table of them: the body holds them exactly."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    more: dict[str, object] = {
        "vllm": {"token_ids": [1, 2, 3], "logprobs": None},
        "openai": {"logprobs": {"content": [{"token": "Hi", "logprob": -0.12345678901234567, "bytes": [72, 105]}]}},
    }[name]
    body = raw({"choices": [choice | more], "prompt_token_ids": [5, 6]})
    store = deliver(url)
    made = records.call(response=Response(body=body))
    store.write(made)
    found = store.read().call(made.call_id)
    assert found is not None
    assert found.response is not None
    assert bytes(found.response.body) == bytes(body)
