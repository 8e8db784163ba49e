"""CMQ's data plane: receive, delete and publish messages.

API 3.0 has no action for receiving, so this speaks CMQ's own v2 HTTP protocol: a form-encoded POST to
``/v2/index.php``, signed with HMAC-SHA256 over the sorted raw parameters. Queue and topic set-up goes through
API 3.0 (``models/cmq.py``).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_tcbatch.client.auth.keys import asend_signed, send_signed
from airflow_provider_tcbatch.client.endpoints import default_endpoint
from airflow_provider_tcbatch.client.errors import NOT_TRUSTED, TOO_MUCH, api_error, network_code, refused_hint
from airflow_provider_tcbatch.client.http import ALTOGETHER, BOUNDS, async_http, blocking_http, maybe_sent
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    InfrastructureError,
    InvalidRequest,
    KeysRefused,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Throttled,
)
from airflow_provider_tcbatch.models.bounds import ONE_MESSAGE, PORTION, Bounds, TooMuch, shortened

if TYPE_CHECKING:
    import httpx

    from airflow_provider_tcbatch.client.auth.sources import CredentialSource

__all__ = ["BATCH_SIZE", "CmqClient", "Message", "default_endpoint", "sign"]

log = logging.getLogger(__name__)

#: Most messages that one call may receive or delete.
BATCH_SIZE = 16

#: Return code of a poll that found nothing; not an error.
_NO_MESSAGE = 7000
#: Return codes of a delete whose handle has expired: the message will come again.
_HANDLE_EXPIRED = (4430, 6010, 6020)

#: Longest id of a message that is kept, in characters; documented ones have 33.
_LONGEST_ID = 256

#: Seconds that a piece of an answer may take to come, besides those that the service is asked to wait for. All of it
#: may take twice as long.
_TIMEOUT = 10.0

_PATH = "/v2/index.php"

_CLASSES: dict[int, tuple[type[ApiError], bool]] = {
    4000: (InvalidRequest, False),
    4100: (PermissionDenied, False),
    4420: (Throttled, True),
    4440: (NotFound, False),
    4450: (QuotaExceeded, False),
    4480: (Throttled, True),
    6000: (InfrastructureError, True),
    6040: (InfrastructureError, True),
    6070: (InfrastructureError, True),
}


@dataclass(frozen=True)
class Message:
    """A received message.

    :param body: text as it was sent.
    :param handle: what deletes it, until its visibility timeout ends.
    :param message_id: id of the message.
    :param enqueued_at: unix seconds when it reached the queue; 0 if the service does not say.
    :param dequeue_count: how often it has been received so far, by anybody; 0 if the service does not say.
    """

    body: str
    handle: str
    message_id: str
    enqueued_at: float
    dequeue_count: int = 0


def sign(method: str, host: str, params: Mapping[str, Any], secret_key: str) -> str:
    """Signature of a request (HMAC-SHA256, base64).

    Keys are sorted as they are and only then spelled with dots; values enter raw, not URL-encoded.

    :param method: ``GET`` or ``POST``.
    :param host: host exactly as in the URL, with its port if it has one.
    :param params: all parameters but ``Signature``.
    """
    query = "&".join(f"{key.replace('_', '.')}={params[key]}" for key in sorted(params))
    source = f"{method}{host}{_PATH}?{query}"
    digest = hmac.new(secret_key.encode(), source.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


class CmqClient:
    """Talks to the queues and topics of one region.

    Every action exists once, as parameters and a reader of the answer; ``a``-methods send them without
    blocking and must stay on one event loop.

    :param credentials: keys to sign with.
    :param endpoint: URL of the service (``https://cmq-gz.public.tencenttdmq.com``).
    :param connection: how messages name the Airflow connection.
    :param proxy: proxy URL, if any.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    """

    def __init__(
        self,
        credentials: CredentialSource,
        endpoint: str,
        *,
        connection: str = "the connection",
        proxy: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError(f"{endpoint!r} is not a CMQ address: check field cmq_endpoint of {connection}")
        self._url = f"{parts.scheme}://{parts.netloc}{_PATH}"
        self._host = parts.netloc
        self._credentials = credentials
        self._connection = connection
        self._proxy = proxy
        self._ca_file = ca_file
        self._http: httpx.AsyncClient | None = None
        #: How many messages are received together, of queues where all that may be are too much.
        self._most: dict[str, int] = {}

    # -- actions -------------------------------------------------------------------------------------

    async def areceive(self, queue: str, *, count: int = BATCH_SIZE, wait: int = 3) -> list[Message]:
        """Receive messages; an empty list when none came.

        :param queue: name of the queue.
        :param count: most messages to take, 1 to 16.
        :param wait: seconds to wait for the first one. The service recommends at most 3: longer polls raise
            the share of duplicates.
        """
        while True:
            asked = min(count, self._most.get(queue, BATCH_SIZE))
            try:
                answer = await self._asend(*_receive(queue, asked, wait), _bounds(asked))
            except InfrastructureError as error:
                if not self._asks_for_less(queue, asked, error):
                    raise
            else:
                return self._taken(queue, answer)

    def receive(self, queue: str, *, count: int = BATCH_SIZE, wait: int = 3) -> list[Message]:
        """Receive messages, blocking; see :meth:`areceive`."""
        while True:
            asked = min(count, self._most.get(queue, BATCH_SIZE))
            try:
                answer = self._send(*_receive(queue, asked, wait), _bounds(asked))
            except InfrastructureError as error:
                if not self._asks_for_less(queue, asked, error):
                    raise
            else:
                return self._taken(queue, answer)

    async def adelete(self, queue: str, handles: Sequence[str]) -> None:
        """Delete received messages; handles that have expired are passed over (their message comes again)."""
        for start in range(0, len(handles), BATCH_SIZE):
            await self._asend("BatchDeleteMessage", _delete(queue, handles[start : start + BATCH_SIZE]))

    def delete(self, queue: str, handles: Sequence[str]) -> None:
        """Delete received messages, blocking; see :meth:`adelete`."""
        for start in range(0, len(handles), BATCH_SIZE):
            self._send("BatchDeleteMessage", _delete(queue, handles[start : start + BATCH_SIZE]))

    def publish(self, topic: str, body: str) -> str:
        """Publish a message to a topic and return its id."""
        answer = self._send("PublishMessage", {"topicName": topic, "msgBody": body})
        return str(answer.get("msgId", ""))

    def _asks_for_less(self, queue: str, asked: int, error: InfrastructureError) -> bool:
        """Ask for one message at a time if several were too much together. They come again when they are visible."""
        if error.code != TOO_MUCH or asked == 1:
            return False
        if queue not in self._most:
            log.warning("Messages of queue %s are received one by one: together they are too much (%s)", queue, error)
        self._most[queue] = 1
        return True

    def _taken(self, queue: str, answer: Mapping[str, Any]) -> list[Message]:
        if queue in self._most:
            self._most[queue] *= 2
            if self._most[queue] >= BATCH_SIZE:
                del self._most[queue]
        return _messages(answer)

    # -- transport -----------------------------------------------------------------------------------

    async def _asend(
        self, action: str, params: dict[str, Any], wait: int = 0, bounds: Bounds = ONE_MESSAGE
    ) -> dict[str, Any]:
        import anyio
        import httpx

        if self._http is None:
            # Making the client reads the CA bundle: not on the event loop.
            self._http = await asyncio.to_thread(async_http, self._proxy, self._ca_file)
        http, timeout = self._http, _TIMEOUT + wait

        async def send(credential: Any) -> dict[str, Any]:
            form = self._form(action, params, credential)
            try:
                # httpx's own timeout is one for each piece that comes.
                with anyio.fail_after(ALTOGETHER * timeout):
                    response = await http.post(self._url, data=form, timeout=timeout, extensions={BOUNDS: bounds})
            except (httpx.HTTPError, OSError) as error:
                raise self._unreachable(action, error) from None
            except ValueError as error:
                raise self._strange(action, error) from None
            return self._read(action, response)

        return await asend_signed(self._credentials, send)

    def _send(self, action: str, params: dict[str, Any], wait: int = 0, bounds: Bounds = ONE_MESSAGE) -> dict[str, Any]:
        import httpx

        def send(credential: Any) -> dict[str, Any]:
            form = self._form(action, params, credential)
            timeout = _TIMEOUT + wait
            try:
                with blocking_http(self._proxy, self._ca_file, bounds, url=self._url, timeout=timeout) as http:
                    response = http.post(self._url, data=form)
            except (httpx.HTTPError, OSError) as error:
                raise self._unreachable(action, error) from None
            except ValueError as error:
                raise self._strange(action, error) from None
            return self._read(action, response)

        return send_signed(self._credentials, send)

    def _form(self, action: str, params: dict[str, Any], credential: Any) -> dict[str, str]:
        form = {
            **{key: str(value) for key, value in params.items()},
            "Action": action,
            "SecretId": credential.secret_id,
            "Timestamp": str(int(time.time())),
            "Nonce": str(secrets.randbelow(2**31 - 1) + 1),
            "SignatureMethod": "HmacSHA256",
            "RequestClient": "airflow-provider-tcbatch",
        }
        if credential.token:
            form["Token"] = credential.token
        form["Signature"] = sign("POST", self._host, form, credential.secret_key)
        return form

    def _unreachable(self, action: str, error: Exception) -> ApiError:
        if (code := network_code(error)) == NOT_TRUSTED:
            text = f"{self._url}: {error}"
            return api_error(code, text, action=action, connection=self._connection, field="cmq_endpoint")
        made = InfrastructureError(
            f"{action}: {self._url} can't be reached ({type(error).__name__}: {error}). What to do: check field "
            f"cmq_endpoint of {self._connection} and the network",
            action=action,
            retryable=True,
        )
        made.maybe_done = maybe_sent(error)
        return made

    def _strange(self, action: str, error: Exception) -> InfrastructureError:
        if isinstance(error, TooMuch):
            text = f"{action}: the answer of {self._url} is not looked at: {error}"
            return InfrastructureError(text, code=TOO_MUCH, action=action, retryable=True)
        return InfrastructureError(
            f"{action}: {self._url} did not answer as CMQ does ({shortened(str(error))}). What to do: check field "
            f"cmq_endpoint of {self._connection}",
            action=action,
            retryable=True,
        )

    def _read(self, action: str, response: httpx.Response) -> dict[str, Any]:
        if response.status_code != 200:
            raise InfrastructureError(
                f"{action}: {self._url} answered HTTP {response.status_code}", action=action, retryable=True
            )
        try:
            answer = response.json()
            code = int(answer["code"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._strange(action, error) from None
        if code in (0, _NO_MESSAGE) or (action == "BatchDeleteMessage" and code in _HANDLE_EXPIRED):
            return dict(answer)
        kind, retryable = _CLASSES.get(code, (ApiError, False))
        hint = ""
        if kind is PermissionDenied and self._credentials.renews():
            kind, retryable = KeysRefused, True
            hint = f". What to do: {refused_hint(self._credentials.description)}"
        elif kind is PermissionDenied:
            hint = f". What to do: check the keys of {self._connection} and their CMQ permissions"
        elif kind is NotFound:
            hint = f". What to do: check fields event_topic and event_queue of {self._connection}"
        raise kind(
            f"{action}: {code}: {shortened(str(answer.get('message', '')))}{hint} "
            f"(requestId {answer.get('requestId')})",
            code=str(code),
            action=action,
            request_id=answer.get("requestId"),
            retryable=retryable,
        )

    async def aclose(self) -> None:
        """Close the connections of the ``a``-methods."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def _receive(queue: str, count: int, wait: int) -> tuple[str, dict[str, Any], int]:
    params = {"queueName": queue, "numOfMsg": count, "pollingWaitSeconds": wait}
    return "BatchReceiveMessage", params, wait


def _bounds(count: int) -> Bounds:
    return ONE_MESSAGE if count == 1 else PORTION


def _delete(queue: str, handles: Sequence[str]) -> dict[str, Any]:
    return {"queueName": queue, **{f"receiptHandle.{n}": handle for n, handle in enumerate(handles)}}


def _messages(answer: Mapping[str, Any]) -> list[Message]:
    return [
        Message(
            body=str(entry.get("msgBody", "")),
            handle=str(entry.get("receiptHandle", "")),
            message_id=str(entry.get("msgId", ""))[:_LONGEST_ID],
            enqueued_at=_seconds(entry.get("enqueueTime")),
            dequeue_count=int(_seconds(entry.get("dequeueCount"))),
        )
        for entry in answer.get("msgInfoList") or ()
    ]


def _seconds(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0
