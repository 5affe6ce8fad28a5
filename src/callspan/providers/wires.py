"""Wires: requests to models that are known by their path, whoever sends them, and by the fields of their body.

The model is in the path or in the body. Gateways put anything before a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from callspan.forks import late_import
from callspan.providers import routes
from callspan.providers.hosts import UNKNOWN
from callspan.providers.wire_json import mapping, word
from callspan.record.apis import APIS

_MAX_PATHS: Final = 256


class Wire(NamedTuple):
    """The API of a request."""

    api: str
    model: str | None
    """The model in its path; None if it is in the body."""
    stream: bool = False
    """Whether its path asks for a stream."""

    def with_api(self, api: str) -> Wire:
        """Return the request as another API's."""
        return Wire(api, self.model, self.stream)


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


_INTERACTIONS: Final = "/interactions"
_INTERACTION: Final = re.compile(r"/interactions/[^/]+(/cancel)?$")
_BATCH: Final = re.compile(r"/batches/([^/:]+)$")
_INVOKED: Final = "invoke_model"
"""The API of a model that Bedrock invokes, unless the body belongs to another API."""
_PATTERNS: Final[tuple[tuple[re.Pattern[str], frozenset[str]], ...]] = (
    # Gemini's, and on Vertex Anthropic's: before it is the project, the location and the publisher of the model
    (
        re.compile(r"/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):(?P<verb>(?P<stream>stream\w+)?\w*)$"),
        frozenset({"google", "anthropic"}),
    ),
    (
        re.compile(r"/model/(?P<model>[^/]+)/(?P<verb>converse|invoke)(?P<stream>-stream|-with-response-stream)?$"),
        frozenset({"bedrock"}),
    ),
    # The name of a model may have an owner.
    (re.compile(r"/(?P<verb>models)/(?P<model>[^/:]+(?:/[^/:]+)?)$"), frozenset({"huggingface"})),
    # of a model in the body or of a deployment
    (
        re.compile(r"/ml/v1/(?:deployments/(?P<model>[^/]+)/)?text/(?P<verb>[a-z]+)(?P<stream>_stream)?$"),
        frozenset({"watsonx"}),
    ),
)
"""The paths that state more than an API: the model, or whether they ask for a stream; and the families that define
their verbs. Gateways put anything before."""
_VERBS: Final = {(row.family, verb): row.name for row in APIS.values() for verb in row.verbs}
_DEPLOYMENT: Final = re.compile(r"/deployments/([^/]+)/")
"""Where Azure's paths have a model."""
_PATHS: Final = {end: row.name for row in APIS.values() for end in row.path_ends}
"""The APIs of paths by their last two segments."""
_MODEL_FIELDS: Final = ("model", "model_id", "agent", "agent_id")
"""Fields that name the model, or what chooses it."""
_UNRECORDED: Final = frozenset({"batchGenerateContent", "asyncBatchEmbedContent", "predictLongRunning"})
"""Verbs that start work and are answered later."""
_UNRECORDED_PATHS: Final = ("cachedContents", "tuningJobs", "tunedModels")
"""Last segments of paths with POSTs that cost money: storage of a cache, training."""
_UNRECORDED_OF: Final = (
    # pages of a document, batches, turns of a conversation that is kept
    ("mistral_ai", re.compile(r"/v1/(?:ocr|batch/jobs|conversations(?:/(?P<id>[^/]+)(?:/restart)?)?)$")),
    ("cohere", re.compile(r"/v1/(?:generate|classify|summarize)$")),
    # vectors, labels and other answers of a task
    ("huggingface", re.compile(r"/models/(?P<id>.+)/pipeline/[\w-]+$")),
)
"""Paths without a reader, by the provider that must be known to be asked."""
_ID: Final = re.compile(r"\{\w+\}")
_VERSION: Final = "v1/"
_PUBLISHED: Final = "/publishers/"
"""In the paths of Vertex to models, in contrast to endpoints with anything that was trained."""
_ANTHROPIC: Final = "/publishers/anthropic/"
"""In the paths to Anthropic's models. With the same verbs, other vendors' models are asked for chat completions."""

_COUNTER: Final = "count-tokens"
"""What stands for a model in Vertex's path to the tokens of a request, which no model answers."""


