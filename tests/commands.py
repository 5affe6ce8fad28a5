"""The command, as tests run it within their process; no other file of the tests knows where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from click.testing import CliRunner

from callspan.cli.commands import callspan

__all__ = ["Answer", "Ask", "ask", "callspan"]


class Answer(NamedTuple):
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ask = Callable[..., Answer]


def ask(*arguments: str) -> Answer:
    """The command in this process; an exception of its own fails the test."""
    result = CliRunner().invoke(callspan, list(arguments), catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)
