"""`export parquet --by day`, read by the programs that read lakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS

from callspan import SettingError, open_store
from callspan.datasets import Options, Statistics, export
from callspan.records import Timing
from callspan.stores import CallFilter

from .conftest import World

duckdb: Any = pytest.importorskip("duckdb")
polars: Any = pytest.importorskip("polars")

DAY = 24 * 3600 * SECOND
FIRST = START_NS // DAY * DAY
NAMES = [str(datetime.fromtimestamp(FIRST / SECOND + day * 86400, timezone.utc).date()) for day in range(3)]
DAYS = Options(by="day")
TOKENS: dict[str, Any] = {
    "body": {"prompt_token_ids": [1, 2], "usage": {"prompt_tokens": 2, "completion_tokens": 2}},
    "choice": {"token_ids": [7, 8], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}},
}


def at(day: float) -> Timing:
    return Timing(start_ns=int(FIRST + day * DAY), duration_ns=SECOND)


def talk(world: World, session_id: str, *days: float, **fields: Any) -> list[dict[str, Any]]:
    """A call on each day, which sends all that was said before."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Play."}]
    for turn, day in enumerate(days):
        messages.append({"role": "user", "content": f"{session_id} {turn}"})
        messages.append(world.chat(messages, f"Turn {turn}.", session_id, timing=at(day), **fields))
    return messages


@pytest.fixture
def write(world: World, tmp_path: Path) -> Callable[..., Statistics]:
    def run(target: Path, options: Options = DAYS, *, store: str = "w.db", **choice: Any) -> Statistics:
        with open_store(world.write(tmp_path / store)) as reader:
            return export(reader, "parquet", target, CallFilter(**choice), options)

    return run


Write = Callable[..., Statistics]


def conversations(lake: Path) -> dict[str, list[Any]]:
    """What each call sent and got, put together by DuckDB."""
    rows = duckdb.sql(
        f"""
        WITH sent AS (
          SELECT day, session_id, call_id, unnest(list_append(prompt_ids, answer_id)) AS message_id,
            generate_subscripts(list_append(prompt_ids, answer_id), 1) AS place
          FROM read_parquet('{lake}/calls/*/*.parquet', hive_partitioning = true))
        SELECT s.call_id, list(message ORDER BY place)
        FROM sent s JOIN read_parquet('{lake}/messages/*/*.parquet', hive_partitioning = true) m
          ON m.day = s.day AND m.message_id = s.message_id
        GROUP BY s.call_id
        """
    ).fetchall()
    return {call_id: [json.loads(message) for message in messages] for call_id, messages in rows}


def days(lake: Path) -> dict[str, int]:
    counted = polars.scan_parquet(lake / "calls").group_by("day").len().collect()
    return {str(day): count for day, count in counted.rows()}


def test_each_call_has_its_whole_conversation(world: World, write: Write, tmp_path: Path) -> None:
    world.session("s1", reward=0.5, metadata={"seed": 7})
    first = talk(world, "s1", 0.9, 0.95, 1.1, **TOKENS)
    world.session("s2")
    second = talk(world, "s2", 1.2)
    world.chat([{"role": "user", "content": "?"}], "!", timing=at(2.5))
    lake = tmp_path / "lake"
    assert write(lake).rows == 5
    assert days(lake) == {NAMES[0]: 2, NAMES[1]: 2, NAMES[2]: 1}, "UTC"
    loose = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    assert sorted(conversations(lake).values(), key=str) == sorted(
        [first[:3], first[:5], first, second, loose], key=str
    )
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in lake.rglob("*.parquet"))
    assert {path.name for path in lake.iterdir()} == {"calls", "messages"}


def test_values_keep_their_types(world: World, write: Write, tmp_path: Path) -> None:
    world.session("s1", reward=0.5, metadata={"seed": 7})
    talk(world, "s1", 0.5, **TOKENS)
    talk(world, "s2", 0.5, body={"prompt_token_ids": [2**40]}, choice={"token_ids": [1]})
    write(tmp_path / "lake")
    table = polars.read_parquet(tmp_path / "lake" / "calls")
    full, bare = table.sort("session_id").to_dicts()
    assert (full["prompt_token_ids"], full["answer_token_ids"], full["answer_logprobs"]) == (
        [1, 2],
        [7, 8],
        [-0.5, -0.25],
    )
    assert bare["prompt_token_ids"] is bare["answer_token_ids"] is bare["answer_logprobs"] is None, (
        "no token has this id"
    )
    assert (full["reward"], full["input_tokens"], full["cost_usd"]) == (0.5, 10, "0.001")
    assert json.loads(full["session_metadata"]) == {"seed": 7}
    assert (bare["reward"], bare["session_metadata"]) == (None, None)
    assert table.schema["day"] == polars.Date


