"""Keys to sign with, and where they come from.

A source hands out SDK credential objects: the same object until its keys are renewed. Keys that expire are renewed some
minutes before, by one thread while the others wait; if that fails while the old ones still hold, they are used on.
Coroutines never do any of this on the event loop, and share what one of them has begun.

Keys are looked for in this order, unless a source is chosen:

1. a key pair given by hand (:class:`StaticKeys`), with the token of temporary keys;
2. environment variables (:class:`EnvironmentKeys`);
3. profile files of the SDK and of ``tccli`` (:class:`ProfileFile`);
4. the role of a Kubernetes pod in TKE (:class:`TkeOidc`);
5. the role of the machine (:class:`CvmRole`).

:class:`DefaultChain` is 2 to 5. The SDK asks for the machine's role before the pod's; here a role that was given to a
pod on purpose goes before the one of the machine that it happens to run on. :class:`AssumeRole` takes on another role
with the keys of any of them. Which source is used is logged once, without its keys.
"""

from __future__ import annotations

import asyncio
import configparser
import hashlib
import json
import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, build_opener

from airflow_provider_tcbatch.client.errors import api_error
from airflow_provider_tcbatch.exceptions import ConfigurationError, TCBatchError

__all__ = [
    "AssumeRole",
    "CredentialSource",
    "CvmRole",
    "DefaultChain",
    "EnvironmentKeys",
    "Keys",
    "ProfileFile",
    "StaticKeys",
    "TkeOidc",
]

log = logging.getLogger(__name__)

METADATA = "http://metadata.tencentyun.com"
STS = "sts.tencentcloudapi.com"

#: Keys are renewed this many seconds before they expire, or a quarter of their life before if that is less.
_MARGIN = 300.0
#: After a renewal that failed, the old keys are used on for this long before the next try.
_PAUSE = 30.0
#: Files are read again after this many seconds: somebody else may renew the keys in them.
_REREAD = 300.0

_SESSION_NAME = re.compile(r"[A-Za-z0-9_=,.@-]{2,128}")

#: Identities of the sources that were logged already.
_announced: set[str] = set()

SourceT = TypeVar("SourceT", bound="CredentialSource")


@dataclass(frozen=True)
class Keys:
    """A key pair.

    :param token: session token of temporary keys.
    :param expires_at: unix seconds; ``None`` for keys that last.
    :param reread_at: unix seconds when to look again, though the keys still hold.
    """

    secret_id: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    reread_at: float | None = None


class CredentialSource(ABC):
    """Where keys come from."""

    #: Short text without secrets that tells sources apart; part of the key of shared watchers.
    identity: str

    #: What people call it.
    description: str

    #: Told every secret that is about to be used, so that it can be kept out of logs.
    mask: Callable[[str], None] | None = None

    _shared: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None

    @abstractmethod
    def get(self) -> Any:
        """Return a credential object of the SDK (``secret_id``, ``secret_key``, ``token``).

        :raises ConfigurationError: if there are no keys to be had, naming what to set.
        :raises ApiError: if the service that gives them can't be reached or is too busy.
        """

    def ready(self) -> Any:
        """Return what :meth:`get` would return if that takes no time, else ``None``."""
        return None

    def discard(self, credential: Any) -> bool:
        """Forget keys that the service refused (AuthFailure.TokenFailure), if they are still the current ones.

        :param credential: what :meth:`get` returned.
        :return: whether asking again can give others.
        """
        return False

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

    def _credential(self, keys: Keys) -> Any:
        from tencentcloud.common import credential
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

        for secret in (keys.secret_key, keys.token):
            if secret and self.mask is not None:
                self.mask(secret)
        try:
            made = credential.Credential(keys.secret_id, keys.secret_key, keys.token)
        except TencentCloudSDKException as error:
            # The SDK refuses keys with blanks around them.
            raise ConfigurationError(
                f"The SecretId or the SecretKey of {self.description} can't be used: {error.get_message()}"
            ) from None
        if self.identity not in _announced:
            _announced.add(self.identity)
            log.info("Tencent Cloud keys come from %s", self.description)
        return made


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
        # The first import of the SDK takes long enough to be felt on an event loop.
        return self._made


