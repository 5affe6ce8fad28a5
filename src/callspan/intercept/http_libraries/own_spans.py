"""Own spans: those that an SDK makes of requests which are recorded here by the HTTP library, and which it then omits.

mistralai makes one for each request once its tracing is on, and reads the answer by a copy of the response. Its span of
a request that is no call here stays. azure-ai-inference traces itself too, by a
span that is current while it sends, and becomes the call's.
"""

from __future__ import annotations

from functools import update_wrapper
from typing import Any, Final

from callspan.intercept.hooks import HOOK_CONTEXT, Function, Reads, position
from callspan.intercept.http_libraries import wire_calls
from callspan.runtime.fail_open import fail_open

_OMIT: Final = fail_open("leave out the span of an SDK")
_REQUEST: Final = "request"


def without_span(original: Function, reads: Reads, *, is_async: bool = False) -> Function:
    """Return the hook of an SDK that takes a request before it is sent, which passes on calls without a span."""
    del is_async
    at = position(_REQUEST, reads, original)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        try:
            request = kwargs[_REQUEST] if _REQUEST in kwargs else args[at]
            if HOOK_CONTEXT.http_calls and HOOK_CONTEXT.factory() is not None and wire_calls.may_be_call(request):
                return request
        except Exception as error:
            _OMIT.report(error)
        return original(*args, **kwargs)

    return update_wrapper(hooked, original)
