"""The CMQ data plane: GET and POST ``/v2/index.php``."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from airflow_provider_tcbatch.emulator.cmq.dataplane import HANDLERS, WAITING
from airflow_provider_tcbatch.emulator.core import Core
from airflow_provider_tcbatch.emulator.errors import CmqError
from airflow_provider_tcbatch.emulator.http.body import TooLarge, read_body
from airflow_provider_tcbatch.emulator.ids import new_request_id
from airflow_provider_tcbatch.emulator.schema import printable
from airflow_provider_tcbatch.emulator.signing import cmq

log = logging.getLogger("tcbatch_emulator.cmq")

# A message of one megabyte may be three times as long when URL-encoded.
MAX_BODY = 3 * 1024 * 1024 + 64 * 1024


async def answer(core: Core, request: Request) -> Response:
    """Answer one call; refusals are HTTP 200 with a code, as the service does it."""
    request_id = new_request_id()
    params: dict[str, str] = {}
    members: dict[str, Any]
    try:
        params = await _params(request)
        cmq.verify(
            request.method,
            request.headers.get("host", ""),
            params,
            keys=core.identity.keys,
            now=core.server_time(),
            window=core.settings.timestamp_window_seconds,
        )
        action = params.get("Action", "")
        handler = HANDLERS.get(action)
        if handler is None:
            raise CmqError(4000, 10430, f"action name {printable(action, 60)} is not existed")
        call = handler(core, params)
        members = await (_unless_gone(request, call) if action in WAITING else call)
        code, message = 0, ""
    except CmqError as error:
        code, message, members = error.code, error.message, dict(error.extra)
    except Exception:
        log.exception("%s failed", params.get("Action"))
        code, message, members = 6000, "(10050)server internal error", {}
    name = params.get("Action") or "-"
    name = name if name in HANDLERS else "(unknown)"
    core.calls.add(core.server_time(), "cmq", name, (), str(code) if code else "OK", request_id)
    text = json.dumps({"code": code, "message": message, "requestId": request_id, **members})
    return Response(text.encode(), headers={"content-type": "application/json"})


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
