"""The connections that clients send with, and how much of an answer they take."""

from __future__ import annotations

import math
import ssl
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.models.bounds import ANSWER, LARGE_ANSWER, Bounds, TooMuch

if TYPE_CHECKING:
    import httpx

__all__ = ["ALTOGETHER", "BOUNDS", "Body", "async_http", "blocking_http", "check_ca_file", "maybe_sent", "trust"]

#: An answer may take so many times as long altogether as a piece of it may.
ALTOGETHER = 2.0

#: Extension of a request that says how much its answer may hold, if not as much as the client's others.
BOUNDS = "tcbatch_bounds"

#: Encodings that servers are told of: one that can't be taken apart step by step is none of them.
_ENCODINGS = "gzip, deflate"


def maybe_sent(error: Exception) -> bool:
    """Whether a request that failed may have reached its server: not if there was no connection to send it by.

    :param error: an error of httpx or of the system.
    """
    import httpx

    return not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


class Body:
    """Takes an answer in, as it comes and no further than its bounds.

    :param encoding: its Content-Encoding.
    :param bounds: how much it may hold.
    """

    def __init__(self, encoding: str, bounds: Bounds) -> None:
        self._bounds = bounds
        self._chunks: list[bytes] = []
        self._size = 0
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "deflate"):
            raise TooMuch(f"it is encoded as {encoding!r}, which was not asked for")
        # Both forms: with zlib's header and with gzip's.
        self._unpacker = zlib.decompressobj(wbits=47) if encoding in ("gzip", "deflate") else None

    def feed(self, chunk: bytes) -> None:
        """Take in what has come.

        :raises TooMuch: if that is more than it may hold.
        :raises ValueError: if it can't be unpacked.
        """
        if self._unpacker is not None:
            try:
                # A few bytes may stand for many: no more of them are made than may be.
                chunk = self._unpacker.decompress(chunk, self._bounds.size - self._size + 1)
            except zlib.error as error:
                raise ValueError(f"it can't be unpacked: {error}") from None
        self._size += len(chunk)
        self._bounds.check_size(self._size)
        self._chunks.append(chunk)

    def end(self) -> bytes:
        """All of it, which may be parsed as JSON.

        :raises TooMuch: if it may not.
        """
        data = b"".join(self._chunks)
        self._bounds.check(data)
        return data


def trust(ca_file: str | None) -> ssl.SSLContext | bool:
    """What httpx verifies servers with."""
    return True if ca_file is None else check_ca_file(ca_file)


def check_ca_file(ca_file: str) -> ssl.SSLContext:
    """Read the certificates of the authorities to trust.

    :param ca_file: path of the PEM file.
    :raises ConfigurationError: if there are none to be had from it.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        problem = f"no certificate in PEM form ({error})" if isinstance(error, ssl.SSLError) else str(error)
        raise ConfigurationError(
            f"The authorities to trust can't be read: {problem}. What to do: check field ca_file ({ca_file!r}) of the "
            "connection; the file has to be there on each machine that runs workers or triggerers"
        ) from None


def blocking_http(
    proxy: str | None, ca_file: str | None, bounds: Bounds = LARGE_ANSWER, *, url: str, timeout: float
) -> httpx.Client:
    """Make a client for any thread, that keeps its connections; see :func:`async_http`.

    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param bounds: how much an answer may hold.
    :param url: where it sends to. Without TLS it trusts nobody: to read the authorities takes as long as ten requests.
    :param timeout: seconds for each piece of an answer, which may take twice as long altogether, its headers included.
    """
    import httpx

    def take(response: httpx.Response) -> None:
        body = _body(response, bounds)
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)
        for chunk in stream:
            body.feed(chunk)
        stream.close()
        response.stream = httpx.ByteStream(body.end())
        response.read()

    secure = urlsplit(url).scheme != "http"
    return httpx.Client(
        proxy=_proxy(proxy, ca_file),
        verify=trust(ca_file) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        headers={"Accept-Encoding": _ENCODINGS},
        event_hooks={"request": [_hurry], "response": [take]},
        timeout=timeout,
    )


def async_http(proxy: str | None, ca_file: str | None, bounds: Bounds = ANSWER, **options: Any) -> httpx.AsyncClient:
    """Make a client for one event loop. It reads the CA bundle, which takes long: not on the loop.

    What a request raises for an answer that is over its bounds is :class:`~.models.bounds.TooMuch`.

    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param bounds: how much an answer may hold, unless its request says otherwise.
    :param options: further arguments of ``httpx.AsyncClient``.
    """
    import httpx

    async def take(response: httpx.Response) -> None:
        body = _body(response, bounds)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        async for chunk in stream:
            body.feed(chunk)
        await stream.aclose()
        # A response and the stream that it is read from refer to each other. As long as they do, each answer stays in
        # memory until the garbage collector passes: in a process with ten thousands of waits that is seldom.
        response.stream = httpx.ByteStream(body.end())
        await response.aread()

    return httpx.AsyncClient(
        proxy=_proxy(proxy, ca_file),
        verify=trust(ca_file),
        headers={"Accept-Encoding": _ENCODINGS},
        event_hooks={"response": [take]},
        **options,
    )


def _hurry(request: httpx.Request) -> None:
    """Hook of a client: bound the time that the answer takes altogether, over whichever connection it comes."""
    request.extensions.setdefault("trace", _bound)


def _bound(event: str, info: dict[str, Any]) -> None:
    """Trace of a request: what a new connection reads must have come some time after the last byte was sent.

    The timeout of httpx is one for each piece that comes, and a line of the headers may come byte by byte.
    """
    if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
        return
    import httpcore

    connection = info["return_value"]
    read_on, write_on = connection.read, connection.write
    seconds, until = math.inf, math.inf

    def write(buffer: bytes, timeout: float | None = None) -> None:
        nonlocal seconds, until
        write_on(buffer, timeout)
        seconds = math.inf if timeout is None else ALTOGETHER * timeout
        until = time.monotonic() + seconds

    def read(max_bytes: int, timeout: float | None = None) -> bytes:
        left = until - time.monotonic()
        try:
            if left > 0:
                data: bytes = read_on(max_bytes, timeout if timeout is None else min(timeout, left))
                return data
        except httpcore.ReadTimeout:
            if time.monotonic() < until:
                raise
        raise httpcore.ReadTimeout(f"not all of the answer came within {seconds:g} s")

    connection.read, connection.write = read, write


def _body(response: httpx.Response, bounds: Bounds) -> Body:
    # What is read from now on is unpacked.
    encoding = response.headers.pop("Content-Encoding", "")
    return Body(encoding, response.request.extensions.get(BOUNDS, bounds))


def _proxy(proxy: str | None, ca_file: str | None) -> httpx.Proxy | None:
    """A proxy; one that is itself spoken to over TLS is verified as servers are, for which httpx needs to be told."""
    if proxy is None:
        return None
    import httpx

    secure = ca_file is not None and urlsplit(proxy).scheme == "https"
    return httpx.Proxy(proxy, ssl_context=check_ca_file(ca_file) if secure and ca_file else None)
