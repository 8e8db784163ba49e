"""One place for signing, rates, retries and errors of API 3.0 calls.

The SDK's ``CommonClient`` signs and sends; pydantic types what goes in and comes out. The SDK is imported
at the first call, never by importing this module.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from airflow_provider_tcbatch.client.errors import api_error
from airflow_provider_tcbatch.client.http import async_http
from airflow_provider_tcbatch.client.keys import asend_signed, send_signed
from airflow_provider_tcbatch.client.limits import CN_LIMITS, RateLimiter
from airflow_provider_tcbatch.client.retry import ATTEMPTS, retrying, retrying_async
from airflow_provider_tcbatch.client.waiting import spawn
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    InfrastructureError,
    Throttled,
)

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.credentials import CredentialSource
    from airflow_provider_tcbatch.models.actions import Action, Result

__all__ = ["ApiClient", "ApiSettings"]

ResultT = TypeVar("ResultT", bound="Result")


@dataclass(frozen=True)
class ApiSettings:
    """Where and how requests are sent.

    :param region: region of the resources (``ap-guangzhou``).
    :param endpoints: host or URL by service (``batch``, ``tdmq``); what is missing is made from
        ``root_domain``.
    :param root_domain: ``tencentcloudapi.com``, or ``intl.tencentcloudapi.com`` for the international site.
    :param timeout: seconds that one HTTP request may take.
    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
    :param limits: requests per second by action.
    :param share: part of the limits that this process takes, 0 to 1.
    :param connection: how messages name the Airflow connection.
    """

    region: str
    endpoints: Mapping[str, str] = field(default_factory=dict)
    root_domain: str = "tencentcloudapi.com"
    timeout: float = 30.0
    proxy: str | None = None
    ca_file: str | None = None
    limits: Mapping[str, float] = field(default_factory=lambda: CN_LIMITS)
    share: float = 0.5
    connection: str = "the connection"

    def endpoint(self, service: str) -> tuple[str, str]:
        """Protocol and host[:port] of a service.

        :raises ConfigurationError: if the configured endpoint is not a host or a http(s) URL.
        """
        value = self.endpoints.get(service) or f"{service}.{self.root_domain}"
        parts = urlsplit(value if "://" in value else f"https://{value}")
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise ConfigurationError(
                f"{value!r} is not an endpoint: write a host ({service}.tencentcloudapi.com) or a URL "
                f"(http://127.0.0.1:8095) in field {_field(service)} of {self.connection}"
            )
        return parts.scheme, parts.netloc


class ApiClient:
    """Calls actions, blocking or not.

    The two ways share rates, retries and error mapping. :meth:`acall` must stay on one event loop: its
    connections belong to the loop that opened them.

    :param credentials: keys to sign with.
    :param settings: where and how to send.
    """

    def __init__(self, credentials: CredentialSource, settings: ApiSettings) -> None:
        self.credentials = credentials
        self.settings = settings
        self.limiter = RateLimiter(settings.limits, settings.share)
        #: How often each action was really sent, retries included.
        self.sent: dict[str, int] = {}
        self._sync: dict[str, Any] = {}
        self._async: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str], asyncio.Task[Any]] = {}

    # -- blocking ------------------------------------------------------------------------------------

    def call(self, action: Action[ResultT], *, attempts: int = ATTEMPTS) -> ResultT:
        """Send an action and return its answer.

        :param attempts: how often to try at most; a write that could be carried out twice is tried once.
        :raises ApiError: of the class that fits the error code.
        """
        result: ResultT = retrying(action.may_repeat, attempts)(self._call_once, action)
        return result

    def _call_once(self, action: Action[ResultT]) -> ResultT:
        self._sync_client(action)  # made late, the first call would leave together with the next ones
        time.sleep(self.limiter.reserve(action.name()))
        return send_signed(self.credentials, partial(self._send, action))

    def _send(self, action: Action[ResultT], credential: Any) -> ResultT:
        name = action.name()
        client = self._sync_client(action)
        client.credential = credential
        self.sent[name] = self.sent.get(name, 0) + 1
        try:
            answer = client.call_json(name, action.to_wire())
        except Exception as error:
            if (translated := self._translate(error, action)) is None:
                raise
            raise translated from error
        return self._result(action, answer)

    def _sync_client(self, action: Action[Any]) -> Any:
        with self._lock:
            if action.service not in self._sync:
                from tencentcloud.common.common_client import CommonClient

                self._sync[action.service] = CommonClient(
                    action.service,
                    action.version,
                    None,
                    self.settings.region,
                    self._profile(action.service, blocking=True),
                )
            return self._sync[action.service]

    # -- asynchronous --------------------------------------------------------------------------------

    async def acall(self, action: Action[ResultT], *, attempts: int = ATTEMPTS) -> ResultT:
        """Send an action and return its answer without blocking the event loop; see :meth:`call`."""
        if attempts == 1:  # as for each look of a watcher: its pace is all the patience that there is
            return await self._acall_once(action)
        return await retrying_async(action.may_repeat, attempts)(self._acall_once, action)

    async def ashared(self, action: Action[ResultT]) -> ResultT:
        """Send an action that only reads, once, together with all who ask the same meanwhile: they share the answer.

        It may have been read a moment before somebody asked, so ask again if it does not show what is looked for.

        :raises ApiError: as :meth:`acall` does.
        """
        key = (action.name(), json.dumps(action.to_wire(), sort_keys=True))
        if (asked := self._asked.get(key)) is None:
            asked = self._asked[key] = spawn(self.acall(action, attempts=1), f"tcbatch-{action.name()}")
            asked.add_done_callback(partial(self._answered, key))
        result: ResultT = await asyncio.shield(asked)
        return result

    def _answered(self, key: tuple[str, str], asked: asyncio.Task[Any]) -> None:
        del self._asked[key]
        if not asked.cancelled():
            asked.exception()  # else asyncio complains of an error where nobody waits for it any more

    async def _acall_once(self, action: Action[ResultT]) -> ResultT:
        await self._async_client(action)  # made late, the first call would leave together with the next ones
        if delay := self.limiter.reserve(action.name()):
            await asyncio.sleep(delay)
        return await asend_signed(self.credentials, partial(self._asend, action))

    async def _asend(self, action: Action[ResultT], credential: Any) -> ResultT:
        name = action.name()
        client = await self._async_client(action)
        client.credential = credential
        self.sent[name] = self.sent.get(name, 0) + 1
        try:
            answer = await client.call_and_deserialize(name, action.to_wire())
        except Exception as error:
            if (translated := self._translate(error, action)) is None:
                raise
            raise translated from error
        return self._result(action, answer)

    async def _async_client(self, action: Action[Any]) -> Any:
        if action.service not in self._async:
            # Importing the SDK and reading the CA bundle take long enough to be felt: not on the loop.
            client = await asyncio.to_thread(self._make_async_client, action)
            known = self._async.setdefault(action.service, client)
            if known is not client:  # another task was faster
                await client.close()
        return self._async[action.service]

    def _make_async_client(self, action: Action[Any]) -> Any:
        import httpx
        from tencentcloud.common.common_client_async import CommonClient

        client = CommonClient(action.service, action.version, None, self.settings.region, self._profile(action.service))
        # The SDK passes the proxy to httpx under a name that httpx 0.28 removed, takes a CA file for a client's
        # certificate and opens a connection per call. The client that it has not used yet can be dropped.
        client.http_client = async_http(
            self.settings.proxy,
            self.settings.ca_file,
            timeout=self.settings.timeout,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
        )
        return client

    async def aclose(self) -> None:
        """Close the connections of :meth:`acall`."""
        clients, self._async = self._async, {}
        for client in clients.values():
            await client.close()

    # -- pages ---------------------------------------------------------------------------------------

    def pages(self, action: Action[ResultT], page_size: int) -> Iterator[ResultT]:
        """Iterate over the pages of a list action (one with ``offset`` and ``limit``)."""
        offset = 0
        while True:
            page = self.call(action.model_copy(update={"offset": offset, "limit": page_size}))
            yield page
            offset += page_size
            if offset >= _total(page):
                return

    async def apages(self, action: Action[ResultT], page_size: int) -> AsyncIterator[ResultT]:
        """Iterate over the pages of a list action without blocking the event loop."""
        offset = 0
        while True:
            page = await self.acall(action.model_copy(update={"offset": offset, "limit": page_size}))
            yield page
            offset += page_size
            if offset >= _total(page):
                return

    # -- shared --------------------------------------------------------------------------------------

    def _profile(self, service: str, *, blocking: bool = False) -> Any:
        from tencentcloud.common.profile.client_profile import ClientProfile
        from tencentcloud.common.profile.http_profile import HttpProfile

        protocol, host = self.settings.endpoint(service)
        http = HttpProfile(
            protocol=protocol,
            endpoint=host,
            reqTimeout=self.settings.timeout,
            keepAlive=True,
            # The asynchronous client gets both otherwise; see _make_async_client.
            proxy=self.settings.proxy if blocking else None,
            certification=self.settings.ca_file if blocking else None,
        )
        return ClientProfile(httpProfile=http, language="en-US", request_client="airflow-provider-tcbatch")

    def _translate(self, error: Exception, action: Action[Any]) -> ApiError | None:
        """The error in our own words; ``None`` for one that is not about this call."""
        import httpx
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

        if isinstance(error, TencentCloudSDKException):
            message = error.message
            text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
            return self._api_error(action, str(error.code), text, error.requestId)
        if isinstance(error, (httpx.HTTPError, OSError)):
            # The asynchronous client lets the transport's own errors through.
            return self._api_error(action, "ClientNetworkError", f"{type(error).__name__}: {error}")
        if isinstance(error, (ValueError, KeyError, TypeError)):
            # What the SDK runs into when an answer is no JSON object of the expected form.
            text = f"the answer is not an API answer ({type(error).__name__}: {error})"
            return self._api_error(action, "ServerNetworkError", text)
        return None

    def _api_error(self, action: Action[Any], code: str, message: str, request_id: str | None = None) -> ApiError:
        error = api_error(
            code,
            message,
            action=action.name(),
            request_id=request_id,
            connection=self.settings.connection,
            field=_field(action.service) + (" (or proxy)" if self.settings.proxy else ""),
            renewed_by=self.credentials.description if self.credentials.renews() else None,
        )
        if isinstance(error, Throttled):
            self.limiter.throttled(action.name())
        return error

    def _result(self, action: Action[ResultT], answer: Any) -> ResultT:
        name = action.name()
        response = answer.get("Response") if isinstance(answer, dict) else None
        if not isinstance(response, dict):
            raise InfrastructureError(f"{name}: the answer has no Response member", action=name, retryable=True)
        request_id = response.get("RequestId")
        if error := response.get("Error"):
            # The SDK overlooks an error whose Content-Type carries a charset.
            raise self._api_error(action, str(error.get("Code")), str(error.get("Message")), request_id)
        try:
            return action.result_type().parse_response(response)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise InfrastructureError(
                f"{name}: the answer can't be read: {faults} (RequestId {request_id})",
                action=name,
                request_id=request_id,
                retryable=True,
            ) from None


def _field(service: str) -> str:
    """Field of the connection that says where a service is."""
    return "endpoint" if service == "batch" else f"{service}_endpoint"


def _total(page: Any) -> int:
    for member in ("total_count", "task_instance_total_count"):
        if (total := getattr(page, member, None)) is not None:
            return int(total)
    return 0
