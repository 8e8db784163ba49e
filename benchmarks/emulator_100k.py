"""Play a hundred thousand jobs: how many a second, at what cost.

Starts the emulator in mode ``simulate`` as a process of its own, submits jobs through signed HTTP requests, waits until
all are SUCCEED, and prints one line of JSON::

    python benchmarks/emulator_100k.py --jobs 100000
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_tcbatch.emulator.signing import tc3

#: Each has a connection of its own, so that the emulator is never without work.
CLIENTS = 4
#: Seconds in which nothing may happen before it is given up.
PATIENCE = 120.0

SETTINGS = {"mode": "simulate", "speed": 1000, "simulated_seconds": 60, "capacity": 10_000_000}
TASK = {
    "TaskName": "main",
    "Application": {"DeliveryForm": "LOCAL", "Command": "this is not run"},
    "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}},
}


class Client:
    """Signed requests over one connection. Leaner than the SDK: it is not what is measured.

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


@contextmanager
def emulator(jobs: int) -> Iterator[dict[str, Any]]:
    """A running emulator's ready line."""
    command = [sys.executable, "-m", "airflow_provider_tcbatch.emulator.cli", "serve", "--port", "0", "--cos-port", "0"]
    for name, value in {**SETTINGS, "job_quota": jobs + 1}.items():
        command += ["--set", f"{name}={value}"]
    with subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def submit(info: dict[str, Any], count: int, problems: list[Exception]) -> None:
    """Submit so many jobs."""
    client = Client(info)
    request = {"Placement": {"Zone": info["zone"]}, "Job": {"JobName": "one of many", "Tasks": [TASK]}}
    try:
        for _ in range(count):
            client.call("SubmitJob", request)
    except (OSError, http.client.HTTPException, RuntimeError) as problem:
        problems.append(problem)


def wait(info: dict[str, Any], jobs: int) -> None:
    """Return when all jobs are SUCCEED.

    :raises RuntimeError: when one is FAILED, or nothing happens any more.
    """
    client = Client(info)
    last, since = -1, time.monotonic()
    while (ended := client.number_of("SUCCEED")) < jobs:
        if failed := client.number_of("FAILED"):
            raise RuntimeError(f"{failed} jobs are FAILED")
        if ended > last:
            last, since = ended, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise RuntimeError(f"{jobs - ended} jobs do not end")
        time.sleep(0.2)


def play(jobs: int) -> dict[str, Any]:
    """Play so many jobs and say what that took."""
    with emulator(jobs) as info:
        problems: list[Exception] = []
        shares = [jobs // CLIENTS + (number < jobs % CLIENTS) for number in range(CLIENTS)]
        threads = [threading.Thread(target=submit, args=(info, share, problems)) for share in shares]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        submitted = time.monotonic() - begun
        wait(info, jobs)
        seconds = time.monotonic() - begun
    # The emulator has ended: what it used is known now.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "jobs": jobs,
        "seconds": round(seconds, 2),
        "submit_seconds": round(submitted, 2),
        "jobs_per_second": round(jobs / seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "client_cpu_seconds": round(client.ru_utime + client.ru_stime, 2),
        "max_rss_mb": round(used.ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Play many jobs on the emulator and print what that took as JSON.")
    parser.add_argument("--jobs", type=int, default=100_000, metavar="N", help="how many jobs (default: %(default)s)")
    print(json.dumps(play(parser.parse_args().jobs)))


if __name__ == "__main__":
    main()
