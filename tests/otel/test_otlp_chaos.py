"""Spans behind a receiver that fails in every way, of processes that are killed: each arrives, or is counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from callspan.spool.losses import read_losses
from callspan.stores import CallFilter
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider
from tests.otel.unreliable_receiver import FAULTS, UnreliableReceiver
from tests.scale import scaled

pytestmark = [pytest.mark.timeout(1800)]
SPANS = scaled(20_000, 200_000)
WRITER = """
import sys
import openai
import callspan

provider, stores, spool, returned, number = sys.argv[1:]
callspan.instrument(stores=stores.split(), spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)
written = open(returned, "a", buffering=1)
for episode in range(int(number)):
    with callspan.session("s", session_id=f"{returned}-{episode}") as session:
        for turn in range(2):
            with session.timestep("t") as step:
                for name in range(7):
                    with step.tool(f"tool {name}") as tool:
                        tool.result = name
                    written.write(tool._span.span_id + "\\n")
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
                written.write(callspan.last_call_id() + "\\n")
            written.write(step._span.span_id + "\\n")
    written.write(session._span.span_id + "\\n")
"""
SPAN_DIGITS = 16
PER_SESSION = 1 + 2 * (1 + 7 + 1)


def test_every_span_of_what_had_returned_arrives(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Once, or again with the same bytes, and with every parent; SQLite has its records meanwhile."""
    provider.reply(text="I am well.", repeat=True)
    chance = random.Random(7)
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3"}
    with UnreliableReceiver(7, hang_s=0.5) as receiver:
        stores = f"sqlite:///{tmp_path}/calls.db {receiver.url}"

        def writer(number: int, episodes: int) -> subprocess.Popen[bytes]:
            given = [
                provider.openai_url,
                stores,
                str(tmp_path / "spool"),
                str(tmp_path / f"{number}.ids"),
                str(episodes),
            ]
            return subprocess.Popen([sys.executable, "-c", WRITER, *given], env=environment)

        receiver.faulty = 0.5
        killed = [writer(number, 10_000) for number in range(4)]
        time.sleep(4)
        for process in killed:
            time.sleep(chance.random())
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = sum(len(path.read_text().split()) for path in tmp_path.glob("*.ids"))
        rest = max(1, (SPANS - done) // PER_SESSION // 2 + 1)
        whole = [writer(4 + number, rest) for number in range(2)]
        assert [process.wait() for process in whole] == [0, 0]
        receiver.faulty = 0.0
        named = {"CALLSPAN_SPOOL_DIR": str(tmp_path / "spool"), "CALLSPAN_STORES": stores.replace(" ", ",")}
        ship = [Path(sys.executable).with_name("callspan"), "ship"]
        shipped = subprocess.run(ship, env=environment | named, capture_output=True, text=True, check=False)
        assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    lines = {line for path in tmp_path.glob("*.ids") for line in path.read_text().split()}
    returned = {line for line in lines if len(line) == SPAN_DIGITS}
    assert len(lines) >= SPANS
    assert returned - receiver.spans.keys() == set()
    assert set(receiver.parents.values()) - receiver.spans.keys() == set()
    assert receiver.changed == []
    assert set(FAULTS) <= receiver.met.keys()
    with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
        calls = {call.call_id: call.span_id for call in reader.calls(CallFilter())}
    assert lines - returned <= calls.keys()
    assert set(calls.values()) <= receiver.spans.keys()


def test_what_a_full_disk_takes_from_a_receiver_is_counted(provider: ScriptedProvider, tmp_path: Path) -> None:
    """What had returned arrives, or is counted as lost for the receiver; SQLite, on another disk, has all."""
    provider.reply(text="I am well.", repeat=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=False).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    try:
        with UnreliableReceiver(7, hang_s=0.5) as receiver:
            receiver.faulty = 1.0
            stores, spool = f"sqlite:///{tmp_path}/calls.db {receiver.url}", disk / "spool"
            environment = {**os.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3", "CALLSPAN_SPOOL_DIR": str(spool)}
            given = [provider.openai_url, stores, str(spool), str(tmp_path / "0.ids"), "120"]
            written = subprocess.run([sys.executable, "-c", WRITER, *given], env=environment, check=True)
            receiver.faulty = 0.0
            environment |= {"CALLSPAN_STORES": stores.replace(" ", ","), "OTEL_EXPORTER_OTLP_TIMEOUT": "10"}
            ship = [Path(sys.executable).with_name("callspan"), "ship"]
            subprocess.run(ship, env=environment, check=True)
        # Of what SQLite was given while the process ended, nobody knew whether it has it: lost for all, if not.
        every = read_losses(spool).each()
        lost = [loss for fate, _, loss in every if fate == "dropped" or loss.name == receiver.url]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert written.returncode == 0
    with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
        calls = {call.call_id: str(call.span_id) for call in reader.calls(CallFilter())}
    lines = set((tmp_path / "0.ids").read_text().split())
    assert {line for line in lines if len(line) != SPAN_DIGITS} <= calls.keys()
    assert 0 < sum(ident not in receiver.spans for ident in calls.values()) <= sum(loss.calls for loss in lost)
    assert any(loss.sessions and loss.timesteps for loss in lost)
    # A session's span is a record of its own: where there was room only for the other, it counts as another record.
    lacking = {line for line in lines if len(line) == SPAN_DIGITS} - receiver.spans.keys()
    assert len(lacking) <= sum(loss.records for loss in lost)
    assert receiver.changed == []
