"""Store URLs: their meaning, and the message for a mistake."""

from __future__ import annotations

import itertools
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from callspan import SettingError, open_store
from callspan.safe_urls import error_text, safe_name, without_passwords
from callspan.spool.destination import reason
from callspan.stores import find_store
from callspan.stores.spools import target_of
from callspan.stores.urls import scheme_of


@pytest.mark.parametrize(
    ("url", "kind", "path"),
    [
        ("sqlite:///calls.db", "sqlite", "calls.db"),
        ("sqlite:////var/calls.db", "sqlite", "/var/calls.db"),
        ("SQLITE:///calls.db", "sqlite", "calls.db"),
        ("jsonl:///calls.jsonl?max_bytes=10", "jsonl", "calls.jsonl"),
        ("unix:///run/x.sock", "unix", "/run/x.sock"),
        ("calls.db", "sqlite", "calls.db"),
        (" calls.jsonl ", "jsonl", "calls.jsonl"),
    ],
)
def test_a_file_url_names_its_kind_and_path(url: str, kind: str, path: str) -> None:
    found = find_store(url)
    assert (scheme_of(found.url), found.path) == (kind, Path(path))


UNKNOWN = r"CALLSPAN_STORES: unknown kind .*sqlite:///calls.db.*unix://"
OPTION = r"CALLSPAN_STORES: .* has an unknown option, or an invalid value of one: \w+; there are: "


@pytest.mark.parametrize(
    ("url", "why"),
    [
        *((url, UNKNOWN) for url in ("redis://host", "calls.txt", "calls", "sqlit:///x.db", "csv:///x")),
        *((url, "has no path") for url in ("sqlite://", "sqlite:///", "jsonl:///?max_bytes=1")),
        *((url, OPTION) for url in ("sqlite:///a.db?acks=on", "jsonl:///a.jsonl?max_bytes=big", "unix:///a.sock?x=1")),
        ("jsonl:///x.jsonl?token=hunter2", OPTION),
        ("sqlite:///x.db?password=se/hunter2", OPTION),
        ("sqlite://ann:hunter2@host/x.db", "CALLSPAN_STORES"),
        ("unix://ann:se?hunter2@host/x", "CALLSPAN_STORES"),
        ("mongodb://ann:hunter2@host", UNKNOWN),
        ("", "nothing cannot be read"),
        ("unix:///a.sock", "cannot be read"),
        # The driver raises TypeError, with nothing of ours around it, where it is given one of them twice.
        *((f"clickhouse://ann@127.0.0.1:1/db?{name}=hunter2", f"{name} cannot be parameters")
          for name in ("password", "username", "host", "port", "database", "interface", "dsn")),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_an_error_that_says_why_and_shows_no_secret(url: str, why: str) -> None:
    with pytest.raises(SettingError, match=why) as refused:
        open_store(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_missing_driver_says_what_to_install() -> None:
    """In a process of its own, where the module is made impossible to import; no other driver is imported then."""
    code = (
        "import sys, callspan.stores\nassert not {'sqlite3', 'psycopg'} & {*sys.modules}\n"
        "sys.modules['psycopg'] = None\n"
        "try: callspan.stores.find_store('postgresql://host/db').sink()\n"
        "except callspan.stores.SettingError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "callspan[postgres]"' in done.stdout


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://ann:secret@host:5/db?password=secret", "postgresql://host:5/db"),
        ("clickhouse://:secret@host/db", "clickhouse://host/db"),
        ("postgresql://ann:se@cret@host/db", "postgresql://host/db"),
        ("sqlite:///calls.db", "sqlite:///calls.db"),
        ("calls.db", "calls.db"),
        ("sqlite:///C:/calls@home.db", "sqlite:///C:/calls@home.db"),
    ],
)
def test_no_password_is_shown(url: str, safe: str) -> None:
    assert safe_name(url) == safe


_SECRETS = ("bob", "pw7", "secret")
_USERS = (
    "bob:pw7secret", "bob:", "bob:p%77pw7", "bob:pw7secret x", "bob:pw7/secret", "bob:pw7?secret", "bob:pw7@secret",
)  # fmt: skip
_TAILS = (
    "127.0.0.1:1/db", "127.0.0.1:1/db?application_name=a b", "127.0.0.1:99999/db", "[::1/db", "127.0.0.1:1/db?nope=1",
    "127.0.0.1:1/db?password=pw7secret", "127.0.0.1:1/db?password=pw7 secret&x",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "POSTGRES", "PostgreSQL"])
def test_no_shape_of_a_url_makes_a_driver_print_its_user_or_password(scheme: str) -> None:
    """What commands print: the name of the store, a refused setting, the error of the driver where it is installed."""
    for user, tail in itertools.product(_USERS, _TAILS):
        url = f"{scheme}://{user}@{tail}"
        printed = [safe_name(url)]
        try:
            open_store(url)
        except SettingError as refused:
            printed.append(str(refused))
        except Exception as error:  # noqa: BLE001 - any of the driver's
            printed.append(reason(error) + error_text(error))
        assert not [word for word in _SECRETS if word in "".join(printed)], url


@pytest.mark.parametrize("url", [f"{user}@{tail}" for user in _USERS for tail in _TAILS])
def test_no_text_around_a_url_keeps_its_user_or_password(url: str) -> None:
    for quote in ('"{}"', "'{}'", "<{}>", "{}", "{}: refused", "at {}, then", "\n{}\nHINT: more"):
        text = "missing a = after " + quote.format(f"POSTGRES://{url}") + " in the connection string"
        if " " not in url or quote[0] in "\"'":
            assert not [word for word in _SECRETS if word in without_passwords(text)], text


@pytest.mark.parametrize("scheme", ["postgresql", "clickhouse"])
def test_a_store_is_the_same_one_whatever_user_and_password(scheme: str) -> None:
    urls = [f"{scheme}://{user}host/db" for user in ("ann:secret7@", "ann:other7@", "bob@", "")]
    (identity,) = {find_store(url).identity for url in urls}
    assert "7" not in identity
    assert "ann" not in identity


def test_two_schemas_of_one_database_are_two_stores() -> None:
    """A spool must deliver to both, and to neither what is the other's."""
    urls = [
        f"postgresql://host/db{query}" for query in ("", "?options=-csearch_path%3Da", "?options=-csearch_path%3Db")
    ]
    assert len({target_of(find_store(url)) for url in urls}) == 3
    assert len({target_of(find_store(url)).key(Path("spool")) for url in urls}) == 3
