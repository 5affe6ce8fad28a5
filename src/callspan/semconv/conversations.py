"""Conversations: the ids that frameworks have given to sessions, under which spans show them.

A framework's conversation is a session of one service and one user, so its record has an id made of all three. Backends
join spans by the framework's own id, which its own spans state.
"""

from __future__ import annotations

import uuid
from operator import attrgetter
from typing import Any, Final

from callspan.record.codec import encode_json
from callspan.record.events import SessionRecord
from callspan.record.labels import Ownership, tenant_of
from callspan.semconv.content_attributes import Attributes, SpanContent
from callspan.semconv.table import STRING, Put, Row

SESSION_ID: Final = "session.id"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION: Final = "conversation_id"
"""The field of a session's metadata with the framework's id."""
_MAX_CONVERSATIONS: Final = 65_536
_CONVERSATIONS: Final[dict[str, str]] = {}
"""The framework's ids by those of the sessions' records, the oldest first."""


def session_of_conversation(conversation: str, ownership: Ownership) -> str:
    """Return the id of the session of an agent's conversation: of one user, tenant and service, as far as known.

    Names of conversations, such as `1` or `default`, are unique neither among services nor among users. Where nothing
    is known of whose it is, the conversation's own id remains.
    """
    if ownership == Ownership():
        return conversation
    user, tenant, service = ownership
    return str(uuid.uuid5(uuid.NAMESPACE_OID, encode_json([conversation, service, user, tenant]).decode()))


def note_conversation(session: SessionRecord) -> None:
    """Let the spans of a session have the id of its conversation, if its own is made of that."""
    conversation, tenant = session.metadata.get(CONVERSATION), tenant_of(session.metadata)
    if not isinstance(conversation, str) or session.session_id in _CONVERSATIONS:
        return
    # Its user may have become known later. Metadata of the application may have such a field, too.
    owners = (Ownership(user, tenant, session.service) for user in (session.user_id, None))
    if session.session_id in [session_of_conversation(conversation, ownership) for ownership in owners]:
        _CONVERSATIONS[session.session_id] = conversation
        if len(_CONVERSATIONS) > _MAX_CONVERSATIONS:
            _CONVERSATIONS.pop(next(iter(_CONVERSATIONS)), None)


def exported_id(session_id: str) -> str:
    """Return the id of a session as spans have it: the framework's own, if it has one."""
    return _CONVERSATIONS.get(session_id, session_id)


def session_rows(path: str) -> tuple[Row, Row]:
    """Return the rows of a session's id, which is at this path of the record."""
    read = attrgetter(path)

    def put(attributes: Attributes, record: Any, _content: SpanContent) -> None:
        session_id = read(record)
        attributes[SESSION_ID] = attributes[CONVERSATION_ID] = _CONVERSATIONS.get(session_id, session_id)

    source = Put(put)
    return Row(SESSION_ID, STRING, source, when=path), Row(CONVERSATION_ID, STRING, source, when=path)
