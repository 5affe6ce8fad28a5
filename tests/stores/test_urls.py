"""Store URLs: what they mean, mistakes in them, and stores of the application's own behind them."""

from __future__ import annotations

import itertools
import json
import logging
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest
from tests.support.commands import ask
from tests.support.left_behind import leave_behind
from tests.support.waiting import HANG_MS

import callspan
from callspan import SettingError, open_store, stores
from callspan.records import Response
from callspan.runtime.safe_urls import error_text, safe_name, without_passwords
from callspan.spool.delivering import reason
from callspan.stores import find_store
from callspan.stores.spools import target_of
from callspan.stores.urls import scheme_of

from .conftest import Records

URLS = json.loads(Path(__file__).with_name("urls.json").read_text())
"""URLs of files with their kinds and paths; those that are refused by the reason; those with a name without password;
and parts of URLs of servers, before the `@` and after it."""


@pytest.mark.parametrize(("url", "kind", "path"), URLS["files"])
def test_file_url_names_kind_and_path(url: str, kind: str, path: str) -> None:
    found = find_store(url)
    assert (scheme_of(found.url), found.path) == (kind, Path(path))


@pytest.mark.parametrize(("why", "url"), [(why, url) for why, urls in URLS["refused"].items() for url in urls])
def test_invalid_url_error_hides_secrets(url: str, why: str) -> None:
    """ClickHouse's driver raises TypeError, with nothing of ours around it, where it is given a part twice."""
    with pytest.raises(SettingError, match=why) as refused:
        open_store(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_missing_driver_names_the_extra() -> None:
    """In a process of its own, where the module is made impossible to import; no other driver is imported then."""
    code = (
        "import sys, callspan.stores\nassert not {'sqlite3', 'psycopg'} & {*sys.modules}\n"
        "sys.modules['psycopg'] = None\n"
        "try: callspan.stores.find_store('postgresql://host/db').sink()\n"
        "except callspan.stores.SettingError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "callspan[postgres]"' in done.stdout


@pytest.mark.parametrize(("url", "safe"), URLS["safe"].items())
def test_passwords_are_hidden(url: str, safe: str) -> None:
    assert safe_name(url) == safe


_SECRETS = ("bob", "pw7", "secret")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "POSTGRES", "PostgreSQL"])
def test_driver_errors_hide_credentials_of_any_url(scheme: str) -> None:
    """What commands print: the name of the store, a refused setting, the error of the driver where it is installed."""
    for user, tail in itertools.product(URLS["users"], URLS["tails"]):
        url = f"{scheme}://{user}@{tail}"
        printed = [safe_name(url)]
        try:
            open_store(url)
        except SettingError as refused:
            printed.append(str(refused))
        except Exception as error:  # noqa: BLE001 - any of the driver's
            printed.append(reason(error) + error_text(error))
        assert not [word for word in _SECRETS if word in "".join(printed)], url


@pytest.mark.parametrize("url", [f"{user}@{tail}" for user in URLS["users"] for tail in URLS["tails"]])
def test_credentials_in_surrounding_text_are_removed(url: str) -> None:
    for quote in ('"{}"', "'{}'", "<{}>", "{}", "{}: refused", "at {}, then", "\n{}\nHINT: more"):
        text = "missing a = after " + quote.format(f"POSTGRES://{url}") + " in the connection string"
        if " " not in url or quote[0] in "\"'":
            assert not [word for word in _SECRETS if word in without_passwords(text)], text


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse"])
def test_store_identity_ignores_credentials(scheme: str) -> None:
    urls = [f"{scheme}://{user}host/db" for user in ("ann:secret7@", "ann:other7@", "bob@", "")]
    (identity,) = {find_store(url).identity for url in urls}
    assert "7" not in identity
    assert "ann" not in identity


def test_schemas_of_one_database_are_separate_stores() -> None:
    """A spool must deliver to both, and to neither what is the other's."""
    ends = ("", "?options=-csearch_path%3Da", "?options=-csearch_path%3Db")
    targets = {target_of(find_store(f"postgresql://host/db{end}")) for end in ends}
    assert len(targets) == len({target.key(Path("spool")) for target in targets}) == 3


PAGE = Path(__file__).resolve().parents[2] / "docs" / "stores.md"
SECTION = PAGE.read_text().partition("## A store of your own")[2].partition("\n## ")[0]
MODULE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
ENTRY_POINT = re.search(r'\[project\.entry-points\."callspan\.stores"\]\n(\w+) = "([\w.:]+)"', SECTION)


