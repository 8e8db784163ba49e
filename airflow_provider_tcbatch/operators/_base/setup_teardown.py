"""What set-ups and tear-downs have in common, whatever it is that they make and take away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["FollowsSetUp", "will_send"]

#: XCom of a set-up: unix seconds when it was about to make something.
SENT_AT = "tcbatch_sent_at"


def will_send(context: Context) -> None:
    """Note that something is about to be made.

    Should the process die before it knows the id, its tear-down knows that there may be something.
    """
    push(context, SENT_AT, time.time())


class FollowsSetUp(TCBatchOperator):
    """Base of tear-downs.

    :param setup_task_id: task id of the set-up.
    """

    def __init__(self, *, setup_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setup_task_id = setup_task_id

    def from_setup(self, context: Context, key: str) -> Any:
        """An XCom of the set-up; ``None`` if there is none."""
        ti = context["ti"]
        index = ti.map_index
        return ti.xcom_pull(
            task_ids=self.setup_task_id, key=key, map_indexes=None if index is None or index < 0 else index
        )

    def wait_for_list(self, context: Context, look: Callable[[], list[str]], *, known: bool) -> list[str]:
        """What there is. Something that was made a moment ago may not be listed yet.

        :param look: asks the service for the ids.
        :param known: whether the set-up knew what it made: then there is nothing to wait for.
        """
        from airflow_provider_tcbatch.execution.compute_env.creation import UNKNOWN_SECONDS

        sent_at = self.from_setup(context, SENT_AT)
        while not (found := look()):
            if known or sent_at is None or time.time() - float(sent_at) > UNKNOWN_SECONDS:
                self.log.info("There is nothing to take away")
                break
            time.sleep(2.0)
        return found
