"""Mappings, packages, several commands and containers."""

from __future__ import annotations

import base64
import gzip
import io
import os
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosS3Client
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.batch.machine import private_mounts
from tests.conformance.conftest import Call, submission, task

PACE = Settings(
    submitted_seconds=0.02,
    starting_seconds=0,
    terminate_seconds=0.02,
    node_submitted_seconds=0,
    node_pending_seconds=0,
    node_creating_seconds=0,
    node_created_seconds=0,
    kill_grace_seconds=0.5,
)


@pytest.fixture(scope="module")
def _own() -> Iterator[Emulator]:
    # The bucket is its own, so that emulators of other modules do not empty it.
    with Emulator(PACE, bucket=f"mappings-{os.getpid()}-1250000000") as emulator:
        yield emulator


@pytest.fixture
def emulator(_own: Emulator) -> Iterator[Emulator]:
    """This module's own emulator with its settings put back afterwards."""
    yield _own
    _own.configure(**PACE.model_dump())


NO_MOUNTS = "InvalidParameterValue.LocalPath"


class Bucket:
    """A prefix of the emulator's bucket, for one test."""

    def __init__(self, emulator: Emulator, cos: CosS3Client) -> None:
        self.name = emulator.info.bucket
        self._cos = cos
        self.prefix = f"{uuid.uuid4().hex[:8]}/"
        self.host = f"cos://{self.name}.cos.{emulator.info.region}.myqcloud.com/"

    def path(self, folder: str) -> str:
        return f"{self.host}{self.prefix}{folder}"

    def put(self, key: str, data: bytes) -> None:
        self._cos.put_object(Bucket=self.name, Key=self.prefix + key, Body=data)

    def get(self, key: str) -> bytes:
        body = self._cos.get_object(Bucket=self.name, Key=self.prefix + key)["Body"]
        data: bytes = body.get_raw_stream().read()
        return data

    def names(self, folder: str) -> list[str]:
        listed = self._cos.list_objects(Bucket=self.name, Prefix=self.prefix + folder)
        return [item["Key"][len(self.prefix) :] for item in listed.get("Contents", [])]


@pytest.fixture
def bucket(emulator: Emulator, cos: CosS3Client) -> Bucket:
    return Bucket(emulator, cos)


def run(batch: Call, emulator: Emulator, *tasks: dict[str, Any], **job: Any) -> tuple[str, str]:
    job_id = batch("SubmitJob", **submission(*tasks, **job)).JobId
    return job_id, emulator.wait_job(job_id)


def reason(batch: Call, job_id: str) -> str:
    return str(batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0].StateReason)


def log_of(batch: Call, job_id: str, stream: str = "Stdout") -> str:
    answer = batch("DescribeTaskLogs", JobId=job_id, TaskName="main").TaskInstanceLogSet[0]
    return base64.b64decode(getattr(answer, f"{stream}Log")).decode()


def mapped(source: str, destination: str, **members: Any) -> list[dict[str, Any]]:
    return [{"SourcePath": source, "DestinationPath": destination, **members}]


