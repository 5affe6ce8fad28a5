"""The processors together: their order, the same object if nothing changes, and failing closed."""

from __future__ import annotations

import msgspec

from callspan import Settings
from callspan.fail_open import failures, forget_failures
from callspan.process.processors import caller_processors
from callspan.records import (
    CallRecord,
    Request,
    encode,
)


def test_a_failing_processor_loses_the_content_and_is_counted(call: CallRecord) -> None:
    """A settings object that cannot be read stands for any bug of ours."""

    class Broken(dict[str, object]):
        def items(self) -> object:
            raise RuntimeError("a bug")

    forget_failures()
    request = Request(params=Broken(api_key="SESAME"), body=call.request.body)
    kept = caller_processors(Settings()).process(msgspec.structs.replace(call, request=request)).record
    counted = failures()
    forget_failures()
    assert counted["mask the secrets of a record"] == 1
    assert b"SESAME" not in encode(kept)
    assert isinstance(kept, CallRecord)
    assert kept.error is not None
    assert kept.error.status == 400
    assert {note.why for note in kept.redactions} == {"processor_failed"}
