"""Exceptions of the application that have no words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from callspan.testing import capture
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


class UnprintableError(Exception):
    """An exception of the application whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("content", ["full", "off"])
def test_an_error_without_words_or_content_is_its_type(
    content: Any, mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception whose text raises is recorded by its type alone, and reaches the caller unchanged."""
    problem = UnprintableError()

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise problem

    async def refuse_async(*args: Any, **kwargs: Any) -> Any:
        raise problem

    with capture(content=content) as seen:
        client = mode.openai()
        monkeypatch.setattr(client, "_prepare_options", refuse_async if mode.is_async else refuse)
        with pytest.raises(UnprintableError) as raised:
            run(lambda: mode.wait(client.chat.completions.create(model="gpt-5", messages=[])))
        assert raised.value is problem
        record = the_call(seen)
        assert record.error is not None
        assert (record.outcome, record.error.type, record.error.message) == ("error", "UnprintableError", None)
        assert seen.spans[0].status.status_code is StatusCode.ERROR