@dataclass(frozen=True)
class _Held:
    """Keys in use; one object, so that a thread sees all of it or nothing."""

    credential: Any
    expires_at: float
    renew_at: float


class _Renewing(CredentialSource):
    """Base of the sources whose keys have to be fetched, and fetched again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: _Held | None = None

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
                self._held = self._renewed(self._held)
                credential = self._held.credential
            return credential

    def ready(self) -> Any:
        held = self._held
        return held.credential if held is not None and self._clock() < held.renew_at else None

    def discard(self, credential: Any) -> bool:
        with self._lock:
            if self._held is not None and self._held.credential is credential:
                self._held = None
        return True

    def _renewed(self, held: _Held | None) -> _Held:
        try:
            keys = self.fetch()
            credential = self._credential(keys)
        except TCBatchError as error:
            now = self._clock()
            if held is None or held.expires_at <= now:
                raise
            log.warning("Keys of %s could not be renewed, the old ones are used for now: %s", self.description, error)
            return replace(held, renew_at=min(now + _PAUSE, held.expires_at))
        expires_at = float("inf") if keys.expires_at is None else keys.expires_at
        early = expires_at - min(_MARGIN, (expires_at - self._clock()) / 4)
        return _Held(credential, expires_at, early if keys.reread_at is None else min(early, keys.reread_at))


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


class ProfileFile(_Renewing):
    """A profile in a file: the SDK's ``~/.tencentcloud/credentials``, then the same in ``/etc``, then ``tccli``'s.

    The SDK's files are INI with ``secret_id``, ``secret_key`` and (only here) ``token`` in a section per profile.
    ``~/.tccli/<profile>.credential`` is JSON, written by ``tccli configure`` or ``tccli auth login``. A role named in
    it is assumed. Keys of a login expire, and only tccli itself can renew them.

    :param profile: name of the profile; default is ``TCCLI_PROFILE``, else ``default``.
    :param files: INI files to look into.
    :param tccli: folder of tccli.
    :param sts: address of STS, for a role.
    :param metadata: address of the machine's metadata, for a profile that means the machine's role.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        files: tuple[str, ...] = ("~/.tencentcloud/credentials", "/etc/tencentcloud/credentials"),
        tccli: str = "~/.tccli",
        sts: str = STS,
        metadata: str = METADATA,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self._profile = profile or os.environ.get("TCCLI_PROFILE") or "default"
        self._files = [Path(os.path.expanduser(file)) for file in files]
        self._tccli = Path(os.path.expanduser(tccli)) / f"{self._profile}.credential"
        self._sts = sts
        self._metadata = metadata
        self.identity = f"profile:{self._profile}"
        self.description = f"profile {self._profile!r} of a credentials file"

    def found(self) -> bool:
        """Whether a file holds the profile."""
        return self._read() is not None

    def fetch(self) -> Keys:
        found = self._read()
        if found is None:
            raise ConfigurationError(
                f"No profile {self._profile!r}: write secret_id and secret_key into section [{self._profile}] of "
                f"{self._files[0] if self._files else self._tccli}, or run: tccli configure --profile {self._profile}"
            )
        file, values = found
        now = self._clock()
        if values.get("type") == "cvm-role":
            return CvmRole(endpoint=self._metadata, clock=self._clock).fetch()
        secret_id, secret_key, token = (values.get(name) for name in ("secret_id", "secret_key", "token"))
        if not secret_id or not secret_key:
            raise ConfigurationError(f"{file}: profile {self._profile!r} lacks the SecretId or the SecretKey")
        expires_at = values.get("expires_at")
        if isinstance(expires_at, (int, float)) and expires_at <= now:
            raise ConfigurationError(
                f"{file}: the keys of profile {self._profile!r} have expired: run tccli auth login"
            )
        if values.get("role_arn"):
            base = StaticKeys(secret_id, secret_key, token, description=self.description)
            session = values.get("role_session_name") or AssumeRole.SESSION
            return AssumeRole(base, values["role_arn"], session_name=session, endpoint=self._sts).fetch()
        return Keys(secret_id, secret_key, token or None, expires_at or None, now + _REREAD)

    def _read(self) -> tuple[Path, Mapping[str, Any]] | None:
        for file in self._files:
            # Without interpolation: a "%" may stand in a key. What stands under [DEFAULT] is no profile.
            parser = configparser.ConfigParser(interpolation=None)
            try:
                parser.read(file, encoding="utf-8")
            except (configparser.Error, ValueError, OSError) as error:
                raise ConfigurationError(f"{file} can't be read as INI: {type(error).__name__}") from None
            if parser.has_section(self._profile):
                section = {name: value.strip().strip('"') for name, value in parser.items(self._profile)}
                # The SDK reads role_arn from this file and does nothing with it.
                return file, {name: section.get(name) for name in ("secret_id", "secret_key", "token")}
        if not self._tccli.is_file():
            return None
        try:
            values = json.loads(self._tccli.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ConfigurationError(f"{self._tccli} can't be read as JSON: {type(error).__name__}") from None
        if not isinstance(values, dict):
            raise ConfigurationError(f"{self._tccli} must hold a JSON object")
        # secretId, expiresAt and role-arn, as tccli spells them.
        snake = {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).replace("-", "_").lower(): values[name] for name in values}
        return self._tccli, snake


