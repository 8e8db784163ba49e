"""The connections that clients send with."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

__all__ = ["async_http", "blocking_http", "trust"]


def trust(ca_file: str | None) -> ssl.SSLContext | bool:
    """What httpx verifies servers with."""
    return True if ca_file is None else ssl.create_default_context(cafile=ca_file)


def blocking_http(proxy: str | None, ca_file: str | None, *, url: str, timeout: float) -> httpx.Client:
    """Make a client for any thread, that keeps its connections.

    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param url: where it sends to. Without TLS it trusts nobody: to read the authorities takes as long as ten requests.
    :param timeout: seconds for a request.
    """
    import httpx

    secure = urlsplit(url).scheme != "http"
    verify = trust(ca_file) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(proxy=_proxy(proxy, ca_file), verify=verify, timeout=timeout)


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

    return httpx.AsyncClient(
        proxy=_proxy(proxy, ca_file), verify=trust(ca_file), event_hooks={"response": [release]}, **options
    )


def _proxy(proxy: str | None, ca_file: str | None) -> httpx.Proxy | None:
    """A proxy; one that is itself spoken to over TLS is verified as servers are, for which httpx needs to be told."""
    if proxy is None:
        return None
    import httpx

    secure = ca_file is not None and urlsplit(proxy).scheme == "https"
    return httpx.Proxy(proxy, ssl_context=ssl.create_default_context(cafile=ca_file) if secure else None)
