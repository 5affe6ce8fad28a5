"""The service of docs/production.md with four workers, and the questions of those who look after it."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.launching import Served, Stage
from tests.support.pages import ROOT, examples

from callspan.records import SessionRecord
from callspan.stores import find_store
from callspan.testing import ReceivedRequest, ScriptedProvider

PAGE: Final = ROOT / "docs" / "production.md"
WORKERS: Final = ("uvicorn", "service:app", "--port", "{port}", "--workers", "4")
SECRET: Final = "my knee hurts"


class Desk:
    """What the browsers and the support team do."""

    def __init__(self, stage: Stage, server: Served) -> None:
        self.stage, self.server = stage, server

    def send(self, method: str, path: str, body: object = None) -> tuple[dict[str, str], str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.server.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return {name.lower(): value for name, value in response.headers.items()}, response.read().decode()

    def chat(self, user: str, conversation: str, text: str, tenant: str = "shop") -> str:
        """Ask as a browser does; return the id of the call."""
        asked = {"user": user, "tenant": tenant, "conversation": conversation, "text": text}
        headers, _ = self.send("POST", "/chat", asked)
        return headers["x-call-id"]

    def leave(self, user: str, conversation: str, text: str) -> None:
        """Ask, and go away while the answer comes."""
        asked = {"user": user, "tenant": "shop", "conversation": conversation, "text": text}
        body = json.dumps(asked).encode()
        head = f"POST /chat HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.server.leave(f"{head}\r\n\r\n".encode() + body)

    def command(self, *arguments: str) -> str:
        """What a command prints; 1 is the exit code of one that found nothing."""
        done = self.stage.run("callspan", "--store", self.store, *arguments)
        assert done.returncode == (1 if done.stdout == "[]\n" else 0), done.stdout + done.stderr
        return done.stdout

    @property
    def store(self) -> str:
        return f"sqlite:///{self.stage.place / 'callspan.db'}"

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        found = json.loads(self.command(*arguments, "--json"))
        assert isinstance(found, list)
        return found


def asks(text: str) -> Any:
    def said(request: ReceivedRequest) -> bool:
        return text in json.dumps(request.body)

    return said


def write_service(place: Path) -> None:
    code = next(example.code for example in examples(PAGE) if example.kind == "python")
    (place / "service.py").write_text(code)


def leave_old_conversation(store: str) -> None:
    """Put one of 40 days ago into the store."""
    sink, at_ns = find_store(store).sink(), time.time_ns() - 40 * 86_400 * 10**9
    sink.open()
    old = SessionRecord(session_id="old", seen_ns=at_ns, start_ns=at_ns, end_ns=at_ns, user_id="dan")
    sink.deliver([old])
    sink.close()


def script(provider: ScriptedProvider) -> None:
    provider.reply(text="All is well.", input_tokens=10, output_tokens=5, repeat=True)
    provider.reply(text="I was about to", finish_reason="length", output_tokens=9, on=asks("long story"))
    provider.reply(text="word " * 400, chunk_delay_s=0.01, on=asks("impatient"))
    provider.reply(text="Dear.", input_tokens=10, output_tokens=900_000, on=asks("everything"))
    for number in range(3):
        provider.reply(status=429, headers={"retry-after-ms": "5"}, on=asks(f"storm {number}"))


@pytest.mark.timeout(300)
def test_each_question_of_a_support_team_is_one_command(stage: Stage) -> None:
    write_service(stage.place)
    script(stage.provider)
    leave_old_conversation(f"sqlite:///{stage.place / 'callspan.db'}")
    with stage.serving(*WORKERS, PYTHONPATH=str(stage.place)) as server:
        desk = Desk(stage, server)
        cut = desk.chat("ann", "a1", "tell a long story")
        for number in range(6):
            desk.chat("ann", "a1", f"question {number}")
        dear = desk.chat("bob", "b1", "tell me everything")
        storms = [desk.chat("bob", "b3", f"storm {number}") for number in range(3)]
        desk.leave("cid", "c1", "impatient")
        ill = desk.chat("cid", "c2", SECRET, tenant="clinic")
        rated = desk.chat("cid", "c3", "is it polite?")
        desk.send("POST", "/rating", {"tenant": "shop", "call_id": rated, "label": "thumbs_down", "comment": "rude"})

        def ids(*arguments: str) -> list[str]:
            return [row["call_id"] for row in desk.rows("calls", *arguments)]

        # Which answer was cut, and why? Who went away? What was the storm, when, and which calls?
        assert ids("--finish", "length") == [cut]
        assert "cut by length" in desk.command("calls", "--user", "ann")
        (gone,) = desk.rows("calls", "--status", "cancelled")
        assert (gone["user"], gone["session_id"]) == ("cid", "c1")
        storm = set(ids("--rate-limited"))
        assert storm == set(storms)
        # Who caused the spike? What was dear?
        spender = max(desk.rows("stats", "--by", "user"), key=lambda group: float(group["cost_usd"] or 0))
        assert spender["user"] == "bob"
        assert ids("--sort", "cost", "--limit", "1") == [dear]
        # What does Ann have here, what was said, in which order, and where did somebody say that?
        assert len(ids("--user", "ann")) == 7
        assert [row["session_id"] for row in desk.rows("sessions", "--user", "ann")] == ["a1"]
        assert "tell a long story" in desk.command("show", cut)
        # What did people dislike? Is the clinic's text here? Is anything lost, does anything wait?
        assert "thumbs_down" in desk.command("show", rated)
        assert ids("--label", "thumbs_down") == ids("--objective", "feedback", "--min-score", "0") == [rated]
        assert ids("--meta", "tenant=clinic") == [ill]
        assert ids("--text", SECRET) == []
        # What would go with Ann, and is it gone?
        planned = json.loads(desk.command("delete", "--user", "ann", "--dry-run", "--json"))
        assert (planned["stores"][0]["calls"], planned["stores"][0]["sessions"]) == (7, 1)
        assert json.loads(desk.send("DELETE", "/users/ann")[1]) == {"calls": 7}
        assert ids("--user", "ann") == []
        assert len(ids()) == 7
        # What was here 40 days ago is gone.
        assert desk.rows("sessions", "--user", "dan") == []
        output = server.stop()
    assert "Traceback" not in output
