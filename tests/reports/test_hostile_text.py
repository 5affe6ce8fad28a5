"""Recorded text is untrusted: the report page displays it without interpreting it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from callspan.formatting import json_block, shown
from callspan.records import ErrorInfo
from tests.datasets.conftest import World

from .conftest import Report
from .reading import Reading, data

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '" onmouseover="document.title=\'owned\'" x="',
    "<!--<script>",
    "]]><svg onload=document.title='owned'>",
    "[click](javascript:document.title='owned') **bold** `code`",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "left\u202eright\u202c \u200bhidden \u2028 line",
    "${alert(1)} {{7*7}} %s",
    "data:text/html,<script>document.title='owned'</script>",
    "<svg onload=\"document.title='owned'\"><style>*{}</style></svg>",
    "</title></style></template>\u2029\u0085",
]


def fill(world: World, text: str) -> None:
    """Put a text everywhere a page could show it."""
    world.session("s1", reward=1.0, name=text, metadata={text: text}, outcome=text)
    error = ErrorInfo(kind=text, type=text, message=text, status=400)
    message: list[dict[str, Any]] = [{"role": "user", "content": text}]
    world.chat(message, text, "s1", model=text)
    world.chat(message, text, "s1", model=text, outcome="error", error=error)
    world.event("s1", event_type=text, name=text, data={text: text})
    world.event("s1", event_type="tool", name=text, data={"arguments": {"a": text}, "result": text})
    world.session("s2", reward=0.5, name=text)
    world.reward("s2", 1.0, scope="call", label=text, objective=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_recorded_text_becomes_markup(world: World, report: Report, text: str) -> None:
    fill(world, "harmless")
    expected = [tag for tag, _ in Reading(report()).elements]
    world.records.clear()
    fill(world, text)
    page = report()
    reading = Reading(page)
    assert [tag for tag, _ in reading.elements] == expected
    for _, attributes in reading.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "src"}]
    assert data(page)["rows"][1]["name"], "the rows are JSON still"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_is_left(world: World, report: Report, text: str) -> None:
    fill(world, text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2066-\u2069]", report())


def test_what_a_text_says_stays_readable() -> None:
    assert shown("a <b> \x1b[31mc\n d") == "a <b> \N{REPLACEMENT CHARACTER}[31mc d"
    assert shown("abcdef", 4) == "abc…"
    hostile = '{"a":"</script><!--&\u2028\u202e"}'.encode()
    assert json_block(hostile) == rb'{"a":"\u003c/script\u003e\u003c!--\u0026\u2028\u202e"}'
