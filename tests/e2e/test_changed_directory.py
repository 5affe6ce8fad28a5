"""A relative path of a store is that of the directory in which `instrument()` was called, whatever happens later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callspan.stores.urls import open_store

PROGRAM = """
import os, sys
import openai
import callspan
from callspan.testing import ScriptedProvider
early = sys.argv[1] == "after a call"
handle = callspan.instrument(stores="sqlite:///calls.db,jsonl:///calls.jsonl")
with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
    def call(model):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    if early:
        call("first")
        assert handle.force_flush()
    os.chdir(sys.argv[2])
    call("second")
    assert handle.force_flush()
    os.chdir("/")
    call("third")
    with callspan.session("s", session_id="one"):
        call("fourth")
    callspan.reward(1, session_id="one")
handle.uninstrument()
"""


@pytest.mark.parametrize("when", ["before a call", "after a call"])
def test_a_store_stays_where_it_was_named(when: str, tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    command = [sys.executable, "-c", PROGRAM, when, str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(other.iterdir()) == []
    calls = ["second", "third", "fourth"] if when == "before a call" else ["first", "second", "third", "fourth"]
    for name in ("calls.db", "calls.jsonl"):
        reader = open_store(home / name)
        assert sorted(call.request.model or "" for call in reader.calls()) == sorted(calls)
        (session,) = reader.sessions()
        assert session.reward == 1
        reader.close()
