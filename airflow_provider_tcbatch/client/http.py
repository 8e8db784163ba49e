"""The connections that clients send with."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

__all__ = ["async_http", "trust"]


def trust(ca_file: str | None) -> ssl.SSLContext | bool:
    """What httpx verifies servers with."""
    return True if ca_file is None else ssl.create_default_context(cafile=ca_file)


def async_http(proxy: str | None, ca_file: str | None, **options: Any) -> httpx.AsyncClient:
    """Make a client for one event loop. It reads the CA bundle, which takes long: not on the loop.

    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param options: further arguments of ``httpx.AsyncClient``.
    """
    import httpx

    async def release(response: httpx.Response) -> None:
        # A response and the stream that it is read from refer to each other. As long as they do, each answer stays in
        # memory until the garbage collector passes: in a process with ten thousands of waits that is seldom.
        await response.aread()
        response.stream = httpx.ByteStream(response.content)

    return httpx.AsyncClient(proxy=proxy, verify=trust(ca_file), event_hooks={"response": [release]}, **options)
