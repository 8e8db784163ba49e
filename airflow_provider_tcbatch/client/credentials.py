"""Keys to sign with, and where they come from.

A source hands out SDK credential objects. Static keys cost nothing; the others may do network I/O when
they refresh, so coroutines ask for them in a thread, never on the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from typing import Any

from airflow_provider_tcbatch.exceptions import ConfigurationError

__all__ = ["CredentialSource", "DefaultChain", "StaticKeys"]


class CredentialSource(ABC):
    """Where keys come from."""

    #: Short text without secrets that tells sources apart; part of the key of shared watchers.
    identity: str

    @abstractmethod
    def get(self) -> Any:
        """Return a credential object of the SDK (``secret_id``, ``secret_key``, ``token``).

        :raises ConfigurationError: if there are no keys to be had.
        """

    async def aget(self) -> Any:
        """Return what :meth:`get` returns without blocking the event loop."""
        return await asyncio.to_thread(self.get)


class StaticKeys(CredentialSource):
    """A key pair, or a temporary key pair with its token.

    :param secret_id: SecretId.
    :param secret_key: SecretKey.
    :param token: session token of temporary keys.
    """

    def __init__(self, secret_id: str, secret_key: str, token: str | None = None) -> None:
        self._keys = (secret_id, secret_key, token or None)
        digest = hashlib.sha256("\0".join(key or "" for key in self._keys).encode()).hexdigest()[:16]
        self.identity = f"keys:{digest}"
        self._credential: Any = None

    def get(self) -> Any:
        if self._credential is None:
            from tencentcloud.common import credential
            from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

            try:
                self._credential = credential.Credential(*self._keys)
            except TencentCloudSDKException as error:
                # The SDK refuses keys with blanks around them.
                raise ConfigurationError(
                    f"The SecretId or the SecretKey can't be used: {error.get_message()}. "
                    "Check fields Login and Password of the connection"
                ) from None
        return self._credential

    async def aget(self) -> Any:
        # The first import of the SDK takes long enough to be felt on an event loop.
        return self._credential or await super().aget()


class DefaultChain(CredentialSource):
    """What Tencent's tools use when no keys are given: environment, profile file, CVM role, TKE OIDC.

    ``TENCENTCLOUD_TOKEN`` is honoured together with the two key variables; the SDK's own provider
    drops it.
    """

    identity = "default-chain"

    def __init__(self) -> None:
        self._credential: Any = None

    def get(self) -> Any:
        if self._credential is None:
            self._credential = self._resolve()
        # Reading the properties is what makes the SDK refresh keys that expire.
        self._credential.get_credential_info()
        return self._credential

    def _resolve(self) -> Any:
        from tencentcloud.common import credential
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

        secret_id = os.environ.get("TENCENTCLOUD_SECRET_ID")
        secret_key = os.environ.get("TENCENTCLOUD_SECRET_KEY")
        if secret_id and secret_key:
            return credential.Credential(secret_id, secret_key, os.environ.get("TENCENTCLOUD_TOKEN"))
        try:
            return credential.DefaultCredentialProvider().get_credential()
        except (TencentCloudSDKException, AttributeError) as error:
            # AttributeError: a profile file without a [default] section.
            raise ConfigurationError(
                "No credentials: set Login (SecretId) and Password (SecretKey) of the connection, or give the "
                f"machine a CAM role, environment variables or a profile file ({error})"
            ) from None
