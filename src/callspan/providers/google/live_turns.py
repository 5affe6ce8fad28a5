"""Live turns: derives calls from the messages of a live session of Gemini.

A turn is a call: what the application sent since the turn before, and what the model answers, up to its end or to its
calls of functions. Their results begin the next one, as a content does that the application declares complete. A turn
after speech or streamed text begins with the answer: only the server knows when the user has finished.

The wire has no ids. Messages belong to the turn that is answered, in order.

Wire reference: https://ai.google.dev/api/live
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final

from callspan.providers.google.live import BLOB
from callspan.providers.google.parts import camel
from callspan.providers.sockets import SocketKind, Step, Turn
from callspan.providers.streamed_audio import counted_audio
from callspan.providers.wire_json import Json, flag, integer, items, mapping, objects, text, word

_API: Final = "bidi_generate_content"
_MODELS: Final = "models/"
"""What precedes the name of a model, on Vertex after its project, location and publisher."""
_STREAMED: Final = r'\s*\{\s*"realtime_?[iI]nput"\s*:\s*\{\s*"(?:audio|video|media|mediaChunks|media_chunks)"'
_STREAMED_TEXT, _STREAMED_BYTES = re.compile(_STREAMED), re.compile(_STREAMED.encode())
"""Frames with pieces of sound or pictures, which are many and are not read."""
_AUDIO: Final = "audio/"
_HANDLE: Final = "sessionResumption"
"""The setting with the handle that resumes a session: as good as a key."""
_SILENT: Final = "SILENT"
"""The scheduling of a result that the model does not answer."""
_OF_MODEL: Final = frozenset({"modelTurn", "outputTranscription", "groundingMetadata", "urlContextMetadata"})
_CONTROLS: Final = frozenset({"turnComplete", "interrupted", "generationComplete"})
_STATED: Final = frozenset({"serverContent", "toolCall", "error"})
"""One of these is beside the fields of a message; one that is an error itself has none."""
_USAGE: Final = "usageMetadata"
_WAITING: Final = frozenset({"waitingForInput"})
"""The content of a message that belongs to no answer."""
_MAX_CONTENTS: Final = 256
_MAX_WAITING: Final = 1024


class _LiveTurn(Turn):
    def __init__(self, request: Json, *, is_sent: bool, begun_ns: int | None = None) -> None:
        super().__init__(_API, request, begun_ns=begun_ns)
        self.request = request
        """The request body so far; late transcripts of speech are added."""
        self.is_sent = is_sent
        """Whether the application has begun it, not the server."""
        self.is_interrupted = False
        self.is_counted = False
        """Whether a message has stated its usage."""


class LiveTurns(SocketKind):
    """The turns of one session."""

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del session_id
        self._settings: Json = {} if model is None else {"model": model}
        self._contents: deque[Json] = deque(maxlen=_MAX_CONTENTS)
        """Contents since the last turn."""
        self._waiting: deque[_LiveTurn] = deque(maxlen=_MAX_WAITING)
        """Turns that were sent but not answered yet."""
        self._running: _LiveTurn | None = None
        self._uncounted: _LiveTurn | None = None
        """The turn that ended last, if its usage may still come: with no content of the next one."""
        self._unanswered: set[object] = set()
        """Ids of the calls of functions without a result. Both threads change it, each in one step."""
        self._waits_for_results = False
        """Whether the last turn ended with calls of functions, so that the server may still end it."""
        self._was_interrupted = False
        """Whether the server has interrupted that turn."""
        self._transcript: Json | None = None
        """The part of the user's speech that grows."""
        self._heard_ns: int | None = None
        self._hashes_audio = hashes_audio

    def is_marked(self, message: Any) -> bool:
        """Return whether a sent frame must be parsed: each but those with streamed sound and pictures."""
        pattern: Any = _STREAMED_TEXT if isinstance(message, str) else _STREAMED_BYTES
        return pattern.match(message) is None

    def accepts(self, event: Json) -> bool:
        """Return whether a message is an event: here any object."""
        del event
        return True

    def create(self, frame: Json) -> Turn | None:
        """Return the turn that a complete content or the last result of a function begins."""
        fields = camel(frame)
        content, results = mapping(fields, "clientContent"), mapping(fields, "toolResponse")
        if content is not None:
            is_complete = flag(camel(content), "turnComplete") is True
        else:
            is_complete = results is not None and self._answers_all(camel(results))
        if not is_complete:
            return None
        return _LiveTurn({**self._settings, "contents": _contents(fields)}, is_sent=True)

    def _answers_all(self, results: Json) -> bool:
        """Return whether the model goes on: each call has a result, and at least one result is to be answered now."""
        answers = [camel(answer) for answer in objects(results, "functionResponses")]
        self._unanswered.difference_update(word(answer, "id") for answer in answers)
        is_silent = bool(answers) and all(answer.get("scheduling") == _SILENT for answer in answers)
        return not (self._unanswered or is_silent) and self._running is None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Note the settings of the session, or what the next turn answers."""
        fields = camel(frame)
        if (setup := mapping(fields, "setup")) is not None:
            self._settings = _settings(camel(setup))
        self._contents.extend(_contents(fields))
        self._transcript = None
        if isinstance(turn, _LiveTurn):
            turn.request = turn.body = self._request()
            self._waiting.append(turn)

    def _request(self) -> Json:
        """Take what was sent and said since the last turn."""
        contents = [*self._contents]
        self._contents.clear()
        self._transcript = None
        return {**self._settings, **({"contents": contents} if contents else {})}

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received message."""
        content = mapping(event, "serverContent") or {}
        self._hear(content, at_ns)
        self._unanswered.difference_update(map(str, items(event, "toolCallCancellation", "ids")))
        error = event if _STATED.isdisjoint(event) and "code" in event else mapping(event, "error")
        if error is not None:
            return self._failed(error)
        has_content, calls = not _OF_MODEL.isdisjoint(content), mapping(event, "toolCall")
        is_usage = _USAGE in event
        if not (has_content or calls is not None or is_usage) and self._is_nothing(content):
            return []
        if self._uncounted is not None and is_usage and calls is None and content.keys() <= _WAITING:
            counted, self._uncounted = self._uncounted, None
            return [Step("usage", counted, {_USAGE: event[_USAGE]})]
        steps = list[Step]()
        if self._running is not None and self._running.is_interrupted and has_content:
            steps.append(self._ended(self._running))
        turn = self._running or self._next(steps)
        turn.is_counted = turn.is_counted or is_usage
        steps.append(Step("chunk", turn, self._counted(event)))
        if flag(content, "interrupted") is True:
            turn.is_interrupted, self._transcript = True, None
        if calls is not None:
            self._unanswered.update(word(call, "id") for call in objects(calls, "functionCalls"))
            self._waits_for_results = True
        is_lone_usage = is_usage and not content and steps[0].action == "begin"
        if calls is not None or is_lone_usage or flag(content, "turnComplete") is True:
            steps.append(self._ended(turn))
        return steps

    def _hear(self, content: Json, at_ns: int) -> None:
        """Add a piece of the user's speech to the turn that it began, or to the next one."""
        words, turn = text(content, "inputTranscription", "text"), self._running
        if not words:
            return
        is_late = turn is not None and not turn.is_sent and not turn.is_interrupted
        if self._transcript is None:
            self._transcript = {"text": ""}
            said = {"role": "user", "parts": [self._transcript]}
            if is_late and turn is not None:
                turn.request.setdefault("contents", []).append(said)
            else:
                self._contents.append(said)
        self._transcript["text"] += words
        if is_late and turn is not None:
            turn.body = turn.request
        else:
            self._heard_ns = at_ns

    def _is_nothing(self, content: Json) -> bool:
        """Return whether a message without content says nothing of a turn: it ends one that has ended, or none."""
        if _CONTROLS.isdisjoint(content) or not (self._running or self._unanswered_turns()):
            return True
        if self._running is not None or not self._waits_for_results:
            return False
        # The server interrupts and ends the turn that waited for results, and has yet to answer what was sent.
        was_interrupted, self._was_interrupted = self._was_interrupted, "interrupted" in content
        return was_interrupted or self._was_interrupted

    def _unanswered_turns(self) -> bool:
        """Return whether a turn waits for its answer. Sending it may have failed after it was noted."""
        while self._waiting and self._waiting[0].is_withdrawn:
            self._waiting.popleft()
        return bool(self._waiting)

    def _next(self, steps: list[Step]) -> _LiveTurn:
        """Return the turn that an answer begins: one that was sent, or else one that the server has begun."""
        self._waits_for_results = self._was_interrupted = False
        self._uncounted = None
        if self._unanswered_turns():
            self._running = turn = self._waiting.popleft()
        else:
            self._running = turn = _LiveTurn(self._request(), is_sent=False, begun_ns=self._heard_ns)
            steps.append(Step("begin", turn))
        self._heard_ns = None
        return turn

    def _ended(self, turn: _LiveTurn) -> Step:
        self._running = self._transcript = None
        self._uncounted = None if turn.is_counted else turn
        return Step("end", turn, outcome="cancelled" if turn.is_interrupted else "success")

    def _failed(self, error: Json) -> list[Step]:
        """Return the end of the turn that runs or waits with an error; none if there is no turn."""
        if self._running is None and not self._unanswered_turns():
            return []
        turn = self._running or self._waiting.popleft()
        self._running = None
        return [Step("fail", turn, {"error": error, "status": integer(error, "code")})]

    def _counted(self, event: Json) -> Json:
        """Return a message with the number of bytes in place of its audio."""
        for part in objects(event, "serverContent", "modelTurn", "parts"):
            blob = mapping(part, BLOB)
            if blob is not None and (text(blob, "mimeType") or "").startswith(_AUDIO):
                blob.update(counted_audio(blob.pop("data", None), hashes=self._hashes_audio))
        return event


def _settings(setup: Json) -> Json:
    """Return the settings of a session as fields of a request."""
    model = word(setup, "model")
    return {
        **{name: value for name, value in setup.items() if name not in (_HANDLE, "model")},
        **({} if model is None else {"model": model.rpartition(_MODELS)[2]}),
    }


def _contents(fields: Json) -> list[Json]:
    """Return what a frame sends to the model."""
    if (content := mapping(fields, "clientContent")) is not None:
        return list(objects(content, "turns"))
    if (results := mapping(fields, "toolResponse")) is not None:
        parts: list[Json] = [{"functionResponse": answer} for answer in objects(camel(results), "functionResponses")]
        return [{"role": "user", "parts": parts}]
    words = text(fields, "realtimeInput", "text")
    return [] if not words else [{"role": "user", "parts": [{"text": words}]}]
