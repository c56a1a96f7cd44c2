"""The control API: HTTP and JSON, for the command line and for pages. `GET /v1/openapi.json` describes it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, TypeAlias, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import umbel
from umbel.errors import ArraysError, ConfigError, IdentityError, NotThere, StoreError, StoreFull, UmbelError
from umbel.identity import Authority, respond
from umbel.identity.federation import DEFAULT
from umbel.runtimes import checkpoint
from umbel.runtimes.progress import PASSING
from umbel.runtimes.server.desk import STANDS_BY
from umbel.runtimes.server.house import NO_ROOM, House
from umbel.stores import RunInfo

MAX_BODY_BYTES = 2**20
LONGEST_TEXT, LONGEST_NUMBER = 200, 18
RANK = {"node": 1, "viewer": 2, "researcher": 3, "admin": 4}
Handler: TypeAlias = Callable[[House, Request], Awaitable[Response]]


def api(house: House, authority: Authority | None) -> Starlette:
    """The application. Without an authority (an insecure server) everybody may do everything."""
    routes = [
        Route(path, _guarded(house, authority, rank, handler), methods=[verb]) for verb, path, rank, handler, _ in TABLE
    ]
    routes += [Route("/v1/openapi.json", _openapi, methods=["GET"])]
    if authority is not None:
        routes += [
            Route("/v1/ca", _identity(authority), methods=["GET"]),
            Route("/v1/enroll", _identity(authority), methods=["POST"]),
            Route("/v1/renew", _identity(authority), methods=["POST"]),
        ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such})


def told(content: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON that every reader takes, whatever a database of before holds.

    A number that JSON has none for becomes text ("nan", "inf"), half a character is escaped.
    """
    text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    return Response(text, status, headers, "application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast("Sequence[Any]", value)]
    return value


def _guarded(house: House, authority: Authority | None, rank: int, handler: Handler) -> Callable[..., Any]:
    async def handle(request: Request) -> Response:
        if house.desk.stands_by and handler is not _health:
            return _error(503, STANDS_BY)
        if authority is not None and rank:
            certificate = cast("bytes | None", request.state.certificate)
            refusal = authority.why_refused(certificate)
            if refusal is not None or certificate is None:
                return _error(401, refusal or "show a certificate of this server: umbel join CODE")
            request.state.federation = authority.federation_of(certificate).name
            role = authority.role_of(certificate)
            if RANK.get(role, 0) < rank:
                needed = next(name for name, value in RANK.items() if value == rank)
                return _error(403, f"this takes the role {needed}, yours is {role}; ask the operator for an invitation")
        return await handler(house, request)

    return _answered(handle)


def _answered(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """What each error becomes: a status and a sentence."""

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to hear it
        except NotThere as error:
            return _error(404, str(error))
        except StoreFull:
            return _error(507, NO_ROOM)
        except StoreError as error:
            return _error(507, str(error))
        except (ConfigError, ArraysError, IdentityError) as error:
            return _error(422, str(error))
        except UmbelError as error:
            return _error(500, str(error))

    return answer


async def _no_such(request: Request, error: Exception) -> Response:
    """What Starlette refuses: there is nothing at a path, or not for this verb."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    return _error(error.status_code, f"{error.detail}: {what}; GET /v1/openapi.json lists what there is", error.headers)


def _federation(request: Request) -> str:
    """Whose things the request is about: those of whoever asks."""
    return getattr(request.state, "federation", DEFAULT)


def _info(house: House, request: Request) -> RunInfo:
    """The run that the request names.

    Raises:
        NotThere: there is none in the asker's federation.
    """
    return house.info(request.path_params["run"], _federation(request))


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return told({"error": sentence}, status, headers=headers)


def _identity(authority: Authority) -> Callable[..., Any]:
    # Threads of its own: who guesses secrets is made to wait, and must not make others wait with it.
    threads = ThreadPoolExecutor(2, "umbel-identity")

    async def handle(request: Request) -> Response:
        body: Mapping[str, Any] = await _body(request) if request.method == "POST" else {}
        loop = asyncio.get_running_loop()
        certificate = cast("bytes | None", request.state.certificate)
        status, answer = await loop.run_in_executor(threads, respond, authority, request.url.path, body, certificate)
        return told(answer, status)

    return _answered(handle)


async def _body(request: Request) -> Mapping[str, Any]:
    """The request's JSON object.

    Raises:
        ConfigError: it is too large or none.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ConfigError(f"the request is larger than {MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise ConfigError("the request's body is not JSON") from None
    if not isinstance(body, dict):
        raise ConfigError("the request's body is no JSON object")
    return cast("dict[str, Any]", body)


async def _health(house: House, request: Request) -> Response:
    # The time is for nodes, whose certificates look bad where the clocks differ.
    role = "stands by" if house.desk.stands_by else "leads"
    health = {"status": "ok", "role": role, "version": umbel.__version__}
    return told(health, headers={"Date": formatdate(usegmt=True)})


async def _ready(house: House, request: Request) -> Response:
    house.store.runs()
    return told({"status": "ready", "nodes": len(house.desk.nodes)})


async def _nodes(house: House, request: Request) -> Response:
    return told({"nodes": house.nodes(_federation(request))})


async def _revoke(house: House, request: Request) -> Response:
    name = request.path_params["name"]
    await house.revoke(name, federation=_federation(request))
    return told({"revoked": name})


async def _apps(house: House, request: Request) -> Response:
    found = house.apps_of(_federation(request))
    apps = [{"name": app.name, "digest": app.digest, "config": dict(app.config)} for app in found.values()]
    return told({"apps": apps})


async def _runs(house: House, request: Request) -> Response:
    runs = [
        {
            "id": run.id,
            "name": run.name,
            "created": run.created_s,
            "status": house.status(run),
            "waits_for": house.waits_for(run.id),
            "plan": dict(run.plan),
        }
        for run in house.runs(_federation(request))
    ]
    return told({"runs": runs})


async def _submit(house: House, request: Request) -> Response:
    body = await _body(request)
    app, digest = _text(body, "app"), _text(body, "digest")
    if app is None:
        raise ConfigError('a run is {"app": name, "settings": {…}, "digest": …, "name": …}; name the app')
    settings, name = _settings(body), _text(body, "name") or ""
    run = house.submit(app, settings, digest=digest, name=name, federation=_federation(request))
    return told({"run": run}, 201)


def _text(body: Mapping[str, Any], key: str) -> str | None:
    """A text of the request's body, if it has one.

    Raises:
        ConfigError: it is none, or too long.
    """
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_TEXT):
        raise ConfigError(f"{key} must be text of at most {LONGEST_TEXT} characters, got {repr(value)[:100]}")
    return value


def _settings(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings in the request's body, none if it has none.

    Raises:
        ConfigError: they are no object.
    """
    value: Any = body.get("settings")
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"settings must be an object of names and values, got {repr(value)[:100]}")
    return cast("dict[str, Any]", value or {})


async def _stop(house: House, request: Request) -> Response:
    return told({"run": house.stop(request.path_params["run"], federation=_federation(request))})


async def _resume(house: House, request: Request) -> Response:
    body = await _body(request)
    run = request.path_params["run"]
    return told({"run": house.resume(run, _settings(body), federation=_federation(request))}, 201)


async def _usage(house: House, request: Request) -> Response:
    name = _federation(request)
    # Reading all logs takes a while.
    rows = await asyncio.get_running_loop().run_in_executor(None, lambda: house.usage(name))
    return told({"usage": rows})


async def _events(house: House, request: Request) -> Response:
    info = _info(house, request)
    follow = request.query_params.get("follow") in ("1", "true")
    return StreamingResponse(_lines(house, info.id, follow=follow), media_type="application/x-ndjson")


async def _lines(house: House, run: str, *, follow: bool) -> AsyncGenerator[str]:
    """The log's events as lines; with `follow` those to come as well, progress among them, until the run is over."""
    queue = house.follow(run) if follow else None
    try:
        sent = 0
        for event in house.store.log(run):
            sent += 1
            yield json.dumps({"run": run, **event}) + "\n"
        waits_for = house.waits_for(run)
        if queue is not None and waits_for is not None:
            yield json.dumps({"run": run, "kind": "waiting", "text": waits_for}) + "\n"
        event: Mapping[str, Any] | None = {}
        while queue is not None and event is not None:
            event = await queue.get()
            if event is not None and event["kind"] in PASSING:
                yield json.dumps(dict(event)) + "\n"
                continue
            # What is in the log is read from the log, so that nothing comes twice or is missed.
            for stored in house.store.log(run)[sent:]:
                sent += 1
                yield json.dumps({"run": run, **stored}) + "\n"
        reason = house.broken(run)
        if reason is not None:
            # The log could not be told.
            yield json.dumps({"run": run, "kind": "ended", "round": house.reached(run), "reason": reason}) + "\n"
    finally:
        if queue is not None:
            house.unfollow(run, queue)


async def _checkpoints(house: House, request: Request) -> Response:
    return told({"rounds": house.store.checkpoints(_info(house, request).id)})


async def _checkpoint(house: House, request: Request) -> Response:
    info = _info(house, request)
    data = _kept(house, info, _number(request.path_params["round"]))
    return Response(data, media_type="application/octet-stream")


async def _model(house: House, request: Request) -> Response:
    info = _info(house, request)
    asked, kept = request.query_params.get("round"), house.store.checkpoints(info.id)
    number = _number(asked) if asked is not None else max(kept, default=0)
    state, _ = checkpoint.read(_kept(house, info, number))
    headers = {"umbel-round": str(number), "umbel-digest": state.params.digest}
    return Response(state.params.buffer.tobytes(), media_type="application/octet-stream", headers=headers)


def _number(text: str) -> int:
    """A round's number.

    Raises:
        ConfigError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise ConfigError(f"a round is a whole number of at most {LONGEST_NUMBER} digits, got {text[:100]!r}")
    return int(text)


def _kept(house: House, info: RunInfo, number: int) -> bytes:
    """The checkpoint of a round.

    Raises:
        NotThere: it is not kept (any more).
        StoreError: it cannot be read.
    """
    try:
        return house.store.checkpoint(info.id, number)
    except StoreError:
        kept = house.store.checkpoints(info.id)
        if number in kept:
            raise
    there = ", ".join(map(str, kept)) or "none yet"
    raise NotThere(f"round {number} of run {info.id} is not kept; those that are: {there}")


TABLE: list[tuple[str, str, int, Handler, str]] = [
    ("GET", "/v1/health", 0, _health, "Whether the process lives, and whether it leads or stands by."),
    ("GET", "/v1/ready", 0, _ready, "Whether the store can be used and this server leads; 503 while it stands by."),
    ("GET", "/v1/nodes", 2, _nodes, "The connected nodes, the runs they are ready for, and why they refuse others."),
    ("POST", "/v1/members/{name}/revoke", 4, _revoke, "Turn a member away for good, and end its stream at once."),
    ("GET", "/v1/apps", 1, _apps, "The installed apps with their digests and default settings."),
    (
        "GET",
        "/v1/runs",
        2,
        _runs,
        "All runs of the asker's federation, oldest first, and what those that wait wait for.",
    ),
    ("POST", "/v1/runs", 3, _submit, "Begin a run of an installed app."),
    ("POST", "/v1/runs/{run}/stop", 3, _stop, "End a run after the step under way."),
    ("POST", "/v1/runs/{run}/resume", 3, _resume, "Go on with a run after its last finished round."),
    ("GET", "/v1/usage", 2, _usage, "What runs have used: rounds, bytes and node-seconds by run and day."),
    ("GET", "/v1/runs/{run}/events", 2, _events, "The run's log, a JSON object per line; ?follow=1 goes on."),
    ("GET", "/v1/runs/{run}/checkpoints", 2, _checkpoints, "The rounds whose checkpoints are kept."),
    ("GET", "/v1/runs/{run}/checkpoints/{round}", 3, _checkpoint, "A checkpoint: the run's state as one frame."),
    ("GET", "/v1/runs/{run}/model", 2, _model, "The model as a safetensors file; ?round=N takes a kept round."),
]


# What is there without a certificate, and only at a server that has any.
OPEN = {
    "GET /v1/ca": "The CA's certificate, for whoever joins.",
    "POST /v1/enroll": "Join with an invitation's secret.",
    "POST /v1/renew": "A fresh certificate for whoever shows one that is good.",
}
REFUSALS = {
    "503": "This server stands by for another one.",
    "507": "The store has no room, or cannot be used.",
    "default": 'JSON; what is refused has its reason under "error".',
}


async def _openapi(request: Request) -> Response:
    paths: dict[str, Any] = {}
    for verb, path, rank, _, text in TABLE:
        role = next((name for name, value in RANK.items() if value == rank), "nobody")
        _describe(paths, f"{verb} {path}", text, f"Takes the role {role}." if rank else "Open to all.")
    for what, text in OPEN.items():
        _describe(paths, what, text, "Open to all, at a server with TLS.")
    about = {"title": "Umbel", "version": umbel.__version__}
    return told({"openapi": "3.1.0", "info": about, "paths": paths})


def _describe(paths: dict[str, Any], what: str, summary: str, who: str) -> None:
    verb, path = what.split()
    names = re.findall(r"{(\w+)}", path)
    described: dict[str, Any] = {
        "summary": summary,
        "description": who,
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "responses": {status: {"description": text} for status, text in REFUSALS.items()},
    }
    if verb == "POST":
        described["requestBody"] = {"content": {"application/json": {"schema": {"type": "object"}}}}
    paths.setdefault(path, {})[verb.lower()] = described