def refused(batch: Call, *tasks: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("SubmitJob", **submission(*tasks))
    return str(caught.value.get_code()), str(caught.value.get_message())


def test_relative_paths(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    bucket.put("in/a.txt", b"alpha")
    bucket.put("in/deep/b.txt", b"beta")
    bucket.put("in/empty/", b"")
    command = (
        "ls -d in/empty && mkdir -p out/x && cat in/a.txt in/deep/b.txt > out/x/both && ln -s /etc/passwd out/link"
    )
    job_id, state = run(
        batch,
        emulator,
        task(
            command,
            InputMappings=mapped(bucket.path("in/"), "in/", MountType="COSFS", MountOptionParameter="-ouse_cache"),
            OutputMappings=mapped("out/", bucket.path("res/"), OutputMappingOption={"Workspace": "BATCH_WORKSPACE"}),
            OutputMappingConfigs=[{"Scene": "COS", "WorkerNum": 2, "WorkerPartSize": 8}],
        ),
    )
    assert state == "SUCCEED", reason(batch, job_id)
    assert bucket.names("res/") == ["res/x/both"]
    assert bucket.get("res/x/both") == b"alphabeta"


def test_one_file_as_output_also_after_a_failure(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    spec = task(
        "echo $BATCH_TASK_INSTANCE_INDEX > result.txt; exit 3", OutputMappings=mapped("result.txt", bucket.path("o/"))
    )
    job_id, state = run(batch, emulator, spec)
    assert (state, reason(batch, job_id)) == ("FAILED", "The command ended with exit code 3")
    assert bucket.get("o/result.txt") == b"0\n"
    emulator.configure(upload_outputs="success")
    spec["OutputMappings"] = mapped("result.txt", bucket.path("none/"))
    run(batch, emulator, spec)
    assert bucket.names("none/") == []


def test_absolute_paths_are_seen_by_the_command_alone(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    if not private_mounts.available():
        assert refused(batch, task("true", InputMappings=mapped(bucket.path("in/"), "/mnt")))[0] == NO_MOUNTS
        return
    # One that exists, one that does not, one within another.
    bucket.put("in/a.txt", b"alpha")
    unique = f"/tcbatch-{uuid.uuid4().hex}/data"
    job_id, state = run(
        batch,
        emulator,
        task(
            f"cp {unique}/a.txt /tmp/t1/copy && echo new > {unique}/part/new && ls /mnt && pwd "
            f"&& echo here > {unique}/free",
            InputMappings=[*mapped(bucket.path("in/"), unique + "/"), *mapped(bucket.path("in/"), "/mnt")],
            OutputMappings=[
                *mapped("/tmp/t1", bucket.path("one/")),
                *mapped(f"{unique}/part", bucket.path("two/")),
            ],
        ),
    )
    assert state == "SUCCEED", reason(batch, job_id) + log_of(batch, job_id, "Stderr")
    assert bucket.get("one/copy") == b"alpha"
    assert bucket.get("two/new") == b"new\n"
    listed, folder = log_of(batch, job_id).split()
    assert listed == "a.txt"
    assert folder.endswith("/work")
    for path in (unique, "/tmp/t1/copy", "/mnt/a.txt"):
        assert not Path(path).exists()


@pytest.mark.parametrize("switch", ["auto", "off"])
def test_absolute_paths_where_the_system_allows_none(
    batch: Call, emulator: Emulator, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    from airflow_provider_tcbatch.emulator.batch.machine import mapping_rules

    emulator.configure(private_mounts=switch)
    monkeypatch.setattr(mapping_rules, "available", lambda: False)
    for member, value in (
        ("InputMappings", mapped(bucket.path("in/"), "/data/")),
        ("OutputMappings", mapped("/data/", bucket.path("out/"))),
    ):
        given: dict[str, Any] = {member: value}
        code, message = refused(batch, task("true", **given))
        assert code == "InvalidParameterValue.LocalPath"
        assert "private mounts" in message


@pytest.mark.parametrize(
    "path", ["", "../x", "a/../../b", "/", "//", "/proc/x", "/dev", "/usr/", "/etc", "a\0b", "a\nb", "x" * 300, "/a/.."]
)
def test_hostile_local_paths(batch: Call, emulator: Emulator, bucket: Bucket, path: str) -> None:
    for member, value in (
        ("InputMappings", mapped(bucket.path("in/"), path)),
        ("OutputMappings", mapped(path, bucket.path("out/"))),
    ):
        given: dict[str, Any] = {member: value}
        assert refused(batch, task("true", **given))[0] == "InvalidParameterValue.LocalPath"


def test_the_emulators_own_folder_cannot_be_hidden(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    for path in (emulator.info.data_dir, str(Path(emulator.info.data_dir).parent)):
        spec = task("true", InputMappings=mapped(bucket.path("in/"), path))
        assert refused(batch, spec)[0] == "InvalidParameterValue.LocalPath"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"InputMappings": mapped("cos://x/", "in")}, "InvalidParameterValue.RemoteStoragePath"),
        ({"InputMappings": mapped("nfs://10.0.0.1/", "in")}, "InvalidParameterValue.RemoteStorageSchemeType"),
        ({"OutputMappings": mapped("out", "http://x/")}, "InvalidParameterValue.RemoteStorageSchemeType"),
        (
            {"OutputMappingConfigs": [{"Scene": "COS", "WorkerNum": -1, "WorkerPartSize": 1}]},
            "InvalidParameterValue.Negative",
        ),
        (
            {"OutputMappingConfigs": [{"Scene": "CFS", "WorkerNum": 1, "WorkerPartSize": 1}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_refused_mappings(batch: Call, emulator: Emulator, members: dict[str, Any], code: str) -> None:
    assert refused(batch, task("true", **members))[0] == code


@pytest.mark.parametrize("path", ["../../outside", "/usr", "/"])
@pytest.mark.parametrize("member", ["InputMappings", "OutputMappings"])
def test_what_was_accepted_in_mode_simulate_is_not_carried_out_later(
    batch: Call, emulator: Emulator, bucket: Bucket, member: str, path: str
) -> None:
    bucket.put("in/x", b"x")
    mapping = mapped(bucket.path("in/"), path) if member == "InputMappings" else mapped(path, bucket.path("out/"))
    given: dict[str, Any] = {member: mapping}
    emulator.configure(mode="simulate", simulated_exit_code=1, simulated_seconds=0)
    job_id, state = run(batch, emulator, task("true", **given))
    assert state == "FAILED"
    emulator.configure(mode="process")
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"
    assert "would hide" in reason(batch, job_id) or "must not contain `..`" in reason(batch, job_id)


def test_logs_of_what_was_accepted_in_mode_simulate_stay_inside(
    batch: Call, emulator: Emulator, bucket: Bucket
) -> None:
    emulator.configure(mode="simulate", simulated_exit_code=1, simulated_seconds=0)
    local = {"StdoutLocalPath": "../..", "StderrLocalPath": "/a/", "StderrLocalFileName": "../../../outside"}
    remote = {"StdoutRedirectPath": "nfs://10.0.0.1/", "StderrRedirectPath": bucket.path("logs/")}
    spec = task("echo out; echo err >&2", RedirectInfo=remote, RedirectLocalInfo=local)
    job_id, _ = run(batch, emulator, spec)
    emulator.configure(mode="process")
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert bucket.names("logs/") == [f"logs/stderr.{job_id}.main.0.log"]
    folder = Path(emulator.info.data_dir) / "jobs" / job_id
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {"stdout", "stderr"}


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/x", "a//b", "a/./b", "a\x01b", "x" * 300])
def test_hostile_objects_write_nothing_outside(batch: Call, emulator: Emulator, bucket: Bucket, key: str) -> None:
    # No honest client can make such a key, so it is put past the web interface.
    store = emulator._service.services.cos.store  # type: ignore[union-attr]
    store.put(bucket.name, f"{bucket.prefix}in/{key}", b"evil")
    job_id, state = run(batch, emulator, task("true", InputMappings=mapped(bucket.path("in/"), "deep/in")))
    assert state == "FAILED"
    assert "has no name for a file" in reason(batch, job_id)
    folder = Path(emulator.info.data_dir) / "jobs" / job_id
    assert [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == b"evil"] == []


def test_objects_that_are_file_and_folder_at_once(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    for key in ("in/a", "in/a/b"):
        bucket.put(key, b"x")
    job_id, state = run(batch, emulator, task("true", InputMappings=mapped(bucket.path("in/"), "in")))
    assert state == "FAILED"
    assert "cannot be a file" in reason(batch, job_id)


def test_limits_of_mappings(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    bucket.put("in/a", b"x" * 600)
    bucket.put("in/b", b"x" * 600)
    emulator.configure(max_mapping_bytes=1000)
    job_id, state = run(batch, emulator, task("true", InputMappings=mapped(bucket.path("in/"), "in")))
    assert (state, reason(batch, job_id)) == ("FAILED", "InputMappings: more than 1000 bytes")
    outputs = mapped("big", bucket.path("out/"))
    job_id, state = run(batch, emulator, task("head -c 2000 /dev/zero > big", OutputMappings=outputs))
    assert (state, reason(batch, job_id)) == ("FAILED", "OutputMappings: more than 1000 bytes")
    job_id, state = run(
        batch, emulator, task("mkfifo big; ln -s / link", OutputMappings=mapped("./", bucket.path("o/")))
    )
    assert (state, bucket.names("o/")) == ("SUCCEED", [])
    for command in ("true", "ln -s / out", "ln -s /etc/passwd out"):
        job_id, state = run(batch, emulator, task(command, OutputMappings=mapped("out", bucket.path("o/"))))
        assert (state, reason(batch, job_id)) == ("FAILED", "OutputMappings: there is no out")
    job_id, state = run(
        batch, emulator, task("true", InputMappings=mapped("cos://no-1250000000.cos.ap-guangzhou.myqcloud.com/", "in"))
    )
    assert "NoSuchBucket" in reason(batch, job_id)


def test_mappings_of_an_environment(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    bucket.put("shared/a.txt", b"alpha")
    env = {
        "EnvName": "e",
        "DesiredComputeNodeCount": 1,
        "InputMappings": mapped(bucket.path("shared/"), "shared/"),
    }
    env_id = batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}).EnvId
    spec = {**task("cat shared/a.txt"), "EnvId": env_id}
    del spec["ComputeEnv"]
    job_id, state = run(batch, emulator, spec)
    assert (state, log_of(batch, job_id)) == ("SUCCEED", "alpha")


# -- packages --------------------------------------------------------------------------------------------------


def packed(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        (packed("big", bytes(200_000)), "unpacks to more than 100000 bytes"),
        # A few kilobytes that would be ten megabytes.
        (gzip.compress(bytes(10_000_000)), "unpacks to more than 100000 bytes"),
        (os.urandom(100_001), "larger than 100000 bytes"),
        (packed("../out", b"x"), "outside its folder"),
        (b"\x1f\x8b nonsense", "not a usable .tgz"),
    ],
    ids=["unpacked", "compressed", "large", "outside", "nonsense"],
)
def test_hostile_packages(batch: Call, emulator: Emulator, bucket: Bucket, package: bytes, problem: str) -> None:
    emulator.configure(max_package_bytes=100_000)
    bucket.put("p.tgz", package)
    application = {"DeliveryForm": "PACKAGE", "PackagePath": bucket.path("p.tgz"), "Command": "true"}
    job_id, state = run(batch, emulator, task("", Application=application))
    assert state == "FAILED"
    assert problem in reason(batch, job_id)
    work = Path(emulator.info.data_dir) / "jobs" / job_id / "main" / "0" / "1" / "work"
    assert list(work.iterdir()) == []


def test_package_links_do_not_lead_inputs_out(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("in")
        member.type, member.linkname = tarfile.SYMTYPE, "."
        archive.addfile(member)
    bucket.put("p.tgz", data.getvalue())
    bucket.put("in/in", b"x")
    application = {"DeliveryForm": "PACKAGE", "PackagePath": bucket.path("p.tgz"), "Command": "ls"}
    spec = task("", Application=application, InputMappings=mapped(bucket.path("in/"), "in"))
    job_id, state = run(batch, emulator, spec)
    assert state == "FAILED"
    assert "leads out of its folder" in reason(batch, job_id)


# -- several commands, containers ------------------------------------------------------------------------------


def coupled(*commands: str) -> dict[str, Any]:
    return {"DeliveryForm": "LOCAL", "Commands": [{"Command": command} for command in commands]}


def test_commands(batch: Call, emulator: Emulator) -> None:
    job_id, state = run(batch, emulator, task("", Application=coupled("echo one > f", "cat f; echo two")))
    assert (state, log_of(batch, job_id)) == ("SUCCEED", "one\ntwo\n")
    job_id, state = run(batch, emulator, task("", Application=coupled("echo one; exit 4", "echo two")))
    assert (state, log_of(batch, job_id)) == ("FAILED", "one\n")
    job_id, state = run(batch, emulator, task("", Application=coupled("sleep 0.3", "sleep 60"), Timeout=1))
    assert reason(batch, job_id) == "Timeout: the command ran longer than 1 s"
    emulator.configure(commands="per_instance")
    spec = task("", Application=coupled("true", "exit 7"), TaskInstanceNum=2)
    job_id, state = run(batch, emulator, spec)
    views = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert [view.ExitCode for view in views] == [0, 7]
    assert refused(batch, task("", Application=coupled()))[0] == "MissingParameter"
    assert refused(batch, task("", Application=coupled("a\0b")))[0] == "InvalidParameterValue"
    # That nothing is no command is not documented.
    assert run(batch, emulator, task(""))[1] == "SUCCEED"
    emulator.configure(undocumented_values="refuse")
    assert refused(batch, task("", Application=coupled("")))[0] == "InvalidParameterValue"
    both = {**coupled("true"), "Command": "true"}
    assert refused(batch, task("", Application=both))[0] == "InvalidParameter.InvalidParameterCombination"


def test_commands_with_absolute_paths(batch: Call, emulator: Emulator, bucket: Bucket) -> None:
    spec = task(
        "",
        Application=coupled("echo one > /data-x/f", "cat /data-x/f"),
        OutputMappings=mapped("/data-x", bucket.path("out/")),
    )
    if not private_mounts.available():
        assert refused(batch, spec)[0] == NO_MOUNTS
        return
    job_id, state = run(batch, emulator, spec)
    assert (state, log_of(batch, job_id)) == ("SUCCEED", "one\n"), reason(batch, job_id)


DOCKER = {"Image": "user/repo:tag"}


def contained(command: str, **docker: Any) -> dict[str, Any]:
    return {"DeliveryForm": "LOCAL", "Command": command, "Docker": {**DOCKER, **docker}}


@pytest.mark.parametrize("command", ["no-such-docker", "false"])
def test_without_an_engine_the_instance_says_so(batch: Call, emulator: Emulator, command: str) -> None:
    emulator.configure(docker_command=command)
    job_id, state = run(batch, emulator, task("", Application=contained("true"), FailedAction="INTERRUPT"))
    assert state == "FAILED"
    assert reason(batch, job_id).startswith("Docker: ")
    assert "no " in reason(batch, job_id)


#: Plays the docker command: notes how it was called and runs what a container would run.
FAKE = f"""#!{sys.executable}
import os, subprocess, sys
log = {{log!r}}
arguments = sys.argv[1:]
assert arguments[0] == "--config"
kind = arguments[2]
with open(log, "a") as file:
    file.write(" ".join(arguments[2:]) + "\\n")
if kind == "login":
    assert sys.stdin.read() == "secret"
if kind == "pull" and open(log).read().count("pull") < 2:
    sys.exit("no such image")
if kind == "image":
    sys.exit("not here")
if kind == "run":
    assert "PATH" not in [name for name in arguments if name.startswith("PATH=")]
    position = arguments.index("user/repo:tag")
    sys.exit(subprocess.call(arguments[position + 1:]))
"""


@pytest.fixture
def engine(emulator: Emulator, tmp_path: Path) -> Path:
    log, program = tmp_path / "log", tmp_path / "docker"
    program.write_text(FAKE.format(log=str(log)))
    program.chmod(0o755)
    emulator.configure(docker_command=str(program))
    return log


def test_container(batch: Call, emulator: Emulator, bucket: Bucket, engine: Path) -> None:
    bucket.put("in/a", b"x")
    spec = task(
        "",
        Application=contained(
            "echo $BATCH_TASK_NAME $GREETING; exit 5",
            User="me",
            Password="secret",
            Server="ccr.ccs.tencentyun.com",
            MaxRetryCount=1,
            DockerRunOption="--cpus 2 --label 'a b'",
        ),
        EnvVars=[{"Name": "GREETING", "Value": "hello"}, {"Name": "PATH", "Value": "/usr/bin:/bin"}],
        # In a container absolute paths need no privileges.
        InputMappings=mapped(bucket.path("in/"), "/data/in"),
    )
    job_id, state = run(batch, emulator, spec)
    assert (state, reason(batch, job_id)) == ("FAILED", "The command ended with exit code 5"), engine.read_text()
    assert log_of(batch, job_id) == "main hello\n"
    calls = engine.read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["version", "login", "pull", "pull", "run", "rm"]
    assert calls[1] == "login --username me --password-stdin ccr.ccs.tencentyun.com"
    started = calls[4]
    for part in (
        "--rm",
        ":/data/in ",
        "-e GREETING",
        "-e BATCH_JOB_ID",
        "-e PATH=/usr/bin:/bin",
        "--cpus 2 --label a b",
    ):
        assert part in started
    assert "secret" not in engine.read_text()


def test_container_of_a_terminated_instance_is_removed(batch: Call, emulator: Emulator, engine: Path) -> None:
    application = contained("echo started; sleep 60", MaxRetryCount=1)
    job_id = batch("SubmitJob", **submission(task("", Application=application))).JobId
    while batch("DescribeJob", JobId=job_id).JobState != "RUNNING":
        pass
    while "started" not in log_of(batch, job_id):
        pass
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) == "FAILED"
    assert engine.read_text().splitlines()[-1].startswith("rm --force tcbatch-")


@pytest.mark.parametrize(
    ("docker", "problem"), [({"DockerRunOption": "'"}, "DockerRunOption"), ({"Image": "--privileged"}, "no image")]
)
def test_bad_containers(batch: Call, emulator: Emulator, engine: Path, docker: dict[str, Any], problem: str) -> None:
    spec = task("", Application=contained("true", MaxRetryCount=1, **docker))
    job_id, state = run(batch, emulator, spec)
    assert state == "FAILED"
    assert problem in reason(batch, job_id)
    assert refused(batch, task("", Application=contained("true", Image=" ")))[0] == "InvalidParameterValue"
