"""The emulator's own pages, where the buttons of an Airflow lead that talks to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from airflow.sdk import Connection

from airflow_provider_tcbatch.connection.settings import ConnectionSettings
from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cos import CosHook

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def own() -> Iterator[Emulator]:
    """An emulator whose jobs end at once."""
    with Emulator(Settings(submitted_seconds=0.05, starting_seconds=0.02)) as running:
        yield running


@pytest.fixture
def settings(own: Emulator, monkeypatch: pytest.MonkeyPatch) -> ConnectionSettings:
    """The connection that the emulator offers."""
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", own.info.airflow_conn_json)
    return TCBatchHook().settings


def submit(own: Emulator, settings: ConnectionSettings, command: str, **more: Any) -> str:
    """A job that has ended."""
    machine = {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}
    application = {"DeliveryForm": "LOCAL", "Command": command}
    task = {"TaskName": "main", "Application": application, "ComputeEnv": {"EnvData": machine}, **more}
    job_id = TCBatchHook().submit_job({"JobName": "shown", "Tasks": [task]}, zone=settings.zone)
    own.wait_job(job_id, 30)
    return job_id


def text_of(address: str, status: int = 200) -> str:
    answer = httpx.get(address, trust_env=False)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    return answer.text


def follow(own: Emulator, page: str, words: str) -> str:
    """The page that a link leads to."""
    found = re.search(rf'<a href="([^"]+)">{re.escape(words)}</a>', page)
    assert found, page
    return text_of(own.info.endpoint + found[1].replace("&amp;", "&"))


def test_a_button_leads_to_the_job_its_instances_and_what_they_printed(
    own: Emulator, settings: ConnectionSettings
) -> None:
    command = f"echo 'out {SCRIPT}'; printf 'err \\033[2J <b>\\n' >&2; exit 3"
    job_id = submit(own, settings, command, TaskInstanceNum=2)
    page = text_of(settings.job_url(job_id))
    for words in (job_id, "shown", "FAILED", "main", "The command ended with exit code 3", "<td>3</td>"):
        assert words in page
    output = follow(own, page, "output")
    assert "out &lt;script&gt;alert(1)&lt;/script&gt;" in output
    assert "err \\x1b[2J &lt;b&gt;" in output
    back = follow(own, output, f"Job {job_id}")
    everything = follow(own, back, "All jobs")
    assert job_id in everything
    assert everything == text_of(own.info.console)


def test_long_output_and_many_instances_are_bounded(own: Emulator, settings: ConnectionSettings) -> None:
    own.configure(mode="simulate", simulated_seconds=0.0, capacity=1000)
    try:
        many = submit(own, settings, "true", TaskInstanceNum=500)
    finally:
        own.configure(mode="process")
    page = text_of(settings.job_url(many))
    assert page.count(">output</a>") == 200
    assert "300 more are not shown" in page
    loud = submit(own, settings, "head -c 1000000 /dev/zero | tr '\\0' x; echo the end")
    output = follow(own, text_of(settings.job_url(loud)), "output")
    assert len(output) < 80_000
    assert "the end" in output
    assert re.search(r"\[93[0-9],[0-9]{3} bytes before this are not shown\]", output), output[:500]


def test_environments_templates_and_folders_have_pages_too(own: Emulator, settings: ConnectionSettings) -> None:
    hook = TCBatchHook()
    machine = {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf", "LoginSettings": {"Password": "Hush-1234"}}
    env_id = hook.create_compute_env(
        {"EnvName": f"env {SCRIPT}"[:10], "DesiredComputeNodeCount": 0, "EnvData": machine}, zone=settings.zone
    )
    assert env_id in text_of(settings.env_url(env_id))
    task = {
        "TaskName": "t",
        "Application": {"DeliveryForm": "LOCAL", "Command": f"echo '{SCRIPT}'"},
        "ComputeEnv": {"EnvData": machine},
    }
    template_id = hook.create_task_template("shown", task)
    page = text_of(settings.template_url(template_id))
    assert "&lt;script&gt;" in page
    assert "Hush-1234" not in page
    CosHook().put(own.info.bucket, "logs/a&b/<i>.txt", "12345")
    page = text_of(settings.cos_url(own.info.bucket, "logs/a&b/"))
    assert "<td>logs/a&amp;b/&lt;i&gt;.txt</td><td>5</td>" in page


@pytest.mark.parametrize("kind", ["job", "env", "template", "cos"])
def test_what_is_not_there_is_said(own: Emulator, settings: ConnectionSettings, kind: str) -> None:
    missing = settings.cos_url("nothing-1", SCRIPT) if kind == "cos" else getattr(settings, f"{kind}_url")("<i>gone")
    assert "There is no" in text_of(missing, 404)


def test_the_pages_need_their_key_take_get_only_and_no_other_host(own: Emulator, settings: ConnectionSettings) -> None:
    job_id = submit(own, settings, "echo hidden")
    address = settings.job_url(job_id)
    for wrong in (address.partition("?")[0], address[:-1] + "x", own.info.endpoint + "/console"):
        assert job_id not in text_of(wrong, 403)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = httpx.request(method, address, trust_env=False, headers={"X-Emulator-Token": own.info.control_token})
        assert answer.status_code == 405
    port = urlsplit(own.info.endpoint).port
    assert httpx.get(address, trust_env=False, headers={"Host": f"evil.example:{port}"}).status_code == 403
    assert httpx.get(address, trust_env=False, headers={"Origin": "https://evil.example"}).status_code == 403
    key = address.partition("key=")[2]
    assert key not in own.info.control_token
    refused = httpx.post(f"{own.info.endpoint}/_emulator/reset", trust_env=False, headers={"X-Emulator-Token": key})
    assert refused.status_code == 401


def test_both_forms_of_the_connection_have_the_pages(own: Emulator) -> None:
    for connection in (
        Connection.from_json(own.info.airflow_conn_json, conn_id="a"),
        Connection.from_uri(own.info.airflow_conn_uri, conn_id="a"),
    ):
        settings = ConnectionSettings.read(connection)
        assert settings.job_url("job-1").startswith(f"{own.info.endpoint}/console/jobs/job-1?key=")
        assert settings.cos_url("b-1", "a b/").startswith(f"{own.info.endpoint}/console/cos?bucket=b-1&path=a%20b%2F&")
    assert "console_urls" not in json.loads(own.info.model_dump_json())
