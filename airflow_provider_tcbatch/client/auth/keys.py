"""What all sources of keys have in common, and those whose keys are simply there."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_provider_tcbatch.client.errors import refuses_keys
from airflow_provider_tcbatch.client.request_logs import hide_requests
from airflow_provider_tcbatch.exceptions import ApiError, ConfigurationError, KeysRefused, TCBatchError
from airflow_provider_tcbatch.models.bounds import CREDENTIALS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "CredentialSource",
    "EnvironmentKeys",
    "Keys",
    "Renewing",
    "StaticKeys",
    "asend_signed",
    "not_awaited",
    "send_signed",
    "text_of",
]

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Keys are renewed this many seconds before they expire, or a quarter of their life before if that is less.
_MARGIN = 300.0
#: After a renewal that failed, the old keys are used on for this long before the next try. Likewise, keys that replaced
#: refused ones are not asked for anew before, if they are refused themselves.
_PAUSE = 30.0

#: Identities of the sources that were logged already.
_announced: set[str] = set()


@dataclass(frozen=True)
class Keys:
    """A key pair. The SDK's clients take it for a credential object of their own.

    :param token: session token of temporary keys.
    :param expires_at: unix seconds; ``None`` for keys that last.
    :param reread_at: unix seconds when to look again, though the keys still hold.
    """

    secret_id: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    reread_at: float | None = None

    def get_credential_info(self) -> tuple[str, str, str | None]:
        """What the SDK's clients ask of a credential object: SecretId, SecretKey and token."""
        return self.secret_id, self.secret_key, self.token


def text_of(file: Path) -> str:
    """What a file of keys holds.

    :raises OSError: if it can't be read.
    :raises ValueError: if it is no text, or too much of it.
    """
    with file.open("rb") as opened:
        data = opened.read(CREDENTIALS.size + 1)
    CREDENTIALS.check_size(len(data))
    return data.decode("utf-8")


def not_awaited(mask: Callable[[str], None] | None) -> Callable[[str], None] | None:
    """The same masker, for those who must not wait for it."""
    return mask and (lambda secret: threading.Thread(target=mask, args=(secret,), daemon=True).start())


class CredentialSource(ABC):
    """Where keys come from."""

    #: Short text without secrets that tells sources apart; part of the key of shared watchers.
    identity: str

    #: What people call it.
    description: str

    #: Told every secret that is about to be used, so that it can be kept out of logs.
    mask: Callable[[str], None] | None = None

    #: Other secrets that requests are sent with, such as a proxy's password: told together with the keys.
    others: tuple[str, ...] = ()

    _shared: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None

    @abstractmethod
    def get(self) -> Any:
        """Return keys (``secret_id``, ``secret_key``, ``token``): the same object until they are renewed.

        :raises ConfigurationError: if there are no keys to be had, naming what to set.
        :raises ApiError: if the service that gives them can't be reached or is too busy.
        """

    def ready(self) -> Any:
        """Return what :meth:`get` would return if that takes no time, else ``None``."""
        return None

    def discard(self, credential: Any) -> bool:
        """Forget keys that a service refused, if they are still the current ones; never blocks.

        Whoever asks next asks for new ones, once for all who do. What has just been asked for because of a refusal is
        not asked for again: then the keys are not to blame.

        :param credential: what :meth:`get` returned.
        :return: whether :meth:`get` can give others.
        """
        return False

    def renews(self) -> bool:
        """Whether the keys are renewed by themselves, so that it passes if they are refused."""
        return False

    def apart(self) -> Self:
        """The same source without a lock in common: see :meth:`.ApiClient.apart`.

        The keys are common: what one of them renews, the other one has. What is apart does not renew keys that still
        hold, nor wait for a masker, which may need a lock of Airflow's.
        """
        return self

    async def aget(self) -> Any:
        """Return what :meth:`get` returns without blocking the event loop."""
        if (credential := self.ready()) is not None:
            return credential
        loop = asyncio.get_running_loop()
        shared = self._shared
        if shared is None or shared[0] is not loop or shared[1].done():
            future = loop.run_in_executor(None, self.get)
            # Whoever waits hears of an error; if nobody is left, asyncio must not complain.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            shared = self._shared = (loop, future)
        # Shielded: one caller that is cancelled must not take the keys away from the others.
        return await asyncio.shield(shared[1])

    def _credential(self, keys: Keys) -> Keys:
        """Keys that are about to be used; a new object, by which it is told later which ones were refused.

        :raises ConfigurationError: if they can't be right.
        """
        hide_requests()
        for secret in (keys.secret_key, keys.token, *self.others):
            if secret and self.mask is not None:
                self.mask(secret)
        for name, value in (("SecretId", keys.secret_id), ("SecretKey", keys.secret_key)):
            if not value or value.strip() != value:
                problem = "has blanks around it" if value.strip() else "is empty"
                raise ConfigurationError(f"The {name} of {self.description} can't be used: it {problem}")
        if self.identity not in _announced:
            _announced.add(self.identity)
            log.info("Tencent Cloud keys come from %s", self.description)
        return replace(keys)


class StaticKeys(CredentialSource):
    """A key pair, or a temporary key pair with its token.

    :param secret_id: SecretId.
    :param secret_key: SecretKey.
    :param token: session token of temporary keys.
    :param description: what people call it.
    """

    def __init__(
        self,
        secret_id: str,
        secret_key: str,
        token: str | None = None,
        *,
        description: str = "the connection's fields Login and Password",
    ) -> None:
        self.description = description
        self._keys = Keys(secret_id, secret_key, token or None)
        digest = hashlib.sha256("\0".join((secret_id, secret_key, token or "")).encode()).hexdigest()[:16]
        self.identity = f"keys:{digest}"
        self._made: Any = None

    def get(self) -> Any:
        if self._made is None:
            self._made = self._credential(self._keys)
        return self._made

    def ready(self) -> Any:
        # The masker, which is told of them first, talks to Airflow: not on an event loop.
        return self._made


