"""The COS port: COS requests in, S3 requests to moto, COS answers out."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from starlette.types import Message, Receive, Scope, Send

from airflow_provider_tcbatch.emulator import trouble
from airflow_provider_tcbatch.emulator.cos.store import ObjectStore
from airflow_provider_tcbatch.emulator.errors import CosError
from airflow_provider_tcbatch.emulator.faults import Fault, Faults
from airflow_provider_tcbatch.emulator.ids import new_request_id
from airflow_provider_tcbatch.emulator.signing import cos
from airflow_provider_tcbatch.emulator.signing.access import Access, TokenProblem

log = logging.getLogger("tcbatch_emulator.cos")

Headers = list[tuple[bytes, bytes]]

_VIRTUAL_HOST = re.compile(
    r"^(?P<bucket>[a-z0-9][a-z0-9-]*)\."
    r"(?:cos(?:-internal)?\.[a-z0-9-]+\.(?:myqcloud\.com|tencentcos\.cn)|cos[a-z]{2,6}\.myqcloud\.com"
    r"|127\.0\.0\.1|localhost)$"
)
_SERVICE_HOST = re.compile(
    r"^(?:service\.cos\.myqcloud\.com|cos(?:-internal)?\.[a-z0-9-]+\.(?:myqcloud\.com|tencentcos\.cn))$"
)
_PATH_HOSTS = ("127.0.0.1", "localhost")


_TOKEN = "x-cos-security-token"
_NOT_FOR_MOTO = cos.SIGN_PARAMS | {"sign", _TOKEN}


class _HungUp(Exception):
    """The connection was closed instead of answering."""


async def _before(fault: Fault | None, scope: Scope, receive: Receive) -> float:
    """What a fault does before a request is looked at.

    :return: how many seconds the clock is off.
    """
    if fault is None:
        return 0.0
    if fault.kind == "drop":
        await trouble.hang_up(scope, receive)
        raise _HungUp
    if fault.kind in ("throttle", "error", "http_error"):
        raise _as_cos_error(fault)
    if fault.kind == "slow":
        await asyncio.sleep(fault.seconds)
    return fault.seconds if fault.kind == "clock_skew" else 0.0


def _as_cos_error(fault: Fault) -> CosError:
    if fault.kind == "throttle":
        return CosError(503, fault.code or "SlowDown", "Please reduce your request rate.")
    return CosError(fault.status, fault.code or "InternalError", "We encountered an internal error. Please try again.")


def _bucket(scope: Scope) -> str:
    """The bucket that an unchecked request says it is about."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    try:
        return locate(host, scope["raw_path"].decode("latin-1")).path.lstrip("/").partition("/")[0].partition("?")[0]
    except CosError:
        return ""


@dataclass(frozen=True)
class Target:
    """What a request is about, whichever form its host has.

    :ivar path: path-style path with the bucket, still percent-encoded.
    :ivar signed_paths: decoded paths that the client may have signed.
    """

    path: str
    signed_paths: tuple[str, ...]


def locate(host: str, raw_path: str) -> Target:
    """Find bucket and key from host and path.

    :raises CosError: for a host that is no COS host.
    """
    name = host.rsplit(":", 1)[0].lower()
    decoded = unquote(raw_path)
    match = _VIRTUAL_HOST.match(name)
    if match is not None:
        return Target(f"/{match['bucket']}{raw_path}", (decoded,))
    if name in _PATH_HOSTS or _SERVICE_HOST.match(name):
        # A client given 127.0.0.1:port/bucket as its domain signs the key alone.
        _, _, rest = raw_path.lstrip("/").partition("/")
        return Target(raw_path, (decoded, "/" + unquote(rest)))
    raise CosError(400, "InvalidURI", f"{host} is not a COS host")


