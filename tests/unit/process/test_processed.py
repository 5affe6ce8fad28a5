"""Only what the processors returned is written: checked by type, and at run time at the door of the spool."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import msgspec
import pytest
from tests.processed import processed

import callspan
from callspan import Settings
from callspan.delivery.recorder import Recorder
from callspan.fail_open import failures
from callspan.process.processed import Processed
from callspan.records import CallRecord, Timing

CALL = CallRecord(call_id="c", timing=Timing(start_ns=1), metadata={"owner": "ann"})


def test_a_processed_record_is_made_by_processors_alone_and_never_changed() -> None:
    made = processed(CALL)
    assert made.record is CALL
    for change in (
        Processed,
        lambda: setattr(made, "record", CALL),
        lambda: msgspec.structs.replace(made, record=CALL),
        lambda: copy.copy(made),
    ):
        with pytest.raises(TypeError):
            change()


def test_anything_else_is_refused_and_counted_at_the_door_of_the_spool(tmp_path: Path) -> None:
    seen: list[object] = []
    recorder = Recorder(Settings(stores=(f"sqlite:///{tmp_path / 'calls.db'}",)), (seen.append,))
    for unprocessed in (CALL, object(), None):
        recorder.write(unprocessed)  # type: ignore[arg-type]
    assert (seen, list(tmp_path.iterdir())) == ([], [])
    assert recorder.counters()["dropped.unprocessed"] == 3
    assert recorder.drops() == {"unprocessed": 3}
    assert failures()["keep a record"] == 3


def test_one_module_makes_processed_records_and_lists_of_processors() -> None:
    """A list of no processors, and `object.__new__`, would let everything through."""
    makes = re.compile(r"__new__\(Processed|\bProcessed\(\)|(?<!class )\bProcessors\(|_NEW\(")
    package = Path(callspan.__file__).parent
    found = {path.name for path in package.rglob("*.py") if makes.search(path.read_text())}
    assert found == {"processors.py"}
