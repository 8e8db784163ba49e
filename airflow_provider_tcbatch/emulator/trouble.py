"""What a fault does to one HTTP request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from airflow_provider_tcbatch.emulator.faults import Fault

#: Key of the request's scope under which the server leaves the connection.
TRANSPORT = "tcbatch.transport"


class HangUp(Response):
    """Closes the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close it, and wait until the server knows: it would answer 500 for an application that says nothing."""
        await hang_up(scope, receive)


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close a request's connection without an answer."""
    scope[TRANSPORT].abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def expose_transport(scope: Scope, send: Send) -> None:
    """Leave the connection where :func:`hang_up` finds it; ASGI has no way to break one off, so this is uvicorn's."""
    scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)


async def answer(
    fault: Fault | None,
    work: Callable[[float], Awaitable[Response]],
    refuse: Callable[[Fault], Response],
    note: Callable[[str], None],
) -> Response:
    """Answer a request, or do with it what a fault says.

    :param work: does what the request asks for; takes the number of seconds that the clock is off.
    :param refuse: an error in the shape of the service.
    :param note: takes down a request that nobody else takes down.
    """
    if fault is None:
        return await work(0.0)
    if fault.kind in ("throttle", "error"):
        return refuse(fault)
    if fault.kind == "drop":
        note("fault.drop")
        return HangUp()
    if fault.kind == "http_error":
        note("fault.http_error")
        return html(fault)
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    response = await work(fault.seconds if fault.kind == "clock_skew" else 0.0)
    if fault.kind == "slow_answer":
        await asyncio.sleep(fault.seconds)
    elif fault.kind == "lose_answer":
        return HangUp()
    elif fault.kind == "error_after":
        return refuse(fault)
    elif fault.kind == "content_type":
        return _relabelled(fault, response)
    return response


def html(fault: Fault) -> Response:
    """The page of a gateway that could not reach the service."""
    title = f"{fault.status} {HTTPStatus(fault.status).phrase}" if fault.status in _STATUSES else str(fault.status)
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    text = page if fault.body is None else fault.body
    return Response(text.encode(), fault.status, {"content-type": "text/html"})


_STATUSES = frozenset(item.value for item in HTTPStatus)


def _relabelled(fault: Fault, response: Response) -> Response:
    if fault.content_type.startswith("text/html") and fault.body is None:
        page = html(fault.model_copy(update={"status": 502}))
        page.status_code = response.status_code
        return page
    body = bytes(response.body) if fault.body is None else fault.body.encode()
    return Response(body, response.status_code, {"content-type": fault.content_type})
