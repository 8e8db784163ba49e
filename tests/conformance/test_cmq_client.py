"""Messages through a client that somebody else wrote: the vendor's old SDK, as published on PyPI."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call

SESSION = Path(__file__).with_name("cmq_client_session.py")


@pytest.mark.parametrize(("sign_method", "method"), [("sha1", "POST"), ("sha256", "POST"), ("sha256", "GET")])
def test_send_receive_delete(emulator: Emulator, tdmq: Call, tmp_path: Path, sign_method: str, method: str) -> None:
    queue, topic = (f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("q", "t"))
    tdmq("CreateCmqQueue", QueueName=queue)
    tdmq("CreateCmqTopic", TopicName=topic)
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName="s", Protocol="queue", Endpoint=queue)
    info = emulator.info
    done = subprocess.run(
        [
            sys.executable,
            # A copy: the SDK writes into the folder that the program lies in.
            str(_copied(tmp_path)),
            *(info.cmq_endpoint, info.secret_id, info.secret_key, queue, topic, sign_method, method),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    bodies = ["first ünïcode & = ?", "second", "third", "fourth"]
    assert result == {
        "sent": [item[0] for item in result["received"]],
        "received": [[message_id, body] for message_id, body in zip(result["sent"], bodies, strict=True)],
        "empty": 7000,
        "deleted twice": 4430,
        "partly": 6010,
        "rest": 0,
        "nowhere": 4440,
        "legacy": 4000,
    }


def _copied(folder: Path) -> Path:
    program = folder / "session.py"
    program.write_text(SESSION.read_text())
    return program
