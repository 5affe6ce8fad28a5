"""Wires: requests to models that are known by their path, whoever sends them, and by the fields of their body.

The model is in the path or in the body. Gateways put anything before a path. Several APIs may have one path, and other
programs too: the rows of `callspan.record.apis` say which fields tell them apart, and what alone tells an API.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from callspan.providers import routes
from callspan.providers.hosts import UNKNOWN, serves_models
from callspan.providers.kinds import fits_any, proves
from callspan.providers.wire_json import mapping, word
from callspan.record.apis import APIS, Api
from callspan.runtime.forks import late_import

_MAX_PATHS: Final = 256
Asked: TypeAlias = Callable[[], str | None]
"""Finds out the provider that is asked: `unknown` for an SDK that calls models of any; None if it is unknown whether
one is asked at all."""
Shown: TypeAlias = Literal["by request", "by mark only", "by host", "by answer"]
"""What shows that a request on a path is a call, beside the fields of its body.

`by request`: its host, its SDK, a mark of its API, else the answer. `by mark only`: the same, but not the answer alone,
because so many programs have the path. `by host`: no mark, because it is another API's path first. `by answer`: nothing
else, since anything that was trained may be served there.
"""


class Wire(NamedTuple):
    """The API of a request."""

    api: str
    model: str | None
    """The model in its path; None if it is in the body."""
    stream: bool = False
    """Whether its path asks for a stream."""
    shared_path: str = ""
    """Its path without ids, if it is sent to a stranger's host, where other programs have it too, so that the answer
    must agree; empty at a provider's."""
    is_shown: bool = False
    """Whether the request alone shows at a stranger's host that it is a call, unless the answer disproves it."""


class Candidate(NamedTuple):
    """An API that a path may belong to, as the body tells."""

    api: str
    path: str
    """The segments that name it, without ids."""
    model: str | None = None
    stream: bool = False
    shown: Shown = "by request"

    def wire(self, api: str, shared_path: str = "", *, is_shown: bool = False) -> Wire:
        """Return the request as one of its API, or of the one that its body is in."""
        return Wire(api, self.model, self.stream, shared_path, is_shown)


class Unrecorded(NamedTuple):
    """A request that costs money and leaves no record."""

    name: str
    """Its path without ids."""
    provider: str | None = None
    """The provider that must be known to be asked, if an application may have such a path too."""
    of_any_provider: bool = False
    """The same, where it may be any provider."""

    def is_of(self, provider: str) -> bool:
        """Return whether such a request to a provider, which may be unknown, is one that costs money."""
        return self.provider in (None, provider) and not (self.of_any_provider and provider == UNKNOWN)


_INTERACTION: Final = re.compile(r"/interactions/[^/]+(/cancel)?$")
_BATCH: Final = re.compile(r"/batches/([^/:]+)$")
_INVOKED: Final = "invoke_model"
"""The API of a model that Bedrock invokes, unless the body belongs to another API."""


class _Pattern(NamedTuple):
    """Paths that state more than an API: the model, or whether they ask for a stream. Gateways put anything before."""

    path: re.Pattern[str]
    families: frozenset[str]
    """Whose verbs they have."""
    is_of_any_model: bool = False
    """Whether anything that was trained is served there, so that nothing but the answer tells what it is."""


_PATTERNS: Final = (
    # Gemini's, and on Vertex Anthropic's: before it is the project, the location and the publisher of the model
    _Pattern(
        re.compile(r"/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):(?P<verb>(?P<stream>stream\w+)?\w*)$"),
        frozenset({"google", "anthropic"}),
    ),
    # The name of a model may be that of a resource, which has slashes.
    _Pattern(
        re.compile(
            r"/model/(?P<model>arn:.+|[^/]+)/(?P<verb>converse|invoke)(?P<stream>-stream|-with-response-stream)?$"
        ),
        frozenset({"bedrock"}),
    ),
    # The name of a model may have an owner.
    _Pattern(re.compile(r"/(?P<verb>models)/(?P<model>[^/:]+(?:/[^/:]+)?)$"), frozenset({"huggingface"})),
    # of a model in the body or of a deployment
    _Pattern(
        re.compile(r"/ml/v1/(?:deployments/(?P<model>[^/]+)/)?text/(?P<verb>[a-z]+)(?P<stream>_stream)?$"),
        frozenset({"watsonx"}),
    ),
    # Cloudflare's, also behind its gateway
    _Pattern(re.compile(r"/(?:ai/)?(?P<verb>run|workers-ai)/(?P<model>(?:@|%40)[^:]+)$"), frozenset({"cloudflare"})),
    # Databricks'
    _Pattern(
        re.compile(r"/serving-endpoints/(?P<model>[^/]+)/(?P<verb>invocations)$"),
        frozenset({"openai"}),
        is_of_any_model=True,
    ),
)
_DEPLOYMENT: Final = re.compile(r"/deployments/([^/]+)/")
"""Where Azure's paths have a model."""
_COLON: Final = re.compile("%3A", re.IGNORECASE)
_SLASHES: Final = re.compile("//+")


