"""Calls over websockets where the process forks, ends, is killed or interrupted; their memory.

One connection receives 16,000 messages in a row, at full scale 400,000: more than two hours at 50 a second.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.conftest import Read
from tests.support import realtime_server as voice
from tests.support import sdks
from tests.support.processes import ran
from tests.support.scale import scaled
from tests.support.socket_script import serving

from callspan.testing import Capture, ScriptedProvider

pytest.importorskip("websockets")
SOAK = scaled(16_000, 400_000)

PROGRAM = """
import os, signal, sys, time
import openai
import callspan

url, surface, last, end = sys.argv[1:]
# With an exporter, an open call is ended before SIGTERM ends the process.
callspan.instrument(stores="sqlite:///calls.db", otlp="http://127.0.0.1:9" if end == "term" else None)
client = openai.OpenAI(api_key="k", base_url=url, websocket_base_url=url.replace("http", "ws"))
connect = getattr(client, surface).connect
connection = (connect(model="gpt-realtime") if surface == "realtime" else connect()).enter()

def until(kind):
    while connection.recv().type != kind:
        pass

if surface == "responses":
    connection.send({"type": "response.create", "model": "m", "input": "Hi"})
until(last)
if end == "close and kill":
    connection.close()
if end.endswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
if end == "term":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(300)
if end == "fork":
    if os.fork() == 0:
        del connection
        sys.exit(0)
    os.wait()
    until("response.completed")
"""


def events_of(text: str, number: int) -> list[dict[str, Any]]:
    """A response of so many pieces of a text."""
    content = [{"type": "output_text", "text": text * number, "annotations": []}]
    output = [{"type": "message", "id": "m", "role": "assistant", "content": content}]
    usage = {"input_tokens": 3, "output_tokens": number, "total_tokens": 3 + number}
    return voice.written("resp_1", *[text] * number, output=output, usage=usage)


DELTA = "response.output_text.delta"
SCRIPTS: dict[str, list[Any]] = {
    "responses": ["recv", *events_of("one ", 3)],
    "realtime": [voice.session(), *voice.answer("resp_1", "Hi.")],
    "live": [voice.started(), voice.heard("output", "Hi."), voice.closed(seconds=4)],
}
ENDS: list[tuple[str, str, str, tuple[str, str | None, str | None]]] = [
    # kind of connection, the last event that is read, the end of the process: outcome, end of the stream, text
    ("responses", DELTA, "return", ("cancelled", "closed", "one ")),
    ("responses", DELTA, "term", ("cancelled", "closed", "one ")),
    ("responses", DELTA, "fork", ("success", "complete", "one one one ")),
    ("responses", DELTA, "close and kill", ("cancelled", "closed", "one ")),
    ("responses", DELTA, "kill", ("interrupted", None, None)),
    ("responses", "response.completed", "kill", ("success", "complete", "one one one ")),
    ("realtime", "response.output_audio.delta", "kill", ("interrupted", None, None)),
    ("realtime", "response.done", "kill", ("success", "complete", "Hi.")),
    ("live", "session.output_transcript.delta", "kill", ("interrupted", None, None)),
    ("live", "session.closed", "kill", ("success", "complete", "Hi.")),
]


@pytest.mark.parametrize(("surface", "last", "end", "expected"), ENDS)
def test_call_is_recorded_once_on_any_process_end(
    surface: str, last: str, end: str, expected: tuple[str, str | None, str | None], tmp_path: Path, reading: Read
) -> None:
    """The id of a live session is the provider's: what two processes see of it is one row."""
    if surface == "live":
        sdks.needs("openai", "3.50", "live.connect")
    code = -signal.SIGKILL if end.endswith("kill") else -signal.SIGTERM if end == "term" else 0
    with serving(SCRIPTS[surface]) as part:
        for _ in range(2 if surface == "live" else 1):
            arguments = ("-W", "ignore::DeprecationWarning", "-c", PROGRAM, part.url, surface, last, end)
            ran(*arguments, cwd=tmp_path, code=code)
    (call,) = reading(tmp_path / "calls.db").calls()
    assert (call.api, (call.outcome, call.stream and call.stream.end, call.text)) == (surface, expected)


def create(connection: Any) -> None:
    connection.send({"type": "response.create", "model": "gpt-5", "input": "Hi"})


class _ImpatientError(Exception):
    """What the application's time limit raises."""


@pytest.mark.skipif(sdks.version("websockets") < (14,), reason="websockets 13 cannot receive after an interrupted wait")
def test_application_timeout_interrupts_only_a_wait(
    provider: ScriptedProvider, client: openai.OpenAI, seen: Capture, request: pytest.FixtureRequest
) -> None:
    provider.reply(text="Hi.")
    provider.reply(text="one two three", chunk_delay_s=0.05)

    def expired(*_: object) -> None:
        raise _ImpatientError

    request.addfinalizer(partial(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, expired)))
    interrupted = 0
    with client.responses.connect() as connection:
        create(connection)
        while connection.recv().type != "response.completed":  # the first events take the SDK a second
            pass
        create(connection)
        kind = None
        while kind != "response.completed":
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            try:
                kind = connection.recv().type
            except _ImpatientError:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    assert interrupted
    assert [(call.outcome, call.text) for call in seen.records] == [("success", "Hi."), ("success", "one two three")]


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(0)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("surface", "options"), [("responses", {}), ("realtime", {"model": "gpt-realtime"})])
def test_memory_is_constant_over_many_messages(surface: str, options: dict[str, str], seen: Capture) -> None:
    from websockets.sync.server import serve

    # Short ones: at full scale half of them fills what the process remembers of its last 4,096 calls, and its heap.
    spoken = [*voice.speech("item_u"), *voice.transcribed("item_u", "Hello."), *voice.answer("resp_1", *["word "] * 10)]
    events = events_of("word ", 10) if surface == "responses" else spoken
    response = [json.dumps(event) for event in events]

    def play(connection: Any) -> None:
        for number, _ in enumerate(connection):
            for message in response:
                connection.send(message.replace('_1"', f'_{number}"').replace('item_u"', f'item_u{number}"'))

    held = []
    with serve(play, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/v1"
        with openai.OpenAI(api_key="k", base_url=url) as client, getattr(client, surface).connect(**options) as socket:
            for number in range(-(-SOAK // len(response))):
                create(socket)
                for _ in response:
                    socket.recv_bytes()
                assert seen.records[-1].text == "word " * 10, "recorded before its last message is returned"
                assert len(seen.records) == (1 if surface == "responses" else 2), "and a transcription"
                seen._exporter.clear()
                seen._all.clear()
                if number % 100 == 99:
                    held.append(resident())
    print(*(f"{one / 2**20:.1f}" for one in held[:: max(1, len(held) // 8)]), "MiB")
    assert held[-1] - held[len(held) // 2] < 2 << 20, held
