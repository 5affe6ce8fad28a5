"""What a program under `callspan run` writes wrongly costs itself: all else is in the store, and is shown.

`test_foreign_data.py` has what a receiver makes of more such data; here the records go all the way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.conftest import Read
from tests.receive.conftest import CALLSPAN, GEN_AI, logs, recorded, span, traces
from tests.support.commands import ask
from tests.support.processes import plain_environment
from tests.support.scale import scaled
from tests.support.waiting import HANG_S

from callspan.records import CallRecord, encode

NUL: Final = "\0"
PROGRAM: Final = f"""#!{sys.executable} -IS
import os, re, sys
from urllib.request import Request, urlopen

base = re.search("http://.*(?=/v1/logs)", os.environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or " ".join(sys.argv))[0]
for name in sorted(os.listdir("requests")):
    signal, kind = name.split(".")[1:]
    with open("requests/" + name, "rb") as file:
        request = Request(base + "/v1/" + signal, file.read(), {{"content-type": "application/" + kind}})
    urlopen(request).read()
"""
"""Sends each request of a directory. One that is refused ends it, with a code."""
EVENTS: Final = {name: [event for events in recorded(name) for event in events] for name in ("tools", "codex")}
COUNTERS: Final = next(event for event in EVENTS["tools"] if event["event.name"] == "api_request")
ANSWERED: Final = next(event for event in EVENTS["codex"] if "output_token_count" in event)
VALUES: Final = [
    NUL, f"a{NUL}b", "", "10 years", "-3", -5, -1.5, 10**18, 2**63 - 1, -(2**63), 1e300, float("inf"), float("nan"),
    True,
]  # fmt: skip
TIMES: Final = ["0", "1", "-5", str(2**63), str(2**64 - 1), "soon", NUL]
Case = tuple[str, dict[str, Any]]


def of_claude_code() -> Iterator[Case]:
    """Each field of the counters of a call with each value, and each text of its request's body."""
    names = [*(name for name in COUNTERS if name not in {"event.name", "time_ns"}), "ttft_ms", "attempt"]
    for name in names:
        for value in VALUES:
            yield "logs", {**COUNTERS, name: value}
    body = json.dumps({"model": f"m{NUL}", "messages": [{"role": "user", "content": f"a{NUL}b"}], f"k{NUL}": 1})
    for written in (body, body.replace("\\u0000", NUL)):
        yield "logs", {**COUNTERS, "event.name": "api_request_body", "request_body_id": "b", "body": written}


def of_codex() -> Iterator[Case]:
    for name in (name for name in ANSWERED if name not in {"event.name", "time_ns", "event.kind"}):
        for value in VALUES:
            yield "logs", {**ANSWERED, name: value}


def of_spans() -> Iterator[Case]:
    """Each attribute with each value, and each time."""
    texts = {"gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "a\\u0000b"}]}]'}
    required = {"gen_ai.operation.name"}
    for name in {**GEN_AI, **texts, "error.type": "", "session.id": ""}.keys() - required:
        for value in VALUES:
            yield "traces", span({**GEN_AI, **texts, name: value})
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        for time in TIMES:
            yield "traces", {**span(GEN_AI), name: time}
    yield "traces", span(GEN_AI, name=f"a{NUL}b", status={"code": 2, "message": f"no{NUL}"}, traceState=NUL)


KINDS: Final[dict[str, tuple[str, Callable[[], Iterator[Case]]]]] = {
    "Claude Code": ("claude", of_claude_code), "Codex": ("codex", of_codex), "spans": ("claude", of_spans),
}  # fmt: skip


def request_of(case: Case, number: int, program: str) -> dict[str, Any]:
    """A request with one case, which shares neither ids nor time with another."""
    signal, stated = case
    if signal == "traces":
        return traces({**stated, "traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}"})
    time_ns = stated["time_ns"] + number * 10**10
    own = {"agent_id": f"{number}"} if program == "claude" else {"conversation.id": f"{number}"}
    ids = {name: f"{stated[name]}{number}" for name in ("request_id", "request_body_id") if stated.get(name)}
    return logs([{**own, **stated, **ids, "time_ns": time_ns}], {"claude": "claude-code"}.get(program, program))


def as_protobuf(tree: dict[str, Any]) -> bytes:
    """A request in protobuf, with what its types can hold."""
    is_logs = "resourceLogs" in tree
    request: Any = ExportLogsServiceRequest() if is_logs else ExportTraceServiceRequest()
    _fill(request, tree)
    return bytes(request.SerializeToString())


def _fill(message: Any, tree: dict[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        value = tree.get(field.json_name)
        if value in (None, ""):
            continue
        if field.message_type is not None and isinstance(value, list):
            for item in value:
                _fill(getattr(message, field.name).add(), item)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), value)
        elif field.type == field.TYPE_BYTES:
            setattr(message, field.name, bytes.fromhex(value))
        elif field.type in (field.TYPE_FIXED64, field.TYPE_INT64):
            with_sign = field.type == field.TYPE_INT64
            number = int(value) if str(value).lstrip("-").isdigit() else 0
            if (-(2**63) if with_sign else 0) <= number < (2**63 if with_sign else 2**64):
                setattr(message, field.name, number)
        else:
            setattr(message, field.name, value)


FORMS: Final[dict[str, tuple[str, Callable[[dict[str, Any]], bytes]]]] = {
    "escaped": ("json", lambda tree: json.dumps(tree).encode()),
    "raw": ("json", lambda tree: re.sub(r"(?<!\\)\\u0000", NUL, json.dumps(tree)).encode()),
    "protobuf": ("x-protobuf", as_protobuf),
}
"""How a text is written: NUL by its escape, as it is, and in protobuf."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_value_without_meaning_costs_itself(kind: str, form: str, tmp_path: Path, reading: Read) -> None:
    program, cases_of = KINDS[kind]
    media_type, written = FORMS[form]
    (tmp_path / "bin").mkdir()
    executable = tmp_path / "bin" / program
    executable.write_text(PROGRAM)
    executable.chmod(0o755)
    (tmp_path / "requests").mkdir()
    cases = list(cases_of())
    for number, case in enumerate(cases):
        file = tmp_path / "requests" / f"{number:04d}.{case[0]}.{media_type}"
        file.write_bytes(written(request_of(case, number, program)))
    environment = plain_environment(PATH=f"{executable.parent}{os.pathsep}{os.environ['PATH']}", HOME=str(tmp_path))
    done = subprocess.run(
        [*CALLSPAN, "run", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    calls: list[CallRecord] = list(reading(f"sqlite:///{tmp_path}/callspan.db").calls())
    assert len(calls) == len(cases)
    for call in calls:
        facts = replace(call, request=replace(call.request, body=msgspec.Raw()), conversation=None)
        assert "\\u0000" not in encode(facts).decode(), "but in a body, which is kept as it was sent"
        assert 0 <= call.timing.start_ns < 2**63
        assert call.timing.duration_ns is None or 0 <= call.timing.duration_ns <= 366 * 86_400 * 10**9
    for call in calls[:: scaled(max(1, len(calls) // 5), 1)]:
        shown = ask("--store", str(tmp_path / "callspan.db"), "show", call.call_id)
        assert (shown.code, NUL in shown.out) == (0, False)
        assert ask("--store", str(tmp_path / "callspan.db"), "show", call.call_id, "--json").json
