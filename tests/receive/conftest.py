"""What the tests of received telemetry share: recorded events of Claude Code, requests of OTLP, a running receiver.

`tools.json` and `failed.json` hold what the `claude` program 2.1.332 sent, request by request, with shortened prompts:
a call that is repeated after 429, two tools at once of which one fails, a subagent; and a call that fails twice.
`codex.json` holds what `codex` 0.171.0 sent: a call, its tool, and a call that is repeated after 500.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.conftest import Instrument, Read
from tests.support.processes import plain_environment
from tests.support.waiting import HANG_S

from callspan.agent.adopted import AGENT_SPANS
from callspan.cli.doctor import every_check
from callspan.cost import pricer_for
from callspan.intercept.programs import PROGRAMS, TELEMETRY
from callspan.providers.hosts import PROVIDERS as PROVIDERS_OF_HOSTS
from callspan.receive.agents import _ENDING, ELSEWHERE, SILENT, AgentReceiver, StartedAgent, record_all_left
from callspan.receive.body_files import left_files
from callspan.receive.claude_records import SCOPE_OF_SPANS, with_result
from callspan.receive.decoding import Signal, TooLargeError
from callspan.receive.history import History
from callspan.receive.inbox import Inbox
from callspan.receive.otlp_protobuf import REQUESTS, ProtobufReader
from callspan.receive.senders import Sender
from callspan.receive.server import OtlpServer
from callspan.receive.waiting import WaitingRecords, records_in
from callspan.record.call import Place
from callspan.record.ids import response_call_id
from callspan.record.labels import Ownership
from callspan.record.merging import merged
from callspan.records import CallRecord
from callspan.semconv.records_from_spans import session_of_conversation
from callspan.semconv.vocabularies import COST, COUNTERS, PROVIDER, PROVIDERS
from callspan.settings_loader import forget_warnings
from callspan.spool.losses import read_losses
from callspan.stores import EmptyStoreError
from callspan.stores.spools import spool_directory
from callspan.wiring import WIRING

__all__ = [
    "AGENT_SPANS",
    "COST",
    "COUNTERS",
    "ELSEWHERE",
    "HANG_S",
    "PROGRAMS",
    "PROVIDER",
    "PROVIDERS",
    "PROVIDERS_OF_HOSTS",
    "REQUESTS",
    "SCOPE_OF_SPANS",
    "SILENT",
    "TELEMETRY",
    "WIRING",
    "AgentReceiver",
    "History",
    "Inbox",
    "OtlpServer",
    "Ownership",
    "Place",
    "ProtobufReader",
    "Sender",
    "StartedAgent",
    "TooLargeError",
    "WaitingRecords",
    "agents_ended",
    "every_check",
    "forget_warnings",
    "left_files",
    "pricer_for",
    "record_all_left",
    "records_in",
    "response_call_id",
    "session_of_conversation",
    "unrecorded_of",
    "with_result",
]  # fmt: skip

JSON = {"content-type": "application/json"}
CALLSPAN = (sys.executable, "-m", "callspan.cli")
GEN_AI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 5,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.conversation.id": "c1",
}
Events = list[dict[str, Any]]
HERE = Path(__file__).parent


def recorded(name: str) -> list[Events]:
    """The events of a run, by the requests in which they were sent."""
    requests: list[Events] = json.loads((HERE / f"{name}.json").read_text())
    return requests


def value(item: object) -> dict[str, object]:
    match item:
        case bool():
            return {"boolValue": item}
        case int():
            return {"intValue": str(item)}
        case float():
            return {"doubleValue": item}
        case list():
            return {"arrayValue": {"values": [value(part) for part in item]}}
        case _:
            return {"stringValue": item}


def pairs(attributes: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": value(item)} for key, item in attributes.items()]


def logs(events: Iterable[Mapping[str, Any]], service: str = "claude-code") -> dict[str, Any]:
    """A request with log records, as JSON."""
    records = [
        {
            "timeUnixNano": str(event["time_ns"]),
            "attributes": pairs({key: item for key, item in event.items() if key != "time_ns"}),
        }
        for event in events
    ]
    resource = {"attributes": pairs({"service.name": service, "service.version": "2.1.332"})}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "s"}, "logRecords": records}]}]}


def span(attributes: Mapping[str, object], ident: int = 1, parent: int = 0, **fields: object) -> dict[str, Any]:
    """A span as JSON."""
    return {
        "name": "a span",
        "traceId": f"{7:032x}",
        "spanId": f"{ident:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "startTimeUnixNano": "1795939000000000000",
        "endTimeUnixNano": "1795939001000000000",
        "attributes": pairs(attributes),
        **fields,
    }


def traces(*spans: Mapping[str, Any], scope: str = "theirs", service: str = "web") -> dict[str, Any]:
    resource = {"attributes": pairs({"service.name": service})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": scope}, "spans": [*spans]}]}]}


ONE = json.dumps(traces(span(GEN_AI))).encode()


def post(server: OtlpServer, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    sent = {
        name.replace("_", "-"): content for name, content in {"content_type": JSON["content-type"], **headers}.items()
    }
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("POST", path, body, sent)
        answer: HTTPResponse = connection.getresponse()
        return answer.status, answer.read()


def calls(reading: Read, store: str) -> list[Any]:
    assert WIRING.flush(20)
    try:
        return list(reading(store).calls())
    except EmptyStoreError:
        return []


def unrecorded_of(store: str) -> dict[str, int]:
    """What was not recorded, as `losses` has it."""
    assert WIRING.pipeline is not None
    losses = read_losses(spool_directory(WIRING.pipeline.settings, [store]))
    return {name: loss.count for name, loss in losses.unrecorded.items()}


def agents_ended() -> None:
    """Wait until what was left by the agents that have ended is recorded."""
    time.sleep(1.5)  # their last requests may come for a second
    assert _ENDING.drain(HANG_S, later=True)


class Kept:
    """An inbox, and the newest version of each record that it wrote. `works` False: nothing can be written."""

    def __init__(self) -> None:
        self.works = True
        self.versions: list[Any] = []
        self.levels: set[str] = set()
        self.unrecorded: list[str] = []
        self.inbox = Inbox(self._write, self.unrecorded.append)

    def _write(self, record: Any, level: str) -> bool:
        if self.works:
            self.versions.append(record)
            self.levels.add(level)
        return self.works

    def take(self, request: object, signal: Signal = "logs", sender: Sender | None = None) -> bool:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.inbox.take(signal, body, sender or Sender(), is_protobuf=False).result(HANG_S) is not None

    def of(self, kind: type[Any]) -> list[Any]:
        found = [record for record in self.versions if isinstance(record, kind)]
        return found

    @property
    def calls(self) -> dict[str, CallRecord]:
        """The calls by id, merged as a store does it, in order of their start and end."""
        by_id: dict[str, list[CallRecord]] = {}
        for record in self.of(CallRecord):
            by_id.setdefault(record.call_id, []).append(record)
        calls = [merged(versions) for versions in by_id.values()]
        calls.sort(key=lambda call: (call.timing.start_ns, call.timing.duration_ns or 0))
        return {call.call_id: call for call in calls}


@pytest.fixture
def kept() -> Kept:
    return Kept()


class Receiver(NamedTuple):
    """A running `callspan receive`."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def receiver(directory: Path, **environment: str) -> Iterator[Receiver]:
    """Run the command with a store in a directory."""
    command = [*CALLSPAN, "--store", f"sqlite:///{directory}/c.db", "receive", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory,
        env=plain_environment(**environment),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield Receiver(process, json.loads(process.stdout.readline())["url"])
        process.kill()


Serve = Callable[..., OtlpServer]


@pytest.fixture
def serve(store: str, instrumented: Instrument) -> Iterator[Serve]:
    """Start a receiver that writes to the store."""
    running: list[tuple[OtlpServer, threading.Thread]] = []

    def start(*, needs_token: bool = False, **settings: Any) -> OtlpServer:
        instrumented(**{"stores": store, "sdks": (), **settings})
        anybody, unrecorded = None if needs_token else Sender(), WIRING.hook_context.unrecorded
        server = OtlpServer(Inbox(WIRING.write, unrecorded), 0, anybody=anybody, unrecorded=unrecorded)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.stop()
        thread.join(10)
