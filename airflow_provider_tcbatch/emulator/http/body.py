"""Reading a request's body with an upper limit."""

from __future__ import annotations

from starlette.requests import Request


class TooLarge(Exception):
    """The body is larger than allowed."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    What is too much is read to its end and thrown away: a client that is still sending would take an early answer for
    a broken connection. Beyond a hundred times the limit the connection is not worth saving.

    :raises TooLarge: when there is more than ``limit`` bytes.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > 100 * limit:
            break
    if size > limit:
        raise TooLarge
    return b"".join(chunks)