class CvmRole(_Renewing):
    """The CAM role that is bound to this CVM instance, from the machine's metadata.

    :param role_name: name of the role; default is the one that is bound.
    :param endpoint: address of the metadata.
    :param timeout: seconds to wait for it: elsewhere than on a CVM instance nobody answers.
    """

    def __init__(
        self,
        role_name: str | None = None,
        *,
        endpoint: str = METADATA,
        timeout: float = 3.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self._role_name = role_name
        self._url = f"{endpoint.rstrip('/')}/latest/meta-data/cam/security-credentials/"
        self._timeout = timeout
        self.identity = f"cvm-role:{role_name or ''}"
        self.description = f"the CAM role {role_name!r} of this machine" if role_name else "this machine's CAM role"

    def fetch(self) -> Keys:
        try:
            role = self._role_name or self._get("").split("\n")[0].strip()
            answer = json.loads(self._get(quote(role)))
            if answer["Code"] != "Success":
                raise ValueError(f"Code is {answer['Code']}")
            return Keys(
                answer["TmpSecretId"], answer["TmpSecretKey"], answer["Token"], expires_at=float(answer["ExpiredTime"])
            )
        except HTTPError as error:
            error.close()
            if error.code >= 500:
                raise api_error("ServerNetworkError", f"HTTP {error.code}", action="GetRoleOfMachine") from None
            raise self._nothing(f"HTTP {error.code}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            # OSError: the network. Only what kind of error: an answer may hold keys.
            raise self._nothing(type(error).__name__) from None

    @staticmethod
    def _nothing(reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"No keys from this machine's metadata ({reason}): bind a CAM role to the CVM instance, or give the "
            "connection other credentials"
        )

    def _get(self, path: str) -> str:
        # Never through a proxy: the address means something on this machine only.
        with build_opener(ProxyHandler({})).open(self._url + path, timeout=self._timeout) as answer:
            text: str = answer.read().decode("utf-8")
        return text


class _StsRole(_Renewing):
    """Base of the sources that ask STS for the keys of a role.

    :param role_arn: ``qcs::cam::uin/<account>:roleName/<role>``.
    :param session_name: what audit logs call this use of the role.
    :param duration: seconds that the keys hold, at most 43200 (12 hours).
    :param region: region that STS is asked in.
    :param endpoint: host, or URL, of STS; ``sts.intl.tencentcloudapi.com`` on the international site.
    :param proxy: proxy URL; without one the usual environment variables hold.
    """

    SESSION = "airflow-tcbatch"

    def __init__(
        self,
        role_arn: str,
        session_name: str,
        duration: int,
        region: str,
        endpoint: str,
        proxy: str | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(clock)
        if not re.fullmatch(r"qcs::cam::uin/\d+:(roleName|role)/.+", role_arn):
            raise ConfigurationError(f"role_arn is {role_arn!r}: write qcs::cam::uin/<account>:roleName/<role>")
        if not _SESSION_NAME.fullmatch(session_name):
            raise ConfigurationError(
                f"role_session_name is {session_name!r}: write 2 to 128 letters, digits or characters of _=,.@-"
            )
        if not 0 < duration <= 43200:
            raise ConfigurationError(f"The duration of a role's keys is {duration}: write 1 to 43200 seconds")
        self._params = {"RoleArn": role_arn, "RoleSessionName": session_name, "DurationSeconds": duration}
        self._role_arn = role_arn
        self._region = region
        self._proxy = proxy
        self._endpoint = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")

    def _ask(self, action: str, credential: Any, params: Mapping[str, Any], advice: str, sign: bool = True) -> Keys:
        from tencentcloud.common.common_client import CommonClient
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
        from tencentcloud.common.profile.client_profile import ClientProfile
        from tencentcloud.common.profile.http_profile import HttpProfile

        http = HttpProfile(
            protocol=self._endpoint.scheme, endpoint=self._endpoint.netloc, reqTimeout=30, proxy=self._proxy
        )
        client = CommonClient(
            "sts", "2018-08-13", credential, self._region, ClientProfile(httpProfile=http, language="en-US")
        )
        try:
            with _quiet_sdk():
                body = client.call_json(action, {**self._params, **params}, options={"SkipSign": not sign})
            answer = body["Response"]
            if "Error" in answer:  # the SDK overlooks an error whose Content-Type carries a charset
                raise TencentCloudSDKException(
                    answer["Error"]["Code"], answer["Error"]["Message"], answer.get("RequestId")
                )
            keys = answer["Credentials"]
            return Keys(keys["TmpSecretId"], keys["TmpSecretKey"], keys["Token"], float(answer["ExpiredTime"]))
        except TencentCloudSDKException as error:
            problem = api_error(str(error.code), str(error.message), action=action, request_id=error.requestId)
            if problem.retryable:
                raise problem from None
            raise ConfigurationError(
                f"Role {self._role_arn} can't be used: {action}: {error.code}: {error.message} "
                f"(RequestId {error.requestId}). What to do: {advice}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            # Not what it holds: that may be keys.
            raise api_error("InternalError", f"no API answer ({type(error).__name__})", action=action) from None


class AssumeRole(_StsRole):
    """The keys of a role that another identity takes on.

    :param base: whose keys to ask with; they may be temporary themselves, which the SDK's own class can't do.

    The other parameters are those of :class:`_StsRole`.
    """

    def __init__(
        self,
        base: CredentialSource,
        role_arn: str,
        *,
        session_name: str = _StsRole.SESSION,
        duration: int = 7200,
        region: str = "ap-guangzhou",
        endpoint: str = STS,
        proxy: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(role_arn, session_name, duration, region, endpoint, proxy, clock)
        self._base = base
        self.identity = f"role:{role_arn}:{session_name}:{base.identity}"
        self.description = f"role {role_arn}, assumed with {base.description}"

    def fetch(self) -> Keys:
        if self.mask is not None and self._base.mask is None:
            self._base.mask = self.mask
        return self._ask(
            "AssumeRole",
            self._base.get(),
            {},
            "check role_arn, that the role's trust policy names the account of the base keys, and that these may call "
            "sts:AssumeRole",
        )


class TkeOidc(_StsRole):
    """The role of a pod's service account in Tencent Kubernetes Engine.

    TKE sets ``TKE_ROLE_ARN``, ``TKE_PROVIDER_ID``, ``TKE_WEB_IDENTITY_TOKEN_FILE`` and ``TKE_REGION``. The token in the
    file is replaced from time to time and read anew for each renewal. Parameters are those of :class:`_StsRole`.
    """

    _NAMES = ("TKE_ROLE_ARN", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_REGION")

    def __init__(
        self,
        *,
        session_name: str = _StsRole.SESSION,
        duration: int = 7200,
        endpoint: str = STS,
        proxy: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        missing = [name for name in self._NAMES if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(
                f"No role for this pod: {', '.join(missing)} not set; TKE sets them where the pod's service account "
                "has a CAM role"
            )
        role_arn, self._provider, self._file, region = (os.environ[name] for name in self._NAMES)
        super().__init__(role_arn, session_name, duration, region, endpoint, proxy, clock)
        self.identity = f"tke-oidc:{role_arn}:{session_name}"
        self.description = f"role {role_arn} of this pod's service account"

    @classmethod
    def found(cls) -> bool:
        """Whether TKE gave this pod a role."""
        return bool(os.environ.get("TKE_ROLE_ARN"))

    def fetch(self) -> Keys:
        try:
            token = Path(self._file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"TKE_WEB_IDENTITY_TOKEN_FILE can't be read: {error}") from None
        return self._ask(
            "AssumeRoleWithWebIdentity",
            None,
            {"ProviderId": self._provider, "WebIdentityToken": token},
            "check the CAM role of the pod's service account and its identity provider",
            sign=False,
        )


class DefaultChain(CredentialSource):
    """What Tencent's tools use when no keys are given: environment, profile file, role of the pod, role of the machine.

    The first that is there is used from then on; one that is there but wrong is an error and not skipped.

    :param profile: profile to look for in files.
    :param metadata: address of the machine's metadata.
    :param sts: host, or URL, of STS.
    """

    description = "default credentials"

    def __init__(self, profile: str | None = None, *, metadata: str = METADATA, sts: str = STS) -> None:
        self.identity = f"default-chain:{profile}" if profile else "default-chain"
        self._profile = profile
        self._metadata = metadata
        self._sts = sts
        self._lock = threading.Lock()
        self._chosen: CredentialSource | None = None

    def get(self) -> Any:
        with self._lock:
            if self._chosen is None:
                chosen = self._choose()
                credential = chosen.get()
                self._chosen = chosen
                return credential
        return self._chosen.get()

    def ready(self) -> Any:
        return self._chosen.ready() if self._chosen else None

    def discard(self, credential: Any) -> bool:
        return self._chosen.discard(credential) if self._chosen else False

    def _choose(self) -> CredentialSource:
        environment = self._masked(EnvironmentKeys())
        if environment.found():
            return environment
        profile = self._masked(ProfileFile(self._profile, sts=self._sts, metadata=self._metadata))
        # A profile that was asked for must be there.
        if self._profile or profile.found():
            return profile
        if TkeOidc.found():
            return self._masked(TkeOidc(endpoint=self._sts))
        machine = self._masked(CvmRole(endpoint=self._metadata))
        try:
            machine.get()
        except TCBatchError as error:
            raise ConfigurationError(
                "No credentials: set Login (SecretId) and Password (SecretKey) of the connection, or environment "
                "variables TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, or a profile file "
                f"(~/.tencentcloud/credentials), or a CAM role of the machine ({error})"
            ) from None
        return machine

    def _masked(self, source: SourceT) -> SourceT:
        source.mask = self.mask
        return source


class _OtherThreads(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def _quiet_sdk() -> Iterator[None]:
    """Keep the SDK from writing what STS answers, keys in clear, into the debug log."""
    logger, others = logging.getLogger("tencentcloud_sdk_common"), _OtherThreads()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
