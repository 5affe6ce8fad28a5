"""The pages of the project and the examples on them.

Above an example stands what it is to do, as a comment that no reader of the page sees:

    <!-- example: calls=1 spans=1 -->       it adds one record and one span
    <!-- example: prints=gridworld -->      its output holds that word
    <!-- example: writes=report.html -->    it makes that file
    <!-- example: file=app.py calls=1 -->   readers save it under that name; later examples may run it
    <!-- example: name=setup calls=1 -->    and `after=setup` on another: it continues that one
    <!-- example: store=demo prints=x -->   it needs a `callspan.db` with something in it
    <!-- example: install=callspan calls=1 -->  for readers who have installed that, not the README's first line
    <!-- not run: it needs Docker -->       it cannot be run here; the reason

`calls=1+` is one or more. Each example says at least one effect, or why it is not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.processes import ROOT

EFFECTS: Final = ("calls", "spans", "sessions", "prints", "writes")
RUN: Final = ("python", "console", "sh")
"""Kinds of blocks that are run; data (JSON, YAML, SQL, PromQL) has checks of its own."""
_DIRECTIVES: Final = {*EFFECTS, "file", "name", "after", "store", "install"}
_BLOCK: Final = re.compile(
    r"(?:<!-- (?P<verb>example|not run):\s*(?P<said>[^>]*?)\s*-->\s*\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
_INSTALL: Final = re.compile(r"pip install \"?(callspan(?:\[[^\]]*\])?)")


class Example(NamedTuple):
    """One block of a page."""

    page: Path
    line: int
    kind: str
    code: str
    directives: dict[str, str]
    reason: str | None
    """Why it is not run; None: it is."""
    requirement: str
    """What readers have installed, such as `callspan[cli]`."""

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def has_something_to_run(self) -> bool:
        """False where it only installs."""
        return self.kind == "python" or bool(self.commands)

    @property
    def commands(self) -> list[str]:
        """The command lines of a block of them, without those that install."""
        lines = self.code.replace("\\\n", " ").splitlines()
        if self.kind == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith(("pip install", "#"))]


def readme() -> Path:
    return ROOT / "README.md"


def pages() -> list[Path]:
    """Return the README and every page it links to, also by way of others."""
    found = [readme()]
    for page in found:
        found.extend(target for target in links(page) if target.suffix == ".md" and target not in found)
    return found


def links(page: Path) -> Iterator[Path]:
    """Return where a page's links to files of the project lead; a directory stands for its README."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        path = (page.parent / target).resolve()
        yield path / "README.md" if path.is_dir() else path


def install_lines(page: Path) -> list[str]:
    """Return what a page has readers install, in order."""
    return [found[1] for found in _INSTALL.finditer(page.read_text())]


def examples(page: Path) -> list[Example]:
    """Return the blocks of a page that could be run, in order. Raises ValueError for a directive nobody knows."""
    text = page.read_text()
    found = [_example(page, text, block) for block in _BLOCK.finditer(text)]
    return [example for example in found if example.kind in RUN and example.has_something_to_run]


def _example(page: Path, text: str, block: re.Match[str]) -> Example:
    expected = " ".join((block["said"] or "").split())
    directives = {} if block["verb"] != "example" else dict(_pair(word) for word in shlex.split(expected))
    unknown = directives.keys() - _DIRECTIVES
    line = text.count("\n", 0, block.start("code"))
    if unknown:
        raise ValueError(f"{page}:{line}: no such directive: {', '.join(sorted(unknown))}")
    requirement = directives.get("install") or install_lines(readme())[0]
    reason = expected if block["verb"] == "not run" else None
    return Example(page, line, block["kind"], block["code"], directives, reason, requirement)


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value
