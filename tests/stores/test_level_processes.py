"""What one process began with content off, and another one completes, stays off: the level is read from the store."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import openai
import pytest

from callspan.records import encode
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.timeout(300),  # two processes, one after the other
    pytest.mark.skipif(not hasattr(openai.OpenAI, "responses"), reason="needs the Responses API"),
]
SECRET = "open sesame"
PROCESS = """
    import json, sys
    from pathlib import Path
    import anthropic, callspan, openai
    store, url, spool, job, secret, what = sys.argv[1:]
    handle = callspan.instrument(stores=store, spool_dir=spool)
    of_openai = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)
    batches = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0).messages.batches
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": secret}]}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked}).encode()
    if what == "begin":
        with callspan.content("off"), callspan.session("tenant", session_id="tenant") as session:
            carrier = session.carrier()
            answer = of_openai.responses.create(model="m", input=secret, background=True)
            lines = batches.create(requests=[{"custom_id": "a", "params": asked}])
            file = of_openai.files.create(file=("in.jsonl", line), purpose="batch")
        batch = of_openai.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        Path(job).write_text(json.dumps([carrier, answer.id, lines.id, batch.id]))
    else:
        carrier, answer, lines, batch = json.loads(Path(job).read_text())
        for _ in range(3):
            of_openai.responses.retrieve(answer)
        batches.retrieve(lines)
        list(batches.results(lines))
        for _ in range(2):
            found = of_openai.batches.retrieve(batch)
        of_openai.files.content(found.output_file_id)
        callspan.reward(1.0, session_id="tenant", annotation=secret)
        with callspan.session(carrier=carrier) as session:
            session.event("seen", secret)
    assert handle.force_flush(100_000)
"""


def test_another_process_reads_the_level_from_the_store(provider: ScriptedProvider, url: str, tmp_path: Path) -> None:
    """Each process has a spool of its own. All is there but the content."""
    for what in ("begin", "read"):
        for _ in range(3):
            provider.reply(text=SECRET, polls=1)
        given = [url, provider.url, str(tmp_path / what), str(tmp_path / "job"), SECRET, what]
        subprocess.run([sys.executable, "-c", textwrap.dedent(PROCESS), *given], check=True)
    with closing(open_store(url)) as reader:
        calls, events = list(reader.calls()), list(reader.events("tenant"))
        (session,) = reader.sessions()
    assert [(call.outcome, call.content_level) for call in calls] == [("success", "off")] * 3
    assert all(call.usage is not None for call in calls)
    assert session.session.content_level == "off"
    assert len(events) == 2
    assert SECRET not in "".join(encode(record).decode() for record in [*calls, *events])
    assert json.loads((tmp_path / "job").read_text())[0]["callspan-session-content"] == "off"
