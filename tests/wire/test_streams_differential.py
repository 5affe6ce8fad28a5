"""What is recorded of a stream, against an oracle of its own and, where streams are generated, against the truth.

Of every recorded stream, and of thousands with the habits of servers: nothing twice, nothing lost.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import pytest
from tests.support import sdks
from tests.support.bodies import folded
from tests.support.scale import scaled
from tests.wire import corpus
from tests.wire.generated_streams import Stream, streams
from tests.wire.recorded_answers import NOTHING, read, truth
from tests.wire.sdk_snapshots import REFUSALS, snapshot, uses_each_index_once
from tests.wire.stream_oracle import Answer, answers

NUMBER = scaled(1500, 20_000)
SHARES = 4


def recorded(api: str, events: list[Any]) -> list[Answer]:
    return read(api, folded(api, *events))


@functools.cache
def generated() -> tuple[Stream, ...]:
    return tuple(streams(NUMBER))


@pytest.mark.parametrize("share", range(SHARES))
def test_generated_streams_are_recorded_as_written(share: int) -> None:
    wrong = []
    for stream in generated()[share::SHARES]:
        read, made = answers(stream.api, stream.events)[0], recorded(stream.api, stream.events)[0]
        written = truth(stream.pieces)
        if not read == made == written:
            wrong.append(f"{stream.api} {stream.habits}\n  wrote {written}\n  oracle {read}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} streams", *wrong[:12]])


def test_recorded_streams_match_the_oracle() -> None:
    chosen = [each for each in corpus.streams() if each.status == 200 and each.body.lstrip()[:1] != "{"]
    assert len(chosen) >= scaled(40, 150)
    wrong = []
    for each in chosen:
        events = list(corpus.chunks(each.body))
        read, made = answers(each.endpoint, events) or NOTHING, recorded(each.endpoint, events)
        if read != made:
            wrong.append(f"{each.id} {each.host}\n  oracle {read}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)} streams", *wrong])


def joined_by_sdk(api: str, events: list[Any]) -> list[Answer] | None:
    """What the SDK's helper makes of a stream; None if it refuses it."""
    try:
        return read(api, snapshot(api, events))
    except REFUSALS:
        return None


@pytest.mark.parametrize("share", range(SHARES))
def test_generated_streams_match_the_sdk_where_indexes_are_unique(share: int) -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    chosen = [each for each in generated()[share::SHARES] if uses_each_index_once(each.api, each.events)]
    wrong, compared = [], Counter[str]()
    for stream in chosen:
        joined, made = joined_by_sdk(stream.api, stream.events), recorded(stream.api, stream.events)
        compared[stream.api] += joined is not None
        if joined not in (None, made):
            wrong.append(f"{stream.api} {stream.habits}\n  sdk {joined}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} of {compared} streams", *wrong[:12]])
    assert min(compared.values()) >= NUMBER // SHARES // 200, compared
    assert len(compared) == 3


def test_recorded_streams_match_the_sdk_where_indexes_are_unique() -> None:
    sdks.needs("openai", "3.30", "what these answers need")
    wrong, compared = [], Counter[str]()
    for each in (each for each in corpus.streams() if each.status == 200 and each.body.lstrip()[:1] != "{"):
        events = list(corpus.chunks(each.body))
        if not uses_each_index_once(each.endpoint, events):
            continue
        joined, made = joined_by_sdk(each.endpoint, events), recorded(each.endpoint, events)
        compared[each.endpoint] += joined is not None
        if joined not in (None, made):
            wrong.append(f"{each.id} {each.host}\n  sdk {joined}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} of {compared} streams", *wrong])
    assert min(compared.values()) >= scaled(3, 15), compared
