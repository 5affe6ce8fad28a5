"""Who may see the page: one browser, through the printed address, from this machine's own page."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from callspan.view.server import PAGES

from .conftest import Delivery, Page, Records, Shown


@pytest.fixture
def page(records: Records, shown: Shown) -> Page:
    return shown(records.session("s1", start_ns=1), records.call(session_id="s1"))


def test_the_printed_token_is_exchanged_once_for_a_cookie_and_a_key(store: Delivery, records: Records) -> None:
    store.write(records.session("s1", start_ns=1))
    page = Page(store.url)
    try:
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
        again = page.ask(f"/?token={page.token}", cookie="")
        assert again.status == 403, "the token is used up"
        tab = page.ask(f"/?token={page.token}", sec_fetch_site="cross-site")
        assert (tab.status, tab.headers["location"]) == (303, "/"), "a second tab, to which a file may lead"
        assert page.ask("/", cookie=f"callspan_{page.port}=wrong").status == 403
    finally:
        page.close()


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
def test_requests_by_another_name_or_another_site_are_refused(page: Page, headers: dict[str, str]) -> None:
    assert page.ask("/api/sessions", **headers).status == 403
    assert page.ask("/api/sessions", origin=f"http://127.0.0.1:{page.port}", sec_fetch_site="same-origin").status == 200


def test_a_cookie_that_another_server_on_this_machine_has_seen_opens_no_data(page: Page) -> None:
    for key in ("", "wrong"):
        for name in PAGES:
            assert page.ask(f"/api/{name}?id=s1", x_callspan_key=key).status == 403, name
    tab = page.ask(f"/?token={page.token}", x_callspan_key="")
    assert page.key not in str(tab), "the key is given away once"


def test_only_reading_is_possible_and_only_files_of_the_page(page: Page) -> None:
    assert [page.ask("/api/sessions", method).status for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [403] * 4
    for path in ("/static/../server.py", "/static/..%2fserver.py", "/static/nothing.js", "/static/__init__.py"):
        assert page.ask(path).status == 404, path
    assert page.ask("/api/nothing").status == 404


def test_every_answer_forbids_foreign_code_frames_caches_and_referrers(page: Page) -> None:
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


def test_what_a_query_says_wrong_is_said(page: Page) -> None:
    for path in ("/api/sessions?q=since:never", "/api/sessions?after=x", "/api/session", '/api/sessions?q="open'):
        answer = page.ask(path)
        assert (answer.status, bool(answer.json["error"])) == (400, True), path
    for path in ("/api/session?id=nobody", "/api/call?id=nobody", f"/static/{'a' * 5000}.js"):
        assert page.ask(path).status == 404
    for after in ("[]", "-1", "1.5", str(10**22), str(2**63)):
        for name in ("sessions", "calls", "session"):
            answer = page.ask(f"/api/{name}?id=s1&after={quote(after)}")
            assert (answer.status, answer.json["error"]) == (400, "after is no number"), (name, after)
