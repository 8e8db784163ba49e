"""One attempt of one instance: folder, environment, package, command, logs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator import files
from airflow_provider_tcbatch.emulator.batch.jobs import simulation
from airflow_provider_tcbatch.emulator.batch.jobs.entities import DEFAULT_TIMEOUT, Failure, Instance, Task
from airflow_provider_tcbatch.emulator.batch.jobs.mappings import MappingError, Workspace, prepare, store
from airflow_provider_tcbatch.emulator.batch.machine import processes
from airflow_provider_tcbatch.emulator.batch.machine.docker import Container, DockerError
from airflow_provider_tcbatch.emulator.batch.machine.package import PackageError, fetch_http, unpack
from airflow_provider_tcbatch.emulator.batch.machine.paths import (
    check_file_name,
    fill_placeholders,
    folder_name,
    parse_cos,
    relative_local,
)
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.errors import ApiError, CosError
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.settings import Settings

log = logging.getLogger("tcbatch_emulator.jobs")


async def execute(batch: BatchService, instance: Instance, on_running: Callable[[], None]) -> Failure | None:
    """Run an instance's command once.

    :param on_running: called when the command is about to start.
    :return: None on success.
    """
    host = batch.host
    if host.settings.mode == "simulate":
        return await simulation.play(host, instance, on_running)
    task = instance.task
    instance.folders += 1
    folder = task.job.folder / folder_name(task.name) / str(instance.index) / str(instance.folders)
    for name in ("work", "tmp"):
        (folder / name).mkdir(parents=True)
    for name in ("stdout", "stderr"):
        (folder / name).touch()
    instance.folder = folder
    try:
        space = await asyncio.to_thread(_prepare, batch, task, folder)
    except PackageError as error:
        return Failure(f"PackagePath: {error}", was_running=False)
    except MappingError as error:
        return Failure(str(error), was_running=False)
    except CosError as error:
        return Failure(f"InputMappings: {error}", was_running=False)
    if "Docker" not in task.spec["Application"]:
        env = environment(host, instance, folder)
        failure = await _run(batch, instance, on_running, env, space.launcher, space)
    else:
        failure = await _run_container(batch, instance, on_running, space)
    if failure is None or host.settings.upload_outputs == "always":
        try:
            await asyncio.to_thread(store, batch, task, space)
        except MappingError as error:
            failure = failure or Failure(str(error))
        except CosError as error:
            failure = failure or Failure(f"OutputMappings: {error}")
    return failure


def _prepare(batch: BatchService, task: Task, folder: Path) -> Workspace:
    """Deliver package and inputs."""
    application = task.spec["Application"]
    if application["DeliveryForm"] == "PACKAGE":
        path, limit = application["PackagePath"], batch.host.settings.max_package_bytes
        if path.startswith("cos://"):
            source = parse_cos(path, "PackagePath", folder=False)
            try:
                data = batch.objects.get(source.bucket, source.key)
            except CosError as error:
                raise PackageError(str(error)) from error
        else:
            data = fetch_http(path, limit)
        if len(data) > limit:
            raise PackageError(f"the package is larger than {limit} bytes")
        unpack(data, folder / "work", limit)
    return prepare(batch, task, folder)


def commands_of(host: Host, instance: Instance) -> list[str]:
    """What an instance runs, in order."""
    application = instance.task.spec["Application"]
    if "Commands" not in application:
        return [application["Command"]]
    commands = [item["Command"] for item in application["Commands"]]
    if host.settings.commands == "per_instance":
        return [commands[instance.index % len(commands)]]
    return commands


async def _run_container(
    batch: BatchService, instance: Instance, on_running: Callable[[], None], space: Workspace
) -> Failure | None:
    host = batch.host
    folder = space.folder
    variables = variables_of(host, instance)
    spec = instance.task.spec["Application"]["Docker"]
    container = Container(host.settings.docker_command, spec, folder, variables, space.absolute)
    try:
        await container.prepare(host)
        launcher = container.launcher()
        return await _run(batch, instance, on_running, container.env, lambda: launcher, space)
    except DockerError as error:
        return Failure(f"Docker: {error}", was_running=False)
    finally:
        # Also when the instance is terminated: ending the docker command does not end what it started.
        await asyncio.shield(container.remove())


async def _run(
    batch: BatchService,
    instance: Instance,
    on_running: Callable[[], None],
    env: dict[str, str],
    launcher: Callable[[], list[str]],
    space: Workspace,
) -> Failure | None:
    """Run the commands of one attempt one after the other, until one fails."""
    monitor, folder = batch.monitor, space.folder
    timeout = instance.task.spec.get("Timeout", DEFAULT_TIMEOUT)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    on_running()
    for command in commands_of(batch.host, instance):
        groups: list[int] = []

        def began(group: int, groups: list[int] = groups) -> None:
            groups.append(group)
            series = monitor.begin(group, instance.machine, folder)
            instance.series = (*(instance.series or ()), series)

        try:
            ended = await processes.run(
                command,
                folder=folder / "work",
                env=env,
                stdout=folder / "stdout",
                stderr=folder / "stderr",
                timeout=max(0.0, deadline - loop.time()),
                grace=batch.host.settings.kill_grace_seconds,
                watchdog=batch.watchdog,
                launcher=launcher(),
                on_start=began,
            )
        except (OSError, ValueError) as error:
            return Failure(f"The command could not be started: {error}")
        finally:
            for group in groups:
                monitor.end(group)
        instance.exit_code = ended.exit_code
        if space.error_file.exists():
            instance.exit_code = None
            return Failure(f"Mappings: {space.error()}", was_running=False)
        space.reset()
        if ended.timed_out:
            return Failure(f"Timeout: the command ran longer than {timeout} s")
        if ended.exit_code != 0:
            return Failure(f"The command ended with exit code {ended.exit_code}")
    return None


def environment(host: Host, instance: Instance, folder: Path) -> dict[str, str]:
    """What a command finds in its environment; nothing is inherited from the emulator's own."""
    return {
        # The emulator's own Python first, so that python3 finds the COS SDK.
        "PATH": f"{os.path.dirname(sys.executable)}:{processes.SYSTEM_PATH}",
        "HOME": str(folder / "work"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        **variables_of(host, instance),
    }


def variables_of(host: Host, instance: Instance) -> dict[str, str]:
    """The part of the environment that a container has too."""
    task = instance.task
    env = {
        "TENCENTCLOUD_SECRET_ID": host.identity.secret_id,
        "TENCENTCLOUD_SECRET_KEY": host.identity.secret_key,
        "TENCENTCLOUD_REGION": host.identity.region,
        "COS_ENDPOINT": host.cos_endpoint,
    }
    env.update((item["Name"], item["Value"]) for item in task.spec.get("EnvVars", ()))
    env.update(
        BATCH_JOB_ID=task.job.job_id,
        BATCH_TASK_NAME=task.name,
        BATCH_TASK_INSTANCE_NUM=str(len(task.instances)),
        BATCH_TASK_INSTANCE_INDEX=str(instance.index),
    )
    return env


def redirect_info(instance: Instance, settings: Settings) -> dict[str, Any]:
    """Where an instance's logs go, with the file names made out: RedirectInfo of DescribeTask."""
    task = instance.task
    wanted = task.spec.get("RedirectInfo") or {}
    info: dict[str, Any] = {}
    for stream, title in (("stdout", "Stdout"), ("stderr", "Stderr")):
        path = wanted.get(f"{title}RedirectPath") or ""
        template = wanted.get(f"{title}RedirectFileName") or (
            f"{stream}.${{BATCH_JOB_ID}}.${{BATCH_TASK_NAME}}.${{BATCH_TASK_INSTANCE_INDEX}}.log" if path else ""
        )
        info[f"{title}RedirectPath"] = path
        name = fill_placeholders(template, task.job.job_id, task.name, instance.index)
        again = name and settings.log_names == "per_attempt" and instance.folders > 1
        info[f"{title}RedirectFileName"] = f"{name}.{instance.folders}" if again else name
    return info


async def upload_logs(batch: BatchService, instance: Instance) -> None:
    """Put stdout and stderr of the newest attempt where RedirectInfo and RedirectLocalInfo say."""
    if instance.folder is not None:
        await asyncio.to_thread(_upload, batch, instance, instance.folder)


def _upload(batch: BatchService, instance: Instance, folder: Path) -> None:
    info = redirect_info(instance, batch.host.settings)
    local = instance.task.spec.get("RedirectLocalInfo") or {}
    for stream, title in (("stdout", "Stdout"), ("stderr", "Stderr")):
        try:
            data = files.read(folder / stream, batch.host.settings.max_open_log_bytes)
        except FileNotFoundError:
            # The job was deleted in between.
            continue
        except OSError as error:
            log.warning("%s of %s is not uploaded: %s", stream, instance.task.job.job_id, error)
            continue
        if info[f"{title}RedirectPath"]:
            try:
                target = parse_cos(info[f"{title}RedirectPath"], "RedirectInfo", folder=True)
                batch.objects.put(target.bucket, target.key + info[f"{title}RedirectFileName"], data)
            except (ApiError, CosError) as error:
                log.warning("%s of %s is not uploaded: %s", stream, instance.task.job.job_id, error)
        if local.get(f"{title}LocalPath"):
            _copy_local(instance, folder, local[f"{title}LocalPath"], local.get(f"{title}LocalFileName"), stream, data)


def _copy_local(instance: Instance, folder: Path, path: str, template: str | None, stream: str, data: bytes) -> None:
    task = instance.task
    name = fill_placeholders(
        template or f"{stream}.${{BATCH_JOB_ID}}.${{BATCH_TASK_NAME}}.${{BATCH_TASK_INSTANCE_INDEX}}.log",
        task.job.job_id,
        folder_name(task.name),
        instance.index,
    )
    # While jobs were only simulated, more was accepted than may be written on this machine.
    try:
        target = folder / "work" / relative_local(path, "RedirectLocalInfo")
        check_file_name(name, "RedirectLocalInfo", code="InvalidParameterValue.LocalPath")
    except ApiError as error:
        log.warning("%s of %s is not copied: %s", stream, task.job.job_id, error)
        return
    # The command may have made links in its folder; what they lead to is not ours to write.
    if not target.resolve().is_relative_to((folder / "work").resolve()) or (target / name).is_symlink():
        log.warning("%s of %s is not copied: %s leads out of its folder", stream, task.job.job_id, path)
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        files.write(target / name, data)
    except OSError as error:
        log.warning("%s of %s is not copied: %s", stream, task.job.job_id, error)
