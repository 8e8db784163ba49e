"""Two triggerers share many waits: each is told soon whichever of them holds it, and none is lost when one is killed.

One Airflow on PostgreSQL uses two connections to one emulator: with the first, each triggerer makes an event queue of
its own; with the second, both read one. What happens, happens once, for both at the same time: the fixtures below are
its stages, each of which goes on where the one before has ended.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.cmq import DescribeCmqQueues
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_for

pytestmark = pytest.mark.timeout(900)

#: The connections. Each has two DAGs: one waits for jobs that others submit, the other submits some of its own.
MODES = ("own_queue", "shared_queue")

#: As in the DAG file: waits in a run of the one, jobs in a run of the other.
WAITS, JOBS = 10, 3

#: Runs of the DAG that waits.
RUNS = 20

#: Waits of each mode.
ALL = RUNS * WAITS + JOBS

#: Jobs end in three parts, by their numbers; those of a higher priority may run first.
PRIORITIES = (90, 70, 50)

#: The queue that both triggerers read, with its topic, and for how many seconds a message that one of them leaves is
#: hidden from the other.
SHARED, TOPIC, HIDDEN = "events-of-all", "shared", 1

#: Waits that one triggerer holds at most: not all there are, so that both hold some, but all that are left when the
#: first part of the jobs has ended.
CAPACITY = int(0.7 * len(MODES) * ALL)

#: Seconds within which a triggerer knows of an end. It takes about one on a machine that is not busy; by the clock it
#: takes an hour.
SOON = 15.0

#: How many of the ends must be known by events, whosever event it was that led to the look. Not all: waits are looked
#: at by the clock, too, though seldom when they are older, and such a look may come between an end and its event.
BY_EVENT = 0.9

#: While parts end, the service takes so many seconds to answer: then an event is sooner than the answer to a look by
#: the clock that comes just before it, also where a busy machine is late with both.
SLOW = {"kind": "slow_answer", "action": "DescribeJobs", "seconds": 2}

#: Jobs take no time, but only so many may run at once: a part ends when the test makes room for one more, job after
#: job, until one that never ends takes the room.
EMULATOR = {
    "mode": "simulate",
    "simulated_seconds": "0.03",
    "starting_seconds": "0",
    "capacity": "1",
    "call_log_size": "20000",
}

CONFIG = {
    "triggerer": {
        "capacity": str(CAPACITY),
        # With each wait that Airflow starts in the triggerer it hands its process the whole DAG, by way of a socket.
        "max_trigger_to_select_per_loop": "5",
        # When its first waits come, a triggerer is busy with itself for ten seconds of a free core: it builds the API
        # that triggers ask. It is not to be given up for it; how long a dead one is believed in, the test itself says.
        "triggerer_health_check_threshold": "300",
        "runner_health_check_threshold": "300",
    }
}


class Wait(NamedTuple):
    """One wait: a task instance."""

    dag_id: str
    run_id: str
    task_id: str


#: A line of a triggerer's own log.
FIRED = re.compile(r"Trigger fired event .*name='(?P<name>[^']+)'")


@dataclass
class Waits:
    """All waits of one mode.

    :param emulator: where the jobs are.
    :param stack: the Airflow.
    :param database: its database.
    :param mode: id of the connection.
    """

    emulator: EmulatorProcess
    stack: AirflowStack
    database: PostgresServer
    mode: str
    #: Runs by their DAG.
    runs: dict[str, list[str]] = field(default_factory=dict)
    #: The job that each waits for.
    jobs: dict[Wait, str] = field(default_factory=dict)

    def start(self, hook: TCBatchHook) -> None:
        """Submit jobs and start the runs that wait for them, and the run that submits its own."""
        api, jobs, waits = self.stack.api, f"{self.mode}_jobs", f"{self.mode}_waits"
        self.runs = {jobs: [api.trigger(jobs)], waits: []}
        for _ in range(RUNS):
            ids = [hook.submit_job(job(PRIORITIES[number % 3])) for number in range(WAITS)]
            run_id = api.trigger(waits, {"ids": ids})
            self.runs[waits].append(run_id)
            self.jobs.update({Wait(waits, run_id, f"wait_{number}"): job_id for number, job_id in enumerate(ids)})

    def note_jobs(self) -> None:
        """Note the jobs that the DAG has submitted itself."""
        dag_id = f"{self.mode}_jobs"
        [run_id] = self.runs[dag_id]
        for wait in (Wait(dag_id, run_id, f"job_{number}") for number in range(JOBS)):
            self.jobs[wait] = self.stack.api.xcom(*wait, "job_id")

    def part(self, *numbers: int) -> set[Wait]:
        """The waits whose jobs end in these parts."""
        return {wait for wait in self.jobs if int(wait.task_id.partition("_")[2]) % 3 in numbers}

    def ask(self, select: str) -> list[tuple[Any, ...]]:
        """Ask the database about the task instances; REST would keep the API server busier than all the waits do."""
        with contextlib.closing(self.database.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {select}", {"dags": list(self.runs)})
            return list(cursor.fetchall())

    def states(self) -> Counter[str]:
        """How many are in each state."""
        select = "state, count(*) FROM task_instance WHERE dag_id = ANY(%(dags)s) GROUP BY state"
        return Counter(dict(self.ask(select)))

    def holders(self) -> Counter[int | None]:
        """How many waits each triggerer holds; those that have ended are not counted."""
        tables = "task_instance JOIN trigger ON trigger.id = task_instance.trigger_id"
        select = f"triggerer_id, count(*) FROM {tables} WHERE dag_id = ANY(%(dags)s) GROUP BY triggerer_id"
        return Counter(dict(self.ask(select)))

    def watched(self) -> bool:
        """Whether each job has been looked at. Being assigned to a triggerer, a wait has not begun yet."""
        looks = [call for call in self.emulator.control("calls")["calls"] if call["action"] == "DescribeJobs"]
        return set(self.jobs.values()) <= {job_id for look in looks for job_id in look["job_ids"]}

    def tasks(self) -> dict[Wait, tuple[str, int]]:
        """State and number of the try of each."""
        select = "dag_id, run_id, task_id, state, try_number FROM task_instance WHERE dag_id = ANY(%(dags)s)"
        return {Wait(*key): (state, number) for *key, state, number in self.ask(select)}

    def known(self) -> dict[Wait, dict[str, Any]]:
        """How the ends of jobs were noticed, for waits of the sensors."""
        select = "dag_id, run_id, task_id, value FROM xcom WHERE dag_id = ANY(%(dags)s) AND key = 'tcbatch_wait'"
        found = {Wait(*key): value for *key, value in self.ask(select)}
        # Written by a triggerer, it is JSON inside JSON.
        return {wait: json.loads(value) if isinstance(value, str) else value for wait, value in found.items()}

    def expect(self, *parts: int) -> None:
        """Wait until the waits of these parts have ended, and no others."""
        waits = self.part(*parts)

        def ended() -> bool:
            states = self.states()
            assert states["failed"] == 0
            return states["success"] >= len(waits)

        wait_for(f"{len(waits)} waits of {self.mode} ended", ended, timeout=150, check=self.stack.check)
        assert {wait for wait, (state, _) in self.tasks().items() if state == "success"} == waits

    def told(self) -> list[Wait]:
        """The waits whose end triggerers have told so far.

        It is in the log of the wait, or in that of the triggerer: where many end at once, Airflow closes the first
        before all has been written.
        """
        names = []
        for dag_id in self.runs:
            for path in (self.stack.home / "logs" / f"dag_id={dag_id}").glob("*/*/attempt=*.log.trigger.*.log"):
                lines = map(json.loads, path.read_text().splitlines())
                names += [line["name"] for line in lines if line["event"] == "Trigger fired event"]
        for path in self.stack.logs.glob("triggerer*.log"):
            names += [fired["name"] for fired in map(FIRED.search, path.open()) if fired]
        waits = [Wait(*name.split("/")[:3]) for name in names]
        return [wait for wait in waits if wait.dag_id in self.runs]


class Room:
    """Lets jobs end.

    :param emulator: runs them.
    :param hook: submits the jobs that never end: the first takes the only room, each other one that of a part.
    """

    def __init__(self, emulator: EmulatorProcess, hook: TCBatchHook) -> None:
        self._emulator = emulator
        self._size = 1
        for priority in (100, *(priority - 10 for priority in PRIORITIES)):
            hook.submit_job(job(priority, EMULATOR_SECONDS="100000"), notify=False)

    def for_next_part(self) -> None:
        """Let the jobs of the next part end."""
        self._size += 1
        self._emulator.control("settings", method="PATCH", body={"capacity": self._size})


def job(priority: int, **env: str) -> dict[str, Any]:
    """A job, as somebody else submits it."""
    task = {
        "TaskName": "only",
        "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
        "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
        "EnvVars": [{"Name": name, "Value": value} for name, value in env.items()],
    }
    return {"Priority": priority, "Tasks": [task]}


def give_up_silent_triggerers(database: PostgresServer) -> None:
    """Let the time be over for which Airflow believes in triggerers that say nothing; the living speak up again."""
    with contextlib.closing(database.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE job SET latest_heartbeat = now() - interval '1 hour' WHERE job_type = 'TriggererJob'")


def own_queues(queues: CmqHook) -> list[str]:
    """Names of the queues that triggerers have made for themselves."""
    found = queues.api.call(DescribeCmqQueues(limit=50)).queue_list
    return [queue.queue_name for queue in found if queue.queue_name.startswith("airflow-tcbatch")]


# -- what there is -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An emulator that only plays jobs."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), settings=EMULATOR) as process:
        yield process


@pytest.fixture(scope="module")
def connections(emulator: EmulatorProcess) -> dict[str, dict[str, Any]]:
    """The connections by id."""
    own = json.loads(emulator.connection)
    shared = {**own, "extra": {**own["extra"], "event_topic": TOPIC, "event_queue": SHARED}}
    return dict(zip(MODES, (own, shared), strict=True))


@pytest.fixture(scope="module")
def hooks(connections: dict[str, dict[str, Any]]) -> Iterator[dict[str, TCBatchHook]]:
    """Somebody else who submits jobs, as fast as he can; by the connection whose topic they publish to."""
    with pytest.MonkeyPatch.context() as patch:
        for conn_id, connection in connections.items():
            quick = {**connection, "extra": {**connection["extra"], "api_limits": {"SubmitJob": 10_000}}}
            patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(quick))
        yield {conn_id: TCBatchHook(conn_id) for conn_id in connections}


@pytest.fixture(scope="module")
def queues(hooks: dict[str, TCBatchHook]) -> CmqHook:
    """The queues of the account; the shared one is there."""
    cmq = CmqHook("shared_queue")
    cmq.ensure_topic(TOPIC)
    cmq.ensure_queue(SHARED, visibility_timeout=HIDDEN)
    cmq.ensure_subscription(TOPIC, SHARED)
    return cmq


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Airflow's database."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    database: PostgresServer,
    connections: dict[str, dict[str, Any]],
    queues: CmqHook,
) -> Iterator[AirflowStack]:
    """Airflow with two triggerers."""
    with AirflowStack(
        tmp_path_factory.mktemp("stack"),
        dags=Path(__file__).parent / "triggerer_dags",
        connections=connections,
        config=CONFIG,
        database=database.url,
        triggerers=2,
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def room(emulator: EmulatorProcess, hooks: dict[str, TCBatchHook]) -> Room:
    """What lets jobs end."""
    return Room(emulator, hooks["own_queue"])


# -- what happens ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held(
    emulator: EmulatorProcess,
    airflow: AirflowStack,
    database: PostgresServer,
    hooks: dict[str, TCBatchHook],
    queues: CmqHook,
    room: Room,
) -> dict[str, Waits]:
    """All waits are held by triggerers."""
    found = {mode: Waits(emulator, airflow, database, mode) for mode in MODES}
    for waits in found.values():
        waits.start(hooks[waits.mode])

    def all_held() -> bool:
        holders = [waits.holders() for waits in found.values()]
        return all(counts.total() == ALL and None not in counts for counts in holders)

    wait_for("all waits are held", all_held, timeout=240, check=airflow.check)
    for waits in found.values():
        assert len(waits.holders()) == 2, "each triggerer holds some"
    wait_for("both triggerers hear events", lambda: len(own_queues(queues)) == 2, timeout=150, check=airflow.check)
    for waits in found.values():
        waits.note_jobs()
        wait_for("all waits have begun", waits.watched, timeout=150, check=airflow.check)
    return found


@pytest.fixture(scope="module")
def some_told(held: dict[str, Waits], emulator: EmulatorProcess, room: Room) -> dict[str, Waits]:
    """The jobs of the first part have ended, and so have their waits."""
    emulator.control("faults", method="POST", body=SLOW)
    room.for_next_part()
    for waits in held.values():
        waits.expect(0)
    return held


@pytest.fixture(scope="module")
def one_killed(
    some_told: dict[str, Waits], airflow: AirflowStack, database: PostgresServer, room: Room
) -> dict[str, Waits]:
    """A triggerer was killed; jobs ended while nobody held their waits, and all others later."""
    airflow.kill_part("triggerer 2")
    room.for_next_part()
    give_up_silent_triggerers(database)
    for waits in some_told.values():
        waits.expect(0, 1)
    room.for_next_part()
    for waits in some_told.values():
        waits.expect(0, 1, 2)
    return some_told


# -- what is so then ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_wait_is_told_soon_whichever_triggerer_holds_it(
    some_told: dict[str, Waits], emulator: EmulatorProcess, mode: str
) -> None:
    waits = some_told[mode]
    ended_at = {job["job_id"]: job["ended_at"] for job in emulator.control("jobs")["jobs"]}
    assert Counter(waits.told()) == dict.fromkeys(waits.part(0), 1)
    known = waits.known()
    # The others were told by workers, whose triggers tell them nothing of this.
    assert {wait for wait in waits.part(0) if wait.dag_id.endswith("_waits")} == known.keys()
    delays = sorted(end["observed_at"] - ended_at[waits.jobs[wait]] for wait, end in known.items())
    sources = Counter(end["source"] for end in known.values())
    print(f"{mode}: {len(delays)} ends known, half of them within {statistics.median(delays):.2f} s, ", end="")
    print(f"all within {delays[-1]:.2f} s; {dict(sources)}")
    assert delays[-1] < SOON
    assert sources["event"] >= BY_EVENT * len(known)


@pytest.mark.parametrize("mode", MODES)
def test_none_is_lost_and_none_told_twice_when_a_triggerer_is_killed(one_killed: dict[str, Waits], mode: str) -> None:
    waits = one_killed[mode]
    tasks = waits.tasks()
    assert len(tasks) == len(waits.jobs) == ALL
    assert set(tasks.values()) == {("success", 1)}
    assert Counter(waits.told()) == dict.fromkeys(tasks, 1)
    # Those that ended last were held again, by the triggerer that is left.
    sources = Counter(end["source"] for wait, end in waits.known().items() if wait in waits.part(2))
    print(f"{mode}: the last ends were known by {dict(sources)}")
    assert sources["event"] >= BY_EVENT * sources.total()
    for dag_id, run_ids in waits.runs.items():
        for run_id in run_ids:
            assert waits.stack.api.wait_for_run(dag_id, run_id) == "success"


@pytest.mark.usefixtures("one_killed")
def test_no_job_was_submitted_twice(emulator: EmulatorProcess) -> None:
    states = Counter(job["state"] for job in emulator.control("jobs")["jobs"])
    assert states == {"SUCCEED": len(MODES) * ALL, "RUNNING": 1 + len(PRIORITIES)}


@pytest.mark.usefixtures("one_killed")
def test_nothing_is_left_in_the_shared_queue(queues: CmqHook) -> None:
    def left() -> int:
        queue = queues.describe_queue(SHARED)
        return (queue.active_msg_num or 0) + (queue.inactive_msg_num or 0)

    wait_for("every message was deleted by whom it was for", lambda: left() == 0, timeout=30)
