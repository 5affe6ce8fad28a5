"""No text of the application is anywhere outside the process but what docs/privacy.md keeps at the setting in force."""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.privacy.canaries import FOUND, SECRETS, Program
from tests.support import sdks
from tests.support.commands import ask

import callspan
from callspan.records import Record, encode
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(sdks.OPENAI < (3, 54) or sdks.ANTHROPIC < (2, 0), reason="needs what these SDKs have"),
]

_NAMES = re.compile(
    "sessionname|failedsession|b[ga]t?c?h?session|abatchsession|stepname|stepid|userid|groupid|taskid|experiment|toolrun|agentname|"
    "guardname|handoffto|handofffrom|actionsystem|envsystem|sender|receiver|messagekind|eventtype|eventname|a?customid[0-9]|"
    "objective|label|latelabel|source|feedbacksource|status|stepstatus"
)
"""Names, ids, words and labels that the application gives to its sessions, steps, tools, agents, events and rewards."""
_METADATA = re.compile(
    "metadata|metakey|metanested|sessionmeta|stepmeta|stepupdate|messagemeta|eventmeta|batchowner|abatchowner|agentdesc"
)
"""What it sets by `callspan.metadata`, or as the metadata of its sessions, steps, messages and events."""
_FACTS = re.compile("toolname.*|definedtool.*|rtool[a-z]*|atool[a-z]*|mcplabel.*")
"""Names of tools and of MCP servers, at the level `metadata`."""
_FIELDS = re.compile("toolparam.*|argkey.*|infokey|metakey|objective")
"""Keys of objects, which are no texts: also of the totals of rewards, by their objectives."""
_NOT_RECORDED = {"batchmeta", "batched0", "batched1", "abatched0", "abatched1", "batchmode0", "batchmode1"}
"""What no record has: the requests of a batch."""


def _failing(record: Record) -> Record:
    raise ValueError(repr(record))


def _none(record: Record) -> Any:
    return None


def _wrong_type(record: Record) -> Any:
    return {"content": repr(record)}


def _masking(text: str) -> str:
    return FOUND.sub("[mine]", text)


SETTINGS: dict[str, tuple[dict[str, Any], tuple[re.Pattern[str], ...]]] = {
    "off": ({"content": "off"}, (_NAMES, _METADATA)),
    "metadata": ({"content": "metadata"}, (_NAMES, _METADATA, _FACTS)),
    "a redactor of texts": ({"redact": callspan.redact_texts(_masking)}, (_FIELDS,)),
    "a redactor that raises": ({"redact": _failing}, ()),
    "a redactor that returns nothing": ({"redact": _none}, ()),
    "a redactor that returns another type": ({"redact": _wrong_type}, ()),
}


def everything(
    place: Path, provider: ScriptedProvider, log: pytest.LogCaptureFixture, **settings: Any
) -> tuple[Program, dict[str, str]]:
    """Run the program; return it, and the text of each channel."""
    log.set_level(logging.DEBUG, logger="callspan")
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    events, traces, logs = InMemoryLogRecordExporter(), TracerProvider(), LoggerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    logs.add_log_record_processor(SimpleLogRecordProcessor(events))
    stores = [f"sqlite:///{place / 'a.db'}", f"jsonl:///{place / 'b.jsonl'}"]
    handle = callspan.instrument(
        stores=stores,
        tracer_provider=traces,
        meter_provider=MeterProvider([metrics]),
        logger_provider=logs,
        log_events=True,
        vocabularies=("llm", "gen_ai", "openinference"),
        chunk_log=5,
        attempt_spans=True,
        **settings,
    )
    program = Program(provider)
    try:
        program.run()
        assert handle.force_flush(60_000)
        channels = {"spool": "".join(_text(path) for path in place.glob("*.spool/**/*") if path.is_file())}
    finally:
        handle.uninstrument()
    channels |= {str(path): _text(path) for path in place.rglob("*") if path.is_file()}
    channels |= {f"span {span.name}": span.to_json() for span in spans.get_finished_spans()}
    channels |= {
        f"log event {number}": _shown(event.log_record) for number, event in enumerate(events.get_finished_logs())
    }
    data = metrics.get_metrics_data()
    channels["metrics"] = "" if data is None else data.to_json()
    channels["logs"] = log.text
    reader = callspan.open_store(stores[0])
    channels["store"] = "".join(encode(call).decode() for call in reader.calls())
    reader.close()
    channels["doctor"] = ask("--store", stores[0], "doctor").out
    return program, channels


def _shown(record: Any) -> str:
    """Return what exporters send of a log event: not its context, which is an object of this process."""
    return repr({name: value for name, value in vars(record).items() if name != "context"})


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _leaked(channels: dict[str, str]) -> list[tuple[str, str]]:
    """Where which of the secrets is, plain or in base64."""
    forms = [(secret, form) for secret in SECRETS for form in (secret, b64encode(secret.encode()).decode())]
    return [(secret, channel) for secret, form in forms for channel, text in channels.items() if form in text]


def _seen(channels: dict[str, str]) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {}
    for channel, text in channels.items():
        for label in FOUND.findall(text):
            seen.setdefault(label, set()).add(channel.rpartition("/")[2])
    return seen


def test_the_program_carries_canaries_everywhere(
    tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """With all content they arrive: what the settings below take away would be found."""
    program, channels = everything(tmp_path, provider, caplog)
    seen = _seen(channels)
    masked = {"metasecret", "batchkey", "abatchtoken", "mcptokenm", "mcptokenms", "mcptokenme"}
    assert len(program.used) > 250
    assert not masked & seen.keys()
    missing = program.used.keys() - seen.keys() - masked
    assert missing <= _NOT_RECORDED
    assert _leaked(channels) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_no_canary_leaves_the_process(
    name: str, tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    settings, kept = SETTINGS[name]
    program, channels = everything(tmp_path, provider, caplog, **settings)
    assert len(program.used) > 250
    left = {
        label: places
        for label, places in _seen(channels).items()
        if label in program.used and not any(one.fullmatch(label) for one in kept)
    }
    assert left == {}
    assert _leaked(channels) == []
    masked = sum(text.count("[mine]") for text in channels.values())
    lost = any("redactor_failed" in text for text in channels.values())
    assert (masked > 1000, lost) == ((True, False) if name == "a redactor of texts" else (False, "redact" in settings))
