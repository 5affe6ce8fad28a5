"""The server and `callspan view`: who may see the page, that it is live, what is printed, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from tests.stores.conftest import Deliver, clickhouse_url, deliver, postgres_server, postgres_url, sqlite_url, url
from tests.support.commands import ask
from tests.support.left_behind import leave_behind
from tests.support.records import START_NS, keep, raw, reward
from tests.support.waiting import HANG_S, until
from tests.view.conftest import PAGES, Delivery, Page, Records, Show, Shown, Visitor

from callspan import erase
from callspan.records import Response


@pytest.fixture
def page(records: Records, shown: Shown) -> Page:
    return shown(records.session("s1", start_ns=1), records.call(session_id="s1"))


def test_printed_token_is_exchanged_once(store: Delivery, records: Records) -> None:
    store.write(records.session("s1", start_ns=1))
    with closing(Page(store.url)) as page:
        for path in ("/", "/static/app.js", "/api/sessions", "/?token=wrong"):
            refused = page.ask(path)
            assert (refused.status, b"s1" in refused.body) == (403, False), path
        answer = page.enter()
        assert (answer.status, f"url=/#key={page.key}" in answer.body.decode()) == (200, True)
        assert b'<link rel="icon" href="data:,">' in answer.body, "the browser asks for no icon"
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert page.token not in page.cookie + page.key
        assert page.key not in page.cookie
        assert page.ask("/").status == 200
        assert page.ask(f"/?token={page.token}", cookie="").status == 403, "the token is used up"
        tab = page.ask(f"/?token={page.token}", sec_fetch_site="cross-site")
        assert (tab.status, tab.headers["location"]) == (303, "/"), "a second tab, to which a file may lead"
        assert page.ask("/", cookie=f"callspan_{page.port}=wrong").status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example"},
        {"host": "127.0.0.1"},
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_requests_of_other_hosts_or_sites_are_rejected(page: Page, headers: dict[str, str]) -> None:
    assert page.ask("/api/sessions", **headers).status == 403
    assert page.ask("/api/sessions", origin=f"http://127.0.0.1:{page.port}", sec_fetch_site="same-origin").status == 200


def test_cookie_of_another_server_is_rejected(page: Page) -> None:
    for key in ("", "wrong"):
        for name in PAGES:
            assert page.ask(f"/api/{name}?id=s1", x_callspan_key=key).status == 403, name
    tab = page.ask(f"/?token={page.token}", x_callspan_key="")
    assert page.key not in str(tab), "the key is given away once"


def test_server_is_read_only_and_serves_only_page_files(page: Page) -> None:
    assert [page.ask("/api/sessions", method).status for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [403] * 4
    for path in ("/static/../server.py", "/static/..%2fserver.py", "/static/nothing.js", "/static/__init__.py"):
        assert page.ask(path).status == 404, path
    assert page.ask("/api/nothing").status == 404


def test_security_headers_are_on_every_answer(page: Page) -> None:
    for path in ("/", "/static/app.js", "/api/sessions", "/api/nothing"):
        headers = page.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_query_errors_are_named(page: Page) -> None:
    for path in ("/api/sessions?q=since:never", "/api/sessions?after=x", "/api/session", '/api/sessions?q="open'):
        answer = page.ask(path)
        assert (answer.status, bool(answer.json["error"])) == (400, True), path
    for name in PAGES:  # as the list, so does whatever else reads the filter line
        answer = page.ask(f'/api/{name}?q="open&id=nobody')
        assert answer.status in (200, 400, 404), (name, answer.status)
    assert page.ask('/api/command?q="open').status == 400
    for path in ("/api/session?id=nobody", "/api/call?id=nobody", f"/static/{'a' * 5000}.js"):
        assert page.ask(path).status == 404
    for after in ("[]", "-1", "1.5", str(10**22), str(2**63)):
        for name in ("sessions", "calls", "session"):
            answer = page.ask(f"/api/{name}?id=s1&after={quote(after)}")
            assert (answer.status, answer.json["error"]) == (400, "after is no number"), (name, after)


__all__ = ["clickhouse_url", "deliver", "postgres_server", "postgres_url", "sqlite_url", "url"]


def test_writes_are_announced_immediately(url: str, deliver: Deliver, records: Records, show: Show) -> None:
    written, page = deliver(url), show(url)

    def version() -> str:
        return str(page.get("/api/version")["version"])

    before = version()
    assert version() == before
    written.write(records.session("new", start_ns=START_NS))
    assert (after := version()) != before
    assert [row["session_id"] for row in page.get("/api/sessions")["rows"]] == ["new"]
    assert version() == after
    written.write(reward(session_id="new", scope="session"))
    assert version() != after


def test_tool_loop_outside_of_sessions_is_one_row_in_every_store(
    url: str, deliver: Deliver, records: Records, show: Show
) -> None:
    """A run of a store that keeps runs; where there are none, the calls are folded by the same rules."""
    asks = {"role": "user", "content": "Is it raining in Paris?"}
    used = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    requested = {"role": "assistant", "content": None, "tool_calls": [used]}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": requested, "finish_reason": "tool_calls"}]}
    result = {"role": "tool", "tool_call_id": "t1", "content": "rain"}
    deliver(url).write(
        records.call([asks], call_id="out1", at_s=1, trace_id="1" * 32, response=Response(body=raw(body))),
        records.call([asks, requested, result], "Yes.", call_id="out3", at_s=3, trace_id="3" * 32),
        records.call([{"role": "user", "content": "Hi"}], call_id="out4", at_s=4, trace_id="4" * 32),
    )
    rows = show(url).get("/api/sessions")["rows"]
    folded = {row.get("run") or row["session_id"] for row in rows}
    assert (len(folded), len({row.get("run") for row in rows if row.get("call_id") != "out4"})) == (2, 1)


def test_loss_and_return_of_a_store_are_announced(records: Records, shown: Shown, tmp_path: Path) -> None:
    page, path = shown(records.session("s1", start_ns=START_NS)), tmp_path / "calls.db"
    assert page.get("/api/version")["version"]
    path.rename(tmp_path / "moved.db")
    assert "no such file" in page.get("/api/version")["error"]
    assert page.ask("/api/sessions").status == 503
    (tmp_path / "moved.db").rename(path)
    assert page.get("/api/version")["version"]


def test_erased_session_is_reported(store: Delivery, records: Records, shown: Shown) -> None:
    page = shown(records.session("s1", start_ns=START_NS), records.session("s2", start_ns=START_NS))
    assert page.get("/api/session?id=s1")["session"]["session_id"] == "s1"
    erase(store.url, sessions="s1")
    answer = page.ask("/api/session?id=s1")
    assert (answer.status, "erased" in answer.json["error"]) == (404, True)
    assert [row["session_id"] for row in page.get("/api/sessions")["rows"]] == ["s2"]


VIEW = (sys.executable, "-m", "callspan.cli")


class Viewer(Visitor):
    """A browser that has opened the address that `callspan view` printed."""

    errors = ""
    """What the command wrote to stderr, and its exit code, after its end."""
    code: int | None = None

    def __init__(self, url: str) -> None:
        super().__init__(urlsplit(url).port or 0, url.partition("token=")[2])
        self.url = url
        self.enter()

    def sessions(self) -> list[str]:
        return [row["session_id"] for row in self.get("/api/sessions")["rows"]]


@contextmanager
def viewed(store: str, *options: str, **environment: str) -> Iterator[Viewer]:
    """A browser on the page of a `callspan view` that is ended by Ctrl-C."""
    command, variables = [*VIEW, "--store", store, "--json", "view", *options], {**os.environ, **environment}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        browser = Viewer(json.loads(process.stdout.readline())["url"])  # from here on the server handles signals
        try:
            yield browser
        finally:
            process.send_signal(signal.SIGINT)
            _, browser.errors = process.communicate(timeout=HANG_S)
            browser.code = process.returncode


def test_empty_store_waits_and_names_another(store: Delivery, records: Records, tmp_path: Path) -> None:
    store.write(records.session("s1", start_ns=1))
    late = f"sqlite:///{tmp_path}/late.db"
    for stores in (late, f"{late},jsonl:///{tmp_path}/calls.jsonl"):
        answer = ask("--store", stores, "calls")
        assert (answer.code, f"name it with --store {store.url}" in answer.err.replace("\n", " ")) == (1, True)
    with viewed(late) as browser:
        assert browser.get("/api/sessions")["waits"] is True
        keep(late, records.session("s2", start_ns=1))
        assert browser.sessions() == ["s2"]
    beside = f"There is {store.url[10:]} beside it: name it with --store {store.url}"
    assert browser.errors == f"It has no records yet. {beside}\n"


def test_waiting_records_of_a_missing_store_are_listed(records: Records, tmp_path: Path) -> None:
    """A process that was killed before its first delivery has left them."""
    url = f"sqlite:///{tmp_path}/late.db"
    leave_behind(url, records.session("s1", start_ns=1))
    assert not (tmp_path / "late.db").exists()
    with viewed(url) as browser:
        assert browser.sessions() == ["s1"]
    assert "Delivered 1 record" in browser.errors
    assert "no records yet" not in browser.errors


def test_view_works_without_a_browser(
    store: Delivery, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(records.session("s1", start_ns=1))
    for name in ("DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    with viewed(store.url, "--open", PATH=str(tmp_path)) as browser:
        assert b"callspan" in browser.ask("/").body
        assert browser.sessions() == ["s1"]
    assert browser.code in {0, 130, -signal.SIGINT}
    assert browser.errors == "No browser was found: open the address yourself.\n"


def test_browser_receives_a_private_file_without_a_token(store: Delivery, records: Records, tmp_path: Path) -> None:
    store.write(records.session("s1", start_ns=1))
    seen, program = tmp_path / "seen", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nfile="${{1#file://}}"\nstat -c %a "$file" > {seen}\ncat "$file" >> {seen}\n')
    program.chmod(0o700)
    with viewed(store.url, "--open", BROWSER=f"{program} %s") as browser:
        until(lambda: seen.exists() and browser.url in seen.read_text())
    assert seen.read_text() == f'600\n<meta http-equiv="refresh" content="0; url={browser.url}">'
