"""Vector store search: requests and responses of `/vector_stores/{id}/search`, the retrieval of the conventions.

The id is only in the path. It is kept as the parameter `vector_store_id`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.json_readers import dig, items
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.response import SingleBody, bare_info, read_request
from callspan.record.call import Request
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, Message, Text

STORE: Final = "vector_store_id"
"""The parameter that names the vector store."""


class VectorStoreSearch:
    """The search endpoint of one vector store; without an id, of any."""

    api: Api = "vector_store_search"
    operation: Operation = "retrieval"
    path = "/vector_stores/{id}/search"
    message_key = "query"

    def __init__(self, store: str | None = None) -> None:
        """`store` is the id of the vector store; None: unknown."""
        self._store = store

    def request(self, body: object) -> Request:
        """Return parameters and counts of a request, without its body. Total."""
        request = read_request(body, self.message_key)
        if self._store is None:
            return request
        return msgspec.structs.replace(request, params={STORE: self._store, **request.params})

    def accumulator(self) -> SingleBody:
        """Return a fresh accumulator."""
        return SingleBody("data")

    def response_info(self, body: object) -> ResponseInfo:
        """Return the error of a response, which has no model and no usage. Total."""
        return bare_info(body, holds="data")

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the queries as user messages, and each document found as its JSON; either side may be None."""
        found = [Text(text=encode_json(document).decode()) for document in items(response, "data")]
        return Conversation(
            input=prompt_messages(dig(request, "query")),
            output=[Message(role="tool", parts=[*found])] if found else [],
        )
