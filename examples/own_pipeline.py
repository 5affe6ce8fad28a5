"""Your own tracer provider, exporter and redactor: callspan uses them, and adds to the provider what sees agents.

python examples/own_pipeline.py
"""

import re
from collections.abc import Sequence

import openai
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import callspan
from offline import answers

EMAIL = re.compile(r"\S+@\S+\.\w+")


class PrintingExporter(SpanExporter):
    """Prints each span; in its place stands the exporter of your backend."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            print(span.name, (span.attributes or {})["gen_ai.input.messages"])
        return SpanExportResult.SUCCESS


provider = TracerProvider(resource=Resource.create({"service.name": "mailer"}))
provider.add_span_processor(BatchSpanProcessor(PrintingExporter()))
handle = callspan.instrument(
    tracer_provider=provider,
    stores="sqlite:///callspan.db",
    redact=callspan.redact_texts(lambda text: EMAIL.sub("[e-mail]", text)),
)

with answers("Sent."), openai.OpenAI() as client:
    client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "Write to mara@example.com."}]
    )

handle.force_flush()  # the stores, and the provider with its exporter
print("Now: callspan show last")
