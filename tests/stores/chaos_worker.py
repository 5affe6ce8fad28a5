"""One worker of the chaos: makes calls, batches and background responses, and notes each that has returned.

Run as a script: chaos_worker.py STORE SPOOL PROVIDER NOTES NAME. SIGTERM ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anthropic
import openai

import callspan

BATCH_LINES = 20
FILLING = "filling " * 400


class Worker:
    """The clients, the settings and the notes of one worker."""

    def __init__(self, store: str, spool: str, provider: str, notes: Path, name: str) -> None:
        self.notes = notes
        self.name = f"{name}-{os.getpid()}"
        self.openai = openai.OpenAI(base_url=f"{provider}/v1", api_key="k", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=provider, api_key="k", max_retries=0)
        self.stopping = False
        self._read: set[str] = set()
        self._count = 0
        signal.signal(signal.SIGTERM, self._stop)
        callspan.instrument(stores=store, spool_dir=spool, flush_on_sigterm=False)
        # Its existence says that signals are handled.
        self._file = os.open(notes / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def key(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    def note(self, kind: str, key: str) -> None:
        """Keep what has returned: the operating system has it when this returns."""
        os.write(self._file, f"{kind} {key}\n".encode())

    def call(self) -> None:
        """One call, plain or streamed, of one of the SDKs."""
        key = self.key()
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"{key} {FILLING}"}]}
        stream = self._count % 3 == 0
        with callspan.metadata(run_id=key):
            if self._count % 2:
                answer: Any = self.openai.chat.completions.create(**asked, stream=stream)
            else:
                answer = self.anthropic.messages.create(**asked, max_tokens=9, stream=stream)
            if stream:
                list(answer)
        self.note("call", key)

    def episode(self) -> None:
        """One session of a few steps."""
        key = self.key()
        with callspan.session("soak", session_id=key):
            for _ in range(6):
                with callspan.timestep():
                    self.call()
        self.note("session", key)

    def background(self) -> None:
        key = self.key()
        with callspan.metadata(run_id=key):
            answer = self.openai.responses.create(model="m", input=key, background=True)
        while answer.status not in ("completed", "failed"):
            answer = self.openai.responses.retrieve(answer.id)
        self.note("call", key)

    def create_batch(self) -> None:
        key = self.key()
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        names = [f"{key}-{number}" for number in range(BATCH_LINES)]
        if self._count % 2:
            requests: Any = [{"custom_id": name, "params": asked} for name in names]
            made = self.anthropic.messages.batches.create(requests=requests).id
            known = ("anthropic", made, key)
        else:
            line = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
            content = "\n".join(json.dumps({"custom_id": name, **line}) for name in names).encode()
            file_id = self.openai.files.create(file=("in.jsonl", content), purpose="batch").id
            batch = self.openai.batches.create(
                input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            known = ("openai", batch.id, key)
        fresh = self.notes.parent / "batches" / f".{key}"
        fresh.write_text(" ".join(known))
        fresh.rename(fresh.with_name(key))

    def read_batches(self) -> None:
        """Read the results of every batch of every worker, each once in this process."""
        for path in sorted((self.notes.parent / "batches").glob("[!.]*")):
            if path.name in self._read:
                continue
            sdk, batch_id, key = path.read_text().split()
            if sdk == "anthropic":
                while self.anthropic.messages.batches.retrieve(batch_id).processing_status != "ended":
                    time.sleep(0.01)
                list(self.anthropic.messages.batches.results(batch_id))
            else:
                while not (output := self.openai.batches.retrieve(batch_id).output_file_id):
                    time.sleep(0.01)
                _ = self.openai.files.content(output).text
            self._read.add(path.name)
            for number in range(BATCH_LINES):
                self.note("line", f"{key}-{number}")

    def run(self) -> None:
        """Everything at once, as fast as it goes."""
        turns = 0
        while not self.stopping:
            turns += 1
            self.episode()
            self.background()
            if turns % 3 == 0:
                self.create_batch()
            self.read_batches()


if __name__ == "__main__":
    store, spool, provider, notes, name = sys.argv[1:]
    Worker(store, spool, provider, Path(notes), name).run()
