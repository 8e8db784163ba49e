"""Play a hundred thousand jobs: how many a second, at what cost.

Starts the emulator in mode ``simulate`` as a process of its own, submits jobs through signed HTTP requests, waits until
all are SUCCEED, and prints one line of JSON::

    python -m benchmarks.emulator_100k --jobs 100000
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

from benchmarks.batch_client import BatchClient, job, submit_many
from benchmarks.servers import emulator

#: Seconds in which nothing may happen before it is given up.
PATIENCE = 120.0

SETTINGS = {"speed": 1000, "simulated_seconds": 60}


def wait(info: dict[str, Any], jobs: int) -> None:
    """Return when all jobs are SUCCEED.

    :raises RuntimeError: when one is FAILED, or nothing happens any more.
    """
    client = BatchClient(info)
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
    with emulator(SETTINGS) as service:
        begun = time.monotonic()
        submit_many(service.info, [job] * jobs)
        submitted = time.monotonic() - begun
        wait(service.info, jobs)
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
