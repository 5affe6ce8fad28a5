"""Webhooks: the end of a background response, as the SDK hands its webhook to the application."""

from __future__ import annotations

from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.client_info import call_info
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.observe.factory import WebhookReport

_READ: Final = fail_open("read a webhook")
_PREFIX: Final = "response."
_NS: Final = 1_000_000_000


def observe_unwrap(hook_context: HookContext, original: Function) -> Function:
    """Return `webhooks.unwrap` that reports what it says of a background response; the event is the SDK's own."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[WebhookReport, Any] | None:
        del kwargs
        factory = hook_context.factory()
        report = None if factory is None else factory.webhook
        return None if report is None else (report, args[0])

    def returned(state: tuple[WebhookReport, Any], event: Any) -> None:  # noqa: ANN401 - an event of the SDK
        report, resource = state
        kind, response_id = getattr(event, "type", None), getattr(getattr(event, "data", None), "id", None)
        if isinstance(kind, str) and kind.startswith(_PREFIX) and isinstance(response_id, str):
            created_at = getattr(event, "created_at", None)
            at_ns = created_at * _NS if isinstance(created_at, int) else None
            client = getattr(resource, names.RESOURCE_CLIENT.name, None)
            report(call_info(client, None, stream=False), response_id, kind.removeprefix(_PREFIX), at_ns)

    return guarded(original, HookSteps(step=_READ, begin=begin, returned=returned))
