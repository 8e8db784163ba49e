"""Start processes and be sure to end them, with everything they started.

Airflow's parts fork workers, and those fork supervisors and task runners, some in process groups of their own. A
signal to the first process reaches only some of them. So every process started here leads a *session*: its
descendants stay in that session whatever group they choose, and :meth:`ServiceProcess.stop` ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psutil

#: Seconds between two looks at something that cannot tell us by itself.
LOOK_AGAIN = 0.1

#: A pause is so many times as long as the look before it, up to so many seconds: a request takes Airflow's API server a
#: tenth of a second of a core, and what is looked at needs the cores, too.
LOOK_COST, LONGEST_PAUSE = 8, 1.0


class ServiceError(RuntimeError):
    """A service did not start, or ended before its time. The message ends with the tail of its log."""


class ReservedPort:
    """A free port of the loopback interface that nobody else is given until it is released.

    Asking the system for a free port and closing the socket leaves a gap in which another process may get the same
    port. The socket here stays bound, without listening, with ``SO_REUSEADDR``: a server that sets the same option
    (uvicorn does) can still listen on the port, while nobody who asks for "any free port" is given it.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Give the port back."""
        self._socket.close()


class ServiceProcess:
    """One process that runs until it is stopped, and whatever it starts.

    :param name: how messages call it.
    :param command: the command line.
    :param env: its whole environment; nothing is inherited.
    :param log: file that takes its output (stderr, and stdout unless ``capture_stdout``).
    :param cwd: its working folder.
    :param capture_stdout: hand stdout to the caller as :attr:`stdout` instead of the log.
    :param account: whom it runs as, if not as whoever runs the tests.
    :param ends_by: the signal that asks it to end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        capture_stdout: bool = False,
        account: pwd.struct_passwd | None = None,
        ends_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self.ends_by = ends_by
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture_stdout else output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                **run_as(account),
            )

    @property
    def pid(self) -> int:
        """Process id of the first process, which is the id of its session as well."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes]:
        """The process's standard output, if it was asked for."""
        if self._process.stdout is None:
            raise ValueError(f"stdout of {self.name} goes to {self.log}")
        return self._process.stdout

    def returncode(self) -> int | None:
        """Exit status of the first process, None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise :class:`ServiceError` if the process has ended."""
        code = self.returncode()
        if code is not None:
            raise ServiceError(f"{self.name} ended with status {code}\n{self.log_tail()}")

    def members(self) -> list[psutil.Process]:
        """All living processes of this one's session."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the first process only."""
        if self.returncode() is None:
            self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the session."""
        for process in self.members():
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(number)

    def is_gone(self) -> bool:
        """Whether no process of the session is left."""
        # Polling also reaps the first process, which would stay behind as a zombie otherwise.
        return self.returncode() is not None and not self.members()

    def wait_until_gone(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the whole session to end."""
        deadline = time.monotonic() + timeout
        while not self.is_gone():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_AGAIN)
        return True

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log, with a heading."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"--- last lines of {self.log}", *text.splitlines()[-lines:]])


def stop_all(processes: Sequence[ServiceProcess], *, grace: float = 5.0) -> None:
    """End processes and everything they started, all at the same time.

    First the leaders are asked (``ends_by``) and have ``grace`` seconds to wind up, then every process of their
    sessions is asked (SIGTERM), then killed. Signals that would interrupt this are put off until it is done.

    :raises ServiceError: if something survived even that.
    """
    with _uninterrupted():
        for process in processes:
            process.send(process.ends_by)
        left = _wait_for_all(processes, grace)
        for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0), (signal.SIGKILL, 5.0)):
            for process in left:
                process.send_all(number)
            left = _wait_for_all(left, patience)
        for process in processes:
            if process._process.stdout is not None:
                process._process.stdout.close()
        if left:
            raise ServiceError(f"still running after SIGKILL: {', '.join(p.name for p in left)}")


def _wait_for_all(processes: Sequence[ServiceProcess], timeout: float) -> list[ServiceProcess]:
    """Wait for the sessions to end and return those that did not."""
    deadline = time.monotonic() + timeout
    left = list(processes)
    while left:
        left = [process for process in left if not process.is_gone()]
        if not left or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_AGAIN)
    return left


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and requests to end: an impatient second Ctrl-C must not leave half of Airflow running."""
    if not _in_main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into :class:`SystemExit`, so that ``finally`` blocks and fixtures get to clean up."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if _in_main_thread():
        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGHUP, leave)


def wait_for(
    what: str,
    condition: Callable[[], bool],
    *,
    timeout: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Look until ``condition`` holds, every :data:`LOOK_AGAIN` seconds or as seldom as a look is expensive.

    :param check: called before each look; raises if waiting has become pointless.
    :raises TimeoutError: naming ``what`` after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        check()
        if condition():
            return
        ended = time.monotonic()
        if ended >= deadline:
            raise TimeoutError(f"{what}: not after {timeout:g} s")
        time.sleep(min(max(LOOK_AGAIN, LOOK_COST * (ended - began)), LONGEST_PAUSE))


def run_as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments that let :mod:`subprocess` start a program as somebody else; nothing changes for ``None``."""
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment for a service: this interpreter's programs first, a home of its own, no proxies.

    Nothing else is taken over, so that a developer's ``AIRFLOW__…`` or ``TENCENTCLOUD_…`` variables change nothing.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": path, "HOME": str(home), "PYTHONUNBUFFERED": "1", "NO_PROXY": "*", **more}
