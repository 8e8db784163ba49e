"""Whatever is sent: a documented error or a plain refusal, and everything else goes on as before.

All requests are signed properly where that is not what is tested, so that they get past the door. A job runs through
all of it and ends well; whatever lies outside of the emulator's folder is as it was.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.batch.jobs.entities import FINISHED
from airflow_provider_tcbatch.emulator.cmq.dataplane import HANDLERS as CMQ
from airflow_provider_tcbatch.emulator.http.api3 import SERVICES
from airflow_provider_tcbatch.emulator.schema import Field, schema
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.signing import cmq, cos, tc3
from tests.conformance.conftest import submission, task

# The same requests every time: a test that fails now and then is told from one that fails because of a change. With
# another number of examples it sends others.
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

ACTIONS = [(service, action) for service, (_, handlers) in SERVICES.items() for action in handlers]
#: Codes that a request alone must never bring about: they mean that something broke.
BROKEN = {"InternalError", "FailedOperation.CmqBackendError"}
CODE = re.compile(r"^[A-Za-z]+(\.[A-Za-z]+)?$")


class Place:
    """An emulator, a job that runs meanwhile, and a folder around both in which nothing else may appear."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.emulator = Emulator(
            Settings(
                submitted_seconds=0,
                starting_seconds=0,
                kill_grace_seconds=0.1,
                cmq_max_poll_seconds=1,
                job_quota=100_000,
                compute_env_quota=100_000,
                task_template_quota=100_000,
                unknown_instance_types="accept",
                max_request_bytes=200_000,
                max_task_instances=50,
                max_nodes=20,
            ),
            data_dir=self.data,
        )
        self.session = requests.Session()
        self.session.trust_env = False

    def start(self) -> None:
        """Start the emulator and the job, which waits for a file."""
        self.emulator.start()
        (self.root / "victim").mkdir()
        (self.root / "victim" / "file").write_text("untouched")
        answer = self.api(
            "batch", "SubmitJob", submission(task(f"until test -e '{self.data}/go'; do sleep 0.05; done"))
        )
        self.job_id = answer["JobId"]
        while self.api("batch", "DescribeJob", {"JobId": self.job_id})["JobState"] != "RUNNING":
            time.sleep(0.01)
        # Nothing that is sent below runs a command.
        self.emulator.configure(mode="simulate", speed=1000)
        self.outside = self.files()

    def end_others(self) -> None:
        """End what was sent before: it holds capacity, and would run its commands."""

        def going(services: Services) -> list[str]:
            return [
                job.job_id
                for job in services.batch.jobs.values()
                if job.job_id != self.job_id and job.state not in FINISHED
            ]

        for job_id in self.emulator.on_loop(going):
            self.api("batch", "TerminateJob", {"JobId": job_id})
            self.emulator.wait_job(job_id)

    def files(self) -> set[str]:
        """Everything around the emulator's folder."""
        found = {str(path) for path in self.root.rglob("*") if self.data not in (path, *path.parents)}
        return found | {f"cwd {name}" for name in os.listdir()}

    def api(self, service: str, action: str, params: Any) -> dict[str, Any]:
        """A signed call of API 3.0; refusals are checked to be such."""
        return self.raw_api(service, action, json.dumps(params).encode())

    def raw_api(self, service: str, action: str, body: bytes, **changes: str) -> dict[str, Any]:
        """The same with any body, and headers replaced."""
        info = self.emulator.info
        timestamp = changes.get("X-TC-Timestamp", str(int(time.time())))
        seconds = int(timestamp) if timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 12 else 0
        date = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")
        host = urlsplit(info.endpoint).netloc
        signature = tc3.signature(
            info.secret_key,
            date=date,
            service=service,
            timestamp=timestamp,
            signed_headers=("content-type", "host"),
            headers={"content-type": "application/json", "host": host},
            body=body,
        )
        scope = f"Credential={info.secret_id}/{date}/{service}/tc3_request"
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"TC3-HMAC-SHA256 {scope}, SignedHeaders=content-type;host, Signature={signature}",
            "X-TC-Action": action,
            "X-TC-Version": SERVICES[service][0],
            "X-TC-Timestamp": timestamp,
            "X-TC-Region": info.region,
            **changes,
        }
        sent = {name: value.encode("utf-8", "surrogatepass") for name, value in headers.items()}
        answer = self.session.post(info.endpoint + "/", data=body, headers=sent, timeout=20)
        if answer.status_code == 400 and not answer.headers["content-type"].startswith("application/json"):
            # Not HTTP any more: refused by the HTTP server itself.
            return {"Error": {"Code": "NotHttp"}}
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        response: dict[str, Any] = answer.json()["Response"]
        assert response["RequestId"]
        if "Error" in response:
            assert CODE.match(response["Error"]["Code"])
            assert response["Error"]["Code"] not in BROKEN
            assert response["Error"]["Message"].isprintable()
        return response

    def cmq(self, method: str, params: dict[str, str]) -> dict[str, Any]:
        """A signed call of the data plane."""
        info = self.emulator.info
        full = {"SecretId": info.secret_id, "Timestamp": str(int(time.time())), "Nonce": "1", **params}
        text = cmq.source(method, urlsplit(info.endpoint).netloc, full)
        full["Signature"] = cmq.signature(info.secret_key, text, sha256=False)
        where: dict[str, Any] = {"data": full} if method == "POST" else {"params": full}
        answer = self.session.request(method, info.endpoint + cmq.PATH, timeout=20, **where)
        assert answer.status_code == 200
        result: dict[str, Any] = answer.json()
        assert isinstance(result["code"], int)
        assert result["code"] != 6000
        return result

    def cos(self, method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> int:
        """A signed request to COS; returns the status."""
        info = self.emulator.info
        now = int(time.time())
        times = f"{now - 10};{now + 60}"
        authorization = cos.Authorization(info.secret_id, times, times, (), (), "")
        path = f"/{info.bucket}/{key}"
        signature = cos.signature(info.secret_key, authorization, method=method, path=path, params={}, headers={})
        members = {
            "q-sign-algorithm": "sha1",
            "q-ak": info.secret_id,
            "q-sign-time": times,
            "q-key-time": times,
            "q-header-list": "",
            "q-url-param-list": "",
            "q-signature": signature,
        }
        signed = {**headers, "Authorization": "&".join(f"{name}={value}" for name, value in members.items())}
        answer = self.session.request(
            method,
            info.cos_endpoint + quote(path, safe="/", errors="surrogatepass"),
            params=query,
            headers={name: value.encode() for name, value in signed.items()},
            data=body,
            timeout=20,
        )
        return answer.status_code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("hostile"))
    place.start()
    yield place
    # Everything was sent. The job goes on, the server answers, and around its folder nothing has changed.
    assert place.files() == place.outside
    assert (place.root / "victim" / "file").read_text() == "untouched"
    assert place.api("batch", "DescribeJob", {"JobId": place.job_id})["JobState"] == "RUNNING"
    (place.data / "go").touch()
    assert place.emulator.wait_job(place.job_id) == "SUCCEED"
    place.emulator.stop()


