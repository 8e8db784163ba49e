"""Keys to sign with, and where they come from.

A source hands out :class:`Keys`: the same object until they are renewed. Keys that expire are renewed some
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

import configparser
import copy
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_tcbatch.client.auth.keys import (
    CredentialSource,
    EnvironmentKeys,
    Keys,
    Renewing,
    StaticKeys,
    not_awaited,
    text_of,
)
from airflow_provider_tcbatch.client.auth.roles import METADATA, STS, AssumeRole, CvmRole, TkeOidc
from airflow_provider_tcbatch.exceptions import ConfigurationError, TCBatchError
from airflow_provider_tcbatch.models.bounds import CREDENTIALS

if TYPE_CHECKING:
    from typing_extensions import Self

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

#: Files are read again after this many seconds: somebody else may renew the keys in them.
_REREAD = 300.0

SourceT = TypeVar("SourceT", bound=CredentialSource)


class ProfileFile(Renewing):
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
        self.identity = f"profile:{self._profile}" + _elsewhere(sts)
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
                parser.read_string(text_of(file))
            except OSError:
                continue  # it is not there, or not for us
            except (configparser.Error, ValueError) as error:
                raise ConfigurationError(f"{file} can't be read as INI: {type(error).__name__}") from None
            if parser.has_section(self._profile):
                section = {name: value.strip().strip('"') for name, value in parser.items(self._profile)}
                # The SDK reads role_arn from this file and does nothing with it.
                return file, {name: section.get(name) for name in ("secret_id", "secret_key", "token")}
        if not self._tccli.is_file():
            return None
        try:
            text = text_of(self._tccli)
            CREDENTIALS.check(text)
            values = json.loads(text)
        except (ValueError, OSError) as error:
            raise ConfigurationError(f"{self._tccli} can't be read as JSON: {type(error).__name__}") from None
        if not isinstance(values, dict):
            raise ConfigurationError(f"{self._tccli} must hold a JSON object")
        # secretId, expiresAt and role-arn, as tccli spells them.
        snake = {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).replace("-", "_").lower(): values[name] for name in values}
        return self._tccli, snake


class DefaultChain(CredentialSource):
    """What Tencent's tools use when no keys are given: environment, profile file, role of the pod, role of the machine.

    The first that is there is used from then on; one that is there but wrong is an error and not skipped.

    :param profile: profile to look for in files.
    :param metadata: address of the machine's metadata.
    :param sts: host, or URL, of STS.
    """

    description = "default credentials"

    def __init__(self, profile: str | None = None, *, metadata: str = METADATA, sts: str = STS) -> None:
        self.identity = (f"default-chain:{profile}" if profile else "default-chain") + _elsewhere(sts)
        self._profile = profile
        self._metadata = metadata
        self._sts = sts
        self._lock = threading.Lock()
        self._found: CredentialSource | None = None
        #: What this one is apart from.
        self._origin: DefaultChain | None = None

    @property
    def _chosen(self) -> CredentialSource | None:
        if self._found is None and self._origin is not None and self._origin._chosen is not None:
            self._found = self._origin._chosen.apart()
        return self._found

    def get(self) -> Any:
        with self._lock:
            if (chosen := self._chosen) is None:
                chosen = self._choose()
                credential = chosen.get()
                self._found = chosen
                return credential
        return chosen.get()

    def ready(self) -> Any:
        return self._chosen.ready() if self._chosen else None

    def discard(self, credential: Any) -> bool:
        return self._chosen.discard(credential) if self._chosen else False

    def renews(self) -> bool:
        return self._chosen.renews() if self._chosen else False

    def apart(self) -> Self:
        twin = copy.copy(self)
        twin._lock = threading.Lock()
        twin._found, twin._origin = None, self
        twin.mask = not_awaited(self.mask)
        return twin

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


def _elsewhere(sts: str) -> str:
    """What an identity says of an STS that is not the usual one."""
    return "" if sts == STS else f":{sts}"
