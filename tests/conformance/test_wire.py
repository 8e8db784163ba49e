"""What the official SDK cannot send: malformed, oversized and hostile requests."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import tccli

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.required_members import REQUIRED
from airflow_provider_tcbatch.emulator.signing import tc3
from tests.conformance.conftest import Call, submission, task


def send(emulator: Emulator, action: str, body: bytes, service: str = "batch", **headers: str) -> requests.Response:
    """Send a signed request with any body."""
    timestamp = str(int(time.time()))
    date = datetime.fromtimestamp(int(timestamp), timezone.utc).strftime("%Y-%m-%d")
    signed = {"content-type": "application/json", "host": urlsplit(emulator.info.endpoint).netloc}
    signature = tc3.signature(
        emulator.info.secret_key,
        date=date,
        service=service,
        timestamp=timestamp,
        signed_headers=("content-type", "host"),
        headers=signed,
        body=body,
    )
    scope = f"Credential={emulator.info.secret_id}/{date}/{service}/tc3_request"
    return requests.post(
        emulator.info.endpoint + "/",
        data=body,
        headers={
            "Content-Type": "application/json",
            "Authorization": f"TC3-HMAC-SHA256 {scope}, SignedHeaders=content-type;host, Signature={signature}",
            "X-TC-Action": action,
            "X-TC-Version": "2017-03-12",
            "X-TC-Timestamp": timestamp,
            "X-TC-Region": emulator.info.region,
            **headers,
        },
        timeout=30,
    )


def error_of(answer: requests.Response) -> dict[str, str]:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    response = answer.json()["Response"]
    assert response["RequestId"]
    error: dict[str, str] = response["Error"]
    return error


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"{", "InvalidParameter", "JSON"),
        (b"[" * 100_000, "InvalidParameter", "JSON"),
        (b"\xff\xfe", "InvalidParameter", "JSON"),
        (b"[]", "InvalidParameter", "object"),
        (b"{}", "MissingParameter", "`JobId`"),
        (b'{"JobId": null}', "MissingParameter", "`JobId`"),
        (b'{"JobId": 1}', "InvalidParameter", "`JobId`"),
        (b'{"JobId": "job-00000000", "Job": {}}', "UnknownParameter", "`Job`"),
        (b'{"JobId": "../../etc"}', "InvalidParameter.JobIdMalformed", "etc"),
        (b'{"JobId": "job-\\u0000"}', "InvalidParameter.JobIdMalformed", ""),
        (b'{"JobId": "\\ud800"}', "InvalidParameter", "Unicode"),
    ],
)
def test_bad_bodies(emulator: Emulator, body: bytes, code: str, text: str) -> None:
    error = error_of(send(emulator, "DescribeJob", body))
    assert error["Code"] == code
    assert text in error["Message"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "-Infinity", "NaN"])
@pytest.mark.parametrize(
    ("action", "body", "where"),
    [
        ("SubmitJob", {"Placement": {"Zone": "z"}, "Job": {"Priority": "#"}}, "Job.Priority"),
        ("SubmitJob", {"Placement": {"Zone": "z"}, "Job": {"Tasks": [{"Timeout": "#"}]}}, "Job.Tasks.0.Timeout"),
        ("SubmitJob", {"Placement": {"Zone": "z", "HostIds": ["a", "#"]}}, "Placement.HostIds.1"),
        ("DescribeJobs", {"Limit": "#"}, "Limit"),
        ("DescribeTaskLogs", {"TaskInstanceIndexes": [0, "#"]}, "TaskInstanceIndexes.1"),
        ("DescribeJob", {"JobId": "#"}, "JobId"),
        ("DescribeJob", {"Job": "#"}, "Job"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_numbers_without_end(
    emulator: Emulator, number: str, action: str, body: dict[str, Any], where: str, lenient: bool
) -> None:
    emulator.configure(lenient_types=lenient)
    error = error_of(send(emulator, action, json.dumps(body).replace('"#"', number).encode()))
    assert error["Code"] == ("UnknownParameter" if where == "Job" else "InvalidParameter")
    assert f"`{where}`" in error["Message"]


@pytest.mark.parametrize("price", ["inf", "-Infinity", "nan", "1e999", "1_0", "", "0x1"])
def test_prices_that_are_no_numbers(emulator: Emulator, price: str) -> None:
    market = {"SpotOptions": {"MaxPrice": price}}
    rented = task("true", ComputeEnv={"EnvData": {"InstanceType": "SA5.MEDIUM4", "InstanceMarketOptions": market}})
    error = error_of(send(emulator, "SubmitJob", json.dumps(submission(rented)).encode()))
    assert error["Code"] == "InvalidParameterValue.NotFloat"
    assert "`Job.Tasks.0.ComputeEnv.EnvData.InstanceMarketOptions.SpotOptions.MaxPrice`" in error["Message"]


def test_nested_path_is_named(emulator: Emulator) -> None:
    request = submission(task("true"), task("true", "b"))
    request["Job"]["Tasks"][1]["Application"]["Comand"] = "x"
    error = error_of(send(emulator, "SubmitJob", json.dumps(request).encode()))
    assert error["Code"] == "UnknownParameter"
    assert "`Job.Tasks.1.Application.Comand`" in error["Message"]

    emulator.configure(lenient_types=False)
    request = submission(task("true", TaskInstanceNum="2"))
    error = error_of(send(emulator, "SubmitJob", json.dumps(request).encode()))
    assert error["Code"] == "InvalidParameter"
    assert "`Job.Tasks.0.TaskInstanceNum`" in error["Message"]
    emulator.configure(lenient_types=True)
    assert "JobId" in send(emulator, "SubmitJob", json.dumps(request).encode()).json()["Response"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-TC-Version": "2016-01-01"}, "NoSuchVersion"),
        ({"X-TC-Action": "NoSuchAction"}, "InvalidAction"),
        ({"X-TC-Region": "ap-shanghai"}, "UnsupportedRegion"),
        ({"X-TC-Region": ""}, "MissingParameter"),
        ({"Authorization": ""}, "AuthFailure.InvalidAuthorization"),
        ({"X-TC-Timestamp": "soon"}, "MissingParameter"),
    ],
)
def test_bad_headers(emulator: Emulator, headers: dict[str, str], code: str) -> None:
    assert error_of(send(emulator, "DescribeJobs", b"{}", **headers))["Code"] == code


def test_unknown_service(emulator: Emulator) -> None:
    assert error_of(send(emulator, "DescribeJobs", b"{}", service="cvm"))["Code"] == "NoSuchProduct"


def test_huge_body_is_refused_and_the_server_goes_on(emulator: Emulator, batch: Call) -> None:
    emulator.configure(max_request_bytes=1000)
    assert error_of(send(emulator, "DescribeJob", b" " * 200_000))["Code"] == "RequestSizeLimitExceeded"
    assert batch("DescribeJobs").RequestId


def test_tampered_body_is_refused(emulator: Emulator) -> None:
    class Tampered(bytes):
        pass

    good = b'{"Limit": 1}'
    session = requests.Session()
    prepared = send(emulator, "DescribeJobs", good).request
    prepared.body = b'{"Limit": 2}'
    answer = session.send(prepared, timeout=5)
    assert error_of(answer)["Code"] == "AuthFailure.SignatureFailure"


def test_every_answer_holds_every_member(emulator: Emulator, batch: Call) -> None:
    from airflow_provider_tcbatch.emulator.schema import schema

    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    emulator.wait_job(job_id)
    for action, params in {
        "DescribeJob": {"JobId": job_id},
        "DescribeJobs": {"JobIds": [job_id]},
        "DescribeTask": {"JobId": job_id, "TaskName": "main"},
        "DescribeTaskLogs": {"JobId": job_id, "TaskName": "main"},
        "DescribeJobSubmitInfo": {"JobId": job_id},
    }.items():
        response = send(emulator, action, json.dumps(params).encode()).json()["Response"]
        assert response.keys() == schema("batch").fields(f"{action}Response").keys()
    row = send(emulator, "DescribeJobs", json.dumps({"JobIds": [job_id]}).encode()).json()["Response"]["JobSet"][0]
    assert row.keys() == schema("batch").fields("JobView").keys()


def test_required_members_agree_with_the_vendors_description() -> None:
    """The table of required members against the description that comes with Tencent's command line tool."""
    for service, version in (("batch", "v20170312"), ("tdmq", "v20200217")):
        api = json.loads((Path(tccli.__path__[0]) / "services" / service / version / "api.json").read_text())
        wanted: dict[str, set[str]] = {}

        def walk(name: str, api: Any = api, wanted: dict[str, set[str]] = wanted) -> None:
            if name not in wanted:
                wanted[name] = {item["name"] for item in api["objects"][name]["members"] if item.get("required")}
                for item in api["objects"][name]["members"]:
                    if item["member"] in api["objects"]:
                        walk(item["member"])

        for action in api["actions"]:
            if service == "batch" or "Cmq" in action:
                walk(action + "Request")
        ours = {name: set(members) for name, members in REQUIRED[service].items()}
        assert ours == {name: members for name, members in wanted.items() if members}


