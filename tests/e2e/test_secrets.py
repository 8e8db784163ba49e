"""Secrets stay where they were put, with all of Airflow at DEBUG: real processes, the triggerer and PostgreSQL."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import ANY_PORTS, EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.unit.client.auth.test_sources import FakeCloud

pytestmark = pytest.mark.timeout(500)

#: Secrets that the DAG takes from its environment.
OF_THE_DAG = ("LOGIN", "DOCKER", "MACRO", "AUTHENTICATION", "TEMPLATE", "ENV", "HOOK")


class Secrets(dict[str, str]):
    """What is planted, by what it is; each is made anew, so that it is found nowhere by chance."""

    def plant(self, name: str, length: int = 12) -> str:
        # No characters that are written in another way in a URL, in JSON or in a shell.
        return self.setdefault(name, "Zq9" + secrets.token_hex(length))


@pytest.fixture(scope="module")
def planted() -> Secrets:
    return Secrets()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, planted: Secrets) -> Iterator[EmulatorProcess]:
    """An emulator with temporary keys, that logs all it can."""
    program = str(Path(sys.executable).parent / "tcbatch-emulator")
    token = planted.plant("session token", 40)
    command = (program, "serve", *ANY_PORTS, "--token", token, "--log-level", "debug")
    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), command=command) as process:
        planted["SecretKey"] = process.info["secret_key"]
        planted["temporary SecretKey"] = process.info["temporary_secret_key"]
        planted["control token"] = process.info["control_token"]
        yield process


@pytest.fixture(scope="module")
def sts(emulator: EmulatorProcess) -> Iterator[str]:
    """Address of an STS that gives out the temporary keys."""

    class Roles(FakeCloud):
        def keys(self, name: str) -> dict[str, str]:
            info = emulator.info
            return {
                "TmpSecretId": info["temporary_secret_id"],
                "TmpSecretKey": info["temporary_secret_key"],
                "Token": info["token"],
            }

    cloud = Roles()
    thread = threading.Thread(target=cloud.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield cloud.url
    cloud.server.shutdown()
    thread.join()
    cloud.server.server_close()


def connections_of(emulator: EmulatorProcess, sts: str, planted: Secrets) -> dict[str, dict[str, Any]]:
    plain = json.loads(emulator.connection)
    extra, info = plain["extra"], emulator.info
    # The emulator takes requests that were meant to go through a proxy, as a proxy would.
    proxy = emulator.info["endpoint"].replace("//", f"//user:{planted.plant('password of the proxy')}@")
    role = {**extra, "role_arn": "qcs::cam::uin/100000000001:roleName/batch", "sts_endpoint": sts}
    temporary = {**plain, "login": info["temporary_secret_id"], "password": info["temporary_secret_key"]}
    registry = {"api_key": planted.plant("value of a connection's extra")}
    return {
        "tencentcloud_default": plain,
        "role": {**plain, "extra": role},
        "temporary": {**temporary, "extra": {**extra, "token": info["token"]}},
        "proxied": {**plain, "extra": {**extra, "proxy": proxy}},
        "registry": {
            "conn_type": "generic",
            "password": planted.plant("password of another connection"),
            "extra": registry,
        },
    }


def test_secrets_are_in_no_log_no_output_and_not_in_the_database(
    tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorProcess, sts: str, planted: Secrets
) -> None:
    connections = connections_of(emulator, sts, planted)
    with (
        PostgresServer(tmp_path_factory.mktemp("postgres")) as postgres,
        AirflowStack(
            folder := tmp_path_factory.mktemp("stack"),
            dags=Path(__file__).parent / "secret_dags",
            connections=connections,
            config={"tcbatch": {"deployment_id": "secrets"}, "logging": {"logging_level": "DEBUG"}},
            variables={
                **{f"PLANTED_{name}": planted.plant(name) for name in OF_THE_DAG},
                "AIRFLOW_VAR_SERVICE_TOKEN": planted.plant("value of a Variable"),
                "BUCKET": emulator.info["bucket"],
            },
            database=postgres.url,
        ) as stack,
    ):
        stack.api.wait_for_dag("planted")
        run_id = stack.api.trigger("planted")
        stack.api.wait_for_run("planted", run_id, timeout=400)
        states = {row["task_id"]: row["state"] for row in stack.api.task_instances("planted", run_id)}
        told = stack.api.describe_run("planted", run_id)
        for name in ("template", "env", "by_hook"):
            assert states[name] == "success", told
        assert list(states.values()).count("failed") == len(states) - 3, told
        log = stack.api.log("planted", run_id, "deferred_literal")
        assert "err ***" in log, "the job did print its secrets"
        where = rows_with(postgres, planted)
    where += files_with([folder / "airflow" / "logs", stack.logs, emulator.folder / "emulator.log"], planted)
    assert not where, "\n".join(where)
    assert len(planted) >= 13
    debug = b"".join(path.read_bytes() for path in (folder / "airflow" / "logs").rglob("*.log"))
    assert b"httpcore" in debug, "the logs are at DEBUG"


def rows_with(postgres: PostgresServer, planted: Secrets) -> list[str]:
    """Columns of the database that hold a secret, and which."""
    found = []
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
        columns = cursor.fetchall()
        for table, column in columns:
            cursor.execute(f'SELECT string_agg("{column}"::text, \' \') FROM "{table}"')
            text = str(cursor.fetchone()[0])
            found += [f"{name} in {table}.{column}" for name, secret in planted.items() if secret in text]
    assert ("rendered_task_instance_fields", "rendered_fields") in columns
    return found


def files_with(places: list[Path], planted: Secrets) -> list[str]:
    """Lines of files that hold a secret, and which."""
    found = []
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    assert len(files) > 10, files
    for path in files:
        for line in path.read_text(errors="replace").splitlines():
            found += [f"{name} in {path}: {line[:300]}" for name, secret in planted.items() if secret in line]
    return found[:40]
