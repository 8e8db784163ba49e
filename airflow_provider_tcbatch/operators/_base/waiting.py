"""Operators that wait for something that does not belong to them, on the worker or in the triggerer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator, deferral, duration, flag

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.policies.deadlines import Deadlines

__all__ = ["WAIT_ERRORS", "CanWait"]

T = TypeVar("T")

#: Seconds after which a wait on a worker ends for an ``execution_timeout`` that Airflow has not enforced.
_BEHIND_AIRFLOW = 60.0

#: How often a wait goes on after an error.
WAIT_ERRORS = 3


class CanWait(TCBatchOperator):
    """Base of operators that ask for something and wait for what comes of it.

    :param wait_for_completion: ``False`` to succeed as soon as the service has accepted the request, whatever
        ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks while no events flow.
    :param timeout: seconds from the beginning of the task after which the wait has to be over; ``None`` for ever.
    """

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 30.0,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = flag("wait_for_completion", wait_for_completion, self.task_id)
        self.deferrable = deferral(deferrable, self.task_id)
        self.poll_interval = duration("poll_interval", poll_interval, self.task_id)
        self.timeout = None if timeout is None else duration("timeout", timeout, self.task_id)

    #: When the task began (unix seconds), and the outage that it comes from, where it begins again after one.
    _began: float | None = None
    _outage: Mapping[str, Any] | None = None
    #: What has been asked for before an outage, as far as what is there does not tell it: plain JSON.
    _asked: dict[str, Any] | None = None

    @property
    def began(self) -> float:
        """Unix seconds when the task began, now or in a process before."""
        if self._began is None:
            self._began = time.time()
        return self._began

    @property
    def asked(self) -> dict[str, Any]:
        """What has been asked for before the wait; a step that is done again after an outage finds it as it left it."""
        if self._asked is None:
            self._asked = {}
        return self._asked

    def begin_patiently(
        self,
        context: Context,
        step: Callable[[], T],
        *,
        job_ids: Sequence[str] = (),
        env_id: Callable[[], str | None] = lambda: None,
    ) -> T:
        """Do what comes before the wait; while the API can't be asked, do it again later, see :meth:`patiently`.

        :param job_ids: jobs to terminate if the user puts an end to the deferred task.
        :param env_id: says which compute environment's nodes are to go then.
        """
        resume = {"status": "again", "since": self.began, "outage": self._outage, "asked": self.asked}
        limit = self.deadlines(context, self.began).execution_timeout
        return self.patiently(step, resume, limit=limit, job_ids=job_ids, env_id=env_id)

    def begin_again(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Begin anew: the API could not be asked before the wait."""
        self._began, self._outage = float(event["since"]), event.get("outage")
        self._asked = dict(event.get("asked") or {})
        self.tell_outage(self._outage)
        return self.execute(context)

    @staticmethod
    def limits_here(deadlines: Deadlines) -> Deadlines:
        """The limits of a wait on this worker.

        Here Airflow itself raises at ``execution_timeout``, once: that must not come when the wait has just ended for
        it, and what follows is under way.
        """
        at = deadlines.execution_timeout
        return deadlines._replace(execution_timeout=None if at is None else at + _BEHIND_AIRFLOW)

    def deadlines(self, context: Context, since: float) -> Deadlines:
        """When to give up.

        :param since: unix seconds from which ``timeout`` counts.
        """

        from airflow_provider_tcbatch.policies.deadlines import Deadlines

        started = context["ti"].start_date
        return Deadlines.of(
            submitted_at=since,
            try_started_at=None if started is None else started.timestamp(),
            timeout=self.timeout,
            # Airflow itself does not apply it to a task that is deferred.
            execution_timeout=None if self.execution_timeout is None else self.execution_timeout.total_seconds(),
        )
