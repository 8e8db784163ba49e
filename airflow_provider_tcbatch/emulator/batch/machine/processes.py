"""Running a command as a process group, and making sure it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from airflow_provider_tcbatch.emulator.batch.machine import watchdog as watchdog_module
from airflow_provider_tcbatch.emulator.files import open_to_append

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Ended:
    """How a command ended; a death by signal N is exit code 128 + N, as a shell reports it."""

    exit_code: int
    timed_out: bool = False


class Watchdog:
    """Tells the clean-up process which groups are running.

    :param temporary: folder to remove when the emulator is gone, or None.
    """

    def __init__(self, temporary: Path | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog_module.__file__, str(temporary or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def _tell(self, text: str) -> None:
        # Without its watchdog the emulator still works; only a SIGKILL of it would then leave processes behind.
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(text.encode())

    def started(self, group: int) -> None:
        """A process group began."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """A process group is gone."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Let the process clean up and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


async def run(
    command: str,
    *,
    folder: Path,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    timeout: float,  # noqa: ASYNC109 - it ends a program, and not this call
    grace: float,
    watchdog: Watchdog,
    launcher: Sequence[str] = (),
    on_start: Callable[[int], None] | None = None,
) -> Ended:
    """Run ``sh -c command`` in a new process group until it ends, times out or this call is cancelled.

    Whatever happens, no process of the group is left afterwards.

    :param timeout: seconds the command may run.
    :param grace: seconds between SIGTERM and SIGKILL.
    :param launcher: program and arguments that start the shell in some other place.
    :param on_start: called with the process group when it runs.
    :raises OSError: when the process cannot be started.
    """
    with open_to_append(stdout) as out, open_to_append(stderr) as err:
        process = await asyncio.create_subprocess_exec(
            *launcher,
            "/bin/sh",
            "-c",
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=folder,
            env=dict(env),
            start_new_session=True,
        )
    group = process.pid
    watchdog.started(group)
    if on_start is not None:
        on_start(group)
    timed_out = False
    try:
        try:
            with anyio.fail_after(timeout):
                await process.wait()
        except TimeoutError:
            timed_out = True
    finally:
        await _end_group(process, group, grace)
        watchdog.ended(group)
    code = process.returncode
    assert code is not None
    return Ended(code if code >= 0 else 128 - code, timed_out)


async def _end_group(process: asyncio.subprocess.Process, group: int, grace: float) -> None:
    """Stop what still runs of a group: politely when its leader still runs, else at once."""
    if process.returncode is None:
        _signal(group, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        with anyio.move_on_after(grace):
            await process.wait()
        # The leader may be a shell that died at once while its program still tidies up. Nothing announces the end of
        # a process group, so this one has to be looked at.
        while _lives(group) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    _signal(group, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _lives(group: int) -> bool:
    """Whether a process of the group still runs; one that ended but was not yet collected by its parent does not."""
    if not _signal(group, 0):
        return False
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    for number in numbers:
        try:
            with open(f"/proc/{number}/stat", "rb") as file:
                # "pid (name) state parent group …", where the name may hold anything, brackets and spaces too.
                state, _, its_group = file.read().rpartition(b") ")[2].split(maxsplit=3)[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in (b"Z", b"X"):
            return True
    return False
