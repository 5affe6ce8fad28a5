"""Responses: what requests and answers of `/responses` mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.copies import detached
from callspan.providers.json_readers import dig, items, objects, text, word
from callspan.providers.openai.parts import parts_of
from callspan.providers.openai.request import read_request
from callspan.providers.openai.response import finish_meanings, response_error, unix_time
from callspan.providers.openai.responses_items import item_messages, item_parts, requests_tools
from callspan.providers.openai.responses_stream import ResponsesAccumulator
from callspan.providers.openai.usage import usage_of
from callspan.record.call import ErrorInfo, Request, Response
from callspan.record.finish import CONTENT_FILTER, LENGTH, TOOL_CALLS
from callspan.record.messages import Conversation, Message, Part

_COMPLETED: Final = "completed"
_UNDER_WAY: Final = ("in_progress", "queued")


class Responses:
    """The Responses endpoint. Stateless."""

    api: Api = "responses"
    operation: Operation = "chat"
    path = "/responses"
    message_key = "input"

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request, without its body. Total."""
        return read_request(body, self.message_key)

    def accumulator(self) -> ResponsesAccumulator:
        """Return a fresh accumulator for one stream."""
        return ResponsesAccumulator()

    def response_info(self, body: object) -> ResponseInfo:
        """Return what a whole or folded answer states. Total.

        The finish reason is the reason of an incomplete answer, `tool_calls` for a completed one that requests tools of
        the application, else its status once it has ended.
        """
        reasons = [_reason(body)] if isinstance(dig(body, "output"), list) or text(body, "status") else []
        meant = finish_meanings(reasons)
        return ResponseInfo(
            response=Response(
                id=word(body, "id"),
                model=word(body, "model"),
                created=unix_time(body, "created_at", "created"),
                finish_reasons=reasons,
                service_tier=word(body, "service_tier"),
                system_fingerprint=word(body, "system_fingerprint"),
                status=word(body, "status"),
            ),
            usage=usage_of(body),
            error=response_error(body) or _unexplained(body),
            truncated=LENGTH in meant,
            refused=CONTENT_FILTER in meant or any(_refusals(body)),
        )

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies; either may be None or any JSON."""
        return Conversation(
            system=_instructions(dig(request, "instructions")),
            input=_input(dig(request, "input")),
            output=_output(response),
            tools=[detached(tool) for tool in objects(request, "tools")],
        )


def _reason(body: object) -> str | None:
    reason = text(body, "incomplete_details", "reason")
    status = text(body, "status")
    if reason or status != _COMPLETED:
        return reason or (None if status in _UNDER_WAY else status) or None
    return TOOL_CALLS if requests_tools(items(body, "output")) else status


def _unexplained(body: object) -> ErrorInfo | None:
    """A failure that gives no reason is a failure all the same."""
    return ErrorInfo(kind="unknown", type="failed") if text(body, "status") == "failed" else None


def _refusals(body: object) -> Iterator[bool]:
    for item in objects(body, "output"):
        for part in objects(item, "content"):
            yield text(part, "type") == "refusal"


def _instructions(given: object) -> list[Part]:
    """Instructions are a text; referred prompts put items here."""
    return item_parts(given) if isinstance(given, list) else parts_of(given)


def _input(given: object) -> list[Message]:
    if given is None or given == "":
        return []
    return item_messages(items(given) if isinstance(given, list) else [given])


def _output(response: object) -> list[Message]:
    """One message: the Responses API has one choice. A compaction repeats the user's own messages before it."""
    output = items(response, "output")
    echoed = [item for item in output if text(item, "role") == "user"]
    output_items = [item for item in output if text(item, "role") != "user"]
    if not output:
        return []
    message = Message(role="assistant", parts=item_parts(output_items), finish_reason=_reason(response))
    return [*item_messages(echoed), message]
