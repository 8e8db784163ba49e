from __future__ import annotations

import pytest

from airflow_provider_tcbatch.policies.ownership.on_kill import state_of, terminates

ALL = [
    None, "scheduled", "queued", "running", "success", "restarting", "failed", "up_for_retry", "up_for_reschedule",
    "upstream_failed", "skipped", "deferred", "removed",
]  # fmt: skip
ENDED = {"failed", "success", "skipped", "upstream_failed", "removed"}


@pytest.mark.parametrize("state", ALL)
def test_a_trigger_ends_the_job_only_where_nobody_comes_back_for_it(state: str | None) -> None:
    assert terminates(state, worker=False) == (state in ENDED)


@pytest.mark.parametrize("state", ALL)
@pytest.mark.parametrize("owner", [True, False])
def test_a_worker_also_ends_it_while_it_runs_as_the_owner(state: str | None, owner: bool) -> None:
    expected = state in ENDED or state == "restarting" or (state == "running" and owner)
    assert terminates(state, worker=True, owner=owner) == expected


def test_mapped_tasks_are_found_by_their_index() -> None:
    states = {"run": {"plain": "running", "mapped_3": "failed"}}
    assert state_of(states, "run", "plain", -1) == "running"
    assert state_of(states, "run", "mapped", 3) == "failed"
    assert state_of(states, "run", "mapped", 4) is None
    assert state_of(states, "other", "plain", -1) is None
