"""A stream that is half read at exit is recorded as cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import callspan
from callspan.stores import CallFilter

PROGRAM = """
import os, sys
import openai
import callspan
from callspan.testing import ScriptedProvider

callspan.instrument(stores="sqlite:///calls.db")
provider = ScriptedProvider()
provider.reply(text="one two three four five six seven")
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
stream = client.chat.completions.create(model="m", messages=[], stream=True)
for _ in range(4):
    next(stream)
if sys.argv[1] == "fork" and os.fork() == 0:
    sys.exit(0)
if sys.argv[1] == "fork":
    os.wait()
if sys.argv[1] == "raise":
    raise RuntimeError("the application's own")
"""


@pytest.mark.parametrize("ending", ["return", "raise", "fork"])
def test_a_stream_half_read_at_exit_is_one_cancelled_call(ending: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ending], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
    )
    assert ("RuntimeError" in done.stderr) == (ending == "raise"), done.stderr
    store = callspan.open_store(f"sqlite:///{tmp_path / 'calls.db'}")
    (call,) = store.calls(CallFilter())
    store.close()
    assert call.outcome == "cancelled"
    assert call.stream is not None
    assert (call.stream.end, call.stream.chunks) == ("closed", 4)
    assert call.response is not None
    assert json.loads(bytes(call.response.body))["choices"][0]["message"]["content"]
