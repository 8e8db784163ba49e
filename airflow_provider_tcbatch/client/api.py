"""One place for signing, rates, retries and errors of API 3.0 calls.

The SDK signs, httpx sends, pydantic types what goes in and comes out. The SDK and httpx are imported at the first call,
never by importing this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
from pydantic import ValidationError

from airflow_provider_tcbatch.client.auth.keys import asend_signed, send_signed
from airflow_provider_tcbatch.client.auth.signing import signed
from airflow_provider_tcbatch.client.errors import TOO_MUCH, api_error, network_code
from airflow_provider_tcbatch.client.http import ALTOGETHER, async_http, blocking_http, maybe_sent
from airflow_provider_tcbatch.client.limits import CN_LIMITS, RateLimiter
from airflow_provider_tcbatch.client.places import Places, shared_places
from airflow_provider_tcbatch.client.retry import ATTEMPTS, Course, retrying, retrying_async
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    InfrastructureError,
    TCBatchError,
    Throttled,
)
from airflow_provider_tcbatch.models.bounds import TooMuch, shortened
from airflow_provider_tcbatch.models.wire import secrets_of
from airflow_provider_tcbatch.policies.contention import was_let_through

if TYPE_CHECKING:
    import httpx

    from airflow_provider_tcbatch.client.auth.sources import CredentialSource
    from airflow_provider_tcbatch.models.actions import Action, Result

__all__ = ["ApiClient", "ApiSettings"]

ResultT = TypeVar("ResultT", bound="Result")

#: Faults of an answer that a message lists.
_MOST_FAULTS = 20

#: Where a list is given up that has no end: a thousand pages are 100,000 jobs, a hundred times the default quota, and
#: take 17 minutes at the international site's rate for one process.
_MOST_PAGES = 1_000
_PAGES_SECONDS = 1_800.0


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
    :param patience: for how many seconds a call is sent again while the service refuses it for its rate.
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
    patience: float = 3600.0

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
    :param places: places in the account's rates; default is those that all clients of this process share.
    """

    def __init__(self, credentials: CredentialSource, settings: ApiSettings, places: Places | None = None) -> None:
        self.credentials = credentials
        self.settings = settings
        #: For what is read at a pace of its own.
        self.limiter = RateLimiter(settings.limits, settings.share)
        #: For all else.
        self.places = places or shared_places(
            (credentials.identity, settings.region, tuple(sorted(settings.endpoints.items())), settings.root_domain),
            settings.limits,
            settings.share,
            ALTOGETHER * settings.timeout,
        )
        #: How often each action was really sent, retries included.
        self.sent: dict[str, int] = {}
        self._blocking: dict[str, httpx.Client] = {}
        self._async: httpx.AsyncClient | None = None
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str], asyncio.Task[Any]] = {}

    def apart(self) -> ApiClient:
        """A client, with its keys, that has no lock in common with this one.

        It is for threads that a signal's handler waits for: whatever the interrupted thread holds is held until then.
        """
        # It may stand in the middle of an import, too.
        import httpx  # noqa: F401
        from tencentcloud.common import sign  # noqa: F401

        with contextlib.suppress(TCBatchError):  # whoever needs the keys is told why there are none
            self.credentials.get()
        return ApiClient(self.credentials.apart(), self.settings, self.places.apart())

    # -- blocking ------------------------------------------------------------------------------------

    def call(
        self,
        action: Action[ResultT],
        *,
        attempts: int = ATTEMPTS,
        patience: float | None = None,
        before_send: Callable[[], None] = lambda: None,
    ) -> ResultT:
        """Send an action and return its answer.

        :param attempts: how often to try at most when the service fails or can't be reached; a write that could be
            carried out twice is sent again only if it was never sent.
        :param patience: for how many seconds to send it again, in its turn, while the service refuses it for its rate.
            Default is that of the settings, and with one attempt not at all.
        :param before_send: called right before it is sent, each time: long after the call, if it waits for its turn.
            What it raises keeps the action from being sent.
        :raises ApiError: of the class that fits the error code.
        """
        course = self._course(attempts, patience)
        result: ResultT = retrying(action.may_repeat, attempts)(self._call_in_place, action, course, before_send)
        return result

    def _course(self, attempts: int, patience: float | None) -> Course:
        if patience is None:
            patience = self.settings.patience if attempts > 1 else 0.0
        return Course(patience)

    def _call_in_place(self, action: Action[ResultT], course: Course, before_send: Callable[[], None]) -> ResultT:
        self._http(action)  # made late, the first call would leave together with the next ones
        self._mask(action)
        course.begin()
        while True:
            place = self.places.wait(action.name(), course.until)
            give_back = self.places.unsure  # whatever ends it, a signal or a cancellation too
            try:
                before_send()
                course.sends()
                result = send_signed(self.credentials, partial(self._send, action))
                give_back = self.places.accepted
                return result
            except Throttled as error:
                if error.action != action.name():  # of the service that gives the keys
                    course.failed(error, action.name())
                    raise
                give_back = self.places.refused
                course.refused(error)
            except ApiError as error:
                if was_let_through(error):
                    give_back = self.places.accepted
                course.failed(error, action.name())
                raise
            finally:
                give_back(place)

    def _send(self, action: Action[ResultT], credential: Any) -> ResultT:
        name = action.name()
        http = self._http(action)
        request = self._request(action, credential)
        self.sent[name] = self.sent.get(name, 0) + 1
        try:
            response = http.send(request)
        except Exception as error:
            if (translated := self._translate(error, action)) is None:
                raise
            raise translated from None
        return self._result(action, response)

    def _http(self, action: Action[Any]) -> httpx.Client:
        """The connections to an action's server. They are kept, so that all calls of a try share one."""
        with self._lock:
            url = self._url(action)
            if url not in self._blocking:
                from tencentcloud.common import sign  # noqa: F401

                settings = self.settings
                self._blocking[url] = blocking_http(settings.proxy, settings.ca_file, url=url, timeout=settings.timeout)
            return self._blocking[url]

    # -- asynchronous --------------------------------------------------------------------------------

    async def acall(
        self, action: Action[ResultT], *, attempts: int = ATTEMPTS, patience: float | None = None
    ) -> ResultT:
        """Send an action and return its answer without blocking the event loop; see :meth:`call`.

        What only reads keeps to a share of the rate instead of waiting for a place, and has no patience.
        """
        if not action.name().startswith("Describe"):
            course = self._course(attempts, patience)
            return await retrying_async(action.may_repeat, attempts)(self._acall_in_place, action, course)
        if attempts == 1:  # as for each look of a watcher: its pace is all the patience that there is
            return await self._acall_once(action)
        return await retrying_async(action.may_repeat, attempts, throttled=True)(self._acall_once, action)

    async def _acall_in_place(self, action: Action[ResultT], course: Course) -> ResultT:
        await self._ahttp()  # made late, the first call would leave together with the next ones
        if self._holds_secrets(action):
            await asyncio.to_thread(self._mask, action)  # the masker may talk to Airflow
        course.begin()
        while True:
            place = await self.places.await_place(action.name(), course.until)
            give_back = self.places.unsure  # whatever ends it, a signal or a cancellation too
            try:
                course.sends()
                result = await asend_signed(self.credentials, partial(self._asend, action))
                give_back = self.places.accepted
                return result
            except Throttled as error:
                if error.action != action.name():  # of the service that gives the keys
                    course.failed(error, action.name())
                    raise
                give_back = self.places.refused
                course.refused(error)
            except ApiError as error:
                if was_let_through(error):
                    give_back = self.places.accepted
                course.failed(error, action.name())
                raise
            finally:
                give_back(place)

    async def ashared(self, action: Action[ResultT]) -> ResultT:
        """Send an action that only reads, once, together with all who ask the same meanwhile: they share the answer.

        It may have been read a moment before somebody asked, so ask again if it does not show what is looked for.

        :raises ApiError: as :meth:`acall` does.
        """
        from airflow_provider_tcbatch.client.background import spawn

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
        await self._ahttp()  # made late, the first call would leave together with the next ones
        if delay := self.limiter.reserve(action.name()):
            at = time.monotonic() + delay
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                self.limiter.give_back(action.name(), at - time.monotonic())
                raise
        return await asend_signed(self.credentials, partial(self._asend, action))

    async def _asend(self, action: Action[ResultT], credential: Any) -> ResultT:
        name = action.name()
        http = await self._ahttp()
        request = self._request(action, credential)
        self.sent[name] = self.sent.get(name, 0) + 1
        try:
            # httpx's own timeout is one for each piece of an answer that comes.
            with anyio.fail_after(ALTOGETHER * self.settings.timeout):
                response = await http.send(request)
        except Exception as error:
            if (translated := self._translate(error, action)) is None:
                raise
            raise translated from None
        return self._result(action, response)

    async def _ahttp(self) -> httpx.AsyncClient:
        if self._async is None:
            # Importing the SDK and reading the CA bundle take long enough to be felt: not on the loop.
            made = await asyncio.to_thread(self._make_ahttp)
            if self._async is None:
                self._async = made
            else:  # another task was faster
                await made.aclose()
        return self._async

    def _make_ahttp(self) -> httpx.AsyncClient:
        import httpx
        from tencentcloud.common import sign  # noqa: F401

        settings = self.settings
        limits = httpx.Limits(max_connections=16, max_keepalive_connections=8)
        return async_http(settings.proxy, settings.ca_file, timeout=settings.timeout, limits=limits)

    async def aclose(self) -> None:
        """Close the connections of :meth:`acall`."""
        http, self._async = self._async, None
        if http is not None:
            await http.aclose()

    # -- pages ---------------------------------------------------------------------------------------

    def pages(self, action: Action[ResultT], page_size: int) -> Iterator[ResultT]:
        """Iterate over the pages of a list action (one with ``offset`` and ``limit``).

        :raises InfrastructureError: if they have no end: after a thousand pages, or half an hour.
        """
        pages = _Pages(action, page_size)
        while not pages.done:
            page = self.call(pages.next())
            yield page
            pages.read(page)

    async def apages(self, action: Action[ResultT], page_size: int) -> AsyncIterator[ResultT]:
        """Iterate over the pages of a list action without blocking the event loop; see :meth:`pages`."""
        pages = _Pages(action, page_size)
        while not pages.done:
            page = await self.acall(pages.next())
            yield page
            pages.read(page)

    # -- shared --------------------------------------------------------------------------------------

    def _url(self, action: Action[Any]) -> str:
        return "{}://{}/".format(*self.settings.endpoint(action.service))

    @staticmethod
    def _holds_secrets(action: Action[Any]) -> bool:
        return bool(secrets_of(type(action), action))

    def _mask(self, action: Action[Any]) -> None:
        """Keep what is secret in a request out of logs, before anything of it is sent."""
        if (mask := self.credentials.mask) is not None:
            for secret in secrets_of(type(action), action):
                mask(secret)

    def _request(self, action: Action[Any], credential: Any) -> httpx.Request:
        import httpx

        settings, name = self.settings, action.name()
        headers, body = signed(
            name,
            action.to_wire(),
            service=action.service,
            version=action.version,
            host=settings.endpoint(action.service)[1],
            region=settings.region,
            keys=credential,
        )
        # Not the client's own way of making one: it would add headers that nobody looks at, for each request anew.
        timeout = {"timeout": httpx.Timeout(settings.timeout).as_dict()}
        try:
            return httpx.Request("POST", self._url(action), headers=headers, content=body, extensions=timeout)
        except (UnicodeError, httpx.InvalidURL) as error:
            raise ConfigurationError(
                f"{name}: no request can be made of region {settings.region!r}, the keys and field "
                f"{_field(action.service)} of {settings.connection} ({type(error).__name__}: {error})"
            ) from None

    def _translate(self, error: Exception, action: Action[Any]) -> ApiError | None:
        """The error in our own words; ``None`` for one that is not about this call."""
        import httpx

        if isinstance(error, (httpx.HTTPError, OSError)):
            made = self._api_error(action, network_code(error), f"{type(error).__name__}: {error}")
            made.maybe_done = maybe_sent(error)
            return made
        if isinstance(error, TooMuch):
            return self._api_error(action, TOO_MUCH, f"the answer is not looked at: {error}")
        if isinstance(error, ValueError):
            return self._api_error(action, "ServerNetworkError", f"the answer is not an API answer ({error})")
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

    def _result(self, action: Action[ResultT], answered: httpx.Response) -> ResultT:
        name = action.name()
        if answered.status_code != 200:
            raise self._api_error(action, "ServerNetworkError", answered.content.decode("utf-8", "replace"))
        try:
            answer = json.loads(answered.content)
        except ValueError as error:
            text = f"the answer is not an API answer ({type(error).__name__}: {error})"
            raise self._api_error(action, "ServerNetworkError", text) from None
        response = answer.get("Response") if isinstance(answer, dict) else None
        if not isinstance(response, dict):
            raise InfrastructureError(f"{name}: the answer has no Response member", action=name, retryable=True)
        request_id = response.get("RequestId")
        if refusal := response.get("Error"):
            if not isinstance(refusal, dict):
                raise self._api_error(
                    action, "ServerNetworkError", "the answer is not an API answer (Error)", request_id
                )
            raise self._api_error(action, str(refusal.get("Code")), str(refusal.get("Message")), request_id)
        try:
            return action.result_type().parse_response(response)
        except ValidationError as error:
            raise InfrastructureError(
                f"{name}: the answer can't be read: {_faults(error)} (RequestId {request_id})",
                action=name,
                request_id=request_id,
                retryable=True,
            ) from None


