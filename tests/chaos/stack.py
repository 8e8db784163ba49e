"""Everything that stands in the storm, as processes: Airflow with two schedulers and two triggerers, its database,
and the service.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
import psutil
from typing_extensions import Self

from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import clean_environment

#: The repository: the service is a program of the tests.
ROOT = Path(__file__).parents[2]

#: Parts beside those that every stack has.
SECOND = {"scheduler 2": "scheduler", "triggerer 2": "triggerer"}

#: Airflow looks after its own as quickly as in the end-to-end tests. Schedulers believe in each other for longer: one
#: that is merely busy must not lose all its tasks to the other.
CONFIG: dict[str, dict[str, str]] = {
    "core": {"parallelism": "6"},
    "scheduler": {"scheduler_health_check_threshold": "25"},
    # A worker that can't begin within five seconds, because the machine is busy, would lose its task a try.
    "workers": {"execution_api_timeout": "30"},
    "tcbatch": {"deployment_id": "chaos"},
}

#: Where no worker is killed, none is given up: not by a machine that is too busy to send a heartbeat in time either.
PATIENT = {"scheduler": {"task_instance_heartbeat_timeout": "300", "scheduler_health_check_threshold": "60"}}

#: The service limits calls as the real one does, and remembers all of them.
SETTINGS = {"rate_limits": "cn", "call_log_size": "100000", "capacity": "60"}

_WORKER = "airflow worker -- "
_TRY = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ChaosStack:
    """All processes of one storm.

    :param folder: takes everything they write.
    :param workers_die: whether anything is done that takes workers along.
    """

    def __init__(self, folder: Path, *, workers_die: bool = True) -> None:
        self.folder = folder
        self._config = CONFIG if workers_die else {**CONFIG, **PATIENT}
        self.ledger = folder / "ledger"
        command = (sys.executable, "-m", "tests.chaos.service")
        self.service = _Service(folder / "service", settings=SETTINGS, command=command)
        self.database = PostgresServer(folder / "postgres")
        self.airflow: AirflowStack
        self._frozen: dict[str, list[psutil.Process]] = {}
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._ends.enter_context(self.service)
            self._ends.enter_context(self.database)
            own = json.loads(self.service.connection)
            role = {
                "role_arn": "qcs::cam::uin/100000000001:roleName/airflow",
                "sts_endpoint": self.service.info["sts_endpoint"],
            }
            self.airflow = AirflowStack(
                self.folder / "stack",
                dags=Path(__file__).parent / "dags",
                connections={"tencentcloud_default": own, "role": {**own, "extra": {**own["extra"], **role}}},
                config=self._config,
                variables={"CHAOS_LEDGER": str(self.ledger)},
                database=self.database.url,
                triggerers=2,
            )
            self._ends.enter_context(self.airflow)
            self.airflow.start_part("scheduler", name="scheduler 2")
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What stands still can't be asked to end.
        for part in list(self._frozen):
            self.thaw(part)
        self._ends.close()

    # Acts upon Airflow

    def kill(self, part: str, dice: random.Random) -> AffectedProcesses:
        """Kill a part of Airflow with all it has started, or some task that runs."""
        processes = self._processes(part, dice)
        met = AffectedProcesses.of(processes)
        if part in ("task", "worker"):
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        elif processes:
            self._frozen.pop(part, None)
            self.airflow.kill_part(part)
        return met

    def start(self, part: str) -> None:
        """Start a part that was killed."""
        if part not in ("task", "worker") and part not in self.airflow.parts:
            self.airflow.start_part(SECOND.get(part, part), name=part)

    def freeze(self, part: str, dice: random.Random) -> AffectedProcesses:
        """Let a part of Airflow stand still, or some task that runs."""
        processes = self._frozen[part] = self._processes(part, dice)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)
        return AffectedProcesses.of(processes)

    def thaw(self, part: str) -> None:
        """Let it go on."""
        for process in self._frozen.pop(part, []):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def revive(self) -> list[str]:
        """Start what has ended by itself, as a supervisor would."""
        return self.airflow.revive()

    def _processes(self, part: str, dice: random.Random) -> list[psutil.Process]:
        if part in ("task", "worker"):
            return self._working(part, dice)
        process = self.airflow.parts.get(part)
        return [] if process is None else process.members()

    def _working(self, part: str, dice: random.Random) -> list[psutil.Process]:
        """The process of some task that runs, for ``worker`` with its supervisor."""
        parts = [self.airflow.parts.get(name) for name in ("scheduler", "scheduler 2")]
        tasks = [one for process in parts if process is not None for one in process.members() if _is_task(one)]
        if not tasks:
            return []
        task = dice.choice(sorted(tasks, key=lambda one: one.pid))
        supervisor = task.parent() if part == "worker" else None
        return [task] if supervisor is None else [supervisor, task]

    # The service

    def sts(self, path: str, method: str = "GET") -> Any:
        """Ask the doors of the service that only the tests know."""
        answer = httpx.request(method, f"{self.service.info['sts_endpoint']}/{path}", timeout=60, trust_env=False)
        return answer.raise_for_status().json()

    def freeze_service(self) -> None:
        """The service stands still, with all connections to it; what its jobs run goes on."""
        os.kill(self.service.process.pid, signal.SIGSTOP)

    def thaw_service(self) -> None:
        """It goes on."""
        os.kill(self.service.process.pid, signal.SIGCONT)


class _Service(EmulatorProcess):
    """The program of :mod:`tests.chaos.service`, which must find the tests."""

    def environment(self, home: Path) -> dict[str, str]:
        return clean_environment(home, PYTHONPATH=str(ROOT))

    def stop(self) -> None:
        """End it, also while it stands still."""
        with contextlib.suppress(Exception):
            os.kill(self.process.pid, signal.SIGCONT)
        super().stop()


class AffectedProcesses(NamedTuple):
    """Which processes an act has met.

    :ivar note: the first of them.
    :ivar tries: ids of the tries that they worked on.
    """

    note: str
    tries: frozenset[str]

    @classmethod
    def of(cls, processes: Sequence[psutil.Process]) -> AffectedProcesses:
        """What these processes are."""
        titles = [f"pid {process.pid} {_title(process)[:80]}" for process in processes]
        more = [f"and {len(titles) - 3} more"] if len(titles) > 3 else []
        # Workers call themselves by the try they work on, and so do its supervisor and its own process.
        tries = frozenset(found for title in titles if _WORKER in title for found in _TRY.findall(title))
        return cls("; ".join([*titles[:3], *more]) or "nothing", tries)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def _is_task(process: psutil.Process) -> bool:
    """Whether it is a task's own process: it calls itself ``airflow worker -- <id of the try>``."""
    return _TRY.fullmatch(_title(process).removeprefix(_WORKER)) is not None
