"""The methods of the installed SDKs, read from their source without importing it, and their rows on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

_CLASS: Final = re.compile(r"^class (\w+)\((?:\w+, *)*SyncAPIResource(?:, *\w+)*\):$", re.MULTILINE)
_NEXT: Final = re.compile(r"^\S", re.MULTILINE)
_METHOD: Final = re.compile(r"^    def ([a-z]\w*)\(", re.MULTILINE)
_PROPERTY: Final = re.compile(r"^    @(?:cached_)?property\n(?:    @.*\n)*    def (\w+)\(", re.MULTILINE)

_PAGE: Final = Path(__file__).parents[2] / "docs" / "records.md"
_TABLE: Final = re.compile(r"\| (\w+) \| (`[^|]+) \| ([^|]*)\|")
_COUNTED: Final = """
| openai | `vector_stores` search | |
| openai | `batches` create; `fine_tuning.jobs` create; `fine_tuning.alpha.graders` run; `evals.runs` create | |
| openai | `videos` create, edit, extend, remix, create_and_poll; `beta.chatkit.sessions` create | |
| openai | `beta.agents.sessions` create, stream; `beta.agents.sessions.events` create, stream | |
| openai | `beta.agents.automations.invocations` create | |
| openai | `beta.threads` create_and_run, create_and_run_stream | |
| openai | `beta.threads.runs` create, create_and_stream, stream | |
| openai | `beta.threads.runs` submit_tool_outputs, submit_tool_outputs_stream | |
| openai | `realtime.calls` create, accept, hangup, refer, reject; `realtime.client_secrets` create | |
| openai | `realtime.translations.client_secrets` create; `beta.realtime.sessions` create | |
| openai | `beta.realtime.transcription_sessions` create | |
| openai | `live` create; `live.sessions` accept, fork, hangup, refer, reject | |
| openai | `realtime.sessions` create; `realtime.transcription_sessions` create | older versions only |
| anthropic | `completions` create | older versions only |
| anthropic | `messages.batches` create; `beta.messages.batches` create; `beta.dreams` create | |
| anthropic | `beta.sessions` create; `beta.sessions.events` send, stream, list; `beta.deployments` run | |
| groq | `batches` create | |
"""
"""Methods that are counted and not recorded, in the form of the page."""


def is_read(sdk: str) -> bool:
    """Whether the page of coverage names the installed version of an SDK."""
    version = ".".join(metadata.version(sdk).split(".")[:2])
    return f"{sdk} {version}" in _PAGE.read_text().partition("<!-- methods -->")[0]


class Row(NamedTuple):
    """Methods of one resource."""

    sdk: str
    resource: str
    methods: list[str]
    is_recorded: bool
    older: bool
    """Exists only in older versions."""


def _rows() -> Iterator[Row]:
    for table, is_recorded in ((_PAGE.read_text().partition("<!-- methods -->")[2], True), (_COUNTED, False)):
        for sdk, methods, note in _TABLE.findall(table):
            for resource, names in re.findall(r"`([\w.]+)` ([\w, ]+)", methods):
                yield Row(sdk, resource, names.split(", "), is_recorded, "older versions only" in note)


class Method(NamedTuple):
    """One method of an installed SDK."""

    sdk: str
    resource: str
    name: str

    def __str__(self) -> str:
        """Return the expression that calls it, from the client on."""
        return f"{self.resource}.{self.name}"


def methods_of(sdk: str) -> Iterator[Method]:
    """Yield the methods of all resources of an installed SDK, in the order of its files; none if it is not installed.

    Raises OSError if its files cannot be read.
    """
    found = find_spec(sdk)
    for place in (found.submodule_search_locations if found is not None else None) or ():
        resources = Path(place) / "resources"
        for file in sorted(resources.rglob("*.py")):
            names = list(file.relative_to(resources).with_suffix("").parts)
            if names[-1] == "__init__":
                continue
            resource = ".".join(names[:-1] if len(names) > 1 and names[-1] == names[-2] else names)
            yield from (Method(sdk, resource, name) for name in _names(file.read_text("utf-8")))


def row_of(method: Method) -> Row | None:
    """Return the row of the method; None if it has none."""
    return next((row for row in ROWS if _has(row, method)), None)


def _has(row: Row, method: Method) -> bool:
    return row.sdk == method.sdk and method.resource == row.resource and method.name in row.methods


def _names(source: str) -> Iterator[str]:
    """Return the public methods of the synchronous resource in a file; the asynchronous one has the same."""
    for start in _CLASS.finditer(source):
        end = _NEXT.search(source, start.end())
        body = source[start.end() : end.start() if end else len(source)]
        properties = set(_PROPERTY.findall(body))
        yield from dict.fromkeys(name for name in _METHOD.findall(body) if name not in properties)


ROWS: Final = tuple(_rows())
