"""The first calls of a process are made by several threads at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

PROGRAM: Final = """
import contextlib
import sys
import threading
import anthropic
import openai
import callspan
from callspan.testing import ScriptedProvider

sys.setswitchinterval(1e-6)
messages = [{"role": "user", "content": "Hi"}]
with ScriptedProvider() as provider:
    provider.reply(text="I am well.", repeat=True)
    chat = openai.OpenAI(api_key="k", base_url=provider.openai_url).chat.completions.create
    ask = anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url).messages.create
    handle = callspan.instrument(stores="sqlite:///calls.db")
    barrier = threading.Barrier(8)

    def call(create, **given):
        barrier.wait()
        create(model="m", messages=messages, **given)

    threads = [threading.Thread(target=call, args=[chat]) for _ in range(4)]
    threads += [threading.Thread(target=call, args=[ask], kwargs={"max_tokens": 9}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.force_flush()
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    print(*(f"{call.outcome} {call.usage is not None}" for call in store.calls()), sep="\\n")
"""


def test_first_calls_of_several_threads_at_once_are_recorded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["success True"] * 8
