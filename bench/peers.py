"""The peers: their packages, and how to enable each with content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

THEIRS = "theirs"
_EVERY = ("openai", "anthropic", "google")


@dataclass(frozen=True)
class Peer:
    """Another tracer of the same SDKs."""

    name: str
    packages: tuple[str, ...]
    """Packages to install, in the newest versions compatible with our SDKs."""
    switch_on: Callable[[TracerProvider], object]
    environment: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ("openai", "anthropic")
    older: Mapping[str, str] = field(default_factory=dict)
    """SDK -> the first version it refuses, where that is not newer than ours."""
    built_in: bool = False
    """Whether it is part of the anthropic SDK, enabled per client."""


def _instrumentors(openai: str, anthropic: str, google: str) -> Callable[[TracerProvider], object]:
    """Return a function that enables the instrumentors of three SDKs, each as its module and class."""

    def switch_on(tracing: TracerProvider) -> None:
        for instrumentor in (openai, anthropic, google):
            module, _, name = instrumentor.partition(":")
            getattr(import_module(module), name)().instrument(tracer_provider=tracing)

    return switch_on


def _logfire(tracing: TracerProvider) -> None:
    import logfire

    # Not its global configuration, because the anthropic SDK's own tracing would use its provider.
    own = logfire.configure(
        local=True, send_to_logfire=False, console=False, metrics=False, inspect_arguments=False,
        additional_span_processors=[*tracing._active_span_processor._span_processors],
    )  # fmt: skip
    own.instrument_openai()
    own.instrument_anthropic()


def _nothing(tracing: TracerProvider) -> None:
    del tracing


def native_options(tracing: TracerProvider) -> dict[str, Any]:
    """Return the options for a client of the anthropic SDK that traces itself with content into `tracing`."""
    return {"open_telemetry": {"tracer_provider": tracing, "traces": {"content_mode": "content"}}}


PEERS: dict[str, Peer] = {
    "official": Peer(
        "official (genai)",
        (
            "opentelemetry-instrumentation-genai-openai",
            "opentelemetry-instrumentation-genai-anthropic",
            "opentelemetry-instrumentation-google-genai",
        ),
        _instrumentors(
            "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
            "opentelemetry.instrumentation.google_genai:GoogleGenAiSdkInstrumentor",
        ),
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"},
        _EVERY,
        {"google-genai": "3"},
    ),
    "openinference": Peer(
        "OpenInference",
        (
            "openinference-instrumentation-openai",
            "openinference-instrumentation-anthropic",
            "openinference-instrumentation-google-genai",
        ),
        _instrumentors(
            "openinference.instrumentation.openai:OpenAIInstrumentor",
            "openinference.instrumentation.anthropic:AnthropicInstrumentor",
            "openinference.instrumentation.google_genai:GoogleGenAIInstrumentor",
        ),
        families=_EVERY,
    ),
    "openllmetry": Peer(
        "OpenLLMetry",
        (
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-anthropic",
            "opentelemetry-instrumentation-google-generativeai",
        ),
        _instrumentors(
            "opentelemetry.instrumentation.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.anthropic:AnthropicInstrumentor",
            "opentelemetry.instrumentation.google_generativeai:GoogleGenerativeAiInstrumentor",
        ),
        {"TRACELOOP_TRACE_CONTENT": "true"},
        _EVERY,
    ),
    "logfire": Peer("Logfire", ("logfire",), _logfire, {"LOGFIRE_SEND_TO_LOGFIRE": "false"}),
    "native": Peer("anthropic SDK", (), _nothing, families=("anthropic",), built_in=True),
}
