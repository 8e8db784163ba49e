"""Tencent's COS SDK, configured from a connection. The SDK is imported at the first call."""

from __future__ import annotations

import functools
import io
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_tcbatch.client.auth.keys import send_signed
from airflow_provider_tcbatch.client.endpoints import CosSettings
from airflow_provider_tcbatch.client.errors import (
    NOT_TRUSTED,
    TOO_MUCH,
    api_error,
    network_code,
    refused_hint,
    refuses_keys,
)
from airflow_provider_tcbatch.client.http import check_ca_file
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    InfrastructureError,
    KeysRefused,
    NotFound,
    PermissionDenied,
)
from airflow_provider_tcbatch.models.bounds import shortened

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.auth.sources import CredentialSource

__all__ = ["CosClient", "CosSettings"]

#: Bytes that :meth:`CosClient.get` reads unless it is told otherwise.
_LARGEST = 256 * 1024 * 1024

#: An object may take so many seconds, and one more for each so many bytes. requests' own timeout is one for each piece
#: that comes.
_SECONDS = 30.0
_SLOWEST = 64 * 1024

#: Bytes that are read at a time.
_PIECE = 64 * 1024

#: Bytes of an answer other than an object: a list of 1,000 keys, or an error.
_ANSWER = 4 * 1024 * 1024


def _at_most(stream: Any, most: int) -> Iterator[bytes]:
    """What a server sends, until it is so much.

    :param stream: urllib3's response.
    :raises TimeoutError: if it comes too slowly.
    """
    began = time.monotonic()
    size = 0
    # It returns what is there: read would wait until there is as much as was asked for.
    read = getattr(stream, "read1", stream.read)
    while size < most:
        piece = read(min(_PIECE, most - size))
        if not piece:
            return
        size += len(piece)
        if time.monotonic() - began > _SECONDS + size / _SLOWEST:
            raise TimeoutError(f"only {size:,} bytes came within {time.monotonic() - began:.0f} s")
        yield piece


def _release(stream: Any) -> None:
    """Let the connection be used again, unless something is left that would be taken for the next answer."""
    if stream.length_remaining or not stream.isclosed():
        stream.close()
    stream.release_conn()


def _bounded(response: Any, *_: Any, **options: Any) -> None:
    """Hook of a session: take in what the SDK reads as a whole, which is all but objects, as far as its bounds go."""
    if options.get("stream") and response.status_code < HTTPStatus.BAD_REQUEST:
        return
    stream = response.raw
    data = bytearray()
    try:
        for piece in _at_most(stream, _ANSWER + 1):
            data += piece
    finally:
        _release(stream)
    if len(data) > _ANSWER:
        raise ValueError(f"an answer of more than {_ANSWER:,} bytes")
    response.raw = io.BytesIO(data)


@functools.cache
def _session() -> Any:
    """The connections of all clients of this process."""
    import requests

    session = requests.Session()
    session.hooks["response"].append(_bounded)
    # Objects are handed out as they are stored, and the rest must not be larger than it looks.
    session.headers["Accept-Encoding"] = "identity"
    return session


# A forked process must not send through its parent's connections.
os.register_at_fork(after_in_child=_session.cache_clear)


def _http_error() -> type[Exception]:
    from urllib3.exceptions import HTTPError

    return HTTPError


class _CurrentKeys:
    """What the COS SDK reads before each request: keys that expire are replaced in the meantime.

    It reads id, key and token one after the other, and they must belong together.
    """

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._used = threading.local()

    @contextmanager
    def using(self, credential: Any) -> Iterator[None]:
        """Sign what this thread sends meanwhile with these keys."""
        self._used.credential = credential
        try:
            yield
        finally:
            self._used.credential = None

    @property
    def _credential(self) -> Any:
        return getattr(self._used, "credential", None) or self._source.get()

    @property
    def secret_id(self) -> str:
        return str(self._credential.secret_id)

    @property
    def secret_key(self) -> str:
        return str(self._credential.secret_key)

    @property
    def token(self) -> str | None:
        token: str | None = self._credential.token
        return token


@functools.cache
def _config_type() -> Any:
    """The SDK's configuration with the token of the keys' source.

    Version 1.9.44 of the SDK takes id and key from a ``CredentialInstance`` and never sends its token, so that all
    temporary keys are refused.
    """
    from qcloud_cos import CosConfig

    class Config(CosConfig):  # type: ignore[misc,unused-ignore]
        @property
        def _token(self) -> str | None:
            keys = getattr(self, "_credential_inst", None)
            token: str | None = None if keys is None else keys.token
            return token

        @_token.setter
        def _token(self, value: Any) -> None:
            """What the SDK sets is always ``None`` here."""

    return Config