class CosApp:
    """ASGI application in front of moto.

    :param store: where moto's application comes from.
    :param access: accepted keys.
    :param faults: what may happen to a request.
    :param now: the time by which signatures are judged, epoch seconds.
    """

    def __init__(self, store: ObjectStore, access: Access, faults: Faults, now: Callable[[], float]) -> None:
        self._store = store
        self._access = access
        self._faults = faults
        self._now = now
        self._s3: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        trouble.expose_transport(scope, send)
        fault = self._faults.request("cos", scope["method"], _bucket(scope))
        answer = _Answer(send, scope["method"], unquote(scope["raw_path"].decode("latin-1")), fault)
        try:
            skew = await _before(fault, scope, receive)
            translated = self._translate(scope, skew)
            await (await self._moto())(translated, receive, self._keeping(translated, answer))
            await answer.finish()
            if answer.lost:
                await trouble.hang_up(scope, receive)
        except _HungUp:
            pass
        except CosError as error:
            await _drain(receive)
            await answer.fail(error.status, error.code, error.message)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            await answer.fail(500, "InternalError", "We encountered an internal error, see the emulator's log.")

    def _keeping(self, scope: Scope, answer: _Answer) -> Send:
        """Let no answer go before what was done is written down."""
        if self._store.folder is None or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return answer
        bucket, _, key = scope["path"].lstrip("/").partition("/")

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.to_thread(self._store.keep, bucket, key)
            await answer(message)

        return keeping

    async def _moto(self) -> Any:
        if self._s3 is None:
            wsgi = await asyncio.to_thread(self._store.wsgi)
            from a2wsgi import WSGIMiddleware

            self._s3 = WSGIMiddleware(wsgi, workers=8)
        return self._s3

    def _translate(self, scope: Scope, skew: float) -> Scope:
        """Check the signature and turn a COS request into an S3 one."""
        headers: Headers = scope["headers"]
        values = {name.decode("latin-1").lower(): _text(value) for name, value in headers}
        raw_path = scope["raw_path"].decode("latin-1").partition("?")[0]
        query = scope["query_string"].decode("latin-1")
        target = locate(values.get("host", ""), raw_path)
        params = parse_qsl(query, keep_blank_values=True)
        if "\0" in unquote(target.path):
            raise CosError(400, "InvalidURI", "The key holds a NUL.")
        secret_id = self._check(scope["method"], target, params, values, skew)
        kept = [(name, value) for name, value in params if name not in _NOT_FOR_MOTO]
        return {
            **scope,
            "path": unquote(target.path),
            "raw_path": target.path.encode("latin-1"),
            "query_string": _query(kept).encode(),
            "headers": _to_s3(headers, secret_id),
        }

    def _check(
        self, method: str, target: Target, params: Iterable[tuple[str, str]], values: dict[str, str], skew: float
    ) -> str:
        pairs = list(params)
        by_name = dict(pairs)
        text = values.get("authorization") or by_name.get("sign", "")
        if not text and "q-signature" in by_name:
            text = "&".join(f"{name}={value}" for name, value in pairs if name in cos.SIGN_PARAMS)
        if not text:
            raise CosError(403, "AccessDenied", "Access Denied.")
        authorization = cos.parse(text)
        host = values.get("host", "")
        cos.verify(
            authorization,
            keys=self._access.keys,
            method=method,
            paths=target.signed_paths,
            params=pairs,
            headers=values,
            hosts=(host, host.rsplit(":", 1)[0]),
            now=self._now() + skew,
        )
        token = values.get(_TOKEN) or by_name.get(_TOKEN)
        try:
            self._access.check_token(authorization.secret_id, token, self._now())
        except TokenProblem as problem:
            raise CosError(403, "AccessDenied", f"The security token is not valid: {problem}.") from None
        return authorization.secret_id


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    # moto tells "?uploads" from "?uploads=" no more than COS does, so every name may carry an equals sign.
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def _to_s3(headers: Headers, secret_id: str) -> Headers:
    result: Headers = [(b"host", b"localhost")]
    for name, value in headers:
        lower = name.lower()
        if lower in (b"host", b"authorization", _TOKEN.encode()):
            continue
        if lower == b"x-cos-copy-source":
            result.append((b"x-amz-copy-source", _copy_source(value.decode("latin-1")).encode("latin-1")))
        elif lower.startswith(b"x-cos-"):
            result.append((b"x-amz-" + lower[6:], value))
        else:
            result.append((lower, value))
    # moto does not check signatures but reads the caller's key from this header.
    scope = f"Credential={secret_id}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    result.append((b"authorization", f"AWS4-HMAC-SHA256 {scope}".encode()))
    return result


