"""A small application whose traces go to an OTLP receiver such as Jaeger.

Without OPENAI_API_KEY a scripted provider on loopback answers: a call that is retried, a stream, one that fails.
"""

import os
from contextlib import ExitStack

import openai
from opentelemetry import trace

import callspan
from callspan.testing import ScriptedProvider


def answer_questions(client: openai.OpenAI) -> None:
    """Create one trace: a span of the application, and below it a session with two steps."""
    question = [{"role": "user", "content": "Name a river in France."}]
    with trace.get_tracer("app").start_as_current_span("handle request"), callspan.session("questions") as session:
        with session.timestep("ask"):
            reply = client.chat.completions.create(model="gpt-4.1-mini", messages=question)
            print(reply.choices[0].message.content)
        with session.timestep("stream"):
            stream = client.chat.completions.create(
                model="gpt-4.1-mini", messages=question, stream=True, stream_options={"include_usage": True}
            )
            print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
            try:
                client.chat.completions.create(model="gpt-4.1-mini", messages=question, max_completion_tokens=0)
            except openai.BadRequestError as error:
                print("refused:", error.code or error.type)
        session.outcome(success=True)


def script(provider: ScriptedProvider) -> None:
    """Script the answers of the provider."""
    provider.reply(status=429, retry_after_s=0.3, message="Rate limit reached")
    provider.reply(text="The Loire.", input_tokens=13, output_tokens=4)
    provider.reply(text="The Rhône, the Seine, the Garonne.", first_token_delay_s=0.2, chunk_delay_s=0.05)
    provider.reply(status=400, message="max_completion_tokens must be at least 1")


def main() -> None:
    """Send one trace to `OTEL_EXPORTER_OTLP_ENDPOINT`, by default a Jaeger on this machine."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    os.environ.setdefault("OTEL_METRICS_EXPORTER", "none")  # Jaeger accepts only spans
    handle = callspan.instrument(otlp=endpoint)
    with ExitStack() as stack:
        if os.environ.get("OPENAI_API_KEY"):
            client = openai.OpenAI()
        else:
            provider = stack.enter_context(ScriptedProvider())
            script(provider)
            client = openai.OpenAI(base_url=provider.openai_url, api_key="scripted")
        answer_questions(stack.enter_context(client))
    sent = handle.force_flush()
    print(f"{'Sent' if sent else 'Could not send'} the trace to {endpoint}")


if __name__ == "__main__":
    main()
