"""Make Airflow's database and put connections into it; run as a program inside a stack's environment.

Connections arrive on stdin as a JSON object ``{connection id: connection}``, each in Airflow's own JSON form. One
process does it all: every ``airflow …`` command pays some seconds for starting. The connections go into the
database because environment variables would hide faults: they work in places where the database's do not.
"""

from __future__ import annotations

import json
import sys

from airflow.models import Connection
from airflow.utils.db import initdb
from airflow.utils.session import create_session


def main() -> None:
    """Create the tables and store the connections."""
    initdb()
    connections = json.load(sys.stdin)
    with create_session() as session:
        for conn_id, value in connections.items():
            session.add(Connection.from_json(json.dumps(value), conn_id=conn_id))


if __name__ == "__main__":
    main()