hostile = st.one_of(
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "../../../../../victim/file",
            "/etc/passwd",
            "/tmp/../../victim/",
            "a\0b",
            "a\r\nX-Evil: 1",
            "\ud800",
            "\u202e",
            "x" * 5000,
            "%2e%2e%2f",
            "${BATCH_JOB_ID}",
            "$(touch ../../victim/evil)",
            "'; touch evil; '",
            "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/../x",
            "cos://airflow-1250000000.cos.ap-guangzhou.myqcloud.com/logs/",
            "file:///etc/passwd",
            "http://127.0.0.1:1/x.tgz",
            "job-00000000",
            "env-00000000",
            "airflow-batch",
            "airflow-batch-base",
            "ap-guangzhou-3",
            "TERMINATE",
            "LOCAL",
            "main",
        ]
    ),
    st.text(max_size=20),
)
numbers = st.one_of(st.integers(-3, 200), st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 10**40, 1e300, 0.5]))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, hostile),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(hostile, inner, max_size=3)),
    max_leaves=6,
)


def values(service: str, field: Field, depth: int) -> st.SearchStrategy[Any]:
    """Mostly values of the right type."""
    right: st.SearchStrategy[Any]
    if field.kind == "string":
        right = hostile
    elif field.kind in ("integer", "float"):
        right = numbers
    elif field.kind == "boolean":
        right = st.booleans()
    else:
        right = objects(service, field.kind, depth - 1)
    if field.is_list:
        right = st.lists(right, max_size=3)
    return right if depth > 0 else junk


