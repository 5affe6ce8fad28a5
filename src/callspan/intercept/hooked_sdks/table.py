"""Table of the hooks of SDKs with a hook of their own.

The names exist in google-genai 1.33 to 3.x (older interactions: 1.55 to 2.8), botocore 1.34 to 1.44, aiobotocore 2.13
to 3.x.
"""

from __future__ import annotations

from typing import Final

from callspan.intercept.generated_sdks import request, streams
from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.hooked_sdks import bedrock, bedrock_answers, google_genai, google_interactions, google_loops
from callspan.intercept.hooks import observe_data

_CLIENT: Final = ("google.genai._api_client:BaseApiClient",)
_INTERACTIONS: Final = "google.genai._interactions._base_client:"
_LOOPS: Final = "agents of automatic function calling"

_BODIES: Final = ("botocore.response:StreamingBody",)
_ASYNC_BODIES: Final = ("aiobotocore.response:StreamingBody", "aiobotocore.response:AioHttpxStreamingBody")
_CONTENT: Final = "answers of {} models that were invoked"
_SYNC_CONTENT, _ASYNC_CONTENT = _CONTENT.format("sync"), _CONTENT.format("async")

_BEDROCK: Final = (
    Hook(
        "_make_api_call", ("botocore.client:BaseClient",), bedrock.CALL.around, "all sync calls",
        keep_while_streaming=False, reads={"operation_name": 1, "api_params": 2},
    ),
    Hook(
        "_make_api_call", ("aiobotocore.client:AioBaseClient",), bedrock.CALL.around, "all async calls",
        keep_while_streaming=False, reads={"operation_name": 1, "api_params": 2}, is_async=True, late=True,
    ),
    Hook(
        "_get_response", ("botocore.endpoint:Endpoint",), bedrock.ATTEMPT.around, "attempts of sync calls",
        reads={"request": 1, "operation_model": 2},
    ),
    Hook(
        "_get_response", ("aiobotocore.endpoint:AioEndpoint",), bedrock.ATTEMPT.around, "attempts of async calls",
        reads={"request": 1, "operation_model": 2}, is_async=True, late=True,
    ),
    Hook(
        "_parse_event", ("botocore.eventstream:EventStream",), bedrock_answers.PARSE.around, "events of sync streams"
    ),
    Hook(
        "_parse_event", ("aiobotocore.eventstream:AioEventStream",), bedrock_answers.PARSE.around,
        "events of async streams", is_async=True, late=True,
    ),
    Hook(
        "close", ("botocore.eventstream:EventStream",), bedrock_answers.CLOSE_STREAM.around,
        "streams that are closed early; they end when collected",
    ),
    Hook("read", _BODIES, bedrock_answers.READ.around, _SYNC_CONTENT),
    Hook(
        "readinto", _BODIES, bedrock_answers.READ_INTO.around, _SYNC_CONTENT, reads={"b": 1}, with_="readinto"
    ),
    Hook("readlines", _BODIES, bedrock_answers.READ_LINES.around, _SYNC_CONTENT),
    Hook("__enter__", _BODIES, bedrock_answers.ENTER.around, _SYNC_CONTENT),
    Hook("__exit__", _BODIES, bedrock_answers.CLOSE.around, _SYNC_CONTENT),
    Hook("close", _BODIES, bedrock_answers.CLOSE.around, _SYNC_CONTENT),
    Hook(
        "read", _ASYNC_BODIES, bedrock_answers.READ.around, _ASYNC_CONTENT, is_async=True, late=True, with_="read"
    ),
    Hook(
        "readinto", _ASYNC_BODIES, bedrock_answers.READ_INTO.around, _ASYNC_CONTENT, reads={"b": 1}, is_async=True,
        late=True, with_="readinto",
    ),
    Hook(
        "aclose", _ASYNC_BODIES, bedrock_answers.CLOSE.around, _ASYNC_CONTENT, is_async=True, late=True,
        with_="aclose",
    ),
    Hook(
        "close", _ASYNC_BODIES[:1], bedrock_answers.CLOSE.around, _ASYNC_CONTENT, late=True, with_="aclose"
    ),
)  # fmt: skip
_OLDER_INTERACTIONS: Final = (
    *both(
        "request", (f"{_INTERACTIONS}{{Sync}}APIClient",), google_interactions.OLDER_REQUEST.around,
        "{sync} interactions", awaits=True, reads={"options": 2, "stream": 4}, keep_while_streaming=False, in_code=True,
        late=True,
    ),
    *both(
        "_process_response", (f"{_INTERACTIONS}{{Sync}}APIClient",), request.RESPONSE.around,
        "content of {sync} interactions", reads={"response": 3}, late=True,
    ),
    Hook(
        "_process_response_data", (f"{_INTERACTIONS}BaseClient",), observe_data, "content of streamed interactions",
        reads={"data": 1, "response": 3}, late=True,
    ),
    Hook(
        "_build_request", (f"{_INTERACTIONS}BaseClient",), request.BUILD.around, "request bodies of interactions",
        reads={"options": 1}, late=True,
    ),
    *both(
        "__stream__", ("google.genai._interactions._streaming:{Async}Stream",), streams.READER.around,
        "errors of {sync} streams of interactions; they end when closed or collected", late=True,
    ),
)  # fmt: skip
HOOKS: Final[tuple[Hook, ...]] = (
    *_BEDROCK,
    *_OLDER_INTERACTIONS,
    Hook(
        "_request", _CLIENT, google_genai.REQUEST.around, "all sync calls", keep_while_streaming=False,
        reads={"http_request": 1, "stream": 3},
    ),
    Hook(
        "_async_request", _CLIENT, google_genai.REQUEST.around, "all async calls", keep_while_streaming=False,
        reads={"http_request": 1, "stream": 3}, is_async=True,
    ),
    Hook(
        "_from_response", ("google.genai._common:BaseModel",), google_genai.noting_objects,
        "ids of calls by the objects of their answers",
    ),
    Hook(
        "download_file", _CLIENT, google_genai.DOWNLOAD.around, "results of batches", reads={"path": 1}, late=True
    ),
    Hook(
        "async_download_file", _CLIENT, google_genai.DOWNLOAD.around, "results of batches, async", reads={"path": 1},
        late=True, is_async=True,
    ),
    Hook("_request_once", _CLIENT, google_genai.ATTEMPT.around, "attempts of sync calls", reads={"http_request": 1}),
    Hook(
        "_async_request_once", _CLIENT, google_genai.ATTEMPT.around, "attempts of async calls",
        reads={"http_request": 1}, is_async=True,
    ),
    Hook(
        "segments", ("google.genai._api_client:HttpResponse",), google_genai.SEGMENTS.around, "content of sync streams"
    ),
    Hook(
        "async_segments", ("google.genai._api_client:HttpResponse",), google_genai.SEGMENTS.around,
        "content of async streams",
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
        late=True, is_public=True,
    ),
    *both(
        "generate_content_stream", ("google.genai.models:{Async}Models",), google_loops.STREAM.around, _LOOPS,
        awaits=True, late=True, is_public=True,
    ),
    *both(
        "send_message", ("google.genai.chats:{Async}Chat",), google_loops.LOOP.around, _LOOPS, awaits=True, late=True,
        is_public=True,
    ),
    *both(
        "send_message_stream", ("google.genai.chats:{Async}Chat",), google_loops.STREAM.around, _LOOPS, awaits=True,
        late=True, is_public=True,
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
