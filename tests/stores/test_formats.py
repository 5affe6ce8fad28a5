"""A store of another format is refused by one sentence, and never changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.commands import callspan

from callspan import erase, open_store
from callspan.records import FORMAT, OtherFormatError, encode
from callspan.safe_urls import safe_name
from callspan.spool.directory import create, directory_of, keys_of
from callspan.spool.segment import Segment
from callspan.stores import CallFilter, find_store
from callspan.stores.spools import target_of

from .conftest import Delivery, Records

OTHERS = [1, FORMAT - 1, FORMAT + 1]
SENTENCE = (
    "{} has format {}, this callspan has format {}: move it away, or read it with the version that wrote it"
    " (callspan export)"
)
OF_FILES = "{0} has another layout; load it into a new file: callspan import {0} --into "


def run_postgres(url: str, other: int) -> Callable[[], object]:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE callspan_layout SET version = %s", (other,))

    def content() -> object:
        with psycopg.connect(url) as connection:
            sql = "SELECT (SELECT count(*) FROM calls), (SELECT max(version) FROM callspan_layout)"
            return connection.execute(sql).fetchone()

    return content


def run_sqlite(url: str, other: int) -> Callable[[], object]:
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
    return path.read_bytes


MAKE = {"sqlite": run_sqlite, "postgresql": run_postgres}


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_of_another_format_is_refused_and_not_changed(
    url: str, records: Records, deliver: Callable[[str], Delivery], other: int
) -> None:
    """By writers, readers, the removal of records and the test of `doctor`."""
    store = deliver(url)
    store.write(records.call())
    store.close()
    content = MAKE[url.partition(":")[0]](url, other)
    before = content()
    place = url.partition(":///")[2] if url.startswith("sqlite") else safe_name(url)
    sentence = (OF_FILES if url.startswith("sqlite") else SENTENCE).format(place, other, FORMAT)
    found = find_store(url)
    attempts: list[Callable[[], Any]] = [
        found.sink().open, lambda: open_store(url), lambda: found.try_out(records.session()),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(OtherFormatError) as refused:
            attempt()
        assert str(refused.value).startswith(sentence)
    receipt = erase(url, CallFilter(user="u1"))
    by_id = erase(url, calls=["c"])
    rewarded = CliRunner().invoke(callspan, ["--store", url, "calls", "--rewards"])
    assert rewarded.exit_code == 2
    for one in (receipt.stores[0].left, by_id.stores[0].left, rewarded.output.replace("\n", " ")):
        assert sentence in str(one)
    assert content() == before


def segment_of(url: str, root: Path, payload: bytes) -> Path:
    """Leave a segment with one record for a store, and return it."""
    target = target_of(find_store(url))
    directory = directory_of(root, [target])
    create(directory, [target])
    segment = Segment.create(directory, keys_of(directory))
    segment.append(payload, 0)
    segment.close()
    return segment.path


def test_erasing_takes_records_of_another_format_that_wait(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    deliver(url).write(records.call(call_id="c"))
    ours, theirs = (f'"schema_version":{number}'.encode() for number in (FORMAT, FORMAT - 1))
    payload = encode(records.call(call_id="c", answer="the canary"))
    assert ours in payload
    segment = segment_of(url, tmp_path / "calls.db.spool", payload.replace(ours, theirs))
    receipt = erase(url, calls=["c"])
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, True)
    assert b"canary" not in segment.read_bytes()


def test_erasing_leaves_segments_of_another_version_as_they_are_and_says_so(
    tmp_path: Path, records: Records, deliver: Callable[[str], Delivery]
) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    deliver(url).write(records.call(call_id="c"))
    ours = segment_of(url, tmp_path / "calls.db.spool", encode(records.call(call_id="c")))
    theirs = ours.rename(ours.with_name(ours.name.replace(".v1.", ".v2.")))
    before = theirs.read_bytes()
    receipt = erase(url, calls=["c"])
    assert (receipt.stores[0].calls, receipt.is_complete) == (1, False)
    assert theirs.name in str(receipt.stores[-1].left)
    assert theirs.read_bytes() == before
