from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_provider_tcbatch.client.auth.sources import (
    AssumeRole,
    CvmRole,
    DefaultChain,
    EnvironmentKeys,
    ProfileFile,
    StaticKeys,
)
from airflow_provider_tcbatch.client.limits import INTL_LIMITS
from airflow_provider_tcbatch.connection.settings import ConnectionSettings
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
from airflow_provider_tcbatch.policies.ownership.marks import Mark

ROLE = "qcs::cam::uin/100000000001:roleName/batch"


def read(login: str | None = "AKIDx", password: str | None = "secret", **extra: Any) -> ConnectionSettings:
    extra = {"region": "ap-guangzhou", **extra}
    connection = Connection(
        conn_id="prod", conn_type="tencentcloud", login=login, password=password, extra=json.dumps(extra)
    )
    return ConnectionSettings.read(connection)


def test_a_plain_connection_leads_to_the_public_service() -> None:
    settings = read()
    assert settings.api.endpoint("batch") == ("https", "batch.tencentcloudapi.com")
    assert settings.api.endpoint("tdmq") == ("https", "tdmq.tencentcloudapi.com")
    assert settings.cmq_endpoint == "https://cmq-gz.public.tencenttdmq.com"
    assert settings.event_topic is None
    assert isinstance(settings.credentials, StaticKeys)


@pytest.mark.parametrize(
    ("endpoint", "tdmq"),
    [
        ("batch.ap-guangzhou.tencentcloudapi.com", ("https", "tdmq.ap-guangzhou.tencentcloudapi.com")),
        ("https://batch.intl.tencentcloudapi.com", ("https", "tdmq.intl.tencentcloudapi.com")),
        ("http://127.0.0.1:8095", ("http", "127.0.0.1:8095")),
    ],
)
def test_the_tdmq_api_is_beside_the_batch_api(endpoint: str, tdmq: tuple[str, str]) -> None:
    assert read(endpoint=endpoint).api.endpoint("tdmq") == tdmq


def test_empty_fields_of_the_form_are_as_if_absent() -> None:
    settings = read(zone="", event_topic="", api_share="", proxy=None)
    assert (settings.zone, settings.event_topic, settings.api.share, settings.api.proxy) == (None, None, 0.5, None)


def test_without_keys_the_machines_own_are_used() -> None:
    assert isinstance(read(login=None, password=None).credentials, DefaultChain)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("default", DefaultChain), ("environment", EnvironmentKeys), ("profile", ProfileFile), ("cvm_role", CvmRole)],
)
def test_the_source_of_keys_can_be_chosen(kind: str, source: type) -> None:
    assert type(read(login=None, password=None, credentials=kind).credentials) is source


def test_a_role_is_assumed_with_the_keys_of_the_connection() -> None:
    credentials = read(role_arn=ROLE, role_duration=3600, root_domain="intl.tencentcloudapi.com").credentials
    assert isinstance(credentials, AssumeRole)
    assert ROLE in credentials.identity
    assert "secret" not in credentials.identity


def test_no_keys_anywhere_names_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    chain = DefaultChain(metadata="http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"No credentials.*Login.*Password"):
        chain.get()


def test_the_rates_can_be_chosen() -> None:
    assert read(api_limits="intl").api.limits is INTL_LIMITS
    for own in ({"DescribeJobs": 3}, '{"DescribeJobs": 3}'):
        limits = read(api_limits=own).api.limits
        assert (limits["DescribeJobs"], limits["SubmitJob"]) == (3, 20)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"region": ""}, "field region"),
        ({"login": None}, "Login"),
        ({"password": None}, "Password"),
        ({"credentials": "moon"}, "credentials"),
        ({"credentials": "environment"}, "credentials"),
        ({"role_arn": "batch"}, "role_arn"),
        ({"role_arn": "qcs::cam::uin/1:roleName/b", "role_duration": "long"}, "role_duration"),
        ({"api_share": "2"}, "api_share"),
        ({"api_share": "much"}, "api_share"),
        ({"api_limits": "moon"}, "api_limits"),
        ({"api_limits": {"DescribeJobs": 0}}, "api_limits"),
        ({"api_limits": [1]}, "api_limits"),
    ],
)
def test_a_wrong_field_is_named_with_its_connection(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field) as caught:
        read(**wrong)
    assert "'prod'" in str(caught.value) or "role_arn" in str(caught.value)


