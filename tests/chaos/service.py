"""The emulator with what only the storms need: STS, and books that say of every job whose it is.

``python -m tests.chaos.service`` takes what ``tcbatch-emulator serve`` takes of it and prints the same line, with
``sts_endpoint``. There:

- ``POST /`` is STS' AssumeRole: keys that hold for hours, unless they are revoked;
- ``POST /revoke`` takes all keys away that STS has given, as when a role's sessions are revoked: they die early;
- ``GET /books`` lists all jobs with owner, state, history and whether their end was asked for, and the environments.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.services import Services

#: Seconds that keys of STS hold if nobody revokes them.
LIFE = 7200.0


def owner_of(request: dict[str, Any]) -> dict[str, str]:
    """Whose job it is, as the provider wrote it into the environment of each task; empty where nobody is named."""
    tasks = request["Job"].get("Tasks") or [{}]
    variables = {item.get("Name"): item.get("Value") for item in tasks[0].get("EnvVars") or []}
    names = {
        "dag_id": "AIRFLOW_CTX_DAG_ID",
        "run_id": "AIRFLOW_CTX_DAG_RUN_ID",
        "task_id": "AIRFLOW_CTX_TASK_ID",
        "map_index": "AIRFLOW_CTX_MAP_INDEX",
        "generation": "AIRFLOW_CTX_TCBATCH_GENERATION",
        "try_number": "AIRFLOW_CTX_TRY_NUMBER",
    }
    return {name: str(variables.get(variable, "")) for name, variable in names.items()}


def books(services: Services) -> dict[str, Any]:
    """All jobs and environments there are."""
    jobs = [
        {
            "job_id": job.job_id,
            "name": job.name,
            "owner": owner_of(job.request),
            "token": job.client_token,
            "state": job.state,
            "created_at": job.created_at,
            "ended_at": job.ended_at,
            "terminated": job.terminated,
            "next_action": job.next_action,
            "history": job.timeline.as_json(job.job_id)["entries"],
        }
        for job in services.batch.jobs.values()
    ]
    envs = [{"env_id": env.env_id, "name": env.name} for env in services.batch.envs.values()]
    return {"jobs": jobs, "envs": envs}


class Sts(ThreadingHTTPServer):
    """STS for one emulator, and the doors for the tests."""

    daemon_threads = True

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.emulator = emulator
        self._given: list[str] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def assume_role(self) -> dict[str, Any]:
        """Give a new pair of keys."""
        key = self.emulator.issue_token(seconds=LIFE)
        with self._lock:
            self._given.append(key.secret_id)
        credentials = {"TmpSecretId": key.secret_id, "TmpSecretKey": key.secret_key, "Token": key.token}
        return {"Response": {"Credentials": credentials, "ExpiredTime": int(time.time() + LIFE), "RequestId": "sts"}}

    def revoke(self) -> dict[str, Any]:
        """Refuse all keys that were given so far from now on."""
        with self._lock:
            given, self._given = self._given, []

        def forget(services: Services) -> None:
            for secret_id in given:
                services.host.access.keys.pop(secret_id, None)

        self.emulator.on_loop(forget)
        return {"revoked": len(given)}


class _Handler(BaseHTTPRequestHandler):
    server: Sts

    def do_GET(self) -> None:
        self._answer(self.server.emulator.on_loop(books))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(self.server.revoke() if self.path == "/revoke" else self.server.assume_role())

    def _answer(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    words = parser.parse_args()
    settings = Settings(**dict(pair.split("=", 1) for pair in words.set))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Emulator(settings, data_dir=words.data_dir) as emulator:
        sts = Sts(emulator)
        threading.Thread(target=sts.serve_forever, daemon=True).start()
        sys.stdout.write(json.dumps({**emulator.info.model_dump(mode="json"), "sts_endpoint": sts.url}) + "\n")
        sys.stdout.flush()
        ended.wait()
        sts.shutdown()


if __name__ == "__main__":
    main()
