"""``airflow tcbatch events``: real processes for the ways in, direct calls for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_tcbatch import cli
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.cmq import CmqHook

Call = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def call(connection: str, own_emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command; rows by step, the last of a name."""

    def go(*words: str) -> dict[str, dict[str, str]]:
        capsys.readouterr()
        try:
            cli.main(["events", *words, "--output", "json"])
        finally:
            rows = json.loads(capsys.readouterr().out or "[]")
            go.rows = {row["step"]: row for row in rows}  # type: ignore[attr-defined]
        return go.rows  # type: ignore[attr-defined,no-any-return]

    return go


def test_by_a_real_process(airflow_home: Path, connection: str, own_emulator: Emulator) -> None:
    def run(*words: str) -> tuple[int, dict[str, str], str]:
        command = [sys.executable, "-m", "airflow", "tcbatch", "events", *words, "--topic", "chain", "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
        return done.returncode, {row["step"]: row["state"] for row in json.loads(done.stdout)}, done.stderr

    code, states, words = run("check")
    assert (code, states["topic"]) == (1, "missing"), words
    code, states, words = run("setup")
    assert (code, states["topic"], states["base queue"]) == (0, "made", "made"), words
    assert "3 made" in words
    code, states, words = run("check")
    assert (code, states["topic"], states["test message"]) == (0, "ok", "ok"), words
    assert "0 missing" in words


def test_set_up_and_check(call: Call) -> None:
    words = ["--topic", "chain", "--asset-queue", "assets", "--base-queue", "ground"]
    assert call("setup", *words, "--dry-run")["asset queue"]["state"] == "would be made"
    assert call("setup", *words)["asset queue"]["state"] == "made"
    assert CmqHook().describe_queue("ground").queue_name == "ground"
    assert call("setup", *words)["asset queue"]["state"] == "ok"
    rows = call("check", *words, "--through", "assets", "--through", "ground")
    assert "to ground" in rows["test message"]["what"]
    assert {row["state"] for row in rows.values()} <= {"ok", "warning"}


def test_what_is_missing_is_said_and_is_the_exit_code(
    call: Call, own_emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    call("setup", "--topic", "chain")
    own_emulator.faults.add("error", service="tdmq", action="CreateCmqQueue", code="UnauthorizedOperation")
    with pytest.raises(SystemExit) as raised:
        call("check", "--topic", "chain")
    assert raised.value.code == 1
    row = call.rows["right CreateCmqQueue"]  # type: ignore[attr-defined]
    assert row["state"] == "missing"
    assert "tdmq:CreateCmqQueue" in row["todo"]
    with pytest.raises(SystemExit) as raised:
        call("setup", "--topic", "another")
    assert raised.value.code == 1
    with pytest.raises(SystemExit):
        cli.main(["events", "check", "--topic", "chain"])
    out = capsys.readouterr().out.replace("\n", "")
    assert "missing" in out, "the table has it as well"


def test_a_message_that_does_not_come(call: Call) -> None:
    call("setup", "--topic", "chain")
    CmqHook().ensure_queue("deaf")
    with pytest.raises(SystemExit):
        call("check", "--topic", "chain", "--through", "deaf", "--timeout", "1")
    assert "within 1 s" in call.rows["test message"]["what"]  # type: ignore[attr-defined]


def test_a_missing_connection_is_named(airflow_home: Path) -> None:
    with pytest.raises(SystemExit, match="no_such_connection"):
        cli.main(["events", "check", "--conn-id", "no_such_connection"])


def test_a_group_alone_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["events"])
    assert "COMMAND" in capsys.readouterr().err


def test_a_connection_that_airflow_keeps_in_its_database(airflow_home: Path, own_emulator: Emulator) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], check=False, capture_output=True, text=True, timeout=120, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("airflow", "connections", "add", "kept", "--conn-json", own_emulator.info.airflow_conn_json)
    words = ("setup", "--conn-id", "kept", "--output", "json")
    [topic] = [
        row for row in json.loads(run("airflow_provider_tcbatch.cli", "events", *words)) if row["step"] == "topic"
    ]
    assert topic["state"] == "ok"
