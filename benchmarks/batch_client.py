"""Signed requests to the emulator. Leaner than the SDK: what submits the jobs is not what is measured."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_tcbatch.emulator.signing import tc3

__all__ = ["BatchClient", "job", "submit_many"]

#: Each has a connection of its own, so that the emulator is never without work.
CLIENTS = 4


class BatchClient:
    """Sends requests over one connection.

    :param info: the emulator's ready line.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        self._info = info
        self._host = urlsplit(info["endpoint"]).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=60)

    def call(self, action: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the members of its answer.

        :raises RuntimeError: when it is refused.
        """
        body = json.dumps(params).encode()
        now = int(time.time())
        date = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d")
        signature = tc3.signature(
            self._info["secret_key"],
            date=date,
            service="batch",
            timestamp=str(now),
            signed_headers=("content-type", "host"),
            headers={"content-type": "application/json", "host": self._host},
            body=body,
        )
        scope = f"Credential={self._info['secret_id']}/{date}/batch/tc3_request"
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"TC3-HMAC-SHA256 {scope}, SignedHeaders=content-type;host, Signature={signature}",
            "X-TC-Action": action,
            "X-TC-Version": "2017-03-12",
            "X-TC-Timestamp": str(now),
            "X-TC-Region": self._info["region"],
        }
        self._connection.request("POST", "/", body, headers)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())["Response"]
        if "Error" in answer:
            raise RuntimeError(f"{action}: {answer['Error']['Code']}: {answer['Error']['Message']}")
        return answer

    def number_of(self, state: str) -> int:
        """How many jobs are in a state."""
        filters = [{"Name": "job-state", "Values": [state]}]
        return int(self.call("DescribeJobs", {"Filters": filters, "Limit": 1})["TotalCount"])

    def submit(self, wanted: dict[str, Any]) -> str:
        """Submit a job and return its id."""
        return str(self.call("SubmitJob", {"Placement": {"Zone": self._info["zone"]}, "Job": wanted})["JobId"])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def job(seconds: float | None = None, topic: str | None = None) -> dict[str, Any]:
    """A job of one instance, as SubmitJob takes it.

    :param seconds: how long its instance is RUNNING; the emulator's setting if not given.
    :param topic: where it publishes its end.
    """
    task: dict[str, Any] = {
        "TaskName": "main",
        "Application": {"DeliveryForm": "LOCAL", "Command": "this is not run"},
        "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}},
    }
    if seconds is not None:
        task["EnvVars"] = [{"Name": "EMULATOR_SECONDS", "Value": f"{max(0.0, seconds):.3f}"}]
    wanted: dict[str, Any] = {"JobName": "one of many", "Tasks": [task]}
    if topic is not None:
        configs: list[dict[str, Any]] = [
            {"EventName": name, "EventVars": []} for name in ("JOB_SUCCEED", "JOB_FAILED", "JOB_FAILED_INTERRUPTED")
        ]
        wanted["Notifications"] = [{"TopicName": topic, "EventConfigs": configs}]
        wanted["NotificationTarget"] = "TDMQ_CMQ"
    return wanted


def submit_many(info: dict[str, Any], makers: Sequence[Callable[[], dict[str, Any]]]) -> list[str]:
    """Submit jobs over several connections and return their ids in order.

    :param makers: each is called right before its job is submitted.
    :raises RuntimeError: when one is refused.
    """
    ids = [""] * len(makers)
    problems: list[Exception] = []

    def work(first: int) -> None:
        client = BatchClient(info)
        try:
            for number in range(first, len(makers), CLIENTS):
                ids[number] = client.submit(makers[number]())
        except (OSError, http.client.HTTPException, RuntimeError) as problem:
            problems.append(problem)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return ids
