"""A call that takes long is seen while it runs, and as interrupted once its process has died."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import openai
import pytest

from callspan.stores import StoreError
from callspan.testing import ScriptedProvider
from tests.conftest import Instrument, Read
from tests.support import sdks
from tests.support.processes import plain_environment
from tests.support.rig import until

pytestmark = pytest.mark.usefixtures("no_settings")

ASKING = """
import os, sys, callspan, openai
callspan.instrument(stores=sys.argv[1])
client = openai.OpenAI(api_key="k", base_url=sys.argv[2])
def ask(text): client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])
ask("short")
if sys.argv[3] == "child":
    ask("short again")
    if (child := os.fork()):
        print(child, flush=True)
        sys.exit(os.waitpid(child, 0)[1])
    ask("short too")
ask("long")
"""


@pytest.mark.parametrize("process", ["alone", "child"])
def test_a_long_call_is_in_progress_and_interrupted_once_its_process_is_killed(
    process: str, provider: ScriptedProvider, reading: Read, tmp_path: Path
) -> None:
    answered = 1 if process == "alone" else 3
    for _ in range(answered):
        provider.reply(text="At once.")
    provider.reply(hang=True)
    store = f"sqlite:///{tmp_path}/calls.db"

    def outcomes() -> list[str]:
        with suppress(StoreError):  # nothing is recorded yet
            return [call.outcome for call in reading(store).calls()]
        return []

    command = [sys.executable, "-c", ASKING, store, provider.openai_url, process]
    with subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        asking = running.pid if process == "alone" else int(running.stdout.readline())
        try:
            until(lambda: sorted(outcomes()) == ["in_progress", *["success"] * answered], 45)
        finally:
            subprocess.run(["kill", "-9", str(asking)], check=True)
    assert sorted(outcomes()) == ["interrupted", *["success"] * answered]
    (call,) = (call for call in reading(store).calls() if call.outcome == "interrupted")
    assert b'"long"' in bytes(call.request.body)
    assert call.span_id


@pytest.mark.parametrize("background", [False, True])
def test_its_answer_is_the_same_call(
    background: bool, provider: ScriptedProvider, instrumented: Instrument, reading: Read, tmp_path: Path
) -> None:
    """That of a background response has its id from the answer, so nothing is written before it."""
    sdks.needs("openai", "1.66", "the Responses API")
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = instrumented(stores=store)
    provider.reply(text="Late.", delay_s=1.3)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        client.responses.create(model="gpt-5", input="Hi", background=background)
    assert handle.force_flush(30_000)
    (call,) = reading(store).calls()
    assert call.outcome == ("in_progress" if background else "success")