def _by_key(keys: Callable[[Api], Iterable[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the APIs of each of their keys."""
    placed: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in APIS.values():
        for key in keys(row):
            placed[key].append(row.name)
    return {key: tuple(names) for key, names in placed.items()}


_VERBS: Final = _by_key(lambda row: ((row.family, verb) for verb in row.verbs))
"""The APIs of verbs by their family and verb."""
_ENDS: Final = _by_key(lambda row: (tuple(end.split("/")) for end in (*row.path_ends, row.bare_path) if end))
"""The APIs of paths by their last one or two segments."""
_UNRECORDED: Final = frozenset({"batchGenerateContent", "asyncBatchEmbedContent", "predictLongRunning"})
"""Verbs that start work and are answered later."""
_RANKING: Final = "/rankingConfigs/"
_UNRECORDED_PATHS: Final = ("batchPredictionJobs", "cachedContents", "tuningJobs", "tunedModels")
"""Last segments of paths with POSTs that cost money: storage of a cache, training."""
_UNRECORDED_OF: Final = (
    # pages of a document, batches, turns of a conversation that is kept
    ("mistral_ai", re.compile(r"/v1/(?:ocr|batch/jobs|conversations(?:/(?P<id>[^/]+)(?:/restart)?)?)$")),
    ("cohere", re.compile(r"/v1/(?:generate|classify|summarize)$")),
    # vectors, labels and other answers of a task
    ("huggingface", re.compile(r"/models/(?P<id>.+)/pipeline/[\w-]+$")),
)
"""Paths without a reader, by the provider that must be known to be asked."""
_DEFERRED: Final = ("x_ai", "deferred")
"""The provider, and the field of a request for a completion that another request gets later."""
_ID: Final = re.compile(r"\{\w+\}")
_VERSION: Final = "v1/"
_PUBLISHED: Final = "/publishers/"
"""In the paths of Vertex to models, in contrast to endpoints with anything that was trained."""
_ANTHROPIC: Final = "/publishers/anthropic/"
"""In the paths to Anthropic's models. With the same verbs, other vendors' models are asked for chat completions."""
_ANTHROPICS: Final = "messages"
_PREDICT: Final = "predict"
_TRAINED: Final = "/endpoints/"
"""In the paths of Vertex to what was trained there, whose predictions may be of anything."""

_COUNTER: Final = "count-tokens"
"""What stands for a model in Vertex's path to the tokens of a request, which no model answers."""


@lru_cache(maxsize=_MAX_PATHS)
def find(method: str, path: str) -> Wire | None:
    """Return the API of a request with a path of one vendor only, or None."""
    if method.upper() != "POST":
        return None
    return next((candidate.wire(candidate.api) for candidate in _of_vendors(path)), None)


def _of_vendors(path: str) -> Iterator[Candidate]:
    """Yield the APIs that have a path at their vendors."""
    for pattern in _PATTERNS:
        if (match := pattern.path.search(path)) is not None:
            stated = match.groupdict()
            verb, model, is_stream = stated["verb"], stated["model"], stated.get("stream") is not None
            if model == _COUNTER or (verb == _PREDICT and match[0].startswith(_TRAINED)):
                continue
            for api in (name for family in pattern.families for name in _VERBS.get((family, verb), ())):
                shown: Shown = "by answer" if pattern.is_of_any_model else "by request"
                is_other = api == _ANTHROPICS and _PUBLISHED in path and _ANTHROPIC not in path
                yield Candidate(
                    "chat_completions" if is_other else api, _without_id(match, "model"), model and unquote(model),
                    is_stream, shown,
                )  # fmt: skip
    segments = tuple(path.rsplit("/", 2)[-2:])
    for end in (segments, segments[1:]):
        for api in _ENDS.get(end, ()):
            row, joined = APIS[api], "/".join(end)
            ending: Shown = "by mark only" if joined == row.bare_path else "by host" if row.paths else "by request"
            yield Candidate(api, f"/{joined}", shown=ending)


def _without_id(match: re.Match[str], group: str) -> str:
    """Return the path that matches, without the id in a group."""
    if match.groupdict().get(group) is None:
        return match[0]
    return f"{match.string[match.start() : match.start(group)]}{{id}}{match.string[match.end(group) : match.end()]}"


def fetches_interaction(method: str, path: str) -> bool:
    """Return whether a request fetches or cancels an interaction."""
    match = _INTERACTION.search(path)
    return match is not None and method.upper() == ("POST" if match[1] else "GET")


def batch_in(method: str, path: str) -> str | None:
    """Return the id of the batch of Gemini that a request fetches; None for others."""
    match = _BATCH.search(path) if method.upper() == "GET" else None
    return None if match is None else unquote(match[1])


@lru_cache(maxsize=_MAX_PATHS)
def of_path(path: str) -> tuple[Candidate, ...]:
    """Return the APIs that a POST to a path may belong to, as its body tells. One of many servers comes first.

    A vendor's path may be another's too: as its body does not fit, the next one has its turn.
    """
    path = _COLON.sub(":", _SLASHES.sub("/", path).rstrip("/"))
    route, deployment = routes.find("POST", path), _DEPLOYMENT.search(path)
    vendors = tuple(_of_vendors(path))
    if route is None or route.path.kind != "call":
        return vendors
    api = route.path.adapter
    end = f"/{route.path.pattern.partition(' ')[2]}"
    return (Candidate(api, end, None if deployment is None else unquote(deployment[1])), *vendors)


def _nobody() -> None:
    return None


def of_body(candidates: Iterable[Candidate], body: object, asked: Asked = _nobody) -> Wire | None:
    """Return the API of a request whose path may belong to `candidates`; None if its body belongs to none of them.

    None if it calls no known model: it names no model, or has none of the fields of an API. Some providers choose a
    model themselves.
    """
    fields = mapping(body)
    if fields is None:
        return None
    for candidate in candidates:
        wire = _of_fields(candidate, fields, asked)
        if wire is not None:
            return wire
    return None


def _of_fields(candidate: Candidate, fields: dict[str, object], asked: Asked) -> Wire | None:
    """Return the request if it is one of the candidate's API."""
    row = APIS[candidate.api]
    name, *others = row.model_fields
    if candidate.model is None and not (word(fields, name) or any(word(fields, other) for other in others)):
        chooser = row.default_chooser
        if not chooser or asked() != chooser:
            return None
    provider, deferred = _DEFERRED
    if fields.get(deferred) is True and asked() == provider:
        return None
    api, shown = candidate.api, candidate.shown
    if is_invoked := api == _INVOKED:
        api = late_import("callspan.providers.bedrock.invoke").api_of(candidate.model, fields)
        row = APIS[api]
    is_typed = fits_any(fields, row.asked)
    if not (is_typed or is_invoked or any(fields.get(field.outer) for field in row.asked)):
        return None
    is_provider = asked() is not None
    if is_provider and shown != "by answer":
        return candidate.wire(api)
    if not (is_typed or is_provider):
        return None
    is_shown = is_provider or (shown in ("by request", "by mark only") and proves(fields, row.marks))
    if shown == "by mark only" and not is_shown:
        return None
    return candidate.wire(api, candidate.path, is_shown=is_shown)


def of_request(method: str, path: str, body: object) -> Wire | None:
    """Return the API of a request, whoever sends it, by its path without the query and its parsed body.

    None if it calls no known model: it has another path, no model, or none of the fields of the API. Its answer is not
    asked for.
    """
    wire = of_body(of_path(path), body) if method.upper() == "POST" else None
    return None if wire is None else wire._replace(shared_path="", is_shown=False)


@lru_cache(maxsize=_MAX_PATHS)
def unrecorded(method: str, path: str) -> Unrecorded | None:
    """Return what is counted of a request that costs money and has no reader; None for others."""
    if method.upper() != "POST":
        return None
    for provider, pattern in _UNRECORDED_OF:
        if (match := pattern.search(path)) is not None:
            return Unrecorded(_without_id(match, "id"), provider)
    last = path.rpartition("/")[2]
    verb = last.partition(":")[2]
    if verb in _UNRECORDED:
        return Unrecorded(f"models/{{id}}:{verb}")
    if verb == "rank" and _RANKING in path:
        return Unrecorded("rankingConfigs/{id}:rank")
    if last in _UNRECORDED_PATHS:
        return Unrecorded(last)
    route = routes.find(method, path)
    return None if route is None or route.path.kind != "not recorded" else _unrecorded_of(route)


@lru_cache(maxsize=_MAX_PATHS)
def are_of(path: str, host: str = "") -> bool:
    """Return whether a POST to a path may be a call, or may cost money without a record, as its host or body tells."""
    return bool(of_path(path)) or unrecorded("POST", path) is not None or serves_models(host)


@lru_cache(maxsize=_MAX_PATHS)
def unread(path: str) -> Unrecorded | None:
    """Return what is counted of a POST with a body that no API has, or that cannot be read before it is sent."""
    route = routes.find("POST", path)
    return None if route is None or route.path.kind != "call" else _unrecorded_of(route)


@lru_cache(maxsize=_MAX_PATHS)
def is_free(path: str) -> bool:
    """Return whether a POST to a path that no API has costs nothing at a provider."""
    route = routes.find("POST", path)
    return routes.is_free(path) or (route is not None and route.path.kind == "no inference") or _COUNTER in path


def _unrecorded_of(route: routes.RouteMatch) -> Unrecorded:
    pattern = _ID.sub("{id}", route.path.pattern.partition(" ")[2]).removeprefix(_VERSION)
    return Unrecorded(f"/{_VERSION}{pattern}", of_any_provider=True)
