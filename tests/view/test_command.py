"""`callspan view`: what it prints, how it ends, and the errors that it has in common with other commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.commands import callspan
from tests.support.left_behind import leave_behind
from tests.support.reading import entries, sessions

from .conftest import Delivery, Records

VIEW = (sys.executable, "-m", "callspan.cli")


class Browser:
    """A browser that has opened the printed address."""

    errors = ""
    """What the command wrote to stderr, and its exit code, after its end."""
    code: int | None = None

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({})
        )
        self._base, self._key = url.partition("?")[0], ""
        with closing(self.open(url.removeprefix(self._base))) as page:
            self._key = page.read().decode().partition("#key=")[2].partition('"')[0]

    def open(self, path: str) -> http.client.HTTPResponse:
        request = urllib.request.Request(self._base + path, headers={"X-Callspan-Key": self._key})
        answer: http.client.HTTPResponse = self._opener.open(request, timeout=20)
        return answer

    def sessions(self) -> list[str]:
        """The ids of the sessions on the page."""
        with closing(self.open("api/sessions")) as answer:
            return [row["id"] for row in json.load(answer)["rows"]]


@contextmanager
def viewed(store: str, *options: str, **environment: str) -> Iterator[Browser]:
    """A browser on the page of a `callspan view` that is ended by Ctrl-C."""
    command, variables = [*VIEW, "--store", store, "--json", "view", *options], {**os.environ, **environment}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        browser = Browser(json.loads(process.stdout.readline())["url"])  # from here on the server handles signals
        try:
            yield browser
        finally:
            process.send_signal(signal.SIGINT)
            _, browser.errors = process.communicate(timeout=20)
            browser.code = process.returncode


def refused(*given: str) -> str:
    result = CliRunner().invoke(callspan, given, catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return result.output


def test_a_store_that_is_foreign_or_damaged_ends_it(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"no database" * 1000)
    assert str(foreign) in refused("--store", f"sqlite:///{foreign}", "view")


def test_the_page_is_saved_as_one_file_for_its_owner(store: Delivery, records: Records, tmp_path: Path) -> None:
    store.write(records.session("s1", start_ns=1), records.call(call_id="c1", session_id="s1"))
    target = tmp_path / "page.html"
    target.write_text("older")
    target.chmod(0o644)
    done = CliRunner().invoke(callspan, ["--store", store.url, "view", "--save", str(target)])
    assert (done.exit_code, "1 call, 1 session" in " ".join(done.output.split())) == (0, True), done.output
    saved = target.read_text(encoding="utf-8")
    assert [row["id"] for row in sessions(saved)] == ["s1"]
    assert [one["call"]["id"] for one in entries(saved)["s1"] if one["call"]] == ["c1"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_store_without_records_is_waited_for_and_one_beside_it_named(
    store: Delivery, records: Records, tmp_path: Path
) -> None:
    store.write(records.session("s1", start_ns=1))
    late = f"sqlite:///{tmp_path}/late.db"
    for stores in (late, f"{late},jsonl:///{tmp_path}/calls.jsonl"):
        assert f"name it with --store {store.url}" in refused("--store", stores, "calls")
    with viewed(late) as browser:
        with closing(browser.open("api/sessions")) as answer:
            assert json.load(answer)["waits"] is True
        with closing(Delivery(late)) as delivery:
            delivery.write(records.session("s2", start_ns=1))
        assert browser.sessions() == ["s2"]
    beside = f"There is {store.url[10:]} beside it: name it with --store {store.url}"
    assert browser.errors == f"It has no records yet. {beside}\n"


def test_records_that_wait_for_a_store_that_does_not_exist_are_shown(records: Records, tmp_path: Path) -> None:
    """A process that was killed before its first delivery has left them."""
    url = f"sqlite:///{tmp_path}/late.db"
    leave_behind(url, records.session("s1", start_ns=1))
    assert not (tmp_path / "late.db").exists()
    with viewed(url) as browser:
        assert browser.sessions() == ["s1"]
    assert "Delivered 1 record" in browser.errors
    assert "no records yet" not in browser.errors


def test_it_prints_the_address_where_there_is_no_browser_and_ends_with_ctrl_c(
    store: Delivery, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(records.session("s1", start_ns=1))
    for name in ("DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    with viewed(store.url, "--open", PATH=str(tmp_path)) as browser:
        with closing(browser.open("")) as page:
            assert b"callspan" in page.read()
        assert browser.sessions() == ["s1"]
    assert browser.code in {0, 130, -signal.SIGINT}
    assert browser.errors == "No browser was found: open the address yourself.\n"


def test_the_browser_gets_a_private_file_and_no_token_among_its_arguments(
    store: Delivery, records: Records, tmp_path: Path
) -> None:
    store.write(records.session("s1", start_ns=1))
    seen, program = tmp_path / "seen", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nfile="${{1#file://}}"\nstat -c %a "$file" > {seen}\ncat "$file" >> {seen}\n')
    program.chmod(0o700)
    with viewed(store.url, "--open", BROWSER=f"{program} %s") as browser:
        deadline = time.monotonic() + 20
        while not (seen.exists() and browser.url in seen.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert seen.read_text() == f'600\n<meta http-equiv="refresh" content="0; url={browser.url}">'