def test_message_is_stored_once(world: World, write: Write, tmp_path: Path) -> None:
    world.session("s1")
    said = talk(world, "s1", *(turn / 1000 for turn in range(50)))
    write(tmp_path / "lake")
    messages = polars.read_parquet(tmp_path / "lake" / "messages")
    assert sorted(map(json.loads, messages["message"]), key=str) == sorted(said, key=str)


def test_long_conversation_costs_what_short_ones_do(world: World, write: Write, tmp_path: Path) -> None:
    """The bytes of a call: of 60 turns at once, and of sessions with 4 turns."""
    sizes = []
    for number, turns in ((1, 60), (15, 4)):
        world.records.clear()
        for session in range(number):
            world.session(f"s{session}")
            talk(world, f"s{session}", *(turn / 1000 for turn in range(turns)))
        lake = tmp_path / str(turns)
        assert write(lake, store=f"{turns}.db").rows == 60
        sizes.append(sum(file.stat().st_size for file in lake.rglob("*.parquet")))
    assert sizes[0] < sizes[1] * 1.5


def test_days_are_replaced_whole(world: World, write: Write, tmp_path: Path) -> None:
    world.session("s1")
    talk(world, "s1", 0.2, 0.6, 1.2)
    lake = tmp_path / "lake"
    write(lake)
    (lake / "calls" / f"day={NAMES[0]}" / "part-7.parquet").write_bytes(b"of an earlier export")
    world.session("s2")
    talk(world, "s2", 0.4)
    before = (lake / "calls" / f"day={NAMES[1]}" / "part-0.parquet").stat().st_mtime_ns
    written = write(lake, since_ns=int(FIRST + 0.5 * DAY), until_ns=int(FIRST + 0.7 * DAY))
    assert written.rows == 3, "the session began before, and has calls after"
    assert days(lake) == {NAMES[0]: 3, NAMES[1]: 1}
    assert (lake / "calls" / f"day={NAMES[1]}" / "part-0.parquet").stat().st_mtime_ns == before
    assert len(conversations(lake)) == 4
    assert write(lake, since_ns=FIRST + 9 * DAY).rows == 0
    assert days(lake) == {NAMES[0]: 3, NAMES[1]: 1}, "no rows replace nothing"
    assert write(lake, since_ns=FIRST + DAY).rows == 1, "a session that began the day before"


def test_failed_export_changes_nothing(
    world: World, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.session("s1")
    talk(world, "s1", 0.2)
    lake = tmp_path / "lake"
    write(lake)
    before = {file: file.read_bytes() for file in lake.rglob("*.parquet")}
    talk(world, "s1", 0.3, 0.4)
    with open_store(world.write(tmp_path / "w.db")) as reader:

        def interrupt(statistics: Statistics) -> None:
            if statistics.rows == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(reader, "parquet", lake, CallFilter(), DAYS, progress=interrupt)
    assert {file: file.read_bytes() for file in lake.rglob("*") if file.is_file()} == before
    assert {path.name for path in lake.iterdir()} == {"calls", "messages"}


def test_many_days_need_few_open_files(
    world: World, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sessions go over more days than may have open files."""
    monkeypatch.setattr("callspan.datasets.lake._OPEN_DAYS", 2)
    for session_id in ("s1", "s2"):
        world.session(session_id)
        talk(world, session_id, 0, 1, 2)
    lake = tmp_path / "lake"
    assert write(lake).rows == 6
    assert days(lake) == dict.fromkeys(NAMES, 2)
    first = lake / "calls" / f"day={NAMES[0]}"
    assert sorted(file.name for file in first.iterdir()) == ["part-0.parquet", "part-1.parquet"]
    write(lake, until_ns=FIRST + DAY)
    assert [file.name for file in first.iterdir()] == ["part-0.parquet"], "that of the earlier export is gone"
    assert days(lake) == dict.fromkeys(NAMES, 2)


@pytest.mark.parametrize(
    ("format_name", "options", "sentence"),
    [
        ("openai", DAYS, "by day applies only to parquet, not to openai"),
        ("parquet", Options(by="day", limit=1), "a limit would leave a part of a day"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    world: World, tmp_path: Path, format_name: str, options: Options, sentence: str
) -> None:
    with open_store(world.write(tmp_path / "w.db")) as reader, pytest.raises(SettingError, match=sentence):
        export(reader, format_name, tmp_path / "lake", options=options)


def test_command_writes_a_directory(world: World, tmp_path: Path) -> None:
    talk(world, "s1", 0.2, 1.2)
    url = world.write(tmp_path / "w.db")
    said = ask("--store", url, "export", "parquet", "-o", str(tmp_path / "lake"), "--by", "day")
    assert "2 rows written to" in said.out
    assert days(tmp_path / "lake") == {NAMES[0]: 1, NAMES[1]: 1}
    refused = ask("--store", url, "export", "parquet", "-o", "-", "--by", "day")
    assert (refused.code, "name it with -o DIR" in refused.err) == (2, True)
    taken = tmp_path / "file"
    taken.touch()
    assert ask("--store", url, "export", "parquet", "-o", str(taken), "--by", "day").code == 1
