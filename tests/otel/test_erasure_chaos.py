"""Sessions are erased while processes write, deliver, and are killed: no store has or gets anything of them again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import callspan
from callspan.stores import CallFilter
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider
from tests.otel.unreliable_receiver import UnreliableReceiver
from tests.scale import scaled

pytestmark = [pytest.mark.timeout(600)]
SEEDS: Final = range(scaled(1, 12))
ERASED: Final = scaled(10, 25)
TIME_LIMIT_S: Final = 0.3
WRITER = """
import random
import sys
import time
import openai
import callspan

provider, stores, spool, ended, name = sys.argv[1:]
chance = random.Random(name)
callspan.instrument(stores=stores.split(), spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)
with open(ended, "a", buffering=1) as written:
    for number in range(100_000):
        with callspan.session("s", session_id=f"<{name}-{number}>") as session:
            for turn in range(chance.randint(1, 3)):
                with session.timestep("t") as step:
                    for tool in range(chance.randint(0, 3)):
                        with step.tool("tool") as run:
                            run.result = f"found by {session.id}"
                    messages = [{"role": "user", "content": f"Hi from {session.id}"}]
                    client.chat.completions.create(model="m", messages=messages)
        written.write(session.id + "\\n")
        time.sleep(chance.random() * 0.1)
"""


class Writers:
    """Processes that record sessions until they are killed."""

    def __init__(self, place: Path, provider: ScriptedProvider, stores: list[str]) -> None:
        self._place, self._given = place, [provider.openai_url, " ".join(stores), str(place / "spool")]
        self._running: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._seen = 0

    def start(self) -> None:
        ended = self._place / f"{self._started}.ended"
        program = [sys.executable, "-c", WRITER, *self._given, str(ended), str(self._started)]
        environment = os.environ | {"OTEL_EXPORTER_OTLP_TIMEOUT": str(TIME_LIMIT_S)}
        self._running.append(subprocess.Popen(program, env=environment))
        self._started += 1

    def kill(self) -> None:
        """Kill the one that has run the longest."""
        process = self._running.pop(0)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        while self._running:
            self.kill()

    def ended(self) -> list[str]:
        """Return the ids of the sessions that have ended."""
        return [line for path in self._place.glob("*.ended") for line in path.read_text().split()]

    def more_ended(self) -> list[str]:
        """Return the same, when one more has ended than the last time."""
        while len(ended := self.ended()) <= self._seen:
            time.sleep(0.01)
        self._seen = len(ended)
        return ended


def _spans_of(session: str, receiver: UnreliableReceiver) -> set[str]:
    wanted = session.encode()
    return {ident for ident, encoded in list(receiver.spans.items()) if wanted in encoded}


def _names_of(session: str, receiver: UnreliableReceiver) -> set[str]:
    return {Span.FromString(receiver.spans[ident]).name for ident in _spans_of(session, receiver)}


def _erasures(chance: random.Random, writers: Writers, receiver: UnreliableReceiver) -> Iterator[str]:
    """Yield sessions to erase, mostly ones that have just ended, while nothing can arrive."""
    for _ in range(ERASED):
        receiver.faulty = chance.choice((0.0, 0.5, 1.0))
        time.sleep(chance.random() * 0.3)
        ended = writers.more_ended()
        receiver.refuse_all()
        yield chance.choice(ended[-4:] if chance.random() < 0.8 else ended)
        receiver.refuses_all = False
        if chance.random() < 0.1:
            writers.kill()
            writers.start()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_erased_stays_away(
    seed: int, provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    provider.reply(text="I am well.", repeat=True)
    arrived: dict[str, set[str]] = {}
    with ExitStack() as stack:
        receiver = stack.enter_context(UnreliableReceiver(seed, hang_s=TIME_LIMIT_S))
        files = [f"sqlite:///{tmp_path}/calls.db", f"jsonl:///{tmp_path}/calls.jsonl"]
        stores = [*files, receiver.url]
        writers = Writers(tmp_path, provider, stores)
        stack.callback(writers.kill_all)
        for _ in range(3):
            writers.start()
        for session in _erasures(random.Random(seed), writers, receiver):
            assert callspan.erase(stores, sessions=session).is_complete
            arrived.setdefault(session, _spans_of(session, receiver))
        writers.kill_all()
        receiver.faulty = 0.0
        monkeypatch.setenv("CALLSPAN_STORES", ",".join(stores))
        ship = [Path(sys.executable).with_name("callspan"), "ship"]
        shipped = subprocess.run(ship, capture_output=True, text=True, check=False)
        assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    kept = set(writers.ended()) - arrived.keys()
    assert len(arrived) >= ERASED // 2
    assert {session: _spans_of(session, receiver) for session in arrived} == arrived
    for url in files:
        with closing(open_store(url)) as reader:
            there = {str(call.place.session_id) for call in reader.calls(CallFilter())}
        assert not there & arrived.keys()
        assert kept <= there
    whole = {session for session in kept if "invoke_workflow s" in _names_of(session, receiver)}
    assert kept - whole == set()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".ended")
    assert [session for session in arrived if session.encode() in content] == []
