"""Background responses of the scripted provider: what each request finds of one, until it has ended; and webhooks.

Wire reference: https://platform.openai.com/docs/guides/background
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

from callspan.testing.provider.answer import encode
from callspan.testing.provider.script import Json

_WAITING: Json = {"error": None, "incomplete_details": None, "output": [], "usage": None, "completed_at": None}
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what precedes a secret


class StoredResponse:
    """A response that can be read again by its id; one in the background ends after so many polls."""

    def __init__(self, body: Json, polls: int) -> None:
        """`body` is the response once it has ended."""
        self._body = body
        self._polls = polls if body.get("background") is True else 0
        self._cancelled = False

    @property
    def id(self) -> str:
        """Its id."""
        return str(self._body.get("id"))

    def queued(self) -> Json:
        """The answer to the request that created it."""
        return {**self._body, **_WAITING, "status": "queued"}

    def fetched(self) -> Json:
        """What a poll finds: it is in progress for as many as were scripted."""
        if self._polls <= 0:
            return self.ended()
        self._polls -= 1
        return {**self._body, **_WAITING, "status": "in_progress"}

    def ended(self) -> Json:
        """The response once it has ended, which it has now."""
        self._polls = 0
        return {**self._body, **_WAITING, "status": "cancelled"} if self._cancelled else self._body

    def cancel(self) -> Json:
        """Cancel it, unless it has ended."""
        self._cancelled = self._cancelled or self._polls > 0
        return self.ended()


def in_background(body: Json) -> Json:
    """The body of a response as it is where it was created in the background."""
    completed_at = int(time.time()) if body.get("status") == "completed" else None
    return {**body, "background": True, "completed_at": completed_at}


def webhook(body: Json, secret: str) -> tuple[str, Mapping[str, str]]:
    """Payload and headers of the webhook that reports the end of a response."""
    identity, now = f"evt_{secrets.token_hex(16)}", int(time.time())
    event = {
        "id": identity,
        "object": "event",
        "created_at": now,
        "type": f"response.{body.get('status')}",
        "data": {"id": body.get("id")},
    }
    payload = encode(event).decode()
    key = (
        base64.b64decode(secret.removeprefix(_SECRET_PREFIX)) if secret.startswith(_SECRET_PREFIX) else secret.encode()
    )
    signed = hmac.new(key, f"{identity}.{now}.{payload}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(signed).decode()}"
    return payload, {"webhook-id": identity, "webhook-timestamp": str(now), "webhook-signature": signature}
