"""Stores of the application's own, found by an entry point, and the Unix socket."""

from __future__ import annotations

import json
import logging
import re
import socket
from contextlib import closing
from itertools import count
from pathlib import Path

import openai
import pytest
from tests.support.commands import ask

import callspan
from callspan import open_store, stores
from callspan.stores import find_store
from callspan.testing import ScriptedProvider

from .conftest import Delivery, Records, spool_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stores.md"
SECTION = PAGE.read_text().partition("## A store of your own")[2].partition("\n## ")[0]
MODULE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)
ENTRY_POINT = re.search(r'\[project\.entry-points\."callspan\.stores"\]\n(\w+) = "([\w.:]+)"', SECTION)


def install(place: Path, scheme: str, code: str | None = None, name: str = "callspan-lines") -> Path:
    """Install a distribution whose store is found by `scheme`, in a directory for the import path; return that.

    Its module has a name of its own, as one process may have several. `code` None: that of the page.
    """
    module = f"{scheme}_module"
    information = place / f"{name.replace('-', '_')}-1.2.dist-info"
    information.mkdir(parents=True)
    (place / f"{module}.py").write_text(MODULE[1] if code is None else code)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    target = ENTRY_POINT[2].partition(":")[2]
    (information / "entry_points.txt").write_text(f"[callspan.stores]\n{scheme} = {module}:{target}\n")
    return place


_SCHEMES = count(1)


def stores_in_use() -> tuple[str, ...]:
    """Return those that the environment names and that can be used."""
    handle = callspan.instrument()
    try:
        return handle.settings.stores
    finally:
        handle.uninstrument()


@pytest.fixture
def scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The scheme of the page's store, new for each test: a process imports a store once."""
    name = f"lines{next(_SCHEMES)}"
    monkeypatch.syspath_prepend(install(tmp_path / "site", name))
    return name


def broken(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store whose module has this code."""
    name = f"broken{next(_SCHEMES)}"
    monkeypatch.syspath_prepend(install(tmp_path / "site", name, code, name="callspan-broken"))
    return f"{name}:///x.lines"


def test_calls_are_recorded_and_not_read(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{tmp_path}/calls.lines?end=crlf"
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        handle = callspan.instrument(stores=url)
        with callspan.session("talk"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert handle.force_flush(30_000)
        handle.uninstrument()
    assert (tmp_path / "calls.lines").read_bytes().endswith(b"\r\n")
    assert (tmp_path / "calls.lines.spool").is_dir()
    lines = map(json.loads, (tmp_path / "calls.lines").read_text().splitlines())
    assert [line["outcome"] for line in lines if line["kind"] == "call"][-1] == "success"
    shown = ask("--store", url, "calls", "--json")
    assert (shown.code, "cannot be read" in " ".join(shown.err.split())) == (2, True)


def test_one_that_rejects_something_that_it_was_not_given_loses_that_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    """An id, a copy: which of the records it is about is searched for."""
    name = f"picky{next(_SCHEMES)}"
    refuses = "        for record in records:\n            if getattr(record, 'call_id', None) == 'poison':\n"
    refuses += "                raise stores.Rejected('no', record.call_id)\n        with self.path.open"
    code = MODULE[1].replace("        with self.path.open", refuses)
    monkeypatch.syspath_prepend(install(tmp_path / "site", name, code, name="callspan-picky"))
    url = f"{name}:///{tmp_path}/calls.lines"
    spool = spool_of(tmp_path / "spool", url)
    for ident in ("a", "poison", "b"):
        assert spool.append(stores.encode(records.call(call_id=ident)))
    assert spool.close(20)
    assert [json.loads(line)["call_id"] for line in (tmp_path / "calls.lines").read_text().splitlines()] == ["a", "b"]
    (kept,) = (spool.directory / "rejected.jsonl").read_text().splitlines()
    assert json.loads(kept)["record"]["call_id"] == "poison"


def test_where_it_cannot_erase_the_receipt_says_so_and_alone_it_is_refused(
    scheme: str, tmp_path: Path, records: Records
) -> None:
    own = f"{scheme}:///{tmp_path}/calls.lines"
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    delivery.write(records.session("s1"), records.call(session_id="s1"))
    delivery.close()
    both = f"sqlite:///{tmp_path}/calls.db,{own}"
    done = ask("--store", both, "delete", "s1", "--yes")
    assert (done.code, "nothing can be deleted there" in " ".join((done.out + done.err).split())) == (0, True)
    with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
        assert reader.count_calls() == 0
    done = ask("--store", own, "delete", "--user", "u1", "--yes")
    assert (done.code, "a filter needs a SQLite or Postgres store" in " ".join(done.err.split())) == (2, True)


@pytest.mark.parametrize(
    ("code", "cause", "why"),
    [
        ("import no_such_driver", ModuleNotFoundError, "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("raise RuntimeError('no licence')", RuntimeError, "RuntimeError: no licence"),
        ("x = 1", AttributeError, "AttributeError: module"),
        ("Lines = dict", None, "is no callspan.stores.Store"),
    ],
)
def test_one_that_fails_to_load_is_an_error_of_an_argument_and_a_warning_of_the_environment(
    code: str,
    cause: type[Exception] | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = broken(code, tmp_path, monkeypatch)
    with pytest.raises(stores.SettingError, match=r"callspan-broken 1\.2") as raised:
        callspan.instrument(stores=url)
    assert why in str(raised.value)
    assert cause is None or isinstance(raised.value.__cause__, cause)
    monkeypatch.setenv("CALLSPAN_STORES", f"{url},console://")
    with caplog.at_level(logging.WARNING):
        assert stores_in_use() == ("console://",)
    (warning,) = [record.getMessage() for record in caplog.records if url in record.getMessage()]
    assert why in warning
    assert warning.endswith("This store is not used")
    (check,) = [one for one in ask("--store", url, "doctor", "--json").json["checks"] if one["area"] == "stores"]
    assert (check["state"], why in check["detail"]) == ("failed", True)


@pytest.mark.parametrize("query", ["colour=hunter2", "end=lf&colour=hunter2", "hunter2"])
def test_an_option_that_it_has_not_is_refused_without_its_value(
    query: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(stores.SettingError, match="there are: end") as raised:
        callspan.instrument(stores=f"{scheme}:///calls.lines?{query}")
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("CALLSPAN_STORES", f"{scheme}:///a?{query}")
    assert stores_in_use() == ()


def test_an_exception_of_its_own_code_is_an_error_without_the_text_which_may_quote_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from callspan import stores
class Lines(stores.ServerStore):
    example = "x://host"
    def __init__(self, url):
        raise KeyError(url)
"""
    url = broken(code, tmp_path, monkeypatch).replace(":///x.lines", "://ann:hunter2@host/db")
    with pytest.raises(stores.SettingError, match=r"not understood by its store \(KeyError\)") as raised:
        callspan.instrument(stores=url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_socket_gets_each_record_as_a_line_once_somebody_listens(tmp_path: Path, records: Records) -> None:
    sink = find_store(f"unix://{tmp_path}/r.sock").sink()
    with pytest.raises(FileNotFoundError):
        sink.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{tmp_path}/r.sock")
        listener.listen()
        sink.deliver(records.every_kind())
        sink.close()
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as received:
            lines = [json.loads(line) for line in received]
    assert [line["kind"] for line in lines] == ["session", "timestep", "call", "event", "message", "reward"]
    assert {line["protocol_version"] for line in lines} == {1}
    assert lines[2]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert lines[2]["conversation"]["output"][0]["role"] == "assistant"
    assert "ack" not in lines[2]
