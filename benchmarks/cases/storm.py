"""Many processes submit jobs at once: how long it takes, and what fails.

Run as a file, not as a module: the provider that is imported is that of whichever checkout ``PYTHONPATH`` names. So
nothing of the benchmarks is imported, and of the provider only what all its versions have.
"""

from __future__ import annotations

import json
import os
import sys
import time
from copy import copy
from functools import partial
from typing import Any


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``processes``; ``jobs`` that each of them submits, one after the other; ``apart``: whether the
        processes behave as if each had a machine of its own.
    :returns: ``seconds`` until the last job was accepted, ``submitted``, ``failed``, ``errors`` by kind, and
        ``longest``: seconds that one submission took.
    """
    import airflow_provider_tcbatch.execution.job.submission  # noqa: F401 - what has been imported is not measured
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobs

    TCBatchHook().api.call(DescribeJobs(limit=1))
    begin_read, begin_write = os.pipe()
    children = []
    for number in range(parameters["processes"]):
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(begin_write)
            os.close(told)
            status = 1
            try:
                result = _child(number, begin_read, **parameters)
                with os.fdopen(tell, "w") as file:
                    json.dump(result, file)
                status = 0
            finally:
                os._exit(status)
        os.close(tell)
        children.append((pid, told))
    os.close(begin_read)
    time.sleep(1.0)  # all of them wait for the beginning now
    begun = time.time()
    os.close(begin_write)
    results: list[dict[str, Any]] = []
    for pid, told in children:
        with os.fdopen(told) as file:
            text = file.read()
        os.waitpid(pid, 0)
        results.append(
            json.loads(text) if text else {"ends": [], "errors": ["ended"] * parameters["jobs"], "longest": 0}
        )
    ends = [end for result in results for end in result["ends"]]
    errors: dict[str, int] = {}
    for result in results:
        for error in result["errors"]:
            errors[error] = errors.get(error, 0) + 1
    return {
        "seconds": round(max(ends, default=begun) - begun, 3),
        "submitted": len(ends),
        "failed": sum(errors.values()),
        "errors": errors,
        "longest": round(max(result["longest"] for result in results), 2),
    }


def _child(number: int, begin: int, *, processes: int, jobs: int, apart: bool) -> dict[str, Any]:
    from airflow_provider_tcbatch.execution.job.submission import JobSpec, Submission
    from airflow_provider_tcbatch.execution.ownership.state_store import VolatileRecords
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.job import Job
    from airflow_provider_tcbatch.policies.ownership.marks import Owner
    from airflow_provider_tcbatch.policies.ownership.record import ThisTry

    if apart:
        from airflow_provider_tcbatch.client import turns

        # Names of their own, as on other machines.
        turns.SALT = str(number)
    hook = TCBatchHook()
    task = {
        "task_name": "main",
        "application": {"delivery_form": "LOCAL", "command": "true"},
        "compute_env": {"env_data": {"instance_type": "S1.SMALL1"}},
    }
    job = Job.parse({"job_name": "storm", "tasks": [task]})
    ends: list[float] = []
    errors: list[str] = []
    longest = 0.0
    os.read(begin, 1)  # until all have come so far
    for index in range(jobs):
        spec = JobSpec(job, Owner("bench", "storm", "run", f"submit_{number}", index))
        this = ThisTry(1, f"{number}-{index}", 0, 0)
        begun = time.time()
        try:
            Submission(hook, VolatileRecords(), this, partial(copy, spec), {}).settle()
            ends.append(time.time())
        except Exception as error:
            errors.append(type(error).__name__)
        longest = max(longest, time.time() - begun)
    return {"ends": ends, "errors": errors, "longest": longest}


if __name__ == "__main__":
    print("benchmark result: " + json.dumps(main(json.load(sys.stdin))), flush=True)
