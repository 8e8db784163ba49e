"""One emulator, one PostgreSQL and one Airflow for all end-to-end tests; all are real processes.

PostgreSQL, because with SQLite a request that comes while all others write may be answered with an error.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer


@dataclass(frozen=True)
class Run:
    """A run of one of the DAGs."""

    stack: AirflowStack
    dag_id: str
    run_id: str

    def wait(self, timeout: float = 150) -> str:
        """Wait for its end and return its state."""
        return self.stack.api.wait_for_run(self.dag_id, self.run_id, timeout=timeout)

    def succeed(self, timeout: float = 150) -> None:
        """Wait for its end; anything but success fails the test with the logs of the tasks."""
        state = self.wait(timeout)
        assert state == "success", self.stack.api.describe_run(self.dag_id, self.run_id)

    def wait_for_task(self, task_id: str, state: str, timeout: float = 100) -> None:
        """Wait until a task instance is in this state."""
        self.stack.api.wait_for_task(self.dag_id, self.run_id, task_id, {state}, timeout=timeout)

    def try_number(self, task_id: str) -> int:
        """Number of a task's current try."""
        number: int = self.stack.api.task_instance(self.dag_id, self.run_id, task_id)["try_number"]
        return number

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """An XCom's value."""
        return self.stack.api.xcom(self.dag_id, self.run_id, task_id, key)

    def log(self, task_id: str, try_number: int = 1) -> str:
        """A task's log."""
        return self.stack.api.log(self.dag_id, self.run_id, task_id, try_number)


@pytest.fixture(scope="session", autouse=True)
def _end_in_good_order() -> Iterator[None]:
    """A request to end becomes an orderly end of the session: fixtures are torn down, no process stays."""

    def leave(number: int, frame: FrameType | None) -> None:
        pytest.exit(f"ended by signal {number}", returncode=128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """The emulator."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator")) as process:
        yield process


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Airflow's database."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorProcess, database: PostgresServer
) -> Iterator[AirflowStack]:
    """Airflow, with the connection to the emulator in its database."""
    with AirflowStack(
        tmp_path_factory.mktemp("stack"),
        dags=Path(__file__).parent / "dags",
        connections={"tencentcloud_default": json.loads(emulator.connection)},
        config={"tcbatch": {"deployment_id": "e2e"}},
        database=database.url,
    ) as stack:
        yield stack


@pytest.fixture
def trigger(airflow: AirflowStack) -> Callable[..., Run]:
    """Start a run: ``trigger("failing", greeting="hi")``; keyword arguments are its configuration."""

    def start(dag_id: str, **conf: Any) -> Run:
        return Run(airflow, dag_id, airflow.api.trigger(dag_id, conf))

    return start


#: They have an Airflow of their own and take longest: the others run beside them.
FIRST = ("test_triggerers.py", "test_assets.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest ones first."""
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of Airflow's parts below a test that failed."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("airflow")
    if report.failed and isinstance(stack, AirflowStack):
        report.sections.append(("logs of Airflow's parts", stack.log_tails()))
    return report