class CosClient:
    """Reads and writes objects.

    :param credentials: keys to sign with.
    :param settings: where COS is.
    """

    def __init__(self, credentials: CredentialSource, settings: CosSettings) -> None:
        self._credentials = credentials
        self._keys = _CurrentKeys(credentials)
        self._settings = settings
        self._sdk: Any = None
        #: Whether it is known that access is denied for a right that is missing, and not for the keys.
        self._lacks_right = False

    @property
    def sdk(self) -> Any:
        """The SDK's own ``qcloud_cos.CosS3Client``, for everything that has no method here."""
        if self._sdk is None:
            self._sdk = self._make()
        return self._sdk

    def _make(self, **instead: Any) -> Any:
        from qcloud_cos import CosS3Client

        logger = logging.getLogger("qcloud_cos")
        if logger.level == logging.NOTSET:
            # The SDK reports every request at INFO and, at ERROR, what it raises anyway, such as an object that is not
            # there yet: that would drown a task's own log.
            logger.setLevel(logging.CRITICAL)
        settings = self._settings
        options = instead or self._options()
        if settings.proxy:
            options["Proxies"] = {"http": settings.proxy, "https": settings.proxy}
        if settings.ca_file:
            check_ca_file(settings.ca_file)  # the SDK takes a missing one for trouble with the network
            options["VerifySSL"] = settings.ca_file
        config = _config_type()(
            Region=settings.region,
            CredentialInstance=self._keys,
            Timeout=30,
            **options,
        )
        return CosS3Client(config, session=_session())

    def _options(self) -> dict[str, Any]:
        """Where COS is, as the SDK wants to hear it."""
        settings = self._settings
        if not settings.endpoint:
            return {}
        parts = urlsplit(settings.endpoint if "://" in settings.endpoint else f"https://{settings.endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"{settings.endpoint!r} is not a COS address: check field cos_endpoint of {settings.connection}"
            )
        if not _is_address(parts.hostname):
            return {"Scheme": parts.scheme, "Endpoint": parts.netloc}
        # Connect there, while the Host header (which is signed) still names bucket and region.
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return {"Scheme": parts.scheme, "IP": parts.hostname, "Port": port, "ServiceDomain": parts.netloc}

    def get(self, bucket: str, key: str, most: int = _LARGEST) -> bytes:
        """Read a whole object.

        :param most: bytes that it may have.
        :raises NotFound: if it, or the bucket, does not exist.
        :raises InfrastructureError: if it is larger, or comes more slowly than 64 KB a second.
        """
        where = f"cos://{bucket}/{key}"
        data = self._read(bucket, key, most + 1)
        if len(data) > most:
            raise InfrastructureError(
                f"get_object {where}: it has more than {most:,} bytes. What to do: read it in parts (range), let more "
                "of it be read (most), or write it to a file (cos.sdk.download_file)",
                code=TOO_MUCH,
                action="get_object",
            )
        return data

    def tail(self, bucket: str, key: str, size: int) -> tuple[bytes, bool]:
        """Read the last ``size`` bytes of an object; the second value says whether that is all of it."""
        total = self._length(bucket, key)
        start = max(0, total - size)
        return self._part(bucket, key, start, total - start) if total else b"", total <= size

    def size(self, bucket: str, key: str) -> int | None:
        """Size of an object in bytes; ``None`` if there is none."""
        try:
            return self._length(bucket, key)
        except NotFound:
            return None

    def range(self, bucket: str, key: str, start: int, size: int) -> bytes | None:
        """Read part of an object.

        :param start: offset of the first byte.
        :param size: how many bytes to read, at least 1.
        :return: less than ``size`` bytes at the object's end, nothing behind it, ``None`` if there is no object.
        """
        try:
            return self._part(bucket, key, start, size)
        except NotFound:
            return None
        except ApiError as error:
            if error.code == "InvalidRange":
                return b""
            raise

    def count_lines(self, bucket: str, key: str, start: int, size: int) -> int:
        """Count the line ends in part of an object, without keeping it.

        :param start: offset of the first byte.
        :param size: how many bytes to read, at least 1.
        """
        span = f"bytes={start}-{start + size - 1}"
        return sum(piece.count(b"\n") for piece in self._pieces(bucket, key, size, start, Range=span))

    def _length(self, bucket: str, key: str) -> int:
        headers = self._run(self.sdk.head_object, Bucket=bucket, Key=key)
        return next((int(value) for name, value in headers.items() if name.lower() == "content-length"), 0)

    def _part(self, bucket: str, key: str, start: int, size: int) -> bytes:
        return self._read(bucket, key, size, start, Range=f"bytes={start}-{start + size - 1}")

    def _read(self, bucket: str, key: str, most: int, start: int = 0, **options: Any) -> bytes:
        """Read no more than so many bytes, whatever the server sends."""
        data = bytearray()
        for piece in self._pieces(bucket, key, most, start, **options):
            data += piece
        return bytes(data)

    def _pieces(self, bucket: str, key: str, most: int, start: int = 0, **options: Any) -> Iterator[bytes]:
        action, where = "get_object", f"cos://{bucket}/{key}"
        answer = self._run(self.sdk.get_object, Bucket=bucket, Key=key, **options)
        stream = answer["Body"].get_raw_stream()
        try:
            if start and stream.status != HTTPStatus.PARTIAL_CONTENT:
                raise InfrastructureError(
                    f"{action} {where}: the server sends the whole object instead of the part from byte {start:,} on. "
                    f"What to do: check field cos_endpoint of {self._settings.connection}",
                    code="RangeIgnored",
                    action=action,
                )
            yield from _at_most(stream, most)
        except (OSError, ValueError, HTTPException, _http_error()) as error:  # the SDK lets urllib3's own through
            raise self._unreachable(action, where, error) from None
        finally:
            _release(stream)

    def put(self, bucket: str, key: str, data: bytes | str) -> None:
        """Write an object."""
        body = data.encode() if isinstance(data, str) else data
        self._run(self.sdk.put_object, Bucket=bucket, Key=key, Body=body)

    def put_file(self, bucket: str, key: str, path: str) -> None:
        """Write an object from a local file, in parts where it is large."""
        self._run(self.sdk.upload_file, Bucket=bucket, Key=key, LocalFilePath=path)

    def exists(self, bucket: str, key: str) -> bool:
        """Whether an object exists."""
        return bool(self._run(self.sdk.object_exists, Bucket=bucket, Key=key))

    def list(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys below a prefix."""
        marker = ""
        while True:
            page = self._run(self.sdk.list_objects, Bucket=bucket, Prefix=prefix, Marker=marker)
            for entry in page.get("Contents") or ():
                yield entry["Key"]
            if page.get("IsTruncated") != "true":
                return
            marker = page["NextMarker"]

    def presigned_url(self, bucket: str, key: str, expires: int = 3600) -> str:
        """Link that reads an object without credentials.

        :param expires: seconds that it is valid.
        """
        signer = self._signer(bucket)

        def sign(**arguments: Any) -> Any:
            token = self._keys.token
            parameters = {"x-cos-security-token": token} if token else {}
            return signer.get_presigned_url(**arguments, Params=parameters)

        signed: str = self._run(sign, **self._get(bucket, key), Expired=expires)
        return signed

    @staticmethod
    def _get(bucket: str, key: str) -> dict[str, str]:
        return {"Bucket": bucket, "Key": key, "Method": "GET"}

    def _signer(self, bucket: str) -> Any:
        """The SDK's client that writes links: where COS is an address, the bucket must stand in the path."""
        if "IP" not in self._options():
            return self.sdk
        parts = urlsplit(self._settings.endpoint or "")
        return self._make(Domain=f"{parts.netloc}/{bucket}", Scheme=parts.scheme)

    def ensure_bucket(self, bucket: str) -> None:
        """Make a bucket unless it exists."""
        if not self._run(self.sdk.bucket_exists, Bucket=bucket):
            self._run(self.sdk.create_bucket, Bucket=bucket)

    def _run(self, method: Any, **arguments: Any) -> Any:
        try:
            answer = send_signed(
                self._credentials, lambda credential: self._send(credential, method, arguments), self._may_be_keys
            )
        except PermissionDenied:
            self._lacks_right = True  # new keys are denied it, too
            raise
        self._lacks_right = False
        return answer

    def _may_be_keys(self, error: ApiError) -> bool:
        """Whether other keys may help: of a token that has expired COS says AccessDenied, as of a missing right."""
        denied = isinstance(error, PermissionDenied) and self._credentials.renews() and not self._lacks_right
        return denied or refuses_keys(error.code)

    def _send(self, credential: Any, method: Any, arguments: Mapping[str, Any]) -> Any:
        from qcloud_cos import CosClientError, CosServiceError

        where = f"cos://{arguments['Bucket']}/{arguments.get('Key', '')}"
        try:
            with self._keys.using(credential):
                return method(**arguments)
        except CosServiceError as error:
            raise self._translate(error, method.__name__, where) from None
        except CosClientError as error:
            raise self._unreachable(method.__name__, where, error) from None

    def _unreachable(self, action: str, where: str, error: Exception) -> ApiError:
        if (code := network_code(error)) == NOT_TRUSTED:
            text = f"{where}: {error}"
            connection = self._settings.connection
            return api_error(code, text, action=action, connection=connection, field="cos_endpoint")
        return InfrastructureError(
            f"{action} {where}: COS can't be reached ({type(error).__name__}: {error}). What to do: check fields "
            f"cos_endpoint and region of {self._settings.connection}",
            code="CosClientError",
            action=action,
            retryable=True,
        )

    def _translate(self, error: Any, action: str, where: str) -> ApiError:
        code, status = str(error.get_error_code()), error.get_status_code()
        text = f"{action} {where}: {code}: {shortened(str(error.get_error_msg()))}"
        kind: type[ApiError] = ApiError
        if status == 404:
            kind = NotFound
            text += f". What to do: check the bucket, the key and field region of {self._settings.connection}"
        elif status in (401, 403) and refuses_keys(code) and self._credentials.renews():
            kind = KeysRefused
            text += f". What to do: {refused_hint(self._credentials.description)}"
        elif status in (401, 403):
            kind = PermissionDenied
            text += f". What to do: check the keys of {self._settings.connection} and their COS permissions"
        elif status >= 500:
            kind = InfrastructureError
        request_id = error.get_request_id() if hasattr(error, "get_request_id") else None
        retryable = status >= 500 or kind is KeysRefused
        return kind(text, code=code, action=action, request_id=request_id, retryable=retryable)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