class _Held(NamedTuple):
    """Keys in use; one object, so that a thread sees all of it or nothing."""

    credential: Any
    expires_at: float
    renew_at: float
    #: Whether somebody renews them.
    temporary: bool
    #: Unix seconds before which these are not replaced for a refusal: they have just replaced refused ones.
    firm_until: float = float("-inf")


class _Cell:
    """What a source and those that are apart from it hold in common; each member is replaced as a whole."""

    def __init__(self) -> None:
        self.held: _Held | None = None
        #: The credential that was refused last. Set without a lock, which is held while keys are fetched.
        self.refused: Any = None


class Renewing(CredentialSource):
    """Base of the sources whose keys have to be fetched, and fetched again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cell = _Cell()
        self._is_apart = False

    def apart(self) -> Self:
        twin = copy.copy(self)
        twin._lock = threading.Lock()
        twin._is_apart = True
        twin.mask = not_awaited(self.mask)
        return twin

    @abstractmethod
    def fetch(self) -> Keys:
        """Get new keys; may take its time.

        :raises TCBatchError: if there are none to be had.
        """

    def get(self) -> Any:
        if (credential := self.ready()) is not None:
            return credential
        with self._lock:
            # Meanwhile another thread may have fetched them.
            if (credential := self.ready()) is None:
                held = self._cell.held = self._renewed(self._cell.held)
                credential = held.credential
            return credential

    def ready(self) -> Any:
        held = self._cell.held
        if held is None or held.credential is self._cell.refused:
            return None
        return held.credential if self._clock() < (held.expires_at if self._is_apart else held.renew_at) else None

    def discard(self, credential: Any) -> bool:
        held = self._cell.held
        if held is None or held.credential is not credential or credential is self._cell.refused:
            return True  # others have replaced them, or are about to be asked for
        if self._clock() < held.firm_until:
            return False
        log.info("Keys of %s were refused: they are asked for anew", self.description)
        self._cell.refused = credential
        return True

    def renews(self) -> bool:
        held = self._cell.held
        return held is not None and held.temporary

    def _renewed(self, held: _Held | None) -> _Held:
        refused = held is not None and held.credential is self._cell.refused
        try:
            keys = self.fetch()
            credential = self._credential(keys)
        except TCBatchError as error:
            if held is None:
                raise
            newer = self._cell.held
            if newer is not None and newer is not held:  # a source that is apart has been served meanwhile
                return newer
            now = self._clock()
            if not refused and held.expires_at > now:
                log.warning(
                    "Keys of %s could not be renewed, the old ones are used for now: %s", self.description, error
                )
                return held._replace(renew_at=min(now + _PAUSE, held.expires_at))
            if isinstance(error, ApiError) and error.retryable:
                raise
            # There have been keys, so it is no mistake of the set-up.
            raise KeysRefused(
                f"The keys of {self.description} {'were refused' if refused else 'have expired'} and can't be renewed: "
                f"{error}",
                code="AuthFailure",
                retryable=True,
            ) from error
        expires_at = float("inf") if keys.expires_at is None else keys.expires_at
        early = expires_at - min(_MARGIN, (expires_at - self._clock()) / 4)
        renew_at = early if keys.reread_at is None else min(early, keys.reread_at)
        temporary = keys.token is not None or keys.expires_at is not None
        firm_until = self._clock() + _PAUSE if refused else float("-inf")
        return _Held(credential, expires_at, renew_at, temporary, firm_until)


class EnvironmentKeys(CredentialSource):
    """``TENCENTCLOUD_SECRET_ID``, ``TENCENTCLOUD_SECRET_KEY`` and, for temporary keys, ``TENCENTCLOUD_TOKEN``.

    The SDK's own provider drops the token.
    """

    identity = "environment"
    description = "environment variables TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"

    _NAMES = ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY")

    def __init__(self) -> None:
        self._made: Any = None

    def found(self) -> bool:
        """Whether any of them is set: half a key pair is a mistake, not a reason to look elsewhere."""
        return any(os.environ.get(name) for name in self._NAMES)

    def get(self) -> Any:
        if self._made is None:
            missing = [name for name in self._NAMES if not os.environ.get(name)]
            if missing:
                raise ConfigurationError(f"No credentials in the environment: set {' and '.join(missing)}")
            secret_id, secret_key = (os.environ[name] for name in self._NAMES)
            self._made = self._credential(Keys(secret_id, secret_key, os.environ.get("TENCENTCLOUD_TOKEN") or None))
        return self._made

    def ready(self) -> Any:
        return self._made


def _refused(error: ApiError) -> bool:
    return refuses_keys(error.code)


def send_signed(
    source: CredentialSource, send: Callable[[Any], T], refused: Callable[[ApiError], bool] = _refused
) -> T:
    """Send a request with the keys of a source, and once more if they are refused and others can be had.

    What was refused for its keys was not carried out, so this holds for writes, too.

    :param source: whose keys to sign with.
    :param send: sends the request, given a credential.
    :param refused: whether an error may be about the keys.
    """
    credential = source.get()
    try:
        return send(credential)
    except ApiError as error:
        if not (refused(error) and source.discard(credential)):
            raise
    return send(source.get())


async def asend_signed(source: CredentialSource, send: Callable[[Any], Awaitable[T]]) -> T:
    """Send a request without blocking the event loop; see :func:`send_signed`."""
    credential = await source.aget()
    try:
        return await send(credential)
    except ApiError as error:
        if not (_refused(error) and source.discard(credential)):
            raise
    return await send(await source.aget())
