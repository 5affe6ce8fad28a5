"""A search of texts in SQLite finds what a scan of each call's messages finds, also while calls come and go."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan.stores import CallFilter, StoreError
from callspan.stores.sqlite import text_search
from callspan.stores.sqlite.reader import SQLiteReader
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS, Delivery, Records, delete_session

TEXTS = st.text("aAbB%_\\ \0\u00dfsSK\u017f\u212a\u0130i\u0131.e\u0301\u00e9\u20ac\U0001f600", min_size=1, max_size=8)
PARTS = st.text("aAbB%_\\ \u00dfsSK\u017f\u212a\u0130i\u0131.e\u0301\u00e9\u20ac\U0001f600", min_size=1, max_size=8)
"""Without NUL, which texts of answers have U+FFFD for."""
LONG = "Long text that is stored in two parts. " * 40


class Turn(NamedTuple):
    """One call of a conversation: what is new in it."""

    session: str
    question: str
    answer: str
    is_long: bool


TURNS = st.lists(st.builds(Turn, st.sampled_from(["one", "two"]), TEXTS, TEXTS, st.booleans()), min_size=1, max_size=6)


PAGES = st.builds(
    CallFilter,
    limit=st.integers(1, 4),
    offset=st.integers(0, 2),
    newest_first=st.booleans(),
    session_id=st.sampled_from([None, "one"]),
)
PATHS = st.fixed_dictionaries({"_FEW": st.sampled_from([0, 2, 99]), "MOST_LOOKUPS": st.sampled_from([0, 4, 99])})
"""Limits that decide how a part is looked for."""


@settings(max_examples=min(25, settings().max_examples), deadline=None)
@given(
    before=TURNS,
    after=TURNS,
    part=PARTS,
    deleted=st.sampled_from([None, "one", "two"]),
    limits=PATHS,
    page=PAGES,
)
def test_a_search_finds_what_a_scan_finds(
    before: list[Turn], after: list[Turn], part: str, deleted: str | None, limits: dict[str, int], page: CallFilter
) -> None:
    with TemporaryDirectory() as directory, patch.multiple(text_search, **limits):
        delivery, expected = Delivery(f"sqlite:///{Path(directory) / 'calls.db'}"), _Expected()
        expected.write(delivery, before)
        with contextlib.closing(open_store(delivery.url)) as reader:
            which, page = CallFilter(text=part), msgspec.structs.replace(page, text=part)
            assert {one.call_id for one in reader.calls(which)} == expected.calls_with(part)
            if deleted is not None:
                delete_session(delivery.url, deleted)
                expected.forget(deleted)
            expected.write(delivery, after)
            assert [one.call_id for one in reader.calls(page)] == expected.page(page)
            assert {one.call_id for one in reader.calls(which)} == expected.calls_with(part)
            assert reader.count_calls(which) == len(expected.calls_with(part))
            assert sum(one.calls for one in reader.summary("session", which)) == len(expected.calls_with(part))
        delivery.close()


def test_a_search_that_was_interrupted_anywhere_finds_all_the_next_time(tmp_path: Path) -> None:
    delivery, records = Delivery(f"sqlite:///{tmp_path / 'calls.db'}"), Records()
    delivery.write(*(records.call(answer=f"quick {number} \u00dcber") for number in range(5)))
    interrupted = 0
    for steps in itertools.count(1, 7):
        with contextlib.closing(SQLiteReader(tmp_path / "calls.db")) as reader:
            reader._connection.set_progress_handler(lambda: 1, steps)
            try:
                reader.count_calls(CallFilter(text="QUICK"))
            except (StoreError, sqlite3.OperationalError):
                interrupted += 1
            else:
                break
            reader._connection.set_progress_handler(None, 0)
            assert [reader.count_calls(CallFilter(text=part)) for part in ("QUICK", "\u00fcBER", "slow")] == [5, 5, 0]
    assert interrupted > 10
    delivery.close()


def test_each_character_that_folds_to_ascii_is_found(tmp_path: Path) -> None:
    delivery, records = Delivery(f"sqlite:///{tmp_path / 'calls.db'}"), Records()
    beyond = map(chr, range(0x80, sys.maxunicode + 1))
    pairs = {one: folded for one in beyond if any(map(str.isascii, folded := one.casefold()))}
    made = {one: records.call(answer=f"{number}: {one}") for number, one in enumerate(pairs)}
    delivery.write(*made.values())
    with contextlib.closing(open_store(delivery.url)) as reader:
        for number, (one, folded) in enumerate(pairs.items()):
            ascii_part = next("".join(run) for is_ascii, run in itertools.groupby(folded, str.isascii) if is_ascii)
            whole = f"{number}: {ascii_part}" if folded.startswith(ascii_part) else ascii_part
            found = {call.call_id for call in reader.calls(CallFilter(text=whole))}
            assert made[one].call_id in found, one
    delivery.close()


def test_case_folding_changes_no_character_above() -> None:
    above = "".join(map(chr, range(text_search._FOLDED, sys.maxunicode + 1)))
    assert above.casefold() == above


class _Expected:
    """What was said in each call."""

    def __init__(self) -> None:
        self._records = Records()
        self._histories: dict[str, list[dict[str, str]]] = {}
        self._texts: dict[str, tuple[str, list[str]]] = {}
        self._starts: dict[str, int] = {}
        self._since_s = 0.0

    def write(self, delivery: Delivery, turns: list[Turn]) -> None:
        """Deliver calls that send their session's history again."""
        for turn in turns:
            history = self._histories.setdefault(
                turn.session, [{"role": "system", "content": f"You are {turn.session}."}]
            )
            history.append({"role": "user", "content": LONG + turn.question if turn.is_long else turn.question})
            # Neither in the order of delivery nor all at different times.
            at_s = self._since_s + len(self._texts) * 3 % 5
            record = self._records.call(list(history), turn.answer, session_id=turn.session, at_s=at_s)
            self._starts[record.call_id] = record.timing.start_ns
            history.append({"role": "assistant", "content": turn.answer})
            self._texts[record.call_id] = turn.session, [message["content"] for message in history]
            delivery.write(record)

    def forget(self, session: str) -> None:
        """Leave a session out, whose history continues after that."""
        self._since_s = (time.time_ns() - START_NS) / SECOND + 60
        self._texts = {call_id: found for call_id, found in self._texts.items() if found[0] != session}

    def calls_with(self, part: str) -> set[str]:
        """The ids of the calls that hold the part."""
        wanted = part.casefold()
        return {
            call_id for call_id, (_, texts) in self._texts.items() if any(wanted in one.casefold() for one in texts)
        }

    def page(self, which: CallFilter) -> list[str]:
        """The ids of the calls of a page, in its order."""
        found = [
            call_id
            for call_id in self.calls_with(str(which.text))
            if which.session_id is None or self._texts[call_id][0] == which.session_id
        ]
        found.sort(key=lambda call_id: (self._starts[call_id], call_id), reverse=which.newest_first)
        return found[which.offset :][: which.limit]
