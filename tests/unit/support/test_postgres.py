"""The PostgreSQL server of the end-to-end tests, which CI runs as root and others do not."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import psutil
import psycopg2
import pytest

from tests.support import postgres
from tests.support.postgres import PostgresServer
from tests.support.processes import ServiceError


def test_it_comes_back_with_its_data_and_leaves_nothing(tmp_path: Path) -> None:
    with PostgresServer(tmp_path) as server:
        with contextlib.closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE TABLE kept AS SELECT 7 AS number")
            connection.commit()
            with server.stopped():
                with pytest.raises(psycopg2.OperationalError):
                    server.connect()
                with pytest.raises(psycopg2.OperationalError):
                    cursor.execute("SELECT 1")
        with contextlib.closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT number FROM kept")
            assert cursor.fetchall() == [(7,)]
        process = psutil.Process(server.process.pid)
        listening = [entry.laddr.ip for entry in process.net_connections() if entry.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"]
        assert process.uids().effective != 0
        family = [process, *process.children(recursive=True)]
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_missing_server_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(postgres, "PACKAGE", "no_such_package")
    with pytest.raises(ServiceError, match="no_such_package of the extra `test` is not installed"):
        PostgresServer(tmp_path / "log").start()
    assert not list(tmp_path.iterdir())