def _copy_source(source: str) -> str:
    """``bucket.cos.region.myqcloud.com/key?versionId=…`` as ``/bucket/key?versionId=…``."""
    host, _, rest = source.removeprefix("http://").removeprefix("https://").lstrip("/").partition("/")
    match = _VIRTUAL_HOST.match(host.lower())
    return f"/{match['bucket']}/{rest}" if match else f"/{host}/{rest}"


async def _drain(receive: Receive) -> None:
    """Read what the client still sends; one that cannot finish sending does not read its answer."""
    for _ in range(100_000):
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


class _Answer:
    """Sends moto's answer on as COS would have sent it; keeps error bodies back to rewrite them.

    :param fault: what happens to an answer after the request was carried out.
    """

    def __init__(self, send: Send, method: str, resource: str, fault: Fault | None) -> None:
        self._send = send
        self._fault = fault
        #: Whether the connection has to be closed instead of answering.
        self.lost = False
        self._method = method
        self._resource = resource
        self._request_id = new_request_id().replace("-", "")
        self._error_status: int | None = None
        self._error_body = bytearray()
        self._started = False

    async def __call__(self, message: Message) -> None:
        if self.lost:
            return
        if message["type"] == "http.response.start":
            kind = self._fault.kind if self._fault else None
            if self._fault is not None and kind == "slow_answer":
                await asyncio.sleep(self._fault.seconds)
            elif kind == "lose_answer":
                self.lost = True
                return
            if message["status"] >= 400 or kind == "error_after":
                self._error_status = message["status"] if message["status"] >= 400 else 500
                return
            self._started = True
            headers = [
                (_to_cos(name), value) for name, value in message.get("headers", []) if name.lower() not in _NOT_COS
            ]
            if self._fault is not None and kind == "content_type":
                headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
                headers.append((b"Content-Type", self._fault.content_type.encode()))
            await self._send({**message, "headers": headers + self._own_headers()})
        elif self._error_status is not None:
            self._error_body += message.get("body", b"")
        else:
            await self._send(message)

    def _own_headers(self) -> Headers:
        return [
            (b"Date", formatdate(usegmt=True).encode()),
            (b"Server", b"tencent-cos"),
            (b"x-cos-request-id", self._request_id.encode()),
        ]

    async def finish(self) -> None:
        """Send the error that was kept back, if there was one."""
        if self._error_status is None:
            return
        code, text = _read_error(bytes(self._error_body))
        if self._fault is not None and self._fault.kind == "error_after":
            code = self._fault.code or "InternalError"
        await self.fail(self._error_status, code or _DEFAULT_CODES.get(self._error_status, "InternalError"), text)

    async def fail(self, status: int, code: str, text: str) -> None:
        """Answer with COS error XML."""
        if self._started:
            return
        self._started = True
        body = (
            "<?xml version='1.0' encoding='utf-8' ?>\n<Error>"
            f"<Code>{escape(code)}</Code><Message>{escape(text)}</Message><Resource>{escape(_xml_safe(self._resource))}</Resource>"
            f"<RequestId>{self._request_id}</RequestId><TraceId>{self._request_id}</TraceId></Error>"
        ).encode()
        headers: Headers = [(b"Content-Type", b"application/xml"), (b"Content-Length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers + self._own_headers()})
        await self._send({"type": "http.response.body", "body": b"" if self._method == "HEAD" else body})


_DEFAULT_CODES = {400: "BadRequest", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}


def _xml_safe(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


#: Headers of moto and its web framework that COS does not send.
_NOT_COS = frozenset({b"x-amzn-requestid", b"x-amz-request-id", b"access-control-allow-origin", b"date", b"server"})


def _to_cos(name: bytes) -> bytes:
    """A header's name as COS writes it: its SDK hands them to programs in a dict that minds upper and lower case."""
    lower = name.lower()
    if lower.startswith(b"x-amz-"):
        return b"x-cos-" + lower[6:]
    return b"ETag" if lower == b"etag" else lower.title()


def _read_error(body: bytes) -> tuple[str, str]:
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", body.decode("utf-8", "replace")[:500]
    find: Callable[[str], Any] = lambda tag: root.findtext(f".//{tag}") or ""  # noqa: E731
    return find("Code"), find("Message")
