"""Print the files and functions of callspan that one chat completion passes, in the order of the first entry.

Only frames on the caller's thread are counted: against the scripted provider, with spans and a SQLite store.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import openai
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.testing import ScriptedProvider

SOURCE = Path(callspan.__file__).resolve().parent
WARM_UP = 3


def passed(run: Callable[[], object]) -> Counter[tuple[str, str]]:
    """Run a function; return how often each function of callspan was called, by file and qualified name, in order."""
    frames: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(SOURCE) and "testing" not in file.parts:
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)  # from Python 3.11 on
            frames[str(file.relative_to(SOURCE)), name] += 1

    gc.disable()  # finalizers are not part of the call
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return frames


def path() -> Counter[tuple[str, str]]:
    """Return the functions of one call, after some that fill the caches."""
    with (
        ScriptedProvider() as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="any") as client,
        tempfile.TemporaryDirectory() as directory,
    ):
        provider.reply(text="one two three four five six seven eight", repeat=True)
        handle = callspan.instrument(stores=f"sqlite:///{directory}/calls.db", tracer_provider=TracerProvider())

        def call() -> object:
            return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])

        try:
            for _ in range(WARM_UP):
                call()
            return passed(call)
        finally:
            handle.uninstrument()


def main() -> None:
    """Print the path, one file after the other."""
    frames = path()
    files: dict[str, list[str]] = defaultdict(list)
    for (file, name), times in frames.items():
        files[file].append(name if times == 1 else f"{name} x {times}")
    for file, names in files.items():
        print(file, *names, sep="\n    ")
    print(f"{len(files)} files, {frames.total()} frames")


if __name__ == "__main__":
    main()
