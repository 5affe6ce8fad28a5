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
        ("sqlite:///dir/calls.db", "sqlite", "dir/calls.db"),
        ("sqlite://calls.db", "sqlite", "calls.db"),
        ("SQLITE:///calls.db", "sqlite", "calls.db"),
        ("jsonl:///calls.jsonl?max_bytes=10", "jsonl", "calls.jsonl"),
        ("unix:///run/x.sock", "unix", "/run/x.sock"),
        ("unix:////run/x.sock?timeout_s=1", "unix", "/run/x.sock"),
        ("calls.db", "sqlite", "calls.db"),
        ("/var/calls.sqlite", "sqlite", "/var/calls.sqlite"),
        (" calls.jsonl ", "jsonl", "calls.jsonl"),
    ],
)
def test_a_file_url_names_its_kind_and_path(url: str, kind: str, path: str) -> None:
    found = find_store(url)
    assert (scheme_of(found.url), found.path) == (kind, Path(path))


@pytest.mark.parametrize("url", ["redis://host", "calls.txt", "calls", "sqlit:///x.db", "csv:///x"])
def test_an_unknown_kind_names_the_setting_and_what_may_be_used(url: str) -> None:
    with pytest.raises(SettingError, match=r"CALLSPAN_STORES: unknown kind .*sqlite:///calls.db.*unix://"):
        find_store(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "jsonl:///?max_bytes=1"])
def test_a_url_without_a_file_is_an_error(url: str) -> None:
    with pytest.raises(SettingError, match="has no path"):
        find_store(url)


def test_stores_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be read"):
        open_store(f"unix://{tmp_path}/a.sock")
    with pytest.raises(SettingError, match="nothing cannot be read"):
        open_store("")


@pytest.mark.parametrize("name", ["password", "username", "host", "port", "database", "interface", "dsn"])
def test_clickhouse_takes_its_address_from_before_the_parameters(name: str) -> None:
    """The driver raises TypeError, with nothing of ours around it, where it is given one of them twice."""
    with pytest.raises(SettingError, match=f"{name} cannot be parameters") as raised:
        open_store(f"clickhouse://ann@127.0.0.1:1/db?{name}=secret7")
    assert "secret7" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://ann:secret@host:5/db?password=secret", "postgresql://host:5/db"),
        ("clickhouse://:secret@host/db", "clickhouse://host/db"),
        ("redis://ann:secret@host", "redis://host"),
        ("postgresql://ann:se@cret@host/db", "postgresql://host/db"),
        ("sqlite:///calls.db", "sqlite:///calls.db"),
        ("unix:///x.sock?acks=on", "unix:///x.sock"),
        ("calls.db", "calls.db"),
        ("sqlite:///C:/calls@home.db", "sqlite:///C:/calls@home.db"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("jsonl://ann@host/x.jsonl", "jsonl://ann@host/x.jsonl"),
    ],
)
def test_no_password_is_shown(url: str, safe: str) -> None:
    assert safe_name(url) == safe


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://ann:hunter2@host/x.db",
        "sqlite://ann:se/hunter2@host/x.db",
        "unix://ann:se?hunter2@host/x",
        "jsonl:///x.jsonl?token=hunter2",
        "sqlite:///x.db?password=se/hunter2",
        "jsonl:///x.jsonl?max_bytes=hunter2",
    ],
)
def test_a_secret_in_the_url_of_a_file_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(SettingError) as refused:
        find_store(url)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_an_unknown_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingError) as refused:
        find_store("mongodb://ann:secret@host")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("url", "module", "extra"), [("postgresql://host/db", "psycopg", "postgres")])
def test_a_missing_dependency_says_what_to_install(url: str, module: str, extra: str) -> None:
    """In a process of its own, where the module is made impossible to import."""
    code = (
        "import sys; from callspan.stores.urls import find_store; from callspan.settings import SettingError\n"
        f"sys.modules[{module!r}] = None\n"
        "try: find_store(sys.argv[1]).sink()\nexcept SettingError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
    assert f'pip install "callspan[{extra}]"' in done.stdout


def test_importing_the_package_imports_no_database_driver() -> None:
    code = "import sys, callspan.stores.urls; print([m for m in ('sqlite3', 'psycopg') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


@pytest.mark.parametrize("url", ["sqlite:///a.db?acks=on", "jsonl:///a.jsonl?max_bytes=big", "unix:///a.sock?x=1"])
def test_an_option_that_means_nothing_is_an_error(url: str) -> None:
    with pytest.raises(
        SettingError, match=r"CALLSPAN_STORES: .* has an unknown option, or an invalid value of one: \w+; there are: "
    ):
        find_store(url)
