"""The path of a call: which files of callspan a plain call and one chunk run through, and in how many frames.

`make path` prints it with the sizes of the package, its circles, and a call's instructions from docs/benchmarks.md;
`--write` puts the figures into docs/architecture.md.
"""

from __future__ import annotations

import argparse
import ast
import gc
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import anthropic
import grimp
import openai
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.testing import ScriptedProvider

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "callspan"
PAGE: Final = ROOT / "docs/architecture.md"
BENCHMARKS: Final = ROOT / "docs" / "benchmarks.md"
_MARK: Final = "<!-- path -->"
_MESSAGES: Final[Any] = [{"role": "user", "content": "Hi"}]


class CallPath(NamedTuple):
    """What one thread ran of callspan."""

    files: list[str]
    """In the order they were first entered."""
    frames: int


def traced(run: Callable[[], object]) -> CallPath:
    """Run it and return the files and frames of callspan on this thread."""
    frames: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(str(SOURCE)) and "/testing/" not in name:
            frames[name] += 1

    # The end of a stream that was dropped before would be counted too.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return CallPath([str(Path(name).relative_to(SOURCE)) for name in frames], frames.total())


def paths(directory: Path) -> dict[str, CallPath]:
    """Return the path of a plain call with spans and a SQLite store, on the caller's side, and of one chunk."""
    store = directory / "callspan.db"
    handle = callspan.instrument(stores=store, tracer_provider=TracerProvider())
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        provider.reply(text="one two three four five six seven eight", repeat=True)

        def plain() -> object:
            return client.chat.completions.create(model="m", messages=_MESSAGES)

        def chunks() -> Callable[[], object]:
            stream = iter(client.chat.completions.create(model="m", messages=_MESSAGES, stream=True))
            for _ in range(3):
                next(stream)
            return lambda: next(stream)

        for _ in range(3):
            plain()
            chunks()
        found = {"a plain call": traced(plain), "one chunk": traced(chunks()), **_others(provider, client)}
        found |= _polls(client)
        _row_arrives(handle, store)
    callspan.uninstrument()
    return found


def _others(provider: ScriptedProvider, client: openai.OpenAI) -> dict[str, CallPath]:
    """Return the paths of plain calls of the Messages and the Responses API."""

    def responses() -> object:
        return client.responses.create(model="m", input="Hi")

    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="any") as claude:

        def messages() -> object:
            return claude.messages.create(model="m", messages=_MESSAGES, max_tokens=16)

        for _ in range(3):
            messages()
            responses()
        return {"a plain call of Messages": traced(messages), "a plain call of Responses": traced(responses)}


def _polls(client: openai.OpenAI) -> dict[str, CallPath]:
    """Return the paths of requests for a background response, until one has its answer."""
    job = client.responses.create(model="m", input="Hi", background=True).id
    states: list[str | None] = []

    def poll() -> object:
        return states.append(client.responses.retrieve(job).status)

    paths = []
    while not states or states[-1] != "completed":
        paths.append(traced(poll))
    return {"a poll that finds nothing": paths[0], "a poll that finds the answer": paths[-1]}


def _row_arrives(handle: callspan.Handle, store: Path) -> None:
    handle.force_flush()
    deadline = time.monotonic() + 10
    reader = callspan.open_store(store)
    try:
        while not any(record.outcome == "success" for record in reader.calls()):
            if time.monotonic() > deadline:
                raise RuntimeError("the traced call did not reach its SQLite row")
            time.sleep(0.05)
    finally:
        reader.close()


def sizes() -> str:
    """Return files, lines, median and largest module of the package."""
    lines = {path: len(path.read_text().splitlines()) for path in sorted(SOURCE.rglob("*.py"))}
    largest = max(lines, key=lambda path: lines[path])
    short = sum(count < 60 for count in lines.values())
    return (
        f"{len(lines)} files, {sum(lines.values()):,} lines; median module {statistics.median(lines.values()):.0f}, "
        f"largest {lines[largest]} (`{largest.relative_to(SOURCE)}`), {short} under 60 lines"
    )


def functions() -> str:
    """Return the lengths of the functions of the package, in lines."""
    trees = [ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")]
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    p95 = statistics.quantiles(lengths, n=20)[-1]
    return f"functions: median {statistics.median(lengths):.0f} lines, 95th percentile {p95:.0f}, longest {lengths[-1]}"


def circles() -> str:
    """Return whether modules import each other in a circle at run time."""
    graph = grimp.build_graph("callspan", exclude_type_checking_imports=True)
    order = TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
    try:
        order.prepare()
    except CycleError as error:
        return "a circle of imports: " + ", ".join(error.args[1])
    return "0 circles of imports at run time"


def instructions() -> str:
    """Return the instructions that a plain call takes more with callspan, as last counted."""
    _, _, table = BENCHMARKS.read_text().partition("### Thousands of instructions added")
    rows = re.findall(r"^\| (\w+) plain sync \| call \| [\d.]+ \| [\d.]+ \| ([\d.]+)", table, re.MULTILINE)[:2]
    counts = ", ".join(f"{sdk} {float(thousands):.0f} thousand" for sdk, thousands in rows)
    return f"instructions added to a plain call: {counts} ([benchmarks](benchmarks.md))"


def summary(found: dict[str, CallPath]) -> str:
    """Return the figures as lines of Markdown."""
    rows = [
        f"- {name}: {len(path.files)} files, {path.frames} frames on the caller's side" for name, path in found.items()
    ]
    return "\n".join([f"- {sizes()}", f"- {functions()}", f"- {circles()}", *rows, f"- {instructions()}"])


def main() -> None:
    """Print the paths; write the figures into the page on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/architecture.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = paths(Path(directory))
    for name, path in found.items():
        print(f"{name}:", *path.files, sep="\n  ")
    print(summary(found))
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(_MARK)
        _, _, after = rest.partition(_MARK)
        PAGE.write_text(f"{before}{_MARK}\n{summary(found)}\n{_MARK}{after}")


if __name__ == "__main__":
    main()
