"""callspan: OpenTelemetry instrumentation for the SDKs of models, such as openai, anthropic and google-genai.

One span and one record per call and stream, with sessions and timesteps around them. Public names are imported on first
use.
"""

from __future__ import annotations

import sys as _sys
import typing as _typing

from callspan.runtime.forks import late_import as _late_import
from callspan.runtime.sdk_import import import_sdk as _import_sdk

if _typing.TYPE_CHECKING:
    from callspan.agent.api import (
        guardrail,
        handoff,
        invoke_agent,
        session,
        timestep,
        tool,
    )
    from callspan.agent.call_ids import call_id, last_call_id
    from callspan.agent.context import content, copy_context, metadata
    from callspan.agent.misuse import UsageError
    from callspan.agent.operations import Tool
    from callspan.agent.rewards import feedback, reward
    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep
    from callspan.agent.tree import current_session, current_timestep
    from callspan.comparison.call_sums import summary
    from callspan.erasing import erase
    from callspan.opening import open_store
    from callspan.otlp.byte_bounds import ByteBoundedExporter
    from callspan.plugin import (
        AnthropicInstrumentor,
        BedrockInstrumentor,
        CallRecordExporter,
        CerebrasInstrumentor,
        FireworksInstrumentor,
        GoogleGenAIInstrumentor,
        GroqInstrumentor,
        HTTPInstrumentor,
        OpenAIInstrumentor,
        TogetherInstrumentor,
    )
    from callspan.process.callbacks import add_callback
    from callspan.process.redaction import redact_texts
    from callspan.record.call import CallRecord
    from callspan.recording import RecordedCall, record_call
    from callspan.settings import SettingError, Settings
    from callspan.spans.call import trace_id
    from callspan.stores.importing import import_records
    from callspan.wiring import Handle, instrument, patch_status, uninstrument

_HOMES = {
    "AnthropicInstrumentor": "callspan.plugin",
    "BedrockInstrumentor": "callspan.plugin",
    "ByteBoundedExporter": "callspan.otlp.byte_bounds",
    "CallRecord": "callspan.record.call",
    "CallRecordExporter": "callspan.plugin",
    "CerebrasInstrumentor": "callspan.plugin",
    "FireworksInstrumentor": "callspan.plugin",
    "GoogleGenAIInstrumentor": "callspan.plugin",
    "GroqInstrumentor": "callspan.plugin",
    "HTTPInstrumentor": "callspan.plugin",
    "Handle": "callspan.wiring",
    "UsageError": "callspan.agent.misuse",
    "OpenAIInstrumentor": "callspan.plugin",
    "RecordedCall": "callspan.recording",
    "Session": "callspan.agent.sessions",
    "SettingError": "callspan.settings",
    "Settings": "callspan.settings",
    "Timestep": "callspan.agent.timesteps",
    "TogetherInstrumentor": "callspan.plugin",
    "Tool": "callspan.agent.operations",
    "add_callback": "callspan.process.callbacks",
    "call_id": "callspan.agent.call_ids",
    "content": "callspan.agent.context",
    "copy_context": "callspan.agent.context",
    "current_session": "callspan.agent.tree",
    "current_timestep": "callspan.agent.tree",
    "erase": "callspan.erasing",
    "feedback": "callspan.agent.rewards",
    "guardrail": "callspan.agent.api",
    "handoff": "callspan.agent.api",
    "import_records": "callspan.stores.importing",
    "instrument": "callspan.wiring",
    "invoke_agent": "callspan.agent.api",
    "last_call_id": "callspan.agent.call_ids",
    "metadata": "callspan.agent.context",
    "open_store": "callspan.opening",
    "patch_status": "callspan.wiring",
    "record_call": "callspan.recording",
    "redact_texts": "callspan.process.redaction",
    "reward": "callspan.agent.rewards",
    "session": "callspan.agent.api",
    "summary": "callspan.comparison.call_sums",
    "timestep": "callspan.agent.api",
    "tool": "callspan.agent.api",
    "trace_id": "callspan.spans.call",
    "uninstrument": "callspan.wiring",
}

__all__ = [
    "AnthropicInstrumentor",
    "BedrockInstrumentor",
    "ByteBoundedExporter",
    "CallRecord",
    "CallRecordExporter",
    "CerebrasInstrumentor",
    "FireworksInstrumentor",
    "GoogleGenAIInstrumentor",
    "GroqInstrumentor",
    "HTTPInstrumentor",
    "Handle",
    "OpenAIInstrumentor",
    "RecordedCall",
    "Session",
    "SettingError",
    "Settings",
    "Timestep",
    "TogetherInstrumentor",
    "Tool",
    "UsageError",
    "add_callback",
    "call_id",
    "content",
    "copy_context",
    "current_session",
    "current_timestep",
    "erase",
    "feedback",
    "guardrail",
    "handoff",
    "import_records",
    "instrument",
    "invoke_agent",
    "last_call_id",
    "metadata",
    "open_store",
    "patch_status",
    "record_call",
    "redact_texts",
    "reward",
    "session",
    "summary",
    "timestep",
    "tool",
    "trace_id",
    "uninstrument",
]

_import_sdk()
if _sys.platform == "win32":
    import logging as _logging

    from callspan.runtime.fail_open import log as _log

    _log(_logging.WARNING, "callspan records nothing on Windows; use it on Linux, on macOS, in WSL or in a container")


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'callspan' has no attribute {name!r}")
    value = getattr(_late_import(home), name)
    globals()[name] = value
    if name == "instrument":
        # Also used within requests, which should not wait for imports.
        _late_import("callspan.agent.api")
        _late_import("callspan.recording")
    return value


def __dir__() -> list[str]:
    """Return the public names, without callspan's own modules and imports."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") or name == "testing")})
