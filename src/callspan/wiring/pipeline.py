"""Pipeline: everything one `instrument()` puts together out of its settings."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

from opentelemetry import trace

from callspan.agent import context as agent_context
from callspan.agent.runtime import Runtime
from callspan.config import Settings
from callspan.fail_open import fail_open, value_of
from callspan.observe.factory import CallFactory
from callspan.policy.apply import Policy
from callspan.record.events import Record
from callspan.spans.call_span import CallSpans
from callspan.spans.hierarchy import HierarchyOptions, TracedHierarchy
from callspan.spans.metrics import CallMetrics
from callspan.wiring.forked_workers import ForkedWorkers
from callspan.wiring.parts import Parts
from callspan.wiring.recorder import Recorder

__all__ = ["Parts", "Pipeline"]

_TREAT: Final = fail_open("apply the content policy")


class Pipeline:
    """Settings made into the objects that do the work. Starts no thread and opens no file."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.parts = parts
        self.recorder = Recorder(settings, parts.listeners)
        policy = Policy(settings, parts.redact)
        version = _version()
        spans = CallSpans(settings, parts.tracer_provider, version)
        metrics = CallMetrics(parts.meter_provider, version)
        self.factory = CallFactory(
            start_span=spans.start,
            treat=policy.apply,
            write=self.recorder.write,
            observed=metrics.observed,
            begun=metrics.begun,
            scope=agent_context.current_scope,
            metadata=agent_context.current_metadata,
            service=settings.service,
            host=platform.node() or None,
            process_id=ForkedWorkers(parts.flush).process_id,
        )
        self.start_with = spans.start
        """Starts the span of a call with another tracer."""
        self._policy = policy
        self.runtime = Runtime(
            write=self.recorder.write,
            treat=policy.apply,
            spans=TracedHierarchy(
                trace.get_tracer("callspan", version, parts.tracer_provider),
                HierarchyOptions(
                    content=spans.content,
                    compatibility=settings.compatibility,
                    attribute_bytes=settings.max_attribute_bytes,
                    span_bytes=settings.max_span_bytes,
                    llm="llm" in settings.vocabularies,
                ),
            ),
            strict=settings.strict,
            trace_per_timestep=settings.trace_per == "timestep",
            service=settings.service,
        )

    def write(self, record: Record) -> None:
        """Treat and keep a record that is no call of ours; one the policy cannot treat is not kept."""
        with _TREAT:
            self.recorder.write(self._policy.apply(record))


def _version() -> str:
    return value_of(lambda: metadata.version("callspan")) or "unknown"