def _faults(error: ValidationError) -> str:
    """What is wrong with an answer. To list thousands of faults would take longer than to find them."""
    if error.error_count() > _MOST_FAULTS:
        return f"it has {error.error_count():,} faults"
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return shortened("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults))


def _field(service: str) -> str:
    """Field of the connection that says where a service is."""
    return "endpoint" if service == "batch" else f"{service}_endpoint"


class _Pages(Generic[ResultT]):
    """How far a list has been read.

    :param action: asks for a page.
    :param size: entries of a page.
    """

    def __init__(self, action: Action[ResultT], size: int) -> None:
        self._action = action
        self._size = size
        self._count = 0
        self._until = time.monotonic() + _PAGES_SECONDS
        self.done = False

    def next(self) -> Action[ResultT]:
        """What asks for the next page."""
        return self._action.model_copy(update={"offset": self._count * self._size, "limit": self._size})

    def read(self, page: ResultT) -> None:
        """Note that a page has been read.

        :raises InfrastructureError: if more are to come than there can be.
        """
        self._count += 1
        total = _total(page)
        # A page without entries is the last one, whatever the total says.
        if self._count * self._size >= total or _is_empty(page):
            self.done = True
        elif self._count >= _MOST_PAGES or time.monotonic() > self._until:
            name = self._action.name()
            raise InfrastructureError(
                f"{name}: given up after {self._count:,} pages of {self._size}, of {total:,} entries that the service "
                "speaks of. What to do: ask for less, by a filter; if there can't be so many, the endpoint is wrong",
                action=name,
            )


def _is_empty(page: Any) -> bool:
    lists = [value for _, value in page if isinstance(value, list)]
    return bool(lists) and not any(lists)


def _total(page: Any) -> int:
    for member in ("total_count", "task_instance_total_count"):
        if (total := getattr(page, member, None)) is not None:
            return int(total)
    return 0
