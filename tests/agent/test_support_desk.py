"""The example of a web service with several agents: it runs offline, and its conversation is one session."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import callspan
from callspan.records import RewardRecord

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "support_desk.py"


def test_a_conversation_of_three_requests_is_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "I am sorry. (parcel 4711 is refunded)" in done.stdout
    with closing(callspan.open_store(f"sqlite:///{tmp_path}/callspan.db")) as reader:
        (summary,) = reader.sessions()
        events: list[Any] = list(reader.events("conversation-1"))
        turns = [step.turn for step in reader.timesteps("conversation-1")]
    assert (summary.session.session_id, summary.timesteps, summary.calls) == ("conversation-1", 3, 3)
    assert turns == [0, 1, 2]
    kinds = [
        (one.event_type, one.name)
        for one in events
        if getattr(one, "event_type", None) in {"agent", "guardrail", "handoff", "tool"}
    ]
    assert kinds == [
        ("guardrail", "personal data"), ("agent", "reception"),
        ("guardrail", "personal data"), ("handoff", "billing"), ("agent", "billing"), ("tool", "refund"),
        ("guardrail", "personal data"), ("agent", "reception"),
    ]  # fmt: skip
    (given,) = [one for one in events if isinstance(one, RewardRecord)]
    assert (given.objective, given.value, given.label, given.scope) == ("helpful", 1.0, "thumbs up", "session")
