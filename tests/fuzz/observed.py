"""The instrumented side of a worker: the same case with callspan on, and what callspan recorded and stored of it."""

from __future__ import annotations

import contextvars
import gc
import json
import logging
import tempfile
from contextlib import ExitStack, closing
from logging.handlers import BufferingHandler
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from tests.fuzz.case import Case
from tests.support.spans_of_records import differences
from tests.support.waiting import HANG_S

from callspan import open_store
from callspan.records import CallRecord, decode, encode
from callspan.stores import EmptyStoreError
from callspan.testing import Capture, capture
from callspan.wiring import WIRING

_ENDS = frozenset({"success", "error", "timeout", "cancelled"})


def _profiles() -> dict[str, dict[str, Any]]:
    directory = tempfile.mkdtemp(prefix="callspan-fuzz-")
    return {
        "default": {},
        "everything": {
            "vocabularies": "llm,gen_ai,openinference", "log_events": True,
            "estimate_usage": True, "max_attribute_bytes": 256, "chunk_log": 100,
        },
        "metadata": {"content": "metadata"},
        "off": {"content": "off"},
        "kept": {"media": "inline"},
        "stored": {"stores": f"sqlite:///{directory}/calls.db", "spool_dir": f"{directory}/spool"},
    }  # fmt: skip


_NOT_COMPARED = {"cost", "conversation"}
"""What is computed on the way to the store, or from the bodies."""
_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(CallRecord)}
_STAYS = "callspan_last_call"
"""The context variable of `callspan.last_call_id()`."""
_UNRECOGNIZED = "A response of "
"""Begins the warning of a body that follows no API, which mutated ones do not."""


class Stored:
    """The store of one profile, asked after every case."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rows = 0

    def wrong(self, records: list[CallRecord]) -> list[str]:
        """Return what differs between the store and what was captured, after everything was delivered."""
        pipeline = WIRING.pipeline
        if pipeline is None or not pipeline.recorder.flush(HANG_S):
            return ["the store has not taken everything"]
        try:
            reader = open_store(self._url)
        except EmptyStoreError:
            return ["there is no store"] if records else []
        with closing(reader):
            rows, self._rows = reader.count_calls() - self._rows, reader.count_calls()
            found = [] if rows == len(records) else [f"{len(records)} records, {rows} rows"]
            for record in records:
                row = reader.call(record.call_id)
                found += ["a record has no row"] if row is None else _differences(record, row)
            return found


def _differences(record: CallRecord, row: CallRecord) -> list[str]:
    ours, theirs = _fields(decode(encode(record))), _fields(row)
    return [
        f"the row's {name} is not the record's: {str(theirs.get(name))[:300]} != {str(ours.get(name))[:300]}"
        for name in sorted({*ours, *theirs} - _NOT_COMPARED)
        if ours.get(name) != theirs.get(name)
    ]


def _fields(record: CallRecord) -> dict[str, Any]:
    """Every field of a record that says something, bodies as what their JSON says."""
    fields = json.loads(encode(record)).items()
    return {name: value for name, value in fields if value != {} and value != _DEFAULTS.get(name)}


class Observed:
    """Callspan as the case's profile has it."""

    def __init__(self, exporter: Any) -> None:
        self._native = exporter
        self._profiles = _profiles()
        self._profile: str | None = None
        self._stack = ExitStack()
        self._seen: Capture | None = None
        self._stores = {
            name: Stored(str(settings["stores"])) for name, settings in self._profiles.items() if "stores" in settings
        }
        self._logged = BufferingHandler(10_000)
        for name in ("callspan", "opentelemetry"):
            logger = logging.getLogger(name)
            # What could not be done is warned of once; every time it is said at this level.
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            logger.addHandler(self._logged)

    def run(self, worker: Any, case: Case) -> dict[str, Any]:
        """Run a case, and add what is wrong with what was recorded of it."""
        seen = self._capture(case.profile)
        self._logged.buffer.clear()
        within = contextvars.copy_context()
        before = dict(within)
        result: dict[str, Any] = within.run(worker.run, case)
        gc.collect()
        result["wrong"] = self._wrong(case, seen, result["calls"])
        changed = {var.name for var, value in within.items() if value and value != before.get(var)}
        if changed - {_STAYS}:
            result["wrong"].append(f"a context was left attached: {sorted(changed)}")
        seen._exporter.clear()
        seen._all.clear()
        return result

    def _capture(self, profile: str) -> Capture:
        if self._seen is None or profile != self._profile:
            self._stack.close()
            self._seen, self._profile = self._stack.enter_context(capture(**self._profiles[profile])), profile
        return self._seen

    def _wrong(self, case: Case, seen: Capture, calls: int) -> list[str]:
        # A loop of tools is an agent in a session of its own.
        records, spans = seen.records, [span for span in seen.spans if not _is_loop(span)]
        wrong = [f"logged: {one.name}: {one.getMessage()}" for one in self._logged.buffer if _is_wrong(one)]
        if len(records) != calls:
            wrong.append(f"{calls} calls, {len(records)} records")
        if len(spans) != calls:
            wrong.append(f"{calls} calls, {len(spans)} spans")
        if {f"{span.context.span_id:016x}" for span in spans if span.context} != {r.span_id for r in records}:
            wrong.append("spans and records do not belong together")
        settings = self._profiles[case.profile]
        wrong += [f"the span of a record: {one}" for one in differences(spans, records, **settings)]
        wrong += [f"a record ends as {record.outcome}" for record in records if record.outcome not in _ENDS]
        wrong += [f"span {span.name} has no end" for span in spans if span.end_time is None]
        if case.profile in self._stores:
            wrong += self._stores[case.profile].wrong(records)
        native = [span.name for span in self._native.get_finished_spans() if "count_tokens" not in span.name]
        if calls and any(name.endswith(("messages.create", "messages.stream")) for name in native):
            wrong.append(f"the SDK's own span beside ours: {native}")
        return wrong


def _is_wrong(logged: logging.LogRecord) -> bool:
    """Whether callspan could not do something; a request that creates a batch is not recorded, which is logged once."""
    said = logged.getMessage()
    is_known = said.startswith(_UNRECOGNIZED) or "not recorded: POST" in said
    return not is_known and (logged.levelno >= logging.WARNING or said.startswith("Could not"))


def _is_loop(span: ReadableSpan) -> bool:
    operation = (span.attributes or {}).get("gen_ai.operation.name")
    return operation in {"invoke_workflow", "invoke_agent", "execute_tool"}
