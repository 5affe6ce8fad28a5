"""OTLP variables: the destination of each signal, and the service name."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.otlp.variables import (
    Destination,
    destinations,
    main_name,
    otlp_is_named,
    service_of_command,
    unknown_protocol,
)

HTTP, GRPC = "http/protobuf", "grpc"
BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def sent(otlp: str | bool, **environment: str) -> dict[str, tuple[str, str]]:
    return {found.signal: (found.protocol, found.address) for found in destinations(otlp, environment)}


def every(base: str) -> dict[str, tuple[str, str]]:
    return {signal: (HTTP, f"{base}/v1/{signal}") for signal in ("traces", "metrics", "logs")}


@pytest.mark.parametrize(
    ("protocol", "address", "server"),
    [
        (GRPC, "localhost:4317", ("localhost", 4317)),
        (GRPC, "http://c", ("c", 443)),
        (GRPC, "[::1]:4317", ("::1", 4317)),
        (GRPC, "unix:///run/x", None),
        (HTTP, "http://c/v1/traces", ("c", 80)),
        (HTTP, "HTTPS://c/v1/traces", ("c", 443)),
        (HTTP, "http://me:word@c:4318", ("c", 4318)),
        (HTTP, "localhost:4318", None),
        (HTTP, "http://:4318", None),
        (HTTP, "http://c:0", None),
        (HTTP, "http://c:99999", None),
        (HTTP, "http://u:pa/ss@c:1", None),
        (HTTP, "http://[::1", None),
        (HTTP, "http://c\udcff", None),
        (GRPC, "", None),
    ],
)
def test_the_server_that_an_exporter_connects_to(protocol: Any, address: str, server: tuple[str, int] | None) -> None:
    assert Destination("traces", protocol, None, address).server == server


@pytest.mark.parametrize("otlp", ["http://here:4318", "http://here:4318/", "http://here:4318/prefix"])
def test_a_given_url_gets_every_signal_regardless_of_endpoint_variables(otlp: str) -> None:
    assert sent(otlp, **{BASE: "http://there", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == every(otlp.rstrip("/"))


def test_none_turns_a_signal_off_even_where_an_address_is_given() -> None:
    assert set(sent("http://a", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER=" None ")) == {"traces"}
    assert not sent(
        True, **dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    )


def test_without_any_endpoint_everything_goes_to_the_usual_port() -> None:
    assert sent(True) == every("http://localhost:4318")
    assert sent(True, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")["traces"] == (GRPC, "http://localhost:4317")


def test_a_signal_goes_only_where_an_endpoint_is_named_for_it() -> None:
    assert sent(True, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://t/x") == {"traces": (HTTP, "http://t/x")}
    assert sent(True, **{BASE: "http://a:1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/y"}) == {
        **every("http://a:1"),
        "logs": (HTTP, "http://l/y"),
    }


@pytest.mark.parametrize(
    ("exporter", "signals"),
    [
        ("otlp", {"traces", "metrics"}),
        ("console", {"traces"}),
        ("console, otlp", {"traces", "metrics"}),
        ("", {"traces"}),
        ("OTLP", {"traces", "metrics"}),
    ],
)
def test_an_exporter_variable_names_what_is_sent(exporter: str, signals: set[str]) -> None:
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t", "OTEL_METRICS_EXPORTER": exporter}
    assert set(sent(True, **environment)) == signals


def test_the_protocol_may_differ_by_signal() -> None:
    found = sent(
        True,
        **{BASE: "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://m:4318/v1/metrics",
        OTEL_LOGS_EXPORTER="otlp_proto_http",
    )
    assert found == {
        "traces": (GRPC, "http://a:4317"),
        "metrics": (HTTP, "http://m:4318/v1/metrics"),
        "logs": (HTTP, "http://a:4317/v1/logs"),
    }


def test_a_protocol_that_is_not_known_is_reported() -> None:
    assert unknown_protocol("logs", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}) == "http/json"
    assert unknown_protocol("logs", {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}) is None
    assert sent(True, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")["logs"][0] == HTTP


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, False),
        ({BASE: " "}, False),
        ({BASE: "http://a"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://a"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "none"}, False),
    ],
)
def test_whether_the_environment_asks_for_otlp(environment: dict[str, str], named: bool) -> None:
    assert otlp_is_named(environment) is named


def test_a_destination_knows_what_turns_it_off() -> None:
    assert Destination("logs", "grpc", None, "x").switch == "OTEL_LOGS_EXPORTER"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["app.py"], "app"),
        (["./deep/app.py", "--its-own", "x.py"], "app"),
        (["gunicorn", "app:application"], "gunicorn"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["pkg/__main__.py"], "pkg"),
        (["my.service"], "my.service"),
        (["python", "app.py"], "app"),
        (["/usr/bin/python3.11", "-X", "dev", "-u", "app.py"], "app"),
        (["python3", "-m", "pkg.mod", "x"], "pkg.mod"),
        (["python", "-c", "print()"], None),
        (["python"], None),
    ],
)
def test_the_service_name_from_the_command_line(command: list[str], name: str | None) -> None:
    assert service_of_command(command) == name


@pytest.mark.parametrize(
    ("environment", "arguments", "name"),
    [
        ({"CALLSPAN_RUN_SERVICE": "shop"}, ["/x/app.py"], "shop"),
        ({}, ["/x/app.py"], "app"),
        ({}, ["-c"], None),
        ({}, [""], None),
        ({}, [], None),
    ],
)
def test_the_service_name_inside_a_process(environment: Any, arguments: list[str], name: str | None) -> None:
    assert main_name(environment, arguments) == name
