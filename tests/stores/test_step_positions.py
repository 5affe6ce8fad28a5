"""Steps of a conversation that several processes serve: each counts an index of its own, readers count positions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

from tests.reports.reading import data

from callspan.datasets import export
from callspan.datasets.exporting import table_rows
from callspan.datasets.selection import Options, Selection, Statistics, episodes
from callspan.stores.urls import open_store

from .conftest import run

_WORKER = """
    import sys
    import callspan
    from datetime import datetime, timedelta, timezone
    store, spool, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
    handle = callspan.instrument(stores=store, spool_dir=spool)
    with callspan.session("chat", session_id="chat"):
        for place in (first, first + 2):
            at = datetime(2026, 11, 20, tzinfo=timezone.utc) + timedelta(seconds=place)
            with callspan.timestep(turn=7, at=at):
                body = {"model": "m", "messages": [{"role": "user", "content": f"message {place}"}]}
                answer = {"role": "assistant", "content": f"answer {place}"}
                with callspan.record_call(provider="mine", api="chat_completions") as call:
                    call.request(body)
                    call.response({"id": f"r{place}", "model": "m",
                                   "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]})
    assert handle.force_flush(100_000)
"""


def test_steps_are_numbered_by_their_position_whatever_process_began_them(url: str, tmp_path: Path) -> None:
    for first in (0, 1):
        arguments = [sys.executable, "-c", textwrap.dedent(_WORKER), url, str(tmp_path / "spool"), str(first)]
        subprocess.run(arguments, check=True, timeout=120)
    with closing(open_store(url)) as reader:
        steps = list(reader.timesteps("chat"))
        positions = reader.step_positions(["chat", "no such session"])
        assert [step.index for step in steps] == [0, 0, 1, 1]
        assert [positions[step.timestep_id] for step in steps] == [0, 1, 2, 3]
        table = table_rows(episodes(reader, Selection(), Statistics()), Options(), Statistics())
        assert [row["timestep_position"] for row in table] == [0, 2, 1, 3]
        export(reader, "atif", tmp_path / "atif.jsonl")
    shown = json.loads(run(url, "show", "chat", "--json"))["steps"]
    assert [(one["position"], one["index"], one["turn"]) for one in shown] == [
        (0, 0, 7), (1, 0, 7), (2, 1, 7), (3, 1, 7)
    ]  # fmt: skip
    assert [[call["timestep_position"] for call in one["calls"]] for one in shown] == [[0], [1], [2], [3]]
    calls = json.loads(run(url, "calls", "--json", "--reverse"))
    assert [(one["response_id"], one["timestep_position"]) for one in calls] == [
        ("r0", 0), ("r2", 2), ("r1", 1), ("r3", 3)
    ]  # fmt: skip
    assert re.findall(r"step (\d)", run(url, "show", "chat")) == ["0", "1", "2", "3"]
    assert re.findall(r"step (\d)", run(url, "show", "chat", "--limit", "1", "--offset", "3")) == ["3"]
    assert "(chat, step 2)" in run(url, "show", calls[1]["call_id"])
    assert json.loads(run(url, "show", calls[1]["call_id"], "--json"))["timestep_position"] == 2
    exported = json.loads((tmp_path / "atif.jsonl").read_text())["steps"]
    assert [one["extra"]["timestep_position"] for one in exported if one["source"] == "agent"] == [0, 2, 1, 3]
    run(url, "report", "-o", str(tmp_path / "report.html"))
    ((_, (page,)),) = data((tmp_path / "report.html").read_text())["pages"]
    assert [step["position"] for step in page["steps"]] == [0, 1, 2, 3]