_NUMBERS = count(1)
Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution with a store of this code, else that of the page; returns its scheme.

    Scheme and module are new, as a process imports a store once.
    """

    def installed(code: str = MODULE[1]) -> str:
        scheme = f"lines{next(_NUMBERS)}"
        information = tmp_path / scheme / f"{scheme}-1.2.dist-info"
        information.mkdir(parents=True)
        kind = ENTRY_POINT[2].partition(":")[2]
        (tmp_path / scheme / f"{scheme}_module.py").write_text(code)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: callspan-{scheme}\nVersion: 1.2\n")
        (information / "entry_points.txt").write_text(f"[callspan.stores]\n{scheme} = {scheme}_module:{kind}\n")
        monkeypatch.syspath_prepend(tmp_path / scheme)
        return scheme

    return installed


def stores_in_use() -> tuple[str, ...]:
    """Return those that the environment names and that can be used."""
    handle = callspan.instrument()
    handle.uninstrument()
    return handle.settings.stores


def test_write_only_store_records_calls(install: Install, tmp_path: Path) -> None:
    url = f"{install()}:///{tmp_path}/calls.lines?end=crlf"
    handle = callspan.instrument(stores=url)
    with callspan.record_call(provider="mine", model="m"):
        pass
    assert handle.force_flush(HANG_MS)
    handle.uninstrument()
    assert (tmp_path / "calls.lines").read_bytes().endswith(b"\r\n")
    assert (tmp_path / "calls.lines.spool").is_dir()
    lines = map(json.loads, (tmp_path / "calls.lines").read_text().splitlines())
    assert [line["outcome"] for line in lines if line["kind"] == "call"][-1] == "success"
    shown = ask("--store", url, "calls", "--json")
    assert (shown.code, "cannot be read" in " ".join(shown.err.split())) == (2, True)


def test_unspecific_rejection_loses_one_record(install: Install, tmp_path: Path, records: Records) -> None:
    """An id, a copy: which of the records it is about is searched for."""
    refuses = "        for record in records:\n            if getattr(record, 'call_id', None) == 'poison':\n"
    refuses += "                raise stores.Rejected('no', record.call_id)\n        with self.path.open"
    url = f"{install(MODULE[1].replace('        with self.path.open', refuses))}:///{tmp_path}/calls.lines"
    segment = leave_behind(url, *(records.call(call_id=ident) for ident in ("a", "poison", "b")))
    assert ask("--store", url, "ship").code == 0
    assert [json.loads(line)["call_id"] for line in (tmp_path / "calls.lines").read_text().splitlines()] == ["a", "b"]
    (kept,) = segment.with_name("rejected.jsonl").read_text().splitlines()
    assert json.loads(kept)["record"]["call_id"] == "poison"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_driver", "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("x = 1", "AttributeError: module"),
        ("Lines = dict", "is no callspan.stores.Store"),
    ],
)
def test_store_that_fails_to_load(
    code: str, why: str, install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{install(code)}:///x.lines"
    with pytest.raises(stores.SettingError, match=r"callspan-lines\d+ 1\.2") as raised:
        callspan.instrument(stores=url)
    assert why in str(raised.value)
    assert (raised.value.__cause__ is None) is ("Error" not in why)
    monkeypatch.setenv("CALLSPAN_STORES", f"{url},console://")
    with caplog.at_level(logging.WARNING):
        assert stores_in_use() == ("console://",)
    (warning,) = [record.getMessage() for record in caplog.records if url in record.getMessage()]
    assert why in warning
    assert warning.endswith("This store is not used")
    (check,) = [one for one in ask("--store", url, "doctor", "--json").json["checks"] if one["area"] == "stores"]
    assert (check["state"], why in check["detail"]) == ("failed", True)


@pytest.mark.parametrize("query", ["colour=hunter2", "end=lf&colour=hunter2", "hunter2"])
def test_unknown_options_are_rejected_by_name(query: str, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = install()
    with pytest.raises(stores.SettingError, match="there are: end") as raised:
        callspan.instrument(stores=f"{scheme}:///calls.lines?{query}")
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("CALLSPAN_STORES", f"{scheme}:///a?{query}")
    assert stores_in_use() == ()


def test_plugin_error_hides_the_url(install: Install) -> None:
    code = """
from callspan import stores
class Lines(stores.ServerStore):
    example = "x://host"
    def __init__(self, url):
        raise KeyError(url)
"""
    with pytest.raises(stores.SettingError, match=r"not understood by its store \(KeyError\)") as raised:
        callspan.instrument(stores=f"{install(code)}://ann:hunter2@host/db")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_record_is_one_json_line(tmp_path: Path, records: Records) -> None:
    """Also with a body that `redact` has returned with line ends between its values."""
    body = msgspec.Raw(b'{\r\n"a": 1\r}')
    find_store(f"jsonl:///{tmp_path}/a.jsonl").write(
        [msgspec.structs.replace(records.call(), response=Response(body=body))]
    )
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(line)["response"]["body"] == {"a": 1}


def test_socket_delivers_each_record_once_a_listener_exists(tmp_path: Path, records: Records) -> None:
    """A forked child delivers by another sink of the same store."""
    if len(f"{tmp_path}/r.sock") > 100:
        pytest.skip("TMPDIR is too long for the address of a socket")
    store = find_store(f"unix://{tmp_path}/r.sock")
    sink, another = store.sink(), store.sink()
    with pytest.raises(FileNotFoundError):
        sink.open()
    sink.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{tmp_path}/r.sock")
        listener.listen()
        *first, last = records.every_kind()
        sink.open()
        sink.deliver(first)
        another.close()
        sink.deliver([last])
        sink.close()
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as received:
            lines = [json.loads(line) for line in received]
    assert [line["kind"] for line in lines] == ["session", "timestep", "call", "event", "message", "reward"]
    assert {line["protocol_version"] for line in lines} == {1}
    assert lines[2]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert lines[2]["conversation"]["output"][0]["role"] == "assistant"
    assert "ack" not in lines[2]
