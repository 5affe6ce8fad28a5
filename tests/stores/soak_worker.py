"""A worker of the soak: makes calls in sessions and notes each one that has returned.

Run as a script: soak_worker.py STORES SPOOL PROVIDER NOTES NAME. SIGUSR1 reloads, SIGTERM ends it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anthropic
import openai

import callspan

CAP = 700_000
"""Size limit of the spool, which is reached in each outage."""
PAUSE_S = 0.11
"""Pause between two calls, to leave the machine to others."""
FILLING = "filling " * 400


class Worker:
    """The clients, the settings and the notes of one worker."""

    def __init__(self, stores: str, spool: str, provider: str, notes: Path, name: str) -> None:
        self.stores, self.spool = stores, spool
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
        callspan.instrument(stores=self.stores, spool_dir=self.spool, spool_max_bytes=CAP, flush_on_sigterm=False)

    def work(self) -> None:
        """Play sessions until the end; close the stores and open them again when told to reload."""
        while signal.SIGTERM not in self.signals:
            self.episode()
            if signal.SIGUSR1 in self.signals:
                self.signals.remove(signal.SIGUSR1)
                callspan.uninstrument()
                self.instrument()

    def episode(self) -> None:
        """Play one session of a few steps."""
        key, begun_ns = self.key(), time.time_ns()
        with callspan.session("soak", session_id=key):
            for _ in range(4):
                with callspan.timestep():
                    self.call()
                time.sleep(PAUSE_S)
        self.note("session", key, begun_ns)

    def call(self) -> None:
        """Make one call, plain or streamed, with one of the SDKs."""
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

    def key(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def note(self, kind: str, key: str, begun_ns: int) -> None:
        """Note a returned call; the operating system has the note on return."""
        os.write(self._file, f"{kind} {key} {begun_ns} {time.time_ns()}\n".encode())


if __name__ == "__main__":
    stores, spool, provider, notes, name = sys.argv[1:]
    Worker(stores, spool, provider, Path(notes), name).work()
