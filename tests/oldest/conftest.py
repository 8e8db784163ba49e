"""The same Airflow, emulator and DAGs as in the end-to-end tests, under the oldest Airflow that is supported."""

from __future__ import annotations

from tests.e2e.conftest import _end_in_good_order, airflow, database, emulator, pytest_runtest_makereport, trigger

__all__ = ["_end_in_good_order", "airflow", "database", "emulator", "pytest_runtest_makereport", "trigger"]