@lru_cache(maxsize=_MAX_PATHS)
def find(method: str, path: str) -> Wire | None:
    """Return the API of a request with a path of one vendor only, or None."""
    if method.upper() != "POST":
        return None
    if path.endswith(_INTERACTIONS):
        return Wire("interactions", None)
    for pattern, families in _PATTERNS:
        if (match := pattern.search(path)) is not None:
            stated = match.groupdict()
            verb, model = stated["verb"], stated["model"]
            api = next((_VERBS[family, verb] for family in families if (family, verb) in _VERBS), None)
            if api is None or model == _COUNTER:
                return None
            return Wire(api, model and unquote(model), stated.get("stream") is not None)
    named = _PATHS.get("/".join(path.rsplit("/", 2)[-2:]))
    return None if named is None else Wire(named, None)


def fetches_interaction(method: str, path: str) -> bool:
    """Return whether a request fetches or cancels an interaction."""
    match = _INTERACTION.search(path)
    return match is not None and method.upper() == ("POST" if match[1] else "GET")


def batch_in(method: str, path: str) -> str | None:
    """Return the id of the batch of Gemini that a request fetches; None for others."""
    match = _BATCH.search(path) if method.upper() == "GET" else None
    return None if match is None else unquote(match[1])


@lru_cache(maxsize=_MAX_PATHS)
def of_path(path: str) -> Wire | None:
    """Return the API that a POST to a path may belong to, as its body tells, or None."""
    if (wire := find("POST", path)) is not None:
        is_published = _PUBLISHED in path
        if wire.api == "predict" and not is_published:
            return None
        is_other = wire.api == "messages" and is_published and _ANTHROPIC not in path
        return wire.with_api("chat_completions") if is_other else wire
    route, deployment = routes.find("POST", path), _DEPLOYMENT.search(path)
    if route is None or route.path.kind != "call":
        return None
    return Wire(route.path.adapter, None if deployment is None else unquote(deployment[1]))


def of_body(wire: Wire, body: object, provider: Callable[[], str] | None = None) -> Wire | None:
    """Return the API of a request that may belong to `wire` by its path; None if its body does not.

    None if it calls no known model: it names no model, or has none of the fields of the API. `provider` finds out who
    is asked, as some choose a model themselves.
    """
    fields = mapping(body)
    if fields is None:
        return None
    if wire.api == _INVOKED:
        return wire.with_api(late_import("callspan.providers.bedrock.invoke").api_of(wire.model, fields))
    if wire.model is None and not any(word(fields, name) for name in _MODEL_FIELDS):
        chooser = APIS[wire.api].default_chooser
        if not chooser or provider is None or provider() != chooser:
            return None
    for api in (wire.api, APIS[wire.api].other):
        if api and any(fields.get(name) for name in APIS[api].asked):
            return wire.with_api(api)
    return None


def of_request(method: str, path: str, body: object) -> Wire | None:
    """Return the API of a request, whoever sends it, by its path without the query and its parsed body.

    None if it calls no known model: it has another path, no model, or none of the fields of the API.
    """
    wire = of_path(path) if method.upper() == "POST" else None
    return None if wire is None else of_body(wire, body)


@lru_cache(maxsize=_MAX_PATHS)
def unrecorded(method: str, path: str) -> Unrecorded | None:
    """Return what is counted of a request that costs money and has no reader; None for others."""
    if method.upper() != "POST":
        return None
    for provider, pattern in _UNRECORDED_OF:
        if (match := pattern.search(path)) is not None:
            name, model = match[0], match.groupdict().get("id")
            return Unrecorded(name if model is None else name.replace(f"/{model}", "/{id}", 1), provider)
    last = path.rpartition("/")[2]
    verb = last.partition(":")[2]
    if verb in _UNRECORDED:
        return Unrecorded(f"models/{{id}}:{verb}")
    if last in _UNRECORDED_PATHS:
        return Unrecorded(last)
    route = routes.find(method, path)
    return None if route is None or route.path.kind != "not recorded" else _unrecorded_of(route)


@lru_cache(maxsize=_MAX_PATHS)
def unread(path: str) -> Unrecorded | None:
    """Return what is counted of a POST with a form, or with a body that cannot be read before it is sent."""
    route = routes.find("POST", path)
    return None if route is None or route.path.kind != "call" else _unrecorded_of(route)


def _unrecorded_of(route: routes.RouteMatch) -> Unrecorded:
    pattern = _ID.sub("{id}", route.path.pattern.partition(" ")[2]).removeprefix(_VERSION)
    return Unrecorded(f"/{_VERSION}{pattern}", of_any_provider=True)
