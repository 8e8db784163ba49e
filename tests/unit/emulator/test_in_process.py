"""The emulator in a thread of somebody's process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import logging, threading
from urllib.parse import urlsplit

late = []
make = logging.Manager.getLogger

def watched(manager, name):
    if threading.current_thread() is not threading.main_thread() and name not in manager.loggerDict:
        late.append(f"{name} by {threading.current_thread().name}")
    return make(manager, name)

from qcloud_cos import CosConfig, CosS3Client
from airflow_provider_tcbatch.emulator import Emulator

with Emulator() as emulator:
    logging.Manager.getLogger = watched  # until here the main thread waits
    info = emulator.info
    address = urlsplit(info.cos_endpoint)
    config = CosConfig(
        Region=info.region, SecretId=info.secret_id, SecretKey=info.secret_key, Scheme="http",
        IP=address.hostname, Port=address.port,
    )
    client = CosS3Client(config)
    client.put_object(Bucket=info.bucket, Key="a", Body=b"b")
    client.get_object(Bucket=info.bucket, Key="a")
    for thread in threading.enumerate():
        if thread.name == "cos-warm-up":
            thread.join()
print(late)
"""


def test_no_thread_of_it_makes_loggers_while_pytest_goes_through_them() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.strip() == "[]", done.stderr
