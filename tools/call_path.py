"""Print the files and functions of callspan that one chat completion passes, in the order of the first entry.

    python tools/call_path.py            a plain call
    python tools/call_path.py --stream   a streamed call, read whole
    python tools/call_path.py --chunk    one chunk in the middle of a stream

Only frames on the caller's thread are counted: against the scripted provider, with spans and a SQLite store.
"""

from __future__ import annotations

import argparse
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
WAYS = ("plain", "stream", "chunk")


def passed(run: Callable[[], object]) -> Counter[tuple[str, str]]:
    """Run it; return how often each function of callspan was called, by file and qualified name, in order."""
    frames: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE) and "testing" not in path.parts:
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)  # from Python 3.11 on
            frames[str(path.relative_to(SOURCE)), name] += 1

    # A stream that was dropped before would end meanwhile.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return frames


def path_of(way: str) -> Counter[tuple[str, str]]:
    """Return what one call passes, after some that fill the caches."""
    with (
        ScriptedProvider() as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="any") as client,
        tempfile.TemporaryDirectory() as directory,
    ):
        provider.reply(text="one two three four five six seven eight", repeat=True)
        handle = callspan.instrument(stores=f"sqlite:///{directory}/calls.db", tracer_provider=TracerProvider())

        def plain() -> object:
            return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])

        def started() -> openai.Stream[object]:
            return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)  # type: ignore[return-value]

        def stream() -> object:
            return list(started())

        try:
            for _ in range(WARM_UP):
                plain()
                stream()
            if way != "chunk":
                return passed({"plain": plain, "stream": stream}[way])
            chunks = started()
            for _ in range(WARM_UP):
                next(chunks)
            return passed(lambda: next(chunks))
        finally:
            handle.uninstrument()


def main() -> None:
    """Print the path, one file after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for way in WAYS:
        parser.add_argument(f"--{way}", dest="way", action="store_const", const=way, default="plain")
    frames = path_of(parser.parse_args().way)
    files: dict[str, list[str]] = defaultdict(list)
    for (file, name), times in frames.items():
        files[file].append(name if times == 1 else f"{name} x {times}")
    for file, names in files.items():
        print(file, *names, sep="\n    ")
    print(f"{len(files)} files, {frames.total()} frames")


if __name__ == "__main__":
    main()
