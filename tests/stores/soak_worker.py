"""A worker of the soak and of the chaos: makes calls in sessions and notes each one that has returned.

Run as a script: soak_worker.py soak|chaos STORES SPOOL PROVIDER NOTES NAME. SIGUSR1 reloads, SIGTERM ends it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai

import callspan

CAPS = {"soak": 700_000, "chaos": 1 << 30}
"""Size limits of the spool, which a soak reaches in each outage."""
PAUSES_S = {"soak": 0.11, "chaos": 0.0}
"""Pauses between two calls; those of the soak leave the machine to others."""
READ_EVERY_S = 30.0
FILLING = "filling " * 400


class Worker:
    """The clients, the settings and the notes of one worker."""

    def __init__(self, mode: str, stores: str, spool: str, provider: str, notes: Path, name: str) -> None:
        self.mode, self.stores, self.spool = mode, stores, spool
        self.name = f"{name}-{os.getpid()}"
        self.openai = openai.OpenAI(base_url=f"{provider}/v1", api_key="k", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=provider, api_key="k", max_retries=0)
        self.signals: set[int] = set()
        self._count = 0
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda received, _: self.signals.add(received))
        self.instrument()
        # Its existence shows that signals are handled.
        self._file = os.open(notes / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def instrument(self) -> None:
        cap = CAPS[self.mode]
        callspan.instrument(stores=self.stores, spool_dir=self.spool, spool_max_bytes=cap, flush_on_sigterm=False)

    def work(self) -> None:
        """Play sessions until the end and read at times; close the stores and open them again when told to reload."""
        read_at = time.monotonic()
        while signal.SIGTERM not in self.signals:
            self.episode()
            if self.mode == "chaos":
                self.background()
            if signal.SIGUSR1 in self.signals:
                self.signals.remove(signal.SIGUSR1)
                callspan.uninstrument()
                self.instrument()
            if time.monotonic() >= read_at:
                read_at = time.monotonic() + READ_EVERY_S
                with closing(callspan.open_store(self.stores.split(",")[0])) as reader:
                    next(iter(reader.calls()), None)

    def episode(self) -> None:
        """Play one session of a few steps."""
        key, begun_ns = self.key(), time.time_ns()
        with callspan.session("soak", session_id=key):
            for _ in range(4):
                with callspan.timestep():
                    self.call()
                time.sleep(PAUSES_S[self.mode])
        self.note("session", key, begun_ns)

    def call(self) -> None:
        key, begun_ns = self.key(), time.time_ns()
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"{key} {FILLING}"}]}
        stream = self._count % 3 == 0
        with callspan.metadata(run_id=key):
            if self._count % 2:
                answer: Any = self.openai.chat.completions.create(**asked, stream=stream)
            else:
                answer = self.anthropic.messages.create(**asked, max_tokens=9, stream=stream)
            if stream:
                list(answer)
        self.note("call", key, begun_ns)

    def background(self) -> None:
        key, begun_ns = self.key(), time.time_ns()
        with callspan.metadata(run_id=key):
            answer = self.openai.responses.create(model="m", input=f"{key} {FILLING}", background=True)
        while answer.status not in ("completed", "failed"):
            answer = self.openai.responses.retrieve(answer.id)
        self.note("call", key, begun_ns)

    def key(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def note(self, kind: str, key: str, begun_ns: int) -> None:
        """Note a returned call; the operating system has the note on return."""
        os.write(self._file, f"{kind} {key} {begun_ns} {time.time_ns()}\n".encode())


if __name__ == "__main__":
    mode, stores, spool, provider, notes, name = sys.argv[1:]
    Worker(mode, stores, spool, provider, Path(notes), name).work()
