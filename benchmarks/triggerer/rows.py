"""Put deferred task instances with their triggers into the metadata database; run as a program inside a stack.

A scheduler and workers would take minutes to defer thousands of tasks, and none of it would be about waiting. The
request arrives on stdin: ``{"name": ..., "triggers": [[class path, arguments], ...]}``; the unix time of the commit is
printed.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timezone
from typing import Any


def main() -> None:
    """Make a DAG with one mapped task, a run of it, and an instance of the task for each trigger."""
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    request: dict[str, Any] = json.load(sys.stdin)
    now = datetime.now(timezone.utc)
    with DAG(request["name"], schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)) as dag:
        EmptyOperator(task_id="wait")
    with create_session() as session:
        bundle = "benchmark"
        if session.get(DagBundleModel, bundle) is None:
            session.add(DagBundleModel(name=bundle))
            session.flush()
        SerializedDAG.bulk_write_to_db(bundle, None, [dag], session=session)
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=bundle, session=session)
        session.flush()
        version = DagVersion.get_latest_version(dag.dag_id, session=session)
        assert version is not None
        stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        run = stored.create_dagrun(
            run_id="benchmark",
            logical_date=now,
            data_interval=(now, now),
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            start_date=now,
            session=session,
        )
        for known in run.get_task_instances(session=session):
            session.delete(known)
        session.flush()
        task = stored.get_task("wait")
        for number, (path, arguments) in enumerate(request["triggers"]):
            trigger = Trigger(classpath=path, kwargs=arguments)
            session.add(trigger)
            instance = TaskInstance(task, version.id, run.run_id, TaskInstanceState.DEFERRED, number)
            instance.try_number = 1
            instance.start_date = now
            instance.next_method = "execute_complete"
            instance.next_kwargs = {}
            instance.trigger = trigger
            session.add(instance)
    print(json.dumps({"committed_at": time.time()}))


if __name__ == "__main__":
    main()