def test_a_mistyped_field_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(event_topik="x")
    assert "did you mean event_topic?" in caplog.text


def test_waits_share_a_watcher_only_for_one_account_region_and_topic() -> None:
    assert read().watcher_key == read(zone="ap-guangzhou-4").watcher_key
    others = [read(password="other"), read(region="ap-beijing"), read(event_topic="t"), read(event_queue="q")]
    assert len({read().watcher_key, *(other.watcher_key for other in others)}) == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"token": "t"},
        {"endpoint": "https://batch.example.com"},
        {"tdmq_endpoint": "https://tdmq.example.com"},
        {"cmq_endpoint": "https://cmq.example.com"},
        {"root_domain": "intl.tencentcloudapi.com"},
        {"proxy": "http://proxy.example.com:3128"},
        {"ca_file": "/etc/ca.pem"},
        {"role_arn": ROLE},
        {"role_arn": ROLE, "sts_endpoint": "sts.example.com"},
        {"role_arn": ROLE, "role_duration": 900},
        {"role_arn": ROLE, "role_session_name": "other"},
    ],
    ids=str,
)
def test_a_field_that_is_changed_holds_for_the_waits_that_begin_then(changed: dict[str, Any]) -> None:
    """Those that go on share the watcher of before, which knows nothing of it."""
    before = [read().watcher_key, *([read(role_arn=ROLE).watcher_key] if len(changed) > 1 else [])]
    assert read(**changed).watcher_key not in before


@pytest.mark.parametrize("kind", ["default", "profile"])
def test_another_sts_is_asked_by_another_watcher(kind: str) -> None:
    keys = [read(None, None, credentials=kind, sts_endpoint=sts).watcher_key for sts in ("", "sts.example.com")]
    assert keys[0] != keys[1]


def test_no_secret_is_in_the_settings_text() -> None:
    text = repr(read(password="very-secret", token="also-secret"))
    assert "very-secret" not in text
    assert "also-secret" not in text


#: A page of each kind, as an operator asks for it, by field of the connection.
PAGES: dict[str, Callable[[ConnectionSettings], str]] = {
    "console_url": lambda settings: settings.job_url("job-1"),
    "console_env_url": lambda settings: settings.env_url("env-1"),
    "console_template_url": lambda settings: settings.template_url("task-tmpl-1"),
    "console_cos_url": lambda settings: settings.cos_url("logs-1250000000", "a b/ü/"),
}


@pytest.mark.parametrize(
    ("field", "template", "url"),
    [
        ("console_url", None, "https://console.cloud.tencent.com/batch/job?rid=1"),
        ("console_url", "https://c/{region}/{job_id}?r={rid}", "https://c/ap-guangzhou/job-1?r=1"),
        ("console_url", "https://c/same-for-all", "https://c/same-for-all"),
        ("console_env_url", None, "https://console.cloud.tencent.com/batch/env?rid=1"),
        ("console_env_url", "https://c/{region}/{env_id}", "https://c/ap-guangzhou/env-1"),
        ("console_template_url", None, "https://console.cloud.tencent.com/batch/task?rid=1"),
        ("console_template_url", "https://c/{task_template_id}?r={rid}", "https://c/task-tmpl-1?r=1"),
        (
            "console_cos_url",
            None,
            "https://console.cloud.tencent.com/cos/bucket?bucket=logs-1250000000&region=ap-guangzhou"
            "&path=a%20b%2F%C3%BC%2F",
        ),
        ("console_cos_url", "https://c/{bucket}/{path}", "https://c/logs-1250000000/a%20b%2F%C3%BC%2F"),
    ],
)
def test_the_pages_of_the_console_have_templates(field: str, template: str | None, url: str) -> None:
    settings = read(**({field: template} if template else {}))
    assert PAGES[field](settings) == url
    settings.check_pages()


