"""The web application of the API port."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_tcbatch.emulator import trouble
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.http import api3, cmq_http, console, control
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.signing.cmq import PATH as CMQ_PATH

TOKEN_HEADER = b"x-emulator-token"

_NO_TOKEN = (
    "what changes the emulator is sent with the ready line's control_token, in the header X-Emulator-Token: "
    "other users of this machine reach this port, too"
)
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def build(services: Services) -> ASGIApp:
    """All routes of the API port, bound to one emulator."""

    def bound(answer: Callable[[Services, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await answer(services, request)

        return endpoint

    def route(path: str, answer: Any, *methods: str) -> Route:
        return Route(path, bound(answer), methods=list(methods))

    application = Starlette(
        routes=[
            route("/", api3.answer, "POST"),
            route(CMQ_PATH, cmq_http.answer, "GET", "POST"),
            route("/console", console.jobs, "GET"),
            route("/console/jobs/{job_id}", console.job, "GET"),
            route("/console/jobs/{job_id}/output", console.output, "GET"),
            route("/console/envs/{env_id}", console.env, "GET"),
            route("/console/templates/{template_id}", console.template, "GET"),
            route("/console/cos", console.folder, "GET"),
            route("/_emulator/health", control.health, "GET"),
            route("/_emulator/jobs", control.jobs, "GET"),
            route("/_emulator/jobs/{job_id}/timeline", control.timeline, "GET"),
            route("/_emulator/jobs/{job_id}/wait", control.wait, "GET"),
            route("/_emulator/calls", control.calls, "GET"),
            route("/_emulator/reset", control.reset, "POST"),
            route("/_emulator/faults", control.faults, "GET", "POST", "DELETE"),
            route("/_emulator/faults/{fault_id}", control.remove_fault, "DELETE"),
            route("/_emulator/settings", control.settings, "GET", "PATCH"),
        ],
        exception_handlers={ClientDisconnect: _gone},
    )
    return _guard(services.host, application)


async def _gone(request: Request, error: Exception) -> Response:
    """A client that has gone before its request was whole gets no answer, and nothing was done."""
    return Response(status_code=499)


def _durable(host: Host, send: Send) -> Send:
    """Let no answer go before what it tells is written down."""

    async def durable(message: Message) -> None:
        if message["type"] == "http.response.start":
            host.ledger.flush()
        await send(message)

    return durable


def _guard(host: Host, application: ASGIApp) -> ASGIApp:
    """Keep web pages, and other users of this machine, out of the control API, which has no signature.

    A page in a browser on this machine can reach loopback; its requests give themselves away by an ``Origin``
    header, or by a host name that merely resolves to this machine. Other users reach loopback, too: what changes
    anything needs the token that only whoever started the emulator was told.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(("/_emulator/", "/console")):
            headers = dict(scope["headers"])
            named = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0]
            if b"origin" in headers or named not in _LOCAL_HOSTS:
                await JSONResponse({"error": "this is for this machine's own tools and browsers"}, 403)(
                    scope, receive, send
                )
                return
            given = headers.get(TOKEN_HEADER, b"")
            token = host.identity.control_token.encode()
            if scope["method"] not in ("GET", "HEAD") and not hmac.compare_digest(given, token):
                await JSONResponse({"error": _NO_TOKEN}, 401)(scope, receive, send)
                return
        trouble.expose_transport(scope, send)
        await application(scope, receive, _durable(host, send) if host.ledger.keeps else send)

    return guarded
