"""What ends is heard by its event, and not seen by a look that happened to come before it, however busy the machine."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

#: A refused look costs a wait time and nothing else.
_REFUSED = {"kind": "throttle", "service": "batch", "action": "DescribeJobs"}


def end_by_event(emulator: Emulator, queue: str, job_id: str, end: Callable[[], None]) -> None:
    """Let a job end; no look at it is answered before whoever reads ``queue`` has taken its event.

    :param emulator: an emulator in this process.
    :param queue: the queue that is listened to.
    :param job_id: the job.
    :param end: makes it end, which publishes an event.
    """

    def is_taken(services: Services) -> bool:
        # A reader deletes a message once everybody has been told of it.
        events = services.batch.jobs[job_id].timeline.as_json(job_id)["events"]
        messages = [*services.cmq.broker.queues[queue].ready, *services.cmq.broker.queues[queue].inflight.values()]
        return bool(events) and not any(job_id in message.body for message in messages)

    refusal = emulator.faults.add(**_REFUSED)
    try:
        end()
        wait_for("the event is taken", lambda: emulator.on_loop(is_taken), timeout=60)
    finally:
        emulator.faults.remove(refusal)


def end_by_event_elsewhere(emulator: EmulatorProcess, job_id: str, end: Callable[[], None]) -> None:
    """The same for an emulator in a process of its own, whose queues one triggerer reads.

    It waits first until the triggerer has looked at the job and has asked for events after that.
    """

    def looked() -> bool:
        calls = emulator.control("calls")["calls"]
        return any(call["action"] == "DescribeJobs" and job_id in call["job_ids"] for call in calls)

    def count(action: str) -> int:
        return emulator.counts().get(f"cmq.{action}", 0)

    wait_for("a look at the job", looked, timeout=120)
    asked = count("BatchReceiveMessage")
    wait_for("the triggerer listens", lambda: count("BatchReceiveMessage") > asked, timeout=60)
    deleted = count("BatchDeleteMessage")
    refusal = emulator.control("faults", method="POST", body=_REFUSED)
    try:
        end()
        wait_for("the event is taken", lambda: count("BatchDeleteMessage") > deleted, timeout=60)
    finally:
        emulator.control(f"faults/{refusal['id']}", method="DELETE")