@pytest.mark.parametrize("field", PAGES)
def test_a_page_in_a_region_whose_number_is_not_known_has_none_in_it(field: str) -> None:
    url = PAGES[field](read(region="na-nowhere"))
    assert "rid" not in url
    assert url.startswith("https://console.cloud.tencent.com/")


@pytest.mark.parametrize("field", PAGES)
@pytest.mark.parametrize(
    "template", ["https://{nonsense}", "https://{}", "https://{0}", "https://{region.x}", "https://{region[a]}", "{"]
)
def test_a_wrong_console_template_names_the_field(field: str, template: str) -> None:
    settings = read(**{field: template})
    with pytest.raises(ConfigurationError, match=rf"Field {field} of connection 'prod'.*\{{region\}}"):
        PAGES[field](settings)
    with pytest.raises(ConfigurationError, match=field):
        settings.check_pages()


@pytest.mark.parametrize(
    ("field", "mark"), [(None, "tag"), ("", "tag"), ("tag", "tag"), ("name", "name"), ("none", "none")]
)
def test_where_a_job_says_whose_it_is_can_be_chosen(field: str | None, mark: str) -> None:
    assert read(**({} if field is None else {"ownership_mark": field})).mark is Mark(mark)


def test_a_wrong_mark_names_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"ownership_mark of connection 'prod' is 'flag'.*tag, name, none"):
        read(ownership_mark="flag")


def test_a_region_without_a_known_cmq_address_names_the_field() -> None:
    with pytest.raises(ConfigurationError, match="cmq_endpoint"):
        read(region="xx-nowhere").cmq_client()


def test_test_connection_tells_good_from_bad(
    emulator: Emulator, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, message = TencentCloudHook().test_connection()
    assert good, message
    wrong = json.loads(emulator.info.airflow_conn_json)
    wrong["password"] = "wrong"
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(wrong))
    bad, message = TencentCloudHook("wrong").test_connection()
    assert not bad
    assert "Password" in message
    assert "'wrong'" in message


async def test_the_connection_can_be_read_on_the_event_loop(connection: str) -> None:
    assert (await TencentCloudHook().asettings()).zone == "ap-guangzhou-3"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("region_name", "region"),
        ("aws_region", "region"),
        ("session_token", "token"),
        ("endpoint_url", "endpoint"),
        ("verify", "ca_file"),
        ("CaBundle", "ca_file"),
        ("https_proxy", "proxy"),
        ("duration_seconds", "role_duration"),
        ("profileName", "profile"),
        ("TENCENTCLOUD_REGION", "region"),
        ("secret_id", "field Login of the connection, outside of Extra"),
        ("SecretKey", "field Password of the connection, outside of Extra"),
        ("event_topik", "event_topic"),
    ],
)
def test_what_other_tools_call_a_field_leads_to_it(caplog: pytest.LogCaptureFixture, written: str, meant: str) -> None:
    with caplog.at_level(logging.WARNING):
        read(**{written: "not-to-be-logged"})
    assert f"field {written!r} of Extra is not known; did you mean {meant}?" in caplog.text
    assert "not-to-be-logged" not in caplog.text


def test_what_stands_in_the_wrong_place_is_named_where_the_right_one_is_empty() -> None:
    connection = Connection(
        conn_id="prod",
        conn_type="tencentcloud",
        host="ap-guangzhou",
        password="x",
        extra=json.dumps({"region_name": "ap-guangzhou", "secretId": "AKIDx"}),
    )
    with pytest.raises(ConfigurationError, match=r"No region.*Not looked at: region_name, host of the connection"):
        ConnectionSettings.read(connection)
    with pytest.raises(ConfigurationError, match=r"field Login|Field Login.*Not looked at: secretId"):
        ConnectionSettings.read(connection, region="ap-guangzhou")


@pytest.mark.parametrize("extra", [[{"region": "ap-guangzhou"}], "ap-guangzhou", 5])
def test_extra_that_is_no_object_is_an_error_that_says_so(extra: Any) -> None:
    connection = Connection(conn_id="prod", conn_type="tencentcloud", extra=json.dumps(extra))
    with pytest.raises(
        ConfigurationError, match=r"Extra of connection 'prod' is a JSON (list|str|int): write an object"
    ):
        ConnectionSettings.read(connection)
