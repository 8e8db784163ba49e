"""The ``job`` argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.operators.object_argument import TakesObject, known_later

__all__ = ["TakesJob", "known_later"]


class TakesJob(TakesObject):
    """Base of operators with a ``job``.

    :param job: a :class:`~airflow_provider_tcbatch.models.job.Job`, a dictionary in either spelling, JSON or YAML
        text, or the path of a template file. (templated)
    """

    argument: ClassVar[str] = "job"
    model: ClassVar[type[ApiModel]] = Job
    written_as: ClassVar[str] = "a mapping with Tasks in it"

    def __init__(self, *, job: Job | Mapping[str, Any] | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.take(job)

    def final_job(self) -> Job:
        """The job as it is sent: rendered, with its secrets, checked.

        :raises InvalidRequest: naming what is wrong with it.
        """
        return Job.parse(self.final_wire(), at="Job")
