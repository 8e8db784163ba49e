"""Keys of CAM roles: of the machine, of a pod, and of roles that are taken on."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, build_opener

from airflow_provider_tcbatch.client.auth.keys import CredentialSource, Keys, Renewing, send_signed, text_of
from airflow_provider_tcbatch.client.auth.signing import signed
from airflow_provider_tcbatch.client.errors import api_error, network_code
from airflow_provider_tcbatch.client.http import blocking_http
from airflow_provider_tcbatch.exceptions import ApiError, ConfigurationError
from airflow_provider_tcbatch.models.bounds import CREDENTIALS

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["METADATA", "STS", "AssumeRole", "CvmRole", "TkeOidc"]

METADATA = "http://metadata.tencentyun.com"
STS = "sts.tencentcloudapi.com"

_SESSION_NAME = re.compile(r"[A-Za-z0-9_=,.@-]{2,128}")


class CvmRole(Renewing):
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
            until = time.monotonic() + 2 * self._timeout
            data = bytearray()
            # Each piece that comes may take the timeout.
            while piece := answer.read1(CREDENTIALS.size):
                data += piece
                CREDENTIALS.check_size(len(data))
                if time.monotonic() > until:
                    raise TimeoutError(f"not all of the answer came within {2 * self._timeout:g} s")
        CREDENTIALS.check(bytes(data))
        return data.decode("utf-8")


class _StsRole(Renewing):
    """Base of the sources that ask STS for the keys of a role.

    :param role_arn: ``qcs::cam::uin/<account>:roleName/<role>``.
    :param session_name: what audit logs call this use of the role.
    :param duration: seconds that the keys hold, at most 43200 (12 hours).
    :param region: region that STS is asked in.
    :param endpoint: host, or URL, of STS; ``sts.intl.tencentcloudapi.com`` on the international site.
    :param proxy: proxy URL; without one the usual environment variables hold.
    :param ca_file: certificates of the authorities to trust, as a PEM file; default is the usual ones.
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
        ca_file: str | None,
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
        self._ca_file = ca_file
        self._endpoint = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")

    def _keys(self, action: str, base: CredentialSource | None, params: Mapping[str, Any], advice: str) -> Keys:
        """Ask for keys.

        :param base: whose keys to ask with; ``None`` for an action that is not signed.
        """
        try:
            if base is None:
                return self._ask(action, None, params)
            return send_signed(base, lambda credential: self._ask(action, credential, params, base))
        except ApiError as error:
            if error.retryable:
                raise
            raise ConfigurationError(f"Role {self._role_arn} can't be used: {error}. What to do: {advice}") from None

    def _ask(
        self, action: str, credential: Any, params: Mapping[str, Any], base: CredentialSource | None = None
    ) -> Keys:
        try:
            answer = self._post(action, credential, {**self._params, **params})
            if (error := answer.get("Error")) is None:
                keys = answer["Credentials"]
                return Keys(keys["TmpSecretId"], keys["TmpSecretKey"], keys["Token"], float(answer["ExpiredTime"]))
            code, message, request_id = str(error["Code"]), str(error["Message"]), answer.get("RequestId")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Not what it holds: that may be keys.
            raise api_error("InternalError", f"no API answer ({type(error).__name__})", action=action) from None
        renewed_by = base.description if base is not None and base.renews() else None
        problem = api_error(code, message, action=action, request_id=request_id, renewed_by=renewed_by)
        if problem.retryable:
            raise problem
        # Whoever asked knows better what to look at.
        text = f"{action}: {code}: {message} (RequestId {request_id})"
        raise ApiError(text, code=code, action=action, request_id=request_id)

    def _post(self, action: str, keys: Keys | None, params: Mapping[str, Any]) -> Any:
        import httpx

        host = self._endpoint.netloc
        headers, body = signed(
            action, params, service="sts", version="2018-08-13", host=host, region=self._region, keys=keys
        )
        url = f"{self._endpoint.scheme}://{host}/"
        try:
            with blocking_http(self._proxy, self._ca_file, CREDENTIALS, url=url, timeout=30.0) as http:
                response = http.post(url, content=body, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise api_error(network_code(error), f"{type(error).__name__}: {error}", action=action) from None
        if response.status_code != 200:
            raise api_error("ServerNetworkError", f"HTTP {response.status_code}", action=action)
        return response.json()["Response"]


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
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(role_arn, session_name, duration, region, endpoint, proxy, ca_file, clock)
        self._base = base
        self.identity = f"role:{role_arn}:{session_name}:{duration}:{endpoint}:{base.identity}"
        self.description = f"role {role_arn}, assumed with {base.description}"

    def apart(self) -> Self:
        twin = super().apart()
        twin._base = self._base.apart()
        return twin

    def fetch(self) -> Keys:
        if self.mask is not None and self._base.mask is None:
            self._base.mask = self.mask
        return self._keys(
            "AssumeRole",
            self._base,
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
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        missing = [name for name in self._NAMES if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(
                f"No role for this pod: {', '.join(missing)} not set; TKE sets them where the pod's service account "
                "has a CAM role"
            )
        role_arn, self._provider, self._file, region = (os.environ[name] for name in self._NAMES)
        super().__init__(role_arn, session_name, duration, region, endpoint, proxy, ca_file, clock)
        self.identity = f"tke-oidc:{role_arn}:{session_name}:{duration}:{endpoint}"
        self.description = f"role {role_arn} of this pod's service account"

    @classmethod
    def found(cls) -> bool:
        """Whether TKE gave this pod a role."""
        return bool(os.environ.get("TKE_ROLE_ARN"))

    def fetch(self) -> Keys:
        try:
            token = text_of(Path(self._file)).strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"TKE_WEB_IDENTITY_TOKEN_FILE can't be read: {error}") from None
        return self._keys(
            "AssumeRoleWithWebIdentity",
            None,
            {"ProviderId": self._provider, "WebIdentityToken": token},
            "check the CAM role of the pod's service account and its identity provider",
        )
