"""How many requests a second the emulator answers: it must not be what limits the other figures."""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.batch_client import CLIENTS, BatchClient
from benchmarks.servers import Emulator


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``server``, the emulator's ready line; ``job_ids``, at least 100; ``seconds``.
    """
    server, job_ids, seconds = parameters["server"], parameters["job_ids"][:100], parameters["seconds"]
    service = Emulator(server)
    request = {"JobIds": job_ids, "Limit": len(job_ids)}
    counts: list[int] = []

    def ask() -> None:
        client = BatchClient(server)
        count, deadline = 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            client.call("DescribeJobs", request)
            count += 1
        client.close()
        counts.append(count)

    cpu = service.cpu
    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "jobs_per_request": len(job_ids),
        "requests_per_second": round(sum(counts) / seconds, 1),
        "cpu_ms_per_request": round(1000 * (service.cpu - cpu) / max(1, sum(counts)), 3),
    }
