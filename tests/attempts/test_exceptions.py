"""The exception of a failed call reaches the caller unchanged."""

from __future__ import annotations

import gc
import re
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.attempts.caller import Caller
from tests.intercept.calls import Run
from tests.intercept.mode import Mode

FAILURES: Final[dict[str, dict[str, Any]]] = {
    "status": {"status": 400, "message": "Nothing doing."},
    "hang": {"hang": True},
    "malformed": {"text": "one two three", "malformed": True},
    "cut": {"text": "one two three", "body_cut": True},
}
OURS: Final = (str(Path(callspan.__file__).parent), "wrapt")
VARYING: Final = re.compile(r"req_\w+|\b[0-9a-f]{8,}\b|127\.0\.0\.1:\d+")
Failing = Callable[..., BaseException]


@pytest.fixture
def failing(run: Run) -> Failing:
    """Make a call that fails and return what was raised."""

    def fail(caller: Caller, **options: Any) -> BaseException:
        with pytest.raises(Exception) as raised:  # noqa: PT011 - compared as a whole
            run(lambda: caller.call(**options))
        return raised.value

    return fail


def frames(trace: TracebackType | None) -> list[str]:
    """Functions on the way to the error, without those of callspan and wrapt."""
    return [
        f"{Path(frame.filename).name}:{frame.name}"
        for frame in traceback.extract_tb(trace)
        if not any(part in frame.filename for part in OURS)
    ]


def picture(error: BaseException | None) -> object:
    """All of an exception that must not change: class, words, fields, where it came from, what caused it."""
    if error is None:
        return None
    fields = {name: type(value).__name__ for name, value in vars(error).items()}
    return (
        type(error),
        VARYING.sub("", str(error)),
        len(error.args),
        fields,
        frames(error.__traceback__),
        error.__suppress_context__,
        getattr(error, "__notes__", None),
        picture(error.__cause__),
        picture(error.__context__),
    )


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("shape", ["plain", "stream"])
def test_it_is_the_same_as_without_callspan(
    mode: Mode, api: str, shape: str, failing: Failing, failure: str, provider: ScriptedProvider
) -> None:
    caller = Caller(mode, api, shape)
    options = {"timeout": 0.1} if failure == "hang" else {}
    provider.reply(**FAILURES[failure])
    bare = picture(failing(caller, **options))
    provider.reply(**FAILURES[failure])
    with capture() as seen:
        observed = picture(failing(caller, **options))
    assert observed == bare
    assert seen.records[0].outcome in ("error", "timeout")


def test_an_error_is_not_kept_alive(mode: Mode, api: str, failing: Failing, seen: Captured) -> None:
    caller = Caller(mode, api, "plain")
    caller.script({"status": 400})
    error: BaseException | None = failing(caller)
    gone = weakref.ref(error)  # type: ignore[arg-type]
    assert seen.records[0].error is not None
    error = None
    # What has a finalizer goes first, and what it held with the next round; a thread of ours may hold it for a moment.
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None
