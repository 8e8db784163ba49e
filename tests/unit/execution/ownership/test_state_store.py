from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.execution.ownership.state_store import (
    KEY,
    StoredRecords,
    VolatileRecords,
    records_for,
    warn_of_loss,
)
from airflow_provider_tcbatch.policies.ownership.record import Ending, Record, Repair, ThisTry
from tests.support.task_context import Replaced, Task

OWNER = ThisTry(try_number=2, ti_id="0193", max_tries=3, retries=3)
RECORDS = [
    Record(OWNER, "", 0.0),
    Record(OWNER, "token", 1.5, context={"A": "ü"}, spec_digest="d", job_name="n"),
    Record(
        OWNER,
        "token",
        1.5,
        job_id="job-1",
        submitted_at=2.5,
        ending=Ending("killed", 3.5),
        repairs=(Repair(4.5, None), Repair(5.5, "2026-01-31T00:00:00Z")),
        done=True,
    ),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_there_for_the_next_try(record: Record) -> None:
    task = Task()
    first = records_for(task.next_try(), durable=True)
    assert first.durable
    assert first.load() is None
    first.save(record)
    assert records_for(task.next_try(), durable=True).load() == record
    assert json.loads(json.dumps(task.record)) == task.record, "the store takes plain JSON only"


def test_a_record_is_kept_as_long_as_its_run() -> None:
    """A wait may last longer than a value is kept by default."""

    class Accessor:
        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            self.kept = (key, retention)

    accessor = Accessor()
    StoredRecords(accessor).save(RECORDS[1])
    assert accessor.kept == (KEY, NEVER_EXPIRE)


def test_a_try_that_has_been_replaced_can_not_write() -> None:
    task = Task()
    stale = records_for(task.next_try(), durable=True)
    records_for(task.next_try(), durable=True).save(RECORDS[2])
    with pytest.raises(Replaced):
        stale.save(RECORDS[1])
    assert task.record["job_id"] == "job-1"


@pytest.mark.parametrize(
    "stored",
    [
        {**RECORDS[1].to_json(), "version": 2},
        {**RECORDS[1].to_json(), "something": "new"},
        {"version": 1},
        {},
        {**RECORDS[1].to_json(), "owner": None},
    ],
)
def test_a_record_that_can_not_be_read_says_what_to_do(stored: dict[str, Any]) -> None:
    task = Task()
    context = task.next_try()
    context["task_state_store"].set(KEY, stored)
    with pytest.raises(TCBatchError, match=rf"can't be read.*newer version, or delete '{KEY}'"):
        records_for(context, durable=True).load()


def test_a_volatile_record_lasts_as_long_as_its_process() -> None:
    records = VolatileRecords()
    assert not records.durable
    assert records.load() is None
    records.save(RECORDS[1])
    records.save(RECORDS[2])
    assert records.load() == RECORDS[2]
    assert VolatileRecords().load() is None


@pytest.mark.parametrize(
    ("store", "durable", "why"),
    [(True, False, "durable=False"), (False, True, "needs Airflow 3.3"), (False, False, "durable=False")],
)
def test_records_that_do_not_last_are_warned_of(
    store: bool, durable: bool, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        records = records_for(Task(durable=store).next_try(), durable=durable)
        warn_of_loss(records)
    assert isinstance(records, VolatileRecords)
    assert why in caplog.text


def test_records_that_last_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        records_for(Task().next_try(), durable=True)
    assert caplog.text == ""
