"""A worker of the soak: makes calls in sessions and notes each one that has returned.

Run as a script: soak_worker.py STORES SPOOL PROVIDER NOTES NAME. SIGUSR1 reloads, SIGTERM ends it.
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

CAP = 700_000
"""Size limit of the spool, which is reached in each outage."""
PAUSE_S = 0.11
"""Pause between two calls, to leave the machine to others."""
FILLING = "filling " * 400
READ_EVERY_S = 30.0


class Worker:
    """The clients, the settings and the notes of one worker."""

    def __init__(self, stores: str, spool: str, provider: str, notes: Path, name: str) -> None:
        self.stores, self.spool, self.notes = stores.split(","), spool, notes
        self.name = f"{name}-{os.getpid()}"
        self.openai = openai.OpenAI(base_url=f"{provider}/v1", api_key="k", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=provider, api_key="k", max_retries=0)
        self.stopping = self.reloading = False
        self._count = 0
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, self._reload)
        self.instrument()
        # Its existence shows that signals are handled.
        self._file = os.open(notes / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _reload(self, *_: object) -> None:
        self.reloading = True

    def instrument(self) -> None:
        callspan.instrument(stores=self.stores, spool_dir=self.spool, spool_max_bytes=CAP, flush_on_sigterm=False)

    def reload(self) -> None:
        """Close the stores and open them again."""
        self.reloading = False
        callspan.uninstrument()
        self.instrument()

    def key(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def note(self, kind: str, key: str, begun_ns: int) -> None:
        """Note a returned call; the operating system has the note on return."""
        os.write(self._file, f"{kind} {key} {begun_ns} {time.time_ns()}\n".encode())

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

    def episode(self) -> None:
        """Play one session of a few steps."""
        key, begun_ns = self.key(), time.time_ns()
        with callspan.session("soak", session_id=key):
            for _ in range(4):
                with callspan.timestep():
                    self.call()
                time.sleep(PAUSE_S)
        self.note("session", key, begun_ns)

    def soak(self) -> None:
        """Make calls until the end; read the store from time to time."""
        read_at = time.monotonic()
        while not self.stopping:
            self.episode()
            if self.reloading:
                self.reload()
            if time.monotonic() >= read_at:
                read_at = time.monotonic() + READ_EVERY_S
                with closing(callspan.open_store(self.stores[0])) as reader:
                    next(iter(reader.calls()), None)


if __name__ == "__main__":
    stores, spool, provider, notes, name = sys.argv[1:]
    Worker(stores, spool, provider, Path(notes), name).soak()
