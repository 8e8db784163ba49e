"""The CMQ data plane: GET and POST ``/v2/index.php``."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_tcbatch.emulator import trouble
from airflow_provider_tcbatch.emulator.cmq.dataplane import HANDLERS, WAITING
from airflow_provider_tcbatch.emulator.errors import CmqError
from airflow_provider_tcbatch.emulator.faults import Fault
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.http.body import TooLarge, read_body
from airflow_provider_tcbatch.emulator.ids import new_request_id
from airflow_provider_tcbatch.emulator.schema import printable
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.signing import cmq
from airflow_provider_tcbatch.emulator.signing.access import TokenProblem

log = logging.getLogger("tcbatch_emulator.cmq")

# A message of one megabyte may be three times as long when URL-encoded.
MAX_BODY = 3 * 1024 * 1024 + 64 * 1024


async def answer(services: Services, request: Request) -> Response:
    """Answer one call, or do with it what a fault says."""
    host = services.host
    params: dict[str, str] = {}
    problem: CmqError | None = None
    try:
        params = await _params(request)
    except CmqError as error:
        problem = error
    action = params.get("Action", "")
    action = action if action in HANDLERS else "(unknown)"

    def refuse(fault: Fault) -> Response:
        error = CmqError(4480, 10460, "exceed interface frequency limit, please slow down")
        if fault.kind != "throttle" or fault.code:
            code = int(fault.code) if fault.code and fault.code.isdecimal() else 6000
            error = CmqError(code, 10050, "server internal error")
        return _finish(host, action, new_request_id(), error, {})

    def note(code: str) -> None:
        host.calls.add(host.server_time(), "cmq", action, (), code, "")

    target = params.get("queueName") or params.get("topicName") or ""
    return await trouble.answer(
        host.faults.request("cmq", action, target),
        lambda skew: _answer(services, request, action, params, problem, skew),
        refuse,
        note,
    )


def _finish(host: Host, action: str, request_id: str, error: CmqError | None, members: dict[str, Any]) -> Response:
    code, message = (error.code, error.message) if error else (0, "")
    host.calls.add(host.server_time(), "cmq", action, (), str(code) if code else "OK", request_id)
    text = json.dumps({"code": code, "message": message, "requestId": request_id, **members})
    return Response(text.encode(), headers={"content-type": "application/json"})


async def _answer(
    services: Services, request: Request, action: str, params: dict[str, str], problem: CmqError | None, skew: float
) -> Response:
    """Answer one call; refusals are HTTP 200 with a code, as the service does it."""
    host = services.host
    request_id = new_request_id()
    members: dict[str, Any] = {}
    failure: CmqError | None = None
    try:
        if problem is not None:
            raise problem
        cmq.verify(
            request.method,
            request.headers.get("host", ""),
            params,
            keys=host.access.keys,
            now=host.server_time() + skew,
            window=host.settings.cmq_timestamp_window_seconds,
            at_values=host.settings.cmq_sign_at_values,
        )
        _check_token(host, params)
        handler = HANDLERS.get(action)
        if handler is None:
            name = printable(params.get("Action", ""), 60)
            raise CmqError(4000, 10430, f"action name {name} is not existed")
        call = handler(services.cmq, params)
        members = await (_unless_gone(request, call) if action in WAITING else call)
    except CmqError as error:
        failure, members = error, dict(error.extra)
    except Exception:
        log.exception("%s failed", action)
        failure = CmqError(6000, 10050, "server internal error")
    return _finish(host, action, request_id, failure, members)


def _check_token(host: Host, params: dict[str, str]) -> None:
    try:
        host.access.check_token(params["SecretId"], params.get("Token"), host.server_time())
    except TokenProblem as problem:
        raise CmqError(4100, 10030, f"authentication failed: {problem}") from None


async def _params(request: Request) -> dict[str, str]:
    if request.method == "POST":
        try:
            body = await read_body(request, MAX_BODY)
        except TooLarge:
            raise CmqError(4000, 10420, "cannot parse the request, or it is larger than 1MB") from None
        text = body.decode("utf-8", "replace")
    else:
        text = request.scope["query_string"].decode("latin-1")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=200, errors="strict"))
    except ValueError:
        raise CmqError(4000, 10420, "cannot parse the request") from None


async def _unless_gone(request: Request, call: Any) -> Any:
    """Stop waiting for a message when the client has gone, or it would be handed to nobody."""
    receiving = asyncio.ensure_future(call)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait([receiving, gone], return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            raise CmqError(7000, 10200, "no message")
        return await receiving
    finally:
        for future in (receiving, gone):
            if not future.done():
                future.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
