"""Figures about events reach a StatsD server as Airflow's own do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.cmq import CmqHook

#: What a triggerer does, as far as it matters here: it has imported its own modules, and a trigger uses the watcher.
SCRIPT = """
import asyncio
import airflow.jobs.triggerer_job_runner
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.waits.sessions import job_watcher

async def main():
    async with job_watcher(CmqHook().settings) as watcher:
        with watcher.listen(lambda event: event.job_id == "job-counted0") as ear:
            print("ready", flush=True)
            while await ear.next(30) is None:
                pass
            await asyncio.sleep(0.5)

asyncio.run(main())
"""


def test_a_statsd_server_receives_them(connection: str, own_emulator: Emulator) -> None:
    topic = own_emulator.info.topic
    hook = CmqHook(connection)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        env = {
            **os.environ,
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_PREFIX": "airflow",
        }
        words = [sys.executable, "-c", SCRIPT]
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                seen: dict[str, str] = {}
                published = False
                while not {"received", "claimed", "lag"} <= seen.keys():
                    # One datagram holds one figure.
                    figure = server.recv(2000).decode()
                    if match := re.fullmatch(r"airflow\.tcbatch\.events\.(\w+):(.*)", figure):
                        seen.setdefault(match[1], match[2])
                    if "hearing" in seen and not published:
                        published = True
                        body = '{"Events":[{"EventName":"JOB_SUCCEED","Batch":{"JobId":"job-counted0"}}]}'
                        hook.publish(topic, body)
            finally:
                process.kill()
    assert seen["hearing"] == "1.0|g"
    assert seen["received"] == "1|c"
    assert seen["claimed"] == "1|c"
    assert re.fullmatch(r"[\d.]+\|ms", seen["lag"])
    # Whole seconds of the queue's clock, told in milliseconds.
    assert float(seen["lag"].removesuffix("|ms")) == pytest.approx(1000, abs=60_000)
