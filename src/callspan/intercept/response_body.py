"""Response bodies: the JSON of a body that the SDK has not parsed, and the error of one that is no JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

from callspan.fail_open import ours, value_of
from callspan.record.call import ErrorInfo

_EVENT_STARTS: Final = (b"data:", b"event:", b":")


def body_of(result: object, response: Any) -> object:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return the JSON of a finished call that the SDK has not parsed: of the read response, else of the result."""
    if isinstance(result, str):
        return value_of(partial(json.loads, _encoded(result)))
    if hasattr(response, "json") and getattr(response, "is_closed", False):
        return value_of(response.json)
    for name in ("to_dict", "model_dump"):
        method = getattr(result, name, None)
        if callable(method):
            dumped = value_of(method)
            return dumped if isinstance(dumped, dict) else None
    return None


def body_error(result: object, response: Any) -> ErrorInfo | None:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return what is wrong with a body that was read and is not JSON; None: nothing, or it was not read.

    The SDKs return such a body as text where its content type does not say that it is JSON; the caller of a raw
    response learns it later.
    """
    if isinstance(result, str):
        return parsing_error(_encoded(result))
    response = result if response is None else response
    content = value_of(lambda: response.content) if getattr(response, "is_closed", False) else None
    return parsing_error(content) if isinstance(content, bytes) else None


def _encoded(text: str) -> bytes:
    """The bytes of a text; the standard library reads a byte order mark only there."""
    return text.encode("utf-8", "surrogatepass")


def parsing_error(content: bytes) -> ErrorInfo | None:
    """Return the error of a body that is not JSON, however it was read; None for JSON, no body, and a stream's events.

    Events come as text where a stream was requested by `extra_body` of a call the SDK takes for a plain one.
    """
    if not content or content.startswith(_EVENT_STARTS):
        return None
    try:
        json.loads(content)
    except ours(ValueError) as error:
        return ErrorInfo(kind="parsing", type=type(error).__name__)
    except ours(RecursionError):
        return None
    return None
