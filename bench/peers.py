"""The peers: their packages, and how to enable each with content captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

THEIRS = "theirs"


@dataclass(frozen=True)
class Peer:
    """One way to trace the same SDKs."""

    name: str
    packages: tuple[str, ...]
    """What to install; the newest that goes with our versions of the SDKs."""
    switch_on: Callable[[TracerProvider], object]
    environment: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ("openai", "anthropic")
    built_in: bool = False
    """It is part of the anthropic SDK: a client is made with it."""


def _official(tracing: TracerProvider) -> None:
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    _instrument((OpenAIInstrumentor, AnthropicInstrumentor), tracing)


def _openllmetry(tracing: TracerProvider) -> None:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    _instrument((OpenAIInstrumentor, AnthropicInstrumentor), tracing)


def _openinference(tracing: TracerProvider) -> None:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    _instrument((OpenAIInstrumentor, AnthropicInstrumentor), tracing)


def _logfire(tracing: TracerProvider) -> None:
    import logfire

    # Not its global configuration, whose provider the anthropic SDK's own tracing would use as well.
    own = logfire.configure(
        local=True, send_to_logfire=False, console=False, metrics=False, inspect_arguments=False,
        additional_span_processors=[*tracing._active_span_processor._span_processors],
    )  # fmt: skip
    own.instrument_openai()
    own.instrument_anthropic()


def _instrument(instrumentors: tuple[Any, ...], tracing: TracerProvider) -> None:
    for instrumentor in instrumentors:
        instrumentor().instrument(tracer_provider=tracing)


def _nothing(tracing: TracerProvider) -> None:
    del tracing


def native_options(tracing: TracerProvider) -> dict[str, Any]:
    """Return the options of a client of the anthropic SDK that traces itself into `tracing`, content and all."""
    return {"open_telemetry": {"tracer_provider": tracing, "traces": {"content_mode": "content"}}}


PEERS: dict[str, Peer] = {
    "official": Peer(
        "official (genai)",
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
        _official,
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"},
    ),
    "openinference": Peer(
        "OpenInference",
        ("openinference-instrumentation-openai", "openinference-instrumentation-anthropic"),
        _openinference,
    ),
    "openllmetry": Peer(
        "OpenLLMetry",
        ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic"),
        _openllmetry,
        {"TRACELOOP_TRACE_CONTENT": "true"},
    ),
    "logfire": Peer("Logfire", ("logfire",), _logfire, {"LOGFIRE_SEND_TO_LOGFIRE": "false"}),
    "native": Peer("anthropic SDK", (), _nothing, families=("anthropic",), built_in=True),
}
