"""Privacy and size: excluded content is nowhere, and large content stays within its limits."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from hypothesis import given
from hypothesis import strategies as st

from callspan import Handle
from callspan.record.codec import encode_json
from callspan.records import encode
from callspan.settings_loader import load
from callspan.stores import CallFilter, Reader
from callspan.testing import capture
from tests.e2e.ask import chat
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode
from tests.processed import everywhere

SECRET = "open sesame"
MESSAGES: list[Any] = [{"role": "user", "content": SECRET}]


def test_a_thousand_messages_are_a_short_record_in_metadata_mode(mode: Mode, run: Run) -> None:
    """Their number and roles, their size and hash; not one of their words."""
    many: list[Any] = [{"role": "user", "content": f"{SECRET} {number} " * 20} for number in range(1000)]
    with capture(content="metadata") as seen:
        run(lambda: mode.wait(chat(mode, messages=many)))
        record, texts = the_call(seen), everywhere(seen)
    assert "sesame" not in texts
    assert (record.request.message_count, record.request.roles) == (1000, ["user"] * 1000)
    assert len(encode(record)) < (record.request.body_bytes or 0) / 20
    (note, *_) = record.redactions
    assert (note.what, note.original_bytes) == ("request.body", record.request.body_bytes)
    assert note.sha256 == hashlib.sha256(mode.provider.requests[0].content).hexdigest()


def test_records_without_bodies_can_be_requested(
    mode: Mode, run: Run, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """In metadata mode no body is kept, and calls are found by model, time and outcome, and added up, as ever."""
    handle = instrumented(content="metadata", stores=f"sqlite:///{tmp_path}/calls.db")
    mode.provider.reply(input_tokens=11)
    run(lambda: mode.wait(chat(mode, messages=MESSAGES)))
    assert handle.force_flush(60_000)
    reader = reading(tmp_path / "calls.db")
    (record,) = reader.calls(CallFilter(model="gpt-5", errors=False, since_ns=1))
    assert not bytes(record.request.body)
    assert record.response is not None
    assert not bytes(record.response.body)
    assert [one.input_tokens for one in reader.summary("model")] == [11]
    assert b"sesame" not in (tmp_path / "calls.db").read_bytes()


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: object


class Model(pydantic.BaseModel):
    x: Any = None


class Broken:
    """An object nothing can be asked of."""

    def __repr__(self) -> str:
        raise RuntimeError("broken")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("broken")


def cycle() -> list[object]:
    turning: list[object] = []
    turning.append(turning)
    return turning


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.datetimes(),
    st.dates(), st.uuids(), st.just(Colour.RED), st.builds(Broken), st.builds(cycle), st.just("half \ud800 a pair"),
    st.sampled_from([np.float64(1.5), np.array([1, 2]), np.float32("nan"), np.int64(3)]),
    st.just(dt.timedelta(seconds=1)), st.just(Decimal("NaN")), st.just(object), st.just(len),
)  # fmt: skip
MIXED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text() | st.integers(), inner, max_size=4),
        st.tuples(inner, inner), st.builds(Point, inner), st.builds(Model, x=inner),
        st.frozensets(st.integers() | st.text(), max_size=3),
    ),
    max_leaves=12,
)  # fmt: skip


@given(MIXED)
def test_any_objects_become_json(value: object) -> None:
    """Dataclasses, models, times, numbers, arrays, cycles, half characters, broken objects: JSON, and no exception."""
    json.loads(encode_json(value))


def test_settings_show_no_password() -> None:
    """What is printed for debugging names the store and hides what opens it."""
    settings = load({"stores": "postgresql://ann:pass-word-7@host/db?password=pass-word-8"}, environment={})
    assert settings.stores == ("postgresql://ann:pass-word-7@host/db?password=pass-word-8",)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "pass-word" not in text
        assert "ann" not in text
        assert "host/db" in text
        assert "content='full'" in text