def objects(service: str, model: str, depth: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Requests that are nearly right: mostly known members of the right type, the required ones mostly there."""
    known = schema(service)
    fields = known.fields(model)
    if depth <= 0 or not fields:
        return st.dictionaries(hostile, junk, max_size=2)
    from airflow_provider_tcbatch.emulator.required_members import REQUIRED

    needed = {name: values(service, fields[name], depth) for name in REQUIRED[service].get(model, ())}
    others = {name: values(service, field, depth) for name, field in fields.items() if name not in needed}

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        result = {name: draw(strategy) for name, strategy in needed.items()}
        for name in draw(st.lists(st.sampled_from(sorted(others)), max_size=4)) if others else ():
            result[name] = draw(others[name])
        if draw(st.integers(0, 9)) == 0:
            result[draw(hostile)] = draw(junk)
        if result and draw(st.integers(0, 9)) == 0:
            result[draw(st.sampled_from(sorted(result)))] = draw(junk)
        return result

    return st.deferred(build)


@bounded
@given(st.data())
def test_nearly_right_requests(place: Place, data: st.DataObject) -> None:
    service, action = data.draw(st.sampled_from(ACTIONS))
    place.api(service, action, data.draw(objects(service, f"{action}Request")))


@bounded
@given(st.data())
def test_nearly_right_jobs(place: Place, data: st.DataObject) -> None:
    """Jobs that are accepted but for one hostile member; those that are run, too."""
    request = submission(task("true"), task("true", "second"))
    spec = request["Job"]["Tasks"][data.draw(st.integers(0, 1))]
    owner, model = data.draw(
        st.sampled_from(
            [(spec, "Task"), (spec["Application"], "Application"), (request["Job"], "Job"), (request, None)]
        )
    )
    fields = schema("batch").fields(model or "SubmitJobRequest")
    name = data.draw(st.sampled_from([name for name in fields if name not in ("Placement", "Job", "Tasks")]))
    owner[name] = data.draw(values("batch", fields[name], 4))
    answer = place.api("batch", "SubmitJob", request)
    if "JobId" in answer:
        for action in ("DescribeJob", "DescribeJobSubmitInfo"):
            place.api("batch", action, {"JobId": answer["JobId"]})


WRITERS = ("RedirectInfo", "RedirectLocalInfo", "InputMappings", "OutputMappings", "TaskName", "EnvVars", "PackagePath")


@settings(parent=bounded, max_examples=max(15, EXAMPLES // 4))
@given(st.data())
def test_paths_of_jobs_that_run(place: Place, data: st.DataObject) -> None:
    """The same with a command that does nothing, so that what is around it is really written."""
    spec = task("echo x; echo y >&2")
    paths = st.one_of(
        hostile,
        st.builds(lambda tail: str(place.root / "victim") + tail, st.sampled_from(["", "/", "/file", "/../evil/"])),
        st.builds("../".__mul__, st.integers(1, 12)).map(lambda up: up + "victim/"),
    )
    name = data.draw(st.sampled_from(WRITERS))
    if name == "PackagePath":
        spec["Application"].update(DeliveryForm="PACKAGE", PackagePath=data.draw(paths))
    elif name == "TaskName":
        spec["TaskName"] = data.draw(paths)
    else:
        field = schema("batch").fields("Task")[name]
        members = {member: data.draw(paths) for member in schema("batch").fields(field.kind) if "Option" not in member}
        spec[name] = [members] if field.is_list else members
    place.end_others()
    place.emulator.configure(mode="process", speed=1)
    try:
        answer = place.api("batch", "SubmitJob", submission(spec))
        if "JobId" in answer:
            assert place.emulator.wait_job(answer["JobId"]) in ("SUCCEED", "FAILED")
            place.api("batch", "DescribeTaskLogs", {"JobId": answer["JobId"], "TaskName": spec["TaskName"]})
    finally:
        place.emulator.configure(mode="simulate", speed=1000)
    assert place.files() == place.outside


@bounded
@given(st.data())
def test_bodies(place: Place, data: st.DataObject) -> None:
    good = json.dumps(submission(task("true"))).encode()
    body = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.integers(0, len(good)).map(lambda end: good[:end]),
            st.tuples(st.integers(0, len(good)), st.binary(min_size=1, max_size=3)).map(
                lambda change: good[: change[0]] + change[1] + good[change[0] :]
            ),
            junk.map(lambda value: json.dumps(value).encode()),
            st.sampled_from([b"[" * 90_000, b'{"a":' * 30_000, b" " * 300_000, b'{"JobId": 1e999}', b'{"JobId": NaN}']),
            st.sampled_from([b'{"JobIds": ["' + b"x" * 150_000 + b'"]}', b'{"Limit": ' + b"9" * 5000 + b"}"]),
        )
    )
    place.raw_api("batch", data.draw(st.sampled_from(["SubmitJob", "DescribeJobs"])), body)


@bounded
@given(st.data())
def test_headers(place: Place, data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(
            [
                "Authorization",
                "X-TC-Action",
                "X-TC-Version",
                "X-TC-Timestamp",
                "X-TC-Region",
                "X-TC-Token",
                "Content-Type",
            ]
        )
    )
    plain = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40)
    value = data.draw(
        st.one_of(
            plain.map(str.strip),
            st.sampled_from(
                ["99999999999999", "-1", "0", "²", "TC3-HMAC-SHA256 Credential=/2026-01-01/batch/tc3_request"]
            ),
            st.integers(-(10**6), -400).map(lambda back: str(int(time.time()) + back)),
        )
    )
    answer = place.raw_api("batch", "DescribeJobs", b"{}", **{name: value})
    if name != "X-TC-Token" or value:
        assert answer["Error"]["Code"]


@bounded
@given(st.data())
def test_messages(place: Place, data: st.DataObject) -> None:
    names = [
        "queueName",
        "topicName",
        "msgBody",
        "msgBody.1",
        "msgBody.2",
        "receiptHandle",
        "receiptHandle.1",
        "msgTag.1",
    ]
    names += ["delaySeconds", "pollingWaitSeconds", "numOfMsg", "routingKey", "Token", "Timestamp", "Nonce", "SecretId"]
    text = hostile.filter(lambda value: "\ud800" not in value)
    known = st.sampled_from(["airflow-batch", "airflow-batch-base", "1", "0", "-1", "17", "99999999999", "٣"])
    params = data.draw(st.dictionaries(st.sampled_from(names), st.one_of(known, text), max_size=6))
    if params.get("pollingWaitSeconds") == "1":
        # Accepted, and therefore waited for.
        params["pollingWaitSeconds"] = "0"
    params["Action"] = data.draw(st.one_of(st.sampled_from(sorted(CMQ)), text))
    place.cmq(data.draw(st.sampled_from(["GET", "POST"])), params)


@bounded
@given(st.data())
def test_objects(place: Place, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(["GET", "PUT", "HEAD", "DELETE", "POST"]))
    key = data.draw(st.one_of(hostile, st.sampled_from(["../../victim/file", "a//b", "a/./b", "ünïcode", " "])))
    names = ["uploads", "uploadId", "partNumber", "prefix", "max-keys", "acl", "delete", "versionId", "tagging"]
    query = data.draw(
        st.dictionaries(st.sampled_from(names), st.sampled_from(["", "1", "-1", "x", "../x"]), max_size=2)
    )
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["Range", "x-cos-copy-source", "x-cos-meta-a", "Content-MD5", "x-cos-tagging"]),
            st.sampled_from(["bytes=5-1", "../../etc/passwd", "x", "%00", "="]),
            max_size=1,
        )
    )
    place.cos(method, key.replace("\ud800", ""), query, headers, data.draw(st.sampled_from([b"", b"x", b"<Delete>"])))
    assert place.cos("PUT", "still/there", {}, {}, b"x") == 200


@bounded
@given(st.data())
def test_control_api(place: Place, data: st.DataObject) -> None:
    # Neither reset nor settings that would change what the other tests are about.
    path = data.draw(
        st.one_of(
            st.sampled_from(["jobs", "calls", "health", "faults", "settings", "jobs/../settings", "jobs/%2e%2e/wait"]),
            hostile.map(lambda text: f"jobs/{quote(text, safe='', errors='surrogatepass')}/timeline"),
            hostile.map(lambda text: f"faults/{quote(text, safe='', errors='surrogatepass')}"),
        )
    )
    method = data.draw(st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]))
    body = data.draw(st.one_of(junk.map(lambda value: json.dumps({"x": value})), st.text(max_size=20)))
    answer = place.session.request(
        method,
        f"{place.emulator.info.endpoint}/_emulator/{path}",
        data=body.encode("utf-8", "replace"),
        timeout=20,
        headers={"X-Emulator-Token": place.emulator.info.control_token},
    )
    assert answer.status_code < 500
    assert place.emulator.info.secret_key not in answer.text


def connected(endpoint: str) -> socket.socket:
    """A connection to where an endpoint is."""
    address = urlsplit(endpoint)
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=20)


@settings(parent=bounded, max_examples=max(20, EXAMPLES // 3))
@given(st.data())
def test_what_is_no_http(place: Place, data: st.DataObject) -> None:
    noise = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from(
                [
                    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n",
                    b"\x16\x03\x01\x02\x00\x01",
                ]
            ),
        )
    )
    for endpoint in (place.emulator.info.endpoint, place.emulator.info.cos_endpoint):
        with connected(endpoint) as connection:
            connection.sendall(noise)
    assert place.session.get(place.emulator.info.endpoint + "/_emulator/health", timeout=20).json()["status"] == "ok"


@pytest.mark.parametrize("path", ["/", "/v2/index.php"])
def test_a_client_that_leaves_in_the_middle_is_no_error(
    place: Place, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    def codes() -> list[str]:
        return [call["code"] for call in place.session.get(calls, timeout=20).json()["calls"]]

    calls = place.emulator.info.endpoint + "/_emulator/calls"
    before = codes()
    with connected(place.emulator.info.endpoint) as connection:
        scope = "Credential=a/2026-01-01/batch/tc3_request, SignedHeaders=content-type;host"
        authorization = f"TC3-HMAC-SHA256 {scope}, Signature={'b' * 64}"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: {authorization}\r\n\r\n"
        connection.sendall(head.encode() + b"half")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(9999) == b"", "the emulator has noticed, and closed its side"
    assert codes() == before
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
