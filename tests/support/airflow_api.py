"""Airflow's public REST interface, as far as the demo and the tests need it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.processes import wait_for

if TYPE_CHECKING:
    from tests.support.airflow_rows import AirflowRows

#: Seconds for one answer. The first task of all keeps the API server busy for a while: it builds the interface for
#: tasks only then, and answers nobody else meanwhile.
ANSWER_TIMEOUT = 60.0

#: Most things that are asked for at once: Airflow's own limit.
PAGE = 100

#: How often a GET is sent at most.
ATTEMPTS = 3

#: States after which a DAG run does not change by itself.
RUN_ENDED = frozenset({"success", "failed"})

#: States after which a task instance does not change by itself.
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


#: What Airflow adds to every line of a task's log and what only says where the line came from.
_LOG_CONTEXT = frozenset(
    {"event", "timestamp", "level", "logger", "filename", "lineno"}
    | {"dag_id", "run_id", "task_id", "map_index", "ti_id", "try_number"}
)


def _nothing() -> None:
    """Check nothing."""


class AirflowApi:
    """REST calls with the token of one user.

    :param url: address of the API server.
    :param username: login.
    :param password: its password.
    :param check: called while waiting; raises if Airflow cannot answer any more (a part of it has died).
    :param rows: its database, where that can be asked for states instead.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        check: Callable[[], None] = _nothing,
        rows: AirflowRows | None = None,
    ) -> None:
        self._login = {"username": username, "password": password}
        self._check = check
        self._rows = rows
        # trust_env: a proxy of the developer's has no business between two processes of one machine.
        self._client = httpx.Client(base_url=url, timeout=ANSWER_TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def is_up(self) -> bool:
        """Whether scheduler, triggerer and DAG processor all have a heartbeat."""
        try:
            health = self._client.get("/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return False
        return all(
            health.get(part, {}).get("status") == "healthy" for part in ("scheduler", "triggerer", "dag_processor")
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Call ``/api/v2/<path>`` and return the answer.

        :raises httpx.HTTPStatusError: for an error status; the answer's text is added to it.
        """
        if "Authorization" not in self._client.headers:
            answer = self._client.post("/auth/token", json=self._login).raise_for_status()
            self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        response = self._send(method, f"/api/v2/{path}", **arguments)
        if response.is_error:
            message = f"{method} {path}: {response.status_code} {response.text}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        return response

    def _send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        for _ in range(ATTEMPTS - 1 if method == "GET" else 0):
            try:
                return self._client.request(method, url, **arguments)
            except httpx.TimeoutException:
                self._check()
        return self._client.request(method, url, **arguments)

    def get(self, path: str, **params: Any) -> Any:
        """GET ``/api/v2/<path>`` as JSON."""
        return self.request("GET", path, params=params).json()

    def _get_or_none(self, path: str, **params: Any) -> Any:
        """As :meth:`get`, None where there is nothing."""
        try:
            return self.get(path, **params)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    # DAGs and runs

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed and stored."""
        return self._get_or_none(f"dags/{dag_id}") is not None

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60) -> None:
        """Wait until a DAG can be triggered; a file that does not import is reported at once."""

        def parsed() -> bool:
            if self.has_dag(dag_id):
                return True
            if errors := self.import_errors():
                raise RuntimeError("\n".join(errors))
            return False

        wait_for(f"DAG {dag_id} parsed", parsed, timeout=timeout, check=self._check)

    def import_errors(self) -> list[str]:
        """What went wrong while parsing DAG files."""
        errors = self.get("importErrors")["import_errors"]
        return [f"{error['filename']}:\n{error['stack_trace']}" for error in errors]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a DAG and return its id.

        Airflow answers 500 where its SQLite database was locked for five seconds. With an id the run is started once.
        """
        self.wait_for_dag(dag_id)
        run_id = f"manual__{datetime.now(timezone.utc).isoformat()}_{uuid.uuid4().hex[:8]}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.request("POST", f"dags/{dag_id}/dagRuns", json=body)
                break
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if attempt > 1 and status == httpx.codes.CONFLICT:
                    break  # the refused request had got so far
                if attempt == ATTEMPTS or status != httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run."""
        state: str = self.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def wait_for_run(
        self, dag_id: str, run_id: str, *, timeout: float = 120, look: Callable[[], None] = _nothing
    ) -> str:
        """Wait until a run has ended and return its state.

        :param look: called between two looks, for a caller that wants to watch something else meanwhile.
        """

        def ended() -> bool:
            look()
            state = self.run_state(dag_id, run_id) if self._rows is None else self._rows.run_state(dag_id, run_id)
            return state in RUN_ENDED

        try:
            wait_for(f"run {run_id} of {dag_id} ended", ended, timeout=timeout, check=self._check)
        except TimeoutError as error:
            # A file that no longer imports takes its DAGs away, and their runs stand still.
            why = [self.describe_run(dag_id, run_id), *self.import_errors()]
            raise TimeoutError("\n".join([str(error), *why])) from None
        return self.run_state(dag_id, run_id)

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run by hand, as a user would in the UI."""
        self.request("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    # Task instances

    def _instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return path if map_index < 0 else f"{path}/{map_index}"

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        instances: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=PAGE, offset=len(instances))
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return instances

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """One task instance."""
        instance: dict[str, Any] = self.get(self._instance(dag_id, run_id, task_id, map_index))
        return instance

    def triggerer_of(self, dag_id: str, run_id: str, task_id: str) -> int | None:
        """Job id of the triggerer that holds a deferred task; None if none does."""
        trigger = self.task_instance(dag_id, run_id, task_id)["trigger"]
        holder: int | None = None if trigger is None else trigger["triggerer_id"]
        return holder

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str] = TASK_ENDED,
        *,
        map_index: int = -1,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of the states and return it.

        :raises RuntimeError: if it has ended in another state, at once.
        """

        def arrived() -> bool:
            if self._rows is None:
                state = self.task_instance(dag_id, run_id, task_id, map_index)["state"]
            else:
                state = self._rows.task_state(dag_id, run_id, task_id, map_index)
            if state in TASK_ENDED and state not in states:
                raise RuntimeError(f"{dag_id}.{task_id} is {state}, waited for {sorted(states)}")
            return state in states

        wait_for(f"{dag_id}.{task_id} in {sorted(states)}", arrived, timeout=timeout, check=self._check)
        return self.task_instance(dag_id, run_id, task_id, map_index)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom's value, None if there is none."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self._get_or_none(path, map_index=map_index, stringify=False)
        return None if entry is None else entry["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """The text of a task's log, as a user reads it: one line for each event, with what was logged beside it."""
        path = f"{self._instance(dag_id, run_id, task_id)}/logs/{try_number}"
        answer = self.get(path, map_index=map_index, full_content=True)
        lines = []
        for event in answer["content"]:
            if isinstance(event, str):
                lines.append(event)
                continue
            more = {key: value for key, value in event.items() if key not in _LOG_CONTEXT}
            lines.append(f"{event.get('event', '')} {_readable(more)}".rstrip())
        return "\n".join(lines)

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance by hand, as a user would in the UI."""
        self.request("PATCH", self._instance(dag_id, run_id, task_id, map_index), json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = False) -> None:
        """Clear task instances so that they run again, as a user would in the UI."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
        }
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def pool(self, name: str = "default_pool") -> dict[str, Any]:
        """A pool's slots: how many are running, queued, deferred, open."""
        pool: dict[str, Any] = self.get(f"pools/{name}")
        return pool

    def describe_run(self, dag_id: str, run_id: str) -> str:
        """What to show when a run went wrong: the states, and the log of each task that failed."""
        parts = [f"run {run_id} of {dag_id}: {self.run_state(dag_id, run_id)}"]
        for instance in self.task_instances(dag_id, run_id):
            index, number = instance["map_index"], max(instance["try_number"], 1)
            parts.append(f"  {instance['task_id']} [{index}]: {instance['state']}, try {instance['try_number']}")
            if instance["state"] in ("failed", "up_for_retry"):
                parts.append(self.log(dag_id, run_id, instance["task_id"], number, index))
        return "\n".join(parts)


def _readable(more: dict[str, Any]) -> str:
    """What a log line carries beside its text; of an exception only class and message."""
    errors = more.pop("error_detail", None) or []
    parts = [json.dumps(more)] if more else []
    parts += [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in errors]
    return " ".join(parts)
