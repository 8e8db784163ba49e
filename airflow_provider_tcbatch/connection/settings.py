"""A connection's settings: its fields, what they mean, and the keys it names."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from airflow.sdk.log import mask_secret

from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.keys import CredentialSource, StaticKeys
from airflow_provider_tcbatch.client.endpoints import CosSettings, default_endpoint
from airflow_provider_tcbatch.client.limits import CN_LIMITS, INTL_LIMITS
from airflow_provider_tcbatch.connection.deployment import api_patience
from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.policies.ownership.marks import Mark

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow.sdk import Connection

    from airflow_provider_tcbatch.client.cmq import CmqClient
    from airflow_provider_tcbatch.client.cos import CosClient

__all__ = ["FIELDS", "ConnectionSettings", "log"]


log = logging.getLogger(__name__)

#: Everything that may stand in Extra.
FIELDS = (
    "region",
    "zone",
    "token",
    "credentials",
    "profile",
    "cvm_role",
    "role_arn",
    "role_session_name",
    "role_duration",
    "sts_endpoint",
    "endpoint",
    "tdmq_endpoint",
    "cmq_endpoint",
    "cos_endpoint",
    "root_domain",
    "event_topic",
    "event_queue",
    "api_limits",
    "api_share",
    "proxy",
    "ca_file",
    "console_url",
    "console_env_url",
    "console_template_url",
    "console_cos_url",
    "ownership_mark",
)

#: What other clouds and other tools call a field; ``Login`` and ``Password`` stand outside of Extra.
_CALLED_ELSEWHERE = {
    "Login": ("secret_id", "access_key_id", "aws_access_key_id", "access_key", "access_id", "ak", "akid"),
    "Password": ("secret_key", "secret_access_key", "aws_secret_access_key", "access_key_secret", "secret", "sk"),
    "token": ("session_token", "aws_session_token", "security_token", "sts_token", "x_cos_security_token"),
    "region": ("region_name", "region_id", "aws_region", "default_region", "cos_region", "location"),
    "zone": ("zone_id", "zone_name", "availability_zone", "az"),
    "profile": ("profile_name", "aws_profile"),
    "cvm_role": ("role_name", "ram_role", "ecs_ram_role", "instance_role", "cvm_role_name"),
    "role_arn": ("role", "assume_role", "assume_role_arn"),
    "role_session_name": ("session_name", "assume_role_session_name"),
    "role_duration": ("duration_seconds", "session_duration", "assume_role_session_duration"),
    "endpoint": ("endpoint_url", "base_url", "api_endpoint", "batch_endpoint", "host", "url"),
    "cos_endpoint": ("s3_endpoint", "cos_host", "cos_url", "oss_endpoint"),
    "cmq_endpoint": ("queue_endpoint", "cmq_url", "sqs_endpoint"),
    "root_domain": ("domain", "site"),
    "event_topic": ("topic", "topic_name", "cmq_topic"),
    "event_queue": ("queue", "queue_name", "cmq_queue"),
    "proxy": ("proxies", "http_proxy", "https_proxy", "proxy_url"),
    "ca_file": ("verify", "verify_ssl", "ca_bundle", "ca_cert", "ca_certs", "cafile", "ssl_ca", "certification"),
    "credentials": ("auth", "auth_type", "credential_type", "credentials_type"),
}

#: Where the region selector of Tencent's console stands, by region (``rid`` in its addresses).
_CONSOLE_REGIONS = {
    "ap-guangzhou": 1,
    "ap-shanghai": 4,
    "ap-hongkong": 5,
    "ap-beijing": 8,
    "ap-singapore": 9,
    "ap-chengdu": 16,
    "ap-chongqing": 19,
    "ap-nanjing": 33,
}

_CONSOLE = "https://console.cloud.tencent.com/"

#: Where the console's pages are, and what is added where the number of the region is known. The lists of jobs,
#: templates and environments have the addresses that Tencent's guides link to ("Job Management" and "Task Template
#: Management" of Batch, "Spot Instances" of CVM, on both sites). They print no address of a single job's page.
_PAGES = {
    "job": ("batch/job", "?rid={rid}"),
    "env": ("batch/env", "?rid={rid}"),
    "template": ("batch/task", "?rid={rid}"),
    "cos": ("cos/bucket?bucket={bucket}&region={region}&path={path}", ""),
}

#: Fields of the connection that hold other addresses.
_PAGE_FIELDS = {
    "job": "console_url",
    "env": "console_env_url",
    "template": "console_template_url",
    "cos": "console_cos_url",
}


@dataclass(frozen=True)
class ConnectionSettings:
    """A connection, read and checked; makes the clients.

    :param conn_id: id of the connection, for messages.
    :param credentials: keys.
    :param api: where API 3.0 requests go.
    :param cos: where COS is.
    :param cmq_endpoint: address of CMQ's data plane; ``None`` where it is not known.
    :param zone: availability zone for jobs that name none.
    :param event_topic: topic that jobs publish to; ``None`` to wait by polling alone.
    :param event_queue: name of a shared event queue; ``None`` for a queue of each process' own.
    :param pages: templates of console pages, by kind: job, env, template, cos.
    :param mark: where jobs say whose they are.
    """

    conn_id: str
    credentials: CredentialSource
    api: ApiSettings
    cos: CosSettings
    cmq_endpoint: str | None
    zone: str | None
    event_topic: str | None
    event_queue: str | None
    pages: Mapping[str, str]
    mark: Mark = Mark.TAG

    @classmethod
    def read(cls, connection: Connection, region: str | None = None) -> ConnectionSettings:
        """Read an Airflow connection.

        :param connection: the connection.
        :param region: region that an operator asks for; overrides the connection's.
        :raises ConfigurationError: naming the field that is missing or wrong.
        """
        conn_id = connection.conn_id
        called = f"connection {conn_id!r}"
        extra = _fields(connection.extra_dejson, conn_id)
        region = region or extra.get("region")
        if not region:
            raise ConfigurationError(
                f"No region: set field region of {called} (such as ap-guangzhou), or the operator's argument region"
                + _given_instead(connection, "region")
            )
        proxy = extra.get("proxy")
        endpoint = extra.get("endpoint")
        endpoints = {"batch": endpoint, "tdmq": extra.get("tdmq_endpoint") or _sibling(endpoint)}
        return cls(
            conn_id=conn_id,
            credentials=_credentials(connection, extra, called),
            api=ApiSettings(
                region=region,
                endpoints={service: address for service, address in endpoints.items() if address},
                root_domain=extra.get("root_domain") or "tencentcloudapi.com",
                proxy=proxy,
                ca_file=extra.get("ca_file"),
                limits=_limits(extra.get("api_limits"), called),
                share=_share(extra.get("api_share"), called),
                connection=called,
                patience=api_patience(),
            ),
            cos=CosSettings(
                region=region,
                endpoint=extra.get("cos_endpoint"),
                proxy=proxy,
                ca_file=extra.get("ca_file"),
                connection=called,
            ),
            cmq_endpoint=extra.get("cmq_endpoint") or default_endpoint(region),
            zone=extra.get("zone"),
            event_topic=extra.get("event_topic"),
            event_queue=extra.get("event_queue"),
            pages={kind: extra[name] for kind, name in _PAGE_FIELDS.items() if name in extra},
            mark=_mark(extra.get("ownership_mark"), called),
        )

    @cached_property
    def watcher_key(self) -> Hashable:
        """Waits with equal keys share one watcher."""
        return (
            self.credentials.identity,
            self.api.region,
            self.api.endpoint("batch"),
            self.api.endpoint("tdmq"),
            self.api.proxy,
            self.api.ca_file,
            self.api.share,
            tuple(sorted(self.api.limits.items())),
            self.cmq_endpoint,
            self.event_topic,
            self.event_queue,
        )

    def api_client(self) -> ApiClient:
        """Make a client for API 3.0."""
        return ApiClient(self.credentials, self.api)

    def cos_client(self) -> CosClient:
        """Make a client for COS."""
        from airflow_provider_tcbatch.client.cos import CosClient

        return CosClient(self.credentials, self.cos)

    def cmq_client(self) -> CmqClient:
        """Make a client for CMQ's data plane.

        :raises ConfigurationError: if no address is known for the region.
        """
        if not self.cmq_endpoint:
            raise ConfigurationError(
                f"No CMQ address is known for region {self.api.region}: set field cmq_endpoint of connection "
                f"{self.conn_id!r} to the console's 'API request address'"
            )
        from airflow_provider_tcbatch.client.cmq import CmqClient

        return CmqClient(
            self.credentials,
            self.cmq_endpoint,
            connection=f"connection {self.conn_id!r}",
            proxy=self.api.proxy,
            ca_file=self.api.ca_file,
        )

    def job_url(self, job_id: str) -> str:
        """Console page of a job.

        The address of a job's own page is not documented, so the default is the list of jobs in its region.
        """
        return self._page("job", job_id=job_id)

    def env_url(self, env_id: str) -> str:
        """Console page of a compute environment; by default the list of environments."""
        return self._page("env", env_id=env_id)

    def template_url(self, task_template_id: str) -> str:
        """Console page of a task template; by default the list of templates."""
        return self._page("template", task_template_id=task_template_id)

    def cos_url(self, bucket: str, key: str) -> str:
        """Console page of a folder in COS."""
        return self._page("cos", bucket=bucket, path=quote(key, safe=""))

    def check_pages(self) -> None:
        """Find a wrong address now, while there is no job yet.

        :raises ConfigurationError: naming the field.
        """
        self.job_url("")
        self.env_url("")
        self.template_url("")
        self.cos_url("", "")

    def _page(self, kind: str, **values: str) -> str:
        rid = _CONSOLE_REGIONS.get(self.api.region, "")
        template = self.pages.get(kind) or _CONSOLE + _PAGES[kind][0] + ("" if rid == "" else _PAGES[kind][1])
        values |= {"region": self.api.region, "rid": str(rid)}
        try:
            return template.format(**values)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise ConfigurationError(
                f"Field {_PAGE_FIELDS[kind]} of connection {self.conn_id!r} may hold {known} only "
                f"({type(error).__name__}: {error})"
            ) from None


def _fields(extra: object, conn_id: str) -> dict[str, str]:
    """The fields of Extra, as text.

    :raises ConfigurationError: if Extra is no JSON object.
    """
    if not isinstance(extra, Mapping):
        raise ConfigurationError(
            f"Extra of connection {conn_id!r} is a JSON {type(extra).__name__}: write an object, such as "
            '{"region": "ap-guangzhou"}'
        )
    for name in extra:
        if name not in FIELDS:
            meant = _meant(str(name))
            hint = "" if meant is None else f"; did you mean {meant}?"
            log.warning("Connection %r: field %r of Extra is not known%s", conn_id, name, hint)
    # The form of the UI stores fields that were left empty as "".
    return {
        name: value.strip() if isinstance(value, str) else json.dumps(value)
        for name, value in extra.items()
        if value not in (None, "")
    }


def _meant(name: str) -> str | None:
    """Which field is meant by another name: as other tools call it, or misspelt."""
    plain = re.sub("[^a-z0-9]", "", name.lower()).removeprefix("tencentcloud")
    for field, others in _CALLED_ELSEWHERE.items():
        if plain in (field.lower().replace("_", ""), *(other.replace("_", "") for other in others)):
            return f"field {field} of the connection, outside of Extra" if field in ("Login", "Password") else field
    import difflib

    return next(iter(difflib.get_close_matches(name, FIELDS, n=1)), None)


def _given_instead(connection: Connection, *fields: str) -> str:
    """What was given in the place of missing fields, as an addition to a message."""
    others = [str(name) for name in connection.extra_dejson if name not in FIELDS]
    found = [name for name in others if (meant := _meant(name)) and any(field in meant.split() for field in fields)]
    # Not their values: one of them may hold a secret.
    found += [f"{name} of the connection" for name in ("host", "schema", "port") if getattr(connection, name, None)]
    return f". Not looked at: {', '.join(found)}" if found else ""


def _credentials(connection: Connection, extra: Mapping[str, str], called: str) -> CredentialSource:
    """The source of keys that a connection chooses."""
    source = _base_credentials(connection, extra, called)
    source.mask = _mask
    with contextlib.suppress(ValueError):  # a proxy that is no address is told when it is used
        if password := urlsplit(extra.get("proxy", "")).password:
            source.others = tuple({password, unquote(password)})
    if "role_arn" not in extra:
        return source
    from airflow_provider_tcbatch.client.auth.roles import AssumeRole

    options: dict[str, Any] = {}
    if "role_session_name" in extra:
        options["session_name"] = extra["role_session_name"]
    if "role_duration" in extra:
        options["duration"] = _whole("role_duration", extra["role_duration"], called)
    region = extra.get("region") or "ap-guangzhou"
    role = AssumeRole(
        source,
        extra["role_arn"],
        endpoint=_sts(extra),
        region=region,
        proxy=extra.get("proxy"),
        ca_file=extra.get("ca_file"),
        **options,
    )
    role.mask = _mask
    return role


def _mask(secret: str) -> None:
    """Keep a secret out of the log; called by whichever thread reads keys first.

    Airflow's ``mask_secret`` also tells the supervisor. Before 3.3 a message to it from another thread mixes with those
    of the main one, and a triggerer dies of it ("Response read out of order"): there the secret is masked in this
    process only, which is the one that logs.
    """
    from airflow.sdk.execution_time import context

    if hasattr(context, "NEVER_EXPIRE") or threading.current_thread() is threading.main_thread():
        mask_secret(secret)
        return
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    _secrets_masker().add_mask(secret)


def _base_credentials(connection: Connection, extra: Mapping[str, str], called: str) -> CredentialSource:
    given = bool(connection.login or connection.password)
    kind = extra.get("credentials") or ("keys" if given else "default")
    if kind in _SOURCES:
        if given:
            raise ConfigurationError(
                f"Field credentials of {called} is {kind!r}, but Login or Password is set: clear them, or write keys"
            )
        return _source(kind, extra)
    if kind != "keys":
        known = ", ".join(("keys", *_SOURCES))
        raise ConfigurationError(f"Field credentials of {called} is {kind!r}: write one of {known}")
    if not connection.login:
        instead = _given_instead(connection, "Login")
        raise ConfigurationError(f"Field Login (the SecretId) of {called} is empty{instead}")
    if not connection.password:
        instead = _given_instead(connection, "Password")
        raise ConfigurationError(f"Field Password (the SecretKey) of {called} is empty{instead}")
    return StaticKeys(
        connection.login, connection.password, extra.get("token"), description=f"fields Login and Password of {called}"
    )


#: Where keys may come from if not from Login and Password: values of field ``credentials``.
_SOURCES = ("default", "environment", "profile", "cvm_role", "tke_oidc")


def _source(kind: str, extra: Mapping[str, str]) -> CredentialSource:
    # Most connections hold keys, and need none of these.
    from airflow_provider_tcbatch.client.auth import sources

    if kind == "environment":
        return sources.EnvironmentKeys()
    if kind == "profile":
        return sources.ProfileFile(extra.get("profile"), sts=_sts(extra))
    if kind == "cvm_role":
        return sources.CvmRole(extra.get("cvm_role"))
    if kind == "tke_oidc":
        return sources.TkeOidc(endpoint=_sts(extra), proxy=extra.get("proxy"), ca_file=extra.get("ca_file"))
    return sources.DefaultChain(extra.get("profile"), sts=_sts(extra))


def _sts(extra: Mapping[str, str]) -> str:
    return extra.get("sts_endpoint") or f"sts.{extra.get('root_domain') or 'tencentcloudapi.com'}"


def _whole(name: str, value: str, called: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ConfigurationError(f"Field {name} of {called} is {value!r}: write whole seconds") from None


def _sibling(endpoint: str | None) -> str | None:
    """Address of the TDMQ API beside a Batch endpoint; an emulator serves both at one address."""
    return endpoint.replace("//batch.", "//tdmq.") if endpoint and "//" in endpoint else _renamed(endpoint)


def _renamed(host: str | None) -> str | None:
    return f"tdmq.{host.removeprefix('batch.')}" if host and host.startswith("batch.") else host


def _limits(value: str | None, called: str) -> Mapping[str, float]:
    """``cn``, ``intl``, or a JSON object of requests per second by action, on top of ``cn``."""
    known = {"cn": CN_LIMITS, "intl": INTL_LIMITS}
    if value is None or value in known:
        return known[value or "cn"]
    try:
        own = {str(action): float(rate) for action, rate in json.loads(value).items()}
        if min(own.values()) <= 0:
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            f"Field api_limits of {called} is {value!r}: write cn, intl, or requests per second by action such as "
            '{"DescribeJobs": 5}'
        ) from None
    return {**CN_LIMITS, **own}


def _mark(value: str | None, called: str) -> Mark:
    try:
        return Mark(value or Mark.TAG)
    except ValueError:
        known = ", ".join(mark.value for mark in Mark)
        raise ConfigurationError(f"Field ownership_mark of {called} is {value!r}: write one of {known}") from None


def _share(value: str | None, called: str) -> float:
    try:
        share = float(value) if value else 0.5
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigurationError(f"Field api_share of {called} is {value!r}: write a number above 0 and at most 1")
    return share