def test_control_api(emulator: Emulator, batch: Call) -> None:
    session = requests.Session()
    session.headers["X-Emulator-Token"] = emulator.info.control_token
    base = emulator.info.endpoint + "/_emulator"
    token = hashlib.sha256(str(time.time()).encode()).hexdigest()[:20]
    job_id = batch("SubmitJob", **submission(task("true"), token=token)).JobId
    waited = session.get(f"{base}/jobs/{job_id}/wait?timeout=20", timeout=30).json()
    assert waited["state"] == "SUCCEED"
    assert session.get(f"{base}/health", timeout=5).json()["status"] == "ok"
    row = next(job for job in session.get(f"{base}/jobs", timeout=5).json()["jobs"] if job["job_id"] == job_id)
    assert (row["client_token"], row["name"], row["state"]) == (token, "conformance", "SUCCEED")
    calls = session.get(f"{base}/calls", timeout=5).json()
    assert calls["counts"]["batch.SubmitJob"] >= 1
    last = next(call for call in reversed(calls["calls"]) if call["action"] == "SubmitJob")
    assert last["job_ids"] == [job_id]
    assert last["code"] == "OK"
    assert emulator.info.secret_key not in json.dumps(calls)
    assert session.get(f"{base}/jobs/job-00000000/timeline", timeout=5).status_code == 404

    answer = session.patch(f"{base}/settings", json={"events": "off", "capacity": "3"}, timeout=5)
    assert (answer.json()["events"], answer.json()["capacity"]) == ("off", 3)
    for bad in ({"nonsense": 1}, {"capacity": 0}, {"events": "maybe"}):
        answer = session.patch(f"{base}/settings", json=bad, timeout=5)
        assert answer.status_code == 400
        assert answer.json()["details"][0]["setting"] == next(iter(bad))
        assert answer.json()["error"].startswith(f"invalid settings: {next(iter(bad))}: ")
    assert session.patch(f"{base}/settings", data="[", timeout=5).status_code == 400
    assert session.get(f"{base}/settings", timeout=5).json()["capacity"] == 3


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_web_pages_cannot_use_the_control_api(emulator: Emulator, headers: dict[str, str]) -> None:
    headers = {**headers, "X-Emulator-Token": emulator.info.control_token}
    answer = requests.post(emulator.info.endpoint + "/_emulator/reset", headers=headers, timeout=5)
    assert answer.status_code == 403
