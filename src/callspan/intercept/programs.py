"""Programs: the agents that can send their telemetry here, and how to tell each of them.

If the user, the application or an administrator configured a program's telemetry, that wins. Then nothing comes here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from callspan.receive.senders import Sender

TELEMETRY: Final = "CLAUDE_CODE_ENABLE_TELEMETRY"
"""The switch of `claude`. If anyone has set it, their settings apply."""
SESSION: Final = "callspan.session.id"
"""The resource attribute that names the session which started a program, wherever its telemetry goes."""
_RESOURCE: Final = "OTEL_RESOURCE_ATTRIBUTES"
_CONTENT: Final = (
    "OTEL_LOG_RAW_API_BODIES", "OTEL_LOG_TOOL_DETAILS", "OTEL_LOG_TOOL_CONTENT", "OTEL_LOG_USER_PROMPTS",
    "OTEL_LOG_ASSISTANT_RESPONSES",
)  # fmt: skip
_PROXIES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_CODEX_FILES: Final = (Path("/etc/codex/config.toml"), Path("/etc/codex/managed_config.toml"))
_CODEX_TABLE: Final = re.compile(r"^\s*(\[+\s*)?[\"']?otel[\"']?\s*[].=]", re.MULTILINE)
_CODEX_OPTION: Final = re.compile(r"(-c\s*|--config=)?otel\.")
"""An option, or its value where it is an argument of its own."""
Environment = Mapping[str, str]


class AgentProgram(NamedTuple):
    """A program that makes calls of its own, and can report them."""

    name: str
    sdk: str
    """The distribution of the SDK for Python that starts it."""
    is_set_up: Callable[[Environment, Sequence[str]], bool]
    """Whether its telemetry is set up by others, in its environment, its arguments or its files."""
    variables: Callable[[str, Sender, Environment], dict[str, str]]
    """Returns the environment variables that make it send to a URL."""
    arguments: Callable[[str, Sender], list[str]] = lambda _url, _sender: []
    """Returns the arguments, before all others, that make it send to a URL."""
    has_body_files: bool = False
    """Whether it can put bodies in files."""

    @property
    def sdk_package(self) -> str:
        """The package that a process imports if it uses the SDK."""
        return self.sdk.replace("-", "_")


def named_session(sender: Sender, environment: Environment) -> dict[str, str]:
    """Return the variable that names the session of a sender, if it has one, beside the attributes that are there."""
    if sender.place.session_id is None:
        return {}
    attribute = f"{SESSION}={quote(sender.place.session_id, safe='')}"
    return {_RESOURCE: ",".join(filter(None, (environment.get(_RESOURCE), attribute)))}


def _claude_is_set_up(environment: Environment, _arguments: Sequence[str]) -> bool:
    return bool(environment.get(TELEMETRY))


def _claude_variables(url: str, sender: Sender, environment: Environment) -> dict[str, str]:
    """Return the variables for log events, with content if permitted."""
    has_content = sender.level == "full"
    content = dict.fromkeys(_CONTENT, "0")
    if has_content:
        bodies = "1" if sender.bodies is None else f"file:{sender.bodies}"
        content |= {"OTEL_LOG_TOOL_DETAILS": "1", "OTEL_LOG_RAW_API_BODIES": bodies}
    return {
        TELEMETRY: "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        # The switch turns these on too, where the application has set them for itself.
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{url}/v1/logs",
        "OTEL_LOGS_EXPORT_INTERVAL": "1000",
        **content,
        **named_session(sender, environment),
        **_without_proxy(environment),
    }


def _without_proxy(environment: Environment) -> dict[str, str]:
    """Return the variables that keep loopback from a proxy, if there is one."""
    if not any(environment.get(name) for name in _PROXIES):
        return {}
    return {name: ",".join(filter(None, (environment.get(name), "127.0.0.1"))) for name in _NO_PROXY}


def _codex_is_set_up(environment: Environment, arguments: Sequence[str]) -> bool:
    """Its configuration files, an administrator's, a project's and a user's, and options of the command."""
    home = Path(environment.get("CODEX_HOME") or Path.home() / ".codex")
    files = (home / "config.toml", Path(".codex", "config.toml"), *_CODEX_FILES)
    return any(map(_CODEX_OPTION.match, arguments)) or any(map(_names_otel, files))


def _names_otel(file: Path) -> bool:
    with suppress(OSError):
        return _CODEX_TABLE.search(file.read_text("utf-8", "replace")) is not None
    return False


def _codex_variables(_url: str, _sender: Sender, environment: Environment) -> dict[str, str]:
    return _without_proxy(environment)


def _codex_arguments(url: str, sender: Sender) -> list[str]:
    """Return the options for log events, with prompts if permitted. It always sends what tools got and gave."""
    exporter = f'otel.exporter={{otlp-http={{endpoint="{url}/v1/logs",protocol="json"}}}}'
    return ["-c", exporter, "-c", f"otel.log_user_prompt={'true' if sender.level == 'full' else 'false'}"]


CLAUDE: Final = AgentProgram("claude", "claude-agent-sdk", _claude_is_set_up, _claude_variables, has_body_files=True)
CODEX: Final = AgentProgram("codex", "openai-codex", _codex_is_set_up, _codex_variables, _codex_arguments)
PROGRAMS: Final = {program.name: program for program in (CLAUDE, CODEX)}
"""By the name of the command."""
