"""One attempt of one instance: folder, environment, package, command, logs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.batch import processes, simulation
from airflow_provider_tcbatch.emulator.batch.entities import DEFAULT_TIMEOUT, Failure, Instance
from airflow_provider_tcbatch.emulator.batch.package import PackageError, fetch_http, unpack
from airflow_provider_tcbatch.emulator.batch.paths import fill_placeholders, parse_cos, relative_local
from airflow_provider_tcbatch.emulator.core import Core
from airflow_provider_tcbatch.emulator.errors import CosError

log = logging.getLogger("tcbatch_emulator.jobs")


async def execute(core: Core, instance: Instance, on_running: Callable[[], None]) -> Failure | None:
    """Run an instance's command once.

    :param on_running: called when the command is about to start.
    :return: None on success.
    """
    if core.settings.mode == "simulate":
        return await simulation.play(core, instance, on_running)
    task = instance.task
    application = task.spec["Application"]
    instance.folders += 1
    folder = task.job.folder / task.name / str(instance.index) / str(instance.folders)
    work = folder / "work"
    work.mkdir(parents=True)
    (folder / "tmp").mkdir()
    for name in ("stdout", "stderr"):
        (folder / name).touch()
    instance.folder = folder
    if application.get("Docker"):
        return Failure("Docker: no Docker engine is available to this emulator", was_running=False)
    if application["DeliveryForm"] == "PACKAGE":
        try:
            await asyncio.to_thread(_deliver, core, application["PackagePath"], work)
        except (PackageError, CosError) as error:
            return Failure(f"PackagePath: {error}", was_running=False)
    on_running()
    timeout = task.spec.get("Timeout", DEFAULT_TIMEOUT)
    try:
        ended = await processes.run(
            application["Command"],
            folder=work,
            env=environment(core, instance, folder),
            stdout=folder / "stdout",
            stderr=folder / "stderr",
            timeout=timeout,
            grace=core.settings.kill_grace_seconds,
            watchdog=core.watchdog,
        )
    except (OSError, ValueError) as error:
        return Failure(f"The command could not be started: {error}")
    instance.exit_code = ended.exit_code
    if ended.timed_out:
        return Failure(f"Timeout: the command ran longer than {timeout} s")
    if ended.exit_code != 0:
        return Failure(f"The command ended with exit code {ended.exit_code}")
    return None


def environment(core: Core, instance: Instance, folder: Path) -> dict[str, str]:
    """What a command finds in its environment; nothing is inherited from the emulator's own."""
    task = instance.task
    env = {
        # The emulator's own Python first, so that python3 finds the COS SDK.
        "PATH": f"{os.path.dirname(sys.executable)}:{processes.SYSTEM_PATH}",
        "HOME": str(folder / "work"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "TENCENTCLOUD_SECRET_ID": core.identity.secret_id,
        "TENCENTCLOUD_SECRET_KEY": core.identity.secret_key,
        "TENCENTCLOUD_REGION": core.identity.region,
        "COS_ENDPOINT": core.cos_endpoint,
    }
    env.update((item["Name"], item["Value"]) for item in task.spec.get("EnvVars", ()))
    env.update(
        BATCH_JOB_ID=task.job.job_id,
        BATCH_TASK_NAME=task.name,
        BATCH_TASK_INSTANCE_NUM=str(len(task.instances)),
        BATCH_TASK_INSTANCE_INDEX=str(instance.index),
    )
    return env


def _deliver(core: Core, path: str, work: Path) -> None:
    if path.startswith("cos://"):
        source = parse_cos(path, "PackagePath", folder=False)
        data = core.store.get(source.bucket, source.key)
    else:
        data = fetch_http(path)
    unpack(data, work)


def redirect_info(instance: Instance) -> dict[str, Any]:
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
        info[f"{title}RedirectFileName"] = fill_placeholders(template, task.job.job_id, task.name, instance.index)
    return info


async def upload_logs(core: Core, instance: Instance) -> None:
    """Put stdout and stderr of the newest attempt where RedirectInfo and RedirectLocalInfo say."""
    if instance.folder is not None:
        await asyncio.to_thread(_upload, core, instance, instance.folder)


def _upload(core: Core, instance: Instance, folder: Path) -> None:
    info = redirect_info(instance)
    local = instance.task.spec.get("RedirectLocalInfo") or {}
    for stream, title in (("stdout", "Stdout"), ("stderr", "Stderr")):
        try:
            with open(folder / stream, "rb") as file:
                data = file.read(core.settings.max_open_log_bytes)
        except OSError:
            # The job was deleted in between.
            continue
        if info[f"{title}RedirectPath"]:
            target = parse_cos(info[f"{title}RedirectPath"], "RedirectInfo", folder=True)
            try:
                core.store.put(target.bucket, target.key + info[f"{title}RedirectFileName"], data)
            except CosError as error:
                log.warning("%s of %s is not uploaded: %s", stream, instance.task.job.job_id, error)
        if local.get(f"{title}LocalPath"):
            _copy_local(instance, folder, local[f"{title}LocalPath"], local.get(f"{title}LocalFileName"), stream, data)


def _copy_local(instance: Instance, folder: Path, path: str, template: str | None, stream: str, data: bytes) -> None:
    task = instance.task
    name = fill_placeholders(
        template or f"{stream}.${{BATCH_JOB_ID}}.${{BATCH_TASK_NAME}}.${{BATCH_TASK_INSTANCE_INDEX}}.log",
        task.job.job_id,
        task.name,
        instance.index,
    )
    target = folder / "work" / relative_local(path, "RedirectLocalInfo")
    # The command may have made links in its folder; what they lead to is not ours to write.
    if not target.resolve().is_relative_to((folder / "work").resolve()) or (target / name).is_symlink():
        log.warning("%s of %s is not copied: %s leads out of its folder", stream, task.job.job_id, path)
        return
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    except OSError as error:
        log.warning("%s of %s is not copied: %s", stream, task.job.job_id, error)
