"""States straight from Airflow's database.

To ask for a state by REST takes the API server a twentieth of a second of a core. Tests ask again and again while they
wait, and what they wait for needs the cores, too.
"""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg2

_RUN = "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"
_TASK = "SELECT state FROM task_instance WHERE dag_id = %s AND run_id = %s AND task_id = %s AND map_index = %s"


class AirflowRows:
    """What the tables of a PostgreSQL database say.

    :param url: its SQLAlchemy address.
    """

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg2:", "postgresql:")
        self._connection: Any = None

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """State of a DAG run; None if there is no such run, or the database is away."""
        return self._ask(_RUN, dag_id, run_id)

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str | None:
        """State of a task instance; None if it has none yet, or the database is away."""
        return self._ask(_TASK, dag_id, run_id, task_id, map_index)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _ask(self, select: str, *values: Any) -> str | None:
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(self._url, connect_timeout=5)
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(select, values)
                row = cursor.fetchone()
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self.close()
            return None
        return None if row is None else row[0]
