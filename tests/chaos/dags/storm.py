"""The work that is done in bad weather: each DAG is one kind of task, each run of it one piece of work.

Every instance of every job writes down when it begins and with which exit code it ends, into one file that the
auditor reads: what really ran, whoever was told what.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.resources import compute_environment
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor

#: File in which instances write down what they do.
LEDGER = os.environ.get("CHAOS_LEDGER", "/nonexistent/ledger")

#: What a command is wrapped in. One line is one write: those of several processes never mix.
WRAPPED = """
note() { echo "$1 $(date +%s.%N) $BATCH_JOB_ID $BATCH_TASK_INSTANCE_INDEX $2" >> "$LEDGER"; }
note begin -
( <command> )
code=$?
note end $code
exit $code
"""

PARAMS = {"seconds": Param(5, type="number")}

MACHINES = {"ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}}}

#: Enough tries for what kills a try; the auditor counts those that nothing explains.
PATIENT: dict[str, Any] = {"retries": 6, "retry_delay": timedelta(seconds=2), "poll_interval": 2}

#: The same with keys of a role, which are revoked from time to time.
ROLE: dict[str, Any] = {"tencentcloud_conn_id": "role"}


def job(command: str, instances: int = 1, **where: Any) -> dict[str, Any]:
    """A job that runs a command, by default on machines of its own; without a name, so that its name tells the DAG."""
    part = {
        "TaskName": "only",
        "TaskInstanceNum": instances,
        "Application": {"DeliveryForm": "LOCAL", "Command": WRAPPED.replace("<command>", command)},
        "EnvVars": [
            {"Name": "LEDGER", "Value": LEDGER},
            {"Name": "SECONDS_TO_RUN", "Value": "{{ params.seconds }}"},
            {"Name": "MARK", "Value": f"{LEDGER}.{{{{ run_id }}}}"},
        ],
        **(where or MACHINES),
    }
    return {"Tasks": [part]}


SLEEP = "sleep $SECONDS_TO_RUN"

#: Fails once.
ONCE = f'{SLEEP}; [ -e "$MARK" ] || {{ touch "$MARK"; exit 7; }}'

#: One instance of three fails once.
PARTLY = f'{SLEEP}; [ $BATCH_TASK_INSTANCE_INDEX != 1 ] || [ -e "$MARK" ] || {{ touch "$MARK"; exit 7; }}'


def dag(dag_id: str) -> DAG:
    """A DAG that starts when it is told to."""
    return DAG(dag_id, schedule=None, params=PARAMS, max_active_runs=100, max_active_tasks=100)


# Runs before the storm: the first task of all keeps the API server busy, which builds its interface for tasks then.
with DAG("warm_up", schedule=None):

    @task(retries=20, retry_delay=timedelta(seconds=1))
    def works() -> None:
        """Do nothing."""

    works()

with dag("deferred"):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP), deferrable=True, **PATIENT)

with dag("blocking"):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP), deferrable=False, **PATIENT)

# No retry: what fails it, fails it for good. No machine may be killed under it, see the plan.
with dag("single"):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP), deferrable=True, poll_interval=2)

with dag("deferred_role"):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP), deferrable=True, **PATIENT, **ROLE)

with dag("blocking_role"):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP), deferrable=False, **PATIENT, **ROLE)

with dag("flaky"):
    TCBatchSubmitJobOperator(task_id="job", job=job(ONCE), deferrable=True, **PATIENT)

with dag("repaired"):
    TCBatchSubmitJobOperator(task_id="job", job=job(PARTLY, 3), deferrable=True, on_retry="repair", **PATIENT)

with dag("doomed"):
    TCBatchSubmitJobOperator(
        task_id="job",
        job=job(f"{SLEEP}; echo 'no such object' >&2; exit 3"),
        deferrable=True,
        **{**PATIENT, "retries": 0},
    )

with dag("loud"):
    TCBatchSubmitJobOperator(
        task_id="job", job=job(f"seq 60000; {SLEEP}"), deferrable=True, stream_logs=True, **PATIENT
    )

with dag("sensed"):
    submit = TCBatchSubmitJobOperator(task_id="submit", job=job(SLEEP), wait_for_completion=False, **PATIENT)
    no_worker = TCBatchJobSensor(
        task_id="no_worker",
        job_ids="{{ ti.xcom_pull(task_ids='submit') }}",
        start_from_trigger=True,
        end_from_trigger=True,
        poke_interval=5,
        timeout=1800,
        retries=6,
        retry_delay=timedelta(seconds=2),
    )
    poked = TCBatchJobSensor(
        task_id="poked",
        job_ids=submit.output,
        mode="reschedule",
        poke_interval=5,
        timeout=1800,
        retries=6,
        retry_delay=timedelta(seconds=2),
    )
    submit >> [no_worker, poked]

with (
    dag("machines"),
    compute_environment(
        "machines",
        compute_env={
            "EnvName": "{{ dag.dag_id }}-{{ run_id }}",
            "DesiredComputeNodeCount": 1,
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"},
        },
        deferrable=True,
        poll_interval=2,
        retries=6,
        retry_delay=timedelta(seconds=2),
        teardown_args={"retries": 6, "retry_delay": timedelta(seconds=2)},
    ) as env,
):
    TCBatchSubmitJobOperator(task_id="job", job=job(SLEEP, EnvId=env.env_id), deferrable=True, **PATIENT)
