"""Table of the hooks of SDKs with a hook of their own.

The names exist in google-genai 1.33 to 3.x.
"""

from __future__ import annotations

from typing import Final

from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.hooked_sdks import google_genai, google_interactions, google_loops

_CLIENT: Final = ("google.genai._api_client:BaseApiClient",)
_LOOPS: Final = "agents of automatic function calling"

HOOKS: Final[tuple[Hook, ...]] = (
    Hook(
        "_request", _CLIENT, google_genai.REQUEST.around, "all sync calls", keep_while_streaming=False,
        reads={"http_request": 1, "stream": 3},
    ),
    Hook(
        "_async_request", _CLIENT, google_genai.REQUEST.around, "all async calls", keep_while_streaming=False,
        reads={"http_request": 1, "stream": 3}, is_async=True,
    ),
    Hook("_request_once", _CLIENT, google_genai.ATTEMPT.around, "attempts of sync calls", reads={"http_request": 1}),
    Hook(
        "_async_request_once", _CLIENT, google_genai.ATTEMPT.around, "attempts of async calls",
        reads={"http_request": 1}, is_async=True,
    ),
    Hook(
        "do_request", ("google.genai._gaos.basesdk:BaseSDK",), google_interactions.REQUEST.around, "sync interactions",
        keep_while_streaming=False, reads={"request": 2, "stream": 4}, late=True,
    ),
    Hook(
        "do_request_async", ("google.genai._gaos.basesdk:AsyncBaseSDK",), google_interactions.REQUEST.around,
        "async interactions", keep_while_streaming=False, reads={"request": 2, "stream": 4}, late=True, is_async=True,
    ),
    *both(
        "generate_content", ("google.genai.models:{Async}Models",), google_loops.LOOP.around, _LOOPS, awaits=True,
        late=True,
    ),
    *both(
        "generate_content_stream", ("google.genai.models:{Async}Models",), google_loops.STREAM.around, _LOOPS,
        awaits=True, late=True,
    ),
    *both("send_message", ("google.genai.chats:{Async}Chat",), google_loops.LOOP.around, _LOOPS, awaits=True),
    *both(
        "send_message_stream", ("google.genai.chats:{Async}Chat",), google_loops.STREAM.around, _LOOPS, awaits=True,
    ),
    Hook(
        "invoke_function_from_dict_args", ("google.genai._extra_utils",), google_loops.TOOL.around,
        "tools of automatic function calling", reads={"args": 0, "function_to_invoke": 1}, late=True,
    ),
    Hook(
        "invoke_function_from_dict_args_async", ("google.genai._extra_utils",), google_loops.TOOL.around,
        "async tools of automatic function calling", reads={"args": 0, "function_to_invoke": 1}, is_async=True,
        late=True,
    ),
)  # fmt: skip
